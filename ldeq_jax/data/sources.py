"""Built data sets, read example by example."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from ldeq_jax.face.schema import LandmarkSchema, from_fields
from ldeq_jax.media import pictures
from ldeq_jax.media.video import VideoReader

_BUILD_AGAIN = "build it again with datasets/build.py --overwrite"


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
            A dict. "name": text; "landmarks": (K, 2) float32 and "box": (4,) float32, x1 y1 x2 y2,
            both in picture pixels; "attributes": (A,) bool.

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
            "ldeq_jax/face/schema.py shows the form"
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


class VideoSource(ExampleSource):
    """The videos of one split, by number."""

    kind = "videos"

    def annotation(self, index: int) -> dict[str, Any]:
        """All of video ``index`` but the video itself: it is loaded for that, but not decoded.

        Returns:
            A dict. "name": text; "landmarks": (T, K, 2) float32, NaN in frames without labels, and
            "boxes": (T, 4) float32, x1 y1 x2 y2, NaN where the face is lost, both in frame pixels;
            "mask": (T,) bool, True for frames whose labels count; "fps": float; "attributes":
            (A,) bool.

        Raises:
            IndexError: there is no such video.
            ValueError: the fields disagree about the number of frames, or the data set's files are
                damaged.
        """
        return self._video(index)[0]

    def frames(self, index: int) -> Iterator[np.ndarray | None]:
        """Decodes video ``index``, frame after frame.

        Yields:
            (H, W, 3) uint8 RGB, as many as there are labels; None for one that cannot be decoded.
            Pixels are as stored, square or not, as labels are.

        Raises:
            IndexError: there is no such video.
            ValueError: the video cannot be decoded, is shorter than its labels, or the data set's
                files are damaged.
        """
        video, data = self._video(index)
        length = len(video["mask"])
        name, count = f"video {index} of {self.where}, {video['name']}", 0
        # One thread takes the least time a frame, and gives each as soon as it can be known.
        try:
            reader = VideoReader(data, name=name, square_pixels=False, threads=1)
        except ValueError as error:
            raise ValueError(f"{error}; build the data set again from whole files") from error
        for frame in itertools.islice(reader.frames(), length):
            yield frame.image
            count += 1
        if count < length:
            raise ValueError(
                f"{name}: only {count} of {length} labelled frames can be decoded; build the data "
                "set again from whole files"
            )

    def _video(self, index):
        video = self._example(index)
        video["name"] = video["name"].decode()
        lengths = {field: len(video[field]) for field in ("landmarks", "boxes", "mask")}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"video {index} of {self.where}, {video['name']}: its fields differ in their "
                f"number of frames, {lengths}; build the data set again"
            )
        return video, video.pop("video")
