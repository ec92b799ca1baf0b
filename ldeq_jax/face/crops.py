"""The crop rules: from a face in a picture to the square that the network sees.

A model is used with the rule that it was trained with, one of `Crop`:

- "box": by WFLW's rule around a face box that reaches from the forehead to the chin;
- "extent": squarely around a box that is the extent of the landmarks, from the brows to the chin;
- "landmarks": squarely around the extent of the landmarks;
- "none": the whole picture, for pictures that are crops already.

This module makes matrices. `geometry.warp` cuts the crop out with them.
"""

from typing import Literal

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.boxes import check_boxes

Crop = Literal["box", "extent", "landmarks", "none"]


def labelled_crop(
    kind: Crop,
    scale: float,
    size: int,
    *,
    shape: tuple[int, ...] | None,
    box: np.ndarray | None,
    landmarks: np.ndarray | None,
) -> np.ndarray:
    """The crop of a face with labels, for training and evaluation.

    Args:
        kind: the rule.
        scale: side of the crop in units of the larger side of the box or extent.
        size: side of the crop, pixels.
        shape: of the picture, height and width first; needed by "none" alone.
        box: (4,) x1 y1 x2 y2, picture pixels; needed by "box" and "extent".
        landmarks: (K, 2) picture pixels; needed by "landmarks".

    Returns:
        (3, 3) float64 ``crop_from_frame``.

    Raises:
        ValueError: what the rule uses is not finite or has no size.
    """
    if kind == "none":
        assert shape is not None
        return crop_whole(shape[1], shape[0], size)
    if kind == "landmarks":
        assert landmarks is not None
        return crop_from_landmarks(landmarks, size, scale)
    assert box is not None
    if kind == "box":
        return crop_from_box(box, size, scale)
    return crop_from_landmarks(box.reshape(2, 2), size, scale)


def crop_around(
    kind: Crop, scale: float, size: int, *, shape: tuple[int, ...], box: np.ndarray | None
) -> np.ndarray:
    """The crop of a face without labels, as close to those of training as a box allows.

    Args:
        kind: the rule that the model was trained with.
        scale: side of the crop in units of the larger side of the box.
        size: side of the crop, pixels.
        shape: of the picture, height and width first.
        box: (4,) or longer, x1 y1 x2 y2 in picture pixels: the extent of the landmarks for
            "landmarks" and "extent", else a box as WFLW has it. None takes the whole picture, as a
            model trained with "none" has seen pictures.

    Returns:
        (3, 3) float64 ``crop_from_frame``.

    Raises:
        UserError: `check_boxes` refuses the box, or it is missing for a model that needs one.
    """
    if box is None:
        if kind != "none":
            raise UserError(
                f"the model is trained on crops around faces ({kind}): give the box "
                "x1 y1 x2 y2 of each face in pixels. Only a model trained on pictures that are "
                "crops already (none) takes a whole picture"
            )
        return crop_whole(shape[1], shape[0], size)
    (box,) = check_boxes([box], shape)
    if kind in ("landmarks", "extent"):
        return crop_from_landmarks(box.reshape(2, 2), size, scale)
    return crop_from_box(box, size, scale)


def box_of_landmarks(landmarks: np.ndarray, kind: Crop) -> np.ndarray:
    """The box that a face's next crop is taken around, from its landmarks.

    Args:
        landmarks: (K, 2) frame pixels.
        kind: the rule that the model was trained with. "landmarks" and "extent" take the extent of
            the landmarks. WFLW's boxes, which "box" takes, reach up the forehead: their top lies
            above the landmarks by 0.3 of their height (median of 350 faces; the other sides are
            those of the landmarks). The same holds for "none", pictures cropped by WFLW's rule.

    Returns:
        (4,) x1 y1 x2 y2.
    """
    (x1, y1), (x2, y2) = landmarks.min(axis=0), landmarks.max(axis=0)
    forehead = 0 if kind in ("landmarks", "extent") else 0.3 * (y2 - y1)
    return np.array([x1, y1 - forehead, x2, y2])


def crop_from_box(box: np.ndarray, size: int, scale: float = 1.2) -> np.ndarray:
    """The square crop around a face box, by WFLW's rule.

    The corners are rounded, the centre is ``x1 + (x2 - x1 + 1) // 2`` (likewise y), the side is
    ``scale`` times the larger side of the box, and the centre goes to ``size / 2``. The corners of
    the crop are rounded to float32 like in the released model, so its crops are reproduced exactly;
    the zooms of the two axes may differ by 1e-7 of their value on that account.

    Args:
        box: (4,) or longer; x1, y1, x2, y2 in frame pixels; the rest (a score) is ignored.
        size: side of the crop, pixels.
        scale: side of the crop in the frame, in units of the larger side of the box.

    Returns:
        (3, 3) float64 ``crop_from_frame``.

    Raises:
        ValueError: the box is not finite or has no area, or ``size`` or ``scale`` is not positive.
    """
    box = np.asarray(box, np.float64)
    if box.ndim != 1 or box.size < 4 or not np.isfinite(box[:4]).all():
        raise ValueError(f"a face box needs four finite numbers x1 y1 x2 y2, got {box.tolist()}")
    x1, y1, x2, y2 = np.floor(box[:4] + 0.5)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"the face box {box[:4].tolist()} has no area once rounded to pixels")
    _check_positive(size=size, scale=scale)
    center = np.array([x1 + (x2 - x1 + 1) // 2, y1 + (y2 - y1 + 1) // 2])
    top = np.float32(center[1] - scale * max(x2 - x1, y2 - y1) / 2)
    left = np.float32(center[0]) - (np.float32(center[1]) - top)
    return centred_crop(center, size / 2 / (center - [left, top]), size)


def crop_from_landmarks(points: np.ndarray, size: int, scale: float = 1.2) -> np.ndarray:
    """The square crop centred on the extent of a face's landmarks.

    Args:
        points: (K, 2) landmarks in frame pixels.
        size: side of the crop, pixels.
        scale: side of the crop in the frame, in units of the larger side of the extent.

    Returns:
        (3, 3) float64 ``crop_from_frame``; the centre of the extent goes to ``size / 2``.

    Raises:
        ValueError: the points are not finite or all the same, or ``size`` or ``scale`` is not
            positive.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[-1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"landmarks must be finite and (K, 2), got {points.shape}: {points}")
    low, high = points.min(axis=0), points.max(axis=0)
    side = (high - low).max()
    if side <= 0:
        raise ValueError(f"the landmarks all lie on one point, {low.tolist()}: nothing to crop")
    _check_positive(size=size, scale=scale)
    return centred_crop((low + high) / 2, size / (scale * side), size)


def crop_whole(width: int, height: int, size: int) -> np.ndarray:
    """The crop that holds a whole picture, for pictures that are crops already.

    A square picture is only scaled (0 stays at 0); another is centred, with bars along its short
    sides.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        size: side of the crop, pixels.

    Returns:
        (3, 3) float64 ``crop_from_frame``.

    Raises:
        ValueError: a length is not positive.
    """
    _check_positive(width=width, height=height, size=size)
    return centred_crop(np.array([width, height]) / 2, size / max(width, height), size)


def centred_crop(center: np.ndarray, zoom: np.ndarray | float, size: int) -> np.ndarray:
    """The crop around a point.

    Args:
        center: (2,) frame pixels; it goes to ``size / 2``.
        zoom: crop pixels per frame pixel, one or per axis.
        size: side of the crop, pixels.

    Returns:
        (3, 3) float64 ``crop_from_frame``.
    """
    matrix = np.diag([*np.broadcast_to(zoom, 2), 1.0])
    matrix[:2, 2] = size / 2 - zoom * center
    return matrix


def _check_positive(**lengths):
    for name, value in lengths.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value}")
