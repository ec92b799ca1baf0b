"""The fit of the morphable face to 68 landmarks of a picture."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from ldeq_jax.head.shape import Head, Pose

JAW = slice(0, 17)
EYE_CORNERS = (36, 45)
LABEL_ERROR = 0.01  # standard deviations of the labels, parts of the distance of the eyes' corners
JAW_ERROR = 0.03
EXPRESSION_SPREAD = 0.3  # standard deviation of the expression weights before the fit
STEPS = 15


@dataclasses.dataclass(frozen=True)
class Fit:
    """A face that was fitted to landmarks.

    Attributes:
        identity: (I,) coefficients.
        expression: (E,) weights in [0, 1].
        pose: where the head is in the picture.
        landmarks: (68,) vertex numbers; on the jaw those of the visible outline.
        error: root mean square distance to the landmarks, parts of the distance of the outer
            corners of the eyes.
    """

    identity: np.ndarray
    expression: np.ndarray
    pose: Pose
    landmarks: np.ndarray
    error: float


def fit_head(head: Head, points: np.ndarray) -> Fit:
    """Identity, expression and pose with the least squared distances and coefficients.

    Gauss-Newton steps; in each, the jaw's points are matched to the visible outline.

    Args:
        head: the morphable face.
        points: (68, 2) pixels, iBUG order.

    Raises:
        ValueError: there are not 68 finite points, or the eyes' corners coincide.
    """
    points = np.asarray(points, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise ValueError(f"expected 68 finite points (68, 2), got shape {points.shape}")
    unit = np.linalg.norm(np.subtract(*points[list(EYE_CORNERS)]))
    if not unit:
        raise ValueError("the outer corners of the eyes coincide")
    modes = np.concatenate([head.identity, head.expression])
    num_identity, num = len(head.identity), len(modes)
    spread = np.concatenate([np.ones(num_identity), np.full(num - num_identity, EXPRESSION_SPREAD)])
    trust = np.full((68, 1), 1 / (LABEL_ERROR * unit))
    trust[JAW] = 1 / (JAW_ERROR * unit)
    low = np.concatenate([np.full(6 + num_identity, -np.inf), np.zeros(num - num_identity)])
    high = np.concatenate([np.full(6 + num_identity, np.inf), np.ones(num - num_identity)])

    coefficients, landmarks = np.zeros(num), head.landmarks.copy()
    pose = _first_pose(head.neutral[landmarks], points)
    for _ in range(STEPS):
        vertices = head.neutral + np.tensordot(coefficients, modes, 1)
        landmarks[JAW] = _visible_outline(head, pose.project(vertices)[:, :2], points[JAW])
        # The projection is linear in the coefficients; in the pose, its derivative is taken.
        at = vertices[landmarks]
        seen = pose.project(at)[:, :2]
        x, y, z = (pose.scale * at @ pose.rotation.T).T
        zero, one = np.zeros(68), np.ones(68)
        by_pose = np.stack(
            [
                [zero, z],  # rotations about the picture's x, y and z
                [z, zero],
                [-y, -x],
                [x, -y],  # logarithm of the scale
                [one, zero],
                [zero, one],
            ]
        )
        by_shape = pose.project(modes[:, landmarks])[..., :2] - pose.shift
        jacobian = np.concatenate([by_pose.transpose(2, 1, 0), by_shape.transpose(1, 2, 0)], axis=2)
        wanted = points - seen + np.tensordot(coefficients, by_shape, 1)
        prior = np.concatenate([np.zeros((num, 6)), np.diag(1 / spread)], axis=1)
        matrix = np.concatenate([(jacobian * trust[..., None]).reshape(136, -1), prior])
        target = np.concatenate([(wanted * trust).ravel(), np.zeros(num)])
        step = _bounded_least_squares(matrix, target, low, high)
        coefficients = step[6:]
        pose = Pose(
            Rotation.from_rotvec(step[:3]).as_matrix() @ pose.rotation,
            pose.scale * np.exp(step[3]),
            pose.shift + step[4:6],
        )
    seen = pose.project(head.neutral + np.tensordot(coefficients, modes, 1))[landmarks, :2]
    return Fit(
        identity=coefficients[:num_identity],
        expression=coefficients[num_identity:],
        pose=pose,
        landmarks=landmarks,
        error=float(np.sqrt(((seen - points) ** 2).sum(axis=1).mean()) / unit),
    )


def _bounded_least_squares(
    matrix: np.ndarray, target: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Least squares where unknowns that leave their bounds are fixed there, round after round.

    Not always the exact minimum, but near it, and fifty times faster than one.
    """
    gram, pull = matrix.T @ matrix, matrix.T @ target
    found, free = np.zeros(len(pull)), np.ones(len(pull), bool)
    while True:
        held = gram[np.ix_(free, ~free)] @ found[~free]
        found[free] = np.linalg.solve(gram[np.ix_(free, free)], pull[free] - held)
        outside = free & ((found < low) | (found > high))
        if not outside.any():
            return found
        found = np.clip(found, low, high)
        free &= ~outside


def _first_pose(vertices: np.ndarray, points: np.ndarray) -> Pose:
    """The rotation and scale nearest to the affine map from (K, 3) vertices to (K, 2) points."""
    columns = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1)
    affine = np.linalg.lstsq(columns, points * [1, -1], rcond=None)[0]
    u, sizes, v = np.linalg.svd(affine[:3].T, full_matrices=False)
    rows = u @ v
    rotation = np.stack([*rows, np.cross(*rows)])
    return Pose(rotation, float(sizes.mean()), affine[3] * [1, -1])


def _visible_outline(head: Head, seen: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """(17,) the vertex of each strip that lies farthest out, across the jaw's own direction."""
    along = np.gradient(jaw, axis=0)
    outward = np.stack([-along[:, 1], along[:, 0]], axis=1)
    outward *= np.sign(((jaw - jaw.mean(axis=0)) * outward).sum(axis=1, keepdims=True))
    far = np.einsum("ksc,kc->ks", seen[head.outline], outward)
    return head.outline[np.arange(len(jaw)), far.argmax(axis=1)]
