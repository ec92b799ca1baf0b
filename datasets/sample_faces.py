"""Draw cartoon faces with exact landmarks, in the 300-W folder layout.

With them everything can be run without a download. A small network learns them in a minute.
Figures measured on them say nothing about real faces. The same arguments give the same files.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import numpy as np
from tqdm import tqdm

OVERSAMPLING = 2  # shapes are drawn this much larger, then averaged down
FOLDERS = {"train": "lfpw/trainset", "test": "lfpw/testset"}
SKIN = np.array([[255, 224, 196], [241, 194, 160], [224, 172, 125], [178, 118, 78], [110, 70, 48]])
HAIR = np.array([[30, 24, 22], [74, 46, 28], [134, 88, 48], [206, 168, 104], [120, 118, 122]])
IRIS = np.array([[70, 44, 26], [62, 96, 132], [74, 104, 62], [96, 92, 88]])


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the pictures and their .pts files; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="ldeq build sample_faces",
        description=__doc__,
        epilog="then: ldeq build ibug_300w --manual_dir=OUTPUT --data_dir=DATA_DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=_path, required=True, help="folder to write into")
    parser.add_argument("--train", type=int, default=300, help="training faces (default: 300)")
    parser.add_argument("--test", type=int, default=40, help="test faces (default: 40)")
    parser.add_argument("--size", type=int, default=200, help="picture side, pixels (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn faces (default: 0)")
    args = parser.parse_args(argv)
    folders = {split: args.output / folder for split, folder in FOLDERS.items()}
    earlier = [old for folder in folders.values() for old in sorted(folder.glob("*"))]
    for old in earlier:
        if not re.fullmatch(r"sample_\d{4,}\.(jpg|pts)", old.name):
            parser.error(f"{old} was not drawn by this script: choose another --output")
    try:
        for old in earlier:
            old.unlink()
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot write to --output={args.output} ({error.strerror})")
    for number, (split, folder) in enumerate(folders.items()):
        for index in tqdm(range(getattr(args, split)), desc=split, unit="face", disable=None):
            image, landmarks = draw_face(
                np.random.default_rng([args.seed, number, index]), args.size
            )
            write_face(folder / f"sample_{index:04d}", image, landmarks)
    print(f"drawn: {args.train} training and {args.test} test faces in {args.output}")
    return 0


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: this user has no home directory") from error


def write_face(stem: Path, image: np.ndarray, landmarks: np.ndarray) -> None:
    """Writes stem.jpg and stem.pts.

    Args:
        stem: path without suffix.
        image: (H, W, 3) uint8 RGB.
        landmarks: (68, 2) pixels, (x, y), 0-based; the file has them 1-based.
    """
    cv2.imwrite(f"{stem}.jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in landmarks + 1)
    stem.with_name(stem.name + ".pts").write_text(
        f"version: 1\nn_points: {len(landmarks)}\n{{\n{rows}\n}}\n", encoding="ascii"
    )


def draw_face(rng: np.random.Generator, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """One face near the middle, of random appearance, pose, expression and light.

    Args:
        rng: the only source of randomness.
        size: side of the picture in pixels.

    Returns:
        The picture (size, size, 3) uint8 RGB, and its iBUG-68 landmarks (68, 2) float64 pixels,
        (x, y), the centre of the top-left pixel at (0, 0).
    """
    shape, extras = face_shape(rng)
    yaw, pitch, roll = rng.normal(0, (0.22, 0.14, 0.2)).clip(-0.4, 0.4)
    rotation = rotation_matrix(yaw, pitch, roll)
    scale = size * rng.uniform(0.2, 0.29)
    centre = size * (0.5 + rng.uniform(-0.07, 0.07, 2)) - (0, 0.05 * size)

    def project(points: np.ndarray) -> np.ndarray:
        turned = points @ rotation.T
        perspective = 1 / (1 - 0.08 * turned[:, 2:])  # nearer is larger
        return turned[:, :2] * perspective * scale + centre

    landmarks = project(shape)
    canvas = _Canvas(background(rng, size * OVERSAMPLING))
    paint(canvas, rng, landmarks, {name: project(p) for name, p in extras.items()}, scale)
    image = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    contrast, brightness = rng.uniform(0.8, 1.15), rng.uniform(-18, 18)
    noise = rng.normal(0, rng.uniform(1, 5), image.shape)
    image = (image - 128) * contrast + 128 + brightness + noise
    return image.round().clip(0, 255).astype(np.uint8), landmarks


def face_shape(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A face in its own frame: x to the right of the picture, y down, z to the viewer, jaw width 2.

    Returns:
        The 68 landmarks (68, 3), and further points (N, 3) by name, which only the drawing needs.
    """
    smile, gape = rng.uniform(-0.3, 1), max(0.0, rng.normal(0.1, 0.25))
    brow_raise, lid = rng.normal(0, 0.05), rng.uniform(0.55, 1.2)
    height, squareness = rng.uniform(1.1, 1.35), rng.uniform(0.75, 1.0)

    angle = np.linspace(0, np.pi, 17)
    side, down = -np.cos(angle), np.sin(angle) ** squareness
    jaw = np.stack([side, height * down + 0.5 * gape * down**4, 0.15 - 0.75 * side**2], axis=1)
    crown = np.stack([0.98 * side, -1.05 * np.sin(angle), -0.1 - 0.5 * side**2], axis=1)[::-1]

    t = np.linspace(-1, 1, 5)
    brow = np.stack([0.28 * t, 0.08 * t**2 - 0.06, 0.08 - 0.1 * (t - 1) ** 2 * 0.25], axis=1)
    brow_tilt = rng.uniform(-0.05, 0.07)
    brow += (-0.45, -0.36 - brow_raise, 0.22)
    brow[:, 1] += brow_tilt * t

    eye_x, eye_width, eye_height = rng.uniform(0.4, 0.46), rng.uniform(0.18, 0.22), 0.085 * lid
    corners = np.array([-1, -0.4, 0.4, 1, 0.4, -0.4])
    lids = np.array([0, -1, -1, 0, 0.75, 0.75])
    eye = np.stack(
        [eye_width * corners - eye_x, eye_height * lids - 0.12, 0.2 - 0.06 * np.abs(corners)],
        axis=1,
    )

    nose_length, nose_width = rng.uniform(0.32, 0.42), rng.uniform(0.15, 0.21)
    u = np.linspace(0, 1, 4)
    bridge = np.stack([0 * u, -0.12 + nose_length * u, 0.28 + 0.3 * u], axis=1)
    nostrils = np.stack(
        [nose_width * t, nose_length + 0.03 - 0.035 * np.abs(t), 0.36 - 0.1 * t**2], axis=1
    )

    mouth_y, mouth_width = 0.68, rng.uniform(0.28, 0.36) + 0.05 * smile
    lip = rng.uniform(0.07, 0.11)
    a = np.linspace(-np.pi, 0, 7)
    upper_x, upper_y = np.cos(a), np.sin(a) * lip * (1 - 0.25 * (np.abs(np.cos(a)) < 0.1))
    lower_x, lower_y = np.cos(-a)[1:-1][::-1], np.sin(-a)[1:-1] * 1.2 * lip + 0.4 * gape
    outer = np.stack([np.r_[upper_x, lower_x], np.r_[upper_y, lower_y]], axis=1)
    inner_x = np.array([-0.82, -0.4, 0, 0.4, 0.82, 0.4, 0, -0.4])
    inner_y = np.array([0, -0.2, -0.2, -0.2, 0, 0.2, 0.2, 0.2]) * lip
    inner_y[5:] += 0.4 * gape
    outline = np.concatenate([outer, np.stack([inner_x, inner_y], axis=1)])
    mouth = np.stack(
        [
            mouth_width * outline[:, 0],
            mouth_y + outline[:, 1] - 0.09 * smile * outline[:, 0] ** 2,
            0.32 - 0.14 * outline[:, 0] ** 2,
        ],
        axis=1,
    )

    def mirrored(points: np.ndarray, order: Sequence[int]) -> np.ndarray:
        return points[list(order)] * (-1, 1, 1)

    landmarks = np.concatenate(
        [
            jaw,
            brow,
            mirrored(brow, (4, 3, 2, 1, 0)),
            bridge,
            nostrils,
            eye,
            mirrored(eye, (3, 2, 1, 0, 5, 4)),
            mouth,
        ]
    )
    ears = np.array([[-1.04, 0.05, -0.6], [1.04, 0.05, -0.6]])
    gaze = np.array([*rng.uniform((-0.06, -0.02), (0.06, 0.02)), 0])
    irises = np.array([[-eye_x, -0.125, 0.2], [eye_x, -0.125, 0.2]]) + gaze
    hairline = crown * (1, rng.uniform(0.6, 0.85), 1)
    hair = np.concatenate([crown * (1.12, 1.2, 1), jaw[[0, 16]] * (1.1, 1, 1)])
    neck = np.array([[-0.5, 0.8, -0.7], [0.5, 0.8, -0.7], [0.55, 2.0, -0.8], [-0.55, 2.0, -0.8]])
    shoulders = np.array([[-0.6, 1.75, -0.8], [0.6, 1.75, -0.8], [2.4, 2.4, -1], [2.4, 6, -1]])
    shoulders = np.concatenate([shoulders, shoulders[:1:-1] * (-1, 1, 1)])
    return landmarks, {
        "crown": crown,
        "ears": ears,
        "irises": irises,
        "hairline": hairline,
        "hair": hair,
        "neck": neck,
        "shoulders": shoulders,
    }


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) rotation about y, then x, then z; radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32: a colour gradient with clouds and a few blurred blocks."""
    corners = (rng.uniform(50, 200, (2, 2, 1)) + rng.normal(0, 20, (2, 2, 3))).astype(np.float32)
    clouds = rng.normal(0, 14, (9, 9, 3)).astype(np.float32)
    picture = cv2.resize(corners, (size, size)) + cv2.resize(
        clouds, (size, size), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(rng.integers(0, 4)):
        (x, y), (w, h) = rng.integers(0, size, 2), rng.integers(size // 10, size // 2, 2)
        picture[y : y + h, x : x + w] = rng.uniform(20, 235, 3)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(2, 8))


class _Canvas:
    """Float RGB pixels, `OVERSAMPLING` times the picture; takes points in picture pixels."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels.astype(np.float32)

    def mask(self, points: np.ndarray) -> np.ndarray:
        """(H, W) bool, True inside the polygon."""
        mask = np.zeros(self.pixels.shape[:2], np.uint8)
        cv2.fillPoly(mask, [_fixed(points)], 1, shift=4)
        return mask > 0

    def fill(
        self, points: np.ndarray, colour: np.ndarray, within: np.ndarray | None = None
    ) -> None:
        """Fills a polygon, only where `within` is True; colour (3,) or (H, W, 3)."""
        mask = self.mask(points)
        if within is not None:
            mask &= within
        self.pixels[mask] = np.broadcast_to(colour, self.pixels.shape)[mask]

    def line(self, points: np.ndarray, colour: np.ndarray, width: float) -> None:
        """Draws an open line; width in picture pixels."""
        width = max(1, round(width * OVERSAMPLING))
        cv2.polylines(
            self.pixels, [_fixed(points)], False, tuple(map(float, colour)), width, shift=4
        )


def _fixed(points: np.ndarray) -> np.ndarray:
    """Picture pixels to canvas pixels, in OpenCV's sixteenths; centres at integers in both."""
    return np.round(((points + 0.5) * OVERSAMPLING - 0.5) * 16).astype(np.int32)


def paint(
    canvas: _Canvas,
    rng: np.random.Generator,
    landmarks: np.ndarray,
    extras: dict[str, np.ndarray],
    scale: float,
) -> None:
    """Draws back to front; points in picture pixels, `scale` is half a jaw width in them."""
    skin = _mix(rng, SKIN)
    hair, iris = _mix(rng, HAIR), IRIS[rng.integers(len(IRIS))]
    lips = skin * (0.92, 0.62, 0.62) + (8, 0, 4)
    dark = skin * 0.35

    canvas.fill(_hull(extras["hair"]), hair)
    canvas.fill(extras["neck"], skin * 0.75)
    canvas.fill(extras["shoulders"], rng.uniform(30, 220, 3))
    for ear in extras["ears"]:
        canvas.fill(_ellipse(ear, 0.13 * scale, 0.24 * scale), skin * 0.85)

    head = np.concatenate([landmarks[:17], extras["crown"]])
    lit = skin * _light(rng, canvas.pixels.shape[:2], head)
    canvas.fill(head, lit)
    canvas.fill(np.concatenate([extras["crown"], extras["hairline"][::-1]]), hair * 0.9)

    canvas.fill(landmarks[[27, 31, 32, 33, 34, 35]], lit * 0.93)
    canvas.line(landmarks[27:31], skin * 0.78, 0.02 * scale)
    canvas.line(landmarks[31:36], skin * 0.55, 0.035 * scale)
    for nostril in landmarks[[32, 34]]:
        canvas.fill(_ellipse(nostril, 0.045 * scale, 0.025 * scale), dark)

    white = np.array([242.0, 240, 236])
    for first, centre in zip((36, 42), extras["irises"], strict=True):
        eye = landmarks[first : first + 6]
        opening = canvas.mask(eye)
        canvas.fill(eye, white)
        canvas.fill(_ellipse(centre, 0.085 * scale, 0.085 * scale), iris, within=opening)
        canvas.fill(_ellipse(centre, 0.04 * scale, 0.04 * scale), np.full(3, 12.0), within=opening)
        glint = _ellipse(centre - 0.025 * scale, 0.016 * scale, 0.016 * scale)
        canvas.fill(glint, np.full(3, 250.0), within=opening)
        canvas.line(eye[[0, 1, 2, 3]], dark * 0.7, 0.035 * scale)
        canvas.line(eye[[3, 4, 5, 0]], skin * 0.6, 0.015 * scale)

    for brow in (landmarks[17:22], landmarks[22:27]):
        canvas.line(brow, hair * 0.8, rng.uniform(0.06, 0.09) * scale)

    canvas.fill(landmarks[48:60], lips)
    canvas.fill(landmarks[60:68], dark * 0.6)
    teeth = np.concatenate([landmarks[60:65], landmarks[[63, 62, 61]] + (0, 0.07 * scale)])
    canvas.fill(teeth, white * 0.95, within=canvas.mask(landmarks[60:68]))
    canvas.line(landmarks[60:65], lips * 0.55, 0.015 * scale)


def _mix(rng: np.random.Generator, palette: np.ndarray) -> np.ndarray:
    """A colour (3,) between two neighbours of a palette."""
    position = rng.uniform(0, len(palette) - 1)
    i = int(position)
    return palette[i] + (position - i) * (palette[min(i + 1, len(palette) - 1)] - palette[i])


def _light(rng: np.random.Generator, shape: tuple[int, int], head: np.ndarray) -> np.ndarray:
    """(H, W, 1) brightness of an egg as wide and tall as the head, lit from a random side."""
    (left, top), (right, bottom) = _fixed(head).min(axis=0) / 16, _fixed(head).max(axis=0) / 16
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    nx = (2 * x - left - right) / (right - left) * 0.9
    ny = (2 * y - top - bottom) / (bottom - top) * 0.9
    nz = np.sqrt(np.maximum(0, 1 - nx**2 - ny**2))
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.2), 1.0])
    light /= np.linalg.norm(light)
    facing = np.maximum(0, nx * light[0] + ny * light[1] + nz * light[2])
    return (0.5 + 0.55 * facing)[..., None]


def _ellipse(centre: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return centre + np.stack([half_width * np.cos(angle), half_height * np.sin(angle)], axis=1)


def _hull(points: np.ndarray) -> np.ndarray:
    return cv2.convexHull(points.astype(np.float32))[:, 0]


if __name__ == "__main__":
    sys.exit(main())
