"""A picture that a head moves: triangles that cover the picture and follow a fitted face.

The face is a relief over the picture: each visible vertex keeps its place, and the slope of its
depth is limited, so that no part becomes hidden by a rotation up to `LARGEST_TURN`. The relief
ends where the face does; the surroundings follow its border less and less with the distance. So one
map moves pixels and landmarks alike, and nothing tears but the lips.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation

from ldeq_jax.head.fit import Fit
from ldeq_jax.head.paint import inverse_map
from ldeq_jax.head.shape import SKIN, Head

LARGEST_TURN = np.radians(30)
SLOPE = 0.7 / np.tan(LARGEST_TURN)  # largest slope of the relief; it folds at 1 / tan(turn)
REACH = 1.5  # how far from the face's middle the surroundings move, in sides of its landmark extent
CLOSEST = 60  # parts of that side, least distance of points of the skin
GRID = 6  # points of the surroundings per side of the landmark extent
EYES = {  # upper and lower landmarks of the eye that a blink closes
    "eyeBlink_R": ((37, 41), (38, 40)),
    "eyeBlink_L": ((43, 47), (44, 46)),
}


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Points on a picture, N of the face and M of its surroundings, and triangles between them.

    Attributes:
        points: (N + M, 2) pixels of the picture.
        depth: (N,) towards the viewer, pixels.
        modes: (E, N, 3) displacements by the full expressions: pixels x, y and depth.
        spread: (M, N) weights of the displacements of the face in those of the surroundings.
        pivot: (3,) the middle of the head, about which it turns: pixels x, y and depth.
        landmarks: (68,) which points are the landmarks.
        triangles: (F, 3) numbers of points; those painted later are in front.
        kind: (F,) what the triangles cover: SKIN (or surroundings), MOUTH or EYE.
        rims: (2, N + M) across the mouth, 0 at the upper rim and 1 at the lower one; and along it,
            from -1 to 1. 0 elsewhere.
    """

    points: np.ndarray
    depth: np.ndarray
    modes: np.ndarray
    spread: np.ndarray
    pivot: np.ndarray
    landmarks: np.ndarray
    triangles: np.ndarray
    kind: np.ndarray
    rims: np.ndarray

    def moved(self, turn: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(N + M, 2) pixels where the points go.

        Args:
            turn: (3,) rotation vector, radians, about the picture's axes x (to the right), y (down)
                and z (away from the viewer); the face looks down, to the left of the picture, and
                turns clockwise.
            expression: (E,) changes of the expression weights; a blink by 1 closes the eye.
        """
        face = len(self.depth)
        at = np.concatenate([self.points[:face], self.depth[:, None]], axis=1)
        seen = at + np.tensordot(expression, self.modes, 1) - self.pivot
        # Depth points towards the viewer, z away from him.
        matrix = Rotation.from_rotvec(turn).as_matrix() * np.outer([1, 1, -1], [1, 1, -1])
        seen = (seen @ matrix.T)[:, :2] + self.pivot[:2]
        around = self.points[face:] + self.spread @ (seen - self.points[:face])
        return np.concatenate([seen, around])


def make_sheet(head: Head, fit: Fit, points: np.ndarray, size: tuple[int, int]) -> Sheet:
    """The sheet of a picture whose face was fitted.

    Args:
        head: the morphable face.
        fit: its fit to the landmarks.
        points: (68, 2) the landmarks, pixels of the picture; the sheet goes through them exactly.
        size: width and height of the picture.
    """
    pose = fit.pose
    seen = pose.project(head.vertices(fit.identity, fit.expression))
    # What the fit has left is spread over the mesh; by places at rest, where the lips are apart.
    known, first = np.unique(fit.landmarks, return_index=True)
    left = points[first] - seen[known, :2]
    seen[:, :2] += RBFInterpolator(head.neutral[known], left, kernel="linear")(head.neutral)

    chosen = _visible(head, seen, size)
    rims = np.unique(head.triangles[head.kind != SKIN])
    needed = np.concatenate([known, np.setdiff1d(rims, known)])
    others = np.setdiff1d(head.triangles[chosen], needed)
    kept = _apart(seen[:, :2], needed, others, np.ptp(points, axis=0).max() / CLOSEST)
    chosen &= np.isin(head.triangles, kept).all(axis=1)
    number = np.full(len(seen), -1)
    number[kept] = np.arange(len(kept))
    face = seen[kept, :2]
    distance = np.linalg.norm(face[:, None] - face, axis=-1)
    depth = (seen[kept, 2] - SLOPE * distance).max(axis=1)  # the lowest relief above all points
    modes = pose.project(head.expression[:, kept]) - [*pose.shift, 0]
    for name, pairs in EYES.items():
        mode = modes[head.expression_names.index(name)]
        mode *= _closing(points, mode, number[fit.landmarks], pairs)

    around, spread = _surroundings(face, points, size)
    everything = np.concatenate([face, around])
    triangles, kind = number[head.triangles[chosen]], head.kind[chosen]
    under = Delaunay(everything).simplices
    # From back to front: what fills gaps, the openings, then the skin, so that lids and lips close.
    order = np.argsort(-kind, kind="stable")
    triangles, kind = triangles[order], kind[order]
    places = np.zeros((2, len(everything)))
    for across, rim in enumerate((head.upper_rim, head.lower_rim)):
        places[:, number[rim]] = np.full(len(rim), float(across)), np.linspace(-1, 1, len(rim))
    return Sheet(
        points=everything,
        depth=depth,
        modes=modes,
        spread=spread,
        pivot=pose.project(np.zeros((1, 3)))[0],
        landmarks=number[fit.landmarks],
        triangles=np.concatenate([under, triangles]),
        kind=np.concatenate([np.zeros(len(under), kind.dtype), kind]),
        rims=places,
    )


def _visible(head: Head, seen: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(F,) bool, triangles that the picture shows; the openings of mouth and eyes always count."""
    corners = seen[head.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # y points down, so that the cross product of a triangle that faces the viewer is negative.
    facing = -normal[:, 2] > 0.15 * np.linalg.norm(normal, axis=1)
    middle = corners.mean(axis=1)
    order = np.argsort(middle[:, 2])
    _, painted = inverse_map(seen[:, :2], seen[:, :2], head.triangles[order], size)
    front = np.append(middle[order, 2], -np.inf)[painted]  # depth of what is in front
    hidden = front[_pixels(middle, size)] > middle[:, 2] + 0.05 * np.ptp(seen[:, 0])
    return (facing & ~hidden) | (head.kind != SKIN)


def _pixels(points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixels nearest to points."""
    x, y = np.clip(np.round(points[:, :2]), 0, np.array(size) - 1).astype(int).T
    return y, x


def _apart(points: np.ndarray, needed: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """Numbers of the points to keep: those needed, and others that are not too close to these.

    Close points make triangles so thin that they would be steeper than the relief.
    """
    kept = list(needed)
    for number in others:
        if np.linalg.norm(points[kept] - points[number], axis=1).min() > least:
            kept.append(number)
    return np.array(kept)


def _closing(points: np.ndarray, mode: np.ndarray, landmarks: np.ndarray, pairs: tuple) -> float:
    """How many full blinks of the mesh close the eye as far as it is open in the picture."""
    upper, lower = np.array(pairs).T
    gap = points[lower] - points[upper]
    closed = mode[landmarks[upper], :2] - mode[landmarks[lower], :2]
    return float(np.clip((gap * gap).sum() / max((gap * closed).sum(), 1e-6), 0, 2))


def _surroundings(
    face: np.ndarray, landmarks: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) points around the face, and (M, N) how they follow it."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side, middle = (high - low).max(), (low + high) / 2
    reach = REACH * side
    steps = np.arange(-reach, reach + 1, side / GRID)
    grid = middle + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    hull = Delaunay(face)
    near = np.linalg.norm(grid[:, None] - face, axis=-1).min(axis=1) < side / GRID / 2
    within = np.linalg.norm(grid - middle, axis=1) < reach
    grid = grid[within & (hull.find_simplex(grid) < 0) & ~near]
    border = np.unique(hull.convex_hull)
    angles = np.arange(24) * np.pi / 12
    circle = middle + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # A thin plate that follows the face's border and is fixed along the circle.
    moves = np.pad(np.eye(len(border)), [(0, len(circle)), (0, 0)])
    follow = RBFInterpolator(np.concatenate([face[border], circle]), moves)(grid)
    far = 4 * max(size)
    corners = np.array([[-far, -far], [far, -far], [-far, far], [far, far]])
    around = np.concatenate([grid, circle, corners])
    spread = np.zeros((len(around), len(face)))
    spread[: len(grid), border] = follow
    return around, spread
