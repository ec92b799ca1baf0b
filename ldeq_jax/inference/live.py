"""The faces of a camera, or of a film as if it were one, shown and sent as they come: `watch`."""

import collections
import contextlib
import dataclasses
import math
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Protocol

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.track_tables import frame_record
from ldeq_jax.inference.tracker import FaceTracker, TrackedFrame
from ldeq_jax.media.feed import Feed
from ldeq_jax.media.video import VideoReader
from ldeq_jax.media.window import CLOSED
from ldeq_jax.report.draw import draw_tracks, write_text
from ldeq_jax.report.records import to_json

Send = Callable[[str], None]

_QUIT = ("q", "Q", CLOSED)
_RATE_OVER = 30  # frames that the frame rate is a mean over


class Screen(Protocol):
    """Anything that shows pictures, such as `media.window.Window`."""

    def show(self, picture: np.ndarray) -> str:
        """Shows a picture (H, W, 3) uint8 RGB; returns the key that was pressed, or ""."""
        ...


@dataclasses.dataclass(kw_only=True)
class Switches:
    """What the keys of a window switch on and off.

    Attributes:
        steady: key r; whether a frame depends on the one before, by recurrence.
        mesh: key m; whether landmarks are joined by lines.
        ids: key i; whether ids are written.
    """

    steady: bool = True
    mesh: bool = True
    ids: bool = True

    def press(self, key: str) -> None:
        """Switches what a key is for; other keys do nothing."""
        names = {"r": "steady", "m": "mesh", "i": "ids"}
        if name := names.get(key.lower()):
            setattr(self, name, not getattr(self, name))


@dataclasses.dataclass(kw_only=True)
class Watched:
    """What was watched.

    Attributes:
        frames: number of frames that were worked on.
        came: number of frames that came, those dropped too.
        latencies: seconds from the coming of each of the last frames until its landmarks were sent.
        rate: frames per second, over the last frames; NaN before the second.
    """

    frames: int = 0
    came: int = 0
    latencies: collections.deque[float] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_RATE_OVER)
    )
    rate: float = math.nan

    @property
    def latency(self) -> float:
        """Median over the last frames, seconds."""
        return float(np.median(self.latencies))

    def __str__(self) -> str:
        if not self.frames:
            return "no frame was worked on"
        rate = "" if math.isnan(self.rate) else f"at last {self.rate:.0f} frames a second, "
        return (
            f"{self.frames} of {self.came} frames that came, {rate}each "
            f"{1000 * self.latency:.0f} ms after it came"
        )


def watch(
    reader: VideoReader,
    trackers: Mapping[bool, FaceTracker],
    schema: LandmarkSchema,
    *,
    switches: Switches,
    screen: Screen | None = None,
    sends: Sequence[Send] = (),
    watched: Watched | None = None,
) -> Watched:
    """Tracks the faces of a camera, or of a film that plays in its own time, until its end.

    Each time the newest frame is taken, so nothing lags behind, and frames are left out where the
    model is slower than they come.

    Args:
        reader: the camera or film.
        trackers: with recurrence (True) and without.
        schema: schema of the landmarks.
        switches: changed by the keys of the screen; its key q, or closing it, ends.
        screen: to show the frames with their landmarks on.
        sends: what takes the record of each frame, a line of JSON.
        watched: where to count; kept even if an error ends it.

    Returns:
        What was watched.

    Raises:
        CameraStoppedError: the camera sends no more frames.
    """
    watched = watched or Watched()
    state, image = None, np.full((reader.height, reader.width, 3), 128, np.uint8)
    taken: collections.deque[float] = collections.deque(maxlen=_RATE_OVER)
    with Feed(reader) as feed:
        while (moment := feed.next()) is not None:
            found, state = trackers[switches.steady].step(moment.image, moment.time, state)
            line = to_json(frame_record(moment.number, found))
            for send in sends:
                send(line)
            now = monotonic()
            taken.append(now)
            watched.frames, watched.came = watched.frames + 1, moment.number + 1
            watched.latencies.append(now - moment.arrived)
            if len(taken) > 1:
                watched.rate = (len(taken) - 1) / (taken[-1] - taken[0])
            if screen is not None:
                image = image if moment.image is None else moment.image
                key = screen.show(_picture(image, found, schema, switches, watched))
                if key in _QUIT:
                    break
                switches.press(key)
    return watched


@contextlib.contextmanager
def udp(address: str) -> Iterator[Send]:
    """Sends lines as UDP datagrams, one a line.

    What cannot be sent is reported once, on stderr, and stops nothing: the receiver may come later.

    Args:
        address: HOST:PORT; [HOST]:PORT for IPv6.

    Raises:
        UserError: there is no such address.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--udp={address} must be HOST:PORT, such as 127.0.0.1:9000")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_DGRAM
        )[0]
    except OSError as error:
        raise UserError(f"--udp={address}: the host is not found ({error.strerror})") from error
    failed = False
    with socket.socket(family, kind, protocol) as sender:

        def send(line: str) -> None:
            nonlocal failed
            try:
                sender.sendto(f"{line}\n".encode(), place)
            except OSError as error:
                if not failed:
                    print(f"cannot send to {address}: {error.strerror}", file=sys.stderr)
                failed = True

        yield send


def print_line(line: str) -> None:
    """Writes a line to stdout at once."""
    print(line, flush=True)


def _picture(
    image: np.ndarray,
    found: TrackedFrame,
    schema: LandmarkSchema,
    switches: Switches,
    watched: Watched,
) -> np.ndarray:
    """What is shown of a frame."""
    faces = {face.id: face.points for face in found.faces if face.status != "lost"}
    canvas = draw_tracks(image, faces, schema, lines=switches.mesh, ids=switches.ids)
    scale = max(0.4, canvas.shape[0] / 900)
    steady = "RwR" if switches.steady else "each frame alone"
    rate = "" if math.isnan(watched.rate) else f"{watched.rate:.0f} frames/s, "
    line = round(30 * scale)
    write_text(canvas, f"{rate}{1000 * watched.latency:.0f} ms, {steady}", (line // 2, line), scale)
    keys = "r: RwR  m: mesh  i: ids  q: quit"
    write_text(canvas, keys, (line // 2, canvas.shape[0] - line // 2), scale)
    return canvas
