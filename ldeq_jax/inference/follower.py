"""Faces in frame after frame: where each is expected, when it is lost: `Follower`.

A box is needed to begin with. From then on every crop is taken around the landmarks of the frame
before, and boxes, where there are any, only say that the face is still there: a detector's boxes
jitter, and landmarks jitter with their crop. Each face is followed by itself; what looks the model
takes at a face is decided here, and the looks at all faces of a frame are one batch. Which faces
there are, and which is which, is known to `inference.tracker`.
"""

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.face.boxes import box_fault, check_boxes
from ldeq_jax.face.crops import box_of_landmarks
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.doubt import (
    looks_agree,
    same_face,
    second_box,
    why_not_a_face,
    why_unlikely,
)
from ldeq_jax.inference.pictures import on_device
from ldeq_jax.inference.videos import VideoPredictor
from ldeq_jax.model.rwr import USUAL_INTERVAL, RwRConfig, RwRState

UNDECODED = "frame cannot be decoded"
_CHECK_EVERY = 10  # frames
_LONGEST_WAIT = 1.0  # seconds; later the face may be anywhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowerState:
    """What a tracker passes from one frame to the next.

    Attributes:
        trouble: why there is no face in the frame, "" if there is.
        box: (4,) where the face is expected in the next frame; None if it is lost.
        memory: of the model; None for a face that is still to be found at its box, which was given
            with a frame that could not be decoded.
        frames: number of frames since the face was found at a box.
        waited: seconds since the last frame that could be decoded.
    """

    trouble: str = ""
    box: np.ndarray | None = None
    memory: RwRState | None = None
    frames: int = 0
    waited: float = 0.0


class Look(NamedTuple):
    """A look of the model at a face.

    Attributes:
        box: (4,) that the crop is taken around.
        memory: of the model, from the frame before; None for a still.
        interval: seconds since that frame.
        alone: whether it is a second look, without recurrence.
    """

    box: np.ndarray
    memory: RwRState | None = None
    interval: float | None = None
    alone: bool = False


Looks = Generator[Look, tuple[Landmarks, RwRState], tuple[Landmarks, FollowerState]]


class Follower:
    """Finds the landmarks of faces in frame after frame, each by itself.

    The face is lost when its landmarks are not finite, have shrunk within a frame to less than half
    their box or to a few pixels, or lie by more than half outside the frame; when a calibrated
    model sees no face there; and, checked in every tenth frame without a box, when a second look
    through another crop disagrees.

    A frame that cannot be decoded is a frame without a face, but the face is not lost by it: in the
    next frame that can be decoded it is searched where it was, with a second look, as long as no
    more than a second is missed in a row.

    Args:
        config: the model's, its number of landmarks filled in.
        variables: of the model.
        recurrence: how a frame depends on the one before; None solves every frame by itself, in a
            crop that follows the face all the same.
        crop_at_boxes: take each crop around the box given with its frame.
    """

    def __init__(
        self,
        config: Config,
        variables: dict[str, Any],
        recurrence: RwRConfig | None,
        *,
        crop_at_boxes: bool = False,
    ):
        variables = on_device(variables)  # once for both
        self._predictor = VideoPredictor(config, variables, recurrence)
        self._alone = VideoPredictor(config, variables, None)
        self._crop_at_boxes = crop_at_boxes

    def step(
        self,
        frame: np.ndarray | None,
        state: FollowerState | None = None,
        box: np.ndarray | None = None,
        interval: float = USUAL_INTERVAL,
    ) -> tuple[Landmarks, FollowerState]:
        """Finds the face in one frame.

        Args:
            frame: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1]; None for a frame that could
                not be decoded.
            state: what the step on the last frame returned; None for a first frame.
            box: (4,) or longer, x1 y1 x2 y2, where a detector or a user sees the face, in frame
                pixels; NaN where it sees none; None where nobody has looked. A face that is not
                being followed is searched at its box; so is one that is followed elsewhere.
            interval: seconds since the last frame, decoded or not. It does not count in a first
                frame.

        Returns:
            The face of this frame, without leading axes, NaN and not ok where it was not found; and
            the state for the next, whose ``trouble`` says why.

        Raises:
            TypeError: the frame is neither uint8 nor floating.
            ValueError: it has another shape or range, or the interval is negative.
            UserError: `face.boxes.check_boxes` refuses the box.
        """
        return self.steps(frame, [state], [box], interval)[0]

    def steps(
        self,
        frame: np.ndarray | None,
        states: Sequence[FollowerState | None],
        boxes: Sequence[np.ndarray | None],
        interval: float = USUAL_INTERVAL,
    ) -> list[tuple[Landmarks, FollowerState]]:
        """`step` for several faces of one frame, whose looks are taken together."""
        faces = [
            self._looks(frame, state, box, interval)
            for state, box in zip(states, boxes, strict=True)
        ]
        results: dict[int, tuple[Landmarks, FollowerState]] = {}
        answers: dict[int, Any] = dict.fromkeys(range(len(faces)))
        while answers:
            wanted: dict[int, Look] = {}
            for number, answer in answers.items():
                try:
                    wanted[number] = faces[number].send(answer)
                except StopIteration as end:
                    results[number] = end.value
            answers = {}
            for alone, predictor in ((False, self._predictor), (True, self._alone)):
                looks = {n: look for n, look in wanted.items() if look.alone == alone}
                if looks and frame is not None:
                    columns = list(zip(*looks.values(), strict=True))[:3]
                    answers |= zip(looks, predictor.steps(frame, *columns), strict=True)
        return [results[number] for number in range(len(faces))]

    def warm_up(self, faces: int) -> None:
        """Compiles the programs of up to so many faces."""
        image, box = np.zeros((64, 64, 3), np.uint8), np.array([16.0, 16, 48, 48])
        for predictor in (self._predictor, self._alone):
            for count in (1, 2, 4, 8)[: (min(faces, 8) - 1).bit_length() + 1]:
                nothing = [None] * count
                first = predictor.steps(image, [box] * count, nothing, nothing)
                predictor.steps(image, [box] * count, [state for _, state in first], nothing)

    def _looks(
        self,
        frame: np.ndarray | None,
        state: FollowerState | None,
        box: np.ndarray | None,
        interval: float,
    ) -> Looks:
        """What `step` does, as a generator that asks for looks of the model."""
        given = None if box is None else np.asarray(box, np.float64)[:4]
        state = None if state is None or state.box is None else state
        if frame is None:
            return self._absent, _past_undecoded(state, given, interval)
        if given is not None and not np.isfinite(given).all():
            return self._lost("no box")
        if state is not None and state.memory is None:
            given, state = state.box if given is None else given, None
        if given is not None:
            (given,) = check_boxes([given], frame.shape)
        if state is not None and state.box is not None and given is not None:
            state = state if same_face(state.box, given) else None
        if state is None and given is None:
            return self._lost("not found again without a box")

        at_box = given is not None and (self._crop_at_boxes or state is None)
        where: np.ndarray = given if at_box else state.box  # type: ignore[assignment, union-attr]
        memory = None if state is None else state.memory
        crop = self._predictor.config.data.crop
        since = interval if state is None else interval + state.waited
        face, now = yield Look(where, memory, since)
        trouble = why_not_a_face(face.points, where, frame.shape, crop)
        trouble = trouble or why_unlikely(face.confidence)
        if state is None and not trouble and not self._crop_at_boxes:
            # A box from elsewhere is not quite what crops are taken around: look again.
            where = box_of_landmarks(face.points, crop)
            face, now = yield Look(where)
            trouble = why_not_a_face(face.points, where, frame.shape, crop)
            trouble = trouble or why_unlikely(face.confidence)
        frames = 0 if state is None else state.frames + 1
        doubtful = frames % _CHECK_EVERY == 0 or (state is not None and state.waited > 0)
        if not trouble and given is None and doubtful:
            trouble = yield from self._second_look(frame, face, where)
        if trouble:
            return self._lost(trouble)
        expected = box_of_landmarks(face.points, crop)
        found = dataclasses.replace(face, box=where, ok=np.array(True))
        return found, FollowerState(box=expected, memory=now, frames=frames)

    @property
    def num_landmarks(self) -> int:
        """K."""
        return self._predictor.config.model.num_landmarks

    @property
    def _absent(self):
        return Landmarks.absent(self.num_landmarks)

    def _lost(self, trouble):
        return self._absent, FollowerState(trouble=trouble)

    def _second_look(self, frame, face, box):
        """Why a second look through another crop shows no face in the same place, or ""."""
        box = second_box(box)
        if fault := box_fault(box, frame.shape):
            return f"the box of a second look {fault}"
        other, _ = yield Look(box, alone=True)
        if trouble := why_unlikely(other.confidence):
            return trouble
        return "" if looks_agree(face.points, other.points) else "another crop shows it elsewhere"


def _past_undecoded(state, given, interval):
    """The state after a frame that could not be decoded, whose box may be given."""
    waited = interval + (0 if state is None else state.waited)
    if state is not None and waited <= _LONGEST_WAIT:
        return dataclasses.replace(state, trouble=UNDECODED, waited=waited)
    if state is None and given is not None and np.isfinite(given).all():
        return FollowerState(trouble=UNDECODED, box=given, waited=waited)
    return FollowerState(trouble=UNDECODED)
