"""TFDS builder of WFLW-V, and of other labelled videos in the same layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from problems import Problem, Report
from stills import read_lines
from videos import VideoBuilder, check_labels, read_array, read_video, video_info

from ldeq_jax.media import files

SPLITS = ("easy", "hard")
_NOT_SQUARE = "pixels are not square; labels are read as pixels of the stored frames"


@dataclasses.dataclass
class WflwVConfig(tfds.core.BuilderConfig):
    """Which landmarks the files contain.

    Attributes:
        num_landmarks: K. The config's name is the schema, the meaning of the landmarks.
        homepage: where the data come from.
    """

    num_landmarks: int = 0
    homepage: str | None = None


@dataclasses.dataclass(frozen=True)
class _Listed:
    """One line of a list: one video. `first` is the first line with this name."""

    name: str
    where: str
    first: str


class WflwV(VideoBuilder):
    """Videos with one labelled face in all frames; README.md describes the features."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.1.0": "The metadata lists the names and lengths of the videos.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = [
        WflwVConfig(
            name="wflw_98",
            description="WFLW-V: 98 landmarks in WFLW's order.",
            num_landmarks=98,
            homepage="https://openaccess.thecvf.com/content/CVPR2023/html/Micaelli_Recurrence_Without_Recurrence_Stable_Video_Landmark_Detection_With_Deep_Equilibrium_CVPR_2023_paper.html",
        ),
        WflwVConfig(
            name="ibug_68",
            description="Other videos in the same layout: 68 landmarks in iBUG's order.",
            num_landmarks=68,
        ),
        WflwVConfig(
            name="fgnet_68",
            description="Other videos in the same layout: 68 landmarks in FGNET's order.",
            num_landmarks=68,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
WFLW-V (98 landmarks), or other videos in its layout (68 landmarks, iBUG's or FGNET's order):
  easy_video_IDs.txt, hard_video_IDs.txt    one ID per line; one of the two is enough
  videos/ID.mp4         a video of T frames
  landmarks/ID.npy      (T, K, 2) frame pixels, x then y, counted from 0
  bboxes/ID.npy         (T, 4) or longer rows: x1 y1 x2 y2
  masks/ID.npy          optional: (T,) bool, False for frames that do not count
IDs whose files are missing are counted and left out."""

    def _info(self) -> tfds.core.DatasetInfo:
        return video_info(
            self,
            schema=self.builder_config.name,
            num_landmarks=self.builder_config.num_landmarks,
            attribute_names=SPLITS,
            homepage=self.builder_config.homepage,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        self.report = Report(unit="video")
        self._root = Path(dl_manager.manual_dir)
        listed = {split: self._read_list(split) for split in SPLITS}
        self._names = {split: {video.name for video in listed[split]} for split in SPLITS}
        both = sorted(set.intersection(*self._names.values()))
        if both:
            names = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
            self.report.note(f"in both lists, so in both splits: {len(both)} videos ({names})")
        return self.report.nonempty(
            {
                split: self._generate_examples(split, videos)
                for split, videos in listed.items()
                if videos
            }
        )

    def _read_list(self, split: str) -> list[_Listed]:
        """The videos of a split; none, and a note, where the list is missing or empty."""
        path = self._root / f"{split}_video_IDs.txt"
        try:
            lines = read_lines(path)
        except Problem as problem:
            self.report.note(f"{split} is not built: {problem}")
            return []
        if not lines:
            self.report.note(f"{split} is not built: {path} is empty")
        first: dict[str, str] = {}
        videos = []
        for number, line in lines:
            name, where = line.strip(), f"{path}:{number}"
            videos.append(_Listed(name, where, first.setdefault(name, where)))
        return videos

    def _generate_examples(self, split: str, videos: list[_Listed]) -> Iterator[tuple[str, dict]]:
        return self.report.usable(split, videos, self._read_video)

    def _read_video(self, split: str, listed: _Listed) -> tuple[str, dict]:
        name = listed.name
        if listed.where != listed.first:
            detail = f"{name} is already in {listed.first}; delete one line"
            raise Problem(listed.where, "twice in one list", detail)
        movie = files.find_file(self._root / "videos" / f"{name}.mp4")
        points, rectangles, usable = (
            files.find_file(self._root / folder / f"{name}.npy")
            for folder in ("landmarks", "bboxes", "masks")
        )
        missing = [path for path in (movie, points, rectangles) if not path.is_file()]
        if missing:
            found = ", no ".join(path.relative_to(self._root).as_posix() for path in missing)
            raise Problem(listed.where, "missing files", f"no {found}")
        landmarks = self._check_landmarks(points, read_array(points))
        boxes = read_array(rectangles)
        if boxes.ndim != 2 or boxes.shape[1] < 4:
            detail = f"expected (T, 4) or longer rows x1 y1 x2 y2, found {boxes.shape}"
            raise Problem(rectangles, "wrong shape of boxes", detail)
        mask = read_array(usable) if usable.exists() else np.ones(len(landmarks), bool)
        if mask.ndim != 1 or mask.dtype != np.bool_:
            detail = f"expected (T,) bool, found {mask.shape} {mask.dtype}"
            raise Problem(usable, "wrong shape of mask", detail)
        video = read_video(movie)
        lengths = {movie: len(video.readable), points: len(landmarks), rectangles: len(boxes)}
        if usable.exists():
            lengths[usable] = len(mask)
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{path.parent.name} {length}" for path, length in lengths.items())
            detail = f"frames: {found}; download the files again; all must be of one release"
            raise Problem(movie, "frames and labels differ in number", detail)
        labels = check_labels(landmarks, boxes, mask & video.readable, video.size)
        oddities = dict(labels.oddities)
        if not video.readable.all():
            oddities["frame cannot be decoded, does not count"] = int((~video.readable).sum())
        if not labels.mask.any():
            found = [f"{n} x {kind}" for kind, n in oddities.items()]
            found += [f"{int((~mask).sum())} x left out by {usable}"] if not mask.all() else []
            detail = f"of {len(mask)} frames: {', '.join(found)}"
            raise Problem(points, "no frame that counts", detail)
        if abs(video.aspect - 1) > 0.01:  # less is rounding by the encoder
            oddities[_NOT_SQUARE] = len(mask)
        for kind, frames in oddities.items():
            problem = Problem(movie, kind, f"{frames} of {len(mask)} frames")
            self.report.warn_frames(split, problem, frames)
        self.report.count(split, "frames", len(mask))
        self.report.count(split, "of them count", int(labels.mask.sum()))
        return name, {
            "video": video.data,
            "landmarks": labels.landmarks,
            "boxes": labels.boxes,
            "mask": labels.mask,
            "fps": video.fps,
            "attributes": np.array([name in self._names[s] for s in SPLITS]),
            "name": name,
        }

    def _check_landmarks(self, path: Path, landmarks: np.ndarray) -> np.ndarray:
        """Returns the landmarks if their number is that of the config.

        Raises:
            Problem: it is not; the message names the configs that they would fit.
        """
        config = self.builder_config
        if landmarks.ndim == 3 and landmarks.shape[1:] == (config.num_landmarks, 2):
            return landmarks
        detail = f"{config.name} expects (T, {config.num_landmarks}, 2), found {landmarks.shape}"
        fitting = [
            f"{self.name}/{other.name}"
            for other in self.BUILDER_CONFIGS
            if landmarks.ndim == 3 and landmarks.shape[1:] == (other.num_landmarks, 2)
        ]
        if fitting:
            detail += f"; build {' or '.join(fitting)} instead"
        raise Problem(path, "wrong number of landmarks", detail)
