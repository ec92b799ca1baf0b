"""From a data set on disk to batches of faces: TFDS source, grain pipeline.

Data sets are the ones that ``datasets/build.py`` writes; TensorFlow is not needed to read them.
Pictures stay uint8 up to the device, a quarter of the bytes of float32; the model scales and
normalises them there.
"""

import dataclasses
import functools
import json
import multiprocessing
import os
import re
import threading
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import cv2
import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from ldeq_jax import geometry
from ldeq_jax.augment import AugmentConfig, augment_face
from ldeq_jax.media import pictures
from ldeq_jax.schema import LandmarkSchema, from_fields, get_schema

_BUILD_AGAIN = "build it again with datasets/build.py --overwrite"

Crop = Literal["box", "extent", "landmarks", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which faces, how they are cropped, how they are batched.

    Attributes:
        name: data set as built, with its config if it has any: "ibug_300w", "wflw/precropped".
        data_dir: folder of the data sets; "" means the environment variable TFDS_DATA_DIR, or else
            ~/tensorflow_datasets.
        train_split: split to train on; parts such as "train[:90%]" and sums "a+b" work too.
        eval_split: split to evaluate on.
        crop: "box" crops by WFLW's rule around the labelled face box, "extent" squarely around that
            box (for boxes that are the extent of the landmarks), "landmarks" squarely around the
            extent of the landmarks, thus along with the labels, "none" takes the whole picture
            (for pre-cropped ones).
        crop_scale: side of the crop in units of the larger side of the box or extent.
        batch_size: rows of a batch, faces or videos, of all shards together.
        num_workers: worker processes that load faces; 0 = threads of this process. Scripts that
            use workers must guard their start by ``if __name__ == "__main__":``.
        seed: of order and augmentation.
        schema: meaning of the landmarks, a name or a schema of your own; "" = as the data set says.

    Raises:
        ValueError: a field is outside its range.
    """

    name: str
    data_dir: str = ""
    train_split: str = "train"
    eval_split: str = "test"
    crop: Crop = "box"
    crop_scale: float = 1.2
    batch_size: int = 16
    num_workers: int = 0
    seed: int = 0
    schema: str | LandmarkSchema = ""

    def __post_init__(self):
        if self.crop not in get_args(Crop):
            raise ValueError(f"crop must be one of {get_args(Crop)}, got {self.crop!r}")
        for field, lowest in (("crop_scale", 1e-3), ("batch_size", 1), ("num_workers", 0)):
            if getattr(self, field) < lowest:
                raise ValueError(f"{field} must be {lowest} or more, got {getattr(self, field)}")


class LandmarkBatch(NamedTuple):
    """B faces. A plain pytree of NumPy arrays.

    Attributes:
        image: (B, H, W, 3) uint8 RGB crops.
        landmarks: (B, K, 2) float32, normalised crop coordinates ``x_crop / H``; some may lie
            outside [0, 1).
        mask: (B,) bool, True for faces that count. The others repeat some face, so that everything
            computed from them is finite.
        frame_from_crop: (B, 3, 3) float32, from crop pixels to pixels of the original picture.
        index: (B,) int32, number of the face in its split, -1 where mask is False.
    """

    image: np.ndarray
    landmarks: np.ndarray
    mask: np.ndarray
    frame_from_crop: np.ndarray
    index: np.ndarray


def kind_of(name: str, data_dir: str = "") -> str:
    """What a data set holds: "faces" or "videos".

    Raises:
        FileNotFoundError: the data set has not been built.
        ValueError: its description is damaged.
    """
    return _kind(_builder(name, data_dir))


def _kind(builder):
    return "videos" if "video" in builder.info.features else "faces"


class ExampleSource:
    """What the sources of faces and of videos share: the examples of one split, by number.

    Attributes:
        schema: name of the landmark schema, or the schema itself where the data set describes it.
        num_landmarks: K.
        attribute_names: what the entries of each example's ``attributes`` mean.
        where: "name:split", for messages.

    Raises:
        FileNotFoundError: the data set has not been built.
        ValueError: no such split, nothing in it, the data set holds the other kind of examples, or
            its description is damaged.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, split: str, data_dir: str = ""):
        builder = _builder(name, data_dir)
        kind = _kind(builder)
        if kind != self.kind:
            reader = {"faces": "FaceSource", "videos": "VideoSource"}[kind]
            raise ValueError(f"{name} holds {kind}, not {self.kind}: read it with {reader}")
        sizes = {key: info.num_examples for key, info in builder.info.splits.items()}
        self.where = f"{name}:{split}"
        self._folder = builder.data_path
        self.schema = _schema(builder)
        self.num_landmarks: int = builder.info.features["landmarks"].shape[-2]
        self.attribute_names: list[str] = list(builder.info.metadata["attribute_names"])
        try:
            if not builder.info.splits[split].num_examples:
                raise ValueError(f"it holds no {kind}")
            encoded = {"image": tfds.decode.SkipDecoding()} if kind == "faces" else None
            self._examples = builder.as_data_source(split, decoders=encoded)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"cannot read split {split!r} of {name}: {error}. "
                f"{kind.capitalize()} in its splits: {sizes}"
            ) from error

    def __len__(self) -> int:
        return len(self._examples)

    def _example(self, index: int) -> dict[str, Any]:
        """The fields of an example as they are stored."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.where} has examples 0 to {len(self) - 1}, no {index}")
        try:
            example = dict(self._examples[index])
            if lost := [field for field, value in example.items() if value is None]:
                raise ValueError(f"without {', '.join(lost)}")
        except Exception as error:  # what reads the records raises many kinds, none of its own
            raise ValueError(
                f"{self.kind[:-1]} {index} of {self.where} cannot be read from {self._folder} "
                f"({_first_line(error)}): its files are damaged; {_BUILD_AGAIN}"
            ) from error
        return example


class FaceSource(ExampleSource):
    """The faces of one split, by number."""

    kind = "faces"

    def annotation(self, index: int) -> dict[str, Any]:
        """All of face ``index`` but its picture: cheap.

        Returns:
            name: text; landmarks: (K, 2) float32 and box: (4,) float32, x1 y1 x2 y2, both in
            picture pixels; attributes: (A,) bool.

        Raises:
            IndexError: there is no such face.
            ValueError: a landmark is not finite, or the data set's files are damaged.
        """
        return self._face(index)[0]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Face ``index``: its annotation, and image: (H, W, 3) uint8 RGB.

        Raises:
            IndexError: there is no such face.
            ValueError: a landmark is not finite, the picture cannot be decoded, or the data set's
                files are damaged.
        """
        face, data = self._face(index)
        face["image"] = pictures.decode_stored(data)
        if face["image"] is None:
            raise ValueError(
                f"face {index} of {self.where}, {face['name']}: not a readable picture"
            )
        return face

    def _face(self, index):
        face = self._example(index)
        face["name"] = face["name"].decode()
        if not np.isfinite(face["landmarks"]).all():
            raise ValueError(
                f"face {index} of {self.where}, {face['name']}: landmarks that are not finite; "
                "correct the labels and build the data set again"
            )
        return face, face.pop("image")


def train_iterator(
    config: DataConfig,
    augment: AugmentConfig | None,
    image_size: int,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    first_batch: int = 0,
) -> grain.DatasetIterator[LandmarkBatch]:
    """Batches for training, without end: every epoch holds each face once, in an order of its own.

    What a face looks like depends on the seed, the epoch and its place in the order alone: not on
    the number of workers, and the shards together yield what one shard would. Batches run on
    across epochs, so none is short.

    To resume, either call again with ``first_batch`` (the number of batches taken so far; workers
    and shards may differ then), or keep ``get_state()``, a dict that JSON can hold, for
    ``set_state()`` of an iterator with the same number of workers. Call ``close()`` in the end to
    stop the workers early.

    Args:
        config: faces, crop, batch.
        augment: how to vary them; None for plain crops.
        image_size: side of the crops, pixels.
        shard_index: which part of each batch to load, 0 ... shard_count - 1.
        shard_count: number of parts (processes of a multi-host run).
        first_batch: number of batches to skip, at no cost.

    Returns:
        Iterator over LandmarkBatch of ``batch_size // shard_count`` rows.

    Raises:
        FileNotFoundError: the data set has not been built.
        ValueError: no such split, or the batch cannot be divided by the shards. While iterating:
            a face cannot be read or cropped; the message names it.
    """
    reader = _FaceReader(config, config.train_split, augment, image_size)
    rows = grain.MapDataset.range(len(reader.source)).seed(config.seed).shuffle().repeat()
    # Random numbers are drawn by place in the order, thus before the order is divided.
    rows = rows.random_map(reader)[first_batch * config.batch_size :]
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

    Faces that no error can be measured of are masked: those whose eye corners coincide, and those
    that cannot be cropped for labels or a box without a size. The last batch is filled up with
    masked rows. Every shard yields the same number of batches,
    ``ceil(faces / batch_size)``; shard s has the rows s, s + shard_count, ... of each.

    Args:
        config: faces, crop, batch; ``train_split`` and ``eval_split`` are not looked at.
        split: which faces, ``config.eval_split`` as a rule.
        image_size: side of the crops, pixels.
        shard_index: which part of each batch to load, 0 ... shard_count - 1.
        shard_count: number of parts.

    Returns:
        Iterable over LandmarkBatch of ``batch_size // shard_count`` rows; each loop starts anew.

    Raises:
        FileNotFoundError: the data set has not been built.
        ValueError: like ``train_iterator``, but a face that cannot be cropped; or no error can be
            measured of any face.
    """
    reader = _EvaluationReader(config, split, None, image_size)
    padded = -(-len(reader.source) // config.batch_size) * config.batch_size
    rows = grain.MapDataset.range(padded).seed(0).random_map(reader)
    return _batches(rows, config, shard_index, shard_count)


class _FaceReader:
    """Makes one row, a LandmarkBatch without the axis B, of the number of a face."""

    def __init__(self, config, split, augment, image_size):
        self.source = FaceSource(config.name, split, config.data_dir)
        self.config, self.augment, self.image_size = config, augment, image_size
        schema = config.schema or self.source.schema
        self.schema = get_schema(schema)

    def __call__(self, index, rng):
        face = self.source[index]
        image, landmarks, size = face["image"], face["landmarks"], self.image_size
        try:
            crop_from_frame = face_crop(self.config, size, image, face["box"], landmarks)
            if landmarks.shape != (self.schema.num_landmarks, 2):
                raise ValueError(f"landmarks {landmarks.shape} do not fit {self.schema.name}")
        except ValueError as error:
            raise ValueError(
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
            mask=np.True_,
            frame_from_crop=geometry.inverse(crop_from_frame).astype(np.float32),
            index=np.int32(index),
        )


class _EvaluationReader(_FaceReader):
    """Makes masked rows of faces that no error can be measured of, and beyond the last face."""

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
        raise ValueError(
            f"no error can be measured of any face of {self.source.where}: their eye corners "
            "coincide, or their labels or boxes have no size"
        )

    def _has_size(self, index):
        face = self.source.annotation(index)
        if len(face["landmarks"]) != self.schema.num_landmarks:
            return True  # and refused, once it is cropped
        left, right = face["landmarks"][list(self.schema.eye_corners)]
        try:
            if self.config.crop != "none":
                face_crop(self.config, self.image_size, None, face["box"], face["landmarks"])
        except ValueError:
            return False
        return (left != right).any()


def face_crop(
    config: DataConfig, size: int, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray
) -> np.ndarray:
    """The crop of a labelled face, as ``config.crop`` and ``config.crop_scale`` say.

    Args:
        config: the rule.
        size: side of the crop, pixels.
        image: (H, W, ...) the picture or frame.
        box: (4,) x1 y1 x2 y2, picture pixels.
        landmarks: (K, 2) picture pixels.

    Returns:
        (3, 3) float64 ``crop_from_frame``.

    Raises:
        ValueError: what the rule looks at is not finite or has no size.
    """
    if config.crop == "box":
        return geometry.crop_from_box(box, size, config.crop_scale)
    if config.crop == "none":
        return geometry.crop_whole(image.shape[1], image.shape[0], size)
    extent = box.reshape(2, 2) if config.crop == "extent" else landmarks
    return geometry.crop_from_landmarks(extent, size, config.crop_scale)


def shard_rows(config: DataConfig, shard_index: int, shard_count: int) -> slice:
    """The rows of each batch that a shard loads: s, s + shard_count, ...

    Raises:
        ValueError: the batch cannot be divided by the shards, or there is no such shard.
    """
    if config.batch_size % shard_count or not 0 <= shard_index < shard_count:
        raise ValueError(
            f"shard {shard_index} of {shard_count}: a batch of {config.batch_size} must divide "
            "evenly, and shards count from 0"
        )
    return slice(shard_index, None, shard_count)


def in_workers(batches: grain.IterDataset, config: DataConfig, ahead: int) -> grain.IterDataset:
    """Have ``config.num_workers`` processes make batches, each up to ``ahead`` of them early.

    Raises:
        ChildProcessError: while iterating: one of the processes was killed.
    """
    if not flags.FLAGS.is_parsed():
        # Grain's workers read absl flags, which a notebook or a test never parses.
        flags.FLAGS.mark_as_parsed()
    workers = grain.MultiprocessingOptions(config.num_workers, per_worker_buffer_size=ahead)
    return _OfWorkers(batches.mp_prefetch(workers, worker_init_fn=_start_worker))


def _batches(rows, config, shard_index, shard_count):
    rows = rows[shard_rows(config, shard_index, shard_count)]
    batches = rows.batch(config.batch_size // shard_count)
    if not config.num_workers:
        return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    # A worker needs no threads: the processes are what runs side by side.
    alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return in_workers(batches.to_iter_dataset(alone), config, ahead=2)


class _OfWorkers(grain.IterDataset):
    """Tells in words of our own that a worker process has died."""

    def __iter__(self):
        return _IteratorOfWorkers(iter(self._parent))


class _IteratorOfWorkers(grain.DatasetIterator):
    def __next__(self):
        try:
            return next(self._parent)
        except RuntimeError as error:  # grain looks after its workers once a second
            if "Worker process was terminated" not in str(error):
                raise
            raise ChildProcessError(
                f"a process that loads data is gone ({str(error).partition('. ')[0]}). If memory "
                "ran out, set a smaller data.num_workers, or 0 for threads; then give the command "
                "again"
            ) from error

    def get_state(self):
        return self._parent.get_state()

    def set_state(self, state):
        self._parent.set_state(state)


def _start_worker(worker_index, worker_count):
    cv2.setNumThreads(0)
    # Grain's workers outlive a parent that is killed, with all that they hold.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _builder(name, data_dir):
    folder = _newest_version(name, data_dir)
    try:
        builder = tfds.builder_from_directory(folder)
        if not {"schema", "attribute_names"} <= set(builder.info.metadata or ()):
            raise ValueError("no schema or attribute_names in metadata.json")
    except Exception as error:  # a file cut short or missing, of several formats
        raise ValueError(
            f"{folder} does not describe a data set ({_first_line(error)}): {_BUILD_AGAIN}"
        ) from error
    return builder


def _schema(builder) -> str | LandmarkSchema:
    schema = builder.info.metadata["schema"]
    if isinstance(schema, str):
        return schema
    try:
        return from_fields(schema)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{builder.data_path} describes no landmark schema ({_first_line(error)}); "
            "ldeq_jax/schema.py shows the form"
        ) from error


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _newest_version(name, data_dir):
    """Folder of the newest version of a data set, or of its default config."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    folder = root.expanduser() / name
    default = folder / ".config" / "metadata.json"
    if default.is_file():
        folder = folder / json.loads(default.read_text())["default_config_name"]
    versions = [f for f in folder.glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", f.name)]
    if not versions:
        raise FileNotFoundError(
            f"no data set {name!r} in {root.expanduser()}. Build it with\n"
            f"  python datasets/build.py {name} --manual_dir=DOWNLOADED_FILES --data_dir={root}\n"
            "or, if it lies elsewhere, set data_dir or the environment variable TFDS_DATA_DIR"
        )
    return max(versions, key=lambda f: tuple(map(int, f.name.split("."))))
