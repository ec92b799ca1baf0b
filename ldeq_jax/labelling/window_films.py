"""The film of each window: its frames, whole and upright, as a video file of its own."""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.labelling.windows import Window
from ldeq_jax.media.film_writer import open_film
from ldeq_jax.media.films import Film
from ldeq_jax.media.writer import open_writer

QUALITY = 16  # of H.264, 0 (lossless) to 51


@dataclasses.dataclass(frozen=True)
class Resize:
    """From the pixels of a film to those of its windows' videos, whose sides are even.

    Attributes:
        width: of the film, pixels.
        height: likewise.
        side: of the videos at most, pixels; larger frames are reduced.
    """

    width: int
    height: int
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the videos."""
        factor = min(1.0, self.side / max(self.width, self.height))
        if factor == 1:
            return self.width - self.width % 2, self.height - self.height % 2
        sides = [max(2, 2 * round(factor * side / 2)) for side in (self.width, self.height)]
        return sides[0], sides[1]

    @property
    def _reduces(self) -> bool:
        return max(self.width, self.height) > self.side

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """A frame (H, W, 3) in the size of the videos; an odd last row or column is left out."""
        width, height = self.size
        if not self._reduces:
            return np.ascontiguousarray(frame[:height, :width])
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (T, 5), whose first four columns are pixels, in pixels of the videos."""
        if not self._reduces:
            return boxes
        factors = np.tile(np.divide(self.size, (self.width, self.height)), 2)
        moved = boxes.copy()
        moved[:, :4] = (boxes[:, :4] + 0.5) * factors - 0.5
        return moved


def write_films(
    film: Film, windows: Mapping[Path, Window], resize: Resize, codec: str | None
) -> Iterator[None]:
    """Writes the videos of a film's windows, in one reading; each appears when it is complete.

    Args:
        film: that they are parts of.
        windows: by the file to write; several may be of the same frames.
        resize: of its frames.
        codec: "h264", or as `media.writer.open_writer` takes it; None for h264 where PyAV is
            installed, else vp09.

    Yields:
        After each frame that was read.

    Raises:
        OSError: a file cannot be read or written.
        UserError: the film has fewer frames than before.
    """
    waiting = sorted(windows.items(), key=lambda item: (item[1].start, item[0]))
    with contextlib.ExitStack() as stack:
        writing: list[tuple[Window, _Writer, contextlib.ExitStack]] = []
        for index, frame in enumerate(film.open().frames()):
            while waiting and waiting[0][1].start == index:
                path, window = waiting.pop(0)
                own = stack.enter_context(contextlib.ExitStack())
                writing.append((window, own.enter_context(_open(path, window, codec)), own))
            for window, writer, _ in writing:
                if frame.image is None:
                    raise UserError(f"{film.source} has changed while it was read: run again")
                writer.write(resize.picture(frame.image), window.times[index - window.start])
            for item in [item for item in writing if item[0].stop == index + 1]:
                item[2].close()
                writing.remove(item)
            yield
            if not waiting and not writing:
                return
        raise UserError(f"{film.source} has changed while it was read: run the command again")


class _Writer:
    """Takes pictures with their times."""

    def __init__(self, write):
        self.write = write


@contextlib.contextmanager
def _open(path: Path, window: Window, codec: str | None) -> Iterator[_Writer]:
    if codec is None:
        codec = "vp09" if importlib.util.find_spec("av") is None else "h264"
    if codec == "h264":
        with open_film(path, window.fps, quality=QUALITY) as film:
            yield _Writer(film.write)
    else:
        with open_writer(path, window.fps, codec=codec) as video:
            yield _Writer(lambda picture, time: video.write(picture))
