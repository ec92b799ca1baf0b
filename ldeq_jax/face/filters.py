"""Conventional smoothing filters of point tracks: the baselines that recurrence is compared with.

A track is an array (T, ...) with time along axis 0, such as (T, K, 2) landmarks in frame pixels.
Each coordinate is filtered separately, in float64. A filter takes an unbroken track of one face, of
one frame or more, its frame rate and its own parameters, ``exponential(points, fps, weight=0.5)``,
and returns the smoothed track. `smooth` also handles frames where the face is lost.

A *causal* filter uses a frame and those before it, so it runs live and lags behind; its first
output is its first input. The others use the whole video. Every filter leaves a constant track
unchanged and commutes with shifts; all but `one_euro` are linear.

NumPy and SciPy only. Recurrence in the model itself is in `model.rwr`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used; signal takes a second
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Filter:
    """A filter with the settings to try."""

    name: str
    function: Callable[..., NDArray[np.float64]]
    causal: bool
    grid: tuple[Mapping[str, float], ...]
    """Parameters of `function`, from nearly no smoothing to strong."""
    takes_spread: bool = False
    """Whether `function` takes the spread of the landmarks, as those of `aligned` do."""
    takes_grid: bool = False
    """Whether `function` takes many values of each parameter at once, and is quicker then."""

    def smooth_all(
        self, points: ArrayLike, fps: float, *, scale: float = 1.0, spread: ArrayLike | None = None
    ) -> Iterator[tuple[Mapping[str, float], NDArray[np.float64]]]:
        """Every setting of the grid with the track that it makes; arguments as of `smooth`."""

        def run(parameters):
            known = spread if self.takes_spread else None
            return smooth(points, self.function, parameters, fps, scale=scale, spread=known)

        if self.takes_grid:
            together = {name: np.array([one[name] for one in self.grid]) for name in self.grid[0]}
            yield from zip(self.grid, run(together), strict=True)
        else:
            yield from ((parameters, run(parameters)) for parameters in self.grid)


def smooth(
    points: ArrayLike,
    function: Callable[..., NDArray[np.float64]],
    parameters: Mapping[str, ArrayLike],
    fps: float,
    *,
    valid: ArrayLike | None = None,
    scale: float = 1.0,
    spread: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Filters each unbroken run of valid frames separately: a filter restarts after a lost face.

    Args:
        points: (T, ...) track. Its values in frames that are not valid are never used.
        function: a filter of this module.
        parameters: of the filter, by name; numbers, or (G,) for a filter that takes a grid.
        fps: frames per second.
        valid: (T,) True for the frames to filter; those whose points are all finite if None.
        scale: unit of length of the points while they are filtered, such as the face size in
            pixels. It matters to `one_euro` only, whose `beta` then suits any resolution.
        spread: (T, K) standard deviation of each landmark in the unit of `points`, for the filters
            of `face.aligned`.

    Returns:
        (T, ...) smoothed track in the units of `points`, NaN in frames that are not valid; (G, T,
        ...) for parameters (G,).

    Raises:
        ValueError: `valid` has another shape, a valid frame holds a point that is not finite,
            `fps` or `scale` is not positive, or a parameter is out of its range.
        TypeError: the filter has no such parameter.
    """
    points = np.asarray(points, np.float64)
    _check_positive(fps=fps, scale=scale)
    finite = np.isfinite(points).all(axis=tuple(range(1, points.ndim)))
    valid = finite if valid is None else np.asarray(valid, bool)
    if valid.shape != points.shape[:1]:
        raise ValueError(
            f"valid must have one entry for each frame, got {valid.shape} for {finite.shape}"
        )
    if (broken := np.flatnonzero(valid & ~finite)).size:
        raise ValueError(
            f"frame {broken[0]} holds a point that is not finite: mark it as invalid or correct it"
        )
    settings = np.broadcast_shapes(*(np.shape(value) for value in parameters.values()))
    smoothed = np.full((*settings, *points.shape), np.nan)
    time_first = np.moveaxis(smoothed, len(settings), 0)  # a view
    edges = np.flatnonzero(np.diff(valid, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2):
        known = {} if spread is None else {"spread": np.asarray(spread)[start:stop] / scale}
        run = scale * function(points[start:stop] / scale, fps, **known, **parameters)
        time_first[start:stop] = np.moveaxis(run, len(settings), 0)
    return smoothed


def exponential(points: ArrayLike, fps: float, *, weight: float) -> NDArray[np.float64]:
    """Exponential moving average, ``y_t = weight x_t + (1 - weight) y_{t-1}``; causal.

    It keeps ``weight / (2 - weight)`` of the variance of white noise, and lags behind a steady
    motion by ``(1 - weight) / weight`` frames.

    Args:
        points: (T, ...) track without gaps.
        fps: not used, the weight is per frame.
        weight: of the new frame, in (0, 1]; 1 changes nothing.

    Returns:
        (T, ...) smoothed track.

    Raises:
        ValueError: the weight is out of its range.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"weight must be above 0 and at most 1, got {weight}")
    return _recursive([weight], [1, weight - 1], points)


def moving_average(points: ArrayLike, fps: float, *, width: int) -> NDArray[np.float64]:
    """Mean of the last `width` frames, or of all so far if they are fewer; causal.

    It keeps 1 / width of the variance of white noise, and lags by ``(width - 1) / 2`` frames.

    Args:
        points: (T, ...) track without gaps.
        fps: not used, the width is in frames.
        width: number of frames, 1 or more; 1 changes nothing.

    Returns:
        (T, ...) smoothed track.

    Raises:
        ValueError: the width is out of its range.
    """
    _check_width(width)
    points = np.asarray(points, np.float64)
    frames = np.minimum(np.arange(1, len(points) + 1), width)
    sums = scipy.signal.lfilter(np.ones(width), [1.0], points - points[:1], axis=0)
    return points[:1] + sums / frames.reshape(-1, *[1] * (points.ndim - 1))


def one_euro(
    points: ArrayLike,
    fps: float,
    *,
    min_cutoff: float,
    beta: float,
    derivative_cutoff: float = 1.0,
) -> NDArray[np.float64]:
    """One Euro filter: an exponential average that smooths less the faster a point moves; causal.

    The weight of a frame is that of a first-order low-pass with a cutoff of
    ``min_cutoff + beta |speed|`` hertz, for each coordinate with its own speed: the difference of
    successive *inputs* times `fps`, itself smoothed at `derivative_cutoff`. (The paper's listing
    takes the difference from the last output, which also contains the lag and so depends on the
    frame rate.)

    Args:
        points: (T, ...) track without gaps. Speeds are in its unit per second: in face sizes
            (`scale` of `smooth`) one `beta` suits every resolution.
        fps: frames per second.
        min_cutoff: cutoff at rest, hertz, above 0.
        beta: hertz of cutoff added per unit of speed, 0 or more.
        derivative_cutoff: cutoff for the speed, hertz, above 0.

    Returns:
        (T, ...) smoothed track.

    Raises:
        ValueError: a parameter is out of its range.

    Reference:
        Casiez, Roussel and Vogel, 1 € filter, CHI 2012.
    """
    _check_positive(fps=fps, min_cutoff=min_cutoff, derivative_cutoff=derivative_cutoff)
    if not 0 <= beta < np.inf:
        raise ValueError(f"beta must be 0 or more, got {beta}")
    points = np.asarray(points, np.float64)
    steps = np.diff(points, axis=0, prepend=points[:1])
    speed = exponential(steps * fps, fps, weight=cutoff_weight(derivative_cutoff, fps))
    weights = cutoff_weight(min_cutoff + beta * np.abs(speed), fps)
    smoothed = points.copy()
    for t in range(1, len(points)):
        smoothed[t] = smoothed[t - 1] + weights[t] * (points[t] - smoothed[t - 1])
    return smoothed


def kalman(points: ArrayLike, fps: float, *, noise_ratio: float) -> NDArray[np.float64]:
    """Kalman filter for points of nearly constant velocity, in its steady state; causal.

    The velocity changes by white acceleration, and each frame measures the position with white
    noise. The gains depend only on the ratio of the two noises, so they are solved for once and
    shared by all coordinates. They are used from the first frame on, with the face at rest before
    it, which avoids the noisy start of a filter without a velocity estimate. It does not lag behind
    a steady motion.

    Args:
        points: (T, ...) track without gaps.
        fps: frames per second.
        noise_ratio: standard deviation of the change of velocity in one second (pixels per second),
            over that of the noise of a measured position (pixels), above 0. At 30 frames per second
            smoothing is slight above 500 and strong below 10.

    Returns:
        (T, ...) smoothed track.

    Raises:
        ValueError: a parameter is out of its range.
    """
    _check_positive(fps=fps, noise_ratio=noise_ratio)
    gain, velocity_gain = kalman_gains(noise_ratio**2 / fps**3)
    # The recursion of both states, solved for the position.
    return _recursive([gain, velocity_gain - gain], [1, gain + velocity_gain - 2, 1 - gain], points)


def savitzky_golay(
    points: ArrayLike, fps: float, *, width: int, order: int = 2
) -> NDArray[np.float64]:
    """Savitzky-Golay: the value of a polynomial fitted to the frames around each one; not causal.

    The first and last half windows take the polynomials of the first and last whole window. Motion
    that is polynomial of degree `order` or less is unchanged.

    Args:
        points: (T, ...) track without gaps.
        fps: not used, the width is in frames.
        width: of the window in frames, odd; a shorter track gets one polynomial for all of it.
        order: of the polynomial, at least 0 and below `width`; lowered with the window.

    Returns:
        (T, ...) smoothed track.

    Raises:
        ValueError: the width is even or out of its range, or the order is.
    """
    _check_width(width)
    if width % 2 == 0:
        raise ValueError(f"width must be odd, to have a middle frame, got {width}")
    if not 0 <= order < width:
        raise ValueError(f"order must be at least 0 and below the width {width}, got {order}")
    points = np.asarray(points, np.float64)
    width = min(width, len(points))
    return scipy.signal.savgol_filter(points, width, min(order, width - 1), axis=0, mode="interp")


def gaussian(points: ArrayLike, fps: float, *, sigma: float) -> NDArray[np.float64]:
    """Mean of the frames around each one, with Gaussian weights up to 4 sigma; not causal.

    Beyond its ends the track is extended by its mirror image.

    Args:
        points: (T, ...) track without gaps.
        fps: not used, sigma is in frames.
        sigma: standard deviation of the weights in frames, above 0.

    Returns:
        (T, ...) smoothed track.

    Raises:
        ValueError: sigma is out of its range.
    """
    _check_positive(sigma=sigma)
    return scipy.ndimage.gaussian_filter1d(np.asarray(points, np.float64), sigma, axis=0)


@functools.cache
def kalman_gains(variance):
    """Steady gains of position and velocity, in units of frames.

    Args:
        variance: of the change of velocity in one frame, over that of a measured position.
    """
    motion = np.array([[1.0, 1.0], [0.0, 1.0]])
    process = variance * np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]])
    covariance = scipy.linalg.solve_discrete_are(
        motion.T, np.array([[1.0], [0.0]]), process, np.eye(1)
    )
    return covariance[:, 0] / (covariance[0, 0] + 1)


def _recursive(numerator, denominator, points):
    """A linear filter of unit gain; before the track, the point is taken to rest at its start."""
    points = np.asarray(points, np.float64)
    return points[:1] + scipy.signal.lfilter(numerator, denominator, points - points[:1], axis=0)


def cutoff_weight(cutoff, fps):
    """Weight of a new frame in a first-order low-pass with a cutoff in hertz."""
    return 1 / (1 + fps / (2 * np.pi * cutoff))


def _check_positive(**values):
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def _check_width(width):
    if width < 1 or width != int(width):
        raise ValueError(f"width must be a whole number of frames, 1 or more, got {width}")


def grid_of(**values):
    """Every combination of the values given for each parameter."""
    return tuple(
        dict(zip(values, setting, strict=True)) for setting in itertools.product(*values.values())
    )


FILTERS = (
    Filter(
        "exponential",
        exponential,
        causal=True,
        grid=grid_of(weight=(0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)),
    ),
    Filter(
        "moving_average", moving_average, causal=True, grid=grid_of(width=(2, 3, 4, 5, 7, 9, 13))
    ),
    Filter(
        "one_euro",
        one_euro,
        causal=True,
        grid=grid_of(min_cutoff=(16.0, 6.0, 2.0, 0.7), beta=(40.0, 10.0, 3.0, 0.0)),
    ),
    Filter(
        "kalman",
        kalman,
        causal=True,
        grid=grid_of(noise_ratio=(1000.0, 500.0, 250.0, 120.0, 60.0, 30.0, 15.0, 7.0, 3.0)),
    ),
    Filter(
        "savitzky_golay",
        savitzky_golay,
        causal=False,
        grid=grid_of(width=(5, 7, 9, 13, 17, 25, 35)),
    ),
    Filter(
        "gaussian",
        gaussian,
        causal=False,
        grid=grid_of(sigma=(0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)),
    ),
)
"""The filters with their settings, causal ones first."""
