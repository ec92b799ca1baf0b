"""Predicting on video: many videos at once in chunks, or one frame after another."""

import contextlib
import functools
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from ldeq_jax import geometry, rwr
from ldeq_jax.checkpoints import load_model
from ldeq_jax.config import Config
from ldeq_jax.data import face_crop
from ldeq_jax.inference import check_images
from ldeq_jax.model import ModelConfig, normalise_image
from ldeq_jax.rwr import FramePrediction, RwRConfig, RwRState
from ldeq_jax.training import make_mesh, replicated, to_devices
from ldeq_jax.videos import VideoBatch

_USUAL = RwRConfig()
# Every frame by itself: the settings do not matter then, and these cost least.
_ALONE = RwRConfig(penalty=0.0, align="none")


class Track(NamedTuple):
    """What a method says of one video of T frames. NumPy arrays, NaN in frames without a face.

    Attributes:
        landmarks: (T, K, 2) x then y, frame pixels.
        spread: (T, K) standard deviation of each heatmap, frame pixels.
        num_evaluations: (T,) evaluations of the map.
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
        variables: variables of `LDEQ.apply`.
        recurrence: how a frame depends on the one before; None solves every frame by itself.
    """

    def __init__(
        self, config: Config, variables: dict[str, Any], recurrence: RwRConfig | None = _USUAL
    ):
        self.config, self.recurrence = config, recurrence
        self._variables = variables
        self._step, _ = _compiled(config.model)

    @classmethod
    def from_checkpoint(
        cls, directory: str | Path, recurrence: RwRConfig | None = _USUAL
    ) -> "VideoPredictor":
        """Loads a training run's best model, or a released one; see `checkpoints.load_model`."""
        config, variables, _ = load_model(directory)
        return cls(config, variables, recurrence)

    def step(
        self, frame: np.ndarray, box: np.ndarray, state: RwRState | None = None
    ) -> tuple[Track, RwRState]:
        """Finds the landmarks of the face of one frame, near those of the frame before.

        Args:
            frame: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1].
            box: (4,) x1 y1 x2 y2 of the face in frame pixels, as `Predictor.faces` takes it.
            state: what the step on the last frame returned; None for a first frame, and after a cut
                or a lost face.

        Returns:
            A Track of this frame alone, without the axis T, and the state for the next.

        Raises:
            TypeError: the frame is neither uint8 nor floating.
            ValueError: it has another shape or range, or the box has no area.
        """
        check_images(frame[None])
        size, box = self.config.model.image_size, np.asarray(box, np.float64)
        crop_from_frame = face_crop(self.config.data, size, frame, box, box[:4].reshape(2, 2))
        frame_from_crop = geometry.inverse(crop_from_frame)[None]
        if state is None or self.recurrence is None:
            state = rwr.initial_state(self.config.model, 1)
        prediction, state = self._step(
            self._variables,
            self.recurrence or _ALONE,
            geometry.warp(frame, crop_from_frame, size)[None],
            state,
            frame_from_crop.astype(np.float32),
        )
        track = _track(jax.device_get(prediction), frame_from_crop, size)
        return Track(*(values[0] for values in track)), state


def compare(
    config: Config,
    variables: dict[str, Any],
    methods: Mapping[str, RwRConfig | None],
    batches: Iterable[VideoBatch],
    *,
    total: int | None = None,
) -> tuple[dict[str, dict[int, Track]], dict[str, float]]:
    """Runs several methods over the videos of a split, decoding them once.

    Rows are divided over all devices. Memory holds a chunk and, for each method and each group of
    videos under way, one state; and the tracks.

    Args:
        config: the model's.
        variables: of the model.
        methods: by name, how a frame depends on the one before; None solves every frame by itself.
            Those that differ in their numbers alone share one compiled program.
        batches: as `videos.video_chunks` makes them.
        total: number of chunks, for the progress bar; None shows no bar.

    Returns:
        For each method the track of each video, by its number in the split; and frames a second of
        each method, without decoding and without chunks in which something was compiled; NaN when
        there were no others.
    """
    mesh, size = make_mesh(jax.device_count()), config.model.image_size
    variables = jax.device_put(variables, replicated(mesh))
    _, scan = _compiled(config.model)
    states: dict[int, dict[str, RwRState]] = {}
    parts: dict[str, dict[int, list[tuple[int, Track]]]] = {name: {} for name in methods}
    clock = {name: _Clock() for name in methods}
    for batch in tqdm(batches, total=total, unit="chunk", disable=total is None):
        batch, group, last = _padded(batch, jax.local_device_count()), batch.group, batch.last
        if group not in states:
            rows = len(batch.index) * jax.process_count()
            start = to_devices(mesh, jax.device_get(rwr.initial_state(config.model, rows)))
            states[group] = dict.fromkeys(methods, start)
        arrays = to_devices(mesh, (batch.image, batch.frame_from_crop, batch.reset, batch.mask))
        for name, method in methods.items():
            image, frame_from_crop, reset, mask = arrays
            with clock[name].timing(int(batch.mask.sum()), scan):
                prediction, states[group][name] = scan(
                    variables,
                    method or _ALONE,
                    image,
                    states[group][name],
                    frame_from_crop,
                    mask if method is None else reset,
                    mask,
                )
                jax.block_until_ready(prediction)
            rows = (prediction, batch.frame_from_crop, batch.index, batch.mask)
            if jax.process_count() > 1:  # each host has its own rows alone
                rows = multihost_utils.process_allgather(rows, tiled=True)
            prediction, matrices, index, mask = jax.device_get(rows)
            track = _track(prediction, matrices, size)
            for row in np.flatnonzero(index >= 0):
                piece = Track(*(values[row] for values in track))
                parts[name].setdefault(int(index[row]), []).append((batch.start, piece))
        if last:
            del states[group]
    return (
        {name: {i: _joined(pieces) for i, pieces in of.items()} for name, of in parts.items()},
        {name: clock[name].frames_per_second for name in methods},
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


class _Clock:
    """Frames a second of the calls in which nothing was compiled."""

    def __init__(self):
        self._frames, self._seconds = 0, 0.0

    @contextlib.contextmanager
    def timing(self, frames, compiled):
        programs, start = compiled._cache_size(), time.perf_counter()
        yield
        if compiled._cache_size() == programs:
            self._frames += frames
            self._seconds += time.perf_counter() - start

    @property
    def frames_per_second(self):
        return self._frames / self._seconds if self._seconds else math.nan


def _padded(batch, multiple):
    """The batch with rows without a video, until the devices divide it; no row sees another."""
    missing = -len(batch.index) % multiple
    if not missing:
        return batch
    arrays = batch.image, batch.frame_from_crop, batch.mask, batch.reset, batch.index
    image, frame_from_crop, mask, reset, index = (
        np.concatenate([array, array[:1].repeat(missing, axis=0)]) for array in arrays
    )
    mask[-missing:], reset[-missing:], index[-missing:] = False, False, -1
    return VideoBatch(image, frame_from_crop, mask, reset, index, *batch[5:])


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


def _joined(pieces):
    """A Track of its pieces, which know their first frame."""
    pieces = [piece for _, piece in sorted(pieces, key=lambda item: item[0])]
    return Track(*(np.concatenate(values) for values in zip(*pieces, strict=True)))
