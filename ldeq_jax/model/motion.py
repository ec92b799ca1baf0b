"""Motion of a face from frame to frame, estimated from its heatmaps as a similarity of the plane.

An alpha-beta filter of position, scale and rotation: `predict_motion` says where the last frame's
heatmaps go if the motion continues, `update_motion` corrects that by the new ones. Motion is per
second, so frames may be any time apart: two predictions in a row are one over both intervals.
Matrices are in heatmap pixels (x, y), named `to_from`.
"""

import functools
import math

import jax
import jax.numpy as jnp

from ldeq_jax.model import heatmap

# Seconds. A face without new evidence comes to rest: its velocity falls by a fifth in 1/25 s.
_COAST = -1 / (25 * math.log(0.8))


def crop_motion(
    frame_from_before: jax.Array, frame_from_now: jax.Array, offset: float = 0.0
) -> jax.Array:
    """now_from_before of a point that rests in the frame while the crop moves.

    Args:
        frame_from_before: (B, 3, 3) from pixels of the last crop to frame pixels.
        frame_from_now: (B, 3, 3) the same of this crop.
        offset: what column 0 and row 0 of a heatmap stand for, as in `heatmap.soft_argmax`.

    Returns:
        (B, 3, 3).
    """
    crop_from_heatmap = jnp.array(
        [[[4, 0, 4 * offset], [0, 4, 4 * offset], [0, 0, 1]]], frame_from_now.dtype
    )
    now, before = (
        _product(frame_from_crop, crop_from_heatmap)
        for frame_from_crop in (frame_from_now, frame_from_before)
    )
    return _product(heatmap.inverse(now), before)


def predict_motion(
    heatmaps: jax.Array, motion: jax.Array, rest: jax.Array, interval: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Where the face is expected if it moves on as it did, ever more slowly.

    Args:
        heatmaps: (B, h, w, K) of the last frame.
        motion: (B, 4) motion per second, as in `rwr.RwRState`, in heatmap pixels of the last crop.
        rest: (B, 3, 3) now_from_before of a point that rests in the frame.
        interval: (B,) seconds since the last frame.

    Returns:
        (B, 3, 3) now_from_before of the face, and the motion (B, 4) that is left, in pixels of this
        crop.
    """
    shift = _product(rest[:, :2, :2], motion[:, 2:, None])
    motion = jnp.concatenate([motion[:, :2], shift[..., 0]], axis=1)
    points, variance = _landmarks(heatmaps)
    weight = _weights(variance)
    left = jnp.exp(-interval / _COAST)[:, None]
    way = _COAST * (1 - left) * motion
    return _product(_similarity(way, _transform(rest, points), weight), rest), left * motion


def update_motion(
    heatmaps: jax.Array,
    now: jax.Array,
    expected: jax.Array,
    motion: jax.Array,
    gain: jax.Array | float,
    interval: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Where the face is by the new heatmaps, and its motion from now on.

    Args:
        heatmaps: (B, h, w, K) of the last frame.
        now: (B, h, w, K) of this frame.
        expected: (B, 3, 3) now_from_before, of `predict_motion`.
        motion: (B, 4), of `predict_motion`.
        gain: share of the difference from what was expected that is trusted, in (0, 1], where the
            new heatmaps are as sharp as the last ones; less is trusted of broader ones. One number
            or (B, 1).
        interval: (B,) seconds since the last frame.

    Returns:
        (B, 3, 3) now_from_before of the face, and its motion (B, 4) from now on.
    """
    # Points are transformed, not read from moved heatmaps, whose tails the border cuts again.
    points, variance = _landmarks(heatmaps)
    targets, variance_now = _landmarks(now)
    points, both = _transform(expected, points), variance + variance_now
    weight = _weights(both)
    difference = fit_similarity(points, targets, weight)
    # As in a Kalman filter, a frame that is less certain than the state moves it less.
    gain = gain * jnp.minimum(1, 2 * jnp.mean(variance / both, axis=1, keepdims=True))
    trusted = _similarity(gain * difference, points, weight)
    # The usual relation between the two gains of an alpha-beta filter, for a velocity that falls.
    gain_of_velocity = gain**2 / (2 - gain) / (_COAST * jnp.expm1(interval / _COAST))[:, None]
    return _product(trusted, expected), motion + gain_of_velocity * difference


def fit_similarity(points: jax.Array, targets: jax.Array, weight: jax.Array) -> jax.Array:
    """The least-squares similarity from points to targets.

    Args:
        points: (B, K, 2), x then y.
        targets: (B, K, 2).
        weight: (B, K, 1), summing to 1 over K.

    Returns:
        (B, 4): scale (logarithm), rotation (radians), and shift of the points' weighted centre.
    """
    centre, goal = (jnp.sum(weight * p, axis=1, keepdims=True) for p in (points, targets))
    (px, py), (qx, qy) = (jnp.unstack(p, axis=-1) for p in (points - centre, targets - goal))
    along = jnp.sum(weight[..., 0] * (px * qx + py * qy), axis=1)
    across = jnp.sum(weight[..., 0] * (px * qy - py * qx), axis=1)
    extent = jnp.sum(weight[..., 0] * (px**2 + py**2), axis=1)
    # Rows without a face have no extent: their result is not used, but must be finite.
    ratio = jnp.maximum(jnp.hypot(along, across), 1e-6) / jnp.maximum(extent, 1e-6)
    turn = jnp.stack([jnp.log(ratio), jnp.arctan2(across, along)], axis=1)
    return jnp.concatenate([turn, (goal - centre)[:, 0]], axis=1)


def _landmarks(heatmaps):
    """Landmarks (B, K, 2) in heatmap pixels, and their variances (B, K), above 0."""
    landmarks, spread = heatmap.soft_argmax(heatmaps)
    return heatmaps.shape[1] * landmarks, 1e-6 + jnp.square(spread)


def _weights(variance):
    """(B, K, 1) weights of the landmarks in fits, which sum to 1."""
    weight = 1 / variance[..., None]
    return weight / jnp.sum(weight, axis=1, keepdims=True)


def _similarity(motion, points, weight):
    """(B, 3, 3) of a motion (B, 4) around the weighted centre of (B, K, 2) points."""
    centre = jnp.sum(weight * points, axis=1)[..., None]
    scale, angle = jnp.exp(motion[:, 0]), motion[:, 1]
    a, b = scale * jnp.cos(angle), scale * jnp.sin(angle)
    turn = jnp.stack([jnp.stack([a, -b], -1), jnp.stack([b, a], -1)], axis=-2)
    shift = centre - _product(turn, centre) + motion[:, 2:, None]
    last = jnp.broadcast_to(jnp.array([0, 0, 1], shift.dtype), (motion.shape[0], 1, 3))
    return jnp.concatenate([jnp.concatenate([turn, shift], axis=2), last], axis=1)


def _transform(to_from, points):
    """(B, K, 2) points through (B, 3, 3) affine maps."""
    turned = _product(points, jnp.swapaxes(to_from[:, :2, :2], 1, 2))
    return turned + to_from[:, None, :2, 2]


# Coordinates need full precision, which products do not have by default on TPUs and some GPUs.
_product = functools.partial(jnp.matmul, precision="highest")
