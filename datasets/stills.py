"""What all data sets of stills share: the format of an example, and the checks of its files.

An example is one face in one picture. `videos.py` is the same for videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from problems import Problem

from ldeq_jax.media import files, pictures

PIXELS = "the centre of the top-left one at (0, 0)"


def face_info(
    builder: tfds.core.DatasetBuilder,
    *,
    schema: str | Mapping[str, Any],
    num_landmarks: int,
    attribute_names: Sequence[str],
    homepage: str | None,
) -> tfds.core.DatasetInfo:
    """Describes a data set of still faces.

    Args:
        builder: the builder; its folder holds README.md, CITATIONS.bib and TAGS.txt.
        schema: name of the landmark order, such as "wflw_98", or all fields of a schema that is not
            known by name.
        num_landmarks: K.
        attribute_names: meaning of the A booleans of `attributes`, in order.
        homepage: where the data come from, if known.

    Returns:
        The info, with `schema` and `attribute_names` as metadata. Landmarks (K, 2) and boxes
        (x1, y1, x2, y2) are picture pixels, (x, y), the centre of the top-left pixel at (0, 0).
    """
    tensor = tfds.features.Tensor
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(None, None, 3), doc="The picture, height x width x RGB, 0 to 255."
            ),
            "landmarks": tensor(
                shape=(num_landmarks, 2),
                dtype=np.float32,
                doc=f"Points x, y in pixels of the picture, {PIXELS}; in the order of the schema "
                f"{schema if isinstance(schema, str) else schema['name']}.",
            ),
            "box": tensor(
                shape=(4,),
                dtype=np.float32,
                doc=f"The face's x1, y1, x2, y2 in pixels of the picture, {PIXELS}.",
            ),
            "attributes": tensor(
                shape=(len(attribute_names),),
                dtype=np.bool_,
                doc=f"True where it applies, in order: {', '.join(attribute_names) or 'none'}.",
            ),
            "name": tfds.features.Text(
                doc="Path of the picture as downloaded, and the face's number if it has several."
            ),
        }
    )
    metadata = tfds.core.MetadataDict(schema=schema, attribute_names=list(attribute_names))
    return builder.dataset_info_from_configs(
        features=features, metadata=metadata, homepage=homepage
    )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines of a text file in any common encoding, from 1, without blank lines.

    Raises:
        Problem: the file cannot be read.
    """
    try:
        text = files.read_text(path)
    except OSError as error:
        raise Problem(path, "unreadable file", error.strerror or str(error)) from error
    except ValueError as error:
        raise Problem(path, "unreadable file", str(error)) from error
    return [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]


def read_numbers(words: Sequence[str], where: str) -> np.ndarray:
    """The words as finite float32 numbers.

    Raises:
        Problem: a word is not a number, or is NaN or infinite.
    """
    try:
        numbers = np.array(words, dtype=np.float32)
    except ValueError as error:
        raise Problem(where, "not a number", str(error)) from error
    if not np.isfinite(numbers).all():
        word = words[int(np.argmin(np.isfinite(numbers)))]
        raise Problem(where, "NaN or infinite number", f"found {word!r}; correct or drop the line")
    return numbers


def read_picture(path: Path, where: str) -> tuple[bytes, tuple[int, int]]:
    """Encoded bytes of a picture and its (width, height), see `pictures.stored_picture`.

    Args:
        path: a picture; on disk its name may have another case or Unicode form.
        where: the line that names the picture, for the message.

    Raises:
        Problem: the file is missing, cut short, not a picture, or of unknown depth.
    """
    try:
        return pictures.stored_picture(files.find_file(path))
    except OSError as error:
        raise Problem(where, "missing picture", f"{path} ({error.strerror})") from error
    except pictures.PictureError as error:
        raise Problem(where, "unreadable or truncated picture", str(error)) from error


def check_geometry(
    landmarks: np.ndarray, box: np.ndarray, size: tuple[int, int], where: str
) -> bool:
    """Whether all landmarks lie inside the picture.

    Args:
        landmarks: (K, 2) picture pixels.
        box: (4,) x1 y1 x2 y2, picture pixels.
        size: (width, height) of the picture.
        where: file and line, for the message.

    Raises:
        Problem: a landmark is more than one picture side away, or the box is empty.
    """
    side = np.array(size, dtype=np.float32)
    far = ((landmarks < -side) | (landmarks > 2 * side)).any(axis=1)
    if far.any():
        k = int(np.argmax(far))
        x, y = landmarks[k]
        detail = f"landmark {k} at ({x:g}, {y:g}) in a picture of {size[0]} x {size[1]}"
        raise Problem(where, "landmark far outside the picture", detail)
    if not (box[2] > box[0] and box[3] > box[1]):
        raise Problem(where, "empty box", f"x1 y1 x2 y2 = {' '.join(f'{v:g}' for v in box)}")
    return bool(((landmarks >= -0.5) & (landmarks <= side - 0.5)).all())
