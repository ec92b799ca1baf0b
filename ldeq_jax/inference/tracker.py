"""Following one face through a video: where it is looked for in each frame, and when it is lost.

A box is needed to begin with. From then on every crop is taken around the landmarks of the frame
before, and boxes, where there are any, only tell that the face is still there: a detector's boxes
jitter, and landmarks jitter with their crop.

A model always answers, face or no face, and its spread is much the same for both. What tells them
apart is a second look through another crop: a face stays in its place in the frame, and what the
model imagines where there is none goes along with the crop.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.face.boxes import box_fault, check_boxes
from ldeq_jax.face.crops import box_of_landmarks
from ldeq_jax.inference.pictures import on_device
from ldeq_jax.inference.videos import Track, VideoPredictor
from ldeq_jax.model.rwr import RwRConfig, RwRState

# Chosen on 18 films of one face, none of which is lost by them. A face's extent is 0.87 to 1.14 of
# the box of its crop. Seen through the other crop, the landmarks of a face on film lie about 1 % of
# the face size elsewhere, when it is badly blurred up to 12 %; of WFLW's hard photographs, 2 in 100
# lie farther. Landmarks that do nothing but go along with the crop would lie 15 % elsewhere: of 24
# cuts to a scene without a face, 23 were told in the first check, with recurrence.
_COLLAPSED = 0.5
_SMALLEST = 8
_DISAGREEMENT = 0.12
_CHECK_EVERY = 10
_OTHER_SHIFT, _OTHER_SIZE = 0.1, 1.1
_MISSED_AT_MOST = 30  # frames, a second of most videos; later the face may be anywhere
_UNDECODED = "frame cannot be decoded"


class Sighting(NamedTuple):
    """The face in one frame. NumPy arrays, NaN where it was not found.

    Attributes:
        landmarks: (K, 2) x then y, frame pixels.
        spread: (K,) standard deviation of each heatmap, frame pixels.
        box: (4,) x1 y1 x2 y2, frame pixels, that the crop was taken around.
        trouble: why there is no face, "" if there is.
    """

    landmarks: np.ndarray
    spread: np.ndarray
    box: np.ndarray
    trouble: str


class Following(NamedTuple):
    """What a frame with a face hands to the next.

    Attributes:
        box: (4,) where the face is expected.
        memory: of the model; None for a face that is still to be taken up at its box, given with a
            frame that could not be decoded.
        frames: number of frames since the face was taken up.
        missed: number of frames since the last that could be decoded.
    """

    box: np.ndarray
    memory: RwRState | None
    frames: int
    missed: int = 0


class FaceTracker:
    """Finds the landmarks of one face in frame after frame.

    The face is lost when its landmarks are not finite, have shrunk within a frame to less than half
    their box or to a few pixels, or lie by more than half outside the frame; and, tried in every
    tenth frame without a box, when a second look through another crop disagrees.

    A frame that cannot be decoded is a frame without a face, but the face is not lost by it: it is
    looked for where it was in the next frame that can be, with a second look, as long as no more
    than 30 (a second of most videos) are missed in a row.

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
        state: Following | None = None,
        box: np.ndarray | None = None,
    ) -> tuple[Sighting, Following | None]:
        """Finds the face in one frame.

        Args:
            frame: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1]; None for a frame that could
                not be decoded.
            state: what the step on the last frame returned; None for a first frame.
            box: (4,) or longer, x1 y1 x2 y2, where a detector or a user sees the face, in frame
                pixels; NaN where it sees none; None where nobody has looked. A face that is not
                being followed is taken up at its box; so is one that is followed elsewhere.

        Returns:
            The face of this frame, and the state for the next: None without a face, unless the
            frame could not be decoded.

        Raises:
            TypeError: the frame is neither uint8 nor floating.
            ValueError: it has another shape or range, or the box is refused by
                `inference.check_boxes`.
        """
        given = None if box is None else np.asarray(box, np.float64)[:4]
        if frame is None:
            return self._absent(_UNDECODED), _past_undecoded(state, given)
        if given is not None and not np.isfinite(given).all():
            return self._absent("no box"), None
        if state is not None and state.memory is None:
            given, state = state.box if given is None else given, None
        if given is not None:
            (given,) = check_boxes([given], frame.shape)
        if state is not None and given is not None and not _same_face(state.box, given):
            state = None
        if state is None and given is None:
            return self._absent("not found again without a box"), None

        at_box = given is not None and (self._crop_at_boxes or state is None)
        where, memory = (given if at_box else state.box), state and state.memory
        crop = self._predictor.config.data.crop
        track, now = self._predictor.step(frame, where, memory)
        trouble = _implausible(track, where, frame, crop)
        if state is None and not trouble and not self._crop_at_boxes:
            # A box from elsewhere is not quite what crops are taken around: look again.
            where = box_of_landmarks(track.landmarks, crop)
            track, now = self._predictor.step(frame, where)
            trouble = _implausible(track, where, frame, crop)
        frames = state.frames + 1 if state else 0
        doubtful = frames % _CHECK_EVERY == 0 or state.missed
        if not trouble and given is None and doubtful:
            trouble = self._imagined(frame, track, where)
        if trouble:
            return self._absent(trouble), None
        return (
            Sighting(track.landmarks, track.spread, where, ""),
            Following(box_of_landmarks(track.landmarks, crop), now, frames),
        )

    def _absent(self, trouble):
        landmarks = np.full((self._predictor.config.model.num_landmarks, 2), np.nan)
        return Sighting(landmarks, landmarks[:, 0], np.full(4, np.nan), trouble)

    def _imagined(self, frame, track, box):
        """Whether the landmarks go along with their crop; why they are none, or ""."""
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        centre, half = centre + _OTHER_SHIFT * 2 * half.max(), _OTHER_SIZE * half
        box = np.concatenate([centre - half, centre + half])
        if fault := box_fault(box, frame.shape):
            return f"the box of a second look {fault}"
        other, _ = self._alone.step(frame, box)
        away = np.mean(np.linalg.norm(other.landmarks - track.landmarks, axis=1))
        size = np.sqrt(np.prod(np.ptp(track.landmarks, axis=0)))
        return "" if away <= _DISAGREEMENT * size else "another crop shows it elsewhere"


def _past_undecoded(state, given):
    """The state after a frame that could not be decoded, whose box may be given."""
    if state is not None:
        missed = state.missed + 1
        return state._replace(missed=missed) if missed <= _MISSED_AT_MOST else None
    if given is not None and np.isfinite(given).all():
        return Following(given, None, 0, missed=1)
    return None


def _implausible(track: Track, box, frame, crop):
    """Why landmarks found around a box are no face's, or ""."""
    points = track.landmarks
    if not np.isfinite(points).all():
        return "its landmarks are not finite"
    sides, expected = np.ptp(points, axis=0), (box[2:] - box[:2]).max()
    if sides.max() < max(_SMALLEST, _COLLAPSED * expected) or sides.min() < 1:
        return f"its landmarks fall together, to {sides[0]:.0f} x {sides[1]:.0f} pixels"
    inside = (points >= 0).all(axis=1) & (points <= np.subtract(frame.shape[1::-1], 1)).all(axis=1)
    if np.mean(inside) < 0.5:
        return "it has left the frame"
    fault = box_fault(box_of_landmarks(points, crop), frame.shape)  # the next crop is taken there
    return f"the box of its landmarks {fault}" if fault else ""


def _same_face(box, other):
    """Whether two boxes are of one face: the centre of each lies in the other."""
    return all(
        (a[:2] <= (b[:2] + b[2:]) / 2).all() and ((b[:2] + b[2:]) / 2 <= a[2:]).all()
        for a, b in ((box, other), (other, box))
    )


class FaceTrack(NamedTuple):
    """What a tracker finds in T frames. NumPy arrays, NaN in frames without a face.

    Attributes:
        landmarks: (T, K, 2) float32 x then y, frame pixels.
        spread: (T, K) float32, as in `Sighting`.
        box: (T, 4) x1 y1 x2 y2 that each crop was taken around.
        trouble: (T,) text, why there is no face, "" if there is.
        seconds: (T,) that each frame took.
    """

    landmarks: np.ndarray
    spread: np.ndarray
    box: np.ndarray
    trouble: np.ndarray
    seconds: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """(T,) bool, True where there is a face."""
        return self.trouble == ""

    @property
    def losses(self) -> np.ndarray:
        """Numbers of the frames without a face that come just after one with it.

        Frames that could not be decoded do not count.
        """
        decoded = np.flatnonzero(self.trouble != _UNDECODED)
        ok = self.ok[decoded]
        return decoded[1:][ok[:-1] & ~ok[1:]]


def follow(
    trackers: Mapping[str, FaceTracker],
    frames: Iterable[np.ndarray | None],
    boxes: Iterable[np.ndarray | None],
) -> dict[str, FaceTrack]:
    """Runs several trackers over a video, reading it once.

    Args:
        trackers: by name.
        frames: T frames (H, W, 3) uint8 RGB, None for those that could not be decoded; one at a
            time is held.
        boxes: T boxes, as `FaceTracker.step` takes them.

    Returns:
        The track of each tracker.

    Raises:
        ValueError: there are more or fewer boxes than frames, or none; or a box is refused by
            `inference.check_boxes`.
    """
    states: dict[str, Following | None] = dict.fromkeys(trackers)
    rows: dict[str, list[tuple]] = {name: [] for name in trackers}
    for frame, box in zip(frames, boxes, strict=True):
        for name, tracker in trackers.items():
            start = time.perf_counter()
            face, states[name] = tracker.step(frame, states[name], box)
            taken = time.perf_counter() - start
            numbers = face.landmarks.astype(np.float32), face.spread.astype(np.float32)
            rows[name].append((*numbers, face.box, face.trouble, taken))
    return {
        name: FaceTrack(*(np.array(field) for field in zip(*of, strict=True)))
        for name, of in rows.items()
    }


def movement(landmarks: np.ndarray) -> float:
    """How far landmarks move from a frame to the next on average, as a part of the face size.

    It holds the face's own motion and the jitter of the landmarks: of two methods on one video, the
    one with less is the steadier, or lags behind.

    Args:
        landmarks: (T, K, 2); frames with a NaN are left out.

    Returns:
        Mean over landmarks and pairs of frames, divided by sqrt(w h) of the landmarks in the second
        frame; NaN without a pair.
    """
    points = np.asarray(landmarks, np.float64)
    way = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(axis=1)
    size = np.sqrt(np.prod(np.ptp(points[1:], axis=1), axis=-1))
    there = np.isfinite(way) & np.isfinite(size)
    return float(np.mean(way[there] / size[there])) if there.any() else float("nan")
