"""Labels: whether they mean what a model predicts, and how predictions are compared with them."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ldeq_jax.data.sources import ExampleSource
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import KNOWN_SCHEMAS, LandmarkSchema, differences, get_schema
from ldeq_jax.media import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """How predictions are compared with labels.

    Attributes:
        schema: of the labels.
        points: index of a predicted landmark to that of the labelled one that it is compared with;
            None compares all, in the same order.
        offset: (K, 2) mean of the predictions minus the labels, in units of the face size, which is
            subtracted from the predictions: the difference between two schemes of annotation.
    """

    schema: LandmarkSchema
    points: Mapping[int, int] | None = None
    offset: np.ndarray | None = None

    def arranged(self, landmarks: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Predictions (T, K', 2) as (T, K, 2) in the order of the labels, NaN where none is."""
        if self.points is None:
            result = np.array(landmarks, np.float64)
        else:
            result = np.full(target.shape, np.nan)
            result[:, list(self.points.values())] = landmarks[:, list(self.points)]
        return result if self.offset is None else result - self.offset * face_size(target)

    @property
    def counted(self) -> list[int] | None:
        """Labelled landmarks that count; None for all."""
        return None if self.points is None else sorted(self.points.values())


def face_size(target: np.ndarray) -> np.ndarray:
    """(T, 1, 1) sqrt(w h) of the extent of (T, K, 2) landmarks."""
    extent = target.max(axis=1) - target.min(axis=1)
    return np.sqrt(extent.prod(axis=-1))[:, None, None]


def mean_offset(pairs: Iterable[tuple[np.ndarray, Mapping[str, Any]]], labels: Labels) -> Labels:
    """The labels with the mean error of each landmark over all labelled frames as their offset.

    Args:
        pairs: landmarks (T, K', 2), or of more frames, and annotation of each video.
        labels: without an offset.
    """
    by_video = []
    for landmarks, video in pairs:
        target, mask = np.asarray(video["landmarks"], np.float64), video["mask"]
        error = (labels.arranged(landmarks[: len(mask)], target) - target)[mask]
        by_video.append(error / face_size(target[mask]))
    errors = np.concatenate(by_video)
    # A frame without a prediction has no offset; its video gets no score.
    present = np.isfinite(errors)
    offset = np.where(present, errors, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    return dataclasses.replace(labels, offset=offset)


def check_schema(ours: LandmarkSchema, source: ExampleSource) -> None:
    """Refuses labels whose landmarks do not mean what the model's landmarks mean.

    Args:
        ours: schema of the model's predictions.
        source: the labelled faces or videos.

    Raises:
        UserError: the schemas differ.
    """
    theirs = source.schema
    if theirs in [schema.name for schema in KNOWN_SCHEMAS]:
        theirs = get_schema(theirs)
    if isinstance(theirs, LandmarkSchema):
        name, apart = theirs.name, differences(ours, theirs)
    else:  # the data set only names its schema
        numbers = ours.num_landmarks, source.num_landmarks
        name, apart = theirs, ["{} against {} landmarks".format(*numbers)] * (len({*numbers}) > 1)
    if ours.name != name or apart:
        raise UserError(
            f"the model predicts the landmarks {ours.name} ({ours.num_landmarks} points), but "
            f"{source.where} is labelled with {name}"
            f"{' of another meaning: ' * bool(apart)}{', '.join(apart)}; choose a --dataset "
            "labelled like the model's, or another --checkpoint"
        )


def read_points(
    path: str | os.PathLike[str], ours: LandmarkSchema, theirs: LandmarkSchema
) -> dict[int, int]:
    """Reads which labelled landmark each predicted one is compared with.

    Args:
        path: JSON file of an object, index of a predicted landmark to that of the labelled one,
            such as {"36": 27}.
        ours: schema of the predictions.
        theirs: schema of the labels.

    Raises:
        OSError: the file cannot be read.
        UserError: it holds something else, or an index that does not exist.
    """
    try:
        entries = dict(json.loads(files.read_text(path)))
        points = {int(key): value for key, value in entries.items()}
    except (TypeError, ValueError) as error:
        raise UserError(f'{path} must hold JSON such as {{"36": 27}}: {error}') from error
    for schema, indices in ((ours, list(points)), (theirs, list(points.values()))):
        known = range(schema.num_landmarks)
        if wrong := [index for index in indices if type(index) is not int or index not in known]:
            raise UserError(f"{path}: {schema.name} has landmarks 0 to {known[-1]}, no {wrong[0]}")
    if not points or len(set(points.values())) < len(entries):
        raise UserError(f"{path} must name one labelled landmark or more, each for one predicted")
    return points
