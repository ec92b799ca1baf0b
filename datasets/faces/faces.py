"""TFDS builder of labelled faces of your own: a folder of pictures and a file of landmarks."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from problems import Problem, Report
from stills import check_geometry, face_info, read_numbers, read_picture

from faces.landmark_files import Row, read_rows
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import KNOWN_SCHEMAS, LandmarkSchema, get_schema
from ldeq_jax.media import files


@dataclasses.dataclass(kw_only=True)
class FacesConfig(tfds.core.BuilderConfig):
    """What the landmarks mean, and how faces are divided; see `Faces.options`.

    Attributes:
        schema: meaning of the landmarks.
        person: regular expression; its first group, or all that it finds in a picture's name, says
            who it is; "" takes each picture for another person.
        validation_share: share of the people in the split "validation", in [0, 1).
        test_share: share of the people in the split "test", in [0, 1).
        seed: which people come into which split.
    """

    schema: LandmarkSchema
    person: str
    validation_share: float
    test_share: float
    seed: int


class Faces(tfds.core.GeneratorBasedBuilder):
    """Faces in pictures, with landmarks of any schema; README.md describes files and features."""

    name = "faces"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Labelled faces of your own. The NAME in faces/NAME is yours to choose.
  images/          pictures
  landmarks.npz    names (N,) text, paths below images/;
                   landmarks (N, K, 2) pixels, x then y, the first pixel's centre at (0, 0);
                   optional: splits (N,) text, the split of each face
or, in place of landmarks.npz,
  landmarks.csv    the first line name,x0,y0,x1,y1,... and optional split; then a line per face"""

    @classmethod
    def with_options(cls, name: str, arguments: Sequence[str]) -> type[Faces]:
        """The builder of a data set faces/NAME.

        Args:
            name: the NAME; a wrong one ends the program, as do wrong arguments.
            arguments: of `options`.

        Raises:
            UserError: there is no such schema.
        """
        parser = cls.options()
        chosen = parser.parse_args(arguments)
        if not re.fullmatch(r"[A-Za-z][\w-]*", name):
            parser.error("give the data set a name of letters and digits: ldeq build faces/NAME")
        if chosen.validation_share + chosen.test_share >= 1:
            parser.error("--validation_share and --test_share leave nobody to train on")
        chosen.schema = get_schema(chosen.schema)

        class Configured(cls, skip_registration=True):
            BUILDER_CONFIGS = [FacesConfig(name=name, **vars(chosen))]

        Configured.name = cls.name
        return Configured

    @staticmethod
    def options() -> argparse.ArgumentParser:
        """The options that `ldeq build faces/NAME` takes beside the usual ones."""
        parser = argparse.ArgumentParser(
            prog="ldeq build faces/NAME", add_help=False, usage="%(prog)s"
        )
        group = parser.add_argument_group("options of faces/NAME")
        group.add_argument(
            "--schema",
            required=True,
            help="meaning of the landmarks: wflw_98, ibug_68, fgnet_68, or a .json file with name, "
            "num_landmarks, pairs (that swap in a mirror) and eye_corners (the two outer ones)",
        )
        group.add_argument(
            "--person",
            type=_pattern,
            default="",
            metavar="REGEX",
            help="what in a picture's name says who it is, as a regular expression, such as "
            "'^[0-9]+' for 001a02.jpg or '(.*)_' for Jane_Doe_7.jpg; a person is in one split only "
            "(default: the whole name)",
        )
        share = {"type": _share, "default": 0.1, "metavar": "SHARE"}
        group.add_argument(
            "--validation_share",
            **share,
            help="share of the people in the split validation, unless the file of landmarks has "
            "splits (default: %(default)s)",
        )
        group.add_argument("--test_share", **share, help="likewise for the split test")
        group.add_argument(
            "--seed", type=int, default=0, help="of the draw of people (default: %(default)s)"
        )
        return parser

    def _info(self) -> tfds.core.DatasetInfo:
        schema = self.builder_config.schema
        return face_info(
            self,
            schema=schema.name if schema in KNOWN_SCHEMAS else dataclasses.asdict(schema),
            num_landmarks=schema.num_landmarks,
            attribute_names=(),
            homepage=None,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        self.report = Report()
        root = Path(dl_manager.manual_dir)
        self._images = root / "images"
        if not self._images.is_dir():
            raise UserError(f"no folder {self._images}: the pictures must be in it")
        rows = read_rows(root, self.builder_config.schema)
        self._num_faces = collections.Counter(row.name for row in rows)
        self._note_unlabelled()
        return self.report.nonempty(
            {split: self._generate_examples(split, r) for split, r in self._divide(rows).items()}
        )

    def _generate_examples(self, split: str, rows: list[Row]) -> Iterator[tuple[str, dict]]:
        return self.report.usable(split, rows, self._read_face)

    def _read_face(self, split: str, row: Row) -> tuple[str, dict]:
        if not self._person(row.name):
            detail = f"{row.name} does not fit --person={self.builder_config.person}"
            raise Problem(row.where, "no person in the name", detail)
        expected = 2 * self.builder_config.schema.num_landmarks
        if len(row.numbers) != expected:
            detail = f"expected {expected} coordinates, found {len(row.numbers)}"
            raise Problem(row.where, "wrong number of values", detail)
        landmarks = read_numbers(row.numbers, row.where).reshape(-1, 2)
        image, size = read_picture(self._images / row.name, row.where)
        box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
        if not check_geometry(landmarks, box, size, row.where):
            self.report.warn(split, "landmark outside the picture")
        name = row.name + (f"#{row.number}" if self._num_faces[row.name] > 1 else "")
        return name, {
            "image": image,
            "landmarks": landmarks,
            "box": box,
            "attributes": np.zeros(0, bool),
            "name": name,
        }

    def _person(self, name: str) -> str:
        """Who is in the picture of a name; "" if the name does not say so."""
        found = re.search(self.builder_config.person or ".+", name)
        return (found[found.re.groups and 1] or "") if found else ""

    def _divide(self, rows: list[Row]) -> dict[str, list[Row]]:
        """The faces of each split: the file's own splits, or people drawn at random."""
        config = self.builder_config
        people = {row.name: self._person(row.name) for row in rows}
        split_of = draw_splits(
            set(people.values()) - {""},
            {"validation": config.validation_share, "test": config.test_share},
            config.seed,
        )
        by_split: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
        for row in rows:
            split = row.split or split_of.get(people[row.name], "train")
            by_split.setdefault(split, []).append(row)
        by_split = {split: chosen for split, chosen in by_split.items() if chosen}
        met = {split: {people[row.name] for row in rows} for split, rows in by_split.items()}
        if config.person:
            self.report.note("people: " + ", ".join(f"{len(p)} in {s}" for s, p in met.items()))
        counts = collections.Counter(person for found in met.values() for person in found)
        if several := sorted(person for person, n in counts.items() if person and n > 1):
            self.report.note(f"in more than one split: {_some(several)}")
        return by_split

    def _note_unlabelled(self) -> None:
        labelled = {files.fold_name(name) for name in self._num_faces}
        paths = [path for path in sorted(self._images.rglob("[!.]*")) if path.is_file()]
        names = [path.relative_to(self._images).as_posix() for path in paths]
        if lost := [name for name in names if files.fold_name(name) not in labelled]:
            self.report.note(f"files in {self._images} without landmarks: {_some(lost)}")


def draw_splits(people: Iterable[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Draws people for the splits; most of them keep their split when others are added.

    Args:
        people: who there is.
        shares: of the people, by split; a share above 0 gets at least one.
        seed: of the draw.

    Returns:
        The split of each person, "train" for those who were not drawn.
    """
    digests = {p: hashlib.sha256(f"{seed} {p}".encode()).digest() for p in people}
    order = sorted(digests, key=digests.__getitem__)
    split_of = dict.fromkeys(order, "train")
    for split, share in shares.items():
        count = max(1, round(share * len(digests))) if share else 0
        split_of |= dict.fromkeys(order[:count], split)
        del order[:count]
    return split_of


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from error
    return text


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"must be 0 or more and below 1, got {share}")
    return share


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
