r"""Pictures on which a model fails, for its card, from the faces in `examples/`.

    python -m benchmarks.failures --output=failures.jpg

Each picture is made worse by one step of known size, so it is known where its landmarks should be:
where the model finds them in the unchanged picture, moved as the picture is. These are drawn in
yellow, what the model finds in blue. Below are the mean distance of both in percent of the distance
of the outer eye corners, and the mean probability of a point, which a calibrated model gives.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import numpy as np

from ldeq_jax.face import metrics
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.head.fit import fit_head
from ldeq_jax.head.paint import inverse_map
from ldeq_jax.head.shape import load_head
from ldeq_jax.head.sheet import make_sheet
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media.pictures import read_picture, write_picture
from ldeq_jax.report.draw import draw_landmarks, write_text

EXAMPLES = Path(__file__).parents[1] / "examples"
SIDE, COLUMNS = 240, 4
CHIN, EYES, MOUTH = range(4, 13), range(36, 48), range(48, 68)

# From a picture and its (68, 2) landmarks to both after the change.
Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def unchanged(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As it is."""
    return picture, points


def covered(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eyes, mouth and chin by plain ellipses in the colour of the skin."""
    picture = picture.copy()
    x, y = np.round(points[[2, 14, 30]].mean(axis=0)).astype(int)
    colour = picture[y - 3 : y + 4, x - 3 : x + 4].mean(axis=(0, 1)).tolist()
    for part in (points[[*EYES]], points[[*CHIN, *MOUTH]]):
        low, high = part.min(axis=0), part.max(axis=0)
        half = 0.65 * np.maximum(high - low, (high - low).max() / 2)
        middle, axes = (np.round(a).astype(int).tolist() for a in ((low + high) / 2, half))
        cv2.ellipse(picture, middle, axes, 0, 0, 360, colour, -1)
    return picture, points


def covered_above(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper half by a plain rectangle."""
    picture, side = picture.copy(), np.ptp(points, axis=0).max()
    low, high = points.min(axis=0) - 0.2 * side, points.max(axis=0) + 0.2 * side
    left, top, right = np.round([low[0], low[1], high[0]]).astype(int).clip(0)
    picture[top : int(points[:, 1].min() + points[:, 1].max()) // 2, left:right] = (120, 90, 70)
    return picture, points


def blurred(share: float) -> Change:
    """As by a motion to the side, by a part of the face's larger side."""

    def change(picture, points):
        length = round(share * np.ptp(points, axis=0).max())
        return cv2.blur(picture, (length, 1)), points

    return change


def turned_away(degrees: float) -> Change:
    """About the upright axis, by the fitted 3D face."""

    def change(picture, points):
        head, size = load_head(), picture.shape[1::-1]
        fit = fit_head(head, points)
        sheet = make_sheet(head, fit, points, size)
        still = np.zeros_like(fit.expression)
        moved = sheet.moved(np.radians([0, degrees, 0]), still)
        places, _ = inverse_map(sheet.points, moved, sheet.triangles, size)
        return cv2.remap(picture, places, None, cv2.INTER_LINEAR), moved[sheet.landmarks]

    return change


def moved(matrix: Callable[[np.ndarray], np.ndarray]) -> Change:
    """By an affine (2, 3) matrix that depends on the landmarks; black where nothing was."""

    def change(picture, points):
        by = matrix(points)
        return cv2.warpAffine(picture, by, picture.shape[1::-1]), points @ by[:, :2].T + by[:, 2]

    return change


def turned(degrees: float) -> Change:
    """In the picture's plane, about the middle of the face."""
    return moved(lambda p: cv2.getRotationMatrix2D(p.mean(axis=0).tolist(), degrees, 1))


def cut(share: float) -> Change:
    """The left part of the face outside the picture."""
    return moved(lambda p: np.array([[1, 0, -p[:, 0].min() - share * np.ptp(p[:, 0])], [0, 1, 0]]))


# What is done to which portrait, what is written below, and how far the box is off, parts of the
# face's larger side.
FAILURES: tuple[tuple[int, str, Change, float], ...] = (
    (2, "upside down", turned(180), 0),
    (1, "lying", turned(90), 0),
    (2, "turned by 55 degrees", turned_away(-55), 0),
    (1, "eyes and mouth covered", covered, 0),
    (1, "moved in the exposure", blurred(0.35), 0),
    (2, "upper half covered", covered_above, 0),
    (2, "half of it outside", cut(0.5), 0),
    (1, "box off by .3", unchanged, 0.3),
)


def main() -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="faces-68", help="the model (faces-68)")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    options = parser.parse_args()

    predictor = Predictor.load(options.checkpoint)
    boxes = json.loads((EXAMPLES / "boxes.json").read_text())
    tiles = []
    for number, words, change, off in FAILURES:
        name = f"portrait_{number}.jpg"
        picture = read_picture(EXAMPLES / name)
        plain = predictor.faces(picture, np.array([boxes[name]])).points[0]
        picture, wanted = change(picture, plain)
        found = predictor.faces(picture, box_around(wanted, off))
        tiles.append(tile(picture, wanted, found, words))
    rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    write_picture(options.output, np.vstack(rows))


def box_around(points: np.ndarray, off: float) -> np.ndarray:
    """(1, 4) extent of the landmarks, moved to the right and down by a part of its larger side."""
    low, high = points.min(axis=0), points.max(axis=0)
    shift = off * (high - low).max() / np.sqrt(2)
    return np.concatenate([low, high])[None] + shift


def tile(picture: np.ndarray, wanted: np.ndarray, face: Landmarks, words: str) -> np.ndarray:
    """(SIDE, SIDE, 3) the face with both sets of landmarks, words and numbers."""
    low, high = wanted.min(axis=0), wanted.max(axis=0)
    zoom = SIDE / (1.6 * (high - low).max())
    tile_from_picture = zoom * np.eye(2, 3)
    tile_from_picture[:, 2] = SIDE / 2 - zoom * (low + high) / 2
    seen = cv2.warpAffine(picture, tile_from_picture, (SIDE, SIDE), flags=cv2.INTER_AREA)
    wanted, found = (
        p @ tile_from_picture[:, :2].T + tile_from_picture[:, 2] for p in (wanted, face.points[0])
    )
    drawn = draw_landmarks(seen, found, IBUG_68, wanted)
    error = 100 * float(metrics.nme(found[None], wanted[None], IBUG_68.eye_corners)[0])
    write_text(drawn, words, (6, 16), 0.45)
    write_text(
        drawn, f"error {error:.0f} %, sure {face.probability[0].mean():.2f}", (6, SIDE - 8), 0.45
    )
    return drawn


if __name__ == "__main__":
    main()
