"""Recurrence without Recurrence for faces: steady landmarks on video, by a model trained on stills.

Micaelli et al. 2023, sec. 4. `ldeq_jax.deq.recurrence` holds the method, for any map: warm start,
budget, penalty. Here are the landmark model's config, state and prediction, the choice of where the
last frame's heatmaps belong in this one (`RwRConfig.align`), and the scan over a video. How a face
moves is estimated in `ldeq_jax.model.motion`. Reading, cropping and tracking are not done here.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from ldeq_jax.deq import recurrence
from ldeq_jax.errors import UserError
from ldeq_jax.model import heatmap
from ldeq_jax.model.ldeq import ModelConfig, equation, inject, normalise_image
from ldeq_jax.model.motion import crop_motion, predict_motion, update_motion

Align = Literal["none", "crop", "face"]
Weighting = Literal["uniform", "spread"]
Fusion = Literal["arithmetic", "geometric"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RwRConfig:
    """How a frame depends on the one before.

    The numbers are traced: under `jax.jit` other budgets and penalties do not recompile.

    Attributes:
        budget: solver iterations of a frame that follows another, at most the model's.
        first_budget: iterations of a frame that follows none; the model's when None.
        penalty: weight of the distance to the previous state, not negative: one number, or one per
            landmark (K,); 0 is no constraint.
        weighting: "uniform", or "spread": the penalty of each landmark is multiplied by the square
            of its previous heatmap's spread, divided by the mean square over the face, so that
            ambiguous landmarks are held and certain ones move freely.
        fusion: how the penalty holds the state: "arithmetic" is the mean of this frame's heatmaps
            and the previous ones, weighted 1 to penalty; "geometric" is their product of experts,
            `heatmap.fuse`, in which sharp heatmaps count more than broad ones.
        align: where the previous state belongs in this frame: "none" leaves it in its place in the
            crop, as released; "crop" keeps its place in the frame, whatever the crop did; "face"
            moves it along with the face, by a similarity between the landmarks of the two frames.
        follow: with "face", gain of an alpha-beta filter on the face's position, scale and
            rotation, in (0, 1]; 1 trusts the new frame, less takes part of the motion for jitter.
        warm_start: start the solver at the previous state rather than from zeros.
        final_evaluation: evaluate the map once more at the solution, as the model does on stills.
    """

    budget: int | jax.Array = 0
    first_budget: int | jax.Array | None = None
    penalty: float | tuple[float, ...] | jax.Array = 1.0
    weighting: Weighting = "uniform"
    fusion: Fusion = "arithmetic"
    align: Align = "face"
    follow: float | jax.Array = 0.8
    warm_start: bool = True
    final_evaluation: bool = True

    def __post_init__(self) -> None:
        for name, kind in (("weighting", Weighting), ("fusion", Fusion), ("align", Align)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(
                    f"{name} must be one of {get_args(kind)}, not {getattr(self, name)!r}"
                )
        penalties = self.penalty if isinstance(self.penalty, tuple) else (self.penalty,)
        for name, values in (("budget", (self.budget, self.first_budget)), ("penalty", penalties)):
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
    data_fields=["budget", "first_budget", "penalty", "follow"],
    meta_fields=["weighting", "fusion", "align", "warm_start", "final_evaluation"],
)


class RwRState(NamedTuple):
    """What one frame passes to the next, row by row.

    Attributes:
        heatmaps: (B, h, w, K) state of the last frame.
        frame_from_crop: (B, 3, 3) crop that it belongs to.
        motion: (B, 4) motion of the face per frame: scale (logarithm), rotation (radians),
            and shift in heatmap pixels of that crop, x then y.
        valid: (B,) bool, False before the first frame and after a frame without a face.
    """

    heatmaps: jax.Array
    frame_from_crop: jax.Array
    motion: jax.Array
    valid: jax.Array


class FramePrediction(NamedTuple):
    """Landmarks of a frame (B, ...) or of a clip (B, T, ...); NaN in rows without a face.

    Attributes:
        landmarks: (B, K, 2) or (B, T, K, 2) normalised crop coordinates, x then y.
        spread: (B, K) or (B, T, K) standard deviation of each heatmap in the same unit.
        num_steps: (B,) or (B, T) solver iterations.
        num_evaluations: same shape, evaluations of the map in total.
        residual: same shape, of the last evaluation, `||f(z) - z|| / (1e-5 + ||f(z)||)`.
        distance: same shape, `||z - z_prev|| / (1e-5 + ||z||)` with the previous state as it was
            aligned; NaN where none was used.
        ok: same shape, False where no landmarks were found: there is no face, or the map was not
            finite.
    """

    landmarks: jax.Array
    spread: jax.Array
    num_steps: jax.Array
    num_evaluations: jax.Array
    residual: jax.Array
    distance: jax.Array
    ok: jax.Array


def initial_state(model_config: ModelConfig, batch_size: int) -> RwRState:
    """The state before the first frame of `batch_size` videos."""
    size = model_config.heatmap_size
    shape = (batch_size, size, size, model_config.num_landmarks)
    dtype = jnp.promote_types(model_config.dtype, jnp.float32)
    return RwRState(
        heatmaps=jnp.zeros(shape, dtype),
        frame_from_crop=jnp.broadcast_to(jnp.eye(3, dtype=dtype), (batch_size, 3, 3)),
        motion=jnp.zeros((batch_size, 4), dtype),
        valid=jnp.zeros(batch_size, bool),
    )


def step(
    model_config: ModelConfig,
    variables: dict[str, Any],
    config: RwRConfig,
    image: jax.Array,
    state: RwRState,
    *,
    frame_from_crop: jax.Array | None = None,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[FramePrediction, RwRState]:
    """Landmarks of one frame of each of B videos, row by row.

    Args:
        model_config: the model; its `forward` is the solver.
        variables: its variables.
        config: how frames depend on each other.
        image: (B, H, W, 3) crops as made by `normalise_image`.
        state: what the last frame left, or `initial_state`.
        frame_from_crop: (B, 3, 3) from crop pixels to frame pixels; the identity when None, for
            crops that do not move.
        reset: (B,) bool, True for a frame that does not follow the last one: it is solved as a
            still. So is every row whose state is not valid.
        mask: (B,) bool, False for rows without a face: they cost no iterations, and the next frame
            is solved as a still.

    Returns:
        The prediction of the frame, and the state for the next.

    Raises:
        UserError: `config.penalty` is not one number, nor one per landmark.
    """
    if frame_from_crop is None:
        frame_from_crop = jnp.broadcast_to(jnp.eye(3), (image.shape[0], 3, 3))
    frame_from_crop = frame_from_crop.astype(state.frame_from_crop.dtype)

    def align(heatmaps, motion, now):
        rest = crop_motion(state.frame_from_crop, frame_from_crop, model_config.readout_offset)
        if config.align == "crop":
            return heatmap.move(heatmaps, rest), motion
        expected, motion = predict_motion(heatmaps, motion, rest)
        if now is None:
            return heatmap.move(heatmaps, expected), motion
        # The evaluation has shown where the face is now.
        found, motion = update_motion(heatmaps, now, expected, motion, config.follow)
        return heatmap.move(heatmaps, found), motion

    info, after = recurrence.step(
        equation(model_config),
        inject(model_config, variables, image),
        recurrence.RecurrentState(state.heatmaps, state.motion, state.valid),
        forward=model_config.forward,
        budget=config.budget,
        first_budget=config.first_budget,
        penalty=functools.partial(_penalties, config),
        align=None if config.align == "none" else align,
        fuse=heatmap.fuse if config.fusion == "geometric" else None,
        warm_start=config.warm_start,
        final_evaluation=config.final_evaluation,
        gradient=model_config.gradient,
        reset=reset,
        mask=mask,
    )
    landmarks, spread = heatmap.soft_argmax(after.z, model_config.readout_offset)
    prediction = FramePrediction(
        landmarks=_where(info.ok, landmarks, jnp.nan),
        spread=_where(info.ok, spread, jnp.nan),
        **info._asdict(),
    )
    return prediction, RwRState(after.z, frame_from_crop, after.memory, after.valid)


def scan(
    model_config: ModelConfig,
    variables: dict[str, Any],
    config: RwRConfig,
    images: jax.Array,
    state: RwRState,
    *,
    frame_from_crop: jax.Array | None = None,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[FramePrediction, RwRState]:
    """`step` over T frames of each of B videos, as one program.

    A long video is scanned in chunks, each from the state that the last one left: the result is
    that of one scan.

    Args:
        model_config: as in `step`.
        variables: as in `step`.
        config: as in `step`.
        images: (B, T, H, W, 3) RGB crops as `normalise_image` takes them; each frame is normalised
            when its turn comes.
        state: before the first of the frames.
        frame_from_crop: (B, T, 3, 3).
        reset: (B, T).
        mask: (B, T).

    Returns:
        The predictions (B, T, ...), and the state after the last frame.
    """
    frames = (images, frame_from_crop, reset, mask)
    frames = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), frames)  # the scan runs over axis 0

    def body(state, frame):
        image, frame_from_crop, reset, mask = frame
        image = normalise_image(image).astype(model_config.dtype)
        moved = {"frame_from_crop": frame_from_crop, "reset": reset, "mask": mask}
        prediction, state = step(model_config, variables, config, image, state, **moved)
        return state, prediction

    state, predictions = jax.lax.scan(body, state, frames)
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), predictions), state


def _penalties(config, previous):
    """(B, 1, 1, K) penalty of every landmark."""
    rows, _, _, num_landmarks = previous.shape
    penalty = jnp.asarray(config.penalty, previous.dtype)
    if penalty.ndim and penalty.shape != (num_landmarks,):
        raise UserError(
            f"the penalty must be one number or {num_landmarks}, one per landmark, not "
            f"{penalty.size} of shape {penalty.shape}"
        )
    penalty = jnp.broadcast_to(penalty, (rows, num_landmarks))
    if config.weighting == "spread":
        variance = jnp.square(heatmap.soft_argmax(previous)[1])
        penalty = penalty * variance / (1e-12 + jnp.mean(variance, axis=1, keepdims=True))
    return penalty[:, None, None, :]


def _where(rows, yes, no):
    """`yes` in the rows (B,) that are True, else `no`."""
    return jnp.where(rows.reshape(-1, *[1] * (jnp.ndim(yes) - 1)), yes, no)
