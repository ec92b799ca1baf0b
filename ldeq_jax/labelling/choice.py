"""Which windows are kept, and which of those are easy and which are hard."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.confidence import face_size

EASY, HARD = "easy", "hard"
KEEP, DROP = "keep", "drop"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What a window must be to be kept, and to be easy.

    Attributes:
        most_disagreement: percent of the eye distance: mean over frames and landmarks.
        most_in_a_frame: the same in the worst frame: mean over landmarks.
        most_lost: share of the frames in which a member may not find the face.
        least_face: pixels of the written video, the root of the area of the landmarks' extent, in
            the frame where it is smallest.
        darkest: grey level of 255 that the face has at least, mean over the frames.
        hard_motion: percent of the face size per frame from which a window is hard.
        hard_disagreement: percent of the eye distance from which a window is hard. If both are
            None, the half that moves and disagrees more is hard.

    Raises:
        UserError: a value is out of its range.
    """

    most_disagreement: float = 4.0
    most_in_a_frame: float = 10.0
    most_lost: float = 0.05
    least_face: float = 48.0
    darkest: float = 25.0
    hard_motion: float | None = None
    hard_disagreement: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= 0:
                raise UserError(f"{field.name} must be 0 or more, not {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
    """Figures of a labelled window.

    Attributes:
        motion: root-mean-square way of the landmarks from frame to frame, percent of the face size.
        disagreement: mean over frames and landmarks, percent of the eye distance.
        worst_frame: the same of the frame in which it is greatest.
        face: pixels, of the smallest face.
        brightness: mean grey level of the face.
        lost: by the name of a member, in how many frames it does not find the face.
        frames: of the window.
    """

    motion: float
    disagreement: float
    worst_frame: float
    face: float
    brightness: float
    lost: dict[str, int]
    frames: int


def measure(
    points: np.ndarray,
    disagreement: np.ndarray,
    *,
    brightness: np.ndarray,
    found: np.ndarray,
    names: Sequence[str],
) -> Measures:
    """Figures of a window.

    Args:
        points: (T, K, 2) its labels.
        disagreement: (T, K) percent of the eye distance.
        brightness: (T,) grey level of the face.
        found: (M, T) whether a member finds the face.
        names: of the members.
    """
    sizes = face_size(points)
    steps = np.square(np.diff(points, axis=0)).sum(axis=-1).mean(axis=-1) / sizes[1:] ** 2
    return Measures(
        motion=100 * float(np.sqrt(steps.mean())),
        disagreement=float(disagreement.mean()),
        worst_frame=float(disagreement.mean(axis=1).max()),
        face=float(sizes.min()),
        brightness=float(brightness.mean()),
        lost={name: int((~ok).sum()) for name, ok in zip(names, found, strict=True)},
        frames=len(points),
    )


def faults(measures: Measures, rules: Rules) -> list[str]:
    """Why a window is dropped, in words; empty if it is kept."""
    found = []
    if measures.disagreement > rules.most_disagreement:
        found.append(
            f"the members disagree by {measures.disagreement:.1f} %, more than "
            f"{rules.most_disagreement:g}"
        )
    if measures.worst_frame > rules.most_in_a_frame:
        found.append(
            f"they disagree by {measures.worst_frame:.1f} % in one frame, more than "
            f"{rules.most_in_a_frame:g}"
        )
    for name, frames in measures.lost.items():
        if frames > rules.most_lost * measures.frames:
            found.append(f"{name} does not find the face in {frames} of {measures.frames} frames")
    if measures.face < rules.least_face:
        found.append(f"the face has {measures.face:.0f} pixels, less than {rules.least_face:g}")
    if measures.brightness < rules.darkest:
        found.append(
            f"it is dark, grey level {measures.brightness:.0f}, less than {rules.darkest:g}"
        )
    return found


def divide(windows: dict[str, Measures], rules: Rules) -> dict[str, str]:
    """Easy or hard, by the window's ID.

    With thresholds a window is hard that reaches one of them. Without, windows are ranked by motion
    and by disagreement, and those whose ranks have the greater sum are hard: half of them, one less
    if their number is odd. Ties go by motion, then by ID.

    Args:
        windows: the figures of those that are kept.
        rules: the thresholds.
    """
    limits = rules.hard_motion, rules.hard_disagreement
    if limits != (None, None):
        motion, disagreement = (np.inf if limit is None else limit for limit in limits)
        return {
            id: HARD if m.motion >= motion or m.disagreement >= disagreement else EASY
            for id, m in windows.items()
        }
    ids = sorted(windows)
    ranks = dict.fromkeys(ids, 0)
    for name in ("motion", "disagreement"):
        in_order = sorted(ids, key=lambda id: (getattr(windows[id], name), id))
        for rank, id in enumerate(in_order):
            ranks[id] += rank
    in_order = sorted(ids, key=lambda id: (ranks[id], windows[id].motion, id))
    easy = set(in_order[: len(ids) - len(ids) // 2])
    return {id: EASY if id in easy else HARD for id in windows}


def rank(windows: Mapping[str, Measures], dropped: Collection[str], rules: Rules) -> dict[str, str]:
    """Easy or hard as `divide` says of the windows that are kept, by the ID; and of the others.

    A window that is dropped gets what it would get if it alone was kept as well.

    Args:
        windows: the figures of all.
        dropped: IDs of those that are not kept.
        rules: the thresholds.
    """
    away = set(dropped)
    kept = {id: measures for id, measures in windows.items() if id not in away}
    return divide(kept, rules) | {
        id: divide(kept | {id: measures}, rules)[id]
        for id, measures in windows.items()
        if id in away
    }
