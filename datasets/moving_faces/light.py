"""The light: brightness, colour and a shadow that drift while a clip runs.

Pictures are linear here: numbers are proportional to light, 1 is white. Eight-bit pixels are
treated as the square roots of light, which is close to what cameras and screens do.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from moving_faces.difficulty import FRAME_SIZE, Difficulty
from moving_faces.paths import Wander, random_wander

SHADOW_EDGE = 25.0  # softness of the shadow's edge, pixels


def linear(pixels: np.ndarray) -> np.ndarray:
    """Light, float32 in [0, 1], of uint8 pixels."""
    return np.square(pixels.astype(np.float32) / 255)


@dataclasses.dataclass(frozen=True)
class Light:
    """Drifting light.

    Attributes:
        gain: natural logarithm of the brightness.
        colour: the same for the three channels.
        gamma: the same for the tone curve's exponent.
        shade: depth of the shadow, the part of the light that it removes.
        direction: (2,) unit vector across the shadow's edge, pointing into the shadow.
        edge: position of the edge along it, pixels from the middle of the frame.
    """

    gain: Wander
    colour: Wander
    gamma: Wander
    shade: float
    direction: np.ndarray
    edge: Wander

    def __call__(self, time: float) -> np.ndarray:
        """The factor of a linear frame at a time, (H, W, 3) or (3,) float32."""
        times = np.array([time], float)
        tint = np.exp(self.gain(times)[0] + self.colour(times)[0]).astype(np.float32)
        if not self.shade:
            return tint
        across = np.arange(FRAME_SIZE) - (FRAME_SIZE - 1) / 2
        dx, dy = self.direction / SHADOW_EDGE
        depth = (across * dx + (across * dy)[:, None]).astype(np.float32)
        depth -= np.float32(self.edge(times)[0, 0] / SHADOW_EDGE)
        # The logistic function in a form that cannot overflow.
        shadow = np.float32(self.shade / 2) * (1 + np.tanh(depth / 2))
        return (1 - shadow)[..., None] * tint

    def tone(self, time: float) -> float:
        """Exponent of the tone curve at a time: 1 does not change pixels."""
        return float(np.exp(self.gamma(np.array([time], float))[0, 0]))


def random_light(rng: np.random.Generator, difficulty: Difficulty) -> Light:
    """Light that changes over a second or more."""
    period = (30, 150)
    angle = rng.uniform(0, 2 * np.pi)
    return Light(
        gain=random_wander(rng, difficulty.gain, period),
        colour=random_wander(rng, difficulty.colour, period, channels=3),
        gamma=random_wander(rng, difficulty.gamma, period),
        shade=rng.uniform(0, difficulty.shade),
        direction=np.array([np.cos(angle), np.sin(angle)]),
        edge=random_wander(rng, 0.6 * FRAME_SIZE, period),
    )
