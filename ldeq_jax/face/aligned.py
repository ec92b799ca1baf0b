"""Smoothers of landmarks that follow the face: the best conventional rivals of recurrence.

A filter of each coordinate for itself (`filters`) has to choose between lag where the head moves
and flicker where it rests. The filters here first take out the motion that all landmarks share, a
similarity (position, size and rotation in the picture), and smooth what is left. All are causal.

A track is (T, K, 2) landmarks of one face in frame pixels, with K of at least 2, and no gaps;
`spread` is (T, K), the standard deviation of each landmark as the model estimates it, and decides
how much each landmark counts. Without it all count the same. Every filter leaves a constant track
alone, and commutes with a similarity of the picture (`face_one_euro` if its `beta` is 0, or is
measured in face sizes, see `filters.smooth`).

NumPy and SciPy only.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldeq_jax.face import filters

_DAMPING = 0.8  # share of its velocity that a face keeps from frame to frame without evidence


def aligned(
    points: ArrayLike,
    fps: float,
    *,
    penalty: ArrayLike,
    follow: ArrayLike,
    spread: ArrayLike | None = None,
    weighting: bool = False,
) -> NDArray[np.float64]:
    """Averages each frame with the last output, which an alpha-beta filter has moved with the face.

    The last output is moved by the similarity that the face is expected to make, then by a share
    `follow` of the similarity that is left between it and the new frame, and the output is
    ``(new + penalty * moved) / (1 + penalty)``. It is what `RwRConfig(align="face")` does to
    heatmaps, without a model.

    Args:
        points: (T, K, 2) track without gaps.
        fps: not used, the settings are per frame.
        penalty: weight of the last output against the new frame, 0 or more; 0 changes nothing. One
            number, or (G,) to try many at once.
        follow: gain of the alpha-beta filter of the face's motion, in (0, 1]; 1 trusts the new
            frame. One number, or (G,).
        spread: (T, K) standard deviations.
        weighting: multiply each landmark's penalty by the square of its spread, in units of the
            face's mean square, so that uncertain landmarks are held and sure ones move.

    Returns:
        (T, K, 2) smoothed track, or (G, T, K, 2).

    Raises:
        ValueError: a parameter is out of its range, or weighting without spread.
    """
    track, spreads = _checked(points, spread)
    strength, gain = _settings(penalty, follow)
    if weighting and spreads is None:
        raise ValueError("weighting needs the spread of the landmarks")
    # The gain of the velocity that goes with that of the position (Benedict and Bordner 1962).
    velocity_gain = gain**2 / (2 - gain)
    smoothed, motion = np.empty((*gain.shape[:-1], *track.shape)), np.zeros(4)
    smoothed[..., :1, :, :] = track[:1]
    for t in range(1, len(track)):
        weight = _weights(track[t - 1], None if spreads is None else spreads[t - 1])
        last = smoothed[..., t - 1, :, :]
        expected = moved(last, motion, _centre(last, weight))
        surprise = fit_similarity(expected, track[t], weight)
        held = moved(expected, gain * surprise, _centre(expected, weight))
        motion = _DAMPING * (motion + velocity_gain * surprise)
        if weighting and spreads is not None:
            variance = spreads[t] ** 2
            share = (variance / max(variance.mean(), 1e-12))[:, None]
        else:
            share = 1.0
        smoothed[..., t, :, :] = (track[t] + strength * share * held) / (1 + strength * share)
    return smoothed


def aligned_by_spread(
    points: ArrayLike, fps: float, *, penalty: ArrayLike, follow: ArrayLike, spread: ArrayLike
) -> NDArray[np.float64]:
    """`aligned` with `weighting`: uncertain landmarks are held, sure ones move."""
    return aligned(points, fps, penalty=penalty, follow=follow, spread=spread, weighting=True)


def aligned_product(
    points: ArrayLike, fps: float, *, penalty: ArrayLike, follow: ArrayLike, spread: ArrayLike
) -> NDArray[np.float64]:
    """`aligned` for points with variances, as products of experts: sure frames count more.

    The output carries a variance, which fusion changes as that of two Gaussians whose logarithms
    are averaged, weighted 1 to penalty: with precisions p and q, the output is
    ``(p new + penalty q moved) / (p + penalty q)`` and its precision
    ``(p + penalty q) / (1 + penalty)``. The motion is that of RwR too: landmarks count by both
    variances, and a frame less certain than the state moves it less (`model.motion`). It is what
    `RwRConfig(align="face", fusion="geometric")` does to heatmaps, without a model.

    Args:
        points: (T, K, 2) track without gaps.
        fps: not used, the settings are per frame.
        penalty: as in `aligned`.
        follow: as in `aligned`, where the frame is as certain as the last output.
        spread: (T, K) standard deviations.

    Returns:
        (T, K, 2) smoothed track, or (G, T, K, 2).

    Raises:
        ValueError: a parameter is out of its range.
    """
    track, spreads = _checked(points, spread)
    assert spreads is not None
    strength, gain = _settings(penalty, follow)
    smoothed, motion = np.empty((*gain.shape[:-1], *track.shape)), np.zeros(4)
    smoothed[..., :1, :, :] = track[:1]
    variances = np.square(spreads) + 1e-12
    variance = np.broadcast_to(variances[0], (*gain.shape[:-1], track.shape[1]))
    for t in range(1, len(track)):
        last, new = smoothed[..., t - 1, :, :], variances[t]
        expected = moved(last, motion, _centre(last, _by_variance(variance)))
        weight = _by_variance(variance + new)
        surprise = fit_similarity(expected, track[t], weight)
        share = np.mean(variance / (variance + new), axis=-1, keepdims=True)
        trusted = gain * np.minimum(1, 2 * share)
        held = moved(expected, trusted * surprise, _centre(expected, weight))
        motion = _DAMPING * (motion + trusted**2 / (2 - trusted) * surprise)
        old = strength[..., 0] / variance
        smoothed[..., t, :, :] = (track[t] / new[:, None] + old[..., None] * held) / (
            1 / new + old
        )[..., None]
        variance = (1 + strength[..., 0]) / (1 / new + old)
    return smoothed


def face_one_euro(
    points: ArrayLike,
    fps: float,
    *,
    min_cutoff: float,
    beta: float,
    follow: float,
    spread: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """One Euro filter (`filters.one_euro`) of the landmarks in the face's own frame.

    Args:
        points: (T, K, 2) track without gaps.
        fps: frames per second.
        min_cutoff: cutoff at rest, hertz, above 0.
        beta: hertz of cutoff added per unit of speed, 0 or more.
        follow: as in `aligned`.
        spread: (T, K) standard deviations.

    Returns:
        (T, K, 2) smoothed track.

    Raises:
        ValueError: a parameter is out of its range.
    """
    settings = {"min_cutoff": min_cutoff, "beta": beta}
    return _in_the_face(points, fps, filters.one_euro, settings, follow, spread)


def face_kalman(
    points: ArrayLike,
    fps: float,
    *,
    noise_ratio: float,
    follow: float,
    spread: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Kalman filter (`filters.kalman`) of the landmarks in the face's own frame.

    Args:
        points: (T, K, 2) track without gaps.
        fps: frames per second.
        noise_ratio: as in `filters.kalman`, above 0.
        follow: as in `aligned`.
        spread: (T, K) standard deviations.

    Returns:
        (T, K, 2) smoothed track.

    Raises:
        ValueError: a parameter is out of its range.
    """
    return _in_the_face(points, fps, filters.kalman, {"noise_ratio": noise_ratio}, follow, spread)


def fit_similarity(
    points: NDArray[np.float64], seen: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weighted least-squares similarity that takes points to where they are seen.

    Args:
        points: (..., K, 2).
        seen: (..., K, 2).
        weight: (..., K) that sum to 1.

    Returns:
        (..., 4) logarithm of the growth, turn in radians, shift of the weighted centre, x then y.
    """
    centre, goal = _centre(points, weight), _centre(seen, weight)
    before, after = _complex(points - centre), _complex(seen - goal)
    spread = np.maximum(np.sum(weight * abs(before) ** 2, axis=-1), 1e-12)
    factor = np.sum(weight * before.conj() * after, axis=-1) / spread
    growth = np.log(np.maximum(abs(factor), 1e-6))
    shift = np.broadcast_to(goal - centre, (*factor.shape, 1, 2))[..., 0, :]
    return np.stack([growth, np.angle(factor), shift[..., 0], shift[..., 1]], axis=-1)


def _in_the_face(
    points: ArrayLike,
    fps: float,
    function: Callable[..., NDArray[np.float64]],
    settings: dict[str, float],
    follow: float,
    spread: ArrayLike | None,
) -> NDArray[np.float64]:
    """Smooths the similarity from the first frame by alpha-beta, and the rest by `function`."""
    track, spreads = _checked(points, spread)
    if not 0 < follow <= 1:
        raise ValueError(f"follow must be above 0 and at most 1, got {follow}")
    reference, weight = track[0], _weights(track, spreads)
    pose = fit_similarity(reference, track, weight)
    pose[:, 1] = np.unwrap(pose[:, 1])
    smoothed_pose, velocity = pose.copy(), np.zeros(4)
    for t in range(1, len(track)):
        expected = smoothed_pose[t - 1] + velocity
        surprise = pose[t] - expected
        smoothed_pose[t] = expected + follow * surprise
        velocity = _DAMPING * (velocity + follow**2 / (2 - follow) * surprise)
    centre = _centre(reference, weight)
    upright = moved(track - pose[:, None, 2:], -pose * [1, 1, 0, 0], centre)
    shape = function(upright, fps, **settings)
    smoothed = moved(shape, smoothed_pose, centre)
    smoothed[0] = track[0]
    return smoothed


def moved(points, motion, centre):
    """Points (..., K, 2) after a similarity (..., 4) about a centre (..., 1, 2)."""
    motion = motion[..., None, :]
    turned = np.exp(motion[..., 0] + 1j * motion[..., 1]) * _complex(points - centre)
    return np.stack([turned.real, turned.imag], axis=-1) + centre + motion[..., 2:]


def _centre(points, weight):
    """(..., 1, 2) weighted mean of the landmarks."""
    return (weight[..., None] * points).sum(axis=-2, keepdims=True)


def _settings(penalty, follow):
    """(..., 1, 1) penalties and (..., 1) gains that are within their ranges."""
    penalties, follows = np.broadcast_arrays(
        np.asarray(penalty, np.float64), np.asarray(follow, np.float64)
    )
    if not ((penalties >= 0) & (penalties < np.inf)).all():
        raise ValueError(f"penalty must be 0 or more, got {penalties}")
    if not ((follows > 0) & (follows <= 1)).all():
        raise ValueError(f"follow must be above 0 and at most 1, got {follows}")
    return penalties[..., None, None], follows[..., None]


def _by_variance(variance):
    """(..., K) weights that sum to 1, inverse to the variance."""
    return (1 / variance) / np.sum(1 / variance, axis=-1, keepdims=True)


def _weights(points, spread):
    """(..., K) weights of the landmarks in fits, which sum to 1."""
    if spread is None:
        return np.full(points.shape[:-1], 1 / points.shape[-2])
    weight = 1 / (1e-12 + spread**2)
    return weight / weight.sum(axis=-1, keepdims=True)


def _complex(points):
    return points[..., 0] + 1j * points[..., 1]


def _checked(
    points: ArrayLike, spread: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[1] < 2 or points.shape[2] != 2:
        raise ValueError(f"points must be (T, K, 2) with two landmarks or more, got {points.shape}")
    if spread is None:
        return points, None
    spread = np.asarray(spread, np.float64)
    if spread.shape != points.shape[:2]:
        raise ValueError(f"spread must be {points.shape[:2]}, like the points, got {spread.shape}")
    return points, spread


# More than `ldeq evaluate` tries for recurrence, where a setting takes longer.
_FOLLOWS = (1.0, 0.8, 0.65, 0.5)
_PENALTIES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
FILTERS = (
    filters.Filter(
        "aligned",
        aligned,
        causal=True,
        grid=filters.grid_of(penalty=_PENALTIES, follow=_FOLLOWS),
        takes_spread=True,
        takes_grid=True,
    ),
    filters.Filter(
        "aligned_by_spread",
        aligned_by_spread,
        causal=True,
        grid=filters.grid_of(penalty=_PENALTIES, follow=_FOLLOWS),
        takes_spread=True,
        takes_grid=True,
    ),
    filters.Filter(
        "aligned_product",
        aligned_product,
        causal=True,
        grid=filters.grid_of(penalty=_PENALTIES, follow=_FOLLOWS),
        takes_spread=True,
        takes_grid=True,
    ),
    filters.Filter(
        "face_one_euro",
        face_one_euro,
        causal=True,
        grid=filters.grid_of(min_cutoff=(16.0, 6.0, 2.0), beta=(40.0, 10.0, 3.0), follow=_FOLLOWS),
        takes_spread=True,
    ),
    filters.Filter(
        "face_kalman",
        face_kalman,
        causal=True,
        grid=filters.grid_of(noise_ratio=(500.0, 250.0, 120.0, 60.0, 30.0, 15.0), follow=_FOLLOWS),
        takes_spread=True,
    ),
)
"""The filters with their settings."""
