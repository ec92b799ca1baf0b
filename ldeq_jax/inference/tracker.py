"""Several faces in a film, each with an id that stays: `FaceTracker`.

`inference.follower` follows every face by its landmarks. Here a detector says which faces there
are: every few frames, and in every frame while one is lost. What it detects is matched to the faces
that are followed by the overlap of their boxes, to those that are lost by their place, and else is
a new face.
"""

import contextlib
import dataclasses
import math
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy  # scipy.optimize is imported where it is used: it takes .3 s

from ldeq_jax.config import Config
from ldeq_jax.errors import UserError
from ldeq_jax.face.boxes import box_fault
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.detection import (
    LEAST_SCORE,
    SURE_SCORE,
    Detections,
    Detector,
    YuNet,
    boxes_for,
    overlaps,
)
from ldeq_jax.inference.doubt import same_face
from ldeq_jax.inference.follower import UNDECODED, Follower, FollowerState
from ldeq_jax.inference.videos import Recurrence
from ldeq_jax.media.cuts import Scene, is_cut
from ldeq_jax.media.pipeline import ahead
from ldeq_jax.media.video import Decoder, Frame, VideoReader
from ldeq_jax.weights import load_model

Status = Literal["detected", "tracked", "lost"]

_MATCH = 0.3  # overlap of a detected box and that of a face that is followed
_SAME = 0.5  # overlap of two faces that are one
_REACH, _SPREADING = 1.0, 1.0  # of a lost face, in face sizes, and per second
_SIZES = 2.0  # ratio up to which a lost face may have changed its size
_STEADY = 0.5  # weight of what is known of the velocity against a new difference
_STALE = 2.0  # seconds; a velocity that is older says nothing
_NEVER = -math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Which faces are tracked, and for how long.

    Attributes:
        detect_every: frames from one detection to the next, 1 or more, while no face is lost.
        min_score: of the detector, for a new face; known ones may have less.
        min_size: of a new face, pixels: the root of the area of its landmarks' extent.
        max_faces: number of faces that are followed at a time; the largest come first.
        keep_seconds: a lost face that comes back within that time keeps its id. It comes back in
            its place: within one face size of where it was lost or would be at its last velocity,
            and one more per second; and at half to twice its size.
        unseen_seconds: a face that the detector misses for so long is lost, although its landmarks
            look like those of a face.
        cuts: whether all ids end where the scene is cut.

    Raises:
        UserError: a value is out of its range.
    """

    detect_every: int = 5
    min_score: float = SURE_SCORE
    min_size: float = 12.0
    max_faces: int = 16
    keep_seconds: float = 2.0
    unseen_seconds: float = 3.0
    cuts: bool = True

    def __post_init__(self) -> None:
        for name in ("detect_every", "max_faces"):
            if not getattr(self, name) >= 1:
                raise UserError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("min_score", "min_size", "keep_seconds", "unseen_seconds"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.min_score > 1:
            raise UserError(f"min_score must be at most 1, not {self.min_score}")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """A face of a frame.

    Attributes:
        id: its number, from 0, the same in all frames.
        status: "detected" if the detector sees it in this frame too, "tracked" if only its
            landmarks are followed, "lost" if it is not found: its landmarks are NaN then.
        landmarks: of this single face, in frame pixels.
        score: of the detector in this frame; NaN unless it is detected.
        trouble: why it is lost, "" if it is not.
    """

    id: int
    status: Status
    landmarks: Landmarks
    score: float = math.nan
    trouble: str = ""

    @property
    def points(self) -> np.ndarray:
        """(K, 2) landmarks in frame pixels, NaN where it is lost."""
        return self.landmarks.points

    @property
    def box(self) -> np.ndarray:
        """(4,) x1 y1 x2 y2, the extent of its landmarks."""
        return np.concatenate([self.points.min(axis=0), self.points.max(axis=0)])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrackedFrame:
    """A frame of a film, and its faces.

    Attributes:
        index: number of the frame in the film, from 0.
        time: seconds.
        image: (H, W, 3) RGB; None if it cannot be decoded.
        faces: those of this frame, lost ones too, by their ids.
        ended: id and reason of each face that is given up from this frame on.
        cut: whether a new scene begins.
    """

    index: int
    time: float
    image: np.ndarray | None
    faces: tuple[Face, ...]
    ended: tuple[tuple[int, str], ...] = ()
    cut: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """What is known of a face between frames.

    Attributes:
        id: its number.
        follower: where it is expected; its box is None while the face is lost.
        box: (4,) extent of its landmarks when it was last found.
        found: time at which it was last found.
        detected: time at which it was last detected.
        place: (4,) its box when it was last found apart from other faces: the landmarks of one that
            another passes in front of shrink and are dragged along.
        apart: time of that.
        velocity: (2,) of its centre then, pixels a second.
    """

    id: int
    follower: FollowerState
    box: np.ndarray
    found: float
    detected: float
    place: np.ndarray
    apart: float
    velocity: np.ndarray

    @property
    def lost(self) -> bool:
        """Whether it is not followed."""
        return self.follower.box is None

    def expected(self, time: float) -> np.ndarray:
        """(4,) its box at a time, at constant velocity from where it was last found."""
        return self.box + np.tile((time - self.found) * self.velocity, 2)

    def expected_apart(self, time: float) -> np.ndarray:
        """The same from where it was last found apart, unless that is too long ago."""
        if self.found - self.apart > _STALE:
            return self.box
        return self.place + np.tile((time - self.apart) * self.velocity, 2)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrackerState:
    """What a tracker passes from one frame to the next.

    Attributes:
        people: the faces that are followed or lost, by their ids.
        next_id: of the next new face.
        index: number of frames so far.
        time: of the last frame.
        scene: for the detection of cuts.
    """

    people: tuple[Person, ...] = ()
    next_id: int = 0
    index: int = 0
    time: float = _NEVER
    scene: Scene | None = None


class Seen(NamedTuple):
    """What is seen in a frame without knowing its faces, so that it can be found out ahead.

    Attributes:
        cut: whether a new scene begins.
        scene: for the detection of the next cut.
        detections: None where nobody has looked.
    """

    cut: bool
    scene: Scene | None
    detections: Detections | None


class FaceTracker:
    """Finds the landmarks of all faces of a film, frame after frame, with ids that stay.

    Args:
        config: the model's, its number of landmarks filled in.
        variables: of the model.
        recurrence: how a frame depends on the one before; None solves every frame by itself.
        detector: `YuNet` when None.
        limits: which faces are tracked, and for how long.

    Raises:
        UserError: the model is trained on pictures that are crops already.
    """

    def __init__(
        self,
        config: Config,
        variables: dict[str, Any],
        recurrence: Recurrence = "as configured",
        *,
        detector: Detector | None = None,
        limits: Limits | None = None,
    ):
        if config.data.crop == "none":
            raise UserError(
                "the model is trained on pictures that are crops already: faces cannot be tracked "
                "with it"
            )
        recurrence = config.rwr if recurrence == "as configured" else recurrence
        self.config, self.limits = config, limits or Limits()
        self._follower = Follower(config, variables, recurrence)
        self._detector = detector or YuNet(min(LEAST_SCORE, self.limits.min_score))
        self._detecting = threading.Lock()  # a network cannot be run by two threads
        self._searching = False  # whether a face is lost, so that every frame is looked at

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        recurrence: Recurrence = "as configured",
        *,
        detector: Detector | None = None,
        limits: Limits | None = None,
    ) -> "FaceTracker":
        """Loads a model, by name or folder, see `VideoPredictor.load`."""
        config, variables, _ = load_model(name_or_folder)
        return cls(config, variables, recurrence, detector=detector, limits=limits)

    def warm_up(self, faces: int) -> None:
        """Compiles what up to so many faces of a frame need, so that no frame waits for it."""
        self._follower.warm_up(faces)
        several = np.ones((2, 2), bool)
        list(_assigned(several, several))

    def track(self, source: VideoReader | str | Path | bytes | Decoder) -> Iterator[TrackedFrame]:
        """Tracks the faces of a film from its beginning, one frame at a time.

        Args:
            source: the film, as `media.video.VideoReader` takes it, or the reader.

        Yields:
            Every frame, those that cannot be decoded too.

        Raises:
            OSError: the file cannot be read.
            UserError: it is no video.
        """
        reader = source if isinstance(source, VideoReader) else VideoReader(source)
        state = None
        with contextlib.closing(self.look_ahead(reader.frames())) as frames:
            for (image, time), seen in frames:
                frame, state = self.step(image, time, state, seen)
                yield frame

    def look_ahead(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Seen], None, None]:
        """Reads frames, and detects faces and cuts in them, in a thread ahead of `step`.

        Nothing else changes: `step` finds the same without it.

        Args:
            frames: of a film from its beginning, read in the thread.

        Yields:
            Each frame, and what `step` takes with it.
        """

        def looks() -> Iterator[tuple[Frame, Seen]]:
            scene = None
            for index, frame in enumerate(frames):
                cut, scene, found = False, scene, None
                if frame.image is not None:
                    cut, scene = self._is_cut(frame.image, scene)
                    if self._due(index) or cut or self._searching:
                        found = self._detect(frame.image)
                yield frame, Seen(cut, scene, found)

        return ahead(looks())

    def step(
        self,
        image: np.ndarray | None,
        time: float,
        state: TrackerState | None = None,
        seen: Seen | None = None,
    ) -> tuple[TrackedFrame, TrackerState]:
        """Finds the faces of the next frame.

        Args:
            image: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1]; None for a frame that could
                not be decoded.
            time: seconds, later than that of the frame before.
            state: what the step on the frame before returned; None for a first frame.
            seen: what `look_ahead` says of this frame; None to find it out here.

        Returns:
            The frame with its faces, and the state for the next.

        Raises:
            TypeError: the image is neither uint8 nor floating.
            ValueError: it has another shape or range, or the time is not later.
        """
        state = state or TrackerState()
        interval = 0.0 if state.time == _NEVER else time - state.time
        if state.time != _NEVER and not interval > 0:
            raise ValueError(f"the frame of {time:g} s must be later than that of {state.time:g} s")
        if seen is None:
            cut, scene = False, state.scene
            if image is not None:
                cut, scene = self._is_cut(image, scene)
            seen = Seen(cut, scene, None)
        step = _Step(self, image, time, interval, state.next_id)
        step.begin(state.people, seen.cut)
        if image is not None:
            lost = any(person.lost for person in step.known)
            due = self._due(state.index) or seen.cut or lost
            if due:
                step.detect(seen.detections)
            step.follow()
            if not due and any(person.lost for person in step.known):
                step.detect(seen.detections)
                step.follow()
        else:
            step.follow()
        self._searching = any(person.lost for person in step.known)
        frame = TrackedFrame(
            index=state.index,
            time=time,
            image=image,
            faces=step.faces(),
            ended=tuple(step.ended),
            cut=seen.cut,
        )
        return frame, TrackerState(
            people=tuple(step.known),
            next_id=step.next_id,
            index=state.index + 1,
            time=time,
            scene=seen.scene,
        )

    def _due(self, index: int) -> bool:
        return index % self.limits.detect_every == 0

    def _is_cut(self, image: np.ndarray, scene: Scene | None) -> tuple[bool, Scene | None]:
        return is_cut(image, scene) if self.limits.cuts else (False, scene)

    def _detect(self, image: np.ndarray) -> Detections:
        with self._detecting:
            return self._detector(image)


class _Step:
    """One frame of a tracker, from the faces of the frame before to those of this one."""

    def __init__(self, tracker, image, time, interval, next_id):
        self._limits, self._detect = tracker.limits, tracker._detect
        self._follower, self._crop = tracker._follower, tracker.config.data.crop
        self._image, self._time, self._interval = image, time, interval
        self.next_id = next_id
        self.known: list[Person] = []
        self.ended: list[tuple[int, str]] = []
        self._results: dict[int, Face] = {}  # of the faces that are done with
        self._boxes: dict[int, tuple[np.ndarray, float]] = {}  # detected box and score, by id
        self._begun: set[int] = set()  # ids that are new in this frame
        self._new: list[tuple[np.ndarray, float]] = []

    def begin(self, people, cut):
        """Takes over the faces of the frame before, but for those that end."""
        keep = self._limits.keep_seconds
        for person in people:
            if cut:
                self.ended.append((person.id, "the scene is cut"))
            elif person.lost and self._time - person.found > keep:
                reason = person.follower.trouble
                self.ended.append((person.id, f"lost for more than {keep:g} s: {reason}"))
            else:
                self.known.append(person)

    def detect(self, found):
        """Matches detected faces to those that are known and not done with.

        Args:
            found: Detections; None to detect them here.
        """
        found = self._detect(self._image) if found is None else found
        found = Detections(boxes_for(found, self._crop), found.scores)
        # A detector may see the last pixels of a face that leaves, of which no crop can be taken.
        usable = [not box_fault(box, self._image.shape) for box in found.boxes]
        found = found.where(np.array(usable, bool))
        followed = [person for person in self.known if not person.lost]
        expected = _rows([person.expected(self._time) for person in followed])
        same = overlaps(found.boxes, expected)
        taken = set()
        for row, column in _assigned(same, same >= _MATCH):
            taken.add(row)
            person, score = followed[column], float(found.scores[row])
            if person.id in self._results:  # it is done with
                face = dataclasses.replace(self._results[person.id], status="detected", score=score)
                self._keep(dataclasses.replace(person, detected=self._time), face)
            else:
                self._boxes[person.id] = found.boxes[row], score
        near = (same >= _MATCH).any(axis=1)
        free = [row for row in range(len(near)) if row not in taken and not near[row]]
        lost = [person for person in self.known if person.lost]
        away = np.array([[self._distance(found.boxes[row], p) for p in lost] for row in free])
        away = away.reshape(len(free), len(lost))
        for row, column in _assigned(-away, np.isfinite(away)):
            taken.add(free[row])
            self._boxes[lost[column].id] = found.boxes[free[row]], float(found.scores[free[row]])
            self._results.pop(lost[column].id, None)
        room = self._limits.max_faces - sum(p.id in self._boxes or not p.lost for p in self.known)
        for row in free:
            box, score = found.boxes[row], float(found.scores[row])
            large = np.sqrt(np.prod(box[2:] - box[:2])) >= self._limits.min_size
            if row not in taken and score >= self._limits.min_score and large and room > 0:
                self._new.append((box, score))
                room -= 1

    def follow(self):
        """Finds the landmarks of all faces that are not done with."""
        people = [p for p in self.known if p.id not in self._results]
        looked = [p for p in people if not p.lost or p.id in self._boxes]
        given = [self._boxes.get(p.id, (None, math.nan)) for p in looked] + self._new
        states = [p.follower for p in looked] + [None] * len(self._new)
        found = self._follower.steps(self._image, states, [box for box, _ in given], self._interval)
        self._new = []
        for person, (_, score), (landmarks, state) in zip(
            [*looked, *[None] * (len(given) - len(looked))], given, found, strict=True
        ):
            if person is None and not landmarks.ok:
                continue
            self._update(person, score, landmarks, state)
        for person in people:
            if person not in looked:
                self._lose(person, person.follower.trouble)
        self._part()
        self._settle()

    def faces(self):
        """The faces of this frame."""
        return tuple(self._results[person.id] for person in self.known)

    def _update(self, person, score, landmarks, state):
        if person is None:
            person = Person(
                id=self.next_id,
                follower=state,
                box=state.box,
                found=self._time,
                detected=self._time,
                place=state.box,
                apart=self._time,
                velocity=np.zeros(2),
            )
            self.next_id += 1
            self.known.append(person)
            self._begun.add(person.id)
        seen = not math.isnan(score)
        detected = self._time if seen else person.detected
        if not landmarks.ok:
            self._lose(dataclasses.replace(person, follower=state), state.trouble)
            return
        if self._time - detected > self._limits.unseen_seconds:
            seconds = self._limits.unseen_seconds
            self._lose(person, f"not detected for more than {seconds:g} s")
            return
        if person.lost:  # its way here is not known
            found = {"place": state.box, "apart": self._time, "velocity": np.zeros(2)}
            person = dataclasses.replace(person, **found)
        self._keep(
            dataclasses.replace(
                person, follower=state, box=state.box, found=self._time, detected=detected
            ),
            Face(
                id=person.id,
                status="detected" if seen else "tracked",
                landmarks=landmarks,
                score=score,
            ),
        )

    def _lose(self, person, trouble):
        """Marks a face as lost; one in a frame that cannot be decoded is followed all the same."""
        if trouble != UNDECODED:
            lost = FollowerState(trouble=trouble)
            person = dataclasses.replace(person, follower=lost)
        landmarks = Landmarks.absent(self._follower.num_landmarks)
        self._keep(person, Face(id=person.id, status="lost", landmarks=landmarks, trouble=trouble))

    def _keep(self, person, face):
        self._results[person.id] = face
        self.known = [person if other.id == person.id else other for other in self.known]

    def _part(self):
        """Of two that have come to be one face, the one is lost that was expected elsewhere."""
        found = self._found()
        if len(found) < 2:
            return
        boxes = _rows([p.box for p in found])
        for i, j in np.argwhere(np.triu(overlaps(boxes, boxes) > _SAME, 1)):
            pair = [found[i], found[j]]
            if any(self._results[p.id].status == "lost" for p in pair):
                continue
            if not same_face(pair[0].box, pair[1].box):
                continue
            loser = max(pair, key=self._surprise)
            if loser.id in self._begun:  # nobody has heard of it
                self.known.remove(loser)
            self._lose(loser, "its landmarks have moved onto another face")

    def _surprise(self, person):
        """How far a face is from where it was expected, in pixels; of two the newer is farther."""
        away = (person.box - person.expected_apart(self._time)).reshape(2, 2).mean(axis=0)
        return person.id in self._begun, round(float(np.linalg.norm(away)), 3), person.id

    def _settle(self):
        """Notes place and velocity of the faces that are apart from others."""
        found = self._found()
        boxes = _rows([p.box for p in found])
        touched = (overlaps(boxes, boxes) > 0).sum(axis=1) > 1
        for person, touches in zip(found, touched, strict=True):
            if touches or not self._time > person.apart:
                continue
            moved = (person.box - person.place).reshape(2, 2).mean(axis=0)
            now = moved / (self._time - person.apart)
            velocity = _STEADY * person.velocity + (1 - _STEADY) * now
            settled = {"place": person.box, "apart": self._time, "velocity": velocity}
            self._keep(dataclasses.replace(person, **settled), self._results[person.id])

    def _found(self):
        """The faces that are found in this frame."""
        return [p for p in self.known if self._results[p.id].status != "lost"]

    def _distance(self, box, person):
        """From a box to the place of a lost face, inf where it cannot be that face."""
        sides = [np.sqrt(np.prod(b[2:] - b[:2])) for b in (box, person.place)]
        if max(sides) > _SIZES * min(sides):
            return math.inf
        places = _rows([person.box, person.expected_apart(self._time)])
        away = (places - box).reshape(2, 2, 2).mean(axis=1)
        distance = np.linalg.norm(away, axis=1).min() / sides[1]
        reach = _REACH + _SPREADING * (self._time - person.found)
        return distance if distance <= reach else math.inf


def _rows(boxes: Sequence[np.ndarray]) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)


def _assigned(gain: np.ndarray, allowed: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of a row and a column, each used once at most, of the greatest total gain."""
    if allowed.sum() <= 1:
        yield from ((int(row), int(column)) for row, column in np.argwhere(allowed))
        return
    costs = -np.where(allowed, gain, -1e6)
    for row, column in zip(*scipy.optimize.linear_sum_assignment(costs), strict=True):
        if allowed[row, column]:
            yield int(row), int(column)
