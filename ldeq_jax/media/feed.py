"""The newest frame of a camera, or of a film that plays in its own time: `Feed`.

Who works on frames that come by themselves must not fall behind them. A thread reads every frame as
it comes; asked for the next, a feed gives the newest, and drops those that were too early.
"""

import threading
import time
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.media.video import CameraStoppedError, VideoReader

_PATIENCE = 5.0  # seconds without a frame after which a camera has stopped


class Moment(NamedTuple):
    """A frame that has come.

    Attributes:
        number: of the frame, from 0; the dropped ones count.
        image: (H, W, 3) uint8 RGB; None if it cannot be decoded.
        time: seconds since the first.
        arrived: when it came, as `time.monotonic` says.
    """

    number: int
    image: np.ndarray | None
    time: float
    arrived: float


class Feed:
    """Frames as they come, a context manager: the reading begins and ends with it.

    Args:
        reader: the camera, or a film, whose frames come at their times.
        patience: seconds to wait for a frame of a camera.
    """

    def __init__(self, reader: VideoReader, patience: float = _PATIENCE):
        self._reader, self._patience = reader, patience
        self._changed, self._stop = threading.Condition(), threading.Event()
        self._newest: Moment | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join(1.0)  # a camera that hangs ends with the process

    def next(self) -> Moment | None:
        """The newest frame; waits for one if none has come since the last call.

        Returns:
            The frame; None after the end of a film.

        Raises:
            CameraStoppedError: a camera sends no more frames.
            Exception: what reading raises.
        """
        patience = self._patience if self._reader.live else None
        with self._changed:
            if not self._changed.wait_for(lambda: self._newest or self._ended, patience):
                raise CameraStoppedError(
                    f"{self._reader.name} has sent no frame for {self._patience:g} seconds: check "
                    "that it is connected"
                )
            newest, self._newest = self._newest, None
        if newest is None and self._error is not None:
            raise self._error
        return newest

    def _read(self) -> None:
        try:
            begin = None
            for number, (image, moment) in enumerate(self._reader.frames()):
                if not self._reader.live:
                    begin = time.monotonic() - moment if begin is None else begin
                    self._stop.wait(max(0.0, begin + moment - time.monotonic()))
                if self._stop.is_set():
                    return
                with self._changed:
                    self._newest = Moment(number, image, moment, time.monotonic())
                    self._changed.notify_all()
        except BaseException as error:  # for the thread that asks
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
