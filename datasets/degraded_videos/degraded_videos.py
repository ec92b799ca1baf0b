"""TFDS builder of videos that are made harder, from those of another data set."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from built import read_built
from moving_faces.sensor import compress
from problems import Problem, Report
from videos import VideoBuilder, video_info

from degraded_videos.degradation import EASY, HARD, Degradation
from degraded_videos.film import degrade
from ldeq_jax.errors import UserError
from ldeq_jax.media.video import VideoReader

FEATURES = {"video", "landmarks", "boxes", "mask", "fps", "attributes", "name"}
SEED = 0


@dataclasses.dataclass
class DegradedVideosConfig(tfds.core.BuilderConfig):
    """How hard the videos are made.

    Attributes:
        degradation: shake, light, sensor, compression and objects in front of the face.
    """

    degradation: Degradation = EASY


class DegradedVideos(VideoBuilder):
    """Videos made harder, their labels unchanged; README.md describes how."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        DegradedVideosConfig(
            name="easy",
            description="A little noise, flicker of light, shake and compression.",
            degradation=EASY,
        ),
        DegradedVideosConfig(
            name="hard",
            description="Noise, flicker of light, bursts of motion blur, low resolution, strong "
            "compression, objects in front of the face.",
            degradation=HARD,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Nothing to download: --manual_dir is a data set of videos that was built before, such as
  DATA/wflw_v/wflw_98/1.1.0    or    DATA/wflw_v/ibug_68/1.1.0
Each of its splits gives a split of the same name, with the same videos and labels."""

    def _info(self) -> tfds.core.DatasetInfo:
        # Schema, number of landmarks and attributes are the source's, which are not known yet.
        return video_info(self, schema="", num_landmarks=None, attribute_names=None)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        self.report = Report(unit="video")
        try:
            clean = read_built(Path(dl_manager.manual_dir), FEATURES, "videos")
        except Problem as problem:
            self.report.note(str(problem))
            return self.report.nonempty({})
        for field in ("schema", "attribute_names"):
            self.info.metadata[field] = clean.info.metadata[field]
        self.info.metadata["source"] = clean.info.full_name
        return self.report.nonempty(
            {
                split: self._generate_examples(split, clean.as_data_source(split))
                for split, info in clean.info.splits.items()
                if info.num_examples
            }
        )

    def _generate_examples(self, split: str, source) -> Iterator[tuple[str, dict]]:
        return self.report.usable(
            split, range(len(source)), lambda split, index: self._film(split, source[index])
        )

    def _film(self, split: str, video: dict) -> tuple[str, dict]:
        name = video["name"].decode()
        # By the name alone: a video is the same whatever else is built.
        rng = np.random.default_rng([SEED, zlib.crc32(video["name"])])
        try:
            reader = VideoReader(video["video"], name=name, square_pixels=False, threads=1)
            size = reader.width, reader.height
            degradation = self.builder_config.degradation
            frames = degrade(_pictures(reader), video["landmarks"], size, degradation, rng)
            film = compress(frames, float(video["fps"]))
        except UserError as error:
            detail = f"{error}; build the videos again"
            raise Problem(f"{split}, {name}", "unreadable video", detail) from error
        self.report.count(split, "frames", len(video["mask"]))
        return name, {**video, "video": film, "name": name}


def _pictures(reader: VideoReader) -> Iterator[np.ndarray]:
    """The frames; one that cannot be decoded, which does not count, repeats the one before."""
    last = np.zeros((reader.height, reader.width, 3), np.uint8)
    for image, _ in reader.frames():
        last = last if image is None else image
        yield last
