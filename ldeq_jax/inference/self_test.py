"""Whether this installation computes what it should: a drawn face, and the numbers of it."""

import time
from typing import NamedTuple

import numpy as np

from ldeq_jax.inference.pictures import Predictor

MODEL = "faces-68"

_SIDE = 240
# Of the drawn face, by YuNet and `MODEL` on a CPU; they change with the weights.
_SCORE = 0.914
_POINTS = {  # iBUG's numbers from 0: chin, nose, corners of eyes and mouth
    8: (118.71, 199.67),
    30: (120.21, 136.75),
    36: (86.14, 106.93),
    45: (153.48, 105.84),
    48: (103.21, 165.18),
    54: (137.03, 165.65),
}
_SCORE_OFF, _PIXELS_OFF = 0.02, 0.5  # GPUs round more coarsely


class Check(NamedTuple):
    """A part of the self-test.

    Attributes:
        name: what was tried.
        ok: whether it gave what it should.
        told: the numbers.
    """

    name: str
    ok: bool
    told: str


def run() -> list[Check]:
    """Detects a drawn face, finds its landmarks, and compares both with what they should be."""
    picture, predictor = drawn_face(), Predictor.load(MODEL)
    faces, scores = predictor.detect(picture)
    if len(faces) != 1:
        return [Check("detector", False, f"finds {len(faces)} faces, expected 1")]
    off = abs(float(scores[0]) - _SCORE)
    checks = [Check("detector", off <= _SCORE_OFF, f"score {scores[0]:.3f}, expected {_SCORE:.3f}")]
    found = faces.points[0][list(_POINTS)]
    away = float(np.linalg.norm(found - list(_POINTS.values()), axis=1).max())
    begin = time.perf_counter()
    predictor.detect(picture)
    milliseconds = 1000 * (time.perf_counter() - begin)
    told = f"{away:.2f} pixels from where they are expected, at most {_PIXELS_OFF:g}"
    told += f"; {milliseconds:.0f} ms for a picture"
    return [*checks, Check("landmarks", away <= _PIXELS_OFF, told)]


def drawn_face() -> np.ndarray:
    """(240, 240, 3) uint8 RGB: a face of ellipses, by NumPy alone, so the same everywhere."""
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    picture = np.full((_SIDE, _SIDE, 3), [150.0, 165.0, 180.0])

    def ellipse(cx, cy, rx, ry, colour, edge=0.03):
        inside = 1 - np.hypot((x - cx) / rx, (y - cy) / ry)
        cover = np.clip(inside / edge * min(rx, ry) * 2, 0, 1)[..., None]
        picture[:] = picture * (1 - cover) + np.array(colour, float) * cover

    ellipse(0.5, 0.40, 0.30, 0.34, [60, 45, 35])  # hair
    ellipse(0.5, 0.52, 0.24, 0.32, [222, 178, 150])
    for side in (-1, 1):
        eye = 0.5 + 0.1 * side
        ellipse(eye, 0.385, 0.062, 0.014, [70, 50, 40])
        ellipse(eye, 0.44, 0.048, 0.022, [245, 240, 235])
        ellipse(eye, 0.44, 0.021, 0.021, [60, 40, 30])
        ellipse(0.5 + 0.028 * side, 0.595, 0.014, 0.009, [120, 80, 65])  # nostrils
    ellipse(0.5, 0.52, 0.018, 0.075, [235, 195, 170], edge=0.3)
    ellipse(0.5, 0.685, 0.085, 0.026, [165, 70, 70])
    ellipse(0.5, 0.685, 0.066, 0.006, [90, 30, 35])
    return np.round(picture).astype(np.uint8)
