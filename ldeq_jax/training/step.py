"""One training step, compiled for all devices of a mesh."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from ldeq_jax.config import OptimizerConfig, TrainConfig
from ldeq_jax.data.faces import ClipBatch, LandmarkBatch
from ldeq_jax.errors import UserError
from ldeq_jax.mesh import batch_sharding, replicated
from ldeq_jax.model.ldeq import LDEQ, ModelConfig, normalise_image
from ldeq_jax.model.losses import empty_loss, landmark_loss, spread_loss
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.training.clips import check_clips, clip_loss
from ldeq_jax.training.optimizer import make_optimizer, make_schedule
from ldeq_jax.training.state import TrainState, state_shardings


def make_train_step(
    model_config: ModelConfig,
    optimizer_config: OptimizerConfig,
    train_config: TrainConfig,
    eye_corners: tuple[int, int],
    mesh: jax.sharding.Mesh,
    recurrence: RwRConfig | None = None,
) -> Callable[[TrainState, LandmarkBatch | ClipBatch], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted training step.

    The batch is divided over the mesh and the state is placed by `state_shardings`; norms, losses
    and gradients are those of the whole batch, so the number of devices changes nothing beyond
    rounding.

    A face whose solve diverges counts with its best iterate. Where the loss or the gradient is
    still not finite, the step is skipped: its batch is used up, while weights, averages and
    optimiser stay as they are. Excluding the face alone would take a second pass: a value that is
    not finite in one row makes the gradient of every weight NaN, whatever the row's weight is.

    Args:
        model_config: the model.
        optimizer_config: its optimiser and schedule.
        train_config: loss and length of the run.
        eye_corners: indices of the outer eye corners.
        mesh: devices.
        recurrence: how frames depend on each other, to train on clips; None trains on stills.

    Returns:
        `step(state, batch) -> state, metrics`. It consumes the state it is given. The metrics are:
        loss, nme (percent), spread (percent of the crop), solver_steps, residual, converged and
        diverged (shares of faces), grad_norm, lr, and the state's skipped and skipped_in_a_row.

    Raises:
        UserError: `train.min_budget` exceeds the largest budget.
    """
    if train_config.min_budget > model_config.forward.max_steps:
        raise UserError(
            f"train.min_budget {train_config.min_budget} exceeds model.forward.max_steps "
            f"{model_config.forward.max_steps}"
        )
    if recurrence is not None:
        check_clips(model_config, train_config, recurrence)
    network = LDEQ(model_config)
    transform = make_optimizer(optimizer_config, train_config.num_steps)
    schedule = make_schedule(optimizer_config, train_config.num_steps)
    left, right = eye_corners
    on_all_devices = replicated(mesh)
    shardings = state_shardings(model_config, optimizer_config, train_config, mesh)

    def loss_fn(params, batch_stats, batch, key):
        budget_key, jacobian_key = jax.random.split(key)
        longest = model_config.forward.max_steps
        shortest = train_config.min_budget or longest
        prediction, updates = network.apply(
            {"params": params, "batch_stats": batch_stats},
            normalise_image(batch.image).astype(model_config.dtype),
            train=True,
            budget=jax.random.randint(budget_key, (), shortest, longest + 1),
            jacobian_key=jacobian_key if train_config.jacobian_weight else None,
            mutable=["batch_stats", "losses"],
        )
        per_face = landmark_loss(
            train_config.loss, prediction.landmarks, batch.landmarks, batch.mask
        )
        if batch.taught is not None:
            per_face += train_config.teacher_weight * landmark_loss(
                train_config.loss, prediction.landmarks, batch.taught, batch.mask
            )
        count = jnp.maximum(jnp.sum(batch.mask), 1)

        def average(values):
            return jnp.sum(jnp.where(batch.mask, values, 0)) / count

        loss = jnp.sum(per_face) / count
        distance = jnp.linalg.norm(prediction.landmarks - batch.landmarks, axis=-1)
        excess = spread_loss(
            prediction.spread,
            train_config.spread_target,
            jnp.where(batch.mask[:, None], distance, 0),
            train_config.spread_growth,
        )
        loss += train_config.spread_weight * average(excess)
        if train_config.empty_weight:
            empty = jnp.where(batch.mask, 0, empty_loss(prediction.spread))
            loss += train_config.empty_weight * jnp.mean(empty)
        for penalty in jax.tree.leaves(updates.get("losses", {})):
            loss += train_config.jacobian_weight * jnp.mean(penalty)

        error = distance.mean(axis=-1)
        eyes = jnp.linalg.norm(batch.landmarks[:, left] - batch.landmarks[:, right], axis=-1)
        metrics = {
            "loss": loss,
            "nme": 100 * average(error / eyes),
            "spread": 100 * average(jnp.mean(prediction.spread, axis=1)),
            "solver_steps": average(prediction.info.num_steps),
            "residual": average(prediction.info.residual),
            "converged": average(prediction.info.converged),
            "diverged": average(prediction.info.diverged),
        }
        return loss, (updates.get("batch_stats", {}), metrics)

    def clip_loss_fn(params, batch_stats, batch, key):
        variables = {"params": params, "batch_stats": batch_stats}
        loss, metrics = clip_loss(
            model_config, train_config, recurrence, eye_corners, variables, batch, key
        )
        return loss, (batch_stats, metrics)

    loss_of = loss_fn if recurrence is None else clip_loss_fn

    def step(state: TrainState, batch: LandmarkBatch | ClipBatch):
        # The key is a function of the step alone, so a resumed run draws what the first would have.
        key = jax.random.fold_in(jax.random.key(train_config.seed), state.step)
        # Divided parameters are gathered once, not in every iteration of the solver.
        whole = jax.lax.with_sharding_constraint(state.params, on_all_devices)
        gradient, (batch_stats, metrics) = jax.grad(loss_of, has_aux=True)(
            whole, state.batch_stats, batch, key
        )
        gradient = jax.lax.with_sharding_constraint(gradient, shardings.params)
        updates, opt_state = transform.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if optimizer_config.ema_decay:
            # The average is short while the weights still move fast.
            decay = jnp.minimum(optimizer_config.ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        grad_norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(grad_norm)
        new = dataclasses.replace(
            state, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
        )
        new = dataclasses.replace(
            jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state),
            step=state.step + 1,
            skipped=state.skipped + ~finite,
            skipped_in_a_row=jnp.where(finite, 0, state.skipped_in_a_row + 1),
        )
        metrics |= {
            "grad_norm": grad_norm,
            "lr": schedule(state.step - state.skipped),
            "skipped": new.skipped,
            "skipped_in_a_row": new.skipped_in_a_row,
        }
        return new, metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, on_all_devices),
        donate_argnums=0,
    )
