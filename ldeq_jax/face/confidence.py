"""How sure a model is: what the spread of its heatmaps says, once it is calibrated.

A heatmap is broad where the model is unsure of a landmark, and all of them are broad where there is
no face. How much so differs between models, so each is calibrated on labelled faces that it was not
trained on (`ldeq calibrate`). Errors and spreads are relative to the face size, the root of the
area of the landmarks' extent, so that nothing here depends on how faces are cropped.

The error of a landmark is modelled as log-logistic: its median is a constant times a power of the
spread, and its logarithm scatters about that by a logistic distribution.
"""

import dataclasses
from typing import Any

import numpy as np
import scipy  # scipy.optimize is imported where it is used: it takes .3 s

from ldeq_jax.errors import UserError
from ldeq_jax.face.landmarks import Landmarks

WITHIN = 0.05  # of the distance of the outer eye corners
_HALF = np.sqrt(2 * np.log(2))  # median length of a pair of normal numbers of deviation 1
_TINY = 1e-9
_SMOOTHING = 0.01  # of the labels face and no face, or a perfect separation would be certainty


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfidenceConfig:
    """A model's calibration; without errors it is not calibrated.

    Attributes:
        errors: K numbers, median error of each landmark at a relative spread of 1; () where the
            model is not calibrated.
        power: of the spread, to which the median error is proportional.
        scatter: scale of the logistic distribution of the error's logarithm.
        face_spread: geometric mean of the relative spread at which a face is as likely as not.
        face_scatter: how gradually that turns: the scale of the logarithm of the spread.

    Raises:
        UserError: a number is not positive.
    """

    errors: tuple[float, ...] = ()
    power: float = 1.0
    scatter: float = 0.5
    face_spread: float = 1.0
    face_scatter: float = 1.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name != "power" and not np.all(np.asarray(value) > 0):
                raise UserError(f"confidence.{name} must be positive, not {value}")


def with_confidence(
    found: Landmarks, config: ConfidenceConfig, eye_corners: tuple[int, int]
) -> Landmarks:
    """Landmarks with what the calibration says of them.

    Args:
        found: landmarks (...).
        config: the model's calibration.
        eye_corners: indices of the outer eye corners.

    Returns:
        The same with `confidence`, `probability` and `deviation`, NaN where there is no face; just
        the same where the model is not calibrated.
    """
    if not config.errors:
        return found
    return dataclasses.replace(found, **assess(found.points, found.spread, config, eye_corners))


def assess(
    points: Any, spread: Any, config: ConfidenceConfig, eye_corners: tuple[int, int], xp: Any = np
) -> dict[str, Any]:
    """What the calibration says, as arrays: `confidence`, `probability` and `deviation`.

    Args:
        points: (..., K, 2) landmarks, in pixels of anything that shows the face upright.
        spread: (..., K) in the same unit.
        config: the model's calibration, with errors.
        eye_corners: indices of the outer eye corners.
        xp: numpy, or a module like it, whose arrays these are.
    """
    size = face_size(points, xp)[..., None]
    relative = spread / size + _TINY
    errors = xp.asarray(config.errors, spread.dtype).reshape((1,) * (spread.ndim - 1) + (-1,))
    median = size * errors * relative**config.power
    left, right = (points[..., corner, :] for corner in eye_corners)
    near = WITHIN * xp.sqrt(xp.sum(xp.square(left - right), axis=-1))[..., None]
    level = np.log(config.face_spread) - xp.mean(xp.log(relative), axis=-1)
    return {
        "confidence": _expit(level / config.face_scatter, xp),
        "probability": _expit(xp.log((near + _TINY) / (median + _TINY)) / config.scatter, xp),
        "deviation": median / _HALF,
    }


def face_size(points: Any, xp: Any = np) -> Any:
    """(...) root of the area of the extent of landmarks (..., K, 2); above 0."""
    sides = xp.max(points, axis=-2) - xp.min(points, axis=-2)
    return xp.sqrt(sides[..., 0] * sides[..., 1]) + _TINY


def calibrate(spread: np.ndarray, error: np.ndarray, empty_spread: np.ndarray) -> ConfidenceConfig:
    """The calibration of greatest likelihood.

    Args:
        spread: (N, K) relative spreads of faces that the model was not trained on.
        error: (N, K) distances of their landmarks from the labels, relative to the face size.
        empty_spread: (M, K) relative spreads of crops without a face.

    Raises:
        UserError: there are fewer than 10 faces or crops without one.
    """
    if min(len(spread), len(empty_spread)) < 10:
        raise UserError(
            f"a calibration needs 10 faces and 10 crops without one at least, not {len(spread)} "
            f"and {len(empty_spread)}"
        )
    width, far = np.log(spread + _TINY), np.log(error + _TINY)

    def unlikelihood(values):
        level, power, scatter = values[:-2], values[-2], np.exp(values[-1])
        z = (far - level - power * width) / scatter
        slope = np.tanh(z / 2) / scatter  # of each term, by its logarithm of the error
        total = np.mean(z + 2 * np.logaddexp(0, -z)) + values[-1]
        by_scatter = 1 - np.mean(slope * z * scatter)
        gradient = [*-slope.mean(axis=0) / len(level), -np.mean(slope * width), by_scatter]
        return total, np.array(gradient)

    start = np.r_[np.median(far - width, axis=0), 1.0, np.log(0.5)]
    best = scipy.optimize.minimize(unlikelihood, start, jac=True, method="L-BFGS-B").x
    face_spread, face_scatter = _separation(_mean(spread), _mean(empty_spread))
    return ConfidenceConfig(
        errors=tuple(float(value) for value in np.exp(best[:-2])),
        power=float(best[-2]),
        scatter=float(np.exp(best[-1])),
        face_spread=face_spread,
        face_scatter=face_scatter,
    )


def calibration_error(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: how far probabilities are from frequencies, in the mean.

    Args:
        probability: (N,) in [0, 1].
        happened: (N,) bool.
        bins: number of bins of equal width.
    """
    of_bins = reliability(probability, happened, bins)
    return float(np.sum(of_bins[:, 2] * np.abs(of_bins[:, 0] - of_bins[:, 1])))


def reliability(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> np.ndarray:
    """(bins, 3): mean probability, frequency and share of all, of each bin; 0 in empty ones."""
    which = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1).ravel()
    count = np.bincount(which, minlength=bins)
    columns = [
        np.bincount(which, np.ravel(values), minlength=bins) / np.maximum(count, 1)
        for values in (probability, happened)
    ]
    return np.stack([*columns, count / max(len(which), 1)], axis=1)


def _expit(x, xp):
    return 0.5 * (1 + xp.tanh(x / 2))


def _mean(spread):
    """The logarithm of the geometric mean over landmarks."""
    return np.mean(np.log(spread + _TINY), axis=-1)


def _separation(faces, empty):
    """Middle and scale of the logistic curve between two samples, of the same weight each."""
    values = np.r_[faces, empty]
    wanted = np.r_[np.full(len(faces), 1 - _SMOOTHING), np.full(len(empty), _SMOOTHING)]
    weight = np.r_[np.full(len(faces), 1 / len(faces)), np.full(len(empty), 1 / len(empty))]

    def unlikelihood(parameters):
        logit = (parameters[0] - values) / np.exp(parameters[1])
        return np.sum(weight * (np.logaddexp(0, logit) - wanted * logit))

    start = [(np.median(faces) + np.median(empty)) / 2, np.log(0.1)]
    middle, scale = scipy.optimize.minimize(unlikelihood, start, method="Nelder-Mead").x
    return float(np.exp(middle)), float(np.exp(scale))
