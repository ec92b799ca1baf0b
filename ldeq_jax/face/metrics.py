"""Errors of landmark predictions: NME of faces with FR and AUC, NME, NMF and NAD of videos.

Errors are fractions of the distance between the outer eye corners (0.0395 is the "3.95 %" of the
tables) or of the face size, the root of the area of the box around the face's landmarks; multiply
by 100 where they are printed. NMF alone is in percent of a 256-pixel face. Sums are taken in
float64. NumPy and SciPy only.

NaN means "no error could be measured". An error is NaN where a counted coordinate is, a NaN NME
counts as a failure in every reduction, and a video with a NaN on one counted frame has a NaN for a
result: a method gains nothing by leaving a face out. Faces that are not there at all (padding,
frames without labels) are taken out with a mask. What lies under a False of the mask of a video is
never used, so that padding changes no bit of a result.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import simpson
from scipy.special import ndtr, stdtrit
from scipy.stats import DegenerateDataWarning, bootstrap

_AUC_POINTS = 1001
_PERCENT_OF_256 = 100 * 256


def nme(
    predicted: ArrayLike,
    target: ArrayLike,
    eye_corners: tuple[int, int],
    mask: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Normalised mean error of each face, as a fraction of the inter-ocular distance.

    The mean over landmarks of ``||predicted - target||``, divided by the distance between the outer
    eye corners of the target. Scaling, turning or shifting both sets of points alike changes
    nothing, so any pixel frame will do, as long as it is the same one and not squeezed.

    Args:
        predicted: (B, K, 2) landmarks, (x, y).
        target: (B, K, 2) reference landmarks, same units.
        eye_corners: indices of the two outer eye corners (WFLW 60 and 72, iBUG 36 and 45).
        mask: (B, K) True for the landmarks that count; all do if None. What lies under a False is
            never read, save that the eye corners of the target always give the distance.

    Returns:
        (B,) error; 0 for equal sets. NaN for a face with a NaN that counts, or with no landmark
        that counts.

    Raises:
        ValueError: the shapes differ, or the eye corners of a counted face coincide.
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.shape != target.shape or target.ndim != 3 or target.shape[-1] != 2:
        raise ValueError(
            f"nme needs predicted and target of one shape (B, K, 2), got {predicted.shape} and "
            f"{target.shape}"
        )
    counted = np.ones(target.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    if counted.shape != target.shape[:2]:
        raise ValueError(f"nme needs a mask of shape {target.shape[:2]}, got {counted.shape}")

    left, right = eye_corners
    interocular = np.linalg.norm(target[:, left] - target[:, right], axis=-1)
    present = counted.any(axis=1)
    if (degenerate := np.flatnonzero(present & (interocular == 0))).size:
        raise ValueError(
            f"eye corners {left} and {right} of face {degenerate[0]} coincide, so its error has no "
            "scale: mask the face or correct its annotation"
        )
    distance = np.linalg.norm(predicted - target, axis=-1)
    mean = np.where(counted, distance, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    scale = np.where(present, interocular, np.nan)
    return mean / scale


def cumulative_error(
    nme: ArrayLike, thresholds: ArrayLike, mask: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Share of faces with an error of at most each threshold (the cumulative error curve).

    Args:
        nme: (B,) errors; NaN is above every threshold.
        thresholds: (N,) errors, same unit.
        mask: (B,) True for the faces that count; all do if None.

    Returns:
        (N,) shares in [0, 1]; NaN where no face counts.

    Raises:
        ValueError: the errors are not one row, or the mask has another shape.
    """
    errors = np.asarray(nme, np.float64)
    counted = np.ones(errors.shape, bool) if mask is None else np.asarray(mask, bool)
    if errors.ndim != 1 or counted.shape != errors.shape:
        raise ValueError(
            f"errors and mask must have one shape (B,), got {errors.shape} and {counted.shape}"
        )
    thresholds = np.asarray(thresholds, np.float64)
    if not counted.any():
        return np.full(thresholds.shape, np.nan)
    ordered = np.sort(errors[counted])  # NaN sorts to the end, above every finite threshold
    return np.searchsorted(ordered, thresholds, side="right") / ordered.size


def failure_rate(nme: ArrayLike, threshold: float = 0.1, mask: ArrayLike | None = None) -> float:
    """Share of faces with an error above the threshold; FR10 for the default.

    Args:
        nme: (B,) errors as fractions; NaN is a failure.
        threshold: largest error that is no failure.
        mask: (B,) True for the faces that count; all do if None.

    Returns:
        Share in [0, 1]; NaN where no face counts.
    """
    return 1.0 - float(cumulative_error(nme, [threshold], mask)[0])


def auc(nme: ArrayLike, threshold: float = 0.1, mask: ArrayLike | None = None) -> float:
    """Area under the cumulative error curve on [0, threshold], over threshold; AUC10 by default.

    Simpson's rule on 1,001 evenly spaced points, as is usual for WFLW.

    Args:
        nme: (B,) errors as fractions; NaN adds no area.
        threshold: end of the interval, above 0.
        mask: (B,) True for the faces that count; all do if None.

    Returns:
        Area in [0, 1], 1 when all errors are 0; NaN where no face counts.
    """
    thresholds = np.linspace(0.0, threshold, _AUC_POINTS)
    curve = cumulative_error(nme, thresholds, mask)
    return float(simpson(curve, x=thresholds) / threshold)


def video_nme(
    predicted: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike,
    *,
    eye_corners: tuple[int, int] | None = None,
    landmarks: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Normalised mean error of each video: the mean over its frames of the NME of the face.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        eye_corners: indices of the two outer eye corners, to divide by their distance; by the face
            size if None.
        landmarks: indices of the landmarks that count; all do if None. The scale of the face comes
            from all landmarks of the target.

    Returns:
        (B,) error as a fraction. NaN for a video without a counted frame, or with a NaN in one.

    Raises:
        ValueError: the shapes differ, no landmark counts, or a counted face has no size.
    """
    error, scale, counted, complete = _errors(predicted, target, mask, landmarks, eye_corners)
    return _mean(np.linalg.norm(error, axis=-1).mean(axis=-1) / scale, counted, complete)


def flicker(
    predicted: ArrayLike, target: ArrayLike, mask: ArrayLike, *, landmarks: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Change of the error from each frame to the next, in percent of a 256-pixel face.

    With d_t the error of a landmark and w, h the size of the target's box in frame t:
    ``100 ||d_t - d_{t-1}|| / (sqrt(w h) / 256)``, root-mean-square over landmarks. The motion of
    the face itself does not count.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B, T) flicker of frame t against frame t - 1. NaN at t = 0, where either frame does not
        count, and where either holds a NaN.

    Raises:
        ValueError: as in `video_nme`.
    """
    error, size, counted, _ = _errors(predicted, target, mask, landmarks)
    change, pairs = _changes(error, size, counted)
    first = np.full_like(size[:, :1], np.nan)
    return np.concatenate([first, np.where(pairs, np.sqrt(change), np.nan)], axis=1)


def nmf(
    predicted: ArrayLike, target: ArrayLike, mask: ArrayLike, *, landmarks: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Normalised mean flicker of each video (Micaelli et al., CVPR 2023).

    The root-mean-square of `flicker` over the pairs of adjacent frames that both count; a gap in
    the mask breaks a pair.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B,) flicker in percent of a 256-pixel face; 0 when the error is constant in time. NaN for a
        video without a pair, or with a NaN in a counted frame.

    Raises:
        ValueError: as in `video_nme`.
    """
    error, size, counted, complete = _errors(predicted, target, mask, landmarks)
    return np.sqrt(_mean(*_changes(error, size, counted), complete))


def nad(
    predicted: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike,
    lags: ArrayLike,
    *,
    landmarks: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Normalised Allan deviation of each video: how much its error changes at each time scale.

    The error in face sizes is averaged over m frames; NAD(m) is the root of half the mean square
    of the difference between neighbouring averages (overlapping estimator: m frames against the m
    before, from every frame on), root-mean-square over landmarks. Over lags it tells jitter from
    drift: noise that is independent in each frame falls as ``m ** -0.5``, an error that drifts
    steadily grows as m. For a face of constant size ``NAD(1) = NMF / (25600 sqrt(2))``.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        lags: (L,) numbers of frames m, 1 or more.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B, L) deviation as a fraction of the face size; 0 when the error is constant in time. NaN
        where a video has no 2 m counted frames in a row, or a NaN in a counted frame.

    Raises:
        ValueError: as in `video_nme`, or a lag is not a whole number of 1 or more.

    Reference:
        Allan, Statistics of atomic frequency standards, Proc. IEEE 1966.
    """
    error, size, counted, complete = _errors(predicted, target, mask, landmarks)
    lags = np.asarray(lags)
    if lags.ndim != 1 or not lags.size or lags.dtype.kind not in "iu" or lags.min() < 1:
        raise ValueError(f"lags must be whole numbers of frames, 1 or more, got {lags.tolist()}")
    sums = np.cumsum(np.pad(error / size[..., None, None], [(0, 0), (1, 0), (0, 0), (0, 0)]), 1)
    frames = np.cumsum(np.pad(counted, [(0, 0), (1, 0)]), 1)
    deviations = []
    for m in lags.tolist():
        step = (sums[:, 2 * m :] - 2 * sums[:, m:-m] + sums[:, : -2 * m]) / m
        unbroken = frames[:, 2 * m :] - frames[:, : -2 * m] == 2 * m
        variance = np.square(step).sum(axis=-1).mean(axis=-1) / 2
        deviations.append(np.sqrt(_mean(variance, unbroken, complete)))
    return np.stack(deviations, axis=-1)


def label_jitter(
    target: ArrayLike, mask: ArrayLike, *, landmarks: ArrayLike | None = None
) -> NDArray[np.float64]:
    """NMF that the jitter of the labels themselves adds to any prediction, estimated.

    Third differences remove motion up to constant acceleration; of white noise of variance s^2 they
    have the variance 20 s^2, and its flicker 2 s^2. What is left of faster motion counts as jitter,
    and jitter that lasts over frames does not.

    Args:
        target: (B, T, K, 2) reference landmarks in frame pixels.
        mask: (B, T) True for the frames that count.
        landmarks: indices of those that count; None for all.

    Returns:
        (B,) in the unit of `nmf`, to be compared by squares. NaN for a video without four
        successive frames that count.
    """
    target = np.asarray(target, np.float64)
    error, size, counted, complete = _errors(np.zeros_like(target), target, mask, landmarks)
    differences = np.square(np.diff(error, n=3, axis=1)).sum(axis=-1).mean(axis=-1)
    runs = counted[:, 3:] & counted[:, 2:-1] & counted[:, 1:-2] & counted[:, :-3]
    squares = (_PERCENT_OF_256 / size[:, 3:]) ** 2 * differences / 10
    return np.sqrt(_mean(squares, runs, complete))


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

    Videos are drawn with replacement, both methods' results of a video together, so that what makes
    one video harder than another does not blur the comparison. BCa intervals (bias-corrected and
    accelerated), widened as Student's t is wider than the normal distribution, since a handful of
    videos shows less than their true spread. Below 20 videos or so they are still a little narrow:
    intervals of 95 % hold the truth in about 90 % of cases with 8 videos of skewed results.

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
        return Interval(value, np.nan, np.nan)  # one video tells nothing of how others differ
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
    if np.isnan([low, high]).any():  # BCa has none where all draws agree
        low, high = np.quantile(found.bootstrap_distribution, [ndtr(tail), 1 - ndtr(tail)])
    return Interval(value, float(low), float(high))


def _errors(predicted, target, mask, landmarks, eye_corners=None):
    """What all measures of videos begin with.

    Returns the errors in pixels (B, T, L, 2) of the landmarks that count and 0 where the mask is
    False, the scale of each face (B, T) and 1 there, the mask, and (B,) whether no NaN counts.
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    counted = np.asarray(mask, bool)
    if predicted.shape != target.shape or target.ndim != 4 or target.shape[-1] != 2:
        raise ValueError(
            f"videos need predicted and target of one shape (B, T, K, 2), got {predicted.shape} "
            f"and {target.shape}"
        )
    if counted.shape != target.shape[:2]:
        raise ValueError(f"videos need a mask of shape {target.shape[:2]}, got {counted.shape}")
    chosen = np.arange(target.shape[2]) if landmarks is None else np.asarray(landmarks)
    if not chosen.size:
        raise ValueError("no landmark counts: give their indices, or None for all")

    points = np.where(counted[..., None, None], np.stack([predicted, target]), 0)
    points[~np.isfinite(points)] = np.nan
    predicted, target = points
    if eye_corners is None:
        scale = np.sqrt(np.ptp(target, axis=2).prod(axis=-1))
    else:
        left, right = eye_corners
        scale = np.linalg.norm(target[:, :, left] - target[:, :, right], axis=-1)
    if (degenerate := np.argwhere(counted & (scale == 0))).size:
        video, frame = degenerate[0]
        raise ValueError(
            f"the target of video {video}, frame {frame} has no size"
            + ("" if eye_corners is None else f" (eye corners {left} and {right} coincide)")
            + ", so its error has no scale: mask the frame or correct its annotation"
        )
    error = (predicted - target)[:, :, chosen]
    complete = ~np.isnan(error.sum(axis=(1, 2, 3)) + scale.sum(axis=1))
    return error, np.where(counted, scale, 1), counted, complete


def _changes(error, size, counted):
    """Squared flicker (B, T - 1) of each frame against the one before, and whether both count."""
    squares = np.square(np.diff(error, axis=1)).sum(axis=-1).mean(axis=-1)
    pairs = counted[:, 1:] & counted[:, :-1]
    return (_PERCENT_OF_256 / size[:, 1:]) ** 2 * squares, pairs


def _mean(values, counted, complete):
    """(B,) means over the frames that count; NaN where none does or the video is not complete."""
    return np.array(
        [
            row[keep].mean() if whole and keep.any() else np.nan
            for row, keep, whole in zip(values, counted, complete, strict=True)
        ],
        np.float64,
    )
