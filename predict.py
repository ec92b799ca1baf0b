"""Draws the landmarks a model finds on a picture, and writes them as numbers.

  python predict.py --checkpoint=checkpoints/ibug_300w_small --output=portrait.png \\
      examples/portrait_1.jpg
  python predict.py --checkpoint=runs/small --output=group.png --box=40,30,180,190 \\
      --box=220,41,350,188 group.jpg

Each face needs a box x1,y1,x2,y2 in pixels of the picture. Without --box they are taken from
boxes.json beside the picture, which maps file names to a box or a list of boxes; if that has none,
the whole picture counts as one face. For a model trained on crops around the landmarks, the box is
the extent of the landmarks: from the brows to the chin, and from ear to ear. A picture is turned
upright as its EXIF tag says.

The numbers go beside the drawing, to the same name with .json: for each face its landmarks (x, y)
in pixels of the picture, with pixel centres at whole numbers, their spread, which is large where
the model is in doubt, and how its solver fared.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from PIL import Image, ImageOps

from ldeq_jax import checkpoints, inference, report
from ldeq_jax.schema import get_schema

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "A training run's --workdir, whose best model is taken, or a released model.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Drawing to write, .png or .jpg; the numbers go to the same name with .json."
)
_BOX = flags.DEFINE_multi_string(
    "box", [], "x1,y1,x2,y2 of a face, pixels of the picture. Repeat it for more faces."
)
_WIDTH = 1000  # least length, in pixels, of the longer side of the drawing


def main(argv: list[str]) -> None:
    """Predicts; what the user can mend is told in a line."""
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file it reads
    if len(argv) != 2:
        raise app.UsageError(f"one picture is needed, got {len(argv) - 1}: {' '.join(argv[1:])}")
    try:
        predict(Path(argv[1]), _BOX.value, _CHECKPOINT.value, Path(_OUTPUT.value))
    except (OSError, ValueError) as error:
        sys.exit(f"predict.py: {error}")


def predict(path: Path, texts: list[str], checkpoint: str, output: Path) -> None:
    """Predicts the faces of a picture, draws them and writes the numbers.

    Args:
        path: the picture.
        texts: boxes as given on the command line; may be empty.
        checkpoint: directory of the model.
        output: drawing to write.
    """
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"--output={output} must end in .png or .jpg")
    if output.exists() and output.samefile(path):
        raise ValueError(f"--output={output} is the picture itself: choose another name")
    picture = read_picture(path)
    boxes, origin = find_boxes(path, texts, picture)
    print(f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels, {len(boxes)} face(s) {origin}")
    config, variables, step = checkpoints.load_model(checkpoint)
    schema = get_schema(config.data.schema)
    faces = inference.Predictor(config, variables).faces(picture, boxes)
    scale = max(1, -(-_WIDTH // max(picture.shape)))
    report.write_image(output, report.draw_landmarks(picture, faces.landmarks, schema, scale=scale))
    record = {
        "picture": str(path),
        "checkpoint": checkpoint,
        "step": step,
        "schema": schema.name,
        "faces": [face_record(faces, boxes, number) for number in range(len(boxes))],
    }
    for number, face in enumerate(record["faces"], start=1):
        print(
            f"face {number}: mean spread {np.mean(face['spread']):.2f} pixels, residual "
            f"{face['residual']:.1e} after {face['num_steps']} steps"
        )
    numbers = output.with_suffix(".json")
    numbers.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {output} and {numbers}")


def face_record(faces: inference.Faces, boxes: np.ndarray, number: int) -> dict[str, Any]:
    """What the JSON file says of a face."""
    return {
        "box": boxes[number].tolist(),
        "landmarks": np.round(faces.landmarks[number], 3).tolist(),
        "spread": np.round(faces.spread[number], 3).tolist(),
        "num_steps": int(faces.info.num_steps[number]),
        "residual": float(faces.info.residual[number]),
        "converged": bool(faces.info.converged[number]),
        "diverged": bool(faces.info.diverged[number]),
    }


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture, upright.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or is cut short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}")
    try:
        with Image.open(path) as picture:
            # OpenCV would fill what is cut off with grey and say nothing.
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture, or is cut short ({error})") from error


def find_boxes(path: Path, texts: list[str], picture: np.ndarray) -> tuple[np.ndarray, str]:
    """Boxes (N, 4) of the faces, and words on where they come from.

    Raises:
        ValueError: a box is not x1,y1,x2,y2, has no area or lies outside the picture; or boxes.json
            cannot be read.
    """
    height, width = picture.shape[:2]
    listing = path.parent / "boxes.json"
    if texts:
        found, origin = [text.split(",") for text in texts], "by --box"
    elif (boxes := read_listing(listing).get(path.name)) is not None:
        several = isinstance(boxes, list) and any(isinstance(box, list) for box in boxes)
        found, origin = boxes if several else [boxes], f"by {listing}"
    else:
        found = [[0, 0, width - 1, height - 1]]
        origin = (
            f"as large as the picture, for there is no --box and none in {listing}: a face that "
            "does not fill it is missed"
        )
    for box in found:
        try:
            x1, y1, x2, y2 = map(float, box)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a box must be x1,y1,x2,y2, not {box} ({origin})") from error
        if not (x1 < x2 and y1 < y2 and x1 < width and y1 < height and x2 > 0 and y2 > 0):
            raise ValueError(
                f"the box {x1:g},{y1:g},{x2:g},{y2:g} ({origin}) must have x1 < x2 and y1 < y2 and "
                f"lie in the picture of {width} x {height} pixels"
            )
    return np.array(found, np.float64), origin


def read_listing(path: Path) -> dict[str, list]:
    """Boxes by file name; empty when there is no such file."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must map file names to boxes ({error}); mend it or use --box"
        ) from error


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "output"])
    app.run(main)
