"""Convolution by whichever way is fast on the platform that a program is compiled for.

Accelerators are given XLA's own. On CPUs, wide layers go by way of `winograd`, and strided ones see
an image of few channels in blocks. Forward-mode derivatives are not defined.
"""

import functools

import jax
import jax.numpy as jnp

from ldeq_jax.model import winograd


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """NHWC by HWIO convolution, padded with (k - 1) / 2 zeros on every side, at any stride.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C, features), k odd.
        stride: step between outputs.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), features).
    """
    if stride == 1:
        return _keeping_size(x, kernel)
    direct = functools.partial(_direct, stride=stride)
    if x.shape[1] % stride or x.shape[2] % stride:
        return direct(x, kernel)
    in_blocks = functools.partial(_in_blocks, stride=stride)
    return jax.lax.platform_dependent(x, kernel, cpu=in_blocks, default=direct)


def _direct(x, kernel, stride=1):
    pad = (len(kernel) - 1) // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _in_blocks(x, kernel, stride):
    """The same with a stride of 1 over an image whose pixels are blocks of stride x stride pixels.

    With three channels, XLA's own takes several times as long on a CPU.
    """
    batch, height, width, channels = x.shape
    size, _, _, features = kernel.shape
    # Zeros before the kernel let its padding, and zeros after it its size, fill whole blocks.
    before = -((size - 1) // 2) % stride
    after = -(before + size) % stride
    kernel = jnp.pad(kernel, ((before, after), (before, after), (0, 0), (0, 0)))
    blocks = len(kernel) // stride
    kernel = kernel.reshape(blocks, stride, blocks, stride, channels, features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(blocks, blocks, -1, features)
    x = x.reshape(batch, height // stride, stride, width // stride, stride, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // stride, width // stride, -1)
    low = ((size - 1) // 2 + before) // stride
    pad = (low, blocks - 1 - low)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def _keeping_size(x, kernel):
    if not winograd.suits(x, kernel):
        return _direct(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.convolve, default=_direct)


def _forward(x, kernel):
    return _keeping_size(x, kernel), (x, kernel)


def _backward(saved, g):
    x, kernel = saved

    def direct_of_x(g, kernel):
        # The same product as JAX's own rule, but the turned kernel is laid out anew. Without that,
        # XLA takes a slow path for it on a CPU inside a loop, such as the adjoint solve
        # (benchmarks/convolution.py).
        return _direct(g, jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2))

    def direct_of_kernel(x, g):
        return jax.vjp(functools.partial(_direct, x), kernel)[1](g)[0]

    if not winograd.suits(x, kernel):
        return direct_of_x(g, kernel), direct_of_kernel(x, g)
    of_kernel = functools.partial(winograd.kernel_gradient, size=len(kernel))
    return (
        jax.lax.platform_dependent(g, kernel, cpu=winograd.input_gradient, default=direct_of_x),
        jax.lax.platform_dependent(x, g, cpu=of_kernel, default=direct_of_kernel),
    )


_keeping_size.defvjp(_forward, _backward)
