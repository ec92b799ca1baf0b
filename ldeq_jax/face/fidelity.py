"""Whether real motion survives smoothing: amplitude and lag of what a face does.

A smoother that flickers less may only have damped expressions or let them lag behind. Here three
signals are read from landmarks, the opening of mouth and eyes and the motion of the head, and
compared with the same signals of the labels. NumPy and SciPy only.

What such a comparison can say:

- Noise of the predictions does not count as amplitude. Noise of the labels lowers the amplitude of
  all methods by one factor, the share of the signal in the variance of the labels. It cancels in
  the ratio of two methods on the same labels, which is why tables also give the amplitude relative
  to the frames alone. Both signals are first smoothed in the same way and without delay, which
  removes most of that noise.
- A model may show less than the true motion in every frame, and labels may be early or late. Frames
  solved alone have no memory, so that their lag is that of the labels. That, too, cancels in
  comparison with them.
- A signal that rests says nothing, see `Response.motion`.
"""

from collections.abc import Sequence
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
_SMOOTHING = 1.0  # standard deviation in frames, of both signals
_LARGEST_LAG = 0.4  # seconds
_LEAST_MOTION = 0.01  # standard deviation in units of `signals`; a signal that moves less rests
_FEWEST = 10  # frames


class Response(NamedTuple):
    """How signals follow a reference: numbers, or arrays with the leading axes of the signals.

    Attributes:
        amplitude: ratio of the amplitudes, 1 for a signal that is not damped; by regression, so
            that independent noise does not count as amplitude. NaN where the reference rests.
        lag: seconds by which it is late; negative if it is early. NaN likewise.
        motion: variance of the reference, summed over channels; 0 where it rests.
    """

    amplitude: NDArray[np.float64]
    lag: NDArray[np.float64]
    motion: float


def signals(
    landmarks: ArrayLike,
    schema: LandmarkSchema,
    *,
    reference: ArrayLike | None = None,
    counted: Sequence[int] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Opening of mouth and eyes, and place of the head, in units of the face's radius.

    The radius is the root mean square distance of the landmarks from their centre. It grows and
    turns with the face, so that a face that only comes nearer does not open its mouth.

    Args:
        landmarks: (T, K, 2) frame pixels; NaN where there are none.
        schema: of the landmarks. One whose lips and lids are not known here has the head alone.
        reference: (T, K, 2) labels, whose radius is the unit and whose outer eye corners say where
            below is; `landmarks` if None.
        counted: indices of the landmarks to use; None for all.

    Returns:
        (T, C) by name: "mouth" and "eyes" with C = 1, "head" with its x and y. An opening is how
        far the lower landmarks are below the upper ones, the mean over the pairs that are both
        counted; it is missing if there is no such pair.
    """
    landmarks = np.asarray(landmarks, np.float64)
    labels = landmarks if reference is None else np.asarray(reference, np.float64)
    from_centre = labels - labels.mean(axis=1, keepdims=True)
    radius = np.sqrt(np.square(from_centre).sum(axis=-1).mean(axis=-1))
    used = set(range(schema.num_landmarks) if counted is None else counted)
    centre = landmarks[:, sorted(used)].mean(axis=1)
    known = radius[np.isfinite(radius)]
    found = {"head": centre / (np.maximum(known.mean(), 1e-12) if known.size else np.nan)}
    left, right = schema.eye_corners
    across = labels[:, right] - labels[:, left]
    # Gaps are signed: noise would make the length of a closed one larger.
    down = np.stack([-across[:, 1], across[:, 0]], axis=-1)[:, None]
    down = down / np.maximum(np.linalg.norm(down, axis=-1, keepdims=True), 1e-12)
    for name, pairs in _GAPS.get(schema.name, {}).items():
        if known := [pair for pair in pairs if used.issuperset(pair)]:
            above, below = np.transpose(known)
            gaps = ((landmarks[:, below] - landmarks[:, above]) * down).sum(axis=-1)
            found[name] = gaps.mean(axis=1, keepdims=True) / np.maximum(radius, 1e-12)[:, None]
    return found


def response(
    signal: ArrayLike, reference: ArrayLike, times: ArrayLike, mask: ArrayLike
) -> Response:
    """Amplitude and lag of signals, by regression on their delayed reference.

    For each delay, ``signal(t) = amplitude * reference(t - delay) + constant`` is fitted by least
    squares; the delay of the best fit is the lag.

    Args:
        signal: (..., T, C), one or more; channels share one amplitude and lag.
        reference: (T, C) the same of the labels.
        times: (T,) seconds, growing.
        mask: (T,) True for the frames that count.

    Returns:
        The response, of the leading axes of `signal`. NaN for a reference that moves by less than
        1 % of the face's radius, for fewer than 10 frames that count, and for a signal that is not
        finite in one of them: none gains by leaving a frame out.

    Raises:
        ValueError: the shapes differ.
    """
    seen, true = np.asarray(signal, np.float64), np.asarray(reference, np.float64)
    seconds, counted = np.asarray(times, np.float64), np.asarray(mask, bool)
    if seen.shape[-2:] != true.shape or {seconds.shape, counted.shape} != {true.shape[:1]}:
        raise ValueError(
            f"signal {seen.shape} needs the shape (..., T, C) and reference {true.shape} the shape "
            f"(T, C), times {seconds.shape} and mask {counted.shape} the shape (T,)"
        )
    counted = counted & np.isfinite(true).all(axis=1)
    nothing = np.full(seen.shape[:-2], np.nan)
    if counted.sum() < _FEWEST:
        return Response(nothing, nothing, 0.0)
    seen, true, seconds = seen[..., counted, :], true[counted], seconds[counted]
    if true.std(axis=0).max() < _LEAST_MOTION:
        return Response(nothing, nothing, 0.0)
    seen, true = (gaussian_filter1d(a, _SMOOTHING, axis=-2) for a in (seen, true))
    delayed = CubicSpline(seconds, true)

    def fit(delay):
        """Mean square of what is left, and amplitude, at a delay; both (...)."""
        inside = (seconds - delay >= seconds[0]) & (seconds - delay <= seconds[-1])
        if inside.sum() < len(seconds) / 2:
            return nothing + np.inf, np.zeros_like(nothing)
        x, y = delayed(seconds[inside] - delay), seen[..., inside, :]
        x, y = (a - a.mean(axis=-2, keepdims=True) for a in (x, y))
        square = max(np.square(x).sum(), 1e-12)
        product = np.maximum((x * y).sum(axis=(-2, -1)), 0)
        left = np.square(y).sum(axis=(-2, -1)) - product**2 / square
        return left / inside.sum(), product / square

    limit = min(_LARGEST_LAG, (seconds[-1] - seconds[0]) / 4)
    delays = np.linspace(-limit / 2, limit, 121)
    errors, amplitudes = map(np.array, zip(*map(fit, delays), strict=True))
    middle = np.clip(np.argmin(errors, axis=0), 1, len(delays) - 2)
    # The vertex of the parabola through the best delay and its neighbours.
    before, here, after = _around(errors, middle)
    with np.errstate(invalid="ignore"):  # infinite errors
        step = np.clip((before - after) / (2 * (before - 2 * here + after) + 1e-300), -1, 1)
    step = np.where(np.isfinite(step), step, 0)
    before, here, after = _around(amplitudes, middle)
    amplitude = here + (after - before) * step / 2 + (before - 2 * here + after) * step**2 / 2
    lag = delays[middle] + step * (delays[1] - delays[0])
    return Response(amplitude, np.where(np.isnan(amplitude), np.nan, lag), true.var(axis=0).sum())


def _around(values, middle):
    """Values (D, ...) just before, at, and just after the places (...) on the first axis."""
    return [np.take_along_axis(values, middle[None] + side, axis=0)[0] for side in (-1, 0, 1)]
