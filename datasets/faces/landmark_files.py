"""Landmarks of many pictures in one file, landmarks.npz or landmarks.csv, face by face."""

from __future__ import annotations

import collections
import csv
import dataclasses
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from problems import Problem
from stills import read_lines

from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.face.schema import LandmarkSchema


@dataclasses.dataclass(frozen=True)
class Row:
    """One face as the file has it, not yet checked.

    Attributes:
        name: path of the picture below images/.
        numbers: x0 y0 x1 y1 ..., numbers or words.
        split: name of its split; "" where the file has no splits.
        number: line of the file, or place in the arrays.
        where: file and place, for messages.
    """

    name: str
    numbers: Sequence[float] | Sequence[str]
    split: str
    number: int
    where: str


def read_rows(folder: Path, schema: LandmarkSchema) -> list[Row]:
    """The faces in landmarks.npz or landmarks.csv.

    Args:
        folder: holds one of the two.
        schema: of the landmarks.

    Raises:
        UserFileNotFoundError: it holds neither.
        UserError: it holds both, the file is unreadable or in another form, or its landmarks are
            not those of the schema.
    """
    arrays, table = folder / "landmarks.npz", folder / "landmarks.csv"
    if arrays.is_file() == table.is_file():
        if arrays.is_file():
            raise UserError(f"{folder} holds landmarks.npz and landmarks.csv: remove one")
        raise UserFileNotFoundError(f"neither {arrays} nor {table} exists")
    rows = _read_arrays(arrays, schema) if arrays.is_file() else _read_table(table, schema)
    for row in rows:
        if row.split and not re.fullmatch(r"[A-Za-z]\w*", row.split):
            raise UserError(f"{row.where}: a split needs a name such as train, not {row.split!r}")
    return rows


def _read_arrays(path: Path, schema: LandmarkSchema) -> list[Row]:
    try:
        # Code that is in a file is never run.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names, landmarks = arrays["names"], arrays["landmarks"]
            splits = arrays["splits"] if "splits" in arrays else np.full(len(names), "")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: {error}; it must hold text `names` (N,) and numbers `landmarks` (N, K, 2), "
            "as numpy.savez(path, names=names, landmarks=landmarks) writes them"
        ) from error
    shape = (len(landmarks), schema.num_landmarks, 2)
    if landmarks.shape != shape or landmarks.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: landmarks must be numbers (N, {schema.num_landmarks}, 2) for {schema.name}, "
            f"not {landmarks.dtype} {landmarks.shape}"
        )
    for name, texts in (("names", names), ("splits", splits)):
        if texts.shape != shape[:1] or texts.dtype.kind != "U":
            raise UserError(
                f"{path}: {name} must be text ({shape[0]},), one for each face, not "
                f"{texts.dtype} {texts.shape}"
            )
    return [
        Row(str(name), points.ravel(), str(split), number, f"{path}[{number}]")
        for number, (name, points, split) in enumerate(zip(names, landmarks, splits, strict=True))
    ]


def _read_table(path: Path, schema: LandmarkSchema) -> list[Row]:
    try:
        (_, first), *lines = read_lines(path) or [(1, "")]
    except Problem as problem:
        raise UserError(str(problem)) from problem
    columns = [word.strip() for word in next(csv.reader([first]))]
    coordinates = [f"{axis}{k}" for k in range(schema.num_landmarks) for axis in "xy"]
    missing = [name for name in ["name", *coordinates] if name not in columns]
    known = collections.Counter(["name", *coordinates, "split"])
    other = list((collections.Counter(columns) - known).elements())
    if missing or other:
        lost, odd = (", ".join(names[:5]) or "none" for names in (missing, other))
        raise UserError(
            f"{path}: the first line must name the columns of {schema.name}: name, x0, y0, ..., "
            f"{coordinates[-2]}, {coordinates[-1]} and, where wanted, split. Missing: {lost}; not "
            f"known or twice: {odd}"
        )
    rows = []
    for number, line in lines:
        values = [word.strip() for word in next(csv.reader([line]))]
        words = dict(zip(columns, values, strict=False))
        # A missing word is no number, one too many makes a wrong number of coordinates.
        numbers = [words.get(column, "") for column in coordinates] + values[len(columns) :]
        name, split = words.get("name", ""), words.get("split", "")
        rows.append(Row(name, numbers, split, number, f"{path}:{number}"))
    return rows
