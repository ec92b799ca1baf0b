"""The map f(z, x) of LDEQ, an hourglass, and the stem that computes its injection x.

Nothing here iterates the map or solves for its equilibrium. Layout is NHWC.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ldeq_jax.model import heatmap
from ldeq_jax.model.layers import ConvUnit, GroupNorm, InjectedConv, Norm


class Stem(nn.Module):
    """Image features injected into the map: (B, H, W, 3) -> (B, H/4, W/4, width).

    Attributes:
        width: output channels, a multiple of 4.
        norm: "batch" as released, or "group", which is independent of the batch.
        groups: largest number of groups of a group norm; a layer whose width it does not divide
            uses fewer.
        dtype: precision of the convolutions.
    """

    width: int
    norm: Norm = "batch"
    groups: int = 8
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Computes the injection of a normalised image."""

        def unit(features, kernel, stride, name):
            groups = math.gcd(self.groups, features)
            return ConvUnit(features, kernel, stride, self.norm, groups, self.dtype, name=name)

        x = unit(self.width // 4, 7, 2, "half")(image, train)
        x = unit(self.width // 2, 3, 1, "widen")(x, train)
        # Not as the maximum of a reshape: its gradient looks for the pixel that equals the maximum,
        # finds none where a compiler computes both in different ways, and is NaN.
        x = nn.max_pool(x, (2, 2), (2, 2))
        return unit(self.width, 3, 1, "quarter")(x, train)


class Entry(nn.Module):
    """The map's first unit: the 1x1 convolution of heatmaps and injection, LeakyReLU, norm."""

    num_landmarks: int
    injection_width: int
    features: int
    groups: int
    dtype: jnp.dtype | None = None

    def setup(self) -> None:
        """Declares parameters and layers."""
        self.conv = InjectedConv(
            self.num_landmarks, self.injection_width, self.features, self.dtype
        )
        self.norm = GroupNorm(self.groups, dtype=self.dtype)

    def inject(self, x: jax.Array) -> jax.Array:
        """The part that depends on the injection alone."""
        return self.conv.inject(x)

    def __call__(self, z: jax.Array, injected: jax.Array) -> jax.Array:
        """Maps (B, h, w, K) and (B, h, w, features) to (B, h, w, features)."""
        return self.norm(nn.leaky_relu(self.conv(z, injected), 0.01))


class HourglassMap(nn.Module):
    """The weight-tied map f(z, x), from heatmaps and injection to heatmaps.

    A call computes f(z, x). To iterate the map, call `inject` once for x, then `refine` on each z
    with its result.

    Attributes:
        num_landmarks: K, heatmaps in and out.
        injection_width: C, channels of the injection.
        width: channels at the finest level.
        width_increment: channels added at each coarser level.
        depth: number of times the resolution is halved.
        residual_kernel: kernel of the residual unit that ends each level.
        groups: groups of every group norm.
        temperature: sharpness beta of the heatmap normalisation.
        learn_temperature: train the temperature (its logarithm), starting from `temperature`.
        dtype: precision of the convolutions; the heatmaps come out in at least float32.
    """

    num_landmarks: int
    injection_width: int = 264
    width: int = 264
    width_increment: int = 24
    depth: int = 4
    residual_kernel: int = 5
    groups: int = 8
    temperature: float = 0.3
    learn_temperature: bool = False
    dtype: jnp.dtype | None = None

    def setup(self) -> None:
        """Declares parameters and layers."""

        def unit(level, kernel):
            features = self.width + level * self.width_increment
            return ConvUnit(features, kernel, groups=self.groups, dtype=self.dtype)

        self.entry = Entry(
            self.num_landmarks, self.injection_width, self.width, self.groups, self.dtype
        )
        for level in range(self.depth):
            setattr(self, f"down{level}_skip", unit(level, 3))
            setattr(self, f"down{level}_widen", unit(level + 1, 3))
            setattr(self, f"up{level}_narrow", unit(level, 3))
            setattr(self, f"up{level}_merge", unit(level, 1))
            setattr(self, f"up{level}_residual", unit(level, self.residual_kernel))
        self.bottom = unit(self.depth, 3)
        # One step of bfloat16 in a logit changes a heatmap's pixel by several percent.
        single = None if self.dtype is None else jnp.promote_types(self.dtype, jnp.float32)
        self.head = nn.Dense(self.num_landmarks, dtype=single)
        if self.learn_temperature:
            start = nn.initializers.constant(jnp.log(self.temperature))
            self.log_temperature = self.param("log_temperature", start, ())

    def __call__(self, z: jax.Array, x: jax.Array) -> jax.Array:
        """Maps heatmaps (B, h, w, K) and injection (B, h, w, C) to heatmaps in (0, 1]."""
        return self.refine(z, self.inject(x))

    def inject(self, x: jax.Array) -> jax.Array:
        """The part of f(z, x) that depends on x alone: (B, h, w, C) to (B, h, w, width)."""
        return self.entry.inject(x)

    def refine(self, z: jax.Array, injected: jax.Array) -> jax.Array:
        """Maps heatmaps (B, h, w, K) to heatmaps in (0, 1], `injected` being `inject(x)`."""
        y = self.entry(z, injected)
        skips = []
        for level in range(self.depth):
            skips.append(getattr(self, f"down{level}_skip")(y))
            y = getattr(self, f"down{level}_widen")(_halve(skips[-1]))
        y = self.bottom(y)
        for level in reversed(range(self.depth)):
            y = _double(getattr(self, f"up{level}_narrow")(y))
            y = getattr(self, f"up{level}_merge")(jnp.concatenate([skips[level], y], axis=-1))
            y = y + getattr(self, f"up{level}_residual")(y)
        logits = self.head(y)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        learnt = self.learn_temperature
        return heatmap.normalise(
            logits, jnp.exp(self.log_temperature) if learnt else self.temperature
        )


def _halve(x: jax.Array) -> jax.Array:
    """2x2 average-pool. As a reshape it is much faster on a CPU than as a pooling window."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def _double(x: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling by 2."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
