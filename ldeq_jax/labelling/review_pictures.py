"""What a person looks at to judge a window: a contact sheet and a clip, `review_pictures`."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage

from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import centred_crop
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.labelling.gathered import letters
from ldeq_jax.labelling.labels import Labelled
from ldeq_jax.media.pictures import jpeg
from ldeq_jax.media.video import VideoReader
from ldeq_jax.report import clips
from ldeq_jax.report.draw import TARGET_RGB, draw_landmarks, write_text

VERSION = 1  # of the drawings: other numbers make all of them again
SPREAD = 12  # frames of a sheet, besides the worst
DOUBT = 5.0  # percent of the eye distance: members that disagree more get a ring

_TILE, _CLIP = 240, 400  # pixels
_COLUMNS, _ROWS = 4, 3  # of tiles; the worst frame is to the left of them
_AROUND = 1.6  # side of what is shown, by the face's own
_FOLLOWING = 0.4  # seconds: how slowly the picture follows the face, so that its jitter is seen
_GROUND = 40  # grey


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A window as it is drawn.

    Attributes:
        window: with its labels.
        boxes: (T, 4) or longer, extent of the face, pixels of the video.
        schema: of the landmarks.
    """

    window: Labelled
    boxes: np.ndarray
    schema: LandmarkSchema

    @property
    def worst(self) -> int:
        """The frame in which the members disagree most."""
        mean = self.window.disagreement.mean(axis=1)
        return int(np.nan_to_num(mean, nan=-1.0).argmax())

    @property
    def frames(self) -> list[int]:
        """The frames of the sheet's tiles, spread over the window."""
        count = len(self.window.points)
        return np.linspace(0, count - 1, min(SPREAD, count)).round().astype(int).tolist()

    @property
    def digest(self) -> str:
        """Changes with whatever is drawn."""
        drawn = [
            self.window.points.round(1),
            self.window.disagreement >= DOUBT,
            self.window.disagreement.mean(axis=1).round(1),
        ]
        hashes = [hashlib.sha256(array.tobytes()).hexdigest() for array in drawn]
        return letters([VERSION, self.schema.name, self.window.window.fps, *hashes])

    def crops(self, side: int) -> np.ndarray:
        """(T, 3, 3) crop_from_frame: they follow the face slowly, all of one size."""
        points = self.window.points
        labels = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        extent = np.where(np.isfinite(labels), labels, self.boxes[:, :4])
        low, high = extent[:, :2], extent[:, 2:]
        sigma = _FOLLOWING * self.window.window.fps
        centres = scipy.ndimage.gaussian_filter1d((low + high) / 2, sigma, axis=0, mode="nearest")
        zoom = side / (_AROUND * (high - low).max())
        return np.stack([centred_crop(centre, zoom, side) for centre in centres])


def review_pictures(video: Path, shown: Shown) -> tuple[bytes, bytes]:
    """The contact sheet and the clip of a window.

    Args:
        video: of the window.
        shown: what is drawn.

    Returns:
        A JPEG file: the worst frame, the face and the whole, and to the right of it faces of frames
        that are spread over the window. And an MP4 file: the face as it is, and beside it with the
        labels drawn. Landmarks on which the members disagree by more than `DOUBT` have a ring.

    Raises:
        OSError: the video cannot be read.
        UserError: it cannot be read, or has another number of frames.
    """
    tiles: dict[int, np.ndarray] = {}
    large: list[np.ndarray] = []

    def pictures() -> Iterator[np.ndarray]:
        crops, chosen, worst = shown.crops(_CLIP), shown.frames, shown.worst
        frames = VideoReader(video).frames()
        for index, (crop, frame) in enumerate(zip(crops, frames, strict=False)):
            if frame.image is None:
                break
            if index in chosen:
                tiles[index] = _face(frame.image, shown, index, _TILE)
            if index == worst:
                large.append(_face(frame.image, shown, index, 2 * _TILE))
                large.append(_whole(frame.image, shown, index))
            plain = geometry.warp(frame.image, crop, _CLIP)
            yield np.hstack([plain, _labelled(plain, shown, index, crop)])

    clip = clips.encode(pictures(), shown.window.window.fps)
    if shown.frames[-1] not in tiles:
        raise UserError(f"{video} is damaged or was changed")
    return jpeg(_sheet(shown, large, tiles)), clip


def _sheet(shown: Shown, large: list[np.ndarray], tiles: dict[int, np.ndarray]) -> np.ndarray:
    """The worst frame, and the tiles to the right of it."""
    sheet = np.full((_ROWS * _TILE, (2 + _COLUMNS) * _TILE, 3), _GROUND, np.uint8)
    face, scene = large
    sheet[: 2 * _TILE, : 2 * _TILE] = face
    high, wide = scene.shape[:2]
    top, left = 2 * _TILE + (_TILE - high) // 2, (2 * _TILE - wide) // 2
    sheet[top : top + high, left : left + wide] = scene
    _say(sheet[: 2 * _TILE, : 2 * _TILE], f"worst: {_said(shown, shown.worst)}", 0.8)
    for number, (index, tile) in enumerate(sorted(tiles.items())):
        _say(tile, _said(shown, index), 0.6)
        row, column = divmod(number, _COLUMNS)
        y, x = row * _TILE, (2 + column) * _TILE
        sheet[y : y + _TILE, x : x + _TILE] = tile
    return sheet


def _face(image: np.ndarray, shown: Shown, index: int, side: int) -> np.ndarray:
    matrix = shown.crops(side)[index]
    return _labelled(geometry.warp(image, matrix, side), shown, index, matrix)


def _labelled(part: np.ndarray, shown: Shown, index: int, matrix: np.ndarray) -> np.ndarray:
    """A crop with the labels of a frame, and rings where the members disagree."""
    points = geometry.transform_points(matrix, shown.window.points[index])
    drawn = draw_landmarks(part, points, shown.schema)
    radius = max(4, round(part.shape[0] / 50))
    for point in points[shown.window.disagreement[index] >= DOUBT]:
        place = np.round(16 * point).astype(int).tolist()
        cv2.circle(drawn, place, 16 * radius, TARGET_RGB, 1, cv2.LINE_AA, 4)
    return drawn


def _whole(image: np.ndarray, shown: Shown, index: int) -> np.ndarray:
    """A whole frame, as large as there is room for, with the labels."""
    zoom = min(2 * _TILE / image.shape[1], _TILE / image.shape[0])
    width, height = (max(1, round(zoom * side)) for side in image.shape[1::-1])
    reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    points = (shown.window.points[index] + 0.5) * zoom - 0.5
    return draw_landmarks(reduced, points, shown.schema, radius=1)


def _said(shown: Shown, index: int) -> str:
    disagreement = shown.window.disagreement[index].mean()
    return f"frame {index}" + (f", {disagreement:.1f} %" if np.isfinite(disagreement) else "")


def _say(tile: np.ndarray, text: str, scale: float) -> None:
    write_text(tile, text, (6, tile.shape[0] - 8), scale)
