"""A morphable face: a mesh whose identity and expression are linear, seen by a distant camera.

The mesh is a reduced ICT-FaceKit (see README.md here). Its axes are x to the right of a picture
that shows it from the front, y up, z towards the viewer, in centimetres or so.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("ict_face.npz")
SKIN, MOUTH, EYE = 0, 1, 2  # what a triangle covers; skin lies over the openings


@dataclasses.dataclass(frozen=True)
class Head:
    """The morphable face: vertices = neutral + identity modes + expression modes.

    Attributes:
        neutral: (V, 3) vertices of the mean face at rest.
        identity: (I, V, 3) modes; their coefficients have a standard normal distribution.
        expression: (E, V, 3) modes, each the full expression; their weights lie in [0, 1].
        expression_names: E names, such as "jawOpen" and "eyeBlink_L". L and R are the person's own.
        triangles: (F, 3) vertex numbers, in one plane when the mesh is unrolled; they cover the
            opening of the mouth and of the eyes too.
        kind: (F,) what a triangle covers: SKIN, or the opening of the MOUTH or of an EYE.
        landmarks: (68,) vertex numbers of the iBUG points.
        upper_rim: vertex numbers along the upper lip's inner edge, from the person's right.
        lower_rim: the same for the lower lip; both include the corners of the mouth.
        outline: (17, S) for each point of the jaw, vertices from the cheek out to it: the one that
            is outermost in a picture is the visible outline.
    """

    neutral: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    expression_names: tuple[str, ...]
    triangles: np.ndarray
    kind: np.ndarray
    landmarks: np.ndarray
    upper_rim: np.ndarray
    lower_rim: np.ndarray
    outline: np.ndarray

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(V, 3) from (I,) coefficients and (E,) weights."""
        shape = np.tensordot(identity, self.identity, 1)
        return self.neutral + shape + np.tensordot(expression, self.expression, 1)

    def weights(self, **named: float) -> np.ndarray:
        """(E,) expression weights, 0 but for those named.

        A name without its side, such as `eyeBlink`, stands for both.

        Raises:
            KeyError: no expression has this name.
        """
        weights = np.zeros(len(self.expression_names))
        for name, value in named.items():
            found = [
                number
                for number, known in enumerate(self.expression_names)
                if known in (name, f"{name}_L", f"{name}_R")
            ]
            if not found:
                raise KeyError(name)
            weights[found] = value
        return weights


@functools.cache
def load_head() -> Head:
    """The face that is shipped with the package."""
    with np.load(FILE) as arrays:
        return Head(
            neutral=arrays["neutral"].astype(np.float64),
            identity=arrays["identity"].astype(np.float64),
            expression=arrays["expression"].astype(np.float64),
            expression_names=tuple(arrays["expression_names"].tolist()),
            triangles=arrays["triangles"].astype(np.int32),
            kind=arrays["kind"],
            landmarks=arrays["landmarks"].astype(np.int32),
            upper_rim=arrays["upper_rim"].astype(np.int32),
            lower_rim=arrays["lower_rim"].astype(np.int32),
            outline=arrays["outline"].astype(np.int32),
        )


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where a head is in a picture, by a camera so distant that depth does not change its size.

    Attributes:
        rotation: (3, 3) of the mesh.
        scale: pixels per unit of the mesh.
        shift: (2,) pixels, where the mesh's origin is.
    """

    rotation: np.ndarray
    scale: float
    shift: np.ndarray

    def project(self, vertices: np.ndarray) -> np.ndarray:
        """(..., 3) pixels x, y (down) and depth towards the viewer, in pixels, of (..., 3)."""
        seen = self.scale * vertices @ self.rotation.T
        seen[..., 1] *= -1
        seen[..., :2] += self.shift
        return seen

    def vector(self, seen: np.ndarray) -> np.ndarray:
        """(..., 3) displacements of the mesh, from displacements of `project`'s result."""
        return (seen * [1, -1, 1]) @ self.rotation / self.scale
