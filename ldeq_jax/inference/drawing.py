"""The drawn video of a film, made while its frames are predicted: `Drawing`."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.tracker import TrackedFrame
from ldeq_jax.media.film_writer import FilmWriter
from ldeq_jax.media.pictures import write_picture
from ldeq_jax.media.video import Frame, VideoReader
from ldeq_jax.media.writer import Pace, VideoWriter, open_writer
from ldeq_jax.report import overlay

Draw = Callable[[np.ndarray, Mapping[Any, Any], LandmarkSchema], np.ndarray]

_GREY = 128  # of what is shown before the first frame that can be decoded
_FAULTS = OSError, cv2.error  # of a file that cannot be written


class Drawing:
    """Draws a film frame by frame, or at the end where something must be known of all frames.

    The video is written at the rate of the film's header. Where that does not keep every frame, as
    with times of no constant rate, what was written is thrown away, and `finish` decodes the film
    again. What cannot be written is noted in `failed` and stops nothing, for the numbers matter
    more. It is a context manager: the video appears at `finish`, and after an error none does.

    Args:
        path: video to write, .mp4.
        reader: the film.
        schema: schema of the landmarks.
        codec: "vp09" or "mp4v", see `media.writer.open_writer`.
        at_end: draw at the end only: the window shown depends on all landmarks.
        draw: makes the picture of a frame from its image, the landmarks by their names, and the
            schema; `overlay.side_by_side` when None.
        leave_out: frames to leave out where the rate has no room for them, and never decode the
            film again; then ``rate`` is that of the frames that are added.
        rate: frames per second; the header's when None.
        film: opens a writer that takes the time of every frame, in place of one of constant rate;
            nothing is left out then, and nothing drawn at the end.
        still: picture to write of one frame, and the number of the frame, from 0; None for none.

    Attributes:
        written: files that are written.
        failed: what could not be written, and why, as texts.
        left_out: number of frames that are left out.
        sound: that of ``film``, see `media.film_writer.FilmWriter`.
    """

    def __init__(
        self,
        path: Path,
        reader: VideoReader,
        schema: LandmarkSchema,
        *,
        codec: str,
        at_end: bool = False,
        draw: Draw | None = None,
        leave_out: bool = False,
        rate: float | None = None,
        film: AbstractContextManager[FilmWriter] | None = None,
        still: tuple[Path, int] | None = None,
    ):
        self.written: list[Path] = []
        self.failed: list[str] = []
        self._path, self._reader, self._schema, self._codec = path, reader, schema, codec
        self._still, self._draw, self.left_out = still, draw, 0
        self._still_image: np.ndarray | None = None
        self._count = 0
        self._image = np.full((reader.height, reader.width, 3), _GREY, np.uint8)
        self._pace = Pace(reader.fps if rate is None else rate, leave_out=leave_out)
        self._previous: np.ndarray | None = None
        self._open = contextlib.ExitStack()
        self._writer: VideoWriter | None = None
        self._film, self.sound = film, "none"
        self._film_writer: FilmWriter | None = None
        self._wanted = not at_end

    def __enter__(self) -> "Drawing":
        if self._wanted:
            with self._noting_faults():
                if self._film is not None:
                    self._film_writer = self._open.enter_context(self._film)
                    return self
                file = open_writer(self._path, self._pace.rate, codec=self._codec)
                self._writer = self._open.enter_context(file)
        return self

    def __exit__(self, *error) -> None:
        self._abandon()

    def add(self, frame: Frame | TrackedFrame, points: Mapping[Any, Any]) -> None:
        """Draws the next frame.

        Args:
            frame: an image of None shows the frame before again.
            points: by the method or face, landmarks (K, 2) in frame pixels, NaN without a face; or
                what else ``draw`` takes.
        """
        self._image = self._image if frame.image is None else frame.image
        if self._still is not None and self._count == self._still[1]:
            self._still_image = self._image
        self._count += 1
        if self._film_writer is not None:
            picture = self._picture(points)
            with self._noting_faults():
                self._film_writer.write(picture, frame.time)
        if self._writer is None:
            return
        shown = self._pace.add(frame.time)
        if shown is None:
            self._abandon()
            return
        with self._noting_faults():
            if self._previous is not None:
                self._writer.write(self._previous, shown)
                self.left_out += shown == 0
        self._previous = self._picture(points)

    def _picture(self, points):
        return (self._draw or overlay.side_by_side)(self._image, points, self._schema)

    def finish(
        self,
        times: Sequence[float],
        tracks: Mapping[str, np.ndarray],
        margin: float | None = None,
    ) -> None:
        """Completes the video, or decodes the film again to draw it; then writes the still.

        Args:
            times: (T,) seconds of all frames.
            tracks: method to its landmarks (T, K, 2) in frame pixels.
            margin: of the window shown around all landmarks, see `overlay.face_window`; None for
                the whole frame.
        """
        shown = self._pace.end() if self._writer is not None else None
        with self._noting_faults():
            if self._film_writer is not None:
                self.sound = self._film_writer.sound
                self._open.close()
                self.written.append(self._path)
            elif self._writer is not None and self._previous is not None and shown is not None:
                with self._open.pop_all():
                    self._writer.write(self._previous, shown)
                self.written.append(self._path)
            elif not self.failed:
                self._abandon()
                overlay.write_overlay(
                    self._path,
                    self._again(),
                    tracks,
                    self._schema,
                    self._reader.fps,
                    times=times,
                    margin=margin,
                    codec=self._codec,
                )
                self.written.append(self._path)
        self._writer = None
        if self._still_image is not None and self._still is not None:
            path, index = self._still
            window = None if margin is None else overlay.face_window(tracks.values(), margin)
            points = {name: track[index] for name, track in tracks.items()}
            picture = overlay.side_by_side(self._still_image, points, self._schema, window=window)
            with self._noting_faults(path):
                write_picture(path, picture)
                self.written.append(path)

    def _again(self) -> Iterator[np.ndarray | None]:
        bar = {"total": self._count, "unit": "frame", "desc": "drawing", "leave": False}
        frames: Iterable[Frame] = tqdm(self._reader.frames(), **bar)
        return (frame.image for frame in frames)

    def _abandon(self) -> None:
        """Throws away what is written of the video."""
        self._writer, self._film_writer, self._previous = None, None, None
        with contextlib.suppress(_Abandoned), self._open.pop_all():
            raise _Abandoned

    @contextlib.contextmanager
    def _noting_faults(self, path: Path | None = None) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            self.failed.append(f"{path or self._path} is not written: {error}")
            if path is None:
                self._abandon()


class _Abandoned(Exception):
    pass
