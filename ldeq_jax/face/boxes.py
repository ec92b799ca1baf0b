"""Checks of face boxes, x1 y1 x2 y2 in pixels, as users and detectors give them."""

import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.errors import UserError

_SMALLEST_SIDE = 4  # pixels of a box; below that a crop shows a blur
_LARGEST_BOX = 3  # in units of the picture; far larger boxes ask for crops that no memory holds


def check_boxes(boxes: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Refuses what is no box of a face in a picture, before it turns into wrong landmarks.

    Args:
        boxes: (N, 4) or wider, x1 y1 x2 y2 of each face in picture pixels; further columns, such as
            a score, are ignored. An empty list is no boxes.
        shape: of the picture, height and width first.

    Returns:
        (N, 4) float64.

    Raises:
        UserError: the boxes are not such an array, or `box_fault` finds fault with one.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"boxes must be numbers, x1 y1 x2 y2 in each row ({error})") from error
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] < 4:
        raise UserError(
            f"boxes must be (N, 4) or wider, x1 y1 x2 y2 in each row, not {array.shape}; a single "
            "box goes in a list"
        )
    for box in array[:, :4]:
        if fault := box_fault(box, shape):
            raise UserError(f"the box {','.join(f'{x:g}' for x in box)} {fault}")
    return array[:, :4]


def box_fault(box: np.ndarray, shape: tuple[int, ...]) -> str:
    """What is wrong with a box of a face in a picture.

    Args:
        box: (4,) x1 y1 x2 y2, picture pixels.
        shape: of the picture, height and width first.

    Returns:
        "" for a box that is finite, has sides of 4 pixels or more, shows some of the picture, and
        whose longer side is at most 3 times that of the picture. Else the rest of a sentence that
        begins with "the box".
    """
    height, width = shape[:2]
    sides = box[2:] - box[:2]
    picture = f"the picture of {width} x {height} pixels"
    if not np.isfinite(box).all():
        return "must be finite"
    if np.abs(box).max() <= 1.5:  # fractions may reach beyond the picture a little
        return f"looks like fractions of {picture}: multiply x by its width and y by its height"
    if sides.min() <= 0:
        return "must have x1 < x2 and y1 < y2: two corners, not a corner and a size"
    if sides.min() < _SMALLEST_SIDE:
        return (
            f"is {sides[0]:g} x {sides[1]:g} pixels: too small for a face, which takes "
            f"{_SMALLEST_SIDE} or more on each side"
        )
    if box[0] >= width or box[1] >= height or box[2:].min() <= 0:
        return f"must lie in {picture}, in full or in part"
    if sides.max() > _LARGEST_BOX * max(height, width):
        return f"is more than {_LARGEST_BOX} times as large as {picture}"
    return ""
