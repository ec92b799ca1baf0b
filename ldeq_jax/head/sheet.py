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
from ldeq_jax.head.shape import EYE, SKIN, Head

LARGEST_TURN = np.radians(30)
SLOPE = 0.7 / np.tan(LARGEST_TURN)  # largest slope of the relief; it folds at 1 / tan(turn)
REACH = 1.5  # how far from the face's middle the surroundings move, in sides of its landmark extent
CLOSEST = 0.03  # least distance of points from the outline, parts of that side
LID = 0.5  # how far the skin above an eye follows a blink, parts of the way to the brow
GRID = 6  # points of the surroundings per side of the landmark extent
EYES = {  # landmarks of the eye that a blink closes: upper lid, lower lid, corners, brow
    "eyeBlink_R": ([37, 38], [41, 40], [36, 39], [18, 19, 20]),
    "eyeBlink_L": ([43, 44], [47, 46], [42, 45], [23, 24, 25]),
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
        rims: (4, N + M) on the rims of the mouth: 0 at the upper one and 1 at the lower one; place
            along it, from -1 to 1; and the way to the lower rim from the upper one, pixels x, y. 0
            elsewhere.
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
    # What the fit has left is spread over the mesh; by the places in a face whose lips are apart.
    known, first = np.unique(fit.landmarks, return_index=True)
    left = points[first] - seen[known, :2]
    apart = head.vertices(np.zeros(len(head.identity)), head.weights(jawOpen=0.5))
    seen[:, :2] += RBFInterpolator(apart[known], left, kernel="linear")(apart)

    chosen = _visible(head, seen, size)
    # At the outline, which the relief nears steeply, only the landmarks: thin triangles would fold.
    steps = np.linspace(0, 16, 16 * 8 + 1)
    outline = np.stack([np.interp(steps, np.arange(17), line) for line in points[:17].T], axis=1)
    near = np.linalg.norm(seen[:, None, :2] - outline, axis=-1).min(axis=1)
    inside = np.flatnonzero(near > CLOSEST * np.ptp(points, axis=0).max())
    openings = head.triangles[head.kind != SKIN]
    kept = np.union1d(np.intersect1d(head.triangles[chosen], inside), openings)
    kept = np.union1d(kept, known)
    chosen &= np.isin(head.triangles, kept).all(axis=1)
    number = np.full(len(seen), -1)
    number[kept] = np.arange(len(kept))
    face = seen[kept, :2]
    distance = np.linalg.norm(face[:, None] - face, axis=-1)
    depth = (seen[kept, 2] - SLOPE * distance).max(axis=1)  # the lowest relief above all points
    modes = pose.project(head.expression[:, kept]) - [*pose.shift, 0]
    rims = number[np.unique(head.triangles[head.kind == EYE])]
    for name, eye in EYES.items():
        blink = head.expression_names.index(name)
        modes[blink] = _blink(face, modes[blink], number[fit.landmarks], rims, eye)

    around, spread = _surroundings(face, points, size)
    everything = np.concatenate([face, around])
    triangles, kind = number[head.triangles[chosen]], head.kind[chosen]
    under = Delaunay(everything).simplices
    # From back to front: what fills gaps, the openings, then the skin, so that lids and lips close.
    order = np.argsort(-kind, kind="stable")
    triangles, kind = triangles[order], kind[order]
    return Sheet(
        points=everything,
        depth=depth,
        modes=modes,
        spread=spread,
        pivot=pose.project(np.zeros((1, 3)))[0],
        landmarks=number[fit.landmarks],
        triangles=np.concatenate([under, triangles]),
        kind=np.concatenate([np.zeros(len(under), kind.dtype), kind]),
        rims=_rims(everything, number[head.upper_rim], number[head.lower_rim]),
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


def _rims(points: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """`Sheet.rims`, from the numbers of the points along both rims."""
    rims = np.zeros((4, len(points)))
    along = [np.linspace(-1, 1, len(rim)) for rim in (upper, lower)]
    for across, rim in enumerate((upper, lower)):
        at = [
            [np.interp(along[across], steps, coordinate) for coordinate in points[other].T]
            for steps, other in zip(along, (upper, lower), strict=True)
        ]
        rims[:2, rim] = np.full(len(rim), across), along[across]
        rims[2:, rim] = np.subtract(at[1], at[0])
    return rims


def _blink(
    face: np.ndarray, mode: np.ndarray, landmarks: np.ndarray, rims: np.ndarray, eye: tuple
) -> np.ndarray:
    """(N, 3) the displacements of a blink, so that it closes an eye as far as it is open here.

    The skin above the eye follows its upper rim, less and less towards the brow. (The mesh has a
    fold there, which a picture of an open eye does not show: its edge would be stretched.)
    """
    upper, lower, corners, brow = (landmarks[which] for which in eye)
    middle, along = face[corners].mean(axis=0), np.subtract(*face[corners])
    along /= np.linalg.norm(along)
    up = np.array([-along[1], along[0]])
    up *= np.sign((face[brow].mean(axis=0) - middle) @ up)
    gap = np.maximum((face[upper] - face[lower]) @ up, 0).sum()
    closed = ((mode[lower] - mode[upper])[:, :2] @ up).sum()
    mode = mode * np.clip(gap / max(closed, 1e-6), 0, 2)

    width = np.abs((face[corners] - middle) @ along).max()
    above = ((face - middle) @ up > 0) & (np.abs((face - middle) @ along) < width)
    lid = np.union1d(rims[above[rims]], upper)
    reach = LID * np.linalg.norm(face[brow].mean(axis=0) - face[upper].mean(axis=0))
    distance = np.linalg.norm(face[:, None] - face[lid], axis=-1)
    share = np.where(above, np.clip(1.3 - distance.min(axis=1) / reach, 0, 1), 0)[:, None]
    return (1 - share) * mode + share * mode[lid[distance.argmin(axis=1)]]


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
