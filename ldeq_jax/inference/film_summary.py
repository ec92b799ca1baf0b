"""What is found in a film, kept small however long the film is: `Tally` and `FilmSummary`."""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.face.aligned import fit_similarity, moved
from ldeq_jax.face.confidence import face_size
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.tracker import Face, TrackedFrame
from ldeq_jax.media.pictures import jpeg
from ldeq_jax.report.charts import upright
from ldeq_jax.report.clips import fitted

_BINS = 1000  # of a film at most; half as many at least, once there are so many frames
_STORIES = 500  # faces of which more is kept than a number
_PICTURES = 16  # of a film at most
_WIDTH = 480  # of these, pixels
_CUTS = 200  # times of cuts that are kept


class Tally:
    """What is found in a film, in words."""

    def __init__(self):
        self.frames = self.undecoded = self.with_a_face = 0
        self.found: dict[int, int] = {}

    def add(self, frame: TrackedFrame) -> None:
        """Counts the faces of the next frame."""
        self.frames += 1
        self.undecoded += frame.image is None
        there = [face.id for face in frame.faces if face.status != "lost"]
        self.with_a_face += bool(there)
        for number in there:
            self.found[number] = self.found.get(number, 0) + 1

    def __str__(self) -> str:
        count = len(self.found)
        text = f"{self.frames} frames, {self.with_a_face} of them with a face"
        if self.undecoded:
            text += f", {self.undecoded} cannot be decoded"
        if not count:
            return text + ": no face is detected"
        each = ", ".join(f"face {face} in {times}" for face, times in [*self.found.items()][:8])
        return text + f"; {count} face(s): {each}" + (", ..." if count > 8 else "")


class Bin(NamedTuple):
    """Sums over the frames of a bin in which a face is known.

    Attributes:
        frames: number of them.
        seconds: sum of their times.
        lost: in how many it is lost.
        unseen: in how many it is followed, but the detector has not seen it lately.
        confidence: sum, and number of frames that have one.
        step: likewise of `step`.
    """

    frames: int = 0
    seconds: float = 0.0
    lost: int = 0
    unseen: int = 0
    confidence: float = 0.0
    confident: int = 0
    step: float = 0.0
    steps: int = 0

    def plus(self, other: "Bin") -> "Bin":
        """The sums of both."""
        return Bin._make(map(operator.add, self, other))


def joined(bins: Mapping[int, Bin], count: int) -> dict[int, Bin]:
    """Bins of so many frames as `count` bins had together."""
    wider: dict[int, Bin] = {}
    for place, here in bins.items():
        wider[place // count] = wider.get(place // count, Bin()).plus(here)
    return wider


@dataclasses.dataclass(kw_only=True)
class Story:
    """What is known of a face of a film.

    Attributes:
        id: its number.
        first: time of its first frame, seconds.
        last: time of the last frame in which it was found.
        total: sums over all its frames.
        detected: frames in which the detector sees it.
        lost_seconds: for how long it was lost while it had its id.
        lowest: confidence where it is lowest, and the time of that.
        ended: why and when its id ended; "" if it had it to the end.
        bins: by their number, those that it is in.
    """

    id: int
    first: float
    last: float
    total: Bin = Bin()
    detected: int = 0
    lost_seconds: float = 0.0
    lowest: tuple[float, float] = (np.inf, 0.0)
    ended: tuple[str, float] = ("", 0.0)
    bins: dict[int, Bin] = dataclasses.field(default_factory=dict)

    @property
    def found(self) -> int:
        """Frames in which it is found."""
        return self.total.frames - self.total.lost


class Still(NamedTuple):
    """A frame of a film, small, with its landmarks.

    Attributes:
        jpeg: the picture, as a file.
        level: its mean, of 255.
    """

    jpeg: bytes
    level: float


class FilmSummary:
    """Numbers of a film for its report.

    Memory is bounded: times are divided into bins of equal numbers of frames, which are joined two
    by two when there are too many, and of many faces only those are kept that are found in the most
    frames.

    Args:
        schema: of the landmarks.
        detect_every: frames from one detection to the next.
        draw: draws landmarks by id into a picture.

    Attributes:
        tally: counts.
        stories: of the faces, by id.
        forgotten: number of faces that are not among these.
        start: time of the first frame, seconds.
        end: time of the last one.
        interval: between the last two.
        cuts: times of the first cuts.
        num_cuts: number of all cuts.
        most: faces that are found in one frame at most.
        per_bin: frames of a bin.
        pictures: by time, frames from all over the film.
    """

    def __init__(
        self,
        schema: LandmarkSchema,
        detect_every: int,
        draw: Callable[[np.ndarray, Mapping[int, np.ndarray], LandmarkSchema], np.ndarray],
    ):
        self._schema, self._detect_every, self._draw = schema, detect_every, draw
        self.tally = Tally()
        self.stories: dict[int, Story] = {}
        self.forgotten = 0
        self.start = self.end = self.interval = 0.0
        self.cuts: list[float] = []
        self.num_cuts = self.most = 0
        self.per_bin = 1
        self.pictures: dict[float, Still] = {}
        self._every = 1  # frames from one picture to the next
        count = schema.num_landmarks
        self._shape, self._spread = np.zeros((count, 2)), np.zeros(count)
        self._probability = np.zeros(count)
        self._faces = self._sure_faces = 0
        self._before: dict[int, np.ndarray] = {}  # landmarks of the frame before
        self._seen: dict[int, int] = {}  # frame in which the detector last saw each face

    def add(self, frame: TrackedFrame) -> None:
        """Takes in the next frame."""
        number = self.tally.frames
        self.tally.add(frame)
        self.interval = frame.time - self.end if number else 0.0
        self.start, self.end = self.start if number else frame.time, frame.time
        if frame.cut:
            self.num_cuts += 1
            self.cuts += [frame.time] * (len(self.cuts) < _CUTS)
        if number // self.per_bin >= _BINS:
            self._halve_bins()
        found = {face.id: face.points for face in frame.faces if face.status != "lost"}
        self.most = max(self.most, len(found))
        for face in frame.faces:
            self._add_face(face, number, frame.time)
        self._before = found
        self._seen = {face.id: self._seen[face.id] for face in frame.faces if face.id in self._seen}
        for ended, reason in frame.ended:
            if ended in self.stories:
                self.stories[ended].ended = reason, frame.time
        if len(self.stories) > _STORIES:
            self._forget({face.id for face in frame.faces})
        if number % self._every == 0 and frame.image is not None:
            self._add_picture(frame.time, frame.image, found)

    def _add_face(self, face: Face, number: int, time: float) -> None:
        story = self.stories.setdefault(face.id, Story(id=face.id, first=time, last=time))
        lost, landmarks = face.status == "lost", face.landmarks
        sure, step = np.nan, np.nan
        if lost:
            story.lost_seconds += self.interval
        else:
            story.last = time
            if face.status == "detected":
                story.detected += 1
                self._seen[face.id] = number
            if landmarks.confidence is not None:
                sure = float(landmarks.confidence)
                story.lowest = min(story.lowest, (sure, time))
            if face.id in self._before:
                step = steps_in_face(self._before[face.id], face.points)
            self._add_landmarks(face)
        unseen = number - self._seen.get(face.id, number) > self._detect_every
        here = Bin(
            frames=1,
            seconds=time,
            lost=int(lost),
            unseen=int(unseen and not lost),
            confidence=0.0 if np.isnan(sure) else sure,
            confident=int(not np.isnan(sure)),
            step=0.0 if np.isnan(step) else step,
            steps=int(not np.isnan(step)),
        )
        story.total = story.total.plus(here)
        place = number // self.per_bin
        story.bins[place] = story.bins.get(place, Bin()).plus(here)

    def _add_landmarks(self, face: Face) -> None:
        shape = upright(face.points, self._schema.eye_corners)
        if not np.isfinite(shape).all():
            return
        self._shape += shape
        self._spread += face.landmarks.spread / face_size(face.points)
        self._faces += 1
        if face.landmarks.probability is not None:
            self._probability += face.landmarks.probability
            self._sure_faces += 1

    @property
    def by_landmark(self) -> dict[str, np.ndarray]:
        """Means over all found faces, without those that are not known.

        Returns:
            "shape" (K, 2) upright, "spread" (K,) relative to the face size, "probability" (K,).
        """
        means: dict[str, np.ndarray] = {}
        if self._faces:
            means |= {"shape": self._shape / self._faces, "spread": self._spread / self._faces}
        if self._sure_faces:
            means["probability"] = self._probability / self._sure_faces
        return means

    def _halve_bins(self) -> None:
        self.per_bin *= 2
        for story in self.stories.values():
            story.bins = joined(story.bins, 2)

    def _forget(self, present: set[int]) -> None:
        gone = [story for story in self.stories.values() if story.id not in present]
        if gone:
            del self.stories[min(gone, key=lambda story: story.found).id]
            self.forgotten += 1

    def _add_picture(self, time: float, image: np.ndarray, found: Mapping[int, Any]) -> None:
        if len(self.pictures) == _PICTURES:
            self._every *= 2
            self.pictures = dict([*self.pictures.items()][::2])
            if (self.tally.frames - 1) % self._every:
                return
        small = fitted(image, _WIDTH)
        scale = np.array(small.shape[1::-1]) / image.shape[1::-1]
        points = {face: (landmarks + 0.5) * scale - 0.5 for face, landmarks in found.items()}
        drawn = self._draw(small, points, self._schema)
        self.pictures[time] = Still(jpeg(drawn, 80), float(small.mean()))


def steps_in_face(before: np.ndarray, after: np.ndarray) -> float:
    """How far landmarks (K, 2) move within the face, in percent of its size; mean over landmarks.

    The face's own motion does not count: position, size and rotation of the first landmarks are
    fitted to the second by least squares. The size is the root of the area of the extent. What is
    left is flicker, and expression.
    """
    weight = np.full(len(before), 1 / len(before))
    motion = fit_similarity(before, after, weight)
    expected = moved(before, motion, before.mean(axis=0, keepdims=True))
    distance = np.linalg.norm(after - expected, axis=-1)
    return 100 * float(distance.mean() / face_size(after))
