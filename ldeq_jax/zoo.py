"""The pretrained models that come with the package, by name.

Every command's --checkpoint and `weights.load_model` take one of these names or a folder. What a
model was trained on, its error and its limits are in the README.md in its folder.
"""

import dataclasses
import os
from pathlib import Path

from ldeq_jax.errors import UserError

_FOLDER = Path(__file__).parent / "pretrained"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A model that comes with the package.

    Attributes:
        summary: what it is for, in a line.
        schema: name of its landmark schema.
        num_landmarks: K.
        image_size: side of the crops that it sees, pixels.
        megabytes: size of its files.
        terms: what limits its use.
    """

    summary: str
    schema: str
    num_landmarks: int
    image_size: int
    megabytes: float
    terms: str


_300W = (
    "trained on 300-W, whose annotations are for non-commercial research; whether a model trained "
    "on them may be used commercially is for you to find out"
)
MODELS = {
    "faces-68": Pretrained(
        summary="faces in videos and pictures, with the confidence of faces and landmarks",
        schema="ibug_68",
        num_landmarks=68,
        image_size=128,
        megabytes=5.9,
        terms=_300W,
    ),
    "faces-68-tiny": Pretrained(
        summary="the same with a third of the arithmetic and larger errors",
        schema="ibug_68",
        num_landmarks=68,
        image_size=128,
        megabytes=2.7,
        terms=_300W,
    ),
}


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a model.

    Args:
        name_or_path: a name in `MODELS`, which comes before a folder of that name (write
            ./faces-68 for the folder), or the path of a folder.

    Raises:
        UserError: a single word that is neither a known name nor an existing folder.
    """
    text = os.fspath(name_or_path)
    if text in MODELS:
        return _FOLDER / text
    path = Path(text)
    is_word = os.path.basename(text) == text and not text.startswith("~")
    if is_word and not path.exists():
        raise UserError(
            f"there is no folder {text} to read a model from, and no pretrained model of that "
            f"name; the pretrained models are {', '.join(MODELS)}"
        )
    return path
