"""Winograd's minimal filtering is the direct sum, only faster on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.model import convolution, winograd

SIZES = [3, 5]
WIDE = 128  # channels from which Conv uses it on a CPU


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def direct(x, kernel):
    """The definition, by shifted products: y[h, w] = sum x[h + i - p, w + j - p] kernel[i, j]."""
    _, height, width, _ = x.shape
    size = len(kernel)
    pad = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [(1, 2, 2), (2, 6, 4), (3, 10, 14), (1, 64, 64), (3, 64, 48), (40, 4, 64)],
    ids=["tile", "strip", "odd tiles", "two strips", "uneven", "a row of tiles each"],
)
def test_is_the_direct_sum(size, batch, height, width):
    x, kernel = normal(0, batch, height, width, 3), normal(1, size, size, 3, 4)
    np.testing.assert_allclose(winograd.convolve(x, kernel), direct(x, kernel), atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_gradient_of_the_kernel_is_that_of_the_direct_sum(size):
    x, kernel, g = normal(0, 2, 6, 8, 3), normal(1, size, size, 3, 4), normal(2, 2, 6, 8, 4)
    found = np.asarray(winograd.kernel_gradient(x, g, size))
    assert found.shape == kernel.shape
    # The product is linear in the kernel: its gradient is what each unit kernel makes of g.
    for index in np.ndindex(kernel.shape):
        unit = np.zeros_like(kernel)
        unit[index] = 1
        assert found[index] == pytest.approx(np.sum(direct(x, unit) * g), abs=1e-11)


@pytest.mark.parametrize(("size", "times"), [(3, 2), (5, 9)])
def test_rounds_not_much_more_than_the_direct_sum(size, times):
    x = normal(0, 1, 16, 16, 256).astype(np.float32)
    kernel = normal(1, size, size, 256, 128).astype(np.float32)
    exact = direct(x.astype(np.float64), kernel.astype(np.float64))
    ours, library = (
        np.std(np.asarray(way(x, kernel), np.float64) - exact)
        for way in (winograd.convolve, convolution._direct)
    )
    assert 0 < ours < times * library


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype", "suits"),
    [
        ((1, 16, 16, WIDE), 5, np.float32, True),
        ((4, 8, 8, WIDE), 5, np.float64, True),
        ((1, 32, 32, WIDE), 3, np.float32, True),
        ((1, 16, 16, WIDE - 1), 5, np.float32, False),
        ((1, 8, 8, WIDE), 5, np.float32, False),
        ((1, 16, 16, WIDE), 3, np.float32, False),
        ((2, 16, 15, WIDE), 5, np.float32, False),
        ((1, 16, 16, WIDE), 7, np.float32, False),
        ((1, 16, 16, WIDE), 5, jnp.bfloat16, False),
    ],
    ids=[
        "wide",
        "batch",
        "small kernel",
        "narrow",
        "few pixels",
        "few for it",
        "odd",
        "large kernel",
        "bfloat16",
    ],
)
def test_used_where_it_pays(shape, kernel, dtype, suits):
    x = jax.ShapeDtypeStruct(shape, dtype)
    kernel = jax.ShapeDtypeStruct((kernel, kernel, shape[-1], WIDE), dtype)
    assert winograd.suits(x, kernel) is suits
