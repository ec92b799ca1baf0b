"""The convolution is the library's, by whatever way it is computed."""

import functools
import re

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.mesh import batch_sharding, make_mesh, replicated
from ldeq_jax.model import winograd
from ldeq_jax.model.convolution import convolve, plain
from ldeq_jax.model.layers import Conv


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def library(x, kernel, stride=1):
    pad = (len(kernel) - 1) // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(12, 24), (11, 8), (8, 11)], ids=["whole", "high", "wide"])
def test_value_and_gradients_are_the_library_ones(size, stride, shape, x64):
    x, kernel = normal(0, 2, *shape, 3), normal(1, size, size, 3, 4)
    y, pullback = jax.vjp(functools.partial(library, stride=stride), x, kernel)
    found, our_pullback = jax.vjp(functools.partial(convolve, stride=stride), x, kernel)
    assert found.shape == y.shape
    np.testing.assert_allclose(found, y, atol=1e-12)
    for a, b in zip(our_pullback(jnp.sin(y)), pullback(jnp.sin(y)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize(
    ("size", "height", "channels"), [(3, 6, 3), (5, 6, 3), (5, 16, 128)], ids=["3", "5", "wide"]
)
def test_gradient_of_a_gradient_is_the_library_one(size, height, channels, x64):
    """As the Jacobian penalty takes it."""
    x = normal(0, 1, height, 16, channels)
    ours, theirs = Conv(128, size), nn.Conv(128, (size, size), padding="SAME")
    params = ours.init(jax.random.key(0), x)
    assert winograd.suits(x, params["params"]["kernel"]) == (channels == 128)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(module, x, params):
        def penalty(x, params):
            inner = jax.grad(lambda x: jnp.sum(jnp.sin(module.apply(params, x))))(x)
            return jnp.sum(jnp.square(inner))

        return jax.value_and_grad(penalty, argnums=(0, 1))(x, params)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9),
        gradients(ours, x, params),
        gradients(theirs, x, params),
    )


@pytest.mark.parametrize("size", [3, 5])
def test_a_wide_layer_and_its_gradients_are_the_library_ones(size, x64):
    x, kernel, g = normal(0, 1, 32, 32, 128), normal(1, size, size, 128, 136), 0.1
    assert winograd.suits(x, kernel)

    def run(way, x, kernel):
        y, pullback = jax.vjp(way, x, kernel)
        return y, pullback(g * y)

    found, expected = (
        jax.jit(functools.partial(run, way))(x, kernel) for way in (convolve, library)
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-8), found, expected
    )


@pytest.mark.parametrize(
    ("size", "stride", "channels", "on_cpu"),
    [(5, 1, 128, 0), (7, 2, 3, 3)],
    ids=["wide", "strided"],
)
def test_only_cpus_have_ways_of_their_own(size, stride, channels, on_cpu):
    x, kernel = jnp.zeros((1, 32, 32, channels)), jnp.zeros((size, size, channels, 128))

    def lowered(way, platform):
        def run(x, kernel):
            y, pullback = jax.vjp(functools.partial(way, stride=stride), x, kernel)
            return pullback(y)

        exported = jax.export.export(jax.jit(run), platforms=[platform])(x, kernel)
        return exported.mlir_module()

    def strides(module):
        return re.findall(r"stablehlo.convolution.*?window = {([^}]*)}", module)

    for platform in ("tpu", "cuda"):
        assert sorted(strides(lowered(convolve, platform))) == sorted(
            strides(lowered(library, platform))
        )
    assert len(strides(lowered(convolve, "cpu"))) == on_cpu


def test_devices_share_a_wide_layer_without_talking(x64):
    x, kernel = normal(0, 2, 16, 16, 128), normal(1, 5, 5, 128, 128)
    mesh = make_mesh(2)
    assert mesh.size == 2
    shardings = batch_sharding(mesh), replicated(mesh)
    function = jax.jit(convolve, in_shardings=shardings)
    program = function.lower(x, kernel).compile().as_text()
    assert not re.search(r"\ball-[\w-]+\(", program)
    np.testing.assert_allclose(function(x, kernel), library(x, kernel), atol=1e-10)


CASES = [(3, 6, 3, 4), (5, 16, 128, 136)]


def operands(size, height, channels, features):
    x, kernel = normal(0, 1, height, 16, channels), normal(1, size, size, channels, features)
    return x, 0.1 * kernel, winograd.suits(x, kernel)


@pytest.mark.parametrize(("size", "height", "channels", "features"), CASES, ids=["narrow", "wide"])
def test_tangents_and_second_derivatives_are_the_library_ones(
    size, height, channels, features, x64
):
    *at, wide = operands(size, height, channels, features)
    assert wide == (channels == 128)
    along = tuple(normal(seed, *operand.shape) for seed, operand in enumerate(at, 2))

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(way, at, along):
        loss = lambda at: jnp.sum(jnp.sin(way(*at)))  # noqa: E731
        _, tangent = jax.jvp(lambda at: way(*at), (at,), (along,))
        product = jax.jvp(jax.grad(loss), (at,), (along,))[1]
        reverse = jax.grad(lambda at: jax.jvp(loss, (at,), (along,))[1])(at)

        def slope(at):
            return sum(jnp.sum(g * d) for g, d in zip(jax.grad(loss)(at), along, strict=True))

        return tangent, product, reverse, jax.grad(slope)(at)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8),
        derivatives(convolve, tuple(at), along),
        derivatives(library, tuple(at), along),
    )


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, None)])
def test_vmapped_values_and_gradients(axes, x64):
    x, kernel, _ = operands(3, 6, 3, 4)
    stacked = [
        operand if axis is None else jnp.stack([operand, 2 * operand, operand + 1], axis)
        for operand, axis in zip((x, kernel), axes, strict=True)
    ]

    def run(way):
        def value_and_gradients(x, kernel):
            y, pullback = jax.vjp(way, x, kernel)
            return y, pullback(jnp.sin(y))

        return jax.vmap(value_and_gradients, axes)(*stacked)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10),
        run(convolve),
        run(library),
    )


def test_shards_share_the_gradient_of_a_kernel(x64):
    """Under `shard_map` with its check on: images are divided, the kernel is shared."""
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, shared = jax.sharding.PartitionSpec("rows"), jax.sharding.PartitionSpec()
    x, kernel = normal(0, 2, 16, 16, 128), normal(1, 3, 3, 128, 128)

    def loss(x, kernel):
        return jnp.sum(jnp.sin(convolve(x, kernel)))

    divided_loss = jax.shard_map(
        lambda x, kernel: jax.lax.psum(loss(x, kernel), "rows"),
        mesh=mesh,
        in_specs=(rows, shared),
        out_specs=shared,
    )
    ours, whole = (jax.jit(jax.grad(f, argnums=(0, 1)))(x, kernel) for f in (divided_loss, loss))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8), ours, whole)


def test_plain_convolutions_are_one_operation_of_the_library():
    def names(stride):
        function = functools.partial(convolve, stride=stride)
        jaxpr = jax.make_jaxpr(function)(normal(0, 1, 16, 16, 4), normal(1, 3, 3, 4, 8))
        return [equation.primitive.name for equation in jaxpr.eqns]

    for stride in (1, 2):
        with plain():
            assert names(stride) == ["conv_general_dilated"]
        assert names(stride) != ["conv_general_dilated"]


def test_values_outside_jit(x64):
    x, kernel, _ = operands(5, 16, 128, 136)
    np.testing.assert_allclose(convolve(x, kernel), library(x, kernel), atol=1e-9)
    found = jax.grad(lambda k: convolve(x, k).sum())(kernel)
    np.testing.assert_allclose(found, jax.grad(lambda k: library(x, k).sum())(kernel), atol=1e-9)


@pytest.mark.parametrize("channels", [8, 128])
def test_rows_divided_over_an_explicit_mesh(channels, x64):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows, shared = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in (("rows",), ())
    )
    x, kernel = normal(0, 2, 16, 16, channels), normal(1, 3, 3, channels, channels)
    gradients = jax.jit(jax.grad(lambda *at: jnp.sum(jnp.sin(convolve(*at))), (0, 1)))
    found = gradients(jax.device_put(x, rows), jax.device_put(kernel, shared))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-8),
        found,
        gradients(x, kernel),
    )
