"""The config of the data that a run reads."""

import dataclasses
from typing import get_args

from ldeq_jax.errors import UserError
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import LandmarkSchema


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
            extent of the labelled landmarks, "none" takes the whole picture (for pre-cropped ones).
        crop_scale: side of the crop in units of the larger side of the box or extent.
        batch_size: rows of a batch, faces or videos, of all shards together.
        num_workers: worker processes that load faces; 0 = threads of this process. Scripts that
            use workers must guard their start by ``if __name__ == "__main__":``.
        seed: of order and augmentation.
        schema: meaning of the landmarks: a name, a JSON file or a schema; "" = the data set's own.

    Raises:
        UserError: a field is outside its range.
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
            raise UserError(f"crop must be one of {get_args(Crop)}, got {self.crop!r}")
        for field, lowest in (("crop_scale", 1e-3), ("batch_size", 1), ("num_workers", 0)):
            if getattr(self, field) < lowest:
                raise UserError(f"{field} must be {lowest} or more, got {getattr(self, field)}")
