"""Videos, read: files, bytes in memory, cameras, and films that something else decodes.

A frame has a time of its own, because telephones and screen recorders film at no constant rate. A
frame that cannot be decoded is passed on as None, in its place, and the film goes on after it.
`VideoReader` holds one frame at a time, however long the film is. Videos are written by
`media.writer`.
"""

import collections
import contextlib
import io
import itertools
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.media.signatures import AUDIO, HEAD, MP4, begins, obstacle, shows_something

Path = str | os.PathLike[str]
Decoder = Callable[[], Iterable[tuple[np.ndarray | None, float]]]
_Decoding = Generator[tuple[Any, float], None, None]

MOST_FPS = 1000.0
_USUAL_FPS = 25.0  # where a file says nothing
_COVER_FPS = 90000.0  # what FFmpeg says of a cover picture
# A damaged packet makes a read fail, and so does the end of the film, but there every read fails,
# in some 20 us. After a lost keyframe hundreds can fail in a row.
_TRIES = 1000
_CAMERA_TRIES = 3  # a read from a camera that was unplugged can take seconds to fail
# A read fails where the packet is, its frame is missing where it would be shown: up to 16 frames
# later in H.264 and HEVC.
_REORDERED = 32
_LOOK_AHEAD = 32  # frames that tell the rate where something else decodes
_MOST_STRETCHED = 8.0  # of pixels; a sample aspect beyond that is taken for an error


class CameraStoppedError(UserError):
    """A camera sends no more frames."""


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB; None if it cannot be decoded.
        time: seconds since the start of the video.
    """

    image: np.ndarray | None
    time: float


class VideoReader:
    """A video in a file, in memory, from a camera, or decoded by something else.

    Its frames are upright, as the file's rotation says, and all of one size. They can be read any
    number of times, but those of a camera once. A file is opened when the reader is made, and the
    first reading goes on from there: one opening and one decoding in all.

    Args:
        source: the file; its bytes; the text "camera:N" for the camera of number N (a file of that
            name is ./camera:N); or a function that decodes the video: called without arguments it
            returns the (image, time) of each frame, as `Frame` has them.
        name: what messages call it; the path by default.
        square_pixels: whether frames whose pixels are not square by the file's sample aspect ratio
            are enlarged until they are. If not, pixels are as stored.
        threads: of the decoder; 0 for one per core.

    Attributes:
        name: as given.
        live: whether it is a camera: frames can be read once, and have no end.
        width: of the frames, pixels.
        height: of the frames, pixels.
        aspect: width by height of the stored pixels, turned as the frames are; 1 where the file
            says nothing.
        header_fps: frames per second by the header, a mean where the rate is not constant; 0 where
            it says nothing.
        header_frames: number of frames by the header. It may be far off, and 0: good for a
            progress bar, not for more.
        listed_frames: number of frames that the index of an mp4 or mov file lists; 0 for files
            without one, whose headers only estimate.

    Raises:
        OSError: the file cannot be read.
        UserError: it is no video, no frame can be decoded, or there is no such camera; the message
            tells the reason.
    """

    def __init__(
        self,
        source: Path | bytes | Decoder,
        *,
        name: str | None = None,
        square_pixels: bool = True,
        threads: int = 0,
    ):
        self._threads = threads
        self._file = b"" if callable(source) else source
        self._function = source if callable(source) else None
        known = isinstance(source, str | os.PathLike)
        self.name = name or (str(source) if known else "video")
        self._camera = isinstance(source, str) and re.fullmatch(r"camera:(\d+)", source)
        self.live = bool(self._camera)
        self.aspect, self.header_frames, self.listed_frames = 1.0, 0, 0
        # What is decoded already, and the decoder that goes on from there.
        self._ahead: list[tuple[Any, float]] = []
        self._decoder: _Decoding | None = None
        image = self._open() if self._function is None else self._peek(self._function)
        self.height, self.width = image.shape[:2]
        if square_pixels and self.aspect > 1:
            self.width = round(self.width * self.aspect)
        elif square_pixels:
            self.height = round(self.height / self.aspect)

    @property
    def fps(self) -> float:
        """Frames per second by the header; 25 where it says nothing."""
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
            CameraStoppedError: a camera sends no more frames.
            ValueError: it cannot be decoded any more, or it is a camera whose frames were read.
        """
        decoded: Iterable[tuple[Any, float]]
        if self._decoder is not None:
            decoded = itertools.chain(self._ahead, self._decoder)
            self._ahead, self._decoder = [], None
        elif self.live:
            raise ValueError(f"{self.name} is a camera: its frames can be read once")
        else:
            decoded = self._decoded(pictures=True)
        size = self.width, self.height
        for image, moment in decoded:
            if image is not None and image.shape[1::-1] != size:
                image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            yield Frame(image, moment)

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """Decodes the video to its end, faster than `frames` as no picture is made.

        Returns:
            (T,) float64 seconds of each frame and (T,) bool, True for those that can be decoded.

        Raises:
            ValueError: it is a camera, which has no end.
        """
        if self.live:
            raise ValueError(f"{self.name} is a camera: it has no end")
        self.close()
        found = [(moment, image is not None) for image, moment in self._decoded(pictures=False)]
        return np.array([moment for moment, _ in found]), np.array([ok for _, ok in found], bool)

    def close(self) -> None:
        """Closes the file or camera, if nothing has been read from it yet; it may be called again.

        A reading that has begun closes what it reads when it ends or is given up.
        """
        if self._decoder is not None:
            self._decoder.close()
        self._ahead, self._decoder = [], None

    def _peek(self, decode: Decoder) -> np.ndarray:
        """The first picture of a video that something else decodes."""
        first = list(itertools.islice(decode(), _LOOK_AHEAD))
        image = next((image for image, _ in first if image is not None), None)
        if image is None:
            raise UserError(f"{self.name} has no frame that can be decoded")
        steps = [later - moment for (_, moment), (_, later) in itertools.pairwise(first)]
        usual = statistics.median(steps) if steps else 0.0
        self.header_fps = _known_fps(1 / usual) if usual > 0 else 0.0
        return image

    def _open(self) -> np.ndarray:
        """Begins to decode; returns the first picture."""
        decoder = self._watched() if self.live else self._decoded(pictures=True)
        self._decoder = decoder
        for image, moment in decoder:
            self._ahead.append((image, moment))
            if image is not None:
                break
        else:
            raise UserError(
                f"{self.name} has no frame that can be decoded: "
                + ("the camera sends none" if self.live else f"it is damaged, or {self._codec}")
            )
        if self._said_fps >= _COVER_FPS:
            second = next(decoder, None)
            if second is None:
                raise UserError(
                    f"{self.name} is a sound recording with a cover picture: it holds no video"
                )
            self._ahead.append(second)
        if not self.live and _has_index(self._file):
            self.listed_frames = self.header_frames
        return image

    @contextlib.contextmanager
    def _capture(self) -> Iterator[cv2.VideoCapture]:
        """The open video, after its header was read."""
        with contextlib.ExitStack() as stack:
            stream: Any = None
            if self._camera:
                capture = cv2.VideoCapture(int(self._camera[1]))
            else:
                # OpenCV takes some names for URLs and crashes at those that are not UTF-8, so it
                # gets a stream, which must outlive release().
                data = self._file
                stream = io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb")
                stack.enter_context(stream)
                settings = [cv2.CAP_PROP_N_THREADS, self._threads] if self._threads else []
                capture = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, settings)
            stack.callback(capture.release)
            if not capture.isOpened():
                raise UserError(
                    f"{self.name} cannot be opened: check that the camera is connected, that you "
                    "may use it and that no other program does"
                    if stream is None
                    else f"{self.name} {_why_not(stream)}"
                )
            self._read_header(capture)
            yield capture

    def _read_header(self, capture: cv2.VideoCapture) -> None:
        self._said_fps = capture.get(cv2.CAP_PROP_FPS)
        self.header_fps = _known_fps(self._said_fps)
        self.header_frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        aspect = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
        if min(aspect) > 0 and 1 / _MOST_STRETCHED <= aspect[0] / aspect[1] <= _MOST_STRETCHED:
            turned = capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
            self.aspect = aspect[1] / aspect[0] if turned else aspect[0] / aspect[1]
        codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        self._codec = (
            f"this OpenCV lacks its codec ({codec.decode('ascii', 'replace').strip(chr(0))}); "
            "'ffmpeg -i OLD -c:v libx264 NEW.mp4' writes one that it has"
        )

    def _watched(self) -> _Decoding:
        """Picture and time of each frame of a camera; an error when it sends none any more."""
        with self._capture() as capture:
            start, previous, failed = None, -math.inf, 0
            while failed < _CAMERA_TRIES:
                if not capture.grab():
                    failed += 1
                    continue
                now, failed = time.monotonic(), 0
                start = now if start is None else start
                moment = max(now - start, math.nextafter(previous, math.inf))
                previous = moment
                yield _picture(capture), moment
        if start is not None:
            raise CameraStoppedError(
                f"{self.name} sends no more frames: check that it is connected"
            )

    def _decoded(self, *, pictures: bool) -> _Decoding:
        """Picture (True without pictures, None if it cannot be decoded) and time of each frame."""
        previous: float | None = None
        if self._function is not None:
            for image, moment in self._function():
                if previous is not None and not moment > previous:
                    moment = previous + 1 / self.fps
                previous = moment
                yield image, moment
            return
        with self._capture() as capture:
            step, steps = 1 / self.fps, collections.deque[float](maxlen=_REORDERED)
            failed, lost, since = 0, 0, 0
            while failed < _TRIES:
                if not capture.grab():
                    failed += 1
                    continue
                since = 0 if failed else since + 1
                lost, failed = (lost if since <= _REORDERED else 0) + failed, 0
                due = 0.0 if previous is None else previous + step
                moment = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if not math.isfinite(moment) or (previous is not None and moment <= previous):
                    moment = due
                # One lost frame can take others with it, but without a failed read a gap is a
                # pause of a film without a constant rate.
                missing = min(max(0, round((moment - due) / step)), _TRIES) if lost else 0
                yield from ((None, due + t * step) for t in range(missing))
                lost = max(0, lost - missing)
                if previous is not None and not missing:
                    steps.append(moment - previous)
                    usual = statistics.median(steps)
                    # The header's is exact, times are often rounded to milliseconds.
                    step = 1 / self.fps if abs(usual * self.fps - 1) < 0.05 else usual
                previous = moment
                yield (_picture(capture) if pictures else True), moment
        if previous is not None:
            yield from ((None, previous + t * step) for t in range(1, lost + 1))


def _picture(capture: cv2.VideoCapture) -> np.ndarray | None:
    """The frame that was grabbed last, in RGB; None if it cannot be decoded."""
    there, image = capture.retrieve()
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if there else None


def _known_fps(fps: float) -> float:
    return float(fps) if 0 < fps <= MOST_FPS else 0.0


def _has_index(source: Path | bytes) -> bool:
    """Whether a file is mp4 or mov, not in fragments (an mvex box near its start)."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
        head = stream.read(1 << 16)
    return head[4:8] == b"ftyp" and b"mvex" not in head


def _why_not(stream: BinaryIO) -> str:
    """What a file is that OpenCV cannot open as a video, in words that follow its name."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(HEAD)
    if reason := obstacle(head):
        return reason
    if begins(MP4, head):
        if "moov" not in (boxes := _mp4_boxes(stream, size)) or boxes["moov"][1] > size:
            return (
                "is a video that was not finished or not fully downloaded: its index (moov) is "
                "missing"
            )
        if shows_something(stream):
            return "is a video that is damaged, or in a format that this OpenCV cannot decode"
        return "is a sound recording: it holds no video"
    if begins(AUDIO, head) or begins(b"OggS", head):
        return "is a sound recording: it holds no video"
    if b"\0" not in head:
        return "is a text, not a video"
    return "is no video that OpenCV knows, holds sound alone, or is damaged"


def _mp4_boxes(stream: BinaryIO, size: int) -> dict[str, tuple[int, int]]:
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
