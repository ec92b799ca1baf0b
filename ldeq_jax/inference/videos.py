"""A trained model on video, one frame after another: `VideoPredictor`.

The caller says where the face is in each frame. `inference.follower` finds out by itself, and
`evaluation.runner` runs many videos at once with the programs that are compiled here.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_around
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.pictures import calibrated, on_device
from ldeq_jax.media.pictures import check_picture
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import ModelConfig, normalise_image
from ldeq_jax.model.rwr import FramePrediction, RwRConfig, RwRState
from ldeq_jax.weights import load_model

_FACES_AT_ONCE = 8  # bounds memory, and the number of programs

Recurrence = RwRConfig | Literal["as configured"] | None


class FrameInfo(NamedTuple):
    """What the solver did in frames; `Landmarks.info` of videos. NumPy arrays.

    Attributes:
        num_evaluations: (...) evaluations of the map, 0 in frames without a face.
        residual: (...) of the last of them; NaN in frames without a face.
        distance: (...) to the previous state, NaN where none was used.
    """

    num_evaluations: np.ndarray
    residual: np.ndarray
    distance: np.ndarray


class VideoPredictor:
    """A trained model on video, compiled once per batch shape and process.

    Attributes:
        config: the config it was trained with.

    Args:
        config: that config, its number of landmarks filled in.
        variables: variables of `LDEQ.apply`; NumPy arrays are copied to the default device, once.
        recurrence: how a frame depends on the one before, as the model's config says if it is not
            given; None solves every frame by itself.
    """

    def __init__(
        self, config: Config, variables: dict[str, Any], recurrence: Recurrence = "as configured"
    ):
        self.config = config
        self.recurrence = config.rwr if recurrence == "as configured" else recurrence
        # What is the same for all frames is copied to the device once, plain numbers too; those of
        # each landmark as one array, as every array takes time in each call.
        self._variables = on_device(variables)
        settings = self.recurrence or alone_config(config.model)
        self._settings = jax.device_put(
            dataclasses.replace(
                settings,
                hold_seconds=_as_array(settings.hold_seconds),
                penalty=_as_array(settings.penalty),
            )
        )
        self._start = rwr.initial_state(config.model, 1)
        self._steps = _compiled_steps(config.model)

    @classmethod
    def load(
        cls, name_or_folder: str | Path, recurrence: Recurrence = "as configured"
    ) -> "VideoPredictor":
        """Loads a model.

        Args:
            name_or_folder: a pretrained model by its name, such as "faces-68" (`zoo.MODELS` lists
                them), a training run's working directory, or an exported model's folder.
            recurrence: how a frame depends on the one before.

        Raises:
            UserError: there is no such model, or it cannot be read; see `weights.load_model`.
        """
        config, variables, _ = load_model(name_or_folder)
        return cls(config, variables, recurrence)

    def step(
        self,
        frame: np.ndarray,
        box: np.ndarray | None,
        state: RwRState | None = None,
        interval: float | None = None,
    ) -> tuple[Landmarks, RwRState]:
        """Finds the landmarks of the face of one frame, near those of the frame before.

        Args:
            frame: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1].
            box: (4,) or longer, x1 y1 x2 y2 of the face in frame pixels. The crop is taken around
                it as in training: by WFLW's rule, or, for a model trained on crops around the
                landmarks or their extent, as if the box were that extent (brows to chin, ear to
                ear). None takes the whole frame, for models trained on pictures that are crops
                already (`crop="none"`).
            state: what the step on the last frame returned; None for a first frame, and after a cut
                or a lost face.
            interval: seconds since that last frame; None for 1/25. It does not count without a
                state.

        Returns:
            Landmarks of one face, without leading axes, in frame pixels, `info` a FrameInfo; and
            the state for the next frame.

        Raises:
            TypeError: the frame is neither uint8 nor floating.
            ValueError: it has another shape or range, or the interval is negative.
            UserError: `face.boxes.check_boxes` refuses the box, or it is missing for a model that
                needs one.
        """
        return self.steps(frame, [box], [state], [interval])[0]

    def steps(
        self,
        frame: np.ndarray,
        boxes: Sequence[np.ndarray | None],
        states: Sequence[RwRState | None],
        intervals: Sequence[float | None],
    ) -> list[tuple[Landmarks, RwRState]]:
        """`step` for several faces of one frame, as batches of 1, 2, 4 or 8."""
        check_picture(frame)
        for interval in intervals:
            if interval is not None and not 0 <= interval < math.inf:
                raise ValueError(f"interval must be seconds, 0 or more, not {interval}")
        found: list[tuple[Landmarks, RwRState]] = []
        for start in range(0, len(boxes), _FACES_AT_ONCE):
            part = slice(start, start + _FACES_AT_ONCE)
            found += self._batch(frame, boxes[part], states[part], intervals[part])
        return found

    def _batch(self, frame, boxes, states, intervals):
        size, data = self.config.model.image_size, self.config.data
        crops = np.stack(
            [
                crop_around(data.crop, data.crop_scale, size, shape=frame.shape, box=box)
                for box in boxes
            ]
        )
        frame_from_crop = geometry.inverse(crops)
        images = np.stack([geometry.warp(frame, crop, size) for crop in crops])
        seconds = np.array([rwr.USUAL_INTERVAL if s is None else s for s in intervals], np.float32)
        arrays = images, frame_from_crop.astype(np.float32), seconds
        missing = (1 << (len(boxes) - 1).bit_length()) - len(boxes)
        if missing:
            arrays = tuple(np.concatenate([a, a[:1].repeat(missing, axis=0)]) for a in arrays)
        real = np.arange(len(arrays[0])) < len(boxes)
        arrays = jax.device_put((*arrays, real))
        recurrent = self.recurrence is not None
        given = [state if recurrent and state is not None else self._start for state in states]
        given += [self._start] * missing
        prediction, after = self._steps(self._variables, self._settings, tuple(given), *arrays)
        prediction = jax.tree.map(lambda a: a[: len(boxes)], jax.device_get(prediction))
        whole = (0, 0, frame.shape[1] - 1, frame.shape[0] - 1)
        used = [np.asarray(whole if box is None else box, np.float64)[:4] for box in boxes]
        found = landmarks_in_frame(prediction, frame_from_crop, size, box=np.stack(used))
        found = calibrated(found, self.config)
        return [(found[n], after[n]) for n in range(len(boxes))]


def _as_array(value):
    return np.asarray(value, np.float32) if isinstance(value, tuple) else value


@functools.cache
def compiled_programs(model: ModelConfig):
    """The jitted step and scan of a model, for `rwr.step` and `rwr.scan` on uint8 crops."""

    def step(variables, config, image, state, frame_from_crop, interval=None):
        image = normalise_image(image).astype(model.dtype)
        moved = {"frame_from_crop": frame_from_crop, "interval": interval}
        return rwr.step(model, variables, config, image, state, **moved)

    def scan(variables, config, images, state, frame_from_crop, reset, mask, interval=None):
        moved = {"frame_from_crop": frame_from_crop, "interval": interval}
        moved |= {"reset": reset, "mask": mask}
        return rwr.scan(model, variables, config, images, state, **moved)

    return jax.jit(step), jax.jit(scan)


@functools.cache
def _compiled_steps(model: ModelConfig):
    """The jitted step of B faces, whose states come and go one by one."""

    def steps(variables, config, states, images, frame_from_crop, interval, mask):
        images = normalise_image(images).astype(model.dtype)
        state = jax.tree.map(lambda *rows: jnp.concatenate(rows), *states)
        moved = {"frame_from_crop": frame_from_crop, "interval": interval, "mask": mask}
        prediction, state = rwr.step(model, variables, config, images, state, **moved)
        rows = zip(*(jnp.split(field, len(states)) for field in state), strict=True)
        return prediction, tuple(RwRState(*row) for row in rows)

    return jax.jit(steps)


def alone_config(model: ModelConfig, first_budget: int | None = None) -> RwRConfig:
    """Every frame by itself, as the model treats a still, or with other solver steps.

    Every frame must be told not to follow another; the budget for those is not used, but must be.
    """
    return RwRConfig(
        budget=1,
        first_budget=first_budget,
        penalty=0.0,
        follow=1.0,
        align="none",
        final_evaluation=model.forward.final_evaluation,
    )


def landmarks_in_frame(
    prediction: FramePrediction,
    frame_from_crop: np.ndarray,
    size: int,
    box: np.ndarray | None = None,
) -> Landmarks:
    """A prediction in frame pixels.

    Args:
        prediction: arrays with leading axes (...), in normalised crop coordinates.
        frame_from_crop: (..., 3, 3).
        size: side of the crops, pixels.
        box: (..., 4) that the crops were taken around.

    Returns:
        Landmarks (...); `info` is a FrameInfo.
    """
    frame_from_crop = np.asarray(frame_from_crop, np.float64)
    zoom = np.sqrt(np.abs(np.linalg.det(frame_from_crop)))[..., None]
    points = size * np.asarray(prediction.landmarks, np.float64)
    return Landmarks(
        points=geometry.transform_points(frame_from_crop, points),
        spread=size * zoom * np.asarray(prediction.spread, np.float64),
        ok=np.asarray(prediction.ok),
        box=box,
        info=FrameInfo(
            num_evaluations=np.asarray(prediction.num_evaluations),
            residual=np.asarray(prediction.residual),
            distance=np.asarray(prediction.distance),
        ),
    )
