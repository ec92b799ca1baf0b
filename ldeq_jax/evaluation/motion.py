"""Whether real motion survives: amplitude and lag of mouth, eyes and head, over all videos.

`face.fidelity` measures them in one video. A mean over videos is weighted with how much the labels
move, so that it is one regression over all videos, and videos where nothing moves have no part.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ldeq_jax.evaluation.measured import Measured
from ldeq_jax.evaluation.settings import ALONE, Setting
from ldeq_jax.face.fidelity import SIGNALS, weighted_mean
from ldeq_jax.face.intervals import Interval, paired_bootstrap
from ldeq_jax.report.tables import markdown_table


def videos_with_motion(measured: Measured) -> dict[str, int]:
    """Number of videos in which each signal moves in the labels; without those that never do."""
    counts = (measured.motion > 0).sum(axis=0).tolist()
    return {name: count for name, count in zip(SIGNALS, counts, strict=True) if count}


def motion_means(measured: Measured, setting: Setting) -> dict[str, float]:
    """Means of one setting over videos, for a file; NaN for a signal that never moves.

    Returns:
        By name, such as "mouth_amplitude": amplitude against the labels; "mouth_kept": the same
        relative to the frames alone; "mouth_lag_ms": milliseconds by which it is late.
    """
    scores, alone = measured.scores[setting], measured.scores[ALONE]
    means = {}
    for column, name in enumerate(SIGNALS):
        weights = measured.motion[:, column]
        moving = weights > 0
        amplitude, lag, before = (
            float(np.average(values[moving, column], weights=weights[moving]))
            if moving.any()
            else math.nan
            for values in (scores.amplitude, scores.lag, alone.amplitude)
        )
        means[f"{name}_amplitude"] = amplitude
        means[f"{name}_kept"] = amplitude / before if before else math.nan
        means[f"{name}_lag_ms"] = 1000 * lag
    return means


def motion_table(measured: Measured, settings: Iterable[Setting]) -> str:
    """Markdown table, one row per setting, with intervals of 95 %; empty where nothing moves."""
    rows = []
    for setting in settings if videos_with_motion(measured) else ():
        scores, alone = measured.scores[setting], measured.scores[ALONE]
        row: dict[str, Any] = {"method": setting.name, "NMF": f"{np.mean(scores.nmf):.1f}"}
        for name in videos_with_motion(measured):
            column = SIGNALS.index(name)
            weights = measured.motion[:, column]
            moving = weights > 0
            parts = (weights[moving] * one.amplitude[moving, column] for one in (alone, scores))
            kept = paired_bootstrap(*parts).relative
            lag = weighted_mean(1000 * scores.lag[:, column], weights)
            amplitude = weighted_mean(scores.amplitude[:, column], weights)
            row[name] = f"{amplitude.value:.3f}"
            row[f"{name}, of alone (%)"] = (
                "-" if setting == ALONE else _text(Interval(*(100 * (1 + x) for x in kept)))
            )
            row[f"{name} lag (ms)"] = _text(lag)
        rows.append(row)
    return markdown_table(rows)


def _text(interval: Interval) -> str:
    value, low, high = interval
    if not math.isfinite(value):
        return ""
    return f"{value:.1f}" + (f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) else "")
