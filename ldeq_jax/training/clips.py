"""The loss of a batch of clips: the model is run as on video, frame after frame.

The first frame is solved as a still. Each later one starts from the state of the frame before,
moved with the face, spends the small budget that it will have on video, and is fused with that
state by a random penalty. The loss is the error of every frame, the spread of its heatmaps, and the
change of the error from frame to frame, which is what flicker (NMF) measures.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ldeq_jax.config import TrainConfig
from ldeq_jax.data.faces import ClipBatch
from ldeq_jax.errors import UserError
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import ModelConfig, normalise_image
from ldeq_jax.model.losses import empty_loss, landmark_loss, spread_loss


def check_clips(
    model_config: ModelConfig, train_config: TrainConfig, recurrence: rwr.RwRConfig
) -> None:
    """Refuses settings that clips cannot be trained with.

    Raises:
        UserError: the stem has batch statistics, the frame's budget exceeds the model's, or the
            recurrence has no final evaluation.
    """
    if model_config.stem_norm == "batch":
        raise UserError(
            "clip.num_frames needs model.stem_norm=group: batch statistics of the frames of a clip "
            "would depend on each other"
        )
    if train_config.frame_budget > model_config.forward.max_steps:
        raise UserError(
            f"train.frame_budget {train_config.frame_budget} exceeds model.forward.max_steps "
            f"{model_config.forward.max_steps}"
        )
    if not recurrence.final_evaluation:
        raise UserError("clip.num_frames needs rwr.final_evaluation: the gradient starts there")


def clip_loss(
    model_config: ModelConfig,
    train_config: TrainConfig,
    recurrence: rwr.RwRConfig,
    eye_corners: tuple[int, int],
    variables: dict[str, Any],
    batch: ClipBatch,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss of the frames of a batch of clips.

    Clips without a face count to one part of it alone: their heatmaps are to be broad.

    Args:
        model_config: the model.
        train_config: weights of the parts of the loss, ranges of the random settings.
        recurrence: how frames are aligned and fused; its penalty, follow and budgets are drawn.
        eye_corners: indices of the outer eye corners.
        variables: of the model.
        batch: clips.
        key: random key of the step.

    Returns:
        The loss, and metrics: loss, nme (percent), flicker (about NMF: percent of a pixel of a
        256-pixel face), spread, solver_steps, residual, converged and diverged (shares).
    """
    images, labels, crops = (
        jnp.asarray(a) for a in (batch.image, batch.landmarks, batch.frame_from_crop)
    )
    keys = jax.random.split(key, 5)
    low, high = (jnp.log(value) for value in train_config.penalties)
    longest = model_config.forward.max_steps
    config = dataclasses.replace(
        recurrence,
        penalty=jnp.exp(jax.random.uniform(keys[0], (), minval=low, maxval=high)),
        follow=jax.random.uniform(
            keys[1], (), minval=train_config.follows[0], maxval=train_config.follows[1]
        ),
        budget=jax.random.randint(keys[2], (), 0, train_config.frame_budget + 1),
        first_budget=jax.random.randint(
            keys[3], (), train_config.min_budget or longest, longest + 1
        ),
    )
    # Without a state to align, whose derivative would not be finite, and without a penalty.
    alone = dataclasses.replace(config, align="none", penalty=0.0)
    state = rwr.initial_state(model_config, labels.shape[0])
    share = train_config.carry
    reset = None if share == 1 else jax.random.uniform(keys[4], (len(labels),)) >= share
    frames = []
    # A loop of Python: T is small, and in one of XLA the derivatives of convolutions are slow.
    for t in range(labels.shape[1]):
        image = normalise_image(images[:, t]).astype(model_config.dtype)
        if not train_config.carry_gradient:
            state = jax.lax.stop_gradient(state)
        prediction, state = rwr.step(
            model_config,
            variables,
            config if t and share else alone,
            image,
            state,
            frame_from_crop=crops[:, t],
            reset=reset,
        )
        frames.append(prediction)
    predictions = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *frames)

    def average(values):  # over the frames of faces; (B, ...)
        mask = batch.mask.reshape(-1, *(1,) * (values.ndim - 1))
        count = jnp.maximum(jnp.sum(batch.mask), 1) * values[0].size
        return jnp.sum(jnp.where(mask, values, 0)) / count

    error = predictions.landmarks - labels
    change = jnp.diff(error, axis=1)
    # A root mean square as in NMF, smooth at zero.
    flicker = jnp.sqrt(1e-12 + jnp.mean(jnp.sum(jnp.square(change), axis=-1), axis=-1))
    price = flicker if train_config.flicker_loss == "mean" else jnp.log(flicker)
    distance = jnp.linalg.norm(error, axis=-1)

    def of_frames(loss, *arrays):
        """(B, T) losses of the frames, which are rows to the losses."""
        rows = (a.reshape(-1, *a.shape[2:]) for a in arrays)
        return loss(*rows).reshape(labels.shape[:2])

    found, spread = predictions.landmarks, predictions.spread

    def of_landmarks(target):
        return average(of_frames(lambda *a: landmark_loss(train_config.loss, *a), found, target))

    loss = of_landmarks(labels)
    if batch.taught is not None:
        loss += train_config.teacher_weight * of_landmarks(batch.taught)
    target, growth = train_config.spread_target, train_config.spread_growth
    excess = of_frames(lambda *a: spread_loss(a[0], target, a[1], growth), spread, distance)
    loss += train_config.spread_weight * average(excess)
    if train_config.empty_weight:
        empty = jnp.where(batch.mask[:, None], 0, of_frames(empty_loss, spread))
        loss += train_config.empty_weight * jnp.mean(empty)
    loss += train_config.flicker_weight * average(price)

    left, right = eye_corners
    eyes = jnp.linalg.norm(labels[..., left, :] - labels[..., right, :], axis=-1)
    extent = jnp.max(labels, axis=2) - jnp.min(labels, axis=2)
    size = jnp.sqrt(jnp.prod(extent, axis=-1))
    metrics = {
        "loss": loss,
        "nme": 100 * average(distance.mean(axis=-1) / eyes),
        "flicker": 100 * 256 * average(flicker / size[:, 1:]),
        "spread": 100 * average(spread),
        "solver_steps": average(predictions.num_steps),
        "residual": average(predictions.residual),
        "converged": average(predictions.residual < model_config.forward.tol),
        "diverged": average(~predictions.ok),
    }
    return loss, metrics
