"""Flicker of landmarks while a picture shrinks, and the time of a crop.

  JAX_PLATFORMS=cpu python benchmarks/zoom.py --checkpoint=faces-68

A picture and its face box are shrunk by half a percent per frame, so the crops differ only in how
much they shrink the picture, and a landmark should keep its place in the picture. The tables show
the flicker (NMF, percent of a 256-pixel face) of the landmarks, by frame pixels per crop pixel.
"""

import argparse
import functools
import json
import time
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import numpy as np
from PIL import Image

from ldeq_jax.face import geometry, video_metrics
from ldeq_jax.face.crops import crop_around, crop_from_landmarks
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.report import tables

EXAMPLES = Path(__file__).parents[1] / "examples"
SHRINK = 1.005
ROWS = 16


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--picture", type=Path, nargs="+", default=sorted(EXAMPLES.glob("portrait_*.jpg"))
    )
    parser.add_argument("--boxes", type=Path, default=EXAMPLES / "boxes.json")
    parser.add_argument("--steps", type=float, nargs="+", default=[1.0, 1.8, 2.2, 3.0, 5.0])
    given = parser.parse_args()
    predictor = Predictor.load(given.checkpoint)
    boxes = json.loads(given.boxes.read_text(encoding="utf-8"))
    rows = []
    for path in given.picture:
        row = {"picture": path.name}
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        for low, high in zip(given.steps[:-1], given.steps[1:], strict=True):
            flicker = flicker_of(predictor, picture, np.array(boxes[path.name]), low, high)
            row[f"{high:g} to {low:g}"] = f"{flicker:.1f}"
        rows.append(row)
    print(tables.markdown_table(rows))
    print(tables.markdown_table(seconds(predictor.config.model.image_size)))


def flicker_of(predictor, picture, box, low, high) -> float:
    """NMF while the crops go from `high` to `low` frame pixels per crop pixel."""
    size, data = predictor.config.model.image_size, predictor.config.data
    rule = functools.partial(crop_around, data.crop, data.crop_scale, size)
    whole = 1 / rule(shape=picture.size[::-1], box=box)[0, 0]  # at the picture's own size
    crops, matrices = [], []
    for scale in high / whole * SHRINK ** -np.arange(np.log(high / low) / np.log(SHRINK)):
        width, height = (int(scale * side) for side in picture.size)
        part = (0, 0, width / scale, height / scale)
        frame = picture.resize((width, height), Image.Resampling.LANCZOS, box=part)
        # Pixels are counted from their centres, lengths from the corner of the first.
        crop = rule(shape=(height, width), box=(box + 0.5) * scale - 0.5)
        picture_from_frame = np.diag([1 / scale, 1 / scale, 1])
        picture_from_frame[:2, 2] = (0.5 - 0.5 * scale) / scale
        matrices.append(picture_from_frame @ geometry.inverse(crop))
        crops.append(geometry.warp(np.asarray(frame), crop, size))
    count = len(crops)
    crops = np.stack(crops + crops[:1] * (-count % ROWS))
    points = [predictor(crops[i : i + ROWS]).landmarks for i in range(0, len(crops), ROWS)]
    points = geometry.transform_points(np.stack(matrices), size * np.concatenate(points)[:count])
    target = np.repeat(points.mean(axis=0, keepdims=True), count, axis=0)
    return float(video_metrics.nmf(points[None], target[None], np.ones((1, count), bool))[0])


def seconds(size: int) -> list[dict]:
    """Milliseconds per crop, median of 30, on one thread."""
    cv2.setNumThreads(1)
    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    rows = []
    for side in (100, 200, 400, 800):
        corners = np.array([[960.5, 540.5]]) + np.array([[-0.5], [0.5]]) * side
        crop, taken = crop_from_landmarks(corners, size, 1.3), []
        for _ in range(31):
            start = time.perf_counter()
            geometry.warp(frame, crop, size)
            taken.append(time.perf_counter() - start)
        rows.append(
            {
                "face in a 1920 x 1080 frame": f"{side} px",
                "frame pixels per crop pixel": f"{1 / crop[0, 0]:.2f}",
                "ms": f"{1000 * np.median(taken[1:]):.2f}",
            }
        )
    return rows


if __name__ == "__main__":
    main()
