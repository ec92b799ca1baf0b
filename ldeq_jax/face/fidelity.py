"""Whether real motion survives smoothing: amplitude and lag of what a face does.

A smoother that flickers less may only have damped expressions or let them lag behind. Here three
signals are read from landmarks, the opening of mouth and eyes and the motion of the head, and held
against the same signals of the labels. NumPy and SciPy only.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from ldeq_jax.face.schema import LandmarkSchema

# Pairs of landmarks, above and below the gap, of the inner lips and of the lids of both eyes.
_GAPS = {
    "ibug_68": {
        "mouth": [(61, 67), (62, 66), (63, 65)],
        "eyes": [(37, 41), (38, 40), (43, 47), (44, 46)],
    },
    "wflw_98": {
        "mouth": [(89, 95), (90, 94), (91, 93)],
        "eyes": [(61, 67), (62, 66), (63, 65), (69, 75), (70, 74), (71, 73)],
    },
    "fgnet_68": {"mouth": [(65, 60), (64, 61), (63, 62)], "eyes": [(28, 30), (33, 35)]},
}
SIGNALS = ("mouth", "eyes", "head")
# Frames. Jitter of the labels would make amplitude and lag look smaller. Both signals are smoothed
# in the same way and without delay, so their ratio stays.
_SMOOTHING = 1.0
_LARGEST_LAG = 0.4  # seconds
_LEAST_MOTION = 0.004  # standard deviation in face sizes; a signal that moves less says nothing
_FEWEST = 10  # frames


class Response(NamedTuple):
    """How a signal follows its reference.

    Attributes:
        amplitude: ratio of the amplitudes, 1 for a signal that is not damped; by regression, so
            that independent noise does not count as amplitude. NaN where the reference rests.
        lag: seconds by which it is late; negative if it is early. NaN likewise.
    """

    amplitude: float
    lag: float


def signals(landmarks: ArrayLike, schema: LandmarkSchema) -> dict[str, NDArray[np.float64]]:
    """Opening of mouth and eyes, and place of the head, in units of the face's mean size.

    Args:
        landmarks: (T, K, 2) frame pixels; NaN where there are none.
        schema: of the landmarks. One whose lips and lids are not known here has the head alone.

    Returns:
        (T, C) by name: "mouth" and "eyes" with C = 1, "head" with its x and y.
    """
    landmarks = np.asarray(landmarks, np.float64)
    extent = np.ptp(landmarks, axis=1)
    size = np.nanmean(np.sqrt(extent.prod(axis=-1)))
    found = {"head": landmarks.mean(axis=1) / size}
    for name, pairs in _GAPS.get(schema.name, {}).items():
        above, below = np.transpose(pairs)
        gaps = np.linalg.norm(landmarks[:, above] - landmarks[:, below], axis=-1)
        found[name] = gaps.mean(axis=1, keepdims=True) / size
    return found


def response(
    signal: ArrayLike, reference: ArrayLike, times: ArrayLike, mask: ArrayLike
) -> Response:
    """Amplitude and lag of a signal, by regression on its delayed reference.

    For each delay, ``signal(t) = amplitude * reference(t - delay) + constant`` is fitted by least
    squares; the delay of the best fit is the lag.

    Args:
        signal: (T, C); channels share one amplitude and lag.
        reference: (T, C) the same of the labels.
        times: (T,) seconds, growing.
        mask: (T,) True for the frames that count.

    Returns:
        The response; NaN for a reference that moves by less than .4 % of the face, or with fewer
        than 10 frames.

    Raises:
        ValueError: the shapes differ.
    """
    seen, true = np.asarray(signal, np.float64), np.asarray(reference, np.float64)
    seconds, counted = np.asarray(times, np.float64), np.asarray(mask, bool)
    if seen.shape != true.shape or {seconds.shape, counted.shape} != {seen.shape[:1]}:
        raise ValueError(
            f"signal {seen.shape} and reference {true.shape} need one shape (T, C), times "
            f"{seconds.shape} and mask {counted.shape} the shape (T,)"
        )
    counted = counted & np.isfinite(seen).all(axis=1) & np.isfinite(true).all(axis=1)
    nothing = Response(np.nan, np.nan)
    if counted.sum() < _FEWEST:
        return nothing
    seen, true, seconds = seen[counted], true[counted], seconds[counted]
    if true.std(axis=0).max() < _LEAST_MOTION:
        return nothing
    seen, true = (gaussian_filter1d(a, _SMOOTHING, axis=0) for a in (seen, true))
    delayed = CubicSpline(seconds, true)

    def fit(delay):
        inside = (seconds - delay >= seconds[0]) & (seconds - delay <= seconds[-1])
        if inside.sum() < _FEWEST:
            return np.inf, np.nan
        x = delayed(seconds[inside] - delay)
        x, y = x - x.mean(axis=0), seen[inside] - seen[inside].mean(axis=0)
        amplitude = max((x * y).sum(), 0) / max((x * x).sum(), 1e-12)
        return np.mean((y - amplitude * x) ** 2), amplitude

    limit = min(_LARGEST_LAG, (seconds[-1] - seconds[0]) / 4)
    delays = np.linspace(-limit / 2, limit, 121)
    errors = np.array([fit(delay)[0] for delay in delays])
    best = int(np.argmin(errors))
    lag = delays[best]
    if 0 < best < len(delays) - 1 and np.isfinite(errors[best - 1 : best + 2]).all():
        before, here, after = errors[best - 1 : best + 2]
        curvature = before - 2 * here + after
        if curvature > 0:
            lag += (delays[1] - delays[0]) * (before - after) / (2 * curvature)
    return Response(float(fit(lag)[1]), float(lag))
