"""Recurrence without Recurrence: steady landmarks on video from a model trained on stills.

Micaelli et al. 2023, sec. 4. The equilibrium of a frame is looked for near that of the frame
before. Softly constrained, it minimises

    J(z) = ||f(z, x_t) - z||^2 + penalty * ||z - z_prev||^2,

which is done cheaply in two ways that compose: the solver starts at `z_prev` with a small budget
(stopping early near a point acts as a Gaussian prior centred on it), and every evaluation of the
map is followed by the closed form that minimises J where f does not depend on z,

    z <- (f(z, x_t) + penalty * z_prev) / (1 + penalty).

`minimise_objective` finds the minimum itself. States are heatmaps of a crop, and the crop may have
moved since the last frame, or the face in it: `RwRConfig.align` says how `z_prev` is moved along.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ldeq_jax.deq.equilibrium import fixed_point
from ldeq_jax.deq.rows import Map
from ldeq_jax.model import heatmap
from ldeq_jax.model.ldeq import ModelConfig, equation, inject, normalise_image

Align = Literal["none", "crop", "face"]
Weighting = Literal["uniform", "spread"]
_SLOWING = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class RwRConfig:
    """How a frame depends on the one before.

    The numbers are traced: under `jax.jit` other budgets and penalties do not compile anew.

    Attributes:
        budget: solver iterations of a frame that follows another, at most the model's.
        first_budget: iterations of a frame that follows none; the model's when None.
        penalty: weight of the distance to the previous state, () or one a landmark (K,), not
            negative; 0 is no constraint.
        weighting: "uniform", or "spread": the penalty of each landmark is multiplied by the square
            of its previous heatmap's spread, in units of the face's mean square, so that ambiguous
            landmarks are held and sure ones move freely.
        align: how the previous state is moved: "none" leaves it in its place in the crop, as
            released; "crop" keeps its place in the frame, whatever the crop did; "face" moves it
            along with the face, by a similarity between the landmarks of the two frames.
        follow: with "face", how much of the motion seen in this frame is believed, in (0, 1]. The
            rest is put down to jitter that all landmarks share, and the face is taken to move on as
            it did: an alpha-beta filter of its position, size and tilt.
        warm_start: start the solver at the previous state rather than from zeros.
        final_evaluation: evaluate the map once more at the solution, as the model does on stills.
    """

    budget: int | jax.Array = 0
    first_budget: int | jax.Array | None = None
    penalty: float | tuple[float, ...] | jax.Array = 1.0
    weighting: Weighting = "uniform"
    align: Align = "face"
    follow: float | jax.Array = 0.8
    warm_start: bool = True
    final_evaluation: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("weighting", get_args(Weighting)), ("align", get_args(Align))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
        penalties = self.penalty if isinstance(self.penalty, tuple) else (self.penalty,)
        for name, values in (("budget", (self.budget, self.first_budget)), ("penalty", penalties)):
            # JAX rebuilds the dataclass with its own objects, whose values are not known.
            if any(isinstance(v, int | float) and not v >= 0 for v in values):
                raise ValueError(f"{name} must not be negative, got {values}")
        if isinstance(self.follow, int | float) and not 0 < self.follow <= 1:
            raise ValueError(f"follow must be in (0, 1], not {self.follow}")
        for name, budget in (("budget", self.budget), ("first_budget", self.first_budget)):
            if isinstance(budget, int) and not budget and not self.final_evaluation:
                raise ValueError(
                    f"a {name} of 0 needs final_evaluation: without it the model never sees the "
                    "frame"
                )


jax.tree_util.register_dataclass(
    RwRConfig,
    data_fields=["budget", "first_budget", "penalty", "follow"],
    meta_fields=["weighting", "align", "warm_start", "final_evaluation"],
)


class RwRState(NamedTuple):
    """What one frame hands to the next, row by row.

    Attributes:
        heatmaps: (B, h, w, K) state of the last frame.
        frame_from_crop: (B, 3, 3) crop that it belongs to.
        motion: (B, 4) how the face moves, from frame to frame: growth (logarithm), turn (radians),
            and shift in heatmap pixels of that crop, x then y.
        valid: (B,) bool, False before the first frame and after a frame without a face.
    """

    heatmaps: jax.Array
    frame_from_crop: jax.Array
    motion: jax.Array
    valid: jax.Array


class FramePrediction(NamedTuple):
    """What the model says of a frame; NaN in rows without a face. With T, of a clip.

    Attributes:
        landmarks: (B, K, 2) or (B, T, K, 2) normalised crop coordinates, x then y.
        spread: (B, K) or (B, T, K) standard deviation of each heatmap in the same unit.
        num_steps: (B,) or (B, T) solver iterations.
        num_evaluations: same shape, evaluations of the map, all told.
        residual: same shape, of the last evaluation, `||f(z) - z|| / (1e-5 + ||f(z)||)`.
        distance: same shape, `||z - z_prev|| / (1e-5 + ||z||)` with the previous state as it was
            moved; NaN where none was used.
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


def initial_state(model: ModelConfig, batch_size: int) -> RwRState:
    """The state before the first frame of `batch_size` videos."""
    shape = (batch_size, model.heatmap_size, model.heatmap_size, model.num_landmarks)
    dtype = jnp.promote_types(model.dtype, jnp.float32)
    return RwRState(
        heatmaps=jnp.zeros(shape, dtype),
        frame_from_crop=jnp.broadcast_to(jnp.eye(3, dtype=dtype), (batch_size, 3, 3)),
        motion=jnp.zeros((batch_size, 4), dtype),
        valid=jnp.zeros(batch_size, bool),
    )


def step(
    model: ModelConfig,
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
        model: the model; `model.forward` is the solver.
        variables: its variables.
        config: how frames depend on each other.
        image: (B, H, W, 3) crops as made by `normalise_image`.
        state: what the last frame left, or `initial_state`.
        frame_from_crop: (B, 3, 3) from crop pixels to frame pixels; the identity when None, for
            crops that do not move.
        reset: (B,) bool, True for a frame that does not follow the last one: it is solved as a
            still. A row whose state is not valid is so without being told.
        mask: (B,) bool, False for rows without a face: they cost no iterations, and the next frame
            is solved as a still.

    Returns:
        The prediction of the frame, and the state for the next.
    """
    rows = image.shape[0]
    mask = jnp.ones(rows, bool) if mask is None else mask
    if frame_from_crop is None:
        frame_from_crop = jnp.broadcast_to(jnp.eye(3), (rows, 3, 3))
    frame_from_crop = frame_from_crop.astype(state.frame_from_crop.dtype)
    follows = state.valid & mask if reset is None else state.valid & mask & ~reset

    f, theta = equation(model), inject(model, variables, image)
    previous, motion = state.heatmaps, state.motion
    if config.align != "none":
        now_from_before = _crop_motion(state.frame_from_crop, frame_from_crop, model.readout_offset)
        if config.align == "face":
            now_from_before, motion = _moved_on(state, now_from_before)
        previous = heatmap.move(state.heatmaps, now_from_before)
    previous = _where(follows, previous, 0)
    z0 = previous if config.warm_start else jnp.zeros_like(previous)

    first_budget = model.forward.max_steps if config.first_budget is None else config.first_budget
    budget = jnp.where(mask, jnp.where(follows, config.budget, first_budget), 0)
    forward = dataclasses.replace(model.forward, final_evaluation=False)
    z, info = fixed_point(f, theta, z0, forward=forward, budget=budget)
    residual = info.residual
    start_evaluations = jnp.where(budget > 0, forward.start_evaluations, 0)
    evaluations = start_evaluations + info.num_steps + config.final_evaluation
    if config.final_evaluation:
        value = f(theta, z)
        residual = _norm(value - z) / (1e-5 + _norm(value))
        z = value
    if config.align == "face":
        # The evaluation has told where the face is now.
        corrected, motion = _corrected(state, z, now_from_before, motion, config.follow)
        previous = _where(follows, heatmap.move(state.heatmaps, corrected), 0)
        motion = _where(follows, motion, 0)
    penalty = _where(follows, _penalties(config, previous), 0)
    z = (z + penalty * previous) / (1 + penalty)

    ok = mask & jnp.isfinite(residual) & jnp.isfinite(_norm(z))
    landmarks, spread = heatmap.soft_argmax(z, model.readout_offset)
    distance = _norm(z - previous) / (1e-5 + _norm(z))
    prediction = FramePrediction(
        landmarks=_where(ok, landmarks, jnp.nan),
        spread=_where(ok, spread, jnp.nan),
        num_steps=info.num_steps,
        num_evaluations=jnp.where(mask, evaluations, 0),
        residual=jnp.where(ok, residual, jnp.nan),
        distance=jnp.where(ok & follows, distance, jnp.nan),
        ok=ok,
    )
    return prediction, RwRState(_where(ok, z, 0), frame_from_crop, _where(ok, motion, 0), ok)


def scan(
    model: ModelConfig,
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
        model: as in `step`.
        variables: as in `step`.
        config: as in `step`.
        images: (B, T, H, W, 3) RGB crops as `normalise_image` takes them, which it is given a frame
            at a time.
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
        image = normalise_image(image).astype(model.dtype)
        moved = {"frame_from_crop": frame_from_crop, "reset": reset, "mask": mask}
        prediction, state = step(model, variables, config, image, state, **moved)
        return state, prediction

    state, predictions = jax.lax.scan(body, state, frames)
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), predictions), state


def minimise_objective(
    f: Map,
    theta: Any,
    z0: jax.Array,
    z_prev: jax.Array,
    penalty: jax.Array | float,
    num_steps: int = 200,
) -> jax.Array:
    """The minimum of J(z), by L-BFGS with gradients through `f`: the reference for small problems.

    It takes several evaluations of `f` and of its derivative a step, where the cheap forms take one
    evaluation in all. Where J has several minima it finds one near `z0`.

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters.
        z0: (B, ...) where to start.
        z_prev: (B, ...) previous state.
        penalty: not negative; broadcasts against (B, ...), such as (K,) for one a landmark.
        num_steps: steps of L-BFGS.

    Returns:
        (B, ...) minimisers.
    """

    def objective(z):
        # Rows do not see each other in f, but the line search is one for all of them.
        misfit = jnp.sum(jnp.square(f(theta, z) - z))
        return misfit + jnp.sum(penalty * jnp.square(z - z_prev))

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def body(carry, _):
        z, memory = carry
        value, gradient = value_and_grad(z, state=memory)
        update, memory = solver.update(
            gradient, memory, z, value=value, grad=gradient, value_fn=objective
        )
        return (z + update, memory), None

    (z, _), _ = jax.lax.scan(body, (z0, solver.init(z0)), length=num_steps)
    return z


def _penalties(config, previous):
    """(B, 1, 1, K) penalty of every landmark."""
    rows, _, _, num_landmarks = previous.shape
    penalty = jnp.asarray(config.penalty, previous.dtype)
    if penalty.ndim and penalty.shape != (num_landmarks,):
        raise ValueError(
            f"the penalty must be one number or {num_landmarks}, one a landmark, not "
            f"{penalty.shape}"
        )
    penalty = jnp.broadcast_to(penalty, (rows, num_landmarks))
    if config.weighting == "spread":
        variance = jnp.square(heatmap.soft_argmax(previous)[1])
        penalty = penalty * variance / (1e-12 + jnp.mean(variance, axis=1, keepdims=True))
    return penalty[:, None, None, :]


def _crop_motion(frame_from_before, frame_from_now, offset=0.0):
    """(B, 3, 3) now_from_before, in heatmap pixels, of a point that rests in the frame.

    Column and row 0 stand for `offset` heatmap pixels, as in `heatmap.soft_argmax`.
    """
    crop_from_heatmap = jnp.array(
        [[[4, 0, 4 * offset], [0, 4, 4 * offset], [0, 0, 1]]], frame_from_now.dtype
    )
    now, before = (
        _product(frame_from_crop, crop_from_heatmap)
        for frame_from_crop in (frame_from_now, frame_from_before)
    )
    return _product(heatmap.inverse(now), before)


def _moved_on(state, rest):
    """Where the state goes if the face moves on as it did, and that motion in the new crop.

    Args:
        state: of the last frame.
        rest: (B, 3, 3) now_from_before of a point that rests in the frame, in heatmap pixels.
    """
    shift = _product(rest[:, :2, :2], state.motion[:, 2:, None])
    motion = jnp.concatenate([state.motion[:, :2], shift[..., 0]], axis=1)
    points, weight = _points(state.heatmaps)
    return _product(_similarity(motion, _carried(rest, points), weight), rest), motion


def _corrected(state, now, expected, motion, follow):
    """Where the state goes by what is seen, and how the face moves from now on.

    Args:
        state: of the last frame.
        now: (B, h, w, K) heatmaps of this frame.
        expected: (B, 3, 3) now_from_before of a face that moves on as it did.
        motion: (B, 4) that motion.
        follow: share of what is seen beyond it that is believed.
    """
    # Points are carried over, not read from moved heatmaps, whose tails the border cuts anew.
    points, weight = _points(state.heatmaps)
    points = _carried(expected, points)
    surprise = _fitted(points, _points(now)[0], weight)
    believed = _similarity(follow * surprise, points, weight)
    # The usual tie of the two gains of an alpha-beta filter; a face left to itself slows down.
    motion = _SLOWING * (motion + follow**2 / (2 - follow) * surprise)
    return _product(believed, expected), motion


def _points(heatmaps):
    """Landmarks (B, K, 2) in heatmap pixels, and weights (B, K, 1) by how sure they are."""
    landmarks, spread = heatmap.soft_argmax(heatmaps)
    weight = 1 / (1e-6 + jnp.square(spread))[..., None]
    return heatmaps.shape[1] * landmarks, weight / jnp.sum(weight, axis=1, keepdims=True)


def _fitted(points, seen, weight):
    """(B, 4) growth, turn and shift of the least-squares similarity from (B, K, 2) to (B, K, 2)."""
    centre, goal = (jnp.sum(weight * p, axis=1, keepdims=True) for p in (points, seen))
    (px, py), (qx, qy) = (jnp.unstack(p, axis=-1) for p in (points - centre, seen - goal))
    along = jnp.sum(weight[..., 0] * (px * qx + py * qy), axis=1)
    across = jnp.sum(weight[..., 0] * (px * qy - py * qx), axis=1)
    extent = jnp.sum(weight[..., 0] * (px**2 + py**2), axis=1)
    # Rows without a face have no extent: what comes of them is not used, but must be finite.
    ratio = jnp.maximum(jnp.hypot(along, across), 1e-6) / jnp.maximum(extent, 1e-6)
    turn = jnp.stack([jnp.log(ratio), jnp.arctan2(across, along)], axis=1)
    return jnp.concatenate([turn, (goal - centre)[:, 0]], axis=1)


def _similarity(motion, points, weight):
    """(B, 3, 3) of a motion (B, 4) around the centre of (B, K, 2) points."""
    centre = jnp.sum(weight * points, axis=1)[..., None]
    growth, angle = jnp.exp(motion[:, 0]), motion[:, 1]
    a, b = growth * jnp.cos(angle), growth * jnp.sin(angle)
    turn = jnp.stack([jnp.stack([a, -b], -1), jnp.stack([b, a], -1)], axis=-2)
    shift = centre - _product(turn, centre) + motion[:, 2:, None]
    last = jnp.broadcast_to(jnp.array([0, 0, 1], shift.dtype), (len(motion), 1, 3))
    return jnp.concatenate([jnp.concatenate([turn, shift], axis=2), last], axis=1)


def _carried(to_from, points):
    """(B, K, 2) points through (B, 3, 3) affine maps."""
    turned = _product(points, jnp.swapaxes(to_from[:, :2, :2], 1, 2))
    return turned + to_from[:, None, :2, 2]


# Coordinates need full precision, which products do not have by default on TPUs and some GPUs.
_product = functools.partial(jnp.matmul, precision="highest")


def _where(rows, yes, no):
    """`yes` in the rows (B,) that are True, else `no`."""
    return jnp.where(rows.reshape(-1, *[1] * (jnp.ndim(yes) - 1)), yes, no)


def _norm(rows):
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=tuple(range(1, rows.ndim))))
