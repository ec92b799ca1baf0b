"""From what the members find in all windows to labels: fused, smoothed, judged."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.labelling.choice import DROP, EASY, HARD, Measures, Rules, faults, measure, rank
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
        faults: why the rules drop it; () if they keep it.
        ranked: "easy" or "hard" by the rules, also if they drop it; "" where there are no labels.
        choice: made by hand, "keep", "drop", "easy" or "hard"; "" for none.
    """

    window: Window
    points: np.ndarray
    disagreement: np.ndarray
    weights: np.ndarray
    strength: np.ndarray
    measures: Measures | None
    faults: tuple[str, ...]
    ranked: str = ""
    choice: str = ""

    @property
    def split(self) -> str:
        """List that it is in, "easy" or "hard"; "" if it is dropped."""
        if self.choice == DROP or not self.choice and self.faults:
            return ""
        return self.choice if self.choice in (EASY, HARD) else self.ranked

    @property
    def kept(self) -> bool:
        """Whether it is in the set."""
        return bool(self.split)

    @property
    def reason(self) -> str:
        """Why it is dropped, or kept although the rules drop it; "" if nothing is against it."""
        said = "; ".join(self.faults)
        if not self.choice:
            return said
        if self.choice == DROP:
            return "dropped by hand" + (f"; {said}" if said else "")
        return f"kept by hand although {said}" if said else ""


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
    choices: Mapping[str, str],
) -> Labels:
    """Fuses, smooths and judges.

    A choice changes the window that it is made for, and no other: the ranking of the windows is
    that of the rules alone.

    Args:
        windows: with what the members find in them, by their IDs.
        ensemble: the members.
        rules: which windows are kept, and which are hard.
        strongest: smoothing at most.
        choices: made by hand, "keep", "drop", "easy" or "hard" by the windows' IDs.

    Raises:
        UserError: a window without labels is to be kept.
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
    ranked = rank(
        {id: window.measures for id, window in labelled.items() if window.measures is not None},
        [id for id, window in labelled.items() if window.faults],
        rules,
    )
    labelled = {
        id: dataclasses.replace(window, ranked=ranked.get(id, ""), choice=choices.get(id, ""))
        for id, window in labelled.items()
    }
    for id, made in labelled.items():
        if made.measures is None and made.choice not in ("", DROP):
            raise UserError(
                f"{id} has no labels that could be kept ({'; '.join(made.faults)}): apply a file "
                f"in which it is not {made.choice}"
            )
    return Labels(windows=labelled, habits=known)


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
