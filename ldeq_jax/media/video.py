"""Videos: the one reader and the one writer.

A frame has a time of its own, as cameras of telephones and screen recorders film at no constant
rate. A frame that cannot be decoded is passed on as None, in its place: the film goes on after it.
"""

import collections
import contextlib
import io
import itertools
import math
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.media.files import replacing

Path = str | os.PathLike[str]
Decoder = Callable[[], Iterable[tuple[np.ndarray | None, float]]]

_USUAL_FPS = 25.0  # where a file says nothing
_MOST_FPS = 1000.0
_COVER_FPS = 90000.0  # what FFmpeg says of a cover picture
# A damaged packet makes a read fail, and so does the end of the film, but there every read fails,
# in some 20 us. After a lost keyframe hundreds can fail in a row.
_TRIES = 1000
# A read fails where the packet is, its frame is missing where it would be shown: up to 16 frames
# later in H.264 and HEVC.
_REORDERED = 32
_LOOK_AHEAD = 32  # frames that tell the rate where something else decodes
_MOST_STRETCHED = 8.0  # of pixels; a sample aspect beyond that is taken for an error
_LONGEST_PAUSE = 60.0  # seconds that a written video stands still at most


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB; None if it cannot be decoded.
        time: seconds since the start of the video.
    """

    image: np.ndarray | None
    time: float


def _has_index(source: Path | bytes) -> bool:
    """Whether a file is mp4 or mov, not in fragments (an mvex box near its start)."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
        head = stream.read(1 << 16)
    return head[4:8] == b"ftyp" and b"mvex" not in head


class VideoReader:
    """A video in a file, in memory, or decoded by something else.

    Its frames are upright, as the file's rotation says, and all of one size. They can be read any
    number of times.

    Args:
        source: the file, its bytes, or a function that decodes it: called without arguments it
            returns the (image, time) of each frame, as `Frame` has them.
        name: what messages call it; the path by default.
        square_pixels: whether frames whose pixels are not square by the file's sample aspect ratio
            are enlarged until they are. If not, pixels are as stored.
        threads: of the decoder; 0 for one a core.

    Attributes:
        name: as given.
        width: of the frames, pixels.
        height: of the frames, pixels.
        aspect: width by height of the stored pixels, turned as the frames are; 1 where the file
            says nothing.
        header_fps: frames a second by the header, where films of no constant rate have some mean;
            0 where it says nothing.
        header_frames: number of frames by the header. It may be far off, and 0: good for a
            progress bar, not for more.
        listed_frames: number of frames that the index of an mp4 or mov file lists; 0 for files
            without one, whose headers only estimate.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no video, or no frame can be decoded; the message tells the reason.
    """

    def __init__(
        self,
        source: Path | bytes | Decoder,
        *,
        name: str | None = None,
        square_pixels: bool = True,
        threads: int = 0,
    ):
        self._source, self._threads = source, threads
        known = isinstance(source, str | os.PathLike)
        self.name = name or (str(source) if known else "video")
        self.aspect, self.header_frames, self.listed_frames = 1.0, 0, 0
        if callable(source):
            first = list(itertools.islice(source(), _LOOK_AHEAD))
            image = next((image for image, _ in first if image is not None), None)
            if image is None:
                raise ValueError(f"{self.name} has no frame that can be decoded")
            steps = [later - time for (_, time), (_, later) in itertools.pairwise(first)]
            usual = statistics.median(steps) if steps else 0.0
            self.header_fps = _known_fps(1 / usual) if usual > 0 else 0.0
        else:
            with self._capture() as capture:
                image = self._look_at(capture)
            if _has_index(source):
                self.listed_frames = self.header_frames
        self.height, self.width = image.shape[:2]
        if square_pixels and self.aspect > 1:
            self.width = round(self.width * self.aspect)
        elif square_pixels:
            self.height = round(self.height / self.aspect)

    @property
    def fps(self) -> float:
        """Frames a second by the header; 25 where it says nothing."""
        return self.header_fps or _USUAL_FPS

    def frames(self) -> Iterator[Frame]:
        """Decodes the video, frame after frame.

        Times grow from frame to frame. Where the file has none, they are those of a constant rate.
        A frame that cannot be decoded is one of None, where the times show that one is missing. A
        video whose last frames cannot be decoded ends before them.

        Yields:
            The frames; ``height`` x ``width`` x 3.

        Raises:
            OSError: the file cannot be read any more.
            ValueError: it cannot be decoded any more.
        """
        size = self.width, self.height
        for image, time in self._read(pictures=True):
            if image is not None and image.shape[1::-1] != size:
                image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            yield Frame(image, time)

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """Decodes the video to its end, faster than `frames` as no picture is made.

        Returns:
            (T,) float64 seconds of each frame and (T,) bool, True for those that can be decoded.
        """
        found = [(time, image is not None) for image, time in self._read(pictures=False)]
        return np.array([time for time, _ in found]), np.array([there for _, there in found], bool)

    @contextlib.contextmanager
    def _capture(self) -> Iterator[cv2.VideoCapture]:
        # OpenCV takes some names for URLs and crashes at those that are not UTF-8, so it gets a
        # stream, which must outlive release().
        data = self._source
        with io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb") as stream:
            settings = [cv2.CAP_PROP_N_THREADS, self._threads] if self._threads else []
            capture = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, settings)
            try:
                if not capture.isOpened():
                    raise ValueError(f"{self.name} {_why_not(stream)}")
                yield capture
            finally:
                capture.release()

    def _look_at(self, capture: cv2.VideoCapture) -> np.ndarray:
        """Takes over what the header says; returns the first picture."""
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.header_fps = _known_fps(fps)
        self.header_frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        aspect = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
        if min(aspect) > 0 and 1 / _MOST_STRETCHED <= aspect[0] / aspect[1] <= _MOST_STRETCHED:
            turned = capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
            self.aspect = aspect[1] / aspect[0] if turned else aspect[0] / aspect[1]
        for _ in range(_TRIES):
            there, image = capture.read()
            if there:
                break
        else:
            codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
            raise ValueError(
                f"{self.name} has no frame that can be decoded: it is damaged, or this OpenCV "
                f"lacks its codec ({codec.decode('ascii', 'replace').strip(chr(0))}); "
                "'ffmpeg -i OLD -c:v libx264 NEW.mp4' writes one that it has"
            )
        if fps >= _COVER_FPS and not capture.grab():
            raise ValueError(
                f"{self.name} is a sound recording with a cover picture: it holds no video"
            )
        return image

    def _read(self, *, pictures: bool) -> Iterator[tuple[np.ndarray | bool | None, float]]:
        """Picture (True without pictures, None if it cannot be decoded) and time of each frame."""
        if callable(self._source):
            previous = None
            for image, time in self._source():
                if previous is not None and not time > previous:
                    time = previous + 1 / self.fps
                previous = time
                yield image, time
            return
        step, steps = 1 / self.fps, collections.deque(maxlen=_REORDERED)
        previous, failed, lost, since = None, 0, 0, 0
        with self._capture() as capture:
            while failed < _TRIES:
                if not capture.grab():
                    failed += 1
                    continue
                since = 0 if failed else since + 1
                lost, failed = (lost if since <= _REORDERED else 0) + failed, 0
                due = 0.0 if previous is None else previous + step
                time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if not math.isfinite(time) or (previous is not None and time <= previous):
                    time = due
                # One lost frame can take others with it, but without a failed read a gap is a
                # pause of a film without a constant rate.
                missing = min(max(0, round((time - due) / step)), _TRIES) if lost else 0
                yield from ((None, due + t * step) for t in range(missing))
                lost = max(0, lost - missing)
                if previous is not None and not missing:
                    steps.append(time - previous)
                    usual = statistics.median(steps)
                    # The header's is exact, times are often rounded to milliseconds.
                    step = 1 / self.fps if abs(usual * self.fps - 1) < 0.05 else usual
                previous = time
                if not pictures:
                    yield True, time
                else:
                    there, image = capture.retrieve()
                    yield (cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if there else None), time
        if previous is not None:
            yield from ((None, previous + t * step) for t in range(1, lost + 1))


def _known_fps(fps: float) -> float:
    return float(fps) if 0 < fps <= _MOST_FPS else 0.0


def _why_not(stream: io.BufferedIOBase) -> str:
    """What a file is that OpenCV cannot open as a video, in words that follow its name."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(4096)
    if not size:
        return "is empty"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        boxes = _mp4_boxes(stream, size)
        if "moov" not in boxes or boxes["moov"][1] > size:
            return (
                "is a video that was not finished or not fully downloaded: its index (moov) is "
                "missing"
            )
        start, end = boxes["moov"]
        stream.seek(start)
        if b"vide" not in stream.read(end - start):
            return "is a sound recording: it holds no video"
        return "is a video that is damaged, or in a format that this OpenCV cannot decode"
    sound = head[:3] == b"ID3" or head[:4] in (b"fLaC", b"OggS") or head[8:12] == b"WAVE"
    if sound or (head[0] == 0xFF and head[1:2] and head[1] >= 0xE0 and head[1] & 0x06):
        return "is a sound recording: it holds no video"
    if b"<html" in head.lower() or b"<!doctype html" in head.lower():
        return "is a page of HTML, not a video: see whether its download was complete"
    with contextlib.suppress(UnicodeDecodeError):
        if b"\0" not in head and (head[:4000].decode() or True):
            return "is a text, not a video"
    return "is no video that OpenCV knows, or it is damaged"


def _mp4_boxes(stream: io.BufferedIOBase, size: int) -> dict[str, tuple[int, int]]:
    """Start and end of the outermost boxes of an mp4 file, by kind; an end may lie beyond it."""
    boxes, start = {}, 0
    while start + 8 <= size:
        stream.seek(start)
        head = stream.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        end = size if length == 0 else start + length
        boxes[head[4:8].decode("latin-1")] = start, end
        start = max(end, start + 8)
    return boxes


def constant_rate(times: ArrayLike, fps: float) -> tuple[float, np.ndarray]:
    """How to show frames of any times at a constant rate, which is what `write_video` writes.

    A frame is shown until the next is due, for a minute at most, and left out if that is nearer to
    the same moment. The rate is ``fps`` if that keeps every frame. Else it is that of frames which
    follow each other fast (the 5th percentile of the steps), but no more than 60 or the usual rate.

    Args:
        times: (T,) seconds, growing.
        fps: frames a second by the file's header.

    Returns:
        Frames a second, as `write_video` can write them, and (T,) int, how often to write each.

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
    if (np.diff(slots) < 1).any() or rate * usual > 1.5:
        quick = np.percentile(steps, 5, method="lower")
        rate = _writable(min(1 / quick, max(60.0, 1 / usual)))
        slots = _slots(times, rate)
    last = max(1, round(usual * rate))
    shown = np.append(np.diff(slots), last)
    return rate, np.minimum(shown, max(1, int(_LONGEST_PAUSE * rate)))


def _slots(times: np.ndarray, rate: float) -> np.ndarray:
    return np.round((times - times[0]) * rate).astype(int)


def _writable(fps: float) -> float:
    """The next rate that the codecs take: MPEG-4 has 16 bits for the time base."""
    fps = min(max(fps, 0.01), _MOST_FPS)
    return next(
        rate
        for digits in (3, 2, 1)
        if round((rate := round(fps, digits)) * 10**digits) <= 65535 or digits == 1
    )


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    fps: float,
    *,
    shown: Iterable[int] | None = None,
    codec: str = "vp09",
) -> None:
    """Writes pictures as a video of constant rate, one held at a time.

    The file appears when it is complete; after an error there is none.

    Args:
        path: file to write, its name ending in .mp4; the folder is made when missing.
        pictures: (H, W, 3) uint8 RGB, all of one size; some codecs need even sides.
        fps: frames a second. It is rounded to what MPEG-4 can say: to a thousandth below 65, to a
            hundredth below 655, to a tenth above.
        shown: for how many frames each picture is shown, as `constant_rate` gives it; 1 if None.
        codec: four letters. "vp09" (VP9) plays in web browsers, but takes some tenths of a second
            a frame; "mp4v" (MPEG-4) is fifty times faster and plays in media players alone.

    Raises:
        OSError: the file cannot be written, or this OpenCV has no such codec.
        ValueError: ``fps`` is not greater than 0, or there is no picture.
    """
    if not fps > 0:
        raise ValueError(f"fps must be greater than 0, got {fps}")
    writer, count = cv2.VideoWriter(), 0
    with replacing(path) as partial, _name_for_opencv(partial) as name:
        try:
            numbers = itertools.repeat(1) if shown is None else shown
            for picture, times in zip(pictures, numbers, strict=shown is not None):
                if not writer.isOpened():
                    code, size = cv2.VideoWriter.fourcc(*codec), picture.shape[1::-1]
                    if not writer.open(name, cv2.CAP_FFMPEG, code, _writable(fps), size):
                        raise OSError(
                            f"cannot write {path}: use a name ending in .mp4 in a writable "
                            f"folder, and codec mp4v where OpenCV cannot write {codec}"
                        )
                bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
                for _ in range(times):
                    writer.write(bgr)
                    count += 1
        finally:
            writer.release()
        if not count:
            raise ValueError(f"{path} would be a video without a picture")
        # The writer tells of no failure, be it a full disk or a frame of another size.
        if (arrived := _frames_of(partial)) != count:
            raise OSError(
                f"cannot write {path}: only {arrived} of {count} frames have arrived; see that "
                "the disk is not full and all frames have one size"
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
    try:
        return VideoReader(path).header_frames
    except ValueError:
        return 0
