"""The camera: where a point of a still appears at a given time, and motion blur.

Matrices are 3x3, take homogeneous pixels, and are named `to_from`; the centre of the top-left pixel
is (0, 0).
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import cv2
import numpy as np

from moving_faces.difficulty import FRAME_SIZE, Difficulty
from moving_faces.paths import Moves, Wander, random_moves, random_wander

LARGEST_FACE = 0.6  # larger side of a face on the canvas, in frames
CANVAS_SIZE = 704  # enough for a face as small as 0.45 frames, rotated and panned
MARGIN = 4  # least distance of landmarks from the frame's border, pixels
MIDDLE = np.full(2, (FRAME_SIZE - 1) / 2)
CANVAS_MIDDLE = np.full(2, (CANVAS_SIZE - 1) / 2)


def canvas_from_still(landmarks: np.ndarray) -> np.ndarray:
    """The matrix that puts a face in the middle of the canvas, at the largest size in a clip.

    Args:
        landmarks: (K, 2) pixels of the still.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    zoom = LARGEST_FACE * FRAME_SIZE / (high - low).max()
    return similarity(zoom, 0.0, (low + high) / 2, CANVAS_MIDDLE)


def paint_canvas(still: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The still on a canvas that extends beyond its borders: mirrored, then blurred and darker.

    Args:
        still: (H, W, 3) uint8.
        matrix: `canvas_from_still`.

    Returns:
        (CANVAS_SIZE, CANVAS_SIZE, 3) uint8.
    """
    zoom = np.sqrt(np.linalg.det(matrix[:2, :2]))
    if zoom < 1:  # averages what a canvas pixel covers; otherwise fine texture would flicker
        still = cv2.GaussianBlur(still, (0, 0), 0.5 * np.sqrt(1 / zoom**2 - 1) + 1e-3)
    size = (CANVAS_SIZE, CANVAS_SIZE)
    border = cv2.BORDER_REFLECT_101
    canvas = cv2.warpAffine(still, matrix[:2], size, flags=cv2.INTER_CUBIC, borderMode=border)
    corners = np.array([[0, 0], [still.shape[1] - 1, still.shape[0] - 1]]) - [[0.5], [-0.5]]
    (left, top), (right, bottom) = transform_points(matrix, corners)
    x = np.arange(CANVAS_SIZE, dtype=np.float32)
    beyond = np.hypot(
        np.maximum(0, np.maximum(left - x, x - right)),
        np.maximum(0, np.maximum(top - x, x - bottom))[:, None],
    )
    if not beyond.any():
        return canvas
    small = cv2.resize(canvas, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA)
    far = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.5), size, interpolation=cv2.INTER_CUBIC)
    share = np.clip(beyond / 20, 0, 1)[..., None]
    return np.clip(canvas * (1 - share) + 0.85 * share * far, 0, 255).astype(np.uint8)


class Subject(Protocol):
    """What a camera films: something with landmarks that may change with time, in frames."""

    def landmarks(self, times: np.ndarray) -> np.ndarray:
        """(N, K, 2) canvas pixels at (N,) times."""

    def seen(self, time: float, frame_from_canvas: np.ndarray) -> np.ndarray:
        """(FRAME_SIZE, FRAME_SIZE, 3) float32 light, what a frame shows at a time."""


@dataclasses.dataclass(frozen=True)
class Flat:
    """A canvas that does not change.

    Attributes:
        canvas: (H, W, 3) float32, linear light.
        points: (K, 2) landmarks, canvas pixels.
    """

    canvas: np.ndarray
    points: np.ndarray

    def landmarks(self, times: np.ndarray) -> np.ndarray:
        """(N, K, 2) canvas pixels at (N,) times."""
        return np.broadcast_to(self.points, (len(times), *self.points.shape))

    def seen(self, time: float, frame_from_canvas: np.ndarray) -> np.ndarray:
        """(FRAME_SIZE, FRAME_SIZE, 3) float32, what a frame shows at a time."""
        del time
        return warp(self.canvas, frame_from_canvas)


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera that pans, zooms and rotates about the face on the canvas.

    Attributes:
        pan: moves of the face's centre from the middle of the frame, pixels, (x, y).
        turn: moves of the angle, radians.
        face: moves of the face's side, parts of the frame.
        tremor: tremor of x, y (pixels) and angle (half degrees).
        pan_scale: factor of pan and tremor that keeps the face in the frame.
    """

    pan: Moves
    turn: Moves
    face: Moves
    tremor: Wander
    pan_scale: float = 1.0

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """(N, 3, 3) `frame_from_canvas` at (N,) times, in frames."""
        tremor = self.tremor(times)
        shift = MIDDLE + self.pan_scale * (self.pan(times) + tremor[:, :2])
        angle = self.turn(times)[:, 0] + np.radians(tremor[:, 2] / 2)
        zoom = self.face(times)[:, 0] / LARGEST_FACE
        return similarity(zoom, angle, CANVAS_MIDDLE, shift)


def random_camera(rng: np.random.Generator, difficulty: Difficulty, subject: Subject) -> Camera:
    """A camera that always keeps all landmarks in the frame.

    Args:
        rng: the only source of randomness.
        difficulty: how far and how fast it moves.
        subject: what it films.
    """
    num_frames = difficulty.num_frames
    pan, turn = difficulty.pan * FRAME_SIZE, np.radians(difficulty.turn)
    schedule = {"duration": difficulty.move, "rest": difficulty.rest}
    camera = Camera(
        pan=random_moves(rng, num_frames, -pan, pan, channels=2, **schedule),
        turn=random_moves(rng, num_frames, -turn, turn, **schedule),
        face=random_moves(rng, num_frames, *difficulty.face, **schedule),
        tremor=random_wander(rng, difficulty.tremor, period=(8, 50), channels=3),
        pan_scale=0.0,
    )
    times = np.arange(-1, num_frames, 0.25)
    still = transform_points(camera(times), subject.landmarks(times))
    shift = camera.pan(times) + camera.tremor(times)[:, :2]
    # `room`: distance from a landmark at `still` to the border that it moves towards.
    shift = np.broadcast_to(shift[:, None], still.shape)
    room = np.where(shift > 0, FRAME_SIZE - 1 - MARGIN - still, MARGIN - still)
    scales = np.divide(room, shift, out=np.ones_like(room), where=shift != 0)
    return dataclasses.replace(camera, pan_scale=float(np.clip(scales.min(), 0, 1)))


def moments(frame: int, exposure: float, way: float) -> np.ndarray:
    """(J,) times spread evenly over an exposure; the middle one is the frame's own.

    Args:
        frame: number of the frame.
        exposure: how long the shutter is open, in frames; half of it before the frame's time.
        way: how far the picture moves meanwhile, pixels; there is one time per pixel.
    """
    count = int(np.ceil(way)) | 1
    return frame + exposure * ((np.arange(count) + 0.5) / count - 0.5)


def open_shutter(subject: Subject, camera: Camera, frame: int, exposure: float) -> np.ndarray:
    """The light on the sensor while the shutter is open: the mean over the moments.

    Args:
        subject: what is filmed; the farther its landmarks move, the more moments are used.
        camera: gives `frame_from_canvas` at any time.
        frame: number of the frame.
        exposure: how long the shutter is open, in frames.

    Returns:
        (FRAME_SIZE, FRAME_SIZE, 3) float32.
    """
    times = frame + exposure * np.array([-0.5, 0.5])
    ends = transform_points(camera(times), subject.landmarks(times))
    way = np.linalg.norm(ends[1] - ends[0], axis=-1).max()
    times = moments(frame, exposure, way)
    shots = zip(times, camera(times), strict=True)
    return sum(subject.seen(time, matrix) for time, matrix in shots) / np.float32(len(times))


def warp(
    picture: np.ndarray,
    frame_from_picture: np.ndarray,
    outside: int = cv2.BORDER_REPLICATE,
    size: tuple[int, int] = (FRAME_SIZE, FRAME_SIZE),
) -> np.ndarray:
    """The part of a picture that a frame of (width, height) shows, (H, W, C), bilinear."""
    return cv2.warpAffine(
        picture, frame_from_picture[:2], size, flags=cv2.INTER_LINEAR, borderMode=outside
    )


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., K, 2) points of b, from (..., 3, 3) `b_from_a` and (..., K, 2) points of a."""
    return points @ np.swapaxes(matrix[..., :2, :2], -1, -2) + matrix[..., None, :2, 2]


def similarity(
    zoom: np.ndarray | float, angle: np.ndarray | float, source: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """(..., 3, 3) zoom and rotation about `source`, which is mapped to `target`."""
    zoom, angle, _ = np.broadcast_arrays(zoom, angle, target[..., 0])
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    matrix = np.zeros((*zoom.shape, 3, 3))
    matrix[..., :2, :2] = linear
    matrix[..., :2, 2] = target - linear @ source
    matrix[..., 2, 2] = 1
    return matrix
