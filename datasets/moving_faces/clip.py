"""A clip: one still, flat or acting, seen by a moving camera in changing light."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import signal

from moving_faces import camera as cam
from moving_faces import sensor
from moving_faces.acting import random_performance
from moving_faces.actor import Actor
from moving_faces.difficulty import Difficulty
from moving_faces.light import linear, random_light
from moving_faces.occluder import cover, random_occluder

JITTER_CORRELATION = 0.8  # of a box's error from frame to frame


class Clip(NamedTuple):
    """T frames of one face.

    Attributes:
        frames: (T, FRAME_SIZE, FRAME_SIZE, 3) uint8 RGB, before video compression.
        landmarks: (T, K, 2) frame pixels, exact, in the middle of each exposure.
        boxes: (T, 4) x1 y1 x2 y2 frame pixels, as a face tracker would give them.
        occluded: (T, K) bool, True where an object is in front of a landmark.
    """

    frames: np.ndarray
    landmarks: np.ndarray
    boxes: np.ndarray
    occluded: np.ndarray


def make_clip(
    still: np.ndarray, landmarks: np.ndarray, difficulty: Difficulty, rng: np.random.Generator
) -> Clip:
    """Films a still with a moving camera.

    Args:
        still: (H, W, 3) uint8 RGB.
        landmarks: (K, 2) pixels of the still.
        difficulty: how hard the clip is.
        rng: the only source of randomness; the same state gives the same clip.

    Raises:
        NoActorError: the head is to move, and the face model does not fit.
    """
    # One random stream per part, so that changing one part does not change the others.
    for_camera, for_light, for_occluders, for_sensor, for_boxes, for_head = rng.spawn(6)
    num_frames = difficulty.num_frames
    canvas_from_still = cam.canvas_from_still(landmarks)
    canvas = linear(cam.paint_canvas(still, canvas_from_still))
    on_canvas = cam.transform_points(canvas_from_still, np.asarray(landmarks, np.float64))
    subject: cam.Subject = cam.Flat(canvas, on_canvas)
    if difficulty.head:
        performance = random_performance(for_head, difficulty.head, num_frames)
        subject = Actor.of(canvas, on_canvas, performance)
    camera = cam.random_camera(for_camera, difficulty, subject)
    times = np.arange(num_frames)
    points = cam.transform_points(camera(times), subject.landmarks(times))
    light = random_light(for_light, difficulty)
    face = face_of(points)
    count = for_occluders.choice(len(difficulty.occluders), p=difficulty.occluders)
    occluders = [random_occluder(for_occluders, face) for _ in range(count)]

    exposure = for_sensor.uniform(*difficulty.exposure)
    photons = np.exp(for_sensor.uniform(*np.log(difficulty.photons)))
    quality = difficulty.jpeg_quality and for_sensor.integers(
        *difficulty.jpeg_quality, endpoint=True
    )
    frames, occluded = [], np.zeros(points.shape[:2], bool)
    for t in range(num_frames):
        seen = cam.open_shutter(subject, camera, t, exposure)
        for occluder in occluders:
            sprite = occluder.seen(t, exposure)
            if sprite is not None:
                seen = cover(seen, sprite)
                x, y = np.round(points[t]).astype(int).T
                occluded[t] |= sprite[y, x, 3] > 0.5
        frame = sensor.record(
            seen * light(t),
            for_sensor,
            photons=photons,
            read_noise=difficulty.read_noise,
            tone=light.tone(t),
        )
        frames.append(sensor.jpeg(frame, quality) if quality else frame)
    boxes = tracked_boxes(for_boxes, points, difficulty.box_jitter)
    return Clip(np.stack(frames), points, boxes, occluded)


def face_of(landmarks: np.ndarray) -> np.ndarray:
    """(T, 3) middle x, y and larger side of the extent of (T, K, 2) landmarks."""
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    return np.concatenate([(low + high) / 2, (high - low).max(axis=1, keepdims=True)], axis=1)


def tracked_boxes(rng: np.random.Generator, landmarks: np.ndarray, jitter: float) -> np.ndarray:
    """Boxes as a face tracker gives them: the landmark extent with errors correlated in time.

    Centre x, y and size each have a Gaussian error that follows an AR(1) process.

    Args:
        rng: the only source of randomness.
        landmarks: (T, K, 2) frame pixels.
        jitter: standard deviation of the errors in units of the face's side; of the size, relative.

    Returns:
        (T, 4) x1 y1 x2 y2.
    """
    rho = JITTER_CORRELATION
    steps = rng.standard_normal((len(landmarks), 3))
    steps[1:] *= np.sqrt(1 - rho**2)  # so that the first frame has the same distribution
    errors = jitter * signal.lfilter([1], [1, -rho], steps, axis=0)
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    side = (high - low).max(axis=1, keepdims=True)
    middle = (low + high) / 2 + errors[:, :2] * side
    half = (high - low) / 2 * (1 + errors[:, 2:])
    return np.concatenate([middle - half, middle + half], axis=1)
