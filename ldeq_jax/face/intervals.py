"""Confidence intervals of the change from one method to another, by bootstrap over videos.

SciPy's BCa bootstrap does the work; what is added is the widening for few videos, and results where
BCa has none.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit
from scipy.stats import DegenerateDataWarning, bootstrap


class Interval(NamedTuple):
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class Change(NamedTuple):
    """A second method against a first, over the same videos; below 0 where the second is lower."""

    absolute: Interval
    """mean(second) - mean(first)."""
    relative: Interval
    """mean(second) / mean(first) - 1."""


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    confidence: float = 0.95,
    num_samples: int = 10_000,
    seed: int = 0,
) -> Change:
    """Change of a mean over videos from one method to another, with confidence intervals.

    Videos are drawn with replacement, both methods' results of a video together, so that
    differences between videos do not blur the comparison. The intervals are BCa (bias-corrected and
    accelerated), widened as Student's t is wider than the normal distribution, because few videos
    underestimate the true spread. Below about 20 videos they are still a little narrow: with 8
    videos of skewed results, intervals of 95 % contain the truth in about 90 % of cases.

    Args:
        first: (B,) results of the method to compare with, one per video.
        second: (B,) results of the other method on the same videos.
        confidence: probability of the intervals, in (0, 1).
        num_samples: how many times videos are drawn.
        seed: of the draws; equal seeds give equal intervals.

    Returns:
        The change of the mean, absolute and relative. All NaN with a NaN in either (no video is
        dropped) or without any video; bounds of NaN for one video; a relative change of NaN where
        the mean of `first` is 0, and its bounds where that of a draw is.

    Raises:
        ValueError: the results are not two rows of one length, or `confidence` is not in (0, 1).

    Reference:
        Efron, Better bootstrap confidence intervals, JASA 1987; the widening: Hesterberg, What
        teachers should know about the bootstrap, The American Statistician 2015 (sec. 5.3).
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"results must be of the same videos, (B,) each, got {first.shape} and {second.shape}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1 (0.95, say), got {confidence}")
    if not first.size or not np.isfinite([first, second]).all():
        unknown = Interval(np.nan, np.nan, np.nan)
        return Change(unknown, unknown)

    def absolute(old, new, axis=-1):
        return new.mean(axis=axis) - old.mean(axis=axis)

    def relative(old, new, axis=-1):
        old, new = old.mean(axis=axis), new.mean(axis=axis)
        return np.divide(new, old, out=np.full_like(old, np.nan), where=old != 0) - 1

    draws = {"num_samples": num_samples, "seed": seed}
    return Change(
        *(_interval((first, second), of, confidence, **draws) for of in (absolute, relative))
    )


def _interval(results, statistic, confidence, num_samples, seed):
    """Interval of a statistic of paired results, each (B,); see `paired_bootstrap`."""
    value, count = float(statistic(*results)), len(results[0])
    if count == 1 or np.isnan(value):
        return Interval(value, np.nan, np.nan)  # one video shows no spread
    tail = np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - confidence) / 2)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            results,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=num_samples,
            confidence_level=1 - 2 * ndtr(tail),
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = found.confidence_interval
    if np.isnan([low, high]).any():  # BCa has none where all draws are equal
        low, high = np.quantile(found.bootstrap_distribution, [ndtr(tail), 1 - ndtr(tail)])
    return Interval(value, float(low), float(high))
