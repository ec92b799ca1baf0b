"""Landmarks drawn into pictures. Whole videos are drawn in `overlay`."""

import itertools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ldeq_jax.face.schema import LandmarkSchema

PREDICTED_RGB = (64, 180, 255)
TARGET_RGB = (255, 214, 10)
# Colours of ids: those of Okabe and Ito, made lighter, and repeated.
_ID_RGB = (
    (64, 180, 255),
    (255, 170, 60),
    (60, 220, 150),
    (255, 130, 200),
    (250, 240, 90),
    (240, 90, 50),
)
_SHIFT = 4  # binary digits of sub-pixel position in OpenCV's drawing functions


def draw_landmarks(
    image: np.ndarray,
    points: np.ndarray,
    schema: LandmarkSchema,
    target: np.ndarray | None = None,
    scale: int = 1,
    radius: float | None = None,
) -> np.ndarray:
    """Draws landmarks, joined along the contours of their schema, on a copy of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (K, 2) landmarks in pixels of the image, (x, y), or (N, K, 2) of several faces;
            those not finite are left out.
        schema: schema of the landmarks, for the contours.
        target: (K, 2) or (N, K, 2) reference landmarks, drawn first, in another colour.
        scale: enlargement of the image before drawing.
        radius: of the dots, in pixels of the enlarged image; lines are about half as thick. If
            None, it grows with the face.

    Returns:
        (scale * H, scale * W, 3) uint8 RGB.

    Raises:
        ValueError: the points are not those of the schema.
    """
    size = (scale * image.shape[1], scale * image.shape[0])
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    for faces, colour in ((target, TARGET_RGB), (points, PREDICTED_RGB)):
        if faces is not None:
            faces = np.asarray(faces, np.float64)
            for face in faces if faces.ndim == 3 else [faces]:
                _draw_face(canvas, face, schema, colour, scale, radius)
    return canvas


def draw_tracks(
    image: np.ndarray,
    faces: Mapping[int, np.ndarray],
    schema: LandmarkSchema,
    *,
    lines: bool = True,
    ids: bool = True,
) -> np.ndarray:
    """Draws the landmarks of several faces, each in the colour of its id and with its id above.

    Args:
        image: (H, W, 3) uint8 RGB.
        faces: id to landmarks (K, 2) in pixels of the image; those not finite are left out.
        schema: schema of the landmarks, for the contours.
        lines: whether landmarks are joined along the contours.
        ids: whether ids are written.

    Returns:
        (H', W', 3) uint8 RGB with even sides, as codecs need them: a white line is added to odd
        ones.

    Raises:
        ValueError: the points are not those of the schema.
    """
    odd = np.mod(image.shape[:2], 2)
    canvas = np.pad(image, ((0, odd[0]), (0, odd[1]), (0, 0)), constant_values=255)
    for number, points in faces.items():
        colour = _ID_RGB[number % len(_ID_RGB)]
        _draw_face(canvas, points, schema, colour, 1, None, lines)
        if ids and np.isfinite(points).all():
            _write_id(canvas, str(number), points, colour)
    return canvas


def _write_id(canvas: np.ndarray, text: str, points: np.ndarray, colour: tuple) -> None:
    """Writes an id above the landmarks of a face, or in them where there is no room."""
    left, top = points.min(axis=0)
    scale = float(np.clip(np.ptp(points[:, 0]) / 120, 0.4, 2.0))
    thickness = max(1, round(1.5 * scale))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (_, height), _ = cv2.getTextSize(text, font, scale, thickness)
    corner = np.clip([left, top - 0.5 * height], [0, height], np.array(canvas.shape[1::-1]) - 1)
    x, y = np.round(corner).astype(int).tolist()
    write_text(canvas, text, (x, y), scale, colour)


def write_text(
    canvas: np.ndarray,
    text: str,
    place: tuple[int, int],
    scale: float,
    colour: tuple[int, int, int] = (255, 255, 255),
) -> None:
    """Writes a line of text with a black edge into a picture.

    Args:
        canvas: (H, W, 3) uint8 RGB, changed.
        text: ASCII.
        place: x and y of its lower left corner, pixels.
        scale: of OpenCV's letters, which are 22 pixels high at 1.
        colour: RGB.
    """
    thickness = max(1, round(1.5 * scale))
    font = cv2.FONT_HERSHEY_SIMPLEX
    # Thicker letters would be wider too.
    for x, y in itertools.product((-thickness, 0, thickness), repeat=2):
        shifted = place[0] + x, place[1] + y
        cv2.putText(canvas, text, shifted, font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    cv2.putText(canvas, text, place, font, scale, colour, thickness, cv2.LINE_AA)


def _draw_face(
    canvas: np.ndarray,
    points: np.ndarray,
    schema: LandmarkSchema,
    colour: tuple,
    scale: int,
    radius: float | None,
    lines: bool = True,
) -> None:
    if points.shape != (schema.num_landmarks, 2):
        raise ValueError(
            f"{schema.name} has {schema.num_landmarks} landmarks, got points of {points.shape}"
        )
    finite = np.isfinite(points).all(axis=1)
    # Enlarging keeps the edges of the image in place, not the centre of the first pixel.
    enlarged = np.where(finite[:, None], (points + 0.5) * scale - 0.5, 0)
    fixed = np.round(np.clip(enlarged, -1e5, 1e5) * 2**_SHIFT).astype(np.int32)
    shown = np.clip(enlarged[finite], 0, max(canvas.shape))
    extent = float((shown.max(axis=0) - shown.min(axis=0)).max()) if len(shown) else 0
    radius = max(1.0, 0.7 * scale, extent / 150) if radius is None else radius
    thickness = max(1, round(radius / 2))
    for indices, closed in schema.contours if lines else ():
        ends = zip(indices, (*indices[1:], indices[0]) if closed else indices[1:], strict=False)
        for start, end in ends:
            if finite[start] and finite[end]:
                line = (fixed[start].tolist(), fixed[end].tolist(), colour)
                cv2.line(canvas, *line, thickness, cv2.LINE_AA, _SHIFT)
    for point in fixed[finite]:
        cv2.circle(
            canvas, point.tolist(), round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT
        )


def contact_sheet(
    images: Sequence[np.ndarray],
    points: Sequence[np.ndarray],
    schema: LandmarkSchema,
    columns: int = 8,
    scale: int = 2,
) -> np.ndarray:
    """Tiles samples with their landmarks drawn, row by row, with a white border of one pixel.

    Args:
        images: N images (H, W, 3) uint8 RGB of one size.
        points: N sets of landmarks (K, 2) in pixels of their image.
        schema: schema of the landmarks.
        columns: images in a row (fewer when there are fewer images).
        scale: enlargement of each image.

    Returns:
        (rows * (scale * H + 2), columns * (scale * W + 2), 3) uint8 RGB; unused tiles are white.

    Raises:
        ValueError: there is no image, or not one set of points for each.
    """
    if not len(images) or len(images) != len(points):
        raise ValueError(f"cannot tile {len(images)} images with {len(points)} sets of points")
    tiles = [
        np.pad(
            draw_landmarks(image, face, schema, scale=scale),
            ((1, 1), (1, 1), (0, 0)),
            constant_values=255,
        )
        for image, face in zip(images, points, strict=True)
    ]
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
