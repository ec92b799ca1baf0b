"""The page that leads to the reports of several tracked films: `write_index`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ldeq_jax.errors import UserError, UserFileExistsError
from ldeq_jax.inference.track_report import percent_of
from ldeq_jax.media.films import Film
from ldeq_jax.report.html import Code, Page, Section, Table, Text, file_address, is_page, write_page

INDEX = "index.html"


def check_index(films: Sequence[Film], folder: Path, overwrite: bool) -> None:
    """Refuses to replace a page that is not ours, or a film's report, by the page of all films.

    Raises:
        UserError: it would.
    """
    index = folder / INDEX
    if any(film.name.as_posix().casefold() == index.stem for film in films):
        raise UserError(
            f"{INDEX} would be the page of all films and the report of the film index: rename it, "
            "or track it by itself"
        )
    if index.exists() and not overwrite and not is_page(index):
        raise UserFileExistsError(
            f"{index} exists and was not written by an earlier call: choose another --output, or "
            "--overwrite to replace it"
        )


def write_index(
    outputs: Mapping[str, Sequence[Path]],
    folder: Path,
    command: str,
    failed: Mapping[str, str] | None = None,
) -> None:
    """Writes the page that leads to the reports of several films, of those that have one.

    Nothing is written where none has.

    Args:
        outputs: by the film's source, all files of it, that of the numbers first.
        folder: of all films.
        command: with which they were tracked.
        failed: why, by the source of each film that failed.
    """
    numbers = {
        source: paths[0]
        for source, paths in outputs.items()
        if all(path.exists() for path in paths if path.suffix in (".npz", ".html"))
    }
    if numbers:
        write_page(folder / INDEX, index_page(numbers, folder, command, failed or {}))
        print(f"all reports: {folder / INDEX}")


def index_page(
    reports: Mapping[str, Path], folder: Path, command: str, failed: Mapping[str, str]
) -> Page:
    """The page that leads to the reports of several films.

    Args:
        reports: by the film's source, the file of its numbers, whose report is beside it.
        folder: where the page will be.
        command: with which they were tracked.
        failed: why, by the source of each film that failed.
    """
    rows, links, frames, faces = [], {}, 0, 0
    for source, numbers in reports.items():
        name = numbers.relative_to(folder).with_suffix("").as_posix()
        with np.load(numbers, allow_pickle=False) as arrays:
            found, face = arrays["frame"], arrays["face"]
            there = (face >= 0) & (arrays["status"] != "lost")
            complete = "yes" if arrays["complete"] else "no, broken off"
            if arrays["complete"] and "cut_short" in arrays and arrays["cut_short"]:
                complete = "no, the film is cut short"
        count, ids = len(np.unique(found)), len(np.unique(face[there]))
        rows.append(
            {
                "film": name,
                "frames": count,
                "with a face": percent_of(len(np.unique(found[there])), count),
                "faces (ids)": ids,
                "complete": complete,
                "source": source,
            }
        )
        links[name] = file_address(Path(f"{name}.html"))
        frames, faces = frames + count, faces + ids
    troubles = [Text(text=f"{source}: {why}", warning=True) for source, why in failed.items()]
    return Page(
        title=f"{len(rows)} tracked films",
        about="Each name leads to the report of the film.",
        figures={"films": str(len(rows)), "frames": str(frames), "faces (ids)": str(faces)},
        sections=[
            Section(title="Films", parts=[Table(caption="All films", rows=rows, links=links)]),
            Section(title="Films that failed", parts=troubles),
            Section(title="Command", parts=[Code(text=command)] if command else []),
        ],
    )
