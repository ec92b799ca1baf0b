"""Training: state, optimiser, and one step that runs on every device of a mesh at once."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ldeq_jax.data import LandmarkBatch
from ldeq_jax.losses import LossName, landmark_loss, spread_loss
from ldeq_jax.model import LDEQ, ModelConfig, normalise_image

OptimizerName = Literal["adam", "adamw", "nadam", "radam"]
Decay = Literal["cosine", "step", "none"]
Clip = Literal["value", "norm", "none"]

_SMALL = 1024  # elements; to divide fewer saves nothing worth the talk


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser, learning-rate schedule, clipping and weight average.

    Attributes:
        name: "adam", "adamw", "nadam" or "radam".
        learning_rate: peak learning rate.
        warmup_steps: steps of linear rise; the first step has rate 0.
        decay: "cosine" to 0 over the rest of the run, "step" (times `decay_factor` from each of the
            steps `decay_at` on) or "none".
        decay_at: steps at which "step" decays, counted from the start of the run.
        decay_factor: what it multiplies by.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled decay of matrices and kernels, for "adamw".
        clip: "value" (each element), "norm" (whole gradient) or "none".
        clip_at: the threshold.
        ema_decay: decay of the weight average that is evaluated and exported; 0 keeps none.
    """

    name: OptimizerName = "adam"
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    decay: Decay = "step"
    decay_at: tuple[int, ...] = ()
    decay_factor: float = 0.1
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip: Clip = "value"
    clip_at: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for field, kind in (("name", OptimizerName), ("decay", Decay), ("clip", Clip)):
            if getattr(self, field) not in get_args(kind):
                raise ValueError(
                    f"{field} must be one of {get_args(kind)}, not {getattr(self, field)!r}"
                )
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"weight_decay needs adamw; {self.name} has none")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
        if self.warmup_steps < 0 or self.clip_at <= 0:
            raise ValueError("warmup_steps must be 0 or more, and clip_at above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a run, its loss, and how often things happen.

    Attributes:
        num_steps: optimiser steps.
        loss: "l1", "l2", "smooth_l1" or "wing", on normalised coordinates.
        min_budget: each step draws its solver budget uniformly from min_budget, ...,
            forward.max_steps, so that the map learns to improve a state of any age; 0 always uses
            the largest.
        jacobian_weight: weight of the squared Frobenius norm of df/dz per state element.
        spread_weight: weight of what the heatmaps' spread exceeds `spread_target` by, mean over
            landmarks, in normalised coordinates. The loss of the coordinates alone lets heatmaps be
            broad or have several peaks, which then cannot be moved with a face on video.
        spread_target: spread that costs nothing, in normalised coordinates.
        shard_params: whether the devices divide parameters, their average and the optimiser's
            state among them, which takes less memory of each and more talk between them; if not,
            each has all of it. The results are the same but for rounding.
        start_from: directory of a model whose weights the run starts from; "" starts from random
            ones.
        seed: of the initial weights and of all randomness of a step.
        log_every: steps between lines of the log.
        eval_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        keep: number of latest checkpoints kept; the best is kept besides.
    """

    num_steps: int = 1000
    loss: LossName = "l1"
    min_budget: int = 0
    jacobian_weight: float = 0.0
    spread_weight: float = 0.0
    spread_target: float = 0.03
    shard_params: bool = False
    start_from: str = ""
    seed: int = 0
    log_every: int = 20
    eval_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise ValueError(f"loss must be one of {get_args(LossName)}, not {self.loss!r}")
        for field in ("num_steps", "log_every", "eval_every", "checkpoint_every", "keep"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.min_budget < 0:
            raise ValueError(f"min_budget must be 0 or more, not {self.min_budget}")
        for field in ("jacobian_weight", "spread_weight", "spread_target"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be 0 or more, not {getattr(self, field)}")


@flax.struct.dataclass
class TrainState:
    """All that changes during training; arrays only.

    Attributes:
        step: () int32, batches used, also the number of optimiser steps but for those skipped.
        params: parameters.
        batch_stats: running averages of BatchNorm; empty without it.
        opt_state: optimiser state.
        ema: averaged parameters; empty when there is no average.
        skipped: () int32, steps of which nothing came, as their loss or gradient was not finite.
        skipped_in_a_row: () int32, of them, those since the last that was not.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any
    skipped: jax.Array = np.int32(0)
    skipped_in_a_row: jax.Array = np.int32(0)

    def variables(self) -> dict[str, Any]:
        """What `LDEQ.apply` needs to predict: averaged parameters where they are kept."""
        return {"params": self.ema or self.params, "batch_stats": self.batch_stats}


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate as a function of the step, over a run of `num_steps`."""
    rest = max(num_steps - config.warmup_steps, 1)
    match config.decay:
        case "cosine":
            main = optax.cosine_decay_schedule(config.learning_rate, rest)
        case "step":
            drops = {at - config.warmup_steps: config.decay_factor for at in config.decay_at}
            main = optax.piecewise_constant_schedule(config.learning_rate, drops)
        case _:
            main = optax.constant_schedule(config.learning_rate)
    if not config.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def same_rates(config: OptimizerConfig, num_steps: int, other: int, *, until: int) -> bool:
    """Whether runs of `num_steps` and of `other` steps have the same learning rates before a step.

    Args:
        config: of both runs.
        num_steps: length of the one.
        other: length of the other.
        until: number of steps to compare, from the first.
    """
    if num_steps == other:
        return True
    steps = np.arange(until)
    one, two = (make_schedule(config, number)(steps) for number in (num_steps, other))
    return bool(np.array_equal(np.broadcast_to(one, until), np.broadcast_to(two, until)))


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Clipping, then the optimiser with its schedule."""
    clip = {
        "value": optax.clip,
        "norm": optax.clip_by_global_norm,
        "none": lambda _: optax.identity(),
    }[config.clip]
    options = {"b1": config.b1, "b2": config.b2}
    if config.name == "adamw":

        def is_matrix(params):  # biases, norms and the temperature have one axis or none
            return jax.tree.map(lambda p: p.ndim > 1, params)

        options |= {"weight_decay": config.weight_decay, "mask": is_matrix}
    schedule = make_schedule(config, num_steps)
    return optax.chain(clip(config.clip_at), getattr(optax, config.name)(schedule, **options))


def create_state(
    model: ModelConfig, optimizer: OptimizerConfig, train: TrainConfig, mesh: jax.sharding.Mesh
) -> TrainState:
    """A fresh state where `state_shardings` says; the same for the same seed on any mesh."""
    create = functools.partial(_initial_state, model, optimizer, train)
    # XLA would optimise each random draw of this program, which runs once, for a second on a CPU.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    shardings = state_shardings(model, optimizer, train, mesh)
    lowered = jax.jit(create, out_shardings=shardings).lower()
    return lowered.compile(compiler_options=options)()


def state_shardings(
    model: ModelConfig, optimizer: OptimizerConfig, train: TrainConfig, mesh: jax.sharding.Mesh
) -> TrainState:
    """Where each array of a state lies, as a TrainState of shardings.

    With `train.shard_params` each array is divided along the largest of the axes that the devices
    divide. Small ones, and those without such an axis, are on every device, as are all without it.
    """

    def place(leaf):
        axes = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if not train.shard_params or leaf.size < _SMALL or not axes:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: leaf.shape[axis])
        return jax.NamedSharding(mesh, jax.P(*[None] * axis, "batch"))

    create = functools.partial(_initial_state, model, optimizer, train)
    return jax.tree.map(place, jax.eval_shape(create))


def _initial_state(model, optimizer, train):
    image = jnp.zeros((1, model.image_size, model.image_size, 3), jnp.dtype(model.dtype))
    variables = LDEQ(model).init(jax.random.key(train.seed), image)
    params = variables["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=make_optimizer(optimizer, train.num_steps).init(params),
        ema=jax.tree.map(jnp.copy, params) if optimizer.ema_decay else {},
        skipped=jnp.int32(0),
        skipped_in_a_row=jnp.int32(0),
    )


def with_weights(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """A fresh state that starts from the weights of a trained model.

    Args:
        state: of `create_state`.
        variables: of `LDEQ.apply`.

    Raises:
        ValueError: the weights are not those of a model of this config.
    """

    def like(fresh, value):
        if fresh.shape != value.shape:
            raise ValueError(f"start_from: a weight of shape {value.shape}, not {fresh.shape}")
        return jax.device_put(np.asarray(value, fresh.dtype), fresh.sharding)

    trees = {"params": state.params, "batch_stats": state.batch_stats}
    given = {name: variables.get(name, {}) for name in trees}
    if jax.tree.structure(trees) != jax.tree.structure(given):
        raise ValueError("start_from: a model of other layers than this config's")
    trees = jax.tree.map(like, trees, given)
    ema = jax.tree.map(jnp.copy, trees["params"]) if state.ema else state.ema
    return state.replace(**trees, ema=ema)


def make_train_step(
    model: ModelConfig,
    optimizer: OptimizerConfig,
    train: TrainConfig,
    eye_corners: tuple[int, int],
    mesh: jax.sharding.Mesh,
) -> Callable[[TrainState, LandmarkBatch], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted training step.

    The batch is divided over the mesh and the state lies where `state_shardings` says; norms,
    losses and gradients are those of the whole batch, so the number of devices changes nothing
    beyond rounding.

    A face whose solve diverges counts with its best iterate. Where the loss or the gradient is
    still not finite, the step is skipped: it uses up its batch, and weights, averages and optimiser
    stay as they are. Leaving out the face alone would take a second pass, for what is not finite
    within a row makes the gradient of every weight NaN, whatever weight the row has in the loss.

    Returns:
        `step(state, batch) -> state, metrics`. It consumes the state it is given. The metrics are:
        loss, nme (percent), spread (percent of the crop), solver_steps, residual, converged and
        diverged (shares of faces), grad_norm, lr, and the state's skipped and skipped_in_a_row.

    Raises:
        ValueError: `train.min_budget` exceeds the largest budget.
    """
    if train.min_budget > model.forward.max_steps:
        raise ValueError(
            f"train.min_budget {train.min_budget} exceeds model.forward.max_steps "
            f"{model.forward.max_steps}"
        )
    network = LDEQ(model)
    transform = make_optimizer(optimizer, train.num_steps)
    schedule = make_schedule(optimizer, train.num_steps)
    left, right = eye_corners
    everywhere = replicated(mesh)
    shardings = state_shardings(model, optimizer, train, mesh)

    def loss_fn(params, batch_stats, batch, key):
        budget_key, jacobian_key = jax.random.split(key)
        longest = model.forward.max_steps
        shortest = train.min_budget or longest
        prediction, updates = network.apply(
            {"params": params, "batch_stats": batch_stats},
            normalise_image(batch.image).astype(model.dtype),
            train=True,
            budget=jax.random.randint(budget_key, (), shortest, longest + 1),
            jacobian_key=jacobian_key if train.jacobian_weight else None,
            mutable=["batch_stats", "losses"],
        )
        per_face = landmark_loss(train.loss, prediction.landmarks, batch.landmarks, batch.mask)
        count = jnp.maximum(jnp.sum(batch.mask), 1)

        def average(values):
            return jnp.sum(jnp.where(batch.mask, values, 0)) / count

        loss = jnp.sum(per_face) / count
        excess = spread_loss(prediction.spread, train.spread_target)
        loss += train.spread_weight * average(excess)
        for penalty in jax.tree.leaves(updates.get("losses", {})):
            loss += train.jacobian_weight * jnp.mean(penalty)

        error = jnp.linalg.norm(prediction.landmarks - batch.landmarks, axis=-1).mean(axis=-1)
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

    def step(state: TrainState, batch: LandmarkBatch):
        # The key is a function of the step alone, so a resumed run draws what the first would have.
        key = jax.random.fold_in(jax.random.key(train.seed), state.step)
        # Divided parameters are put together once, not in every iteration of the solver.
        whole = jax.lax.with_sharding_constraint(state.params, everywhere)
        gradient, (batch_stats, metrics) = jax.grad(loss_fn, has_aux=True)(
            whole, state.batch_stats, batch, key
        )
        gradient = jax.lax.with_sharding_constraint(gradient, shardings.params)
        updates, opt_state = transform.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if optimizer.ema_decay:
            # The average is short while the weights still move fast.
            decay = jnp.minimum(optimizer.ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        grad_norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(grad_norm)
        new = state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema)
        new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state).replace(
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
        in_shardings=(shardings, divided(mesh)),
        out_shardings=(shardings, everywhere),
        donate_argnums=0,
    )


def make_mesh(batch_size: int, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Devices in one row, over which batches are divided: all of all hosts if none are given.

    Raises:
        ValueError: the devices do not divide the batch.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise ValueError(
            f"a batch of {batch_size} cannot be divided over {len(devices)} devices: "
            f"set --config.data.batch_size to a multiple of {len(devices)}"
        )
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), ("batch",), axis_types=auto, devices=devices)


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """The same array on every device."""
    return jax.NamedSharding(mesh, jax.P())


def divided(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Arrays whose first axis is divided over the devices."""
    return jax.NamedSharding(mesh, jax.P("batch"))


def to_devices(mesh: jax.sharding.Mesh, batch: LandmarkBatch) -> LandmarkBatch:
    """This host's rows of a batch, as part of the global batch that lies on all devices."""
    sharding = divided(mesh)
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch
    )
