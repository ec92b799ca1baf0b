"""The training state: all that a step changes, and how it is divided among the devices."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ldeq_jax.config import OptimizerConfig, TrainConfig
from ldeq_jax.errors import UserError
from ldeq_jax.mesh import replicated
from ldeq_jax.model.ldeq import LDEQ, ModelConfig
from ldeq_jax.training.optimizer import make_optimizer

_SMALL = 1024  # elements; sharding smaller arrays costs more communication than it saves


@flax.struct.dataclass
class TrainState:
    """All that changes during training; arrays only.

    Attributes:
        step: () int32, batches used: optimiser steps, and steps that were skipped.
        params: parameters.
        batch_stats: running averages of BatchNorm; empty without it.
        opt_state: optimiser state.
        ema: averaged parameters; empty when there is no average.
        skipped: () int32, steps that changed nothing, as their loss or gradient was not finite.
        skipped_in_a_row: () int32, those since the last step that was not skipped.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any
    skipped: jax.Array | np.integer = np.int32(0)
    skipped_in_a_row: jax.Array | np.integer = np.int32(0)

    def variables(self) -> dict[str, Any]:
        """What `LDEQ.apply` needs to predict: averaged parameters where they are kept."""
        return {"params": self.ema or self.params, "batch_stats": self.batch_stats}


def create_state(
    model_config: ModelConfig,
    optimizer_config: OptimizerConfig,
    train_config: TrainConfig,
    mesh: jax.sharding.Mesh,
) -> TrainState:
    """A fresh state, placed by `state_shardings`; the same for the same seed on any mesh."""
    create = functools.partial(_initial_state, model_config, optimizer_config, train_config)
    # XLA would optimise each random draw of this program, which runs once, for a second on a CPU.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options: Any = {"xla_backend_optimization_level": 0} if on_cpu else None
    shardings = state_shardings(model_config, optimizer_config, train_config, mesh)
    lowered = jax.jit(create, out_shardings=shardings).lower()
    return lowered.compile(compiler_options=options)()


def state_shardings(
    model_config: ModelConfig,
    optimizer_config: OptimizerConfig,
    train_config: TrainConfig,
    mesh: jax.sharding.Mesh,
) -> TrainState:
    """How the arrays of a state are divided among the devices, as a TrainState of shardings.

    With `train.shard_params` each array is divided along its largest axis whose length is a
    multiple of the number of devices. Small arrays, and those without such an axis, are replicated.
    Without `train.shard_params` all arrays are.
    """

    def place(leaf):
        axes = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if not train_config.shard_params or leaf.size < _SMALL or not axes:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: leaf.shape[axis])
        return jax.NamedSharding(mesh, jax.P(*[None] * axis, "batch"))

    create = functools.partial(_initial_state, model_config, optimizer_config, train_config)
    return jax.tree.map(place, jax.eval_shape(create))


def _initial_state(model_config, optimizer_config, train_config):
    image = jnp.zeros(
        (1, model_config.image_size, model_config.image_size, 3), jnp.dtype(model_config.dtype)
    )
    variables = LDEQ(model_config).init(jax.random.key(train_config.seed), image)
    params = variables["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=make_optimizer(optimizer_config, train_config.num_steps).init(params),
        ema=jax.tree.map(jnp.copy, params) if optimizer_config.ema_decay else {},
        skipped=jnp.int32(0),
        skipped_in_a_row=jnp.int32(0),
    )


def with_weights(state: TrainState, variables: dict[str, Any]) -> tuple[TrainState, list[str]]:
    """A fresh state that starts from the weights of a trained model, as far as they fit.

    An array fits where the trained model has one of the same name and shape; the others keep their
    random numbers.

    Args:
        state: of `create_state`.
        variables: of the trained model, for `LDEQ.apply`.

    Returns:
        The state, and the layers of which not all arrays fit.

    Raises:
        UserError: no layer fits.
    """
    given = {_name(path): value for path, value in jax.tree.leaves_with_path(variables)}
    found, new = [], []

    def merge(path, fresh):
        name = _name(path)
        layer = name.split(".", 1)[1].rpartition(".")[0]
        value = given.get(name)
        if value is None or value.shape != fresh.shape:
            new.append(layer)
            return fresh
        found.append(layer)
        return jax.device_put(np.asarray(value, fresh.dtype), fresh.sharding)

    trees = {"params": state.params, "batch_stats": state.batch_stats}
    trees = jax.tree.map_with_path(merge, trees)
    # Norms alone would be no start.
    if not any(layer.endswith("conv") and layer not in new for layer in found):
        raise UserError(
            "train.start_from: no layer of that model fits this config's; start from the config "
            "that it was trained with (config.json in its --workdir)"
        )
    ema = jax.tree.map(jnp.copy, trees["params"]) if state.ema else state.ema
    return dataclasses.replace(state, **trees, ema=ema), list(dict.fromkeys(new))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
