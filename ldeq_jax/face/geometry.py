"""Affine maps between a picture and its crops, and the one statement of the pixel convention.

Points are (x, y) floats. Pixel centres lie at integers: the centre of the top-left pixel of an
image is (0, 0), its outer corner (-0.5, -0.5). A crop is described by a 3x3 float64 matrix named
``crop_from_frame``, which takes homogeneous frame pixels to crop pixels, so neighbours must match:
``crop_from_frame @ frame_from_other``. Normalised crop coordinates are ``u = x_crop / size``: the
last pixel of a crop of ``size`` pixels lies at ``(size - 1) / size``.

NumPy and OpenCV only.
"""

import cv2
import numpy as np


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Take points from one frame to another: ``transform_points(b_from_a, points_a)``.

    Args:
        matrix: (..., 3, 3) affine ``b_from_a``.
        points: (..., K, 2) points of a; the leading axes broadcast against the matrix's.

    Returns:
        (..., K, 2) points of b, float64.
    """
    matrix = np.asarray(matrix, np.float64)
    turned = np.asarray(points, np.float64) @ np.swapaxes(matrix[..., :2, :2], -1, -2)
    return turned + matrix[..., None, :2, 2]


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The way back: ``a_from_b`` of an affine ``b_from_a``.

    Args:
        matrix: (..., 3, 3) affine.

    Returns:
        (..., 3, 3) float64.

    Raises:
        ValueError: the matrix is not finite or cannot be inverted.
    """
    matrix = np.asarray(matrix, np.float64)
    if not np.isfinite(matrix).all() or np.any(np.linalg.det(matrix) == 0):
        raise ValueError(f"not an invertible affine matrix: {matrix.tolist()}")
    return np.linalg.inv(matrix)


def warp(image: np.ndarray, crop_from_frame: np.ndarray, size: int) -> np.ndarray:
    """Cut a crop out of a picture.

    Sampling is bilinear. Where the crop shrinks the frame, the frame is smoothed first, by a tent
    that falls to zero at a distance of one crop pixel, which keeps fine texture from turning into
    moire. The crop is a continuous function of the matrix: no zoom or shift makes it jump. What
    lies beyond the frame is black, and smoothed with it.

    Args:
        image: (H, W, C) or (H, W) uint8 or float frame.
        crop_from_frame: (3, 3) affine.
        size: side of the crop, pixels.

    Returns:
        (size, size, C) or (size, size) crop of the image's type.

    Raises:
        ValueError: the matrix is not finite or cannot be inverted.
    """
    frame_from_crop = inverse(crop_from_frame)
    step = np.sqrt(abs(np.linalg.det(frame_from_crop)))  # frame pixels per crop pixel
    if step <= 1:
        return _sample(image, frame_from_crop, size)
    # A wide tent is slow, so a frame that shrinks by more is halved first, on a grid that is fixed
    # in the frame. That leaves steps of 2 to 4; from 3 to 4 the crop passes over to one halving
    # more, as a switch would make it jump.
    halvings = max(int(np.log2(step)) - 1, 0)
    passing = max(step / 2**halvings - 3, 0)
    part, low = _shown(image, frame_from_crop, size, 2 * step + 2, 2 ** (halvings + 1))
    for _ in range(halvings):
        part = _halved(part)
    crop = _smooth_sample(part, low, halvings, step, frame_from_crop, size)
    if passing:
        coarse = _smooth_sample(_halved(part), low, halvings + 1, step, frame_from_crop, size)
        crop += passing * (coarse - crop)
    return np.rint(crop).astype(np.uint8) if image.dtype == np.uint8 else crop


def _sample(image, image_from_crop, size):
    """Bilinear samples at the places of the crop's pixels."""
    # cv2 reads the matrix as target -> source only with WARP_INVERSE_MAP.
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, image_from_crop[:2], (size, size), flags=flags)


def _shown(image, frame_from_crop, size, margin, multiple):
    """The part of a frame that a crop shows, `margin` pixels more on each side, and its corner.

    The corner's x and y are multiples of `multiple`.
    """
    corners = transform_points(frame_from_crop, [[0, 0], [size, 0], [0, size], [size, size]])
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, limit - 1).astype(int)
    low -= low % multiple
    high = np.clip(np.ceil(corners.max(axis=0) + margin), low + 1, limit).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], low


def _halved(image):
    """Means of 2 x 2 pixels; where a last row or column has no partner, that is black."""
    height, width = image.shape[:2]
    image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
    shape = (image.shape[1] // 2, image.shape[0] // 2)
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA)


def _smooth_sample(part, low, halvings, step, frame_from_crop, size):
    """The crop, as floats, from a part of the frame that begins at `low` and was halved."""
    scale = 2.0**halvings
    width = step / scale
    reach = int(np.ceil(width)) - 1
    taps = np.maximum(1 - np.abs(np.arange(-reach, reach + 1)) / width, 0)
    taps /= taps.sum()
    border = reach + 1  # smoothing spreads an edge beyond itself
    part = cv2.copyMakeBorder(part, border, border, border, border, cv2.BORDER_CONSTANT)
    depth = cv2.CV_32F if part.dtype == np.uint8 else -1
    part = cv2.sepFilter2D(part, depth, taps, taps)
    # Pixel i of a picture halved n times is the mean of 2**n pixels from 2**n i on.
    x, y = low + (scale - 1) / 2 - scale * border
    frame_from_part = np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]])
    return _sample(part, inverse(frame_from_part) @ frame_from_crop, size)
