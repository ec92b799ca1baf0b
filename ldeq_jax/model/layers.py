"""Layers of the network: convolutions, norms, and the unit that combines them.

Layout is NHWC. The convolution unit is `conv -> LeakyReLU -> norm`, with the activation before the
norm.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ldeq_jax.model.convolution import convolve

Norm = Literal["batch", "group"]
NORM_EPSILON = 1e-5


class Conv(nn.Module):
    """`kernel x kernel` convolution with bias, padded with (kernel - 1) / 2 zeros on every side.

    Attributes:
        features: output channels.
        kernel: odd kernel size.
        stride: step of the convolution.
        dtype: precision; None is the input's.
    """

    features: int
    kernel: int
    stride: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, H / stride, W / stride, features)."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolve(x, kernel, self.stride) + bias.reshape(1, 1, 1, -1)


class GroupNorm(nn.Module):
    """Normalisation over pixels and over the channels of each group, then a scale and a shift.

    Equal to flax's. Sums are taken over pixels first and the rest is computed on (B, C), so that
    one pass over the pixels applies everything, which is faster on a CPU.

    Attributes:
        groups: number of groups; it divides the channels.
        epsilon: added to the variance.
        dtype: of the result; None is the input's. Statistics are in at least float32.
    """

    groups: int
    epsilon: float = NORM_EPSILON
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to the same."""
        dtype, channels = self.dtype or x.dtype, x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        by_group = (1, self.groups, channels // self.groups)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        y = group_norm(x, scale.reshape(by_group), bias.reshape(by_group), self.epsilon)
        return y.astype(dtype)


@jax.jit  # under its name in a traced program, for converters
def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """`GroupNorm` of (B, H, W, C), with scale and bias (1, groups, C / groups)."""
    shape = (-1, *scale.shape[1:])

    def of_groups(values):
        per_channel = jnp.mean(values, axis=(1, 2)).reshape(shape)
        return jnp.mean(per_channel, axis=2, keepdims=True)

    mean = of_groups(x)
    variance = jnp.maximum(of_groups(jnp.square(x)) - jnp.square(mean), 0)
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    shift = bias - mean * factor
    factor, shift = (values.reshape(-1, 1, 1, x.shape[-1]) for values in (factor, shift))
    return x * factor + shift


class InjectedConv(nn.Module):
    """1x1 convolution of heatmaps and injection, concatenated, as the sum of two products.

    The product with the injection is the same in every iteration.

    Attributes:
        num_landmarks: channels of the heatmaps.
        injection_width: channels of the injection.
        features: output channels.
        dtype: precision of the factors; products are summed in at least float32.
    """

    num_landmarks: int
    injection_width: int
    features: int
    dtype: jnp.dtype | None = None

    def setup(self) -> None:
        """Declares parameters and layers."""
        shape = (self.num_landmarks + self.injection_width, self.features)
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def inject(self, x: jax.Array) -> jax.Array:
        """The product with the injection (B, h, w, C): (B, h, w, features)."""
        return self._product(x, self.kernel[self.num_landmarks :]) + self.bias.reshape(1, 1, 1, -1)

    def __call__(self, z: jax.Array, injected: jax.Array) -> jax.Array:
        """The product with the heatmaps (B, h, w, K), added to `inject(x)`."""
        return self._product(z, self.kernel[: self.num_landmarks]) + injected

    def _product(self, x, kernel):
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        summed = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.matmul(x, kernel, preferred_element_type=summed)


class ConvUnit(nn.Module):
    """`kernel x kernel` convolution with bias, LeakyReLU(0.01), normalisation.

    Attributes:
        features: output channels.
        kernel: odd kernel size; padding is (kernel - 1) / 2 on every side, at any stride.
        stride: step of the convolution.
        norm: "group" or "batch".
        groups: number of groups of the group norm.
        dtype: precision of the convolution; norms are computed in at least float32.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    norm: Norm = "group"
    groups: int = 8
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps (B, H, W, C) to (B, H / stride, W / stride, features)."""
        if self.kernel == 1:
            # Equal to a 1x1 convolution, and several times faster on a CPU.
            x = nn.Dense(self.features, dtype=self.dtype, name="conv")(x)
        else:
            x = Conv(self.features, self.kernel, self.stride, self.dtype, name="conv")(x)
        x = nn.leaky_relu(x, 0.01)
        if self.norm == "group":
            return GroupNorm(self.groups, dtype=self.dtype, name="norm")(x)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=NORM_EPSILON,
            dtype=self.dtype,
            name="norm",
        )(x)
