"""What all data sets of videos share: the format of an example, and the checks of its files.

An example is one face in all frames of one video. `stills.py` is the same for stills.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from problems import Problem
from stills import PIXELS

from ldeq_jax.media.video import VideoReader


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder whose metadata lists the videos: their names and lengths, in the order stored.

    So a reader knows them without loading the videos. The entry is
    ``"videos": {split: [[name, number of frames], ...]}``.
    """

    def download_and_prepare(self, **settings) -> None:
        super().download_and_prepare(**settings)
        if "videos" in self.info.metadata:
            return  # built before
        self.info.metadata["videos"] = {
            split: [[video["name"].decode(), len(video["mask"])] for video in self._stored(split)]
            for split in self.info.splits
        }
        self.info.write_to_directory(self.data_path)

    def _stored(self, split: str) -> Iterator[dict]:
        # Only writing decides the order, so the examples are read back.
        source = self.as_data_source(split)
        return (source[index] for index in range(len(source)))


def video_info(
    builder: tfds.core.DatasetBuilder,
    *,
    schema: str,
    num_landmarks: int | None,
    attribute_names: Sequence[str] | None,
    homepage: str | None = None,
    num_frames: int | None = None,
) -> tfds.core.DatasetInfo:
    """Describes a data set of labelled videos.

    Args:
        builder: the builder; its folder holds README.md, CITATIONS.bib and TAGS.txt.
        schema: name of the landmark order, such as "wflw_98".
        num_landmarks: K; None if it is not known before the files are read.
        attribute_names: meaning of the A booleans of `attributes`, in order; None if they are
            not known before the files are read.
        homepage: where the data come from.
        num_frames: T, if it is the same for all videos.

    Returns:
        The info, with `schema` and `attribute_names` as metadata; `VideoBuilder` adds the list of
        videos. All fields with an axis T have one row for each frame of the video, those that
        cannot be decoded included. Landmarks (T, K, 2) and boxes (T, 4), x1 y1 x2 y2, are frame
        pixels, (x, y), the centre of the top-left pixel at (0, 0); pixels are as stored, square or
        not. A row of NaN stands for a frame without labels or without a face; `mask` (T,) is True
        where the labels count.
    """
    tensor = tfds.features.Tensor
    # TFDS stores a tensor of two unknown sides only as bytes, beside its shape.
    unknown = num_landmarks is None and num_frames is None
    encoding = tfds.features.Encoding.BYTES if unknown else tfds.features.Encoding.NONE
    features = tfds.features.FeaturesDict(
        {
            "video": tensor(  # tfds.features.Video needs TensorFlow
                shape=(), dtype=np.object_, doc="Bytes of the video file, which has T frames."
            ),
            "landmarks": tensor(
                shape=(num_frames, num_landmarks, 2),
                dtype=np.float32,
                encoding=encoding,
                doc=f"For each frame, points x, y in its pixels, {PIXELS}; in the order of the "
                f"schema {schema or 'in the metadata'}. NaN in frames without labels.",
            ),
            "boxes": tensor(
                shape=(num_frames, 4),
                dtype=np.float32,
                doc=f"For each frame, the face's x1, y1, x2, y2 in its pixels, {PIXELS}. NaN in "
                "frames without a face.",
            ),
            "mask": tensor(
                shape=(num_frames,),
                dtype=np.bool_,
                doc="For each frame, True where its labels count.",
            ),
            "fps": tensor(shape=(), dtype=np.float32, doc="Frames per second."),
            "attributes": tensor(
                shape=(None if attribute_names is None else len(attribute_names),),
                dtype=np.bool_,
                doc="True where it applies, in this order: "
                f"{', '.join(attribute_names) if attribute_names else 'see the metadata'}.",
            ),
            "name": tfds.features.Text(doc="Name of the video in its split."),
        }
    )
    metadata = tfds.core.MetadataDict(schema=schema, attribute_names=list(attribute_names or ()))
    return builder.dataset_info_from_configs(
        features=features, metadata=metadata, homepage=homepage
    )


@dataclasses.dataclass(frozen=True)
class Video:
    """A video file that was decoded once to its end.

    Attributes:
        data: the file's own bytes.
        readable: (T,) bool, False for frames that cannot be decoded.
        size: (width, height), pixels as stored.
        aspect: width by height of a pixel, 1 if it is square.
        fps: frames per second, finite and > 0.
    """

    data: bytes
    readable: np.ndarray
    size: tuple[int, int]
    aspect: float
    fps: float


def read_video(path: Path) -> Video:
    """Reads and checks a video file.

    Raises:
        Problem: the file is missing, is not a readable video, or has no frame rate.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Problem(path, "unreadable file", error.strerror or str(error)) from error
    try:
        # As `ldeq_jax.data.videos` reads it when the data set is used.
        reader = VideoReader(data, name=path.name, square_pixels=False, threads=1)
        _, readable = reader.times()
    except ValueError as error:
        raise Problem(path, "unreadable video", f"{error}; download it again") from error
    if not reader.header_fps:
        detail = "its header has no valid rate; set one, for example with ffmpeg -r 25"
        raise Problem(path, "video without frame rate", detail)
    size = reader.width, reader.height
    return Video(data, readable, size, reader.aspect, reader.header_fps)


def read_array(path: Path) -> np.ndarray:
    """An array of numbers or booleans from a .npy file; code in a file is never run.

    Raises:
        Problem: the file is missing, not a .npy file, cut short, or contains something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Problem(path, "unreadable array", f"{reason}; download it again") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = getattr(array, "dtype", "an archive")
        raise Problem(path, "unreadable array", f"expected an array of numbers, found {kind}")
    return array


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of the frames of one video.

    Attributes:
        landmarks: (T, K, 2) float32, frame pixels; NaN in frames that are not labelled.
        boxes: (T, 4) float32, x1 y1 x2 y2; NaN where the face is lost.
        mask: (T,) bool, True for frames that count.
        oddities: number of frames by problem; only the problems that occur.
    """

    landmarks: np.ndarray
    boxes: np.ndarray
    mask: np.ndarray
    oddities: dict[str, int]


def check_labels(
    landmarks: np.ndarray, boxes: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> Labels:
    """Masks the frames whose labels cannot be used.

    Args:
        landmarks: (T, K, 2) frame pixels.
        boxes: (T, 4) or longer rows, x1 y1 x2 y2 first; the rest (a score) is dropped.
        mask: (T,) bool, False for frames that must not count.
        size: (width, height) of the frames.

    Returns:
        The labels to store. A frame with a landmark that is not finite counts as unlabelled. A
        landmark more than one frame side outside is a labelling error: its frame does not count.
        A box without area, outside the frame or not finite means that the face is lost.
    """
    side = np.array(size, dtype=np.float32)
    landmarks, boxes = landmarks.astype(np.float32), boxes[:, :4].astype(np.float32)
    unlabelled = ~np.isfinite(landmarks).all(axis=(1, 2))
    far = ((landmarks < -side) | (landmarks > 2 * side)).any(axis=(1, 2)) & ~unlabelled
    low, high = boxes[:, :2], boxes[:, 2:]
    # Comparisons with NaN are False; an infinite side is not a box either.
    usable = (high > low).all(axis=1) & np.isfinite(boxes).all(axis=1)
    usable &= ((high > -0.5) & (low < side - 0.5)).all(axis=1)
    landmarks[unlabelled] = np.nan
    boxes[~usable] = np.nan
    oddities = {
        "landmark NaN or infinite, frame not labelled": unlabelled,
        "landmark far outside the frame, frame does not count": far,
        "box empty, outside the frame or NaN, face counts as lost": ~usable,
    }
    return Labels(
        landmarks=landmarks,
        boxes=boxes,
        mask=mask & ~unlabelled & ~far & usable,
        oddities={kind: int(frames.sum()) for kind, frames in oddities.items() if frames.any()},
    )
