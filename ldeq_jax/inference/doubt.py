"""Doubt: whether the landmarks found around a box can be those of a face.

A model always answers, with or without a face. A calibrated one (`face.confidence`) says how likely
it is that there is one: of walls, noise and cartoons less than .1, of WFLW's hard photographs more
than .7. The other checks look at the landmarks alone, or at a second look through another crop: a
face keeps its place in the frame, while landmarks of nothing move along with the crop.

The numbers of these were chosen on 18 films of one face, none of which is lost by them. A face's
extent is 0.87 to 1.14 of the box of its crop. Seen through the other crop, the landmarks of a face
on film lie about 1 % of the face size elsewhere, up to 12 % when it is badly blurred; of WFLW's
hard photographs, 2 in 100 lie farther. Landmarks that only move along with the crop would lie 15 %
elsewhere.
"""

import numpy as np

from ldeq_jax.face.boxes import box_fault
from ldeq_jax.face.crops import Crop, box_of_landmarks

COLLAPSED = 0.5  # least extent of the landmarks, by the box of their crop
SMALLEST = 8  # pixels, of the same
UNLIKELY = 0.2  # least confidence of a face; lower than even, for one that is badly seen
DISAGREEMENT = 0.12  # most mean distance between two looks, by the face size
OTHER_SHIFT, OTHER_SIZE = 0.1, 1.1  # of the second crop, by the larger side of the box


def why_not_a_face(points: np.ndarray, box: np.ndarray, shape: tuple[int, ...], crop: Crop) -> str:
    """Why landmarks found around a box are not those of a face.

    Args:
        points: (K, 2) frame pixels.
        box: (4,) x1 y1 x2 y2, frame pixels.
        shape: of the frame, height and width first.
        crop: the rule that the model was trained with.

    Returns:
        The reason, or "".
    """
    if not np.isfinite(points).all():
        return "its landmarks are not finite"
    sides, expected = np.ptp(points, axis=0), (box[2:] - box[:2]).max()
    if sides.max() < max(SMALLEST, COLLAPSED * expected) or sides.min() < 1:
        return f"its landmarks fall together, to {sides[0]:.0f} x {sides[1]:.0f} pixels"
    last = np.subtract(shape[1::-1], 1)
    inside = (points >= 0).all(axis=1) & (points <= last).all(axis=1)
    if np.mean(inside) < 0.5:
        return "it has left the frame"
    fault = box_fault(box_of_landmarks(points, crop), shape)  # the next crop is taken there
    return f"the box of its landmarks {fault}" if fault else ""


def why_unlikely(confidence: np.ndarray | None) -> str:
    """Why a model that is calibrated sees no face, or ""."""
    if confidence is None or not confidence < UNLIKELY:
        return ""
    return f"it does not look like a face (confidence {float(confidence):.2f})"


def second_box(box: np.ndarray) -> np.ndarray:
    """The box (4,) of a second look: a tenth of its larger side further right and down, larger."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    centre, half = centre + OTHER_SHIFT * 2 * half.max(), OTHER_SIZE * half
    return np.concatenate([centre - half, centre + half])


def looks_agree(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two looks show a face (K, 2) in the same place of the frame."""
    away = np.mean(np.linalg.norm(second - first, axis=1))
    return bool(away <= DISAGREEMENT * np.sqrt(np.prod(np.ptp(first, axis=0))))


def same_face(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes (4,) are of one face: the centre of each lies in the other."""
    return all(
        (a[:2] <= (b[:2] + b[2:]) / 2).all() and ((b[:2] + b[2:]) / 2 <= a[2:]).all()
        for a, b in ((box, other), (other, box))
    )
