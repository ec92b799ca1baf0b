"""Whether real motion survives: amplitude and lag of mouth, eyes and head, over all videos.

`face.fidelity` measures them in one video. Means are over the videos in which the labels move, and
each of these counts the same: weighted by their motion, a laugh would hide what becomes of speech.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ldeq_jax.evaluation.measured import Measured
from ldeq_jax.evaluation.settings import ALONE, Setting
from ldeq_jax.face.fidelity import SIGNALS
from ldeq_jax.face.intervals import paired_bootstrap
from ldeq_jax.report.tables import markdown_table


def videos_with_motion(measured: Measured) -> dict[str, int]:
    """Number of videos in which each signal moves in the labels; without those that never do."""
    counts = (measured.motion > 0).sum(axis=0).tolist()
    return {name: count for name, count in zip(SIGNALS, counts, strict=True) if count}


def motion_means(measured: Measured, setting: Setting) -> dict[str, float]:
    """Means of one setting over videos, for a file; NaN for a signal that never moves.

    Returns:
        By name, such as "mouth_amplitude": amplitude against the labels; "mouth_kept": the same
        relative to the frames alone; "mouth_lag_ms": milliseconds by which it is later than the
        labels; "mouth_delay_ms": and than the frames alone.
    """
    scores, alone = measured.scores[setting], measured.scores[ALONE]
    means = {}
    for column, name in enumerate(SIGNALS):
        moving = measured.motion[:, column] > 0
        amplitude, lag, full, start = (
            float(values[moving, column].mean()) if moving.any() else math.nan
            for values in (scores.amplitude, scores.lag, alone.amplitude, alone.lag)
        )
        means[f"{name}_amplitude"] = amplitude
        means[f"{name}_kept"] = amplitude / full if full else math.nan
        means[f"{name}_lag_ms"] = 1000 * lag
        means[f"{name}_delay_ms"] = 1000 * (lag - start)
    return means


def motion_table(measured: Measured, settings: Iterable[Setting]) -> str:
    """`motion_rows` as a Markdown table; empty where nothing moves."""
    return markdown_table(motion_rows(measured, settings))


def motion_rows(measured: Measured, settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """One row per setting, with intervals of 95 %; none where nothing moves."""
    rows, moved = [], videos_with_motion(measured)
    for setting in settings if moved else ():
        scores, alone = measured.scores[setting], measured.scores[ALONE]
        means = motion_means(measured, setting)
        row: dict[str, Any] = {"method": setting.name, "NMF": f"{np.mean(scores.nmf):.1f}"}
        for name in moved:
            column = SIGNALS.index(name)
            moving = measured.motion[:, column] > 0
            kept, delay = (
                paired_bootstrap(first[moving, column], second[moving, column])
                for first, second in ((alone.amplitude, scores.amplitude), (alone.lag, scores.lag))
            )
            row[name] = means[f"{name}_amplitude"]
            row[f"{name}, of alone (%)"] = _text(setting, [100 * (1 + x) for x in kept.relative])
            row[f"{name} lag (ms)"] = f"{means[f'{name}_lag_ms']:.1f}"
            row[f"{name}, after alone (ms)"] = _text(setting, [1000 * x for x in delay.absolute])
        rows.append(row)
    return rows


def _text(setting: Setting, interval: Sequence[float]) -> str:
    value, low, high = interval
    if setting == ALONE:
        return "-"
    if not math.isfinite(value):
        return ""
    return f"{value:.1f}" + (f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) else "")
