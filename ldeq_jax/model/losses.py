"""Losses on landmark coordinates, elementwise and their mean over a face, and on their spread.

Coordinates are normalised to the crop (u = x / image_size), so lengths such as the wing's width are
shares of the crop as well; the defaults are the papers' pixels on a 256-pixel crop.
"""

from typing import Literal

import jax
import jax.numpy as jnp

LossName = Literal["l1", "l2", "smooth_l1", "wing"]

_PIXEL = 1 / 256


def l1(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Absolute difference of each coordinate, `|d|`.

    Args:
        predicted: (..., K, 2) landmarks.
        target: reference of the same shape.

    Returns:
        Loss of the same shape.
    """
    return jnp.abs(predicted - target)


def l2(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Squared difference of each coordinate, d^2 (without a factor 1/2).

    Args:
        predicted: (..., K, 2) landmarks.
        target: reference of the same shape.

    Returns:
        Loss of the same shape.
    """
    return jnp.square(predicted - target)


def smooth_l1(
    predicted: jax.Array, target: jax.Array, delta: float | jax.Array = _PIXEL
) -> jax.Array:
    """Quadratic near 0, then of slope 1: `d^2 / (2 delta)` below delta, `|d| - delta / 2` above.

    Args:
        predicted: (..., K, 2) landmarks.
        target: reference of the same shape.
        delta: where the two meet, with equal slopes; above 0, in the unit of the coordinates.

    Returns:
        Loss of the same shape.

    Reference:
        Girshick, Fast R-CNN, ICCV 2015 (eq. 3, delta = 1).
    """
    size = jnp.abs(predicted - target)
    return jnp.where(size < delta, jnp.square(size) / (2 * delta), size - delta / 2)


def wing(
    predicted: jax.Array,
    target: jax.Array,
    width: float | jax.Array = 10 * _PIXEL,
    epsilon: float | jax.Array = 2 * _PIXEL,
) -> jax.Array:
    """Logarithm near zero, so that small errors keep a large slope, then of slope 1.

    ``width * ln(1 + |d| / epsilon)`` below width, ``|d| - C`` above, with C making the two meet.
    The slope falls from width / epsilon at zero to width / (width + epsilon) at the width, and is 1
    beyond: the loss is continuous there, its slope is not.

    Args:
        predicted: (..., K, 2) landmarks.
        target: reference of the same shape.
        width: where the two branches meet; above 0, in the unit of the coordinates.
        epsilon: curvature of the logarithm; above 0, same unit.

    Returns:
        Loss of the same shape.

    Reference:
        Feng et al., Wing Loss for Robust Facial Landmark Localisation with CNNs, CVPR 2018 (eq. 5).
    """
    size = jnp.abs(predicted - target)
    offset = width - width * jnp.log1p(width / epsilon)
    return jnp.where(size < width, width * jnp.log1p(size / epsilon), size - offset)


def landmark_loss(
    name: LossName,
    predicted: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
    *,
    delta: float | jax.Array = _PIXEL,
    width: float | jax.Array = 10 * _PIXEL,
    epsilon: float | jax.Array = 2 * _PIXEL,
) -> jax.Array:
    """Mean loss of each sample over its counted coordinates.

    Args:
        name: "l1", "l2", "smooth_l1" or "wing".
        predicted: (B, K, 2) landmarks, normalised to the crop.
        target: (B, K, 2) reference, same unit.
        mask: (B,) or (B, K) True for the samples or landmarks that count; all do if None. What lies
            under a False, NaN included, reaches neither the loss nor its gradient.
        delta: for "smooth_l1".
        width: for "wing".
        epsilon: for "wing".

    Returns:
        (B,) loss; 0 for a sample with nothing to count.

    Raises:
        ValueError: the shapes differ, or the name is none of the four.
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"landmark_loss needs predicted and target of one shape, got {predicted.shape} and "
            f"{target.shape}"
        )
    if mask is None:
        mask = jnp.ones(predicted.shape[:1], bool)
    if mask.shape != predicted.shape[: mask.ndim]:
        raise ValueError(
            f"landmark_loss needs a mask of shape (B,) or (B, K) for landmarks {predicted.shape}, "
            f"got {mask.shape}"
        )
    mask = mask.astype(bool).reshape(mask.shape + (1,) * (predicted.ndim - mask.ndim))
    mask = jnp.broadcast_to(mask, predicted.shape)
    # Masking what goes in, not what comes out: a gradient of 0 times NaN would still be NaN.
    predicted, target = jnp.where(mask, predicted, 0), jnp.where(mask, target, 0)
    match name:
        case "l1":
            loss = l1(predicted, target)
        case "l2":
            loss = l2(predicted, target)
        case "smooth_l1":
            loss = smooth_l1(predicted, target, delta)
        case "wing":
            loss = wing(predicted, target, width, epsilon)
        case _:
            raise ValueError(f"loss {name!r} is not one of: l1, l2, smooth_l1, wing")
    count = jnp.sum(mask, axis=(1, 2))
    return jnp.sum(loss, axis=(1, 2)) / jnp.maximum(count, 1)


def spread_loss(spread: jax.Array, target: float | jax.Array) -> jax.Array:
    """Mean over landmarks of what the spread of their heatmaps exceeds a target by.

    A heatmap that is sharper than the target costs nothing, and makes up for no other.

    Args:
        spread: (B, K) standard deviation of each heatmap.
        target: spread that costs nothing, same unit.

    Returns:
        (B,) loss, in the unit of the spread.
    """
    return jnp.mean(jnp.maximum(spread - target, 0), axis=1)
