"""TFDS builder of clips with exact landmarks, made from the stills of another data set."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from built import read_built
from problems import Problem, Report
from videos import VideoBuilder, video_info

from ldeq_jax.media import pictures
from moving_faces.actor import NoActorError
from moving_faces.clip import face_of, make_clip
from moving_faces.difficulty import EASY, FPS, HARD, SPEAKING, TAKES, Difficulty
from moving_faces.sensor import compress

ATTRIBUTES = ("easy", "hard", "occluded")
SEED = 0
SMALLEST_FACE = 40  # larger side of the landmark extent in the still, pixels


@dataclasses.dataclass
class MovingFacesConfig(tfds.core.BuilderConfig):
    """How the clips are made.

    Attributes:
        difficulty: how camera, light, sensor and face tracker behave.
        clips: most clips per split.
        splits: splits of the stills that are filmed; () for all.
    """

    difficulty: Difficulty = EASY
    clips: int = 60
    splits: tuple[str, ...] = ()


class MovingFaces(VideoBuilder):
    """Clips made from stills; README.md describes how."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.1.0": "The metadata lists the names and lengths of the videos.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = [
        MovingFacesConfig(name="easy", description="Gentle motion, good light.", difficulty=EASY),
        MovingFacesConfig(
            name="hard",
            description="Fast motion, blur, noise, changing light, objects in front of the face.",
            difficulty=HARD,
        ),
        MovingFacesConfig(
            name="speaking",
            description="Heads that turn, speak and blink; for stills with the 68 iBUG points.",
            difficulty=SPEAKING,
        ),
        MovingFacesConfig(
            name="takes",
            description="Short takes of every training face, for training on clips that speak.",
            difficulty=TAKES,
            clips=100_000,
            splits=("train",),
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Nothing to download: --manual_dir is a data set of stills that was built before, such as
  DATA/ibug_300w/1.0.0    or    DATA/wflw/official/1.0.0
Each split of the stills gives a split of clips of the same name."""

    def _info(self) -> tfds.core.DatasetInfo:
        # Schema and number of landmarks are the stills', which are not known yet.
        return video_info(
            self,
            schema="",
            num_landmarks=None,
            attribute_names=ATTRIBUTES,
            num_frames=self.builder_config.difficulty.num_frames,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        self.report = Report(unit="video")
        folder = Path(dl_manager.manual_dir)
        try:
            stills = read_built(folder, {"image", "landmarks", "name"}, "stills")
            self._check_schema(folder, stills)
        except Problem as problem:
            self.report.note(str(problem))
            return self.report.nonempty({})
        self.info.metadata["schema"] = stills.info.metadata["schema"]
        self.info.metadata["source"] = stills.info.full_name
        encoded = {"image": tfds.decode.SkipDecoding()}
        faces = {
            split: stills.as_data_source(split, decoders=encoded)
            for split, info in stills.info.splits.items()
            if info.num_examples and split in (self.builder_config.splits or stills.info.splits)
        }
        most = self.builder_config.clips
        if any(len(source) > most for source in faces.values()):
            self.report.note(f"at most {most} clips per split; the faces are chosen by their names")
        return self.report.nonempty(
            {split: self._generate_examples(split, source) for split, source in faces.items()}
        )

    def _check_schema(self, folder: Path, stills: tfds.core.DatasetBuilder) -> None:
        schema = stills.info.metadata["schema"]
        if self.builder_config.difficulty.head and schema != "ibug_68":
            detail = f"they are {schema}, a head is fitted to ibug_68; build easy or hard instead"
            raise Problem(folder, "landmarks that do not suit", detail)

    def _generate_examples(self, split: str, source) -> Iterator[tuple[str, dict]]:
        # The order depends on the names alone, so the faces taken are a random part of the split.
        names = [source[index]["name"] for index in range(len(source))]
        order = sorted(range(len(names)), key=lambda index: hashlib.sha256(names[index]).digest())
        return self.report.usable(
            split,
            order,
            lambda split, index: self._film(split, source[index]),
            most=self.builder_config.clips,
        )

    def _film(self, split: str, face: dict) -> tuple[str, dict]:
        name, landmarks = face["name"].decode(), face["landmarks"]
        still = pictures.decode_stored(face["image"])
        where = f"{split}, {name}"
        if still is None:
            raise Problem(where, "unreadable picture", "build the stills again")
        size = still.shape[1::-1]
        if not ((landmarks >= -0.5) & (landmarks <= np.array(size) - 0.5)).all():
            detail = "a clip would show parts that the picture lacks"
            raise Problem(where, "face not completely in the picture", detail)
        side = face_of(landmarks[None])[0, 2]
        if side < SMALLEST_FACE:
            detail = f"{side:.0f} pixels, a clip needs {SMALLEST_FACE}"
            raise Problem(where, "face too small", detail)
        difficulty = self.builder_config.difficulty
        rng = np.random.default_rng([SEED, zlib.crc32(face["name"])])
        try:
            clip = make_clip(still, landmarks, difficulty, rng)
        except NoActorError as error:
            raise Problem(where, "the head cannot be moved", str(error)) from error
        self.report.count(split, "frames", len(clip.frames))
        return name, {
            "video": compress(clip.frames),
            "landmarks": clip.landmarks.astype(np.float32),
            "boxes": clip.boxes.astype(np.float32),
            "mask": np.ones(len(clip.frames), bool),
            "fps": FPS,
            "attributes": np.array([difficulty is EASY, difficulty is HARD, clip.occluded.any()]),
            "name": name,
        }
