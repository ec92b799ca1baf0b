"""TFDS builder of 300-W: faces with 68 landmarks, in the iBUG folder layout."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from problems import Problem, Report
from stills import check_geometry, face_info, read_lines, read_numbers, read_picture

from ldeq_jax.media import files

SOURCES = ("afw", "helen", "lfpw", "ibug")
SPLITS = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "test_common": ("helen/testset", "lfpw/testset"),
    "test_helen": ("helen/testset",),
    "test_lfpw": ("lfpw/testset",),
    "test_challenging": ("ibug",),
    "test_full": ("helen/testset", "lfpw/testset", "ibug"),
}
NUM_LANDMARKS = 68
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class _Face:
    """The files of one face; one of the two may be missing."""

    points: Path | None
    picture: Path | None


class Ibug300w(tfds.core.GeneratorBasedBuilder):
    """300-W faces; splits and features are described in README.md."""

    name = "ibug_300w"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
From https://ibug.doc.ic.ac.uk/resources/300-W/ download AFW, HELEN, LFPW and, if possible, iBUG:
  afw/               NAME.jpg or NAME.png, each with NAME.pts
  helen/trainset/    the same
  helen/testset/     the same
  lfpw/trainset/     the same
  lfpw/testset/      the same
  ibug/              the same; optional: test_challenging and test_full need it
A .pts file holds "n_points: 68" and, between braces, one landmark "x y" per line,
counted from 1."""

    def _info(self) -> tfds.core.DatasetInfo:
        return face_info(
            self,
            schema="ibug_68",
            num_landmarks=NUM_LANDMARKS,
            attribute_names=SOURCES,
            homepage="https://ibug.doc.ic.ac.uk/resources/300-W/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        self.report = Report()
        root = Path(dl_manager.manual_dir)
        faces = {
            folder: _faces(root / folder)
            for folder in dict.fromkeys(f for folders in SPLITS.values() for f in folders)
        }
        splits = {
            split: [face for f in folders for face in faces[f]] for split, folders in SPLITS.items()
        }
        if not faces["ibug"]:
            del splits["test_challenging"], splits["test_full"]
            self.report.note(f"test_challenging and test_full are left out: no {root / 'ibug'}")
        for split in splits:
            empty = [str(root / folder) for folder in SPLITS[split] if not faces[folder]]
            if 0 < len(empty) < len(SPLITS[split]):
                self.report.note(f"{split} is built without {', '.join(empty)}: missing or empty")
        self._root = root
        return self.report.nonempty(
            {split: self._generate_examples(split, files) for split, files in splits.items()}
        )

    def _generate_examples(self, split: str, faces: list[_Face]) -> Iterator[tuple[str, dict]]:
        return self.report.usable(split, faces, self._read_face)

    def _read_face(self, split: str, face: _Face) -> tuple[str, dict]:
        points, picture = face.points, face.picture
        if points is None:
            where = picture.with_suffix(".pts")
            raise Problem(where, "picture without landmarks", "there is no such .pts file")
        landmarks = read_points(points)
        if picture is None:
            detail = f"no {points.stem}.jpg or .png beside it"
            raise Problem(points, "missing picture", detail)
        image, size = read_picture(picture, str(points))
        box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
        if not check_geometry(landmarks, box, size, str(points)):
            self.report.warn(split, "landmark outside the picture")
        name = picture.relative_to(self._root).as_posix()
        source = name.split("/")[0]
        return name, {
            "image": image,
            "landmarks": landmarks,
            "box": box,
            "attributes": np.array([source == s for s in SOURCES]),
            "name": name,
        }


def read_points(path: Path) -> np.ndarray:
    """Landmarks of a .pts file, (68, 2) float32, shifted from 1-based to 0-based pixels.

    Raises:
        Problem: the file is not 68 lines of two finite numbers between braces.
    """
    lines = read_lines(path)
    braces = [i for i, (_, line) in enumerate(lines) if line.strip() in ("{", "}")]
    if len(braces) != 2:
        raise Problem(path, "not a .pts file", "landmarks must be between a line { and a line }")
    rows = lines[braces[0] + 1 : braces[1]]
    points = []
    for number, line in rows:
        where = f"{path}:{number}"
        words = line.split()
        if len(words) != 2:
            raise Problem(
                where, "wrong number of values", f"expected x and y, found {line.strip()!r}"
            )
        points.append(read_numbers(words, where))
    if len(points) != NUM_LANDMARKS:
        where = f"{path}:{rows[-1][0] if rows else lines[braces[0]][0]}"
        detail = f"expected {NUM_LANDMARKS} landmarks, found {len(points)}"
        raise Problem(where, "wrong number of landmarks", detail)
    return np.stack(points) - 1


def _faces(folder: Path) -> list[_Face]:
    """The faces of a folder, sorted by name, including those without picture or landmarks.

    A picture and landmarks belong together if their names differ only in the suffix, in upper or
    lower case. A file left over is paired with the only other one whose name differs only in case
    or Unicode form.
    """
    if not folder.is_dir():
        return []
    by_stem: dict[str, dict[str, Path]] = collections.defaultdict(dict)
    for file in sorted(folder.iterdir()):
        by_stem[file.stem][file.suffix.lower()] = file
    faces, single = [], collections.defaultdict(list)
    for stem, found in by_stem.items():
        picture = next((found[suffix] for suffix in PICTURE_SUFFIXES if suffix in found), None)
        face = _Face(found.get(".pts"), picture)
        if face.points and face.picture:
            faces.append(face)
        elif face.points or face.picture:
            single[files.fold_name(stem)].append(face)
    for several in single.values():
        points = [face.points for face in several if face.points]
        pictures = [face.picture for face in several if face.picture]
        if len(points) == len(pictures) == 1:
            several = [_Face(points[0], pictures[0])]
        faces += several
    return sorted(faces, key=lambda face: (face.picture or face.points).with_suffix(""))
