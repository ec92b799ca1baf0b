"""TFDS builder of 300-W: faces with 68 landmarks, in the iBUG folder layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from faces import check_geometry, face_info, read_lines, read_numbers, read_picture
from problems import Problem, Report

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


class Ibug300w(tfds.core.GeneratorBasedBuilder):
    """300-W faces; splits and features are described in README.md."""

    name = "ibug_300w"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
From https://ibug.doc.ic.ac.uk/resources/300-W/ fetch AFW, HELEN, LFPW and, if you can, iBUG:
  afw/               NAME.jpg or NAME.png, each with NAME.pts
  helen/trainset/    the same
  helen/testset/     the same
  lfpw/trainset/     the same
  lfpw/testset/      the same
  ibug/              the same; optional: test_challenging and test_full need it
A .pts file holds "n_points: 68" and, between braces, one landmark "x y" a line, counted from 1."""

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
        stems = {
            folder: _stems(root / folder)
            for folder in dict.fromkeys(f for folders in SPLITS.values() for f in folders)
        }
        splits = {
            split: [s for f in folders for s in stems[f]] for split, folders in SPLITS.items()
        }
        if not stems["ibug"]:
            del splits["test_challenging"], splits["test_full"]
            self.report.note(f"test_challenging and test_full are left out: no {root / 'ibug'}")
        for split in splits:
            empty = [str(root / folder) for folder in SPLITS[split] if not stems[folder]]
            if 0 < len(empty) < len(SPLITS[split]):
                self.report.note(f"{split} is built without {', '.join(empty)}: not there or empty")
        self._root = root
        return self.report.nonempty(
            {split: self._generate_examples(split, files) for split, files in splits.items()}
        )

    def _generate_examples(self, split: str, stems: list[Path]) -> Iterator[tuple[str, dict]]:
        return self.report.usable(split, stems, self._read_face)

    def _read_face(self, split: str, stem: Path) -> tuple[str, dict]:
        points = stem.with_name(stem.name + ".pts")
        landmarks = read_points(points)
        picture = _picture_of(stem)
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
        Problem: the file is missing or is not 68 lines of two finite numbers between braces.
    """
    if not path.exists():
        raise Problem(path, "picture without landmarks", "there is no such .pts file")
    lines = read_lines(path)
    braces = [i for i, (_, line) in enumerate(lines) if line.strip() in ("{", "}")]
    if len(braces) != 2:
        raise Problem(path, "not a .pts file", "landmarks must stand between a line { and a line }")
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


def _stems(folder: Path) -> list[Path]:
    """Paths without suffix of all pictures and .pts files in a folder, sorted."""
    if not folder.is_dir():
        return []
    suffixes = (*PICTURE_SUFFIXES, ".pts")
    return sorted({f.with_suffix("") for f in folder.iterdir() if f.suffix.lower() in suffixes})


def _picture_of(stem: Path) -> Path:
    """The picture with this stem.

    Raises:
        Problem: there is none.
    """
    for suffix in PICTURE_SUFFIXES + tuple(s.upper() for s in PICTURE_SUFFIXES):
        picture = stem.with_name(stem.name + suffix)
        if picture.exists():
            return picture
    where = stem.with_name(stem.name + ".pts")
    raise Problem(where, "missing picture", f"no {stem.name}.jpg or .png beside it")
