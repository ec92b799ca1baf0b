r"""Smoothing without delay, as strong as the disagreement of the members asks for.

A coordinate of a landmark is smoothed by Whittaker's smoother of order two,

.. math:: \min_x \sum_t (y_t - x_t)^2 / r_t + \sum_t (x_{t-1} - 2 x_t + x_{t+1})^2 / q,

with the noise variance :math:`r_t` that the members' disagreement shows from frame to frame
(`fusion.Fused.jitter`) and the variance q of the motion's acceleration. The latter comes from the
track itself: second differences of noise have the variance 6 r, and what is more than that is
motion. So where a landmark moves fast, as lids do in a blink, its track is hardly smoothed; a
steady linear motion is kept exactly; and time reversed gives the result reversed.

The same estimate is that of a Kalman smoother of a point whose velocity is a random walk.
"""

import dataclasses

import numpy as np
import scipy.linalg

STRONGEST = 10.0  # of r / q; halves what repeats within 11 frames
_NOTHING = 1e-12  # pixels squared; less noise than that is none


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Smoothed:
    """A smoothed track.

    Attributes:
        points: (T, K, 2) in the unit of what was given.
        strength: (K,) median of r / q over the frames; 0 where nothing is smoothed.
    """

    points: np.ndarray
    strength: np.ndarray


def smooth(points: np.ndarray, jitter: np.ndarray, strongest: float = STRONGEST) -> Smoothed:
    """Smooths the landmarks of a window, each by itself.

    Args:
        points: (T, K, 2) the track of each landmark, pixels; T is 3 or more.
        jitter: (T, K) standard deviation of the noise of each coordinate, pixels.
        strongest: greatest r / q; 0 to leave the track as it is.
    """
    points = np.asarray(points, np.float64)
    noise = np.square(np.asarray(jitter, np.float64))
    if strongest <= 0 or len(points) < 3:
        return Smoothed(points=points.copy(), strength=np.zeros(points.shape[1]))
    motion = np.maximum(acceleration(points, noise), noise.mean(axis=0) / strongest)
    strength = noise / np.maximum(motion, _NOTHING)
    smoothed = [
        whittaker(points[:, k], strength[:, k]) if noise[:, k].max() > _NOTHING else points[:, k]
        for k in range(points.shape[1])
    ]
    return Smoothed(points=np.stack(smoothed, axis=1), strength=np.median(strength, axis=0))


def acceleration(points: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(K,) variance q of the second differences of the motion, both coordinates together.

    Args:
        points: (T, K, 2) tracks.
        noise: (T, K) variance of their noise.
    """
    seen = np.square(np.diff(points, n=2, axis=0)).mean(axis=(0, 2))
    by_noise = noise[:-2] + 4 * noise[1:-1] + noise[2:]
    return np.maximum(seen - by_noise.mean(axis=0), 0)


def whittaker(track: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Whittaker's smoother of order two.

    Args:
        track: (T, C) values, T is 3 or more.
        strength: (T,) r / q of each frame, above 0 for those that may be changed.

    Returns:
        (T, C).
    """
    # (I + R D'D) x = y with R = diag(strength), made symmetric by dividing each row by it.
    trust = 1 / np.maximum(strength, 1e-9)
    count = len(track)
    inner = np.ones(count - 2)
    bands = np.zeros((3, count))  # of D'D, upper bands from the outermost to the diagonal
    for first, second, value in (
        (0, 0, 1),
        (1, 1, 4),
        (2, 2, 1),
        (0, 1, -2),
        (1, 2, -2),
        (0, 2, 1),
    ):
        bands[2 - (second - first), second : second + count - 2] += value * inner
    bands[2] += trust
    return scipy.linalg.solveh_banded(bands, trust[:, None] * track)
