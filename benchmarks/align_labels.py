r"""Gives faces that others labelled the habits of our own labels, to train on both.

    python -m benchmarks.align_labels --faces=faces/theirs:train --data_dir=DATA --output=FOLDER
    ldeq build faces/theirs_aligned --manual_dir=FOLDER --schema=ibug_68 --data_dir=DATA

Every collection places its points a little differently: a nose tip higher, a jaw point farther out,
all of them a pixel to the right. A model trained on both learns neither. This measures, against a
model's own predictions, the constant offset of each landmark: the median over faces, in the face's
own frame (its eyes level, their outer corners one apart). The offset is then taken from the labels.
What a label says about its own face, beyond that, stays as it is.

FOLDER gets `images/` and `landmarks.npz` as `ldeq build faces/NAME` wants them, and `offsets.csv`:
the offset of each landmark in percent of the eye distance.
"""

import argparse
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import numpy as np
from tqdm import tqdm

from ldeq_jax.data.sources import FaceSource
from ldeq_jax.face.eyes import from_eyes, to_eyes
from ldeq_jax.face.schema import get_schema, indices_of
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media.pictures import write_picture


def main() -> None:
    """Measures the offsets and writes the faces."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", required=True, help="NAME:SPLIT of a data set of faces")
    parser.add_argument("--data_dir", required=True, help="folder of the data sets")
    parser.add_argument("--checkpoint", default="faces-68", help="the model (faces-68)")
    parser.add_argument("--every", type=int, default=4, help="measure on each n-th face (4)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()

    name, split = options.faces.split(":", 1)
    source = FaceSource(name, split, options.data_dir)
    predictor = Predictor.load(options.checkpoint)
    schema = get_schema(predictor.config.data.schema)
    points, corners = indices_of(source.schema, schema), list(schema.eye_corners)

    def labels(face):
        return face["landmarks"] if points is None else face["landmarks"][points]

    differences = []
    for index in tqdm(range(0, len(source), options.every), unit="face"):
        face = source[index]
        wanted = labels(face)
        box = np.concatenate([wanted.min(axis=0), wanted.max(axis=0)])[None]
        found = predictor.faces(face["image"], box).points[0]
        differences.append(to_eyes(found, wanted[corners]) - to_eyes(wanted, wanted[corners]))
    offsets = np.median(differences, axis=0)

    (options.output / "images").mkdir(parents=True, exist_ok=True)
    names, moved = [], []
    for index in range(len(source)):
        face = source[index]
        wanted = labels(face)
        file = f"{index:05d}_{Path(face['name']).stem.replace('#', '_')}.png"
        write_picture(options.output / "images" / file, face["image"])
        names.append(file)
        eyes = wanted[corners]
        moved.append(from_eyes(to_eyes(wanted, eyes) + offsets, eyes))
    np.savez(
        options.output / "landmarks.npz",
        names=names,
        landmarks=np.stack(moved).astype(np.float32),
        splits=["train"] * len(names),
    )
    lines = [f"{k},{100 * x:.2f},{100 * y:.2f}\n" for k, (x, y) in enumerate(offsets)]
    (options.output / "offsets.csv").write_text("landmark,x,y\n" + "".join(lines))
    size = 100 * np.linalg.norm(offsets, axis=1).mean()
    print(f"{len(names)} faces; offsets of {size:.2f} % of the eye distance in the mean")


if __name__ == "__main__":
    main()
