"""Many picture files: one table of all their faces, and a drawing of each: `predict_pictures`."""

import contextlib
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ldeq_jax import __version__
from ldeq_jax.errors import UserWriteError, one_line
from ldeq_jax.face.schema import get_schema
from ldeq_jax.inference.picture_file import Found, find_faces
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media import files, pictures
from ldeq_jax.media.albums import Shot
from ldeq_jax.report.records import to_json
from ldeq_jax.weights import load_model


def predict_pictures(
    shots: Sequence[Shot],
    folder: Path,
    *,
    checkpoint: str,
    overlay: bool = True,
    json: bool = False,
    overwrite: bool = False,
) -> dict[str, str]:
    """Finds the landmarks of the faces of many pictures; writes a table, and draws each.

    One picture at a time is held, and one that cannot be read does not stop the others. The tables
    appear when all are done, or what is done at Ctrl-C or SIGTERM.

    Args:
        shots: the pictures; boxes.json beside a picture gives its boxes, or else they are detected.
        folder: to write faces.csv to, and faces.json, which says how it was made; and the drawings.
        checkpoint: name or folder of the model.
        overlay: whether drawings are made.
        json: whether JSON lines are written too, faces.jsonl.
        overwrite: replace files that no earlier call wrote.

    Returns:
        What failed, and why, by the picture's path.

    Raises:
        UserError: nothing can be begun: the model or the folder is of no use.
    """
    record, table, lines = (folder / f"faces{ending}" for ending in (".json", ".csv", ".jsonl"))
    drawings = [folder / shot.name.with_name(f"{shot.name.name}.jpg") for shot in shots]
    outputs = [record, table, *[lines] * json, *(drawings if overlay else [])]
    files.check_outputs(outputs, overwrite)
    for shot, drawing in zip(shots, drawings, strict=True):
        if overlay and drawing.exists() and drawing.samefile(shot.path):
            raise UserWriteError(
                f"{shot.path} would be replaced by its drawing: choose another --output"
            )
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserWriteError(f"cannot write to the folder {folder}")
    config, variables, step = load_model(checkpoint)
    predictor, schema = Predictor(config, variables), get_schema(config.data.schema)
    about = {
        "checkpoint": checkpoint,
        "step": step,
        "schema": schema.name,
        "version": __version__,
        files.RECORD: [path.name for path in outputs],
    }
    failed: dict[str, str] = {}
    faces = without = 0
    with contextlib.ExitStack() as stack:
        rows = csv.writer(_opened(stack, table))
        rows.writerow(_header(schema.num_landmarks))
        texts = _opened(stack, lines) if json else None
        bar = tqdm(zip(shots, drawings, strict=True), total=len(shots), unit="picture", leave=False)
        try:
            for shot, drawing in bar:
                try:
                    found = find_faces(shot.path, predictor, [])
                    rows.writerows(_rows(shot.path, found))
                    if texts is not None:
                        one = {"picture": str(shot.path), "faces": found.described}
                        texts.write(to_json(one) + "\n")
                    faces, without = faces + len(found.faces), without + (not len(found.faces))
                    if overlay:
                        pictures.write_picture(drawing, found.drawn(schema))
                except Exception as error:
                    reason = one_line(error)
                    if reason is None:
                        raise
                    failed[str(shot.path)] = reason
        except (KeyboardInterrupt, SystemExit):
            files.write_whole(record, (to_json(about, indent=1) + "\n").encode())
            stack.close()
            print(f"broken off; what was found is kept in {table}")
            raise
    files.write_whole(record, (to_json(about, indent=1) + "\n").encode())
    print(f"{len(shots)} pictures, {faces} faces; {without} pictures without a face")
    print(f"wrote {table}" + (f", and drawings in {folder}" if overlay else ""))
    return failed


def _opened(stack: contextlib.ExitStack, path: Path) -> Any:
    partial = stack.enter_context(files.replacing(path))
    return stack.enter_context(
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    )


def _header(num_landmarks: int) -> list[str]:
    points = [f"{axis}{k}" for k in range(num_landmarks) for axis in "xy"]
    spreads = [f"spread{k}" for k in range(num_landmarks)]
    box = ["left", "top", "right", "bottom"]
    probabilities = [f"probability{k}" for k in range(num_landmarks)]
    scores = ["score", "confidence", "doubt"]
    return ["picture", "face", *box, *scores, *points, *spreads, *probabilities]


def _rows(path: Path, found: Found) -> list[list[Any]]:
    """A row for each face, and one for a picture without."""
    count = found.faces.points.shape[1]
    rows = []
    for number, face in enumerate(found.described):
        points = np.asarray(face["landmarks"])
        box = [*points.min(axis=0), *points.max(axis=0)]
        numbers = [f"{value:.3f}" for value in (*points.ravel(), *face["spread"])]
        numbers += face.get("probability", [""] * count)
        scores = face.get("detector_score", ""), face.get("confidence", ""), face["doubt"]
        extent = [f"{value:.3f}" for value in box]
        rows.append([path, number, *extent, *scores, *numbers])
    return rows or [[path, *[""] * (8 + 4 * count)]]
