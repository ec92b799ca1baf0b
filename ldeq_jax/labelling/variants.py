"""Variants of crops: the same face as a model sees it mirrored, in another size, or elsewhere.

A model errs in a mirrored or shifted picture in another way, so the mean over variants errs less,
and their differences say how sure it may be.
"""

import numpy as np

from ldeq_jax.face.schema import LandmarkSchema

# Factor of the crop's side, and its shift to the right and down in parts of the side.
_MOVES = {
    "wider": (1.12, 0.0, 0.0),
    "closer": (0.93, 0.0, 0.0),
    "left": (1.0, -0.04, 0.02),
    "right": (1.0, 0.04, -0.02),
}
NAMES = ("mirrored", *_MOVES)


def split(text: str) -> tuple[str, tuple[str, ...]]:
    """A member as it is written, such as faces-68:mirrored+wider: its model and its variants.

    What follows the last colon is part of the model's path unless all of it are variants.
    """
    model, colon, rest = text.rpartition(":")
    variants = tuple(rest.split("+"))
    if colon and model and all(variant in NAMES for variant in variants):
        return model, variants
    return text, ()


def varied(
    crop_from_frame: np.ndarray, size: int, variants: tuple[str, ...], middle: float
) -> np.ndarray:
    """The crop of a variant.

    Args:
        crop_from_frame: (3, 3) of the usual crop.
        size: side of the crop, pixels.
        variants: names, applied one after another.
        middle: pixel of the crop, in x and y, at which the centre of the face is.
    """
    matrix = crop_from_frame
    for name in variants:
        if name == "mirrored":
            change = np.array([[-1.0, 0, 2 * middle], [0, 1, 0], [0, 0, 1]])
        else:
            factor, right, down = _MOVES[name]
            x, y = (middle - (middle + size * move) / factor for move in (right, down))
            change = np.array([[1 / factor, 0, x], [0, 1 / factor, y], [0, 0, 1]])
        matrix = change @ matrix
    return matrix


def unmirrored(
    values: np.ndarray, axis: int, variants: tuple[str, ...], schema: LandmarkSchema
) -> np.ndarray:
    """Values of landmarks that were found in a variant, in the order of an unmirrored face."""
    mirrored = variants.count("mirrored") % 2
    return np.take(values, schema.flip_permutation, axis=axis) if mirrored else values
