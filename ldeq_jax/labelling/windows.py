"""Windows: the parts of a film that show one face all the time, long enough to be a video."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.confidence import face_size
from ldeq_jax.inference.tracker import TrackedFrame
from ldeq_jax.media.repeats import Stream, is_repeat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cutting:
    """What a window must be.

    Attributes:
        shortest: frames of a window at least.
        longest: frames of a window at most.
        least_face: pixels, the root of the area of the landmarks' extent, in every frame.

    Raises:
        UserError: the lengths contradict each other.
    """

    shortest: int = 120
    longest: int = 151
    least_face: float = 64.0

    def __post_init__(self) -> None:
        if not 2 <= self.shortest <= self.longest:
            raise UserError(
                f"--shortest={self.shortest} must be 2 or more, and at most "
                f"--longest={self.longest}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """Part of a film in which a face is there in every frame.

    Attributes:
        face: id of the face in the film.
        start: number of the first frame in the film, from 0.
        times: (T,) seconds of the frames in the film.
        boxes: (T, 5) x1 y1 x2 y2 of the extent of its landmarks, film pixels, and how sure the
            model is that it is a face (NaN where it is not calibrated).
    """

    face: int
    start: int
    times: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        """T."""
        return len(self.times)

    @property
    def stop(self) -> int:
        """Number of the frame after the last."""
        return self.start + len(self)

    @property
    def fps(self) -> float:
        """Frames per second, in the mean."""
        return float((len(self) - 1) / (self.times[-1] - self.times[0]))


class Windows:
    """Finds the windows of a film in its tracked frames, which are read once and not kept.

    Args:
        cutting: what a window must be.

    Attributes:
        frames: number of frames so far.
        ends: why stretches that were too short for a window, or what was left of longer ones, came
            to their end, and how many of them did.
        unused: frames with a face that are in no window.
    """

    def __init__(self, cutting: Cutting):
        self._cutting = cutting
        self._runs: dict[int, _Run] = {}
        self._small: set[int] = set()  # ids of faces that were too small when last seen
        self._stream: Stream | None = None
        self.frames, self.unused = 0, 0
        self.ends: collections.Counter[str] = collections.Counter()

    def find(self, frames: Iterable[TrackedFrame]) -> Iterator[Window]:
        """The windows of a film, each as soon as it is known; `frames` are all of its frames."""
        for frame in frames:
            yield from self.add(frame)
        yield from self.finish()

    def add(self, frame: TrackedFrame) -> list[Window]:
        """Takes in the next frame; returns the windows that are complete by it."""
        self.frames += 1
        repeated = False
        if frame.image is not None:
            repeated, self._stream = is_repeat(frame.image, self._stream)
        found: list[Window] = []
        whole = "a frame repeats the one before" if repeated else ""
        if frame.image is None:
            whole = "a frame cannot be decoded"
        there = {face.id: face for face in frame.faces if face.status != "lost"}
        for id in [id for id in self._runs if id not in there]:
            found += self._end(
                id, whole or ("the scene is cut" if frame.cut else "the face is lost")
            )
        for id, face in there.items():
            size = float(face_size(face.points))
            small = size < self._cutting.least_face
            reason = whole or ("the face is too small" if small else "")
            if reason and id in self._runs:
                found += self._end(id, reason)
            elif small and id not in self._small:
                self.ends[reason] += 1
            self._small = self._small | {id} if small else self._small - {id}
            if small or frame.image is None:
                self.unused += 1
                continue
            sure = face.landmarks.confidence
            box = [*face.box, np.nan if sure is None else float(sure)]
            run = self._runs.setdefault(id, _Run(frame.index))
            run.times.append(frame.time)
            run.boxes.append(box)
            if len(run.times) >= self._cutting.shortest + self._cutting.longest:
                found.append(run.take(id, self._cutting.longest))
        return found

    def finish(self) -> list[Window]:
        """The windows that the end of the film completes."""
        return [window for id in list(self._runs) for window in self._end(id, "the film ends")]

    def _end(self, id: int, reason: str) -> list[Window]:
        """Ends a stretch: one window, two of equal length, or none is made of it."""
        run, least, most = self._runs.pop(id), self._cutting.shortest, self._cutting.longest
        frames = len(run.times)  # below the sum of both, as longer stretches were cut before
        count = min(frames // least, -(-frames // most))
        length = min(most, frames // max(count, 1))
        found = [run.take(id, length) for _ in range(count)]
        if not found:
            self.ends[reason] += 1
        self.unused += len(run.times)
        return found


class _Run:
    """A stretch of frames with one face."""

    def __init__(self, start: int):
        self.start = start
        self.times: list[float] = []
        self.boxes: list[list[float]] = []

    def take(self, face: int, count: int) -> Window:
        """Takes the first frames away."""
        window = Window(
            face=face,
            start=self.start,
            times=np.array(self.times[:count]),
            boxes=np.array(self.boxes[:count]),
        )
        del self.times[:count], self.boxes[:count]
        self.start += count
        return window
