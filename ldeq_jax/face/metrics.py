"""Errors of landmarks on stills: the NME of each face, and FR and AUC of many.

Errors are fractions of the distance between the outer eye corners: 0.0395 is the "3.95 %" of the
tables, which multiply by 100. Sums are in float64. NumPy and SciPy only.

NaN means that no error could be measured. An error is NaN where a counted coordinate is NaN, and a
NaN counts as a failure in every reduction, so that a method gains nothing by leaving a face out. A
mask takes out faces that do not exist (padding). `video_metrics` holds the measures of videos.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import simpson

_AUC_POINTS = 1001


def nme(
    predicted: ArrayLike,
    target: ArrayLike,
    eye_corners: tuple[int, int],
    mask: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Normalised mean error of each face, as a fraction of the inter-ocular distance.

    The mean over landmarks of ``||predicted - target||``, divided by the distance between the outer
    eye corners of the target. A similarity (scale, rotation, shift) applied to both sets of points
    changes nothing, so any pixel frame with square pixels will do.

    Args:
        predicted: (B, K, 2) landmarks, (x, y).
        target: (B, K, 2) reference landmarks, same units.
        eye_corners: indices of the two outer eye corners (WFLW 60 and 72, iBUG 36 and 45).
        mask: (B, K) True for the landmarks that count; all do if None. The others are never read,
            except that the eye corners of the target always give the distance.

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
        threshold: the largest error that is not a failure.
        mask: (B,) True for the faces that count; all do if None.

    Returns:
        Share in [0, 1]; NaN where no face counts.
    """
    return 1.0 - float(cumulative_error(nme, [threshold], mask)[0])


def auc(nme: ArrayLike, threshold: float = 0.1, mask: ArrayLike | None = None) -> float:
    """Area under the cumulative error curve on [0, threshold], over threshold; AUC10 by default.

    Simpson's rule on 1,001 evenly spaced points, the convention for WFLW.

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
