"""Heatmaps, the landmarks read from them, and their motion (Micaelli et al. 2023, sec. 3).

A heatmap column c of an h-wide map stands for the normalised crop coordinate c / h, as in the
released model, so landmarks lie in [0, (h - 1) / h]. Layout is (..., h, w, K); maps are square.
"""

import functools

import jax
import jax.numpy as jnp

_TINY = 1e-30  # of a heatmap, where its logarithm is taken


def normalise(logits: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """`exp(temperature * (logits - max over pixels))`, the state of the equilibrium model.

    Args:
        logits: (..., h, w, K) raw heatmaps.
        temperature: sharpness beta > 0, scalar.

    Returns:
        (..., h, w, K) in (0, 1]: the largest pixel of each map is 1. Maps are not divided by their
        sum.
    """
    # The maximum depends on the logits, so it contributes to the gradient.
    highest = jnp.max(logits, axis=(-3, -2), keepdims=True)
    return jnp.exp(temperature * (logits - highest))


def soft_argmax(heatmap: jax.Array, offset: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """Centre of mass and spread of each heatmap.

    Args:
        heatmap: (..., h, w, K), non-negative.
        offset: what column 0 and row 0 stand for, in heatmap pixels.

    Returns:
        Landmarks (..., K, 2), x then y, in normalised crop coordinates, and their spread (..., K),
        `sqrt((var_x + var_y) / 2)` in the same unit.
    """
    size = heatmap.shape[-3]
    mass = 1e-4 + jnp.sum(heatmap, axis=(-3, -2))
    grid = (jnp.arange(size, dtype=heatmap.dtype) + offset) / size
    along = grid.reshape((1,) * (heatmap.ndim - 3) + (size, 1))
    columns = jnp.sum(heatmap, axis=-3) / mass[..., None, :]
    rows = jnp.sum(heatmap, axis=-2) / mass[..., None, :]
    # Two small products, along one axis each, rather than sums over all pixels. By default TPUs and
    # some GPUs would round their factors to 1 part in 256 or 1,024: a pixel of a large crop.
    product = functools.partial(jnp.einsum, precision="highest")
    x = product("...wk,w->...k", columns, grid)
    y = product("...hk,h->...k", rows, grid)
    var_x = product("...wk,...wk->...k", columns, jnp.square(along - x[..., None, :]))
    var_y = product("...hk,...hk->...k", rows, jnp.square(along - y[..., None, :]))
    return jnp.stack([x, y], axis=-1), jnp.sqrt((var_x + var_y) / 2)


def fuse(heatmap: jax.Array, previous: jax.Array, penalty: jax.Array | float) -> jax.Array:
    """Weighted geometric mean of two heatmaps, divided by its maximum: a product of experts.

    `log z = (log heatmap + penalty * log previous) / (1 + penalty)`. Two Gaussians give the
    Gaussian whose centre is their precision-weighted mean, so a sharp heatmap decides where the
    landmark is and a broad one gives way, which the arithmetic mean of two points cannot do.

    Args:
        heatmap: (..., h, w, K), non-negative, of this frame.
        previous: the same of the last frame, moved to where it belongs.
        penalty: weight of `previous`, not negative; broadcasts.

    Returns:
        (..., h, w, K) in (0, 1]; `heatmap` itself where the penalty is 0. The derivative of the
        division is left out.
    """
    now, before = (jnp.log(jnp.maximum(h, _TINY)) for h in (heatmap, previous))
    logarithm = (now + penalty * before) / (1 + penalty)
    # The derivative of a maximum looks for the pixel that equals it. A program divided over devices
    # computes both in different ways, finds none, and divides by zero. The scale of a heatmap
    # matters neither to its landmark nor to the next fusion, so its derivative is left out.
    highest = jax.lax.stop_gradient(jnp.max(logarithm, axis=(-3, -2), keepdims=True))
    return jnp.where(penalty == 0, heatmap, jnp.exp(logarithm - highest))


def move(heatmap: jax.Array, to_from: jax.Array) -> jax.Array:
    """Moves each row's heatmaps by an affine map of the plane, sampling bilinearly.

    Pixels that come from outside take the value of the nearest pixel on the border.

    Args:
        heatmap: (B, h, w, K).
        to_from: (B, 3, 3) affine, in heatmap pixels (x, y): what lies at p goes to `to_from @ p`.

    Returns:
        (B, h, w, K); equal to `heatmap` where `to_from` is the identity.
    """
    rows, h, w, num_landmarks = heatmap.shape
    from_to = inverse(to_from)
    x, y = jnp.meshgrid(jnp.arange(w), jnp.arange(h))
    points = jnp.stack([x, y, jnp.ones_like(x)]).reshape(1, 3, -1).astype(heatmap.dtype)
    source = jnp.matmul(from_to, points, precision="highest")[:, :2]
    source = jnp.clip(source, 0, jnp.array([w - 1, h - 1], heatmap.dtype)[None, :, None])
    corner = jnp.floor(source)
    (fx, fy), (x, y) = (jnp.unstack(part, axis=1) for part in (source - corner, corner))
    x, y = x.astype(jnp.int32), y.astype(jnp.int32)
    flat = heatmap.reshape(rows, -1, num_landmarks)

    def at(y, x):
        index = jnp.minimum(y, h - 1) * w + jnp.minimum(x, w - 1)
        return jnp.take_along_axis(flat, index[..., None], axis=1, mode="promise_in_bounds")

    fx, fy = fx[..., None], fy[..., None]
    upper = (1 - fx) * at(y, x) + fx * at(y, x + 1)
    lower = (1 - fx) * at(y + 1, x) + fx * at(y + 1, x + 1)
    return ((1 - fy) * upper + fy * lower).reshape(heatmap.shape)


def inverse(to_from: jax.Array) -> jax.Array:
    """`from_to` of (B, 3, 3) affine maps of the plane, in closed form.

    A library's LU decomposition is not divided over devices by compilers.
    """
    (a, b, x), (c, d, y) = (jnp.unstack(row, axis=1) for row in jnp.unstack(to_from[:, :2], axis=1))
    linear = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], axis=1)
    linear /= (a * d - b * c)[:, None, None]
    shift = -jnp.sum(linear * jnp.stack([x, y], -1)[:, None], axis=2, keepdims=True)
    return jnp.concatenate([jnp.concatenate([linear, shift], axis=2), to_from[:, 2:]], axis=1)


def released_spread(heatmap: jax.Array) -> jax.Array:
    """Spread as the released code reports it, to compare results with it.

    There the mean, in normalised coordinates, is subtracted from columns and rows in heatmap
    pixels, so the value also grows with the landmark's distance from the top left corner.
    `soft_argmax` returns the standard deviation itself.

    Args:
        heatmap: (..., h, w, K), non-negative.

    Returns:
        (..., K) in the unit of the released code.
    """
    size = heatmap.shape[-3]
    weights = heatmap / (1e-4 + jnp.sum(heatmap, axis=(-3, -2), keepdims=True))
    pixels = jnp.arange(size, dtype=heatmap.dtype)
    (x, y) = jnp.unstack(soft_argmax(heatmap)[0][..., None, None, :, :], axis=-1)
    leading = (1,) * (heatmap.ndim - 3)
    columns, rows = pixels.reshape(*leading, 1, size, 1), pixels.reshape(*leading, size, 1, 1)
    deviation = (columns - x) ** 2 + (rows - y) ** 2
    return jnp.sqrt(jnp.sum(weights * deviation, axis=(-3, -2)) / 2) / size
