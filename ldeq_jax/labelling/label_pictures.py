"""Pictures of a window's face with its labels, for the report: `picture_of` and `clip_of`."""

import itertools
from pathlib import Path

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import centred_crop
from ldeq_jax.labelling.labels import Labelled
from ldeq_jax.labelling.members import Ensemble
from ldeq_jax.media.pictures import jpeg
from ldeq_jax.media.video import VideoReader
from ldeq_jax.report import clips
from ldeq_jax.report.draw import draw_landmarks
from ldeq_jax.report.html import Picture

_FACE_SIDE, _AROUND = 240, 1.9  # pixels of a drawn face; side of what is shown, by the face's own
_CLIP_SECONDS, _CLIP_SIDE = 5.0, 360


def picture_of(work: Path, id: str, window: Labelled, ensemble: Ensemble) -> Picture | None:
    """A face with its labels, None where the video cannot be read."""
    if window.measures is None:
        return None
    index = int(window.disagreement.mean(axis=1).argmax())
    try:
        frames = VideoReader(work / f"{id}.mp4").frames()
        image = next(itertools.islice(frames, index, None)).image
    except (OSError, UserError, StopIteration):
        return None
    if image is None:
        return None
    drawn = _face(image, window.points[index], window.points[index], _FACE_SIDE, ensemble)
    caption = f"{id}, frame {index}: {window.disagreement[index].mean():.1f} %"
    if window.reason:
        caption += f"; {window.reason}"
    return Picture(data=jpeg(drawn), alt=f"a face of {id} with its labels", caption=caption)


def clip_of(work: Path, id: str, window: Labelled, ensemble: Ensemble) -> bytes | None:
    """A window's face with its labels, as a film: the seconds around its worst frame."""
    count = min(len(window.window), max(1, round(_CLIP_SECONDS * window.window.fps)))
    worst = int(window.disagreement.mean(axis=1).argmax())
    start = int(np.clip(worst - count // 2, 0, len(window.window) - count))
    part = window.points[start : start + count]
    everywhere = part.reshape(-1, 2)

    def pictures():
        frames = VideoReader(work / f"{id}.mp4").frames()
        chosen = itertools.islice(frames, start, start + count)
        for points, frame in zip(part, chosen, strict=False):
            if frame.image is not None:
                yield _face(frame.image, points, everywhere, _CLIP_SIDE, ensemble)

    try:
        return clips.encode(pictures(), window.window.fps)
    except (OSError, UserError):
        return None


def _face(
    image: np.ndarray, points: np.ndarray, extent: np.ndarray, side: int, ensemble: Ensemble
) -> np.ndarray:
    """The part of a frame around some points, `side` pixels wide, with a face's labels drawn."""
    low, high = extent.min(axis=0), extent.max(axis=0)
    half = _AROUND * (high - low).max() / 2
    room = np.maximum(np.array(image.shape[1::-1]) / 2 - half, 0)  # to stay within the frame
    middle = np.array(image.shape[1::-1]) / 2
    centre = middle + np.clip((low + high) / 2 - middle, -room, room)
    matrix = centred_crop(np.clip(centre, high - half, low + half), side / (2 * half), side)
    part = geometry.warp(image, matrix, side)
    return draw_landmarks(part, geometry.transform_points(matrix, points), ensemble.schema)
