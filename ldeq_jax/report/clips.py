"""Short films for a report, in a format that browsers play: `encode`, `poster_of`."""

import importlib.util
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ldeq_jax.media.film_writer import open_film
from ldeq_jax.media.writer import write_video

LARGEST = 4_000_000  # bytes of a film that a report holds; larger ones are linked
_DARK = 32  # mean level, of 255, below which a picture shows too little to stand for a film


def encode(pictures: Iterable[np.ndarray], fps: float, width: int = 960) -> bytes:
    """Pictures as an mp4 file: H.264 where PyAV is installed, else VP9.

    Args:
        pictures: (H, W, 3) uint8 RGB, all of one size, one at least.
        fps: frames per second.
        width: of the film at most, pixels; larger pictures are reduced.
    """
    shown = (fitted(picture, width) for picture in pictures)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        if importlib.util.find_spec("av") is None:
            write_video(path, shown, fps)
        else:
            with open_film(path, fps) as film:
                for number, picture in enumerate(shown):
                    film.write(picture, number / fps)
        return path.read_bytes()


def poster_of(levels: Sequence[float]) -> int:
    """Which of a film's pictures stands for it: the one nearest to its middle that is not dark.

    Args:
        levels: mean of each picture, of 255; one at least.

    Returns:
        Its index; that of the brightest if all are dark.
    """
    [bright] = np.nonzero(np.asarray(levels) >= _DARK)
    if not len(bright):
        return int(np.argmax(levels))
    return int(bright[np.abs(bright - len(levels) // 2).argmin()])


def fitted(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture reduced to a width at most, its sides even, as codecs need them."""
    factor = min(1.0, width / picture.shape[1])
    sides = [max(2, 2 * round(factor * side / 2)) for side in picture.shape[1::-1]]
    if tuple(sides) == picture.shape[1::-1]:
        return picture
    return cv2.resize(picture, sides, interpolation=cv2.INTER_AREA)
