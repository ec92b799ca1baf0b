"""Tables and rows of an evaluation on videos: means over videos of chosen settings, or of all."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ldeq_jax.evaluation.choice import Choice
from ldeq_jax.evaluation.measured import Measured, mean_of_known
from ldeq_jax.evaluation.motion import motion_means
from ldeq_jax.evaluation.scores import LAGS, Scores
from ldeq_jax.evaluation.settings import Setting
from ldeq_jax.face import intervals
from ldeq_jax.report.tables import markdown_table

# What columns of `choice_rows` mean that their headers do not say.
EXPLAINED = (
    "NMF without label jitter: what is left when the estimated jitter of the labels is taken away. "
    f"Drift: how far the mean error of {LAGS[-1]} frames is from that of the {LAGS[-1]} before, "
    "percent of the face size. Evaluations: of the network's map, per frame."
)


def choice_table(measured: Measured, choice: Choice) -> str:
    """`choice_rows` as a Markdown table."""
    return markdown_table(choice_rows(measured, choice), digits=3)


def choice_rows(measured: Measured, choice: Choice) -> list[dict[str, Any]]:
    """One row per chosen setting; an asterisk marks an NME above the limit.

    The change of flicker is against the best causal filter, with an interval of 95 %.
    """
    rows, compared = [], measured.scores[choice.best_causal_filter]
    for setting in choice.settings:
        scores = measured.scores[setting]
        change = intervals.paired_bootstrap(compared.nmf, scores.nmf).relative
        against = "-" if setting == choice.best_causal_filter else _percent(change)
        above = np.sqrt(np.maximum(scores.nmf**2 - measured.jitter**2, 0))
        speed = measured.frames_per_second.get(setting, math.nan)
        rows.append(
            {
                "method": setting.name + "*" * (setting in choice.above),
                "setting": setting.values,
                "NME (%)": 100 * float(np.mean(scores.nme)),
                "of face size (%)": 100 * float(np.mean(scores.nme_face)),
                "NMF": f"{np.mean(scores.nmf):.1f}",
                f"against {choice.best_causal_filter.name} (%)": against,
                "NMF without label jitter": f"{_mean(above, scores):.1f}",
                f"drift over {LAGS[-1]} frames (%)": 100 * _mean(scores.nad[:, -1], scores),
                "evaluations": f"{_mean(scores.num_evaluations, scores):.2f}",
                "frames/s": f"{speed:.0f}" if math.isfinite(speed) else "",
            }
        )
    return rows


def subset_table(measured: Measured, settings: Iterable[Setting]) -> str:
    """`subset_rows` as a Markdown table; empty without subsets."""
    return markdown_table(subset_rows(measured, settings), digits=3)


def subset_rows(measured: Measured, settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """NME and NMF of the subsets, one row per setting; none without subsets."""
    subsets = measured.subsets()
    rows = []
    for setting in settings if subsets else ():
        row: dict[str, Any] = {"method": setting.name, "setting": setting.values}
        for name, part in subsets.items():
            scores = part.scores[setting]
            row[f"NME (%), {len(part.indices)} {name}"] = 100 * float(np.mean(scores.nme))
            row[f"NMF, {name}"] = f"{np.mean(scores.nmf):.1f}"
        rows.append(row)
    return rows


def setting_rows(
    measured: Measured, settings: Sequence[Setting] | None = None
) -> list[dict[str, Any]]:
    """Means over videos of some settings, or of all, for a file."""
    rows = []
    for setting in measured.scores if settings is None else settings:
        scores = measured.scores[setting]
        row = {
            "method": setting.name,
            "setting": setting.values,
            "videos": len(scores.nme),
            "nme_percent": 100 * float(np.mean(scores.nme)),
            "nme_face_percent": 100 * float(np.mean(scores.nme_face)),
            "nmf": float(np.mean(scores.nmf)),
            "evaluations_per_frame": _mean(scores.num_evaluations, scores),
            "frames_per_second": measured.frames_per_second.get(setting, math.nan),
        }
        row |= motion_means(measured, setting)
        deviations = (_mean(column, scores) for column in scores.nad.T)
        rows.append(row | {f"nad_{m}": nad for m, nad in zip(LAGS, deviations, strict=True)})
    return rows


def _mean(values: np.ndarray, scores: Scores) -> float:
    """Mean over the videos that are long enough for the measure; NaN for a setting that failed."""
    return mean_of_known(values) if np.isfinite(scores.nme).all() else math.nan


def _percent(change: intervals.Interval) -> str:
    value, low, high = (100 * part for part in change)
    if not math.isfinite(value):
        return ""
    return f"{value:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else "")
