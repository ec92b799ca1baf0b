"""Predicting on video: many videos at once in chunks, or one frame after another."""

import contextlib
import functools
import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.data.videos import VideoBatch
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_around
from ldeq_jax.inference.pictures import on_device
from ldeq_jax.media.pictures import check_picture
from ldeq_jax.mesh import make_mesh, replicated, to_devices
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import ModelConfig, normalise_image
from ldeq_jax.model.rwr import FramePrediction, RwRConfig, RwRState
from ldeq_jax.weights import load_model

Recurrence = RwRConfig | Literal["as configured"] | None


class Track(NamedTuple):
    """What a method says of one video of T frames. NumPy arrays, NaN in frames without a face.

    Attributes:
        landmarks: (T, K, 2) x then y, frame pixels.
        spread: (T, K) standard deviation of each heatmap, frame pixels.
        num_evaluations: (T,) evaluations of the map, 0 in frames without a face.
        residual: (T,) of the last of them.
        distance: (T,) to the previous state, NaN where none was used.
    """

    landmarks: np.ndarray
    spread: np.ndarray
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
        # What is the same for all frames is copied to the device once, plain numbers too.
        self._variables = on_device(variables)
        self._settings = jax.device_put(self.recurrence or _alone(config.model))
        self._start = rwr.initial_state(config.model, 1)
        self._step, _ = _compiled(config.model)

    @classmethod
    def from_checkpoint(
        cls, directory: str | Path, recurrence: Recurrence = "as configured"
    ) -> "VideoPredictor":
        """Loads a training run's best model, or a released one; see `checkpoints.load_model`."""
        config, variables, _ = load_model(directory)
        return cls(config, variables, recurrence)

    def step(
        self, frame: np.ndarray, box: np.ndarray | None, state: RwRState | None = None
    ) -> tuple[Track, RwRState]:
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

        Returns:
            A Track of this frame alone, without the axis T, and the state for the next.

        Raises:
            TypeError: the frame is neither uint8 nor floating.
            ValueError: it has another shape or range; or the box is refused by
                `inference.check_boxes`, or missing for a model that needs one.
        """
        check_picture(frame)
        size = self.config.model.image_size
        data = self.config.data
        crop_from_frame = crop_around(data.crop, data.crop_scale, size, shape=frame.shape, box=box)
        frame_from_crop = geometry.inverse(crop_from_frame)[None]
        if state is None or self.recurrence is None:
            state = self._start
        image, matrix = jax.device_put(
            (
                geometry.warp(frame, crop_from_frame, size)[None],
                frame_from_crop.astype(np.float32),
            )
        )
        prediction, state = self._step(self._variables, self._settings, image, state, matrix)
        track = _track(jax.device_get(prediction), frame_from_crop, size)
        return Track(*(values[0] for values in track)), state


class Clock:
    """Frames a second of the calls in which nothing was compiled."""

    def __init__(self):
        self._frames, self._seconds = 0, 0.0

    @contextlib.contextmanager
    def timing(self, frames: int, compiled) -> Iterator[None]:
        """Times a block that calls a jitted function on a number of frames, and waits for it."""
        programs, start = compiled._cache_size(), time.perf_counter()
        yield
        if compiled._cache_size() == programs:
            self._frames += frames
            self._seconds += time.perf_counter() - start

    @property
    def frames_per_second(self) -> float:
        """NaN before any call that counts."""
        return self._frames / self._seconds if self._seconds else math.nan


def compare(
    config: Config,
    variables: dict[str, Any],
    methods: Mapping[Hashable, RwRConfig | None],
    batches: Iterable[VideoBatch],
    clocks: Mapping[Hashable, Clock] | None = None,
) -> Iterator[tuple[int, dict[Hashable, Track]]]:
    """Runs several methods over the videos of a split, decoding them once.

    Rows are divided over all devices of this process. Memory holds the groups of videos under way
    alone: for each method their predictions and one state.

    Args:
        config: the model's.
        variables: of the model.
        methods: by name, how a frame depends on the one before; None solves every frame by itself,
            as a still. Those that differ in their numbers alone share one compiled program.
        batches: as `videos.video_chunks` makes them.
        clocks: by name, what to measure the methods' speed with: frames with a face, without
            decoding them and without taking them to the devices.

    Yields:
        Number of a video in its split and what each method says of it, when the last chunk of its
        group is done. Tracks reach to the end of that chunk, NaN beyond the end of the video.
    """
    devices = jax.local_devices()
    mesh, size = make_mesh(len(devices), devices), config.model.image_size
    variables = jax.device_put(variables, replicated(mesh))
    _, scan = _compiled(config.model)
    clocks = {name: Clock() for name in methods} if clocks is None else clocks
    under_way: dict[int, _Group] = {}
    for batch in batches:
        batch = _padded(batch, len(devices))
        if batch.group not in under_way:
            start = jax.device_get(rwr.initial_state(config.model, len(batch.index)))
            states = dict.fromkeys(methods, to_devices(mesh, start))
            under_way[batch.group] = _Group(states, {name: [] for name in methods}, [])
        group = under_way[batch.group]
        arrays = to_devices(mesh, (batch.image, batch.frame_from_crop, batch.reset, batch.mask))
        image, frame_from_crop, reset, mask = jax.block_until_ready(arrays)
        for name, method in methods.items():
            alone = method is None
            with clocks[name].timing(int(batch.mask.sum()), scan):
                prediction, group.states[name] = scan(
                    variables,
                    _alone(config.model) if alone else method,
                    image,
                    group.states[name],
                    frame_from_crop,
                    mask if alone else reset,
                    mask,
                )
                jax.block_until_ready(prediction)
            group.predictions[name].append(jax.device_get(prediction))
        group.frame_from_crop.append(batch.frame_from_crop)
        if batch.last:
            yield from _videos(under_way.pop(batch.group), batch.index, size)


class _Group(NamedTuple):
    """Videos under way: for each method their state, and what there is of each chunk so far."""

    states: dict[Hashable, RwRState]
    predictions: dict[Hashable, list[FramePrediction]]
    frame_from_crop: list[np.ndarray]


def _videos(group, indices, size):
    """The tracks of each video of a group by method, with the video's number."""
    frame_from_crop = np.concatenate(group.frame_from_crop, axis=1)
    predictions = {
        name: [np.concatenate(field, axis=1) for field in zip(*chunks, strict=True)]
        for name, chunks in group.predictions.items()
    }
    for row in np.flatnonzero(indices >= 0):
        yield (
            int(indices[row]),
            {
                name: _track(FramePrediction(*(f[row] for f in fields)), frame_from_crop[row], size)
                for name, fields in predictions.items()
            },
        )


@functools.cache
def _compiled(model: ModelConfig):
    """The jitted step and scan of a model."""

    def step(variables, config, image, state, frame_from_crop):
        image = normalise_image(image).astype(model.dtype)
        return rwr.step(model, variables, config, image, state, frame_from_crop=frame_from_crop)

    def scan(variables, config, images, state, frame_from_crop, reset, mask):
        moved = {"frame_from_crop": frame_from_crop, "reset": reset, "mask": mask}
        return rwr.scan(model, variables, config, images, state, **moved)

    return jax.jit(step), jax.jit(scan)


def _alone(model: ModelConfig) -> RwRConfig:
    """Every frame by itself, as the model treats a still; the budget is not used, but must be."""
    final = model.forward.final_evaluation
    return RwRConfig(budget=1, penalty=0.0, align="none", final_evaluation=final)


def _padded(batch, multiple):
    """The batch with rows without a video, until the devices divide it; no row sees another."""
    missing = -len(batch.index) % multiple
    if not missing:
        return batch
    rows = {
        field: np.concatenate([array, array[:1].repeat(missing, axis=0)])
        for field in ("image", "frame_from_crop", "mask", "reset", "index")
        for array in [getattr(batch, field)]
    }
    rows["mask"][-missing:], rows["reset"][-missing:], rows["index"][-missing:] = False, False, -1
    return batch._replace(**rows)


def _track(prediction: FramePrediction, frame_from_crop, size):
    """A prediction with leading axes as a Track with the same, in frame pixels."""
    frame_from_crop = np.asarray(frame_from_crop, np.float64)
    zoom = np.sqrt(np.abs(np.linalg.det(frame_from_crop)))[..., None]
    landmarks = size * np.asarray(prediction.landmarks, np.float64)
    return Track(
        landmarks=geometry.transform_points(frame_from_crop, landmarks),
        spread=size * zoom * np.asarray(prediction.spread, np.float64),
        num_evaluations=np.asarray(prediction.num_evaluations),
        residual=np.asarray(prediction.residual),
        distance=np.asarray(prediction.distance),
    )
