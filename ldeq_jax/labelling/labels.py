"""From what the members find in all windows to labels: fused, smoothed, judged."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ldeq_jax.labelling.choice import Measures, Rules, divide, faults, measure
from ldeq_jax.labelling.fusion import Found, Habits, fuse, habits
from ldeq_jax.labelling.members import Ensemble
from ldeq_jax.labelling.smoothing import smooth
from ldeq_jax.labelling.windows import Window
from ldeq_jax.labelling.work import Findings


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """A window with its labels.

    Attributes:
        window: of the film.
        points: (T, K, 2) labels, pixels of its video; NaN where they could not be made.
        disagreement: (T, K) of the members, percent of the eye distance.
        weights: (M,) of the members.
        strength: (K,) of the smoothing, see `smoothing.Smoothed`.
        measures: figures of it; None where there are no labels.
        faults: why it is dropped; () if it is kept.
        split: "easy" or "hard"; "" if it is dropped.
    """

    window: Window
    points: np.ndarray
    disagreement: np.ndarray
    weights: np.ndarray
    strength: np.ndarray
    measures: Measures | None
    faults: tuple[str, ...]
    split: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is in the set."""
        return not self.faults


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """All windows with their labels.

    Attributes:
        windows: by their IDs.
        habits: of the members; None where nothing was found.
    """

    windows: dict[str, Labelled]
    habits: Habits | None


def label_windows(
    windows: Mapping[str, tuple[Window, Findings]],
    ensemble: Ensemble,
    rules: Rules,
    strongest: float,
) -> Labels:
    """Fuses, smooths and judges.

    Args:
        windows: with what the members find in them, by their IDs.
        ensemble: the members.
        rules: which windows are kept, and which are hard.
        strongest: smoothing at most.
    """
    whole = {
        id: Found(points=findings.points, spread=findings.spread)
        for id, (_, findings) in windows.items()
        if np.isfinite(findings.points).all()
    }
    own, corners = ensemble.own, ensemble.schema.eye_corners
    known = habits(list(whole.values()), own, corners) if whole else None
    labelled = {}
    for id, (window, findings) in windows.items():
        if known is None or id not in whole:
            labelled[id] = _unlabelled(window, findings, ensemble)
            continue
        fused = fuse(whole[id], known, own, corners)
        smoothed = smooth(fused.points, fused.jitter, strongest)
        measures = measure(
            smoothed.points,
            fused.disagreement,
            brightness=findings.brightness,
            found=findings.ok,
            names=[member.name for member in ensemble.members],
        )
        labelled[id] = Labelled(
            window=window,
            points=smoothed.points,
            disagreement=fused.disagreement,
            weights=fused.weights,
            strength=smoothed.strength,
            measures=measures,
            faults=tuple(faults(measures, rules)),
        )
    kept = {
        id: window.measures
        for id, window in labelled.items()
        if window.kept and window.measures is not None
    }
    splits = divide(kept, rules)
    return Labels(
        windows={
            id: dataclasses.replace(window, split=splits.get(id, ""))
            for id, window in labelled.items()
        },
        habits=known,
    )


def _unlabelled(window: Window, findings: Findings, ensemble: Ensemble) -> Labelled:
    """A window for which some member gives no landmarks."""
    finite = np.isfinite(findings.points).all(axis=(2, 3))
    reasons = [
        f"{member.name} gives no landmarks in {int((~there).sum())} of {len(window)} frames"
        for member, there in zip(ensemble.members, finite, strict=True)
        if not there.all()
    ]
    shape = findings.points.shape[1:]
    return Labelled(
        window=window,
        points=np.full(shape, np.nan),
        disagreement=np.full(shape[:2], np.nan),
        weights=np.full(len(finite), np.nan),
        strength=np.full(shape[1], np.nan),
        measures=None,
        faults=tuple(reasons),
    )
