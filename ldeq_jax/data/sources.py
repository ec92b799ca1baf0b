"""Built data sets, read example by example: the faces or the videos of a split, by number.

This module neither crops nor batches, as `faces` and `videos` do, and it builds no data sets:
`ldeq build` does.
"""

import functools
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.face.schema import LandmarkSchema, from_fields
from ldeq_jax.media import pictures
from ldeq_jax.media.video import VideoReader

_BUILD_AGAIN = "build it again with ldeq build --overwrite"


def kind_of(name: str, data_dir: str = "") -> str:
    """What a data set holds: "faces" or "videos".

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: its description is damaged.
    """
    return _kind(_builder(name, data_dir))


def _kind(builder: tfds.core.DatasetBuilder) -> str:
    return "videos" if "video" in builder.info.features else "faces"


class ExampleSource:
    """The examples of one split, by number: what the sources of faces and of videos share.

    Attributes:
        schema: name of the landmark schema, or the schema itself where the data set describes it.
        num_landmarks: K.
        attribute_names: what the entries of each example's ``attributes`` mean.
        split: as given.
        where: "name:split", for messages.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: no such split, nothing in it, the data set holds the other kind of examples, or
            its description is damaged.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, split: str, data_dir: str = ""):
        builder = _builder(name, data_dir)
        kind = _kind(builder)
        if kind != self.kind:
            reader = {"faces": "FaceSource", "videos": "VideoSource"}[kind]
            raise UserError(f"{name} holds {kind}, not {self.kind}: read it with {reader}")
        sizes = {key: info.num_examples for key, info in builder.info.splits.items()}
        self.split, self.where = split, f"{name}:{split}"
        self._folder = builder.data_path
        self._info = builder.info
        self.schema = _schema(builder)
        self.num_landmarks: int = builder.info.features["landmarks"].shape[-2]
        self.attribute_names: list[str] = list(builder.info.metadata["attribute_names"])
        try:
            if not builder.info.splits[split].num_examples:
                raise ValueError(f"it holds no {kind}")
            encoded = {"image": tfds.decode.SkipDecoding()} if kind == "faces" else None
            self._examples = builder.as_data_source(split, decoders=encoded)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"cannot read split {split!r} of {name}: {str(error).rstrip('.')}. "
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
            raise UserError(
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
            A dict. "name": text; "landmarks": (K, 2) float32 and "box": (4,) float32, x1 y1 x2 y2,
            both in picture pixels; "attributes": (A,) bool.

        Raises:
            IndexError: there is no such face.
            UserError: a landmark is not finite, or the data set's files are damaged.
        """
        return self._face(index)[0]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Face ``index``: its annotation, and image: (H, W, 3) uint8 RGB.

        Raises:
            IndexError: there is no such face.
            UserError: a landmark is not finite, the picture cannot be decoded, or the data set's
                files are damaged.
        """
        face, data = self._face(index)
        face["image"] = pictures.decode_stored(data)
        if face["image"] is None:
            raise UserError(f"face {index} of {self.where}, {face['name']}: not a readable picture")
        return face

    def _face(self, index: int) -> tuple[dict[str, Any], bytes]:
        face = self._example(index)
        face["name"] = face["name"].decode()
        if not np.isfinite(face["landmarks"]).all():
            raise UserError(
                f"face {index} of {self.where}, {face['name']}: landmarks that are not finite; "
                "correct the labels and build the data set again"
            )
        return face, face.pop("image")


class VideoSource(ExampleSource):
    """The videos of one split, by number.

    Names and lengths come from the data set's metadata, so that no video is loaded for them. Data
    sets that were built before the metadata had them are read once from end to end instead, when
    they are first asked for. An annotation that was read once stays in memory, without the video.
    """

    kind = "videos"

    def __init__(self, name: str, split: str, data_dir: str = ""):
        super().__init__(name, split, data_dir)
        self._annotations: dict[int, dict[str, Any]] = {}
        try:
            self._listing = _listing(self._info, split)
            complete = self._listing is None or len(self._listing) == len(self)
        except (KeyError, TypeError, ValueError):
            complete = False
        if not complete:
            raise UserError(
                f"the metadata in {self._folder} does not list the videos of {self.where}: "
                f"{_BUILD_AGAIN}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_annotations": {}}  # worker processes have no use for them

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the videos."""
        if self._listing is None:
            return [self.annotation(index)["name"] for index in range(len(self))]
        return [name for name, _ in self._listing]

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """(V,) int, number of frames of each video."""
        if self._listing is None:
            return np.array([len(self.annotation(i)["mask"]) for i in range(len(self))], int)
        return np.array([length for _, length in self._listing], int)

    def annotation(self, index: int) -> dict[str, Any]:
        """All of video ``index`` but the video itself. The first call loads the video's record.

        Returns:
            A dict. "name": text; "landmarks": (T, K, 2) float32, NaN in frames without labels, and
            "boxes": (T, 4) float32, x1 y1 x2 y2, NaN where the face is lost, both in frame pixels;
            "mask": (T,) bool, True for frames whose labels count; "fps": float; "attributes": (A,)
            bool. It is shared by all callers: do not change it.

        Raises:
            IndexError: there is no such video.
            UserError: the fields disagree about the number of frames, or the data set's files are
                damaged.
        """
        if index not in self._annotations:
            self._load(index)
        return self._annotations[index]

    def frames(self, index: int) -> Iterator[np.ndarray | None]:
        """Decodes video ``index``, frame after frame. Each call loads the video's record once.

        The annotation is kept on the way: ask for it after the first frame, and the record is
        loaded for both together.

        Yields:
            (H, W, 3) uint8 RGB, as many as there are labels; None for one that cannot be decoded.
            Pixels are as stored, square or not, as labels are.

        Raises:
            IndexError: there is no such video.
            UserError: the video cannot be decoded, is shorter than its labels, or the data set's
                files are damaged.
        """
        data = self._load(index)
        video, count = self._annotations[index], 0
        name, length = f"video {index} of {self.where}, {video['name']}", len(video["mask"])
        # One thread takes the least time a frame, and gives each as soon as it can be known.
        try:
            reader = VideoReader(data, name=name, square_pixels=False, threads=1)
        except ValueError as error:
            raise UserError(f"{error}; build the data set again from whole files") from error
        for frame in itertools.islice(reader.frames(), length):
            yield frame.image
            count += 1
        if count < length:
            raise UserError(
                f"{name}: only {count} of {length} labelled frames can be decoded; build the data "
                "set again from whole files"
            )

    def _load(self, index: int) -> bytes:
        """Loads a record: keeps its annotation, returns the video as encoded."""
        video = self._example(index)
        video["name"] = video["name"].decode()
        lengths = {field: len(video[field]) for field in ("landmarks", "boxes", "mask")}
        if self._listing is not None:
            lengths["metadata"] = self._listing[index][1]
        if len(set(lengths.values())) > 1:
            raise UserError(
                f"video {index} of {self.where}, {video['name']}: its fields differ in their "
                f"number of frames, {lengths}; build the data set again"
            )
        data = video.pop("video")
        self._annotations[index] = video
        return data


def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    folder = _newest_version(name, data_dir)
    try:
        builder = tfds.builder_from_directory(folder)
        if not {"schema", "attribute_names"} <= set(builder.info.metadata or ()):
            raise ValueError("no schema or attribute_names in metadata.json")
    except Exception as error:  # a file cut short or missing, of several formats
        raise UserError(
            f"{folder} does not describe a data set ({_first_line(error)}): {_BUILD_AGAIN}"
        ) from error
    return builder


def _schema(builder: tfds.core.DatasetBuilder) -> str | LandmarkSchema:
    schema = builder.info.metadata["schema"]
    if isinstance(schema, str):
        return schema
    try:
        return from_fields(schema)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{builder.data_path} describes no landmark schema ({_first_line(error)}); "
            "ldeq_jax/face/schema.py shows the form"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _newest_version(name: str, data_dir: str) -> Path:
    """Folder of the newest version of a data set, or of its default config."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    folder = root.expanduser() / name
    default = folder / ".config" / "metadata.json"
    if default.is_file():
        folder = folder / json.loads(default.read_text())["default_config_name"]
    versions = [f for f in folder.glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", f.name)]
    if not versions:
        raise UserFileNotFoundError(
            f"no data set {name!r} in {root.expanduser()}. Build it with\n"
            f"  ldeq build {name} --manual_dir=DOWNLOADED_FILES --data_dir={root}\n"
            "or, if it lies elsewhere, set data_dir or the environment variable TFDS_DATA_DIR"
        )
    return max(versions, key=lambda f: tuple(map(int, f.name.split("."))))


def _listing(info: tfds.core.DatasetInfo, split: str) -> list[tuple[str, int]] | None:
    """Name and length of each video of a split, or of parts of splits, as the metadata has them.

    None for data sets built before the metadata had them.
    """
    listed = info.metadata.get("videos")
    if listed is None:
        return None
    by_file = {}
    for name, whole in info.splits.items():
        videos = iter(listed[name])
        for part in whole.file_instructions:
            by_file[part.filename] = list(itertools.islice(videos, part.take))
    return [
        (name, int(length))
        for part in info.splits[split].file_instructions
        for name, length in by_file[part.filename][part.skip : part.skip + part.take]
    ]
