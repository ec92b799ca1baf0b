"""What is known of films and windows between two calls: the folder `work` of a set of labels.

Everything is a file that is complete or not there, and says what it was made with, so a call that
was broken off goes on where it stopped, and a file that was made otherwise is made again.
"""

import dataclasses
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax import __version__
from ldeq_jax.labelling.windows import Window
from ldeq_jax.media.files import write_whole
from ldeq_jax.media.films import Film
from ldeq_jax.report.records import to_json

_LONGEST = 200  # bytes of a film's name; what is added to it makes names of 255 at most
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """The windows of a film, and what was seen on the way.

    Attributes:
        windows: by their IDs.
        size: width and height of the film, pixels.
        frames: of the film.
        film: its fingerprint, see `Film.fingerprint`.
        unused: frames times faces that are in no window.
        ends: why stretches ended that were too short.
    """

    windows: dict[str, Window]
    size: tuple[int, int]
    frames: int
    film: str
    unused: int
    ends: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What the members find in a window.

    Attributes:
        marks: of the members, which change with the models.
        points: (M, T, K, 2) pixels of its video.
        spread: (M, T, K) the same pixels, NaN where a member says none.
        ok: (M, T) whether a member finds the face.
        brightness: (T,) mean grey level of the face.
    """

    marks: tuple[str, ...]
    points: np.ndarray
    spread: np.ndarray
    ok: np.ndarray
    brightness: np.ndarray

    def plus(self, other: "Findings") -> "Findings":
        """These and those of other members."""
        names = ("points", "spread", "ok")
        arrays = {n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in names}
        return Findings(marks=self.marks + other.marks, brightness=self.brightness, **arrays)

    def of(self, marks: Sequence[str]) -> "Findings":
        """Those of some members, in their order."""
        rows = [self.marks.index(mark) for mark in marks]
        arrays = {name: getattr(self, name)[rows] for name in ("points", "spread", "ok")}
        return Findings(marks=tuple(marks), brightness=self.brightness, **arrays)


def film_names(films: Sequence[Film], former: Mapping[str, str]) -> list[str]:
    """A name for each film that any file system takes, none twice.

    Args:
        films: with names of their own.
        former: names of an earlier call by the films' sources: they stay, whatever films are added.
    """
    former = dict(former)
    given = [former.pop(film.source, None) for film in films]  # once, if a film is named twice
    taken = {name.casefold() for name in given if name is not None}
    names = []
    for film, known in zip(films, given, strict=True):
        if known is not None:
            names.append(known)
            continue
        plain = re.sub(r"[^\w.-]+", "_", film.name.as_posix())
        plain = plain.encode()[:_LONGEST].decode(errors="ignore").strip("._-") or "film"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def window_id(film: str, window: Window) -> str:
    """The ID of a window of a film by its name."""
    return f"{film}_{window.start:06d}_{window.face}"


def survey_file(film: str) -> str:
    """The file of the survey of a film by its name."""
    return f"{film}.film.npz"


def mark_of(film: Film, options: Any) -> str:
    """Says by which file, as it is now, and how a survey was made."""
    files = [Path(film.source)] if not film.pictures else list(film.pictures)
    return to_json(
        {
            "version": __version__,
            "source": film.source,
            "fingerprint": film.fingerprint(),
            "modified": max(file.stat().st_mtime_ns for file in files),
            "options": options,
        }
    )


def is_of(mark: str, source: str, options: Any) -> bool:
    """Whether a mark is of a film by its source, however it is now, and of these options."""
    about = json.loads(mark)
    return about["source"] == source and about["options"] == json.loads(to_json(options))


def fingerprint_of(mark: str) -> str:
    """The fingerprint of the film that a mark is of."""
    return json.loads(mark)["fingerprint"]


def write_survey(path: Path, mark: str, survey: Survey) -> None:
    """Writes the survey of a film."""
    about = {
        "mark": mark,
        "windows": {id: [w.face, w.start] for id, w in survey.windows.items()},
        **{name: getattr(survey, name) for name in ("size", "frames", "unused", "ends")},
    }
    arrays: dict[str, np.ndarray] = {}
    for number, window in enumerate(survey.windows.values()):
        arrays |= {f"times_{number}": window.times, f"boxes_{number}": window.boxes}
    _write(path, about, arrays)


def read_survey(path: Path) -> tuple[str, Survey] | None:
    """The mark and the survey in a file; None if there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            windows = {
                id: Window(
                    face=face,
                    start=start,
                    times=arrays[f"times_{number}"],
                    boxes=arrays[f"boxes_{number}"],
                )
                for number, (id, (face, start)) in enumerate(about["windows"].items())
            }
        rest = {name: about[name] for name in ("frames", "unused", "ends")}
        rest |= {"size": tuple(about["size"]), "film": fingerprint_of(about["mark"])}
        return about["mark"], Survey(windows=windows, **rest)
    except _BROKEN:
        return None


def write_findings(path: Path, findings: Findings) -> None:
    """Writes what the members find in a window."""
    names = ("points", "spread", "ok", "brightness")
    arrays = {name: getattr(findings, name) for name in names}
    _write(path, {"marks": findings.marks}, arrays)


def read_findings(path: Path, frames: int) -> Findings | None:
    """What is in a file of a window of so many frames; None if there is none of them."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            marks = tuple(json.loads(str(arrays["about"]))["marks"])
            names = ("points", "spread", "ok", "brightness")
            found = Findings(marks=marks, **{name: arrays[name] for name in names})
        return found if found.points.shape[:2] == (len(marks), frames) else None
    except _BROKEN:
        return None


def _write(path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, about=np.array(to_json(about)), **arrays)
    write_whole(path, file.getvalue())
