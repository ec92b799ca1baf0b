"""What is exported: a model as functions of arrays alone, in pixels of the crop.

`still` and `video_step` are the model as it is, for compilers that know loops. `first` and
`following` compute the same without loops and without branches, for runtimes that are fast only
then: the caller decides which of the two a frame needs.
"""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from ldeq_jax.config import Config
from ldeq_jax.deq import recurrence, solver
from ldeq_jax.face.confidence import assess
from ldeq_jax.face.schema import get_schema
from ldeq_jax.model import heatmap, rwr
from ldeq_jax.model.ldeq import LDEQ, Prediction, equation, inject, normalise_image
from ldeq_jax.model.rwr_config import penalties

Arrays = dict[str, jax.Array]


def still(config: Config, variables: dict[str, Any], image: jax.Array) -> Arrays:
    """The landmarks of crops, each by itself.

    Args:
        config: the model's.
        variables: of the model.
        image: (B, H, W, 3) uint8 RGB.

    Returns:
        "landmarks" (B, K, 2) and "spread" (B, K), crop pixels; "heatmaps" (B, h, w, K); of a
        calibrated model "confidence" (B,), "probability" (B, K) and "deviation" (B, K), crop
        pixels.
    """
    found = cast(Prediction, LDEQ(config.model).apply(variables, _normalised(config, image)))
    return _read(config, found.landmarks, found.spread) | {"heatmaps": found.state}


def video_step(
    config: Config,
    variables: dict[str, Any],
    image: jax.Array,
    state: Arrays,
    frame_from_crop: jax.Array,
    interval: jax.Array,
    reset: jax.Array,
    mask: jax.Array,
) -> tuple[Arrays, Arrays]:
    """`rwr.step` on uint8 crops, with its state as a dict.

    Returns:
        The results as of `still`, without the heatmaps and with "ok" (B,); and the state.
    """
    found, after = rwr.step(
        config.model,
        variables,
        config.rwr,
        _normalised(config, image),
        rwr.RwRState(**state),
        frame_from_crop=frame_from_crop,
        interval=interval,
        reset=reset,
        mask=mask,
    )
    return _read(config, found.landmarks, found.spread) | {"ok": found.ok}, after._asdict()


def first(config: Config, variables: dict[str, Any], image: jax.Array) -> Arrays:
    """`still` without loops, for a frame that follows none; and "motion" (B, 4), which is 0."""
    model = config.model
    theta = inject(model, variables, _normalised(config, image))
    size = model.heatmap_size
    z0 = jnp.zeros((image.shape[0], size, size, model.num_landmarks), theta[1].dtype)
    z = _solve(config, theta, z0, model.forward.max_steps, model.forward.final_evaluation)
    return _results(config, z, jnp.zeros((image.shape[0], 4), z.dtype))


def following(
    config: Config,
    variables: dict[str, Any],
    image: jax.Array,
    frame_from_crop: jax.Array,
    interval: jax.Array,
    strength: jax.Array,
    previous_heatmaps: jax.Array,
    previous_motion: jax.Array,
    previous_frame_from_crop: jax.Array,
) -> Arrays:
    """`rwr.step` without loops, for a frame that follows another by at most `rwr.longest_gap`.

    Args:
        config: the model's; `rwr.budget` is a number.
        variables: of the model.
        image: (B, H, W, 3) uint8 RGB.
        frame_from_crop: (B, 3, 3) from crop pixels to frame pixels.
        interval: (B,) seconds since the last frame.
        strength: (B,) factor of the time constants, as `ldeq track --strength` has it: of the
            penalty and of `rwr.follow_seconds`; 1 as configured, 0 holds nothing.
        previous_heatmaps: (B, h, w, K) as the last frame left them.
        previous_motion: (B, 4) the same.
        previous_frame_from_crop: (B, 3, 3) of the last frame.

    Returns:
        As `first`.
    """
    theta = inject(config.model, variables, _normalised(config, image))
    interval = jnp.maximum(interval, 1e-4)
    firm = dataclasses.replace(config.rwr, follow_seconds=strength * config.rwr.follow_seconds)
    align = rwr.alignment(config.model, firm, previous_frame_from_crop, frame_from_crop, interval)
    previous, motion = previous_heatmaps, previous_motion
    if align is not None:
        previous, _ = align(previous_heatmaps, previous_motion, None)
    start = previous if config.rwr.warm_start else jnp.zeros_like(previous)
    z = _solve(config, theta, start, int(config.rwr.budget), config.rwr.final_evaluation)
    if align is not None:
        previous, motion = align(previous_heatmaps, previous_motion, z)
    fuse = heatmap.fuse if config.rwr.fusion == "geometric" else recurrence.weighted_mean
    penalty = strength[:, None, None, None] * penalties(config.rwr, interval, previous)
    z = fuse(z, previous, penalty)
    return _results(config, z, motion)


def _normalised(config, image):
    return normalise_image(image).astype(config.model.dtype)


def _solve(config, theta, z0, max_steps, final_evaluation):
    """The equilibrium that a solver without a loop finds from z0 (B, h, w, K)."""
    f, z = equation(config.model), z0
    if max_steps:

        def rows(z):
            return f(theta, z.reshape(z0.shape)).reshape(z.shape)

        z = z0.reshape(z0.shape[0], -1)
        forward = dataclasses.replace(config.model.forward, max_steps=max_steps)
        budget = jnp.full(z.shape[0], max_steps)
        z = solver.solve(rows, z, forward, budget, loop=False)[0].reshape(z0.shape)
    return f(theta, z) if final_evaluation else z


def _results(config, z, motion):
    landmarks, spread = heatmap.soft_argmax(z, config.model.readout_offset)
    return _read(config, landmarks, spread) | {"heatmaps": z, "motion": motion}


def _read(config, landmarks, spread):
    """Landmarks and spread in crop pixels, and what the calibration says of them."""
    points, spread = (config.model.image_size * array for array in (landmarks, spread))
    found = {"landmarks": points, "spread": spread}
    if config.confidence.errors:
        corners = get_schema(config.data.schema).eye_corners
        found |= assess(points, spread, config.confidence, corners, jnp)
    return found
