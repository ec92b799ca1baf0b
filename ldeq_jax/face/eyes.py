"""The frame of a face's own: its outer eye corners are level, and one apart."""

import numpy as np


def to_eyes(points: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Points in the frame of the eyes.

    Args:
        points: (..., K, 2) in pixels.
        eyes: (..., 2, 2) the outer eye corners in the same pixels.

    Returns:
        (..., K, 2) with the eyes at (0, 0) and (1, 0).
    """
    first, span = _of(eyes)
    return _pairs((np.asarray(points) @ [1, 1j] - first) / span)


def from_eyes(points: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """The inverse of `to_eyes`."""
    first, span = _of(eyes)
    return _pairs(first + (np.asarray(points) @ [1, 1j]) * span)


def _of(eyes):
    """Place of the first eye, and the way from it to the other, as complex numbers (..., 1)."""
    corners = np.asarray(eyes) @ [1, 1j]
    return corners[..., :1], corners[..., 1:] - corners[..., :1]


def _pairs(numbers):
    return np.stack([numbers.real, numbers.imag], axis=-1)
