"""Convolutions of wide layers on a CPU, by Winograd's minimal filtering (Lavin & Gray 2016).

A tile of 2 x 2 outputs of a k x k convolution takes (k + 1)^2 products for each pair of channels
instead of 4 k^2: 36 instead of 100 for k = 5, 16 instead of 36 for k = 3. Kernel and tiles are read
as polynomials and evaluated at a few points, where a convolution is a product of values. What
remains is one matrix product for each pair of points.

The result equals the direct sum up to rounding: in single precision its error is like that of the
direct sum for k = 3, and four to six times that for k = 5. `ldeq_jax.model.convolution` decides
where it is used and defines the derivatives.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Points besides infinity, by kernel size. Of the five for k = 5, 0 and +-1 are the usual ones; the
# other two give the least rounding with them.
_POINTS = {3: (0, 1, -1), 5: (0, 1, -1, 2, -1 / 2)}
_TILE = 2  # outputs each way
# From here on the transforms usually cost less than they save. At 64 channels that depends on the
# size of the picture, and on average it is even.
_CHANNELS = {3: 64, 5: 128}
_PIXELS = {3: 1024, 5: 256}  # of a batch, for the same reason
_STRIP = 2048  # pixels of a batch that are computed at a time


def suits(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `convolve` can be used and is likely faster than the direct sum on a CPU.

    Args:
        x: (B, H, W, C).
        kernel: (k, k, C, features).
    """
    batch, height, width, channels = x.shape
    return (
        len(kernel) in _POINTS
        and isinstance(batch, int)  # a program for any batch takes the direct sum
        and x.dtype in (jnp.float32, jnp.float64)
        and min(channels, kernel.shape[-1]) >= _CHANNELS[len(kernel)]
        and batch * height * width >= _PIXELS[len(kernel)]
        and height % _TILE == width % _TILE == 0
    )


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """NHWC by HWIO convolution of stride 1 that keeps the size.

    Args:
        x: (B, H, W, C), H and W even.
        kernel: (k, k, C, features), k 3 or 5.

    Returns:
        (B, H, W, features).
    """
    _, of_kernel, _ = _matrices(len(kernel))
    return _in_strips(x, kernel, of_kernel, "pnc,pcf->pnf")


def input_gradient(g: jax.Array, kernel: jax.Array) -> jax.Array:
    """The gradient of `convolve` with respect to its input: `g` convolved with the flipped kernel.

    Args:
        g: (B, H, W, features), gradient with respect to the result.
        kernel: (k, k, C, features), as in `convolve`.

    Returns:
        (B, H, W, C).
    """
    _, of_kernel, _ = _matrices(len(kernel))
    return _in_strips(g, kernel, of_kernel[:, ::-1], "pnf,pcf->pnc")


def kernel_gradient(x: jax.Array, g: jax.Array, size: int) -> jax.Array:
    """The gradient of `convolve` with respect to its kernel.

    Args:
        x: (B, H, W, C), as in `convolve`.
        g: (B, H, W, features), gradient with respect to the result.
        size: k.

    Returns:
        (k, k, C, features).
    """
    outputs, of_kernel, of_tiles = _matrices(size)
    tiles = _both_ways(of_tiles, _shifted(_padded(x, size), size + 1))
    products = _both_ways(outputs.T, _shifted(g, _TILE))
    factors = _product("pnc,pnf->pcf", _stacked(tiles), _stacked(products))
    return _of_all_points(np.kron(of_kernel, of_kernel).T, factors).reshape(
        size, size, *factors.shape[1:]
    )


def _in_strips(x, kernel, of_kernel, pattern):
    """Computes one strip of each image after another, so that the data stay in the cache.

    Args:
        x: (B, H, W, channels).
        kernel: (k, k, C, features).
        of_kernel: its transform, (k + 1, k).
        pattern: of the product of tiles and kernel at all points, as in `jnp.einsum`.
    """
    batch, height, width, _ = x.shape
    size = len(kernel)
    features = kernel.shape[2] if pattern.endswith("c") else kernel.shape[3]
    outputs, _, of_tiles = _matrices(size)
    # In a loop whose kernel is always the same, XLA does this once, before it.
    factors = _of_all_points(np.kron(of_kernel, of_kernel), kernel)

    def strip_of_outputs(strip):
        tiles = _both_ways(of_tiles, _shifted(strip, size + 1))
        products = _product(pattern, _stacked(tiles), factors)
        products = products.reshape(size + 1, size + 1, batch, -1, width // _TILE, features)
        y = jnp.stack([jnp.stack(row, axis=3) for row in _both_ways(outputs, products)], axis=2)
        return y.reshape(batch, -1, width, features)

    rows = _rows_of_a_strip(height, batch * width)
    padded = _padded(x, size)
    starts = range(0, height, rows)
    strips = jnp.stack([padded[:, start : start + rows + size - 1] for start in starts])
    y = jax.lax.map(strip_of_outputs, strips)
    return jnp.moveaxis(y, 0, 1).reshape(batch, height, width, features)


@functools.cache
def _matrices(size):
    """The three transforms: A (2, k + 1), G (k + 1, k) and B (k + 1, k + 1).

    For d of length k + 1 and g of length k, the two sums over i of d[i + j] g[i] are
    A ((G g) * (B d)). G evaluates a polynomial at the points, divided by the product of distances
    to the other points; A and B are the transposes of the other two steps of Toom-Cook's
    multiplication of polynomials.
    """
    points = _POINTS[size]
    infinity = np.zeros(size + 1)
    infinity[-1] = 1
    of_kernel, of_tiles = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = np.prod([point - other for other in others])
        of_kernel.append([point**power / scale for power in range(size)])
        of_tiles.append([*np.poly(others)[::-1], 0])
    of_kernel.append(infinity[1:])
    of_tiles.append(np.poly(points)[::-1])
    outputs = np.array([[1] * len(points) + [0], [*points, 1]])
    return outputs, np.array(of_kernel), np.array(of_tiles)


def _both_ways(matrix, parts):
    """`matrix` applied to both indices of parts[i][j], arrays of one shape, as nested lists."""
    rows = [_combined(matrix, row) for row in parts]
    columns = [_combined(matrix, column) for column in zip(*rows, strict=True)]
    return list(zip(*columns, strict=True))


def _combined(matrix, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """A matrix times a list of arrays, written out for XLA to fuse."""
    return [
        functools.reduce(
            jnp.add,
            [float(factor) * part for factor, part in zip(row, parts, strict=True) if factor],
        )
        for row in matrix
    ]


def _of_all_points(matrix, values):
    """`matrix` applied to (..., C, features), with all leading indices flattened."""
    channels = values.shape[-2:]
    return _product(
        "pq,qn->pn", jnp.asarray(matrix, values.dtype), values.reshape(matrix.shape[1], -1)
    ).reshape(-1, *channels)


def _shifted(x, number):
    """parts[i][j] holds the pixels (i, j) of every tile, `number` pixels wide, of (B, H, W, C)."""
    height, width = (side - number + _TILE for side in x.shape[1:3])
    return [
        [x[:, i : i + height : _TILE, j : j + width : _TILE] for j in range(number)]
        for i in range(number)
    ]


def _padded(x, size):
    pad = (size - 1) // 2
    return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))


def _rows_of_a_strip(height, pixels_of_a_row):
    """The largest number that `_STRIP` allows, in whole tiles, that divides the height."""
    fitting = range(_TILE, max(_STRIP // pixels_of_a_row, _TILE) + 1, _TILE)
    return max(rows for rows in fitting if height % rows == 0)


def _stacked(parts):
    """(points^2, N, channels) of parts[i][j] (..., channels)."""
    flat = jnp.stack([part for row in parts for part in row])
    return flat.reshape(len(flat), -1, flat.shape[-1])


_product = functools.partial(jnp.einsum, precision="highest")
