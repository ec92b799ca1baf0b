"""Faces, detected: what any detector gives, `Detector`, and the one that is built in, `YuNet`.

Boxes are the extent of a face's 68 landmarks, from the brows to the chin and from ear to ear, since
that is what crops are taken around.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from ldeq_jax.face.boxes import box_fault
from ldeq_jax.face.crops import Crop, box_of_landmarks
from ldeq_jax.media.pictures import check_picture

FILE = Path(__file__).parents[1] / "pretrained" / "yunet" / "face_detection_yunet_2023mar.onnx"
DETECTOR_SIDE = 640  # pixels of the longer side of what the detector sees
LEAST_SCORE, SURE_SCORE = 0.6, 0.8

MOST_OVERLAP = 0.3  # of two boxes that are one face
_MOST = 5000  # boxes before those of one face are put together
# From YuNet's box to the extent of 68 landmarks, fitted on 110 faces of WFLW; what remains is 4 to
# 5 % of the size in place and 7 % in size.
BOX_SCALE, BOX_DOWN = np.exp(-0.1), 0.134
# Boxes of faces that fill what YuNet sees are off, and right again in half of its size.
_LARGE = 0.45


class Detections(NamedTuple):
    """The faces that were detected in a picture, the largest first.

    Attributes:
        boxes: (N, 4) float64 x1 y1 x2 y2, picture pixels: the extent of the landmarks.
        scores: (N,) in [0, 1]; how sure the detector is.
    """

    boxes: np.ndarray
    scores: np.ndarray

    def above(self, score: float) -> "Detections":
        """Those of at least a score."""
        return self.where(self.scores >= score)

    def where(self, chosen: np.ndarray) -> "Detections":
        """Those that are True in a mask (N,), or of some numbers, in their order."""
        return Detections(self.boxes[chosen], self.scores[chosen])


class Detector(Protocol):
    """Anything that detects faces in a picture."""

    def __call__(self, picture: np.ndarray) -> Detections:
        """Detects faces.

        Args:
            picture: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1].
        """
        ...


class YuNet:
    """The detector of `pretrained/yunet`, run by OpenCV on the CPU.

    It finds faces whose shorter side is 2 to 3 % of the picture's longer side or more.

    Args:
        least_score: of the faces to return. Of 100 pictures, 9 have a false face of .6 or more,
            none has one of .8.
        side: a larger picture is reduced until its longer side has so many pixels. With 320 instead
            of 640 it takes a fourth of the time, and small faces are missed.
    """

    def __init__(self, least_score: float = LEAST_SCORE, side: int = DETECTOR_SIDE):
        self._side = side
        model, none = np.fromfile(FILE, np.uint8), np.zeros(0, np.uint8)
        # OpenCV 5 warns that it does not choose a device.
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._network: Any = cv2.FaceDetectorYN.create(
                "onnx", model, none, (side, side), least_score, MOST_OVERLAP, _MOST
            )
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __call__(self, picture: np.ndarray) -> Detections:
        """Detects faces, see `Detector`.

        Raises:
            TypeError: the picture is neither uint8 nor floating.
            ValueError: it has another shape or range.
        """
        check_picture(picture)
        if picture.dtype != np.uint8:
            picture = np.round(255 * picture).astype(np.uint8)
        rows = self._look(picture, self._side)
        large = _LARGE * max(picture.shape[:2])
        if len(rows) and rows[:, 2:4].max() > large:
            again = self._look(picture, self._side // 2)
            again = again[again[:, 2:4].max(axis=1) > 0.8 * large]
            others = rows[rows[:, 2:4].max(axis=1) <= large]
            if len(again):
                apart = overlaps(_corners(others), _corners(again)).max(axis=1) < MOST_OVERLAP
                rows = np.concatenate([again, others[apart]])
        boxes = _extents(rows)
        found = Detections(boxes, rows[:, -1].astype(np.float64))
        found = found.where(np.array([not box_fault(box, picture.shape) for box in boxes], bool))
        return found.where(np.argsort(-np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)))

    def _look(self, picture, side):
        """(N, 15) x y w h, five points and the score of each face, in picture pixels."""
        zoom = min(1.0, side / max(picture.shape[:2]))
        if zoom < 1:
            size = [max(1, round(zoom * length)) for length in picture.shape[1::-1]]
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._network.setInputSize(picture.shape[1::-1])
        _, rows = self._network.detect(picture[..., ::-1])
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        return rows / np.append(np.full(14, zoom, np.float32), np.float32(1))


def boxes_for(found: Detections, crop: Crop) -> np.ndarray:
    """(N, 4) boxes of detected faces as the crop rule of a model takes them."""
    boxes = [box_of_landmarks(box.reshape(2, 2), crop) for box in found.boxes]
    return np.array(boxes, np.float64).reshape(-1, 4)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The intersection over union of boxes (N, 4) with others (M, 4): (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(part[:, 2:] - part[:, :2], axis=1) for part in (boxes, others)]
    return both / (areas[0][:, None] + areas[1][None] - both)


def _corners(rows):
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)


def _extents(rows):
    """(N, 4) extents of the landmarks, from YuNet's rows."""
    corner, sides = rows[:, :2].astype(np.float64), rows[:, 2:4].astype(np.float64)
    centre = corner + sides / 2
    centre[:, 1] += BOX_DOWN * np.sqrt(np.prod(sides, axis=1))
    half = BOX_SCALE * sides / 2
    return np.concatenate([centre - half, centre + half], axis=1)
