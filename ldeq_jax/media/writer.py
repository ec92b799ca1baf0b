"""Videos, written: at a constant rate, which is all that OpenCV writes, whatever the times were.

The file appears when it is complete. There is no sound, and one picture at a time is held.
"""

import contextlib
import itertools
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.errors import UserError, UserWriteError
from ldeq_jax.media.files import replacing
from ldeq_jax.media.video import MOST_FPS, Path, VideoReader

_LONGEST_PAUSE = 60.0  # seconds that a written video stands still at most
_SPARSE = 1.5  # written frames per frame, by the median step, from which a rate is too high


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    fps: float,
    *,
    shown: Iterable[int] | None = None,
    codec: str = "vp09",
) -> None:
    """Writes pictures as a video of constant rate, one held at a time.

    Args:
        path: file to write, see `open_writer`.
        pictures: (H, W, 3) uint8 RGB, all of one size; some codecs need even sides.
        fps: frames per second, see `open_writer`.
        shown: for how many frames each picture is shown, as `constant_rate` gives it; 1 if None.
        codec: four letters, see `open_writer`.

    Raises:
        UserWriteError: the file cannot be written, or this OpenCV has no such codec.
        ValueError: ``fps`` is not greater than 0, or there is no picture.
    """
    with open_writer(path, fps, codec=codec) as writer:
        numbers = itertools.repeat(1) if shown is None else shown
        for picture, times in zip(pictures, numbers, strict=shown is not None):
            writer.write(picture, times)


@contextlib.contextmanager
def open_writer(path: Path, fps: float, *, codec: str = "vp09") -> Iterator["VideoWriter"]:
    """A writer of a video of constant rate; the file appears at the end, after an error none does.

    Args:
        path: file to write, its name ending in .mp4; the folder is made when missing.
        fps: frames per second. It is rounded to what MPEG-4 can say: to a thousandth below 65, to a
            hundredth below 655, to a tenth above.
        codec: four letters. "vp09" (VP9) plays in web browsers, but takes some tenths of a second
            per frame; "mp4v" (MPEG-4) is fifty times faster and plays in media players alone.

    Yields:
        A `VideoWriter`; its `write` takes one picture after another.

    Raises:
        UserWriteError: the file cannot be written, or this OpenCV has no such codec; raised by
            `write` or at the end.
        ValueError: ``fps`` is not greater than 0, or nothing was written.
    """
    if not fps > 0:
        raise ValueError(f"fps must be greater than 0, got {fps}")
    with replacing(path) as partial, _name_for_opencv(partial) as name:
        writer = VideoWriter(path, name, _writable(fps), codec)
        try:
            yield writer
        finally:
            writer.release()
        if not writer.count:
            raise ValueError(f"{path} would be a video without a picture")
        # The encoder reports no failure, be it a full disk or a frame of another size.
        if (arrived := _frames_of(partial)) != writer.count:
            raise UserWriteError(
                f"cannot write {path}: only {arrived} of {writer.count} frames have arrived; check "
                "that the disk is not full and that all frames have one size"
            )


class VideoWriter:
    """What `open_writer` gives: pictures go in one after another.

    Attributes:
        count: frames written so far.
    """

    def __init__(self, path: Path, name: str, fps: float, codec: str):
        self._path, self._name, self._fps, self._codec = path, name, fps, codec
        self._encoder = cv2.VideoWriter()
        self.count = 0

    def write(self, picture: np.ndarray, shown: int = 1) -> None:
        """Writes a picture.

        Args:
            picture: (H, W, 3) uint8 RGB, of the size of the first.
            shown: for how many frames it is shown; 0 leaves it out.

        Raises:
            UserWriteError: the file cannot be written, or this OpenCV has no such codec.
        """
        if not self._encoder.isOpened():
            code, size = cv2.VideoWriter.fourcc(*self._codec), picture.shape[1::-1]
            if not self._encoder.open(self._name, cv2.CAP_FFMPEG, code, self._fps, size):
                raise UserWriteError(
                    f"cannot write {self._path}: use a name ending in .mp4 in a writable folder, "
                    f"and codec mp4v where OpenCV cannot write {self._codec}"
                )
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        for _ in range(shown):
            self._encoder.write(bgr)
            self.count += 1

    def release(self) -> None:
        """Ends the file."""
        self._encoder.release()


def constant_rate(times: ArrayLike, fps: float) -> tuple[float, np.ndarray]:
    """How to show frames of any times at a constant rate, which is what `write_video` writes.

    A frame is shown until the next is due, for a minute at most, and left out if the next is due at
    the same moment. The rate is ``fps`` if that keeps every frame. Else it is that of frames which
    follow each other fast (the 5th percentile of the steps), but no more than 60 or the usual rate.

    Args:
        times: (T,) seconds, growing.
        fps: frames per second by the file's header.

    Returns:
        Frames per second, as `write_video` can write them, and (T,) int, how often to write each.

    Raises:
        ValueError: there are no times, or they do not grow.
    """
    times = np.asarray(times, np.float64)
    steps = np.diff(times)
    if not len(times) or not (steps > 0).all():
        raise ValueError("the times of the frames must grow from frame to frame, one at least")
    if not len(steps):
        return _writable(fps), np.ones(1, int)
    usual = float(np.median(steps))
    rate, slots = _writable(fps), _slots(times, _writable(fps))
    if (np.diff(slots) < 1).any() or rate * usual > _SPARSE:
        quick = np.percentile(steps, 5, method="lower")
        rate = _writable(min(1 / quick, max(60.0, 1 / usual)))
        slots = _slots(times, rate)
    last = max(1, round(usual * rate))
    shown = np.append(np.diff(slots), last)
    return rate, np.minimum(shown, max(1, int(_LONGEST_PAUSE * rate)))


class Pace:
    """`constant_rate` for frames that are still arriving, as long as the header's rate keeps them.

    The last frame's time tells for how long the one before it is shown.

    Args:
        fps: frames per second by the file's header.
        leave_out: leave frames out that this rate has no room for, rather than to give up.

    Attributes:
        rate: frames per second to write.
    """

    def __init__(self, fps: float, *, leave_out: bool = False):
        self.rate, self._leave_out = _writable(fps), leave_out
        self._times: list[float] = []

    def add(self, time: float) -> int | None:
        """Takes in the time of a frame, later than those before.

        Args:
            time: seconds.

        Returns:
            How often to write the frame before; 0 if there is none, or it is left out. None if this
            rate does not keep every frame: then wait for all times and ask `constant_rate`.
        """
        self._times.append(time)
        if len(self._times) < 2:
            return 0
        first, second = _slots(np.array([self._times[0], *self._times[-2:]]), self.rate)[1:]
        kept = second > first or self._leave_out
        return self._limited(second - first) if kept else None

    def end(self) -> int | None:
        """How often to write the last frame; None as in `add`."""
        if len(self._times) < 2:
            return 1
        usual = float(np.median(np.diff(self._times)))
        if self.rate * usual > _SPARSE and not self._leave_out:
            return None
        return self._limited(max(1, round(usual * self.rate)))

    def _limited(self, shown: int) -> int:
        return int(min(shown, max(1, int(_LONGEST_PAUSE * self.rate))))


def _slots(times: np.ndarray, rate: float) -> np.ndarray:
    return np.round((times - times[0]) * rate).astype(int)


def _writable(fps: float) -> float:
    """The next rate that the codecs take: MPEG-4 has 16 bits for the time base."""
    fps = min(max(fps, 0.01), MOST_FPS)
    return next(
        rate
        for digits in (3, 2, 1)
        if round((rate := round(fps, digits)) * 10**digits) <= 65535 or digits == 1
    )


@contextlib.contextmanager
def _name_for_opencv(path: pathlib.Path) -> Iterator[str]:
    """An absolute name of a file to write in UTF-8: OpenCV crashes at others."""
    folder = path.parent.absolute()
    with contextlib.ExitStack() as stack:
        try:
            os.fspath(folder).encode()
        except UnicodeEncodeError:
            link = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()), "folder")
            link.symlink_to(folder)
            folder = link
        yield os.fspath(folder / path.name)


def _frames_of(path: pathlib.Path) -> int:
    """Number of frames that a file of ours holds by its index; 0 if it cannot be read."""
    try:
        reader = VideoReader(path)
    except UserError:
        return 0
    reader.close()
    return reader.header_frames
