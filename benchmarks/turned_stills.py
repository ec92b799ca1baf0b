r"""Turns the heads of labelled faces by a fitted 3D face, as further faces to train on.

    python -m benchmarks.turned_stills --faces=ibug_300w:train --data_dir=DATA --output=FOLDER
    ldeq build faces/rotated --manual_dir=FOLDER --schema=ibug_68 --data_dir=DATA

Each face is turned once, about the upright axis by up to --degrees and up or down by a third of
that, both uniform. Its landmarks move with the picture, so they stay where they were on the skin,
also on the outline, where people would label other points of a turned face. FOLDER gets `images/`
and `landmarks.npz` as `ldeq build faces/NAME` wants them. Faces that turn to one side by more than
that already, and those that the 3D face does not fit, are left out; how many is printed.
"""

import argparse
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from ldeq_jax.data.sources import FaceSource
from ldeq_jax.head.fit import fit_head
from ldeq_jax.head.paint import inverse_map
from ldeq_jax.head.shape import load_head
from ldeq_jax.head.sheet import make_sheet
from ldeq_jax.media.pictures import write_picture

LARGEST_ERROR = 0.045  # of the fit, as in moving_faces


def main() -> None:
    """Writes the faces."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", required=True, help="NAME:SPLIT of a data set of faces")
    parser.add_argument("--data_dir", required=True, help="folder of the data sets")
    parser.add_argument("--degrees", type=float, default=45, help="largest turn (45)")
    parser.add_argument("--seed", type=int, default=0, help="of the turns (0)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()

    name, split = options.faces.split(":", 1)
    source, rng = FaceSource(name, split, options.data_dir), np.random.default_rng(options.seed)
    (options.output / "images").mkdir(parents=True, exist_ok=True)
    names, landmarks = [], []
    for index in tqdm(range(len(source)), unit="face"):
        face = source[index]
        turn = np.radians(options.degrees) * rng.uniform(-1, 1, 2) * [1 / 3, 1]
        found = turned(face["image"], face["landmarks"].astype(float), turn, options.degrees)
        if found is None:
            continue
        file = f"{index:05d}_{Path(face['name']).stem.replace('#', '_')}.png"
        write_picture(options.output / "images" / file, found[0])
        names.append(file)
        landmarks.append(found[1])
    np.savez(
        options.output / "landmarks.npz",
        names=names,
        landmarks=np.stack(landmarks).astype(np.float32),
        splits=["train"] * len(names),
    )
    print(f"{len(names)} faces, {len(source) - len(names)} left out")


def turned(
    picture: np.ndarray, points: np.ndarray, turn: np.ndarray, degrees: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """A picture whose (68, 2) face turns by (2,) radians about x and y, and its points.

    None where the 3D face does not fit, or the face is turned by more than `degrees` already.
    """
    head, size = load_head(), picture.shape[1::-1]
    fit = fit_head(head, points)
    yaw = Rotation.from_matrix(fit.pose.rotation).as_euler("YXZ", degrees=True)[0]
    if abs(yaw) > degrees or fit.error > LARGEST_ERROR:
        return None
    sheet = make_sheet(head, fit, points, size)
    moved = sheet.moved(np.array([*turn, 0.0]), np.zeros_like(fit.expression))
    places, _ = inverse_map(sheet.points, moved, sheet.triangles, size)
    return cv2.remap(picture, places, None, cv2.INTER_LINEAR), moved[sheet.landmarks]


if __name__ == "__main__":
    main()
