"""Runs several methods over the videos of a split, which are decoded once, and times them.

It scores nothing: `videos` compares what it yields with the labels.
"""

import contextlib
import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.data.videos import VideoBatch
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.videos import alone_config, compiled_programs, landmarks_in_frame
from ldeq_jax.mesh import make_mesh, replicated, to_devices
from ldeq_jax.model import rwr
from ldeq_jax.model.rwr import FramePrediction, RwRConfig, RwRState

Name = TypeVar("Name", bound=Hashable)


class Clock:
    """Measures frames per second over the calls in which nothing was compiled."""

    def __init__(self):
        self._frames, self._seconds = 0, 0.0

    @contextlib.contextmanager
    def timing(self, frames: int, compiled: Any) -> Iterator[None]:
        """Times a block that calls the jitted function `compiled` and waits for its result.

        Args:
            frames: number of frames that the block computes.
            compiled: the function; a call that compiles it does not count.
        """
        programs, start = compiled._cache_size(), time.perf_counter()
        yield
        if compiled._cache_size() == programs:
            self._frames += frames
            self._seconds += time.perf_counter() - start

    @property
    def frames_per_second(self) -> float:
        """Mean over all calls that count; NaN before the first."""
        return self._frames / self._seconds if self._seconds else math.nan


def run_methods(
    config: Config,
    variables: dict[str, Any],
    methods: Mapping[Name, RwRConfig | int | None],
    batches: Iterable[VideoBatch],
    clocks: Mapping[Name, Clock] | None = None,
) -> Iterator[tuple[int, dict[Name, Landmarks]]]:
    """Runs several methods over the videos of a split, decoding each video once.

    Rows are divided over all devices of this process. Memory holds only the groups of videos in
    progress: for each method its predictions and one state.

    Args:
        config: the model's.
        variables: of the model.
        methods: name to how a frame depends on the one before; None solves each frame by itself,
            as a still, and a number does so with that many solver steps. Methods that differ only
            in numbers share one compiled program.
        batches: as `data.videos.video_chunks` makes them.
        clocks: name to the clock that measures this method's speed, in frames with a face;
            decoding and the copy to the devices are not included.

    Yields:
        The video's number in its split and each method's landmarks, after the last chunk of the
        video's group. They reach to the end of that chunk, NaN beyond the end of the video.
    """
    devices = jax.local_devices()
    mesh, size = make_mesh(len(devices), devices), config.model.image_size
    variables = jax.device_put(variables, replicated(mesh))
    _, scan = compiled_programs(config.model)
    clocks = {name: Clock() for name in methods} if clocks is None else clocks
    in_progress: dict[int, _Group] = {}
    for batch in batches:
        batch = _padded(batch, len(devices))
        if batch.group not in in_progress:
            start = jax.device_get(rwr.initial_state(config.model, len(batch.index)))
            states = dict.fromkeys(methods, to_devices(mesh, start))
            in_progress[batch.group] = _Group(states, {name: [] for name in methods}, [])
        group = in_progress[batch.group]
        arrays = batch.image, batch.frame_from_crop, batch.reset, batch.mask, batch.interval
        arrays = jax.block_until_ready(to_devices(mesh, arrays))
        image, frame_from_crop, reset, mask, interval = arrays
        for name, method in methods.items():
            if isinstance(method, RwRConfig):
                recurrence, starts = method, reset
            else:
                recurrence, starts = alone_config(config.model, method), mask
            with clocks[name].timing(int(batch.mask.sum()), scan):
                prediction, group.states[name] = scan(
                    variables,
                    recurrence,
                    image,
                    group.states[name],
                    frame_from_crop,
                    starts,
                    mask,
                    interval,
                )
                jax.block_until_ready(prediction)
            group.predictions[name].append(jax.device_get(prediction))
        group.frame_from_crop.append(batch.frame_from_crop)
        if batch.last:
            yield from _finished(in_progress.pop(batch.group), batch.index, size)


class _Group(NamedTuple):
    """Videos in progress: each method's state, and its predictions of each chunk so far."""

    states: dict[Any, RwRState]
    predictions: dict[Any, list[FramePrediction]]
    frame_from_crop: list[np.ndarray]


def _finished(
    group: _Group, indices: np.ndarray, size: int
) -> Iterator[tuple[int, dict[Any, Landmarks]]]:
    """The number of each video of a group, and its landmarks by method."""
    frame_from_crop = np.concatenate(group.frame_from_crop, axis=1)
    predictions = {
        name: [np.concatenate(field, axis=1) for field in zip(*chunks, strict=True)]
        for name, chunks in group.predictions.items()
    }
    for row in np.flatnonzero(indices >= 0):
        yield (
            int(indices[row]),
            {
                name: landmarks_in_frame(
                    FramePrediction(*(f[row] for f in fields)), frame_from_crop[row], size
                )
                for name, fields in predictions.items()
            },
        )


def _padded(batch: VideoBatch, multiple: int) -> VideoBatch:
    """The batch with rows without a video added until `multiple` divides it."""
    missing = -len(batch.index) % multiple
    if not missing:
        return batch
    rows: dict[str, Any] = {
        field: np.concatenate([array, array[:1].repeat(missing, axis=0)])
        for field in ("image", "frame_from_crop", "mask", "reset", "interval", "index")
        for array in [getattr(batch, field)]
    }
    rows["mask"][-missing:], rows["reset"][-missing:], rows["index"][-missing:] = False, False, -1
    return batch._replace(**rows)
