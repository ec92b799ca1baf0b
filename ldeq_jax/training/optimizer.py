"""Optimiser and schedule of a run."""

from typing import Any

import jax
import numpy as np
import optax

from ldeq_jax.config import OptimizerConfig


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
    options: dict[str, Any] = {"b1": config.b1, "b2": config.b2}
    if config.name == "adamw":

        def is_matrix(params):  # biases, norms and the temperature have one axis or none
            return jax.tree.map(lambda p: p.ndim > 1, params)

        options |= {"weight_decay": config.weight_decay, "mask": is_matrix}
    schedule = make_schedule(config, num_steps)
    return optax.chain(clip(config.clip_at), getattr(optax, config.name)(schedule, **options))
