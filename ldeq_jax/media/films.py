"""Films to work on, as a user names them: files, folders of files, pictures in a row, cameras."""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.media import pictures
from ldeq_jax.media.video import VideoReader

_SAMPLE = 1 << 16  # bytes of a file that are read from its beginning, middle and end
_SUFFIXES = ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .mts .m2ts .ts .wmv .flv .ogv .3gp .mjpeg"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Film:
    """A film that is not open yet.

    Attributes:
        source: what messages call it: its path, or camera:N.
        name: path without ending of what is written of it, below some folder.
        pictures: files of its frames in their order; () if it is a video file or a camera.
        fps: frames per second of pictures.
    """

    source: str
    name: Path
    pictures: tuple[Path, ...] = ()
    fps: float = 25.0

    @property
    def file(self) -> Path | None:
        """The video file; None for pictures and cameras."""
        camera = _is_camera(self.source) and not Path(self.source).exists()
        return None if self.pictures or camera else Path(self.source)

    def open(self) -> VideoReader:
        """A reader of its frames.

        Raises:
            OSError: it cannot be read.
            UserError: it is no film, or is damaged.
        """
        if self.pictures:
            frames = functools.partial(_in_a_row, self.pictures, self.fps)
            reader = VideoReader(frames, name=self.source)
            reader.header_frames = len(self.pictures)
            return reader
        if _is_camera(self.source):
            return VideoReader(self.source)
        path = Path(self.source)
        kind = pictures.kind_of(path)
        if kind == "audio":
            raise UserError(
                f"{path} is sound without a video (a cover picture does not count): get it again "
                "with its pictures, or move it elsewhere"
            )
        if kind == "picture" and path.suffix.lower() != ".mjpeg":  # which begins like a picture
            raise UserError(
                f"{path} is a picture with the ending of a film: rename it and use ldeq predict, "
                "or move it elsewhere"
            )
        if kind == "animation":
            return VideoReader(functools.partial(pictures.animation_frames, path), name=str(path))
        return VideoReader(path)

    def fingerprint(self) -> str:
        """What a copy of the film has too, and a film that replaces it does not.

        Made of the sizes of all files, and of some bytes of the first, middle and last file, so it
        is found at once whatever the size.

        Returns:
            A short text; "" for a camera, and where a file cannot be read.
        """
        paths = self.pictures or (() if self.file is None else (self.file,))
        if not paths:
            return ""
        digest = hashlib.sha256()
        try:
            for path in paths:
                digest.update(b"%d," % path.stat().st_size)
            for path in (paths[0], paths[len(paths) // 2], paths[-1]):
                end = path.stat().st_size - _SAMPLE
                with path.open("rb") as file:
                    for start in (0, end // 2, end):
                        file.seek(max(0, start))
                        digest.update(file.read(_SAMPLE))
        except OSError:
            return ""
        return digest.hexdigest()


def find_films(
    inputs: Sequence[str], *, fps: float = 25.0, without: Path | None = None
) -> list[Film]:
    """The films that a user names.

    Args:
        inputs: each a video file or an animated picture; a folder, in which and below which all
            videos are taken, and all pictures of a folder that has no video, as one film in the
            order of their numbers; a name with a number in it, as frames/%04d.png; or camera:N.
            A file with the ending of a film is taken whatever it is: `Film.open` says what is wrong
            with it.
        fps: frames per second of pictures.
        without: folder to leave out of those that are searched, as what is written goes there.

    Returns:
        The films, no file and no name twice: where two files differ by their ending alone, their
        names keep it.

    Raises:
        UserError: there is no such file, it is a single picture, or a folder holds no film.
    """
    films: list[Film] = []
    for text in inputs:
        path = Path(text)
        if _is_camera(text) and not path.exists():
            films.append(Film(source=text, name=Path(text.replace(":", "_"))))
        elif path.is_dir():
            found = list(_in_folder(path, fps, without))
            if not found:
                raise UserError(f"{path} holds no video and no pictures in a row")
            films += found
        elif re.search(r"%0?\d*d", path.name) and not path.exists():
            films.append(_numbered(path, fps))
        elif not path.exists():
            raise UserFileNotFoundError(f"there is no file or folder {path}")
        elif _kind(path) == "picture":
            raise UserError(
                f"{path} is a picture: use ldeq predict, or name the folder of all frames of a film"
            )
        else:
            films.append(Film(source=text, name=Path(path.stem)))
    once: dict[str, Film] = {}
    for film in films:
        once.setdefault(film.source, film)
    return _distinct(list(once.values()))


def _in_folder(folder: Path, fps: float, without: Path | None) -> Iterator[Film]:
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not (without and _same(here / name, without))
        )
        files = [here / name for name in sorted(names, key=_by_number) if not name.startswith(".")]
        kinds = {path: _kind(path) for path in files}
        for path, kind in kinds.items():
            if kind in ("video", "animation", "misnamed"):
                yield Film(source=str(path), name=path.relative_to(folder).with_suffix(""))
        images = tuple(path for path, kind in kinds.items() if kind == "picture")
        if not {"video", "animation"} & set(kinds.values()) and len(images) > 1:
            inside = here.relative_to(folder)
            name = inside if inside.parts else Path(here.resolve().name or "pictures")
            yield Film(source=str(here), name=name, pictures=images, fps=fps)


def _numbered(path: Path, fps: float) -> Film:
    """Pictures whose names differ in a number, written as %d or %04d."""
    before, _, after = re.split(r"(%0?\d*d)", path.name, maxsplit=1)
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found = [other for other in path.parent.glob("*") if pattern.fullmatch(other.name)]
    if not found:
        raise UserFileNotFoundError(f"there are no pictures {path}")
    images = tuple(sorted(found, key=lambda other: _by_number(other.name)))
    name = Path(before.rstrip("_-. ") or path.absolute().parent.name or "pictures")
    return Film(source=str(path), name=name, pictures=images, fps=fps)


def _in_a_row(paths: Sequence[Path], fps: float) -> Iterator[tuple[np.ndarray | None, float]]:
    """Pictures as frames; None for one that is damaged."""
    for number, path in enumerate(paths):
        try:
            image = pictures.read_picture(path)
        except pictures.PictureError:
            image = None
        yield image, number / fps


def _kind(path: Path) -> str:
    """The kind of a file: that of `kind_of`, "misnamed" if its name alone says film, or ""."""
    named = path.suffix.lower() in _SUFFIXES.split()
    try:
        kind = pictures.kind_of(path)
    except (UserError, OSError):
        return "video" if named else ""
    return "misnamed" if named and kind in ("picture", "audio") else kind


def _distinct(films: Sequence[Film]) -> list[Film]:
    """The films with names of their own."""
    names = [film.name for film in films]
    taken: set[Path] = set()
    distinct = []
    for film in films:
        name = film.name
        if names.count(name) > 1 and not film.pictures and not _is_camera(film.source):
            name = name.with_name(Path(film.source).name)
        number = 1
        while name in taken:
            number += 1
            name = film.name.with_name(f"{film.name.name}_{number}")
        taken.add(name)
        distinct.append(dataclasses.replace(film, name=name))
    return distinct


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _is_camera(text: str) -> bool:
    return re.fullmatch(r"camera:\d+", text) is not None
