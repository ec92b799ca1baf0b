"""Recurrence without Recurrence for faces: steady landmarks on video, by a model trained on stills.

Micaelli et al. 2023, sec. 4. `ldeq_jax.deq.recurrence` holds the method, for any map: warm start,
budget, penalty. Here are the landmark model's state and prediction, the choice of where the last
frame's heatmaps belong in this one (`RwRConfig.align`), and the scan over a video. How a face moves
is estimated in `ldeq_jax.model.motion`. Reading, cropping and tracking are not done here.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ldeq_jax.deq import recurrence
from ldeq_jax.model import heatmap
from ldeq_jax.model.ldeq import ModelConfig, equation, inject, normalise_image
from ldeq_jax.model.motion import crop_motion, predict_motion, update_motion
from ldeq_jax.model.rwr_config import RwRConfig, motion_gain, penalties

USUAL_INTERVAL = 1 / 25  # seconds


class RwRState(NamedTuple):
    """What one frame passes to the next, row by row.

    Attributes:
        heatmaps: (B, h, w, K) state of the last frame.
        frame_from_crop: (B, 3, 3) crop that it belongs to.
        motion: (B, 4) motion of the face per second: scale (logarithm), rotation (radians),
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
    # Made by NumPy: outside jit, each function of JAX would be compiled by itself.
    return RwRState(
        heatmaps=jax.device_put(np.zeros(shape, dtype)),
        frame_from_crop=jax.device_put(np.tile(np.eye(3, dtype=dtype), (batch_size, 1, 1))),
        motion=jax.device_put(np.zeros((batch_size, 4), dtype)),
        valid=jax.device_put(np.zeros(batch_size, bool)),
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
    interval: jax.Array | None = None,
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
        interval: (B,) seconds since the last frame; 1/25 when None. It does not count for a frame
            that follows none.

    Returns:
        The prediction of the frame, and the state for the next.

    Raises:
        UserError: `hold_seconds` or `penalty` is not one number, nor one per landmark.
    """
    rows = image.shape[0]
    if frame_from_crop is None:
        frame_from_crop = jnp.broadcast_to(jnp.eye(3), (rows, 3, 3))
    dtype = state.frame_from_crop.dtype
    frame_from_crop = frame_from_crop.astype(dtype)
    interval = jnp.full(rows, USUAL_INTERVAL) if interval is None else interval
    late = interval > config.longest_gap
    reset = late if reset is None else reset | late
    interval = jnp.maximum(interval, 1e-4).astype(dtype)

    info, after = recurrence.step(
        equation(model_config),
        inject(model_config, variables, image),
        recurrence.RecurrentState(state.heatmaps, state.motion, state.valid),
        forward=model_config.forward,
        budget=config.budget,
        first_budget=config.first_budget,
        penalty=functools.partial(penalties, config, interval),
        align=alignment(model_config, config, state.frame_from_crop, frame_from_crop, interval),
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


def alignment(
    model_config: ModelConfig,
    config: RwRConfig,
    frame_from_before: jax.Array,
    frame_from_now: jax.Array,
    interval: jax.Array,
) -> recurrence.Align | None:
    """How the state moves from one frame to the next, for `recurrence.step`; None if it does not.

    Args:
        model_config: the model.
        config: how frames depend on each other.
        frame_from_before: (B, 3, 3) from pixels of the last crop to frame pixels.
        frame_from_now: (B, 3, 3) the same of this crop.
        interval: (B,) seconds from frame to frame, above 0.
    """
    if config.align == "none":
        return None

    def align(heatmaps, motion, now):
        rest = crop_motion(frame_from_before, frame_from_now, model_config.readout_offset)
        if config.align == "crop":
            return heatmap.move(heatmaps, rest), motion
        expected, motion = predict_motion(heatmaps, motion, rest, interval)
        if now is None:
            return heatmap.move(heatmaps, expected), motion
        # The evaluation has shown where the face is now.
        gain = motion_gain(config, interval)
        found, motion = update_motion(heatmaps, now, expected, motion, gain, interval)
        return heatmap.move(heatmaps, found), motion

    return align


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
    interval: jax.Array | None = None,
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
        interval: (B, T).

    Returns:
        The predictions (B, T, ...), and the state after the last frame.
    """
    frames = (images, frame_from_crop, reset, mask, interval)
    frames = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), frames)  # the scan runs over axis 0

    def body(state, frame):
        image, frame_from_crop, reset, mask, interval = frame
        prediction, state = step(
            model_config,
            variables,
            config,
            normalise_image(image).astype(model_config.dtype),
            state,
            frame_from_crop=frame_from_crop,
            reset=reset,
            mask=mask,
            interval=interval,
        )
        return state, prediction

    state, predictions = jax.lax.scan(body, state, frames)
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), predictions), state


def _where(rows, yes, no):
    """`yes` in the rows (B,) that are True, else `no`."""
    return jnp.where(rows.reshape(-1, *[1] * (jnp.ndim(yes) - 1)), yes, no)
