"""TFDS builder of WFLW: faces with 98 landmarks and six attributes."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from problems import Problem, Report
from stills import check_geometry, face_info, read_lines, read_numbers, read_picture

ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")  # same order
NUM_COORDINATES = 196
SAME_FACE_TOLERANCE = 0.01  # between the coordinates of one face in two lists


@dataclasses.dataclass
class WflwConfig(tfds.core.BuilderConfig):
    """Where one layout has its files, below the manual folder.

    Attributes:
        pictures: folder to which the picture paths of the lists are relative; {} is train or test.
        full_list: list of all faces; {} is train or test.
        subset_list: list of the test faces with one attribute; {} is one of `SUBSETS`.
        picture_word: position of the picture path among the words of a line.
    """

    pictures: str = ""
    full_list: str = ""
    subset_list: str = ""
    picture_word: int = -1


@dataclasses.dataclass(frozen=True)
class _Line:
    """One line of a list: one face."""

    file: Path
    number: int
    words: list[str]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


@dataclasses.dataclass(frozen=True)
class _Face:
    """Contents of a line; box and attributes are empty where the list has none."""

    name: str
    picture: Path
    coordinates: np.ndarray  # (98, 2)
    box: np.ndarray  # (4,) or (0,)
    attributes: np.ndarray  # (6,) or (0,)


class Wflw(tfds.core.GeneratorBasedBuilder):
    """WFLW faces, from the official files or from HIH's crops; README.md describes both."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        WflwConfig(
            name="official",
            description="Whole pictures and the official lists.",
            pictures="WFLW_images",
            full_list="WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{}.txt",
            subset_list="WFLW_annotations/list_98pt_test/list_98pt_test_{}.txt",
            picture_word=-1,
        ),
        WflwConfig(
            name="precropped",
            description="The 256 x 256 crops of the HIH project.",
            pictures="{}",
            full_list="{}.txt",
            subset_list="test_{}.txt",
            picture_word=0,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
official, from https://wywu.github.io/projects/LAB/WFLW.html, both archives unpacked side by side:
  WFLW_images/EVENT/NAME.jpg
  WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt, ..._test.txt
      one face per line: 196 coordinates, box x1 y1 x2 y2, six 0/1 attributes, EVENT/NAME.jpg
  WFLW_annotations/list_98pt_test/list_98pt_test_largepose.txt, ..._expression.txt,
      ..._illumination.txt, ..._makeup.txt, ..._occlusion.txt, ..._blur.txt
      one face per line: 196 coordinates, EVENT/NAME.jpg
precropped, the crops of the HIH project:
  train/NAME, test/NAME
  train.txt, test.txt, test_largepose.txt, test_expression.txt and so on
      one face per line: NAME, 196 coordinates from 0 to 1"""

    def _info(self) -> tfds.core.DatasetInfo:
        return face_info(
            self,
            schema="wflw_98",
            num_landmarks=NUM_COORDINATES // 2,
            attribute_names=ATTRIBUTES,
            homepage="https://wywu.github.io/projects/LAB/WFLW.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        self.report = Report()
        self._root = Path(dl_manager.manual_dir)
        config = self.builder_config
        files = {split: config.full_list.format(split) for split in ("train", "test")}
        files |= {f"test_{subset}": config.subset_list.format(subset) for subset in SUBSETS}
        lines = {}
        for split, file in files.items():
            path = self._root / file
            try:
                lines[split] = [_Line(path, n, text.split()) for n, text in read_lines(path)]
            except Problem as problem:
                self.report.note(f"{split} is not built: {problem}")
        self._occurrences = {
            split: collections.Counter(line.words[config.picture_word] for line in lines[split])
            for split in lines
        }
        self._test_faces = self._index(lines.get("test", []))
        return self.report.nonempty(
            {split: self._generate_examples(split, lines[split]) for split in lines}
        )

    def _generate_examples(self, split: str, lines: list[_Line]) -> Iterator[tuple[str, dict]]:
        return self.report.usable(split, lines, self._read_face)

    def _read_face(self, split: str, line: _Line) -> tuple[str, dict]:
        face = self._parse(split, line)
        if split not in ("train", "test"):
            face = self._in_test_list(face, line)
        image, size = read_picture(face.picture, line.where)
        if self.builder_config.name == "precropped":
            landmarks = face.coordinates * np.float32(size)
            box = np.array([0, 0, *size], dtype=np.float32)
        else:
            landmarks, box = face.coordinates, face.box
        if not check_geometry(landmarks, box, size, line.where):
            self.report.warn(split, "landmark outside the picture")
        return face.name, {
            "image": image,
            "landmarks": landmarks,
            "box": box,
            "attributes": face.attributes,
            "name": face.name,
        }

    def _parse(self, split: str, line: _Line) -> _Face:
        """Reads one line of the list of a split.

        Raises:
            Problem: wrong number of values, or a value that is not a number or not a 0/1 attribute.
        """
        official = self.builder_config.name == "official"
        full = split in ("train", "test")
        num_numbers = NUM_COORDINATES + (4 + len(ATTRIBUTES) if official and full else 0)
        if len(line.words) != num_numbers + 1:
            detail = (
                f"expected {num_numbers} numbers and a picture path, found {len(line.words)} words"
            )
            raise Problem(line.where, "wrong number of values", detail)
        words = list(line.words)
        word = words.pop(self.builder_config.picture_word)
        numbers = read_numbers(words, line.where)
        box, attributes = numbers[NUM_COORDINATES:][:4], numbers[NUM_COORDINATES:][4:]
        if not np.isin(attributes, (0, 1)).all():
            raise Problem(
                line.where, "attribute is not 0 or 1", f"found {words[-len(ATTRIBUTES) :]}"
            )
        if not official:
            members = [self._occurrences.get(f"test_{subset}", {}) for subset in SUBSETS]
            attributes = np.array([split != "train" and word in m for m in members])
        folder = self.builder_config.pictures.format("train" if split == "train" else "test")
        name = word if official else f"{folder}/{word}"
        if self._occurrences[split][word] > 1:
            name += f"#{line.number}"
        return _Face(
            name=name,
            picture=self._root / folder / word,
            coordinates=numbers[:NUM_COORDINATES].reshape(-1, 2),
            box=box,
            attributes=attributes.astype(bool),
        )

    def _index(self, lines: list[_Line]) -> dict[Path, list[_Face]]:
        """Faces of the test list by picture; the test split itself reports wrong lines."""
        faces = collections.defaultdict(list)
        for line in lines:
            try:
                face = self._parse("test", line)
            except Problem:
                continue
            faces[face.picture].append(face)
        return faces

    def _in_test_list(self, face: _Face, line: _Line) -> _Face:
        """The same face in the test list, which has its name, box and attributes.

        Raises:
            Problem: there is none.
        """
        for known in self._test_faces.get(face.picture, []):
            if np.abs(known.coordinates - face.coordinates).max() < SAME_FACE_TOLERANCE:
                return known
        test_list = self.builder_config.full_list.format("test")
        detail = f"no such picture with these landmarks in {test_list}"
        raise Problem(line.where, "face is not in the test list", detail)
