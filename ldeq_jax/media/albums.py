"""Pictures to work on, as a user names them: files, and folders of files: `find_pictures`."""

import collections
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ldeq_jax.errors import UserError
from ldeq_jax.media import pictures

_SUFFIXES = ".jpg .jpeg .png .webp .bmp .tif .tiff .avif .heic .ppm .pgm".split()


class Shot(NamedTuple):
    """A picture that is not read yet.

    Attributes:
        path: of the file.
        name: path without ending of what is written of it, below some folder.
    """

    path: Path
    name: Path


def find_pictures(inputs: Sequence[Path], without: Path | None = None) -> list[Shot]:
    """The pictures that a user names.

    Args:
        inputs: files, and folders in which and below which all pictures are taken.
        without: folder to leave out of those that are searched, as what is written goes there.

    Returns:
        The pictures, each once, no name twice: where two would have one name, theirs keep the
        ending.

    Raises:
        UserFileNotFoundError: there is no such file.
        UserError: a file is no picture, or a folder holds none.
    """
    shots: dict[Path, Shot] = {}
    for given in inputs:
        if given.is_dir():
            found = list(_in_folder(given, without))
            if not found:
                raise UserError(f"{given} holds no picture")
        else:
            if (kind := pictures.kind_of(given)) != "picture":
                raise UserError(
                    f"{given} is no picture but {kind}: name it alone, or use ldeq track"
                )
            found = [Shot(given, Path(given.stem))]
        for shot in found:
            shots.setdefault(shot.path.resolve(), shot)
    return _distinct(list(shots.values()))


def _in_folder(folder: Path, without: Path | None) -> Iterator[Shot]:
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not (without and (here / name).resolve() == without.resolve())
        )
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and _is_picture(path):
                yield Shot(path, path.relative_to(folder).with_suffix(""))


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture; what is broken is one if its name says so."""
    try:
        return pictures.kind_of(path) == "picture"
    except (UserError, OSError):
        return path.suffix.lower() in _SUFFIXES


def _distinct(shots: Sequence[Shot]) -> list[Shot]:
    often = collections.Counter(shot.name for shot in shots)
    taken: set[Path] = set()
    distinct = []
    for path, name in shots:
        if often[name] > 1:
            name = name.with_name(path.name)
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = name.with_name(f"{name.name}_{number}")
        taken.add(unique)
        distinct.append(Shot(path, unique))
    return distinct
