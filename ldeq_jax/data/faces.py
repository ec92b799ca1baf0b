"""Batches of faces from a data set on disk: TFDS source, grain pipeline.

`ldeq build` writes the data sets; TensorFlow is not needed to read them. Pictures stay uint8 up to
the device, which takes a quarter of the bytes of float32; the model normalises them there.
"""

import dataclasses
import functools
from typing import NamedTuple

import grain
import numpy as np

from ldeq_jax.data.augment import AugmentConfig, augment_face
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.empty import without_face
from ldeq_jax.data.moving import ClipConfig, augment_clip
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.data.takes import Takes
from ldeq_jax.data.workers import in_workers
from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import box_of_landmarks, labelled_crop
from ldeq_jax.face.schema import get_schema, indices_of


class LandmarkBatch(NamedTuple):
    """B faces. A plain pytree of NumPy arrays.

    Attributes:
        image: (B, H, W, 3) uint8 RGB crops.
        landmarks: (B, K, 2) float32, normalised crop coordinates ``x_crop / H``; some may lie
            outside [0, 1).
        mask: (B,) bool, True for faces that count. In an evaluation the others repeat some face, so
            that everything computed from them is finite; in training they show no face.
        frame_from_crop: (B, 3, 3) float32, from crop pixels to pixels of the original picture.
        index: (B,) int32, number of the face in the split that it comes from, -1 where mask is
            False.
        taught: (B, K, 2) float32, landmarks that a teacher finds in these crops, normalised; None
            without a teacher.
    """

    image: np.ndarray
    landmarks: np.ndarray
    mask: np.ndarray
    frame_from_crop: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # a tuple's own method is not used
    taught: np.ndarray | None = None


class ClipBatch(NamedTuple):
    """B clips of T crops, each made from one face. A plain pytree of NumPy arrays.

    Attributes:
        image: (B, T, H, W, 3) uint8 RGB crops.
        landmarks: (B, T, K, 2) float32, normalised crop coordinates.
        mask: (B,) bool, True for clips of a face; the others show none, and their landmarks mean
            nothing.
        frame_from_crop: (B, T, 3, 3) float32, from crop pixels to the clip's imaginary frames.
        index: (B,) int32, number of the face in the split that it comes from.
        taught: (B, T, K, 2) float32, as in `LandmarkBatch`.
    """

    image: np.ndarray
    landmarks: np.ndarray
    mask: np.ndarray
    frame_from_crop: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # a tuple's own method is not used
    taught: np.ndarray | None = None


def train_iterator(
    config: DataConfig,
    augment: AugmentConfig | None,
    image_size: int,
    *,
    clip: ClipConfig | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    first_batch: int = 0,
) -> grain.DatasetIterator[LandmarkBatch | ClipBatch]:
    """Endless batches for training: every epoch holds each face once, in a new random order.

    With further data sets (`DataConfig.also`), this holds for each of them by itself; their rows
    alternate by their shares.

    A face's augmentation depends only on the seed, the epoch and the face's place in the order, not
    on the number of workers; the shards together yield what one shard would. Batches continue
    across epochs, so none is short.

    To resume, either call again with ``first_batch`` (the number of batches taken so far; workers
    and shards may differ then), or pass ``get_state()``, a dict that JSON can hold, to
    ``set_state()`` of an iterator with the same number of workers. ``close()`` stops the workers.

    Args:
        config: faces, crop, batch.
        augment: how to vary them; None for plain crops.
        image_size: side of the crops, pixels.
        clip: with `num_frames` above 0, each row is a clip made from the face, see
            `data.moving`; needs `augment`.
        shard_index: which part of each batch to load, 0 ... shard_count - 1.
        shard_count: number of parts (processes of a multi-host run).
        first_batch: number of batches to skip, at no cost.

    Returns:
        Iterator over LandmarkBatch, or over ClipBatch, of ``batch_size // shard_count`` rows.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: no such split, or the batch cannot be divided by the shards. While iterating:
            a face cannot be read or cropped; the message names it.
    """
    parts, sources, schema = config.parts(), [], None
    for number, part in enumerate(parts):
        if number and clip is not None:
            clip = dataclasses.replace(clip, takes="")  # they are of the faces of `name`
        reader = _FaceReader(
            config, part.split, augment, image_size, clip, name=part.dataset, schema=schema
        )
        if number and reader.foreign:
            raise UserError(
                f"{part.dataset} has other landmarks than {config.name}: no map from "
                f"{reader.foreign} to {reader.schema.name} is known"
            )
        schema = reader.schema
        order = grain.MapDataset.range(len(reader.source)).seed(config.seed + number)
        # Random numbers are drawn by place in the order, thus before the order is divided.
        sources.append(order.shuffle().repeat().random_map(reader))
    rows = sources[0]
    if len(parts) > 1:
        rows = grain.MapDataset.mix(sources, [part.share for part in parts])
    rows = rows[first_batch * config.batch_size :]
    return iter(_batches(rows, config, shard_index, shard_count))


def eval_batches(
    config: DataConfig,
    split: str,
    image_size: int,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.IterDataset[LandmarkBatch]:
    """Batches of plain crops, each face of a split once and in order.

    Faces whose error cannot be measured are masked: those whose eye corners coincide, and those
    that cannot be cropped because their labels or box have no size. The last batch is filled up
    with masked rows. Every shard yields the same number of batches,
    ``ceil(faces / batch_size)``; shard s has the rows s, s + shard_count, ... of each.

    Args:
        config: faces, crop, batch; ``train_split`` and ``eval_split`` are not used.
        split: which faces, ``config.eval_split`` as a rule.
        image_size: side of the crops, pixels.
        shard_index: which part of each batch to load, 0 ... shard_count - 1.
        shard_count: number of parts.

    Returns:
        Iterable over LandmarkBatch of ``batch_size // shard_count`` rows; each loop starts again.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: as from ``train_iterator``, except for a face that cannot be cropped; or the
            error of no face can be measured.
    """
    reader = _EvaluationReader(config, split, None, image_size)
    padded = -(-len(reader.source) // config.batch_size) * config.batch_size
    rows = grain.MapDataset.range(padded).seed(0).random_map(reader)
    return _batches(rows, config, shard_index, shard_count)


class _FaceReader:
    """Makes one row, a LandmarkBatch without the axis B, of the number of a face."""

    def __init__(self, config, split, augment, image_size, clip=None, name=None, schema=None):
        self.source = FaceSource(name or config.name, split, config.data_dir)
        self.config, self.augment, self.image_size = config, augment, image_size
        self.clip = clip if clip is not None and clip.num_frames else None
        self.schema = get_schema(config.schema or schema or self.source.schema)
        self._points = indices_of(self.source.schema, self.schema)
        known = self._points is not None or self.source.schema in (self.schema, self.schema.name)
        self.foreign = "" if known else getattr(self.source.schema, "name", self.source.schema)
        self.takes = None
        if self.clip is not None and self.clip.takes:
            self.takes = Takes(self.clip.takes, split, config.data_dir, self.clip.num_frames)

    def __call__(self, index, rng):
        face = self._in_schema(self.source[index])
        shape, size = face["landmarks"].shape, self.image_size
        try:
            if shape != (self.schema.num_landmarks, 2):
                raise UserError(f"landmarks {shape} do not fit {self.schema.name}")
            share = self.augment.empty_probability if self.augment else 0
            shown = not (share and rng.random() < share)
            if not shown:
                face["image"], face["landmarks"] = without_face(
                    face["image"], face["landmarks"], rng, elsewhere=self.config.crop != "none"
                )
                face["box"] = box_of_landmarks(face["landmarks"], self.config.crop)
            image, landmarks = face["image"], face["landmarks"]
            if self.clip is not None:
                return self._clip(index, face, rng, shown)
            crop_from_frame = self._crop(image, face["box"], landmarks)
        except ValueError as error:
            raise UserError(
                f"face {index} of {self.source.where}, {face['name']}: {error}"
            ) from error
        if self.augment is None:
            crop = geometry.warp(image, crop_from_frame, size)
            points = geometry.transform_points(crop_from_frame, landmarks)
        else:
            crop, points, crop_from_frame = augment_face(
                image,
                landmarks,
                crop_from_frame,
                rng,
                config=self.augment,
                schema=self.schema,
                size=size,
            )
        return LandmarkBatch(
            image=crop,
            landmarks=(points / size).astype(np.float32),
            mask=np.bool_(shown),
            frame_from_crop=geometry.inverse(crop_from_frame).astype(np.float32),
            index=np.int32(index),
        )

    def _in_schema(self, face):
        """A face with the landmarks that are asked for."""
        if self._points is not None:
            face["landmarks"] = face["landmarks"][self._points]
        return face

    def _crop(self, image, box, landmarks):
        """(3, 3) the crop of a picture, before any change."""
        return labelled_crop(
            self.config.crop,
            self.config.crop_scale,
            self.image_size,
            shape=image.shape,
            box=box,
            landmarks=landmarks,
        )

    def _clip(self, index, face, rng, shown=True):
        """A row of ClipBatch, from the still or from its take; `shown`: whether it has a face."""
        # grain sets the state of a generator that it uses again, but not what `spawn` makes
        # children of: those of `rng` itself would depend on how many were made before.
        rng = np.random.default_rng(rng.integers(2**63))
        number, name = self.clip.num_frames, face["name"]
        acts = shown and self.takes is not None and name in self.takes
        if acts and rng.random() < self.clip.take_probability:
            frames, labels, boxes = self.takes.cut(name, rng)
        else:
            frames = [face["image"]] * number
            labels = np.repeat(face["landmarks"][None], number, axis=0)
            boxes = np.repeat(face["box"][None], number, axis=0)
        crops, points, frame_from_crop = augment_clip(
            frames,
            labels,
            np.stack([self._crop(*row) for row in zip(frames, boxes, labels, strict=True)]),
            rng,
            config=self.clip,
            augment=self.augment,
            schema=self.schema,
            size=self.image_size,
        )
        return ClipBatch(
            image=crops,
            landmarks=(points / self.image_size).astype(np.float32),
            mask=np.bool_(shown),
            frame_from_crop=frame_from_crop.astype(np.float32),
            index=np.int32(index),
        )


class _EvaluationReader(_FaceReader):
    """Makes masked rows of faces whose error cannot be measured, and beyond the last face."""

    def __call__(self, index, rng):
        if index < len(self.source) and self._has_size(index):
            return super().__call__(index, rng)
        return self._masked

    @functools.cached_property
    def _masked(self):
        """A row that does not count, made of the first face that does."""
        for index in range(len(self.source)):
            if self._has_size(index):
                row = super().__call__(index, None)
                return row._replace(mask=np.False_, index=np.int32(-1))
        raise UserError(
            f"no error can be measured of any face of {self.source.where}: their eye corners "
            "coincide, or their labels or boxes have no size"
        )

    def _has_size(self, index):
        face = self._in_schema(self.source.annotation(index))
        if len(face["landmarks"]) != self.schema.num_landmarks:
            return True  # and refused, once it is cropped
        left, right = face["landmarks"][list(self.schema.eye_corners)]
        try:
            if self.config.crop != "none":
                labelled_crop(
                    self.config.crop,
                    self.config.crop_scale,
                    self.image_size,
                    shape=None,
                    box=face["box"],
                    landmarks=face["landmarks"],
                )
        except ValueError:
            return False
        return (left != right).any()


def shard_rows(config: DataConfig, shard_index: int, shard_count: int) -> slice:
    """The rows of each batch that a shard loads: s, s + shard_count, ...

    Raises:
        UserError: the batch cannot be divided by the shards, or there is no such shard.
    """
    if config.batch_size % shard_count or not 0 <= shard_index < shard_count:
        raise UserError(
            f"shard {shard_index} of {shard_count}: a batch of {config.batch_size} must divide "
            "evenly, and shards count from 0"
        )
    return slice(shard_index, None, shard_count)


def _batches(rows, config, shard_index, shard_count):
    rows = rows[shard_rows(config, shard_index, shard_count)]
    batches = rows.batch(config.batch_size // shard_count)
    if not config.num_workers:
        return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    # A worker needs no threads: the processes are what runs side by side.
    alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return in_workers(batches.to_iter_dataset(alone), config, ahead=2)
