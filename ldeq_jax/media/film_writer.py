"""Videos, written by PyAV (extra `[video]`): H.264, every frame at its own time, with sound.

`media.writer` writes videos without PyAV. The wheels of PyAV contain x264, which is under the GPL.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ldeq_jax.errors import UserWriteError
from ldeq_jax.media.files import replacing
from ldeq_jax.media.video import Path

_TICKS = 90000  # per second, of the times in the file
_COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac")  # sound that an mp4 file may hold
_OPTIONS = {"preset": "veryfast", "bf": "0"}
_QUALITY = 20


@contextlib.contextmanager
def open_film(
    path: Path, fps: float, *, sound: Path | None = None, quality: int = _QUALITY
) -> Iterator["FilmWriter"]:
    """A writer of a film; the file appears at the end, after an error none does.

    Args:
        path: file to write, its name ending in .mp4; the folder is made when missing.
        fps: usual frames per second, for how long the last frame is shown.
        sound: film whose sound is copied, as it is, between the times of the first and the last
            frame; None for none.
        quality: constant rate factor of H.264, from 0, lossless, to 51; 6 less are twice the bytes.

    Yields:
        A `FilmWriter`.

    Raises:
        ModuleNotFoundError: PyAV is not installed.
        UserWriteError: the file cannot be written.
    """
    import av

    with _naming(path), replacing(path) as partial, contextlib.ExitStack() as stack:
        container = stack.enter_context(av.open(str(partial), "w", format="mp4"))
        source = None if sound is None else stack.enter_context(av.open(str(sound)))
        writer = FilmWriter(path, container, fps, source, quality)
        yield writer
        writer.finish()


class FilmWriter:
    """What `open_film` gives: pictures with their times go in one after another.

    Attributes:
        sound: "copied"; "none" where the source has none; or the name of a codec that an mp4 file
            cannot hold, whose sound is left out.
    """

    def __init__(
        self, path: Path, container: Any, fps: float, source: Any, quality: int = _QUALITY
    ):
        self._path, self._container, self._fps, self._source = path, container, fps, source
        self._options = {**_OPTIONS, "crf": str(quality)}
        self._stream: Any = None
        self._first = self._last = 0.0
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None
        self.sound = "none"

    def write(self, picture: np.ndarray, time: float) -> None:
        """Writes a picture.

        Args:
            picture: (H, W, 3) uint8 RGB, of the size of the first, with even sides.
            time: seconds since the beginning of the source; later than that of the last picture.

        Raises:
            UserWriteError: it cannot be written.
        """
        import av

        with _naming(self._path):
            if self._stream is None:
                self._begin(picture, time)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(_TICKS * (time - self._first)), Fraction(1, _TICKS)
            self._last = time
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
            self._add_sound(time)

    def finish(self) -> None:
        """Writes what is still held back."""
        if self._stream is None:
            raise ValueError("a film without a picture")
        packets = self._stream.encode()
        for packet in packets:
            if packet is packets[-1]:
                packet.duration = round(_TICKS / self._fps)
            self._container.mux(packet)
        self._add_sound(self._last + 1 / self._fps)

    def _begin(self, picture, time):
        self._first = time
        rate = Fraction(self._fps).limit_denominator(1000)
        self._stream = self._container.add_stream("libx264", rate=rate, options=self._options)
        self._stream.height, self._stream.width = picture.shape[:2]
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS)
        if self._source is None or not self._source.streams.audio:
            return
        audio = self._source.streams.audio[0]
        if audio.codec_context.name not in _COPIED:
            self.sound = audio.codec_context.name
            return
        self.sound = "copied"
        copy = self._container.add_stream_from_template(audio)
        # Times of frames are counted from the first of the source.
        begin = _seconds(self._source.streams.video, self._first)
        shift = round(begin / audio.time_base)
        self._packets = _moved(self._source.demux(audio), copy, shift)

    def _add_sound(self, until):
        """Writes the sound before a time."""
        while self.sound == "copied":
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or packet.pts * packet.time_base > until - self._first:
                return
            self._container.mux(packet)
            self._waiting = None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns errors of FFmpeg into one that names the file."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise UserWriteError(f"cannot write {path}: {error.strerror or error}") from error


def _seconds(videos: Any, first: float) -> float:
    """Time in the source's own count at which what is written begins."""
    video = videos[0] if videos else None
    start = 0 if video is None or video.start_time is None else video.start_time * video.time_base
    return float(start) + first


def _moved(packets: Iterator[Any], stream: Any, shift: int) -> Iterator[Any]:
    """Packets of sound for another stream, earlier by a shift; those before its start left out.

    One from just before it is kept, with a time below 0, since decoders need it to begin.
    """
    for packet in packets:
        if packet.dts is None or packet.pts is None:
            continue
        if packet.pts < shift - (packet.duration or 0):
            continue
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = stream
        yield packet
