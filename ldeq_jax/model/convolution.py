"""Convolution by whichever way is fast on the platform that a program is compiled for.

Accelerators get XLA's own. On CPUs, wide layers are computed by `winograd`, and strided ones on
blocks of pixels. A convolution is linear in the image and in the kernel, and so are
its two gradients; the three are primitives of JAX whose derivatives are each other, so that forward
and reverse mode, to any order, take the fast ways too.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ldeq_jax.deq.rows import mesh_axes, varying
from ldeq_jax.model import winograd

_PLAIN = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Traces convolutions as `lax.conv_general_dilated` alone, for converters of programs.

    A function that was jitted and traced before keeps its convolutions, and one that is jitted and
    traced here keeps these.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """NHWC by HWIO convolution, padded with (k - 1) / 2 zeros on every side, at any stride.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C, features), k odd.
        stride: step between outputs.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), features).
    """
    if _PLAIN.get():
        return _direct(x, kernel, stride)
    if stride == 1:
        return _same_size(x, kernel, size=len(kernel))
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

    With three channels, XLA's own is several times slower on a CPU.
    """
    batch, height, width, channels = x.shape
    size, _, _, features = kernel.shape
    # Zeros before the kernel make its padding, and zeros after it its size, a multiple of a block.
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


# The convolution of stride 1 and its two gradients, directly and on a CPU.


def _direct_input_gradient(g, kernel):
    # The same product as JAX's own rule, but the flipped kernel is copied. Without the copy, XLA
    # takes a slow path on a CPU inside a loop, such as the adjoint solve
    # (benchmarks/convolution.py).
    return _direct(g, jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2))


def _direct_kernel_gradient(x, g, size):
    pad = (size - 1) // 2
    sharding, whole = jax.typeof(x).sharding, None
    if any(sharding.spec):  # over an explicit mesh: the sum over all rows is for all devices
        whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.lax.conv_general_dilated(
        x,
        g,
        (1, 1),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        out_sharding=whole,
    )


def _cpu_value(x, kernel):
    suited = winograd.suits(x, kernel)
    return winograd.convolve(x, kernel) if suited else _direct(x, kernel)


def _cpu_input_gradient(g, kernel):
    x = jax.ShapeDtypeStruct((*g.shape[:3], kernel.shape[2]), g.dtype)
    suited = winograd.suits(x, kernel)
    return winograd.input_gradient(g, kernel) if suited else _direct_input_gradient(g, kernel)


def _cpu_kernel_gradient(x, g, size):
    kernel = jax.ShapeDtypeStruct((size, size, x.shape[3], g.shape[3]), x.dtype)
    suited = winograd.suits(x, kernel)
    return (winograd.kernel_gradient if suited else _direct_kernel_gradient)(x, g, size)


class _Bilinear:
    """A function of two arrays that is linear in each, as a primitive of JAX.

    Called, it takes the arrays and `size`, the kernel's, as a keyword. `transpose_to` completes it.

    Attributes:
        primitive: what a program holds.
    """

    def __init__(
        self, name: str, direct: Callable, on_cpu: Callable, keeps_batch: bool = True
    ) -> None:
        """Registers the primitive.

        Args:
            name: of the primitive.
            direct: `(a, b, size)` on any platform.
            on_cpu: the same in programs compiled for a CPU.
            keeps_batch: whether row b of the result is made of row b of the first array.
        """
        self.primitive = Primitive(name)
        self._direct, self._keeps_batch = direct, keeps_batch
        self.primitive.def_impl(jax.jit(self.primitive.bind, static_argnames="size"))
        self.primitive.def_abstract_eval(functools.cache(self._type_of_result))
        batching.primitive_batchers[self.primitive] = self._batched
        for function, platform in ((direct, None), (on_cpu, "cpu")):
            rule = mlir.lower_fun(function, multiple_results=False)
            mlir.register_lowering(self.primitive, rule, platform=platform)

    def __call__(self, a: jax.Array, b: jax.Array, *, size: int) -> jax.Array:
        """The value. Under `shard_map`, an array that the devices share is copied for each."""
        a, b = varying((a, b), mesh_axes((a, b)))
        return self.primitive.bind(a, b, size=size)

    def transpose_to(self, of_first: Callable, of_second: Callable) -> None:
        """Defines derivatives: the transposes `(cotangent, a, b, size)` in each argument."""
        ad.defbilinear(self.primitive, of_first, of_second)

    def _type_of_result(self, a, b, size):
        (aval,) = jax.make_jaxpr(functools.partial(self._direct, size=size))(a, b).out_avals
        return aval

    def _batched(self, operands, axes, size):
        if self._keeps_batch and axes[1] is None:
            a = jnp.moveaxis(operands[0], axes[0], 0)
            y = self(a.reshape(-1, *a.shape[2:]), operands[1], size=size)
            return y.reshape(*a.shape[:2], *y.shape[1:]), 0
        direct = functools.partial(self._direct, size=size)
        return jax.vmap(direct, in_axes=axes)(*operands), 0


def _ignoring_size(function):
    return lambda a, b, size: function(a, b)


_same_size = _Bilinear("same_size_convolution", _ignoring_size(_direct), _ignoring_size(_cpu_value))
_input_gradient = _Bilinear(
    "convolution_input_gradient",
    _ignoring_size(_direct_input_gradient),
    _ignoring_size(_cpu_input_gradient),
)
_kernel_gradient = _Bilinear(
    "convolution_kernel_gradient",
    _direct_kernel_gradient,
    _cpu_kernel_gradient,
    keeps_batch=False,
)
_same_size.transpose_to(
    lambda ct, x, kernel, size: _input_gradient(ct, kernel, size=size),
    lambda ct, x, kernel, size: _kernel_gradient(x, ct, size=size),
)
_input_gradient.transpose_to(
    lambda ct, g, kernel, size: _same_size(ct, kernel, size=size),
    lambda ct, g, kernel, size: _kernel_gradient(ct, g, size=size),
)
_kernel_gradient.transpose_to(
    lambda ct, x, g, size: _input_gradient(g, ct, size=size),
    lambda ct, x, g, size: _same_size(x, ct, size=size),
)
