"""An actor: a still whose head turns and speaks, moved by a face model that was fitted to it."""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from ldeq_jax.head.fit import fit_head
from ldeq_jax.head.paint import inverse_map
from ldeq_jax.head.shape import MOUTH, Head, load_head
from ldeq_jax.head.sheet import Sheet, make_sheet
from moving_faces.acting import Performance
from moving_faces.camera import transform_points
from moving_faces.difficulty import FRAME_SIZE

LARGEST_ERROR = 0.045  # of the fit, parts of the distance of the eyes' outer corners
LARGEST_YAW = 25.0  # of the still, degrees
INNER_LIPS = ((61, 67), (62, 66), (63, 65))
LIPS = (49, 50, 52, 53, 56, 57, 58)
NOSE = (28, 29)
SOFT = 1.5  # canvas pixels over which what the still shows of the mouth's inside ends
TEETH = 0.032  # height of the upper teeth, parts of the face's side
CAVITY = 0.1  # light of the mouth's inside, parts of the lips'


class NoActorError(ValueError):
    """The face model does not fit a face."""


@dataclasses.dataclass(frozen=True)
class Actor:
    """A still that acts.

    Where the mouth opens wider than in the still, the rest of its inside is painted: darkness, and
    teeth above it if the still shows none.

    Attributes:
        canvas: (H, W, 3) float32, linear light.
        sheet: the picture's triangles, on the canvas.
        performance: what the head does.
        head: the face model.
        expression: (E,) its weights in the still.
    """

    canvas: np.ndarray
    sheet: Sheet
    performance: Performance
    head: Head
    expression: np.ndarray

    @classmethod
    def of(cls, canvas: np.ndarray, landmarks: np.ndarray, performance: Performance) -> Actor:
        """Fits the face model to a canvas with (68, 2) landmarks.

        Raises:
            NoActorError: it fits badly, or the head is turned too far already.
        """
        head = load_head()
        fit = fit_head(head, landmarks)
        yaw = Rotation.from_matrix(fit.pose.rotation).as_euler("YXZ", degrees=True)[0]
        if abs(yaw) > LARGEST_YAW:
            raise NoActorError(f"turned by {abs(yaw):.0f} degrees, at most {LARGEST_YAW:.0f}")
        if fit.error > LARGEST_ERROR:
            raise NoActorError(f"error {fit.error:.3f}, at most {LARGEST_ERROR}")
        height, width = canvas.shape[:2]
        sheet = make_sheet(head, fit, landmarks, (width, height))
        return cls(canvas, sheet, performance, head, fit.expression)

    def landmarks(self, times: np.ndarray) -> np.ndarray:
        """(N, 68, 2) canvas pixels at (N,) times."""
        return np.stack([self._points(float(time))[self.sheet.landmarks] for time in times])

    def seen(self, time: float, frame_from_canvas: np.ndarray) -> np.ndarray:
        """(FRAME_SIZE, FRAME_SIZE, 3) float32, what a frame shows at a time."""
        sheet, points = self.sheet, self._points(float(time))
        values, numbers = inverse_map(
            np.concatenate([sheet.points, sheet.rims.T], axis=1),
            transform_points(frame_from_canvas, points),
            sheet.triangles,
            (FRAME_SIZE, FRAME_SIZE),
        )
        places, mouth = values[..., :2].copy(), sheet.kind[numbers] == MOUTH
        across, along = np.clip(values[mouth, 2:4].T, [[0], [-1]], [[1], [1]])
        gap, still = _gap(points[sheet.landmarks]), self._gap_of_still
        # What the still shows inside the mouth hangs from the upper lip and is not stretched.
        deep = across * max(1.0, gap / still)
        places[mouth] += (np.minimum(deep, 1) - across)[:, None] * values[mouth, 4:]
        light = cv2.remap(
            self.canvas, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        below = np.clip(((deep - 1) * still / SOFT)[:, None], 0, 1)
        light[mouth] += below * (self._inside(across, along, gap) - light[mouth])
        return light

    @functools.cached_property
    def _gap_of_still(self) -> float:
        return max(_gap(self.sheet.points[self.sheet.landmarks]), 0.5)

    @functools.cached_property
    def _colours(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Light of the lips (3,) and of the nose (3,); and the face's side, pixels."""
        points = self.sheet.points[self.sheet.landmarks]
        x, y = np.clip(np.round(points), 0, len(self.canvas) - 1).astype(int).T
        lips, nose = (self.canvas[y[list(at)], x[list(at)]].mean(axis=0) for at in (LIPS, NOSE))
        return lips, nose, float(np.ptp(points, axis=0).max())

    def _inside(self, across: np.ndarray, along: np.ndarray, gap: float) -> np.ndarray:
        """(P, 3) light inside the mouth; across and along it, (P,)."""
        lips, nose, side = self._colours
        colour = CAVITY * lips**2 / max(lips.mean(), 1e-3)  # redder than the lips, or as grey
        dark = (1 + 1.5 * np.square(across))[:, None] * colour  # the tongue is lighter
        edge = (TEETH * side * (1 - 0.4 * along**2) - across * gap) / 1.5  # below the upper lip
        teeth = 1 / (1 + np.exp(-np.clip(edge, -20, 20)))
        teeth *= 1 - 0.8 * along**2
        if self._gap_of_still > 0.5 * TEETH * side:
            teeth *= 0  # the still shows its own
        bright = 0.5 * nose.mean() + 0.3 * nose
        return dark + teeth[:, None] * (bright - dark)

    def _points(self, time: float) -> np.ndarray:
        times = np.array([time])
        expression = self.performance.expression(self.head, self.expression, times)[0]
        return self.sheet.moved(self.performance.turn(times)[0], expression)


def _gap(landmarks: np.ndarray) -> float:
    """Mean distance of the inner lips."""
    upper, lower = landmarks[np.array(INNER_LIPS).T]
    return float(np.linalg.norm(lower - upper, axis=-1).mean())
