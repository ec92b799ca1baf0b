"""How firmly a frame of a video is held to the one before: `RwRConfig`."""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from ldeq_jax.errors import UserError
from ldeq_jax.model import heatmap

Align = Literal["none", "crop", "face"]
Weighting = Literal["uniform", "spread"]
Fusion = Literal["arithmetic", "geometric"]
_SECONDS = ("hold_seconds", "follow_seconds", "longest_gap")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RwRConfig:
    """How a frame depends on the one before.

    The numbers are traced: under `jax.jit` other budgets and penalties do not recompile. How firmly
    the past is held is set in seconds, for any frame rate, or per frame, whatever the rate.

    Attributes:
        budget: solver iterations of a frame that follows another, at most the model's.
        first_budget: iterations of a frame that follows none; the model's when None.
        hold_seconds: by how long a landmark lags that moves steadily within the face, not negative:
            one number, or one per landmark (K,). The penalty is it divided by the seconds since the
            last frame, so that a change of shape is damped and delayed alike at any frame rate
            (the implicit Euler step of a low-pass filter with this time constant); 0 is no
            constraint.
        penalty: weight of the distance to the previous state, not negative, one number or (K,), in
            every frame, in place of hold_seconds; None where that counts.
        weighting: "uniform", or "spread": the penalty of each landmark is multiplied by the square
            of its previous heatmap's spread, divided by the mean square over the face, so that
            ambiguous landmarks are held and certain ones move freely.
        fusion: how the penalty holds the state: "arithmetic" is the mean of this frame's heatmaps
            and the previous ones, weighted 1 to penalty; "geometric" is their product of experts,
            `heatmap.fuse`, in which sharp heatmaps count more than broad ones.
        align: where the previous state belongs in this frame: "none" leaves it in its place in the
            crop, as released; "crop" keeps its place in the frame, whatever the crop did; "face"
            moves it along with the face, by a similarity between the landmarks of the two frames.
        follow_seconds: with "face", time constant of an alpha-beta filter on the face's position,
            scale and rotation, not negative: of an interval of as many seconds, half of what was
            not expected is trusted. 0 trusts the new frame, more takes part of the motion for
            jitter.
        follow: the gain of that filter in every frame, in (0, 1], in place of follow_seconds; None
            where that counts.
        longest_gap: seconds; a frame that comes later after the last one is solved as a still.
        warm_start: start the solver at the previous state rather than from zeros.
        final_evaluation: evaluate the map once more at the solution, as the model does on stills.
    """

    budget: int | jax.Array = 0
    first_budget: int | jax.Array | None = None
    hold_seconds: float | tuple[float, ...] | jax.Array = 0.04
    penalty: float | tuple[float, ...] | jax.Array | None = None
    weighting: Weighting = "uniform"
    fusion: Fusion = "geometric"
    align: Align = "face"
    follow_seconds: float | jax.Array = 0.01
    follow: float | jax.Array | None = None
    longest_gap: float | jax.Array = 1.0
    warm_start: bool = True
    final_evaluation: bool = True

    def __post_init__(self) -> None:
        for name, kind in (("weighting", Weighting), ("fusion", Fusion), ("align", Align)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(
                    f"{name} must be one of {get_args(kind)}, not {getattr(self, name)!r}"
                )
        for name in ("budget", "first_budget", *_SECONDS, "penalty"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            # JAX rebuilds the dataclass with its own objects, whose values are not known.
            if any(isinstance(v, int | float) and not v >= 0 for v in values):
                raise UserError(f"{name} must not be negative, got {values}")
        if isinstance(self.follow, int | float) and not 0 < self.follow <= 1:
            raise UserError(f"follow must be in (0, 1], not {self.follow}")
        for name, budget in (("budget", self.budget), ("first_budget", self.first_budget)):
            if isinstance(budget, int) and not budget and not self.final_evaluation:
                raise UserError(
                    f"a {name} of 0 needs final_evaluation: without it the model never sees the "
                    "frame"
                )


jax.tree_util.register_dataclass(
    RwRConfig,
    data_fields=["budget", "first_budget", "penalty", "follow", *_SECONDS],
    meta_fields=["weighting", "fusion", "align", "warm_start", "final_evaluation"],
)


def penalties(config: RwRConfig, interval: jax.Array, previous: jax.Array) -> jax.Array:
    """The penalty of every landmark in a frame.

    Args:
        config: how firmly the past is held.
        interval: (B,) seconds since the last frame, above 0.
        previous: (B, h, w, K) heatmaps of the last frame.

    Returns:
        (B, 1, 1, K).

    Raises:
        UserError: `hold_seconds` or `penalty` is not one number, nor one per landmark.
    """
    rows, _, _, num_landmarks = previous.shape
    name = "hold_seconds" if config.penalty is None else "penalty"
    value = jnp.asarray(getattr(config, name), previous.dtype)
    if value.ndim and value.shape != (num_landmarks,):
        raise UserError(
            f"{name} must be one number or {num_landmarks}, one per landmark, not {value.size} of "
            f"shape {value.shape}"
        )
    penalty = jnp.broadcast_to(value, (rows, num_landmarks))
    if config.penalty is None:
        penalty = penalty / interval[:, None]
    if config.weighting == "spread":
        variance = jnp.square(heatmap.soft_argmax(previous)[1])
        penalty = penalty * variance / (1e-12 + jnp.mean(variance, axis=1, keepdims=True))
    return penalty[:, None, None, :]


def motion_gain(config: RwRConfig, interval: jax.Array) -> jax.Array | float:
    """Gain of the filter of the face's motion, (B, 1) or one number, in a frame.

    Args:
        config: how firmly the past is held.
        interval: (B,) seconds since the last frame, above 0.
    """
    if config.follow is not None:
        return config.follow
    return (interval / (interval + config.follow_seconds))[:, None]
