"""A picture file: its landmarks are found, written as numbers and drawn: `predict_picture`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.inference.boxes import LISTING, find_boxes
from ldeq_jax.inference.doubt import looks_agree, second_box, why_not_a_face, why_unlikely
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media import files, pictures
from ldeq_jax.report import records
from ldeq_jax.report.draw import draw_landmarks
from ldeq_jax.weights import load_model

_SMALLEST = 8  # pixels of a picture's shorter side
_WIDTH = 1000  # least length, in pixels, of the longer side of the drawing


def predict_picture(
    path: Path,
    output: Path,
    *,
    checkpoint: str,
    boxes: list[str] | None = None,
    overwrite: bool = False,
) -> Landmarks:
    """Finds the landmarks of the faces of a picture, writes the numbers, and draws them.

    Prints what is read, found and written.

    Args:
        path: the picture.
        output: drawing to write, .png or .jpg; the numbers go to the same name with .json.
        checkpoint: name or folder of the model.
        boxes: of the faces, as text "x1,y1,x2,y2"; if none are given, those of boxes.json beside
            the picture, or else faces are detected. A model of pictures that are crops already
            takes the whole picture as one face then.
        overwrite: replace files that no earlier call wrote.

    Returns:
        Landmarks (N,), in picture pixels.

    Raises:
        UserError: the picture, a box, the model or an output cannot be used. The numbers are there
            all the same if it is the drawing that cannot be written.
    """
    check_output(output, (".png", ".jpg", ".jpeg"), path, "picture")
    numbers = output.with_suffix(".json")
    if numbers.name.lower() == LISTING:
        raise UserError(
            f"--output={output} would write {LISTING}, a name for boxes that you give: choose "
            "another name"
        )
    written = [numbers, output]
    files.check_outputs(written, overwrite)
    config, variables, step = load_model(checkpoint)
    found = find_faces(path, Predictor(config, variables), boxes or [])
    faces, schema = found.faces, get_schema(config.data.schema)
    if not len(faces):
        raise UserError(
            f"{path}: no face is detected, and boxes are given neither by --box nor by "
            f"{path.parent / LISTING}: give the box of each face, --box=x1,y1,x2,y2"
        )
    listed = "" if found.plain else f", {np.round(np.asarray(faces.box), 1).tolist()}"
    height, width = found.picture.shape[:2]
    size = f"{width} x {height} pixels"
    print(f"{path}: {size}, {len(faces)} face(s) {found.origin}{listed}")
    record = {
        "picture": str(path),
        "checkpoint": str(checkpoint),
        "step": step,
        "schema": schema.name,
        files.RECORD: [file.name for file in written],
        "faces": found.described,
    }
    for number, face in enumerate(found.described, start=1):
        print(
            f"face {number}: mean spread {np.mean(face['spread']):.2f} pixels, residual "
            f"{face['residual']:.1e} after {face['num_steps']} steps"
        )
        if face["doubt"]:
            print(f"face {number}: there may be no face in this box: {face['doubt']}")
    # The numbers are worth more than the drawing, which a full disk may prevent.
    files.write_whole(numbers, (records.to_json(record, indent=1) + "\n").encode())
    print(f"wrote {numbers}")
    pictures.write_picture(output, found.drawn(schema))
    print(f"wrote {output}")
    return faces


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """The faces of a picture file.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        faces: landmarks (N,) in picture pixels.
        described: what is written of each face, see `describe_face`.
        origin: words on where the boxes come from.
        plain: whether the boxes are known to the user: given by --box, or the whole picture.
    """

    picture: np.ndarray
    faces: Landmarks
    described: list[dict[str, Any]]
    origin: str
    plain: bool

    def drawn(self, schema: LandmarkSchema) -> np.ndarray:
        """The picture with its landmarks, enlarged if it is small."""
        scale = max(1, -(-_WIDTH // max(self.picture.shape)))
        return draw_landmarks(self.picture, self.faces.points, schema, scale=scale)


def find_faces(path: Path, predictor: Predictor, boxes: list[str]) -> Found:
    """Finds the landmarks of the faces of a picture file.

    Args:
        path: the picture.
        predictor: the model.
        boxes: of the faces, see `predict_picture`.

    Returns:
        The faces, none where none is detected.

    Raises:
        UserError: the picture or a box cannot be used.
    """
    picture = pictures.read_picture(path)
    if (pages := pictures.count_pages(path)) > 1:
        print(f"{path}: the first of {pages} pages is read")
    if min(picture.shape[:2]) < _SMALLEST:
        raise UserError(
            f"{path} is {picture.shape[1]} x {picture.shape[0]} pixels: too small to show a face"
        )
    given, origin = find_boxes(path, boxes, picture.shape)
    # A model trained on pictures that are crops already sees this one as it is, without boxes.
    whole = given is None and predictor.config.data.crop == "none"
    scores = None
    if given is not None or whole:
        faces = predictor.faces(picture, given)
        origin = f"as large as the picture: boxes are given {origin}" if whole else origin
    else:
        faces, scores = predictor.detect(picture)
        origin = "detected"
    doubts = [""] * len(faces)
    if len(faces) and not whole:
        doubts = find_doubts(predictor, picture, faces)
    described = [
        describe_face(faces[number]) | {"doubt": doubt} for number, doubt in enumerate(doubts)
    ]
    if scores is not None:
        for face, score in zip(described, scores, strict=True):
            face["detector_score"] = round(float(score), 3)
    return Found(
        picture=picture,
        faces=faces,
        described=described,
        origin=origin,
        plain=bool(boxes) or whole,
    )


def find_doubts(predictor: Predictor, picture: np.ndarray, faces: Landmarks) -> list[str]:
    """Why the landmarks around each box may not be those of a face; "" where there is no doubt.

    The model looks a second time, through a crop that is shifted: the landmarks of a face stay.
    """
    kind = predictor.config.data.crop
    boxes = np.asarray(faces.box)
    seconds = predictor.faces(picture, np.array([second_box(box) for box in boxes]))
    doubts = []
    for number, (second, box) in enumerate(zip(seconds.points, boxes, strict=True)):
        points, confidence = faces.points[number], faces[number].confidence
        doubt = why_not_a_face(points, box, picture.shape, kind) or why_unlikely(confidence)
        if not doubt and not looks_agree(points, second):
            doubt = "seen through a shifted crop, the landmarks are elsewhere"
        doubts.append(doubt)
    return doubts


def describe_face(face: Landmarks) -> dict[str, Any]:
    """What the JSON file says of a face: a single one, its `info` a SolveInfo."""
    calibrated = {
        name: np.round(value, 3).tolist()
        for name in ("confidence", "probability", "deviation")
        if (value := getattr(face, name)) is not None
    }
    return {
        "box": np.asarray(face.box).tolist(),
        "landmarks": np.round(face.points, 3).tolist(),
        "spread": np.round(face.spread, 3).tolist(),
        **calibrated,
        "num_steps": int(face.info.num_steps),
        "residual": float(face.info.residual),
        "converged": bool(face.info.converged),
        "diverged": bool(face.info.diverged),
    }


def check_output(output: Path, suffixes: tuple[str, ...], source: Path, kind: str) -> None:
    """Refuses a file to write of another kind, or that is the source itself.

    Raises:
        UserError: it is refused.
    """
    if output.suffix.lower() not in suffixes:
        endings = " or ".join(suffixes[:2])
        raise UserError(f"--output={output} must end in {endings}, as {source} is a {kind}")
    if output.exists() and output.samefile(source):
        raise UserError(f"--output={output} is the {kind} itself: choose another name")
