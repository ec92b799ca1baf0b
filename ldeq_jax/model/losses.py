"""Losses on landmark coordinates, elementwise and their mean over a face, and on the spread.

Coordinates are normalised to the crop: u = x / image_size.
"""

from typing import Literal

import jax
import jax.numpy as jnp

LossName = Literal["l1", "l2"]
EMPTY_SPREAD = 0.2  # of a heatmap without a face; one that is the same everywhere has 0.29


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


def landmark_loss(
    name: LossName,
    predicted: jax.Array,
    target: jax.Array,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Mean loss of each sample over its counted coordinates.

    Args:
        name: "l1" or "l2".
        predicted: (B, K, 2) landmarks, normalised to the crop.
        target: (B, K, 2) reference, same unit.
        mask: (B,) or (B, K) True for the samples or landmarks that count; all do if None. Values
            where it is False, NaN included, affect neither the loss nor its gradient.

    Returns:
        (B,) loss; 0 for a sample with nothing to count.

    Raises:
        ValueError: the shapes differ, or the name is neither of the two.
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
    # Masks the inputs, not the loss: a gradient of 0 times NaN would still be NaN.
    predicted, target = jnp.where(mask, predicted, 0), jnp.where(mask, target, 0)
    match name:
        case "l1":
            loss = l1(predicted, target)
        case "l2":
            loss = l2(predicted, target)
        case _:
            raise ValueError(f"loss {name!r} is not one of: l1, l2")
    count = jnp.sum(mask, axis=(1, 2))
    return jnp.sum(loss, axis=(1, 2)) / jnp.maximum(count, 1)


def spread_loss(
    spread: jax.Array,
    target: float | jax.Array,
    error: jax.Array | None = None,
    growth: float = 0.0,
) -> jax.Array:
    """Loss of heatmaps that are too broad, or whose spread does not tell the error to expect.

    Without `growth`, the mean over landmarks of the excess of their spread over the target: a
    heatmap that is sharper costs nothing, and does not offset another. With it, the mean of
    ``log(spread / sqrt(target^2 + (growth error)^2))^2``: a heatmap is to be as sharp as the target
    where the landmark is found well, and broad where the model errs, so that fusion and motion can
    weigh it. Heatmaps of a few pixels cannot be as sharp as errors are small, hence the factor.

    Args:
        spread: (B, K) standard deviation of each heatmap.
        target: of a landmark without error, same unit.
        error: (B, K) distance of each landmark from its label, same unit; not differentiated.
        growth: spread per error; 0 ignores the error.

    Returns:
        (B,) loss: in the unit of the spread without `growth`, else without unit.
    """
    if not growth:
        return jnp.mean(jnp.maximum(spread - target, 0), axis=1)
    assert error is not None
    wanted = jnp.square(target) + jnp.square(growth * jax.lax.stop_gradient(error))
    return jnp.mean(jnp.square(jnp.log(spread + 1e-6) - jnp.log(wanted) / 2), axis=1)


def empty_loss(spread: jax.Array) -> jax.Array:
    """Loss of heatmaps that are sharp although there is no face to be seen.

    The mean over landmarks of ``log(spread / EMPTY_SPREAD)^2``.

    Args:
        spread: (B, K) standard deviation of each heatmap, normalised to the crop.

    Returns:
        (B,) loss, without unit.
    """
    return jnp.mean(jnp.square(jnp.log((spread + 1e-6) / EMPTY_SPREAD)), axis=1)
