"""The causal filters of `face.filters`, one frame after another: `Online`.

What a filter knows of the frames before is a state that is handed on, so a film of any length needs
no more memory than a frame. At a constant rate the tracks are those of `face.filters`. One Euro and
Kalman take the time of each frame into account; the settings of the others count frames.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ldeq_jax.face.filters import cutoff_weight, kalman_gains

State = Any  # of a filter
Points = np.ndarray

SETTINGS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "exponential": {
        "light": {"weight": 0.8},
        "normal": {"weight": 0.6},
        "strong": {"weight": 0.4},
    },
    "moving_average": {"light": {"width": 2}, "normal": {"width": 3}, "strong": {"width": 5}},
    "one_euro": {
        "light": {"min_cutoff": 16.0, "beta": 40.0},
        "normal": {"min_cutoff": 6.0, "beta": 10.0},
        "strong": {"min_cutoff": 2.0, "beta": 3.0},
    },
    "kalman": {
        "light": {"noise_ratio": 250.0},
        "normal": {"noise_ratio": 120.0},
        "strong": {"noise_ratio": 60.0},
    },
}
"""Settings of each filter by their strength, for points in face sizes.

The light ones of One Euro and Kalman are those that are best on clean film, the strong ones, or
nearly, those on bad film (docs/results.md)."""


@dataclasses.dataclass(frozen=True)
class Online:
    """A filter with its settings.

    Attributes:
        name: a key of `SETTINGS`.
        parameters: of the function of that name in `face.filters`.
    """

    name: str
    parameters: Mapping[str, float]

    def step(
        self, points: Points, interval: float, state: State | None = None
    ) -> tuple[Points, State]:
        """Filters the next frame.

        Args:
            points: (...) array, finite, of the same shape in all frames.
            interval: seconds since the frame before, above 0; it does not count without a state.
            state: what the step on the frame before returned; None for a first frame, which stays
                as it is.

        Returns:
            (...) float64 smoothed points, and the state for the next frame.
        """
        points = np.asarray(points, np.float64)
        start, step = _FILTERS[self.name]
        if state is None:
            return points, start(points)
        return step(points, interval, state, **self.parameters)


def _exponential(points, interval, last, *, weight):
    smoothed = last + weight * (points - last)
    return smoothed, smoothed


def _moving_average(points, interval, window, *, width):
    window = (*window, points)[-int(width) :]
    return np.mean(window, axis=0), window


def _one_euro(points, interval, state, *, min_cutoff, beta, derivative_cutoff=1.0):
    smoothed, last, speed = state
    fps = 1 / interval
    speed = speed + cutoff_weight(derivative_cutoff, fps) * ((points - last) * fps - speed)
    weight = cutoff_weight(min_cutoff + beta * np.abs(speed), fps)
    smoothed = smoothed + weight * (points - smoothed)
    return smoothed, (smoothed, points, speed)


def _kalman(points, interval, state, *, noise_ratio):
    place, velocity = state
    # Gains are solved for once per interval; those of a varying rate are many, but nearly equal.
    gain, velocity_gain = kalman_gains(noise_ratio**2 * float(f"{interval:.3g}") ** 3)
    expected = place + velocity * interval
    surprise = points - expected
    place = expected + gain * surprise
    return place, (place, velocity + velocity_gain / interval * surprise)


_FILTERS: Mapping[str, tuple[Callable[[Points], State], Callable[..., tuple[Points, State]]]] = {
    "exponential": (lambda points: points, _exponential),
    "moving_average": (lambda points: (points,), _moving_average),
    "one_euro": (lambda points: (points, points, np.zeros_like(points)), _one_euro),
    "kalman": (lambda points: (points, np.zeros_like(points)), _kalman),
}
