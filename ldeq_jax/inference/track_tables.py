"""The faces of a film as tables, written while it is tracked: .csv, .npz and JSON lines: `Tables`.

A film of any length needs the same memory: rows go to the disk at once, those of the .npz file to a
temporary file first. What is written of a film that is broken off can be kept.
"""

import contextlib
import csv
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ldeq_jax import __version__
from ldeq_jax.inference.tracker import Face, TrackedFrame
from ldeq_jax.media import files
from ldeq_jax.report import records

STATUSES = ("none", "lost", "tracked", "detected")
# of the .csv file, in its order
_NUMBERS = ("box", "score", "confidence", "landmarks", "spread", "probability")
_CONFIDENCE = ("confidence", "probability", "deviation")  # of models that are calibrated


class Tables:
    """Writes the tables of a film, a context manager: they appear at `finish`, or none does.

    Args:
        outputs: all files of the film; the tables are those that end in .npz (needed), .csv and
            .jsonl.
        num_landmarks: K.
        about: what the .npz file says of the film and the model, JSON types and numbers.
    """

    def __init__(self, outputs: Sequence[Path], num_landmarks: int, about: Mapping[str, Any]):
        self._outputs, self._about = outputs, about
        self._paths = {path.suffix: path for path in outputs}
        self._row = np.dtype(
            [
                ("frame", np.int32),
                ("time", np.float64),
                ("face", np.int32),
                ("status", np.int8),
                ("box", np.float32, (4,)),
                ("score", np.float32),
                ("confidence", np.float32),
                ("landmarks", np.float32, (num_landmarks, 2)),
                ("spread", np.float32, (num_landmarks,)),
                ("probability", np.float32, (num_landmarks,)),
                ("deviation", np.float32, (num_landmarks,)),
            ]
        )
        self._open = contextlib.ExitStack()
        self._csv: Any = None
        self._lines: Any = None
        self._rows: BinaryIO
        self._ended: list[tuple[int, int, str]] = []

    def __enter__(self) -> "Tables":
        with contextlib.ExitStack() as opening:
            for suffix in (".csv", ".jsonl"):
                if suffix in self._paths:
                    partial = opening.enter_context(files.replacing(self._paths[suffix]))
                    file = opening.enter_context(partial.open("w", encoding="utf-8", newline=""))
                    if suffix == ".csv":
                        self._csv = csv.writer(file)
                        self._csv.writerow(_header(self._row["spread"].shape[0]))
                    else:
                        self._lines = file
            folder = self._paths[".npz"].parent
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = opening.enter_context(tempfile.TemporaryFile(dir=folder))
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, index: int, frame: TrackedFrame) -> None:
        """Writes the rows of the next frame: one for each face, and one where there is none.

        Args:
            index: number of the frame in the film.
            frame: its faces.
        """
        rows = np.zeros(max(1, len(frame.faces)), self._row)
        rows["frame"], rows["time"] = index, frame.time
        if not frame.faces:
            rows["face"] = -1
            for name in ("box", "score", "landmarks", "spread", *_CONFIDENCE):
                rows[name] = np.nan
        for row, face in zip(rows, frame.faces, strict=False):
            row["face"], row["status"] = face.id, STATUSES.index(face.status)
            row["box"], row["score"] = face.box, face.score
            row["landmarks"], row["spread"] = face.points, face.landmarks.spread
            for name in _CONFIDENCE:
                value = getattr(face.landmarks, name)
                row[name] = np.nan if value is None else value
        self._rows.write(rows.tobytes())
        self._ended += [(number, index, reason) for number, reason in frame.ended]
        if self._csv is not None:
            self._csv.writerows(map(_cells, rows))
        if self._lines is not None:
            self._lines.write(records.to_json(frame_record(index, frame)) + "\n")

    def finish(self, *, complete: bool = True, cut_short: bool = False) -> None:
        """Completes the files.

        Args:
            complete: whether the film was tracked to its end.
            cut_short: whether that end came before the one that the film's header announces.

        Raises:
            OSError: one cannot be written.
        """
        self._rows.flush()
        rows = (
            np.memmap(self._rows, self._row, "r") if self._rows.tell() else np.zeros(0, self._row)
        )
        arrays: dict[str, Any] = {name: rows[name] for name in self._row.names or ()}
        arrays["status"] = np.array(STATUSES)[rows["status"]]
        arrays["ended_face"] = np.array([face for face, _, _ in self._ended], np.int32)
        arrays["ended_frame"] = np.array([frame for _, frame, _ in self._ended], np.int32)
        arrays["ended_reason"] = np.array([reason for _, _, reason in self._ended], str)
        arrays |= {name: np.array(value) for name, value in self._about.items()}
        arrays |= {"version": np.array(__version__), "complete": np.array(complete)}
        arrays["cut_short"] = np.array(cut_short)
        arrays[files.RECORD] = np.array([path.name for path in self._outputs])
        with files.replacing(self._paths[".npz"]) as partial:
            np.savez_compressed(partial, **arrays)
        self._open.close()


def is_done(numbers: Path, settings: str) -> bool:
    """Whether a .npz file is that of a film that was tracked to its end with the same settings."""
    try:
        with np.load(numbers, allow_pickle=False) as arrays:
            return bool(arrays["complete"]) and str(arrays["settings"]) == settings
    except Exception:  # NumPy raises many kinds for what is no such file
        return False


def is_of(numbers: Path, fingerprint: str) -> bool:
    """Whether a .npz file is that of the film of a fingerprint; True where one is not known."""
    with np.load(numbers, allow_pickle=False) as arrays:
        before = str(arrays["fingerprint"]) if "fingerprint" in arrays else ""
    return before == fingerprint or not (before and fingerprint)


def _header(num_landmarks):
    points = [f"{axis}{k}" for k in range(num_landmarks) for axis in "xy"]
    spreads = [f"spread{k}" for k in range(num_landmarks)]
    probabilities = [f"probability{k}" for k in range(num_landmarks)]
    box = ["left", "top", "right", "bottom"]
    scores = ["score", "confidence"]
    return ["frame", "time", "face", "status", *box, *scores, *points, *spreads, *probabilities]


def _cells(row):
    parts = [row[name].ravel() for name in _NUMBERS]
    numbers = np.concatenate(parts).tolist()  # far faster to write than NumPy's own
    written = ["" if math.isnan(number) else f"{number:.3f}" for number in numbers]
    face = "" if row["face"] < 0 else int(row["face"])
    return [int(row["frame"]), f"{row['time']:.6f}", face, STATUSES[row["status"]], *written]


def frame_record(index: int, frame: TrackedFrame) -> dict[str, Any]:
    """A frame as JSON.

    Args:
        index: number of the frame in the film.
        frame: its faces.

    Returns:
        What `report.records.to_json` takes.
    """
    record: dict[str, Any] = {"frame": index, "time": round(frame.time, 6)}
    record["faces"] = [_face(face) for face in frame.faces]
    if frame.ended:
        record["ended"] = [{"face": number, "reason": reason} for number, reason in frame.ended]
    return record


def _face(face: Face) -> dict[str, Any]:
    record: dict[str, Any] = {"face": face.id, "status": face.status}
    if face.status == "lost":
        return record | {"trouble": face.trouble}
    arrays = {"box": face.box, "landmarks": face.points, "spread": face.landmarks.spread}
    if face.landmarks.confidence is not None:
        arrays |= {name: getattr(face.landmarks, name) for name in _CONFIDENCE}
    record |= {name: np.round(array, 3) for name, array in arrays.items()}
    return records.without_nan(record | {"score": round(face.score, 3)})
