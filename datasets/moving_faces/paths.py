"""Smooth random functions of time: moves with rests between them, and endless slow wandering.

Time is in frames and may be fractional, so that an exposure can be divided into parts.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moves:
    """Minimum-jerk moves from pose to pose, with rests in between.

    The first and second derivatives are continuous; the third is at most
    `60 * step / duration**3` within a move, and the speed at most `1.875 * step / duration`.

    Attributes:
        starts: (M,) times at which the moves begin.
        durations: (M,) frames that they take; a move ends before the next begins.
        poses: (M + 1, C) where the moves begin and end.
    """

    starts: np.ndarray
    durations: np.ndarray
    poses: np.ndarray

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """(N, C) values at (N,) times."""
        done = np.clip((times[:, None] - self.starts) / self.durations, 0, 1)
        return self.poses[0] + done**3 * (10 - 15 * done + 6 * done**2) @ np.diff(
            self.poses, axis=0
        )


@dataclasses.dataclass(frozen=True)
class Wander:
    """A sum of slow sines, never more than `amplitude` from 0.

    Its second derivative is at most `amplitude * (2 * pi / period)**2` with the shortest period.

    Attributes:
        amplitude: largest absolute value.
        frequencies: (C, M) cycles per frame.
        phases: (C, M) radians.
    """

    amplitude: float
    frequencies: np.ndarray
    phases: np.ndarray

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """(N, C) values at (N,) times."""
        angles = 2 * np.pi * self.frequencies * times[:, None, None] + self.phases
        return self.amplitude * np.sin(angles).mean(axis=-1)


def random_moves(
    rng: np.random.Generator,
    num_frames: int,
    low: np.ndarray | float,
    high: np.ndarray | float,
    duration: tuple[float, float],
    rest: float,
    channels: int = 1,
) -> Moves:
    """Moves between uniformly drawn poses that fill a clip.

    Args:
        rng: the only source of randomness.
        num_frames: length of the clip.
        low: lowest value of each channel.
        high: highest value.
        duration: shortest and longest move, frames.
        rest: longest rest between two moves, frames.
        channels: C.
    """
    # More moves than fit in the clip; the first may have started before the clip.
    count = int(num_frames / duration[0]) + 2
    durations = rng.uniform(*duration, count)
    rests = rng.uniform(0, rest, count)
    starts = np.cumsum(durations + rests) - (durations + rests) - rng.uniform(0, duration[1])
    return Moves(starts, durations, rng.uniform(low, high, (count + 1, channels)))


def random_wander(
    rng: np.random.Generator, amplitude: float, period: tuple[float, float], channels: int = 1
) -> Wander:
    """Three sines per channel with periods in the given range, frames."""
    frequencies = 1 / rng.uniform(*period, (channels, 3))
    return Wander(amplitude, frequencies, rng.uniform(0, 2 * np.pi, frequencies.shape))
