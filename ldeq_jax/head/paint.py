"""Painting a picture through a mesh of triangles."""

from __future__ import annotations

import cv2
import numpy as np

FINER = 4  # triangles are painted so many times larger, so that few pixels on edges are wrong
PARTS = 2  # bits of the parts of these finer pixels
SMALLEST_AREA = 1e-3  # twice that of a triangle, pixels; smaller ones are not painted
MARGIN = 0.5  # how far values may exceed those of a triangle's corners


def inverse_map(
    source: np.ndarray, target: np.ndarray, triangles: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """What each pixel of the target shows.

    Args:
        source: (P, C) what is known of the points, linear within each triangle; such as their
            places in the source picture.
        target: (P, 2) the points in the target, pixels.
        triangles: (F, 3) numbers of points, from back to front.
        size: width and height of the target.

    Returns:
        (H, W, C) float32 values of the source, and (H, W) int32 numbers of the triangles. Where
        there is no triangle, 0 and -1.
    """
    width, height = size
    origin = target[triangles[:, 0]]
    sides = np.moveaxis(target[triangles[:, 1:]] - origin[:, None], 1, 2)
    values = source[triangles]
    change = np.moveaxis(values[:, 1:] - values[:, :1], 1, 2)
    corners = target[triangles]
    low, high = corners.min(axis=1), corners.max(axis=1)
    seen = ((high > -1) & (low < size)).all(axis=1)
    seen &= np.abs(np.linalg.det(sides)) > SMALLEST_AREA
    corners = np.clip(np.round(corners * (FINER << PARTS)), -(2**28), 2**28).astype(np.int32)
    fine = np.full((height * FINER, width * FINER), -1, np.int32)
    for number in np.flatnonzero(seen).tolist():
        cv2.fillConvexPoly(fine, corners[number], number, cv2.LINE_8, PARTS)
    numbers = fine[::FINER, ::FINER]
    # The values are slopes @ (x, y, 1). Pixels on an edge may lie a little outside, which is far
    # in the source where a triangle has shrunk: hence the limits.
    slopes = np.zeros((len(triangles) + 1, source.shape[1], 3))
    slopes[:-1][seen, :, :2] = change[seen] @ np.linalg.inv(sides[seen])
    slopes[:-1, :, 2] = values[:, 0] - np.einsum("fij,fj->fi", slopes[:-1, :, :2], origin)
    chosen = slopes.astype(np.float32)[numbers]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    found = chosen[..., 0] * x[:, None] + chosen[..., 1] * y[:, None, None] + chosen[..., 2]
    nothing = np.zeros((1, source.shape[1]))
    least = np.append(values.min(axis=1) - MARGIN, nothing, axis=0).astype(np.float32)
    most = np.append(values.max(axis=1) + MARGIN, nothing, axis=0).astype(np.float32)
    return np.clip(found, least[numbers], most[numbers]), numbers
