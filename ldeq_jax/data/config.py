"""The config of the data that a run reads."""

import dataclasses
from typing import NamedTuple, get_args

from ldeq_jax.errors import UserError
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import LandmarkSchema


class DataPart(NamedTuple):
    """One of the data sets that a run trains on.

    Attributes:
        dataset: its name, as built.
        split: its split.
        share: its part of the rows.
    """

    dataset: str
    split: str
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which faces, how they are cropped, how they are batched.

    Attributes:
        name: data set as built, with its config if it has any: "ibug_300w", "wflw/precropped".
        data_dir: folder of the data sets; "" means the environment variable TFDS_DATA_DIR, or else
            ~/tensorflow_datasets.
        train_split: split to train on; parts such as "train[:90%]" and sums "a+b" work too.
        also: further data sets to train on, each as NAME:SPLIT:SHARE, where SHARE is its part of
            the training rows: "faces/mine:train:.2". Landmarks of WFLW become those of iBUG where
            `name` has these.
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
    also: tuple[str, ...] = ()
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
        if sum(part.share for part in self.parts()[1:]) >= 1:
            raise UserError(f"the shares of data.also leave nothing of {self.name}: {self.also}")
        for field, lowest in (("crop_scale", 1e-3), ("batch_size", 1), ("num_workers", 0)):
            if getattr(self, field) < lowest:
                raise UserError(f"{field} must be {lowest} or more, got {getattr(self, field)}")

    def parts(self) -> list[DataPart]:
        """The data sets to train on: that of `name`, then those of `also`.

        Raises:
            UserError: an entry of `also` has another form.
        """
        others = [_part(text) for text in self.also]
        own = 1 - sum(part.share for part in others)
        return [DataPart(self.name, self.train_split, own), *others]


def _part(text: str) -> DataPart:
    """An entry of `DataConfig.also`; a split may hold colons: "faces/mine:train[:90%]:.2"."""
    name, _, rest = text.partition(":")
    split, _, share = rest.rpartition(":")
    try:
        part = DataPart(name.strip(), split.strip(), float(share))
        if not part.dataset or not part.split or not 0 < part.share < 1:
            raise ValueError
    except ValueError:
        raise UserError(
            f"data.also takes NAME:SPLIT:SHARE with a share between 0 and 1, such as "
            f"faces/mine:train:.2, got {text!r}"
        ) from None
    return part
