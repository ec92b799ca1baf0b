"""Chunks of face crops of the videos of a data set, decoded ahead by grain.

Videos differ in length and one may last an hour. So they are sorted by length and taken
``batch_size`` at a time (a *group*). A group is read from its first frame to its last in chunks of
``chunk_frames`` frames. All arrays of all chunks have one shape, so a program compiles once, and
only a few chunks are in memory. The consumer carries the state of each video (such as a tracker's)
from chunk to chunk of its group.

This module makes no predictions; `sources.VideoSource` reads the data set.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import shard_rows
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.data.workers import in_workers
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import labelled_crop


class VideoBatch(NamedTuple):
    """A chunk: T consecutive frames of each of B videos. A plain pytree of NumPy arrays.

    Attributes:
        image: (B, T, H, W, 3) uint8 RGB crops, black where mask is False.
        frame_from_crop: (B, T, 3, 3) float32, from crop pixels to frame pixels, the identity where
            mask is False.
        mask: (B, T) bool, True for frames with a face. The others are lost faces, or lie beyond
            the end of their video, or in a row without a video.
        reset: (B, T) bool, True for frames with a face that has none just before it: the first of
            their video, and the first after a lost face.
        interval: (B, T) float32 seconds since the frame before, by the video's frame rate; 1 where
            mask is False.
        index: (B,) int32, number of the video in its split, -1 in rows without a video.
        start: number of the first of the T frames in its video.
        group: number of the batch of videos.
        last: True for the group's last chunk.
    """

    image: np.ndarray
    frame_from_crop: np.ndarray
    mask: np.ndarray
    reset: np.ndarray
    interval: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # a tuple's own method is not used
    start: int
    group: int
    last: bool


def video_chunks(
    source: VideoSource,
    config: DataConfig,
    image_size: int,
    *,
    chunk_frames: int = 32,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.IterDataset[VideoBatch]:
    """Each frame of each video of a split once: the videos longest first, their frames in order.

    A group is padded to whole chunks, and the last group with rows without a video. Every shard
    yields the same number of chunks; shard s has the rows s, s + shard_count, ... of each.

    Each frame is cropped by ``config.crop`` on its own, by its own labels: with "landmarks" the
    crop follows the landmarks to be found. Where no crop can be made, for a box or labels that are
    NaN or have no size, the face counts as lost.

    Decoding runs ahead in a thread of this process, or in ``config.num_workers`` processes. Worker
    w of W has the groups w, w + W, ..., and the workers' chunks alternate: W groups are then
    read at the same time, in an order that depends on W alone, and more workers than groups are of
    no use. A chunk takes ``rows * chunk_frames * image_size**2 * 3`` bytes. Three of them are held
    without workers, else the one in use and four per worker, in shared memory (/dev/shm). Each
    group being read also holds its videos as encoded.

    Each video's record is loaded once, when its group begins. Without workers the source then has
    its annotation, before the group's first chunk is yielded.

    Iterators can be resumed like any of grain's (``get_state``, ``set_state``), at the cost of
    decoding their groups up to that place again. Call ``close()`` to stop early.

    Args:
        source: the videos.
        config: crop, batch and workers; its data set and splits are not looked at.
        image_size: side of the crops, pixels.
        chunk_frames: T.
        shard_index: which part of each batch to load, 0 ... shard_count - 1.
        shard_count: number of parts.

    Returns:
        Iterable over VideoBatch of ``batch_size // shard_count`` rows; each loop starts again.

    Raises:
        ValueError: a size is below 1, or the batch cannot be divided by the shards.
        UserError: while iterating: a video cannot be read; the message names it.
    """
    for name, value in (("image_size", image_size), ("chunk_frames", chunk_frames)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    rows, lengths = shard_rows(config, shard_index, shard_count), source.lengths
    groups = np.full((-(-len(source) // config.batch_size), config.batch_size), -1)
    groups.flat[: len(source)] = np.argsort(-lengths, kind="stable")
    reader = _ChunkReader(
        source=source,
        config=config,
        image_size=image_size,
        chunk_frames=chunk_frames,
        groups=groups[:, rows],
        num_chunks=-(-lengths[groups[:, 0]] // chunk_frames),  # the longest comes first
    )
    alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    numbers = grain.MapDataset.range(len(groups)).to_iter_dataset(alone)
    chunks = grain.experimental.FlatMapIterDataset(numbers, reader)
    if config.num_workers:
        return in_workers(chunks, config, ahead=1)
    return grain.experimental.ThreadPrefetchIterDataset(chunks, prefetch_buffer_size=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ChunkReader(grain.experimental.FlatMapTransform):
    """Makes the chunks of a group, given its number.

    Attributes:
        groups: (G, B) numbers of the videos, -1 for none.
        num_chunks: (G,) of all shards' rows.
    """

    source: VideoSource
    config: DataConfig
    image_size: int
    chunk_frames: int
    groups: np.ndarray
    num_chunks: np.ndarray

    def flat_map(self, element: int) -> Sequence[VideoBatch]:
        return _GroupChunks(self, int(element))

    def crops(self, index: int, start: int) -> Iterator[tuple | None]:
        """Crop, frame_from_crop, reset and interval of each frame from ``start`` on.

        None for a lost face.
        """
        size, lost = self.image_size, True
        for t, frame in enumerate(self.source.frames(index)):
            video = self.source.annotation(index)
            reset = lost
            crop_from_frame = None
            if frame is not None:
                with contextlib.suppress(ValueError):
                    crop_from_frame = labelled_crop(
                        self.config.crop,
                        self.config.crop_scale,
                        size,
                        shape=frame.shape,
                        box=video["boxes"][t],
                        landmarks=video["landmarks"][t],
                    )
            lost = crop_from_frame is None
            if t < start:
                continue
            if frame is None or crop_from_frame is None:
                yield None
            else:
                crop = geometry.warp(frame, crop_from_frame, size)
                yield crop, geometry.inverse(crop_from_frame), reset, 1 / float(video["fps"])


class _GroupChunks(Sequence):
    """The chunks of a group, each decoded when it is asked for and not kept; fastest in order.

    Grain's flat map is made for lists; this sequence makes it one of streams.
    """

    def __init__(self, reader: _ChunkReader, group: int):
        self._reader, self._group = reader, group
        self._next: int | None = None

    def __len__(self) -> int:
        return int(self._reader.num_chunks[self._group])

    def __getitem__(self, number: int) -> VideoBatch:  # type: ignore[override]  # no slices
        if not 0 <= number < len(self):
            raise IndexError(number)
        reader = self._reader
        indices, frames = reader.groups[self._group], reader.chunk_frames
        start = number * frames
        if number != self._next:
            self._videos = [reader.crops(i, start) if i >= 0 else iter(()) for i in indices]
        self._next = number + 1
        shape, size = (len(indices), frames), reader.image_size
        batch = VideoBatch(
            image=np.zeros((*shape, size, size, 3), np.uint8),
            frame_from_crop=np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1)),
            mask=np.zeros(shape, bool),
            reset=np.zeros(shape, bool),
            interval=np.ones(shape, np.float32),
            index=indices.astype(np.int32),
            start=start,
            group=self._group,
            last=number == len(self) - 1,
        )
        for row, video in enumerate(self._videos):
            for t, crop in enumerate(itertools.islice(video, frames)):
                if crop is not None:
                    at = row, t
                    batch.mask[at] = True
                    batch.image[at], batch.frame_from_crop[at] = crop[:2]
                    batch.reset[at], batch.interval[at] = crop[2:]
        return batch
