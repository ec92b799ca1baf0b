"""What is measured on videos: the videos of a split as they are scored, and their scores."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.data.sources import VideoSource
from ldeq_jax.errors import UserError
from ldeq_jax.evaluation.labels import Labels, face_size
from ldeq_jax.evaluation.scores import Scores, VideoScores
from ldeq_jax.evaluation.settings import ALONE, Setting


class Split:
    """The videos of a split, their masks without the frames whose labels have no size.

    No error can be measured in such a frame: its eye corners coincide, or all its points lie on one
    point or on a horizontal or vertical line.

    Args:
        source: the videos.
        eye_corners: indices of the outer eye corners among the labelled landmarks.
    """

    def __init__(self, source: VideoSource, eye_corners: tuple[int, int]):
        self.source, self._eye_corners = source, eye_corners

    def __len__(self) -> int:
        return len(self.source)

    def video(self, index: int) -> tuple[dict[str, Any], int]:
        """Annotation of a video, as `VideoSource.annotation` gives it, with that mask.

        Returns:
            The annotation, and how many frames were taken out of the mask.
        """
        video = self.source.annotation(index)
        (left, right), mask = self._eye_corners, video["mask"]
        target = np.asarray(video["landmarks"], np.float64)
        eyes = np.linalg.norm(target[:, left] - target[:, right], axis=-1)
        degenerate = mask & ((eyes == 0) | (face_size(target)[:, 0, 0] == 0))
        return video | {"mask": mask & ~degenerate}, int(degenerate.sum())

    def num_chunks(self, batch_size: int, chunk_frames: int) -> int:
        """Number of chunks that `data.videos.video_chunks` makes of it."""
        lengths = sorted(self.source.lengths.tolist(), reverse=True)
        return sum(-(-longest // chunk_frames) for longest in lengths[::batch_size])


class Measured(NamedTuple):
    """Everything that was measured on one split.

    A video counts where the frames solved alone can be measured: it has two labelled frames in a
    row, and a crop of the face in each labelled frame. What a method leaves out in a video that
    counts makes its means NaN, so that all means are over the same videos.

    Attributes:
        split: its videos.
        indices: (V,) numbers of those that count, ascending.
        labels: how they are scored.
        scores: by setting.
        frames_per_second: of the settings that evaluate the map, all hosts together; NaN where not
            measured.
        jitter: (V,) NMF that the labels' own jitter is estimated to add; NaN where unknown.
        motion: (V, S) how much each of `fidelity.SIGNALS` moves in the labels; 0 where it rests.
        attributes: (V, A) bool.
        num_frames: (V,) number of frames that count.
        tracks: name of each video to show to its landmarks (T, K', 2) by setting, frame pixels.
        frames_left_out: name of a video to its number of labelled frames without a size; videos
            without such frames are not named.
        by_landmark: of the model's settings, (K, 2) mean over the videos of each landmark's error,
            a fraction of the eye distance, and flicker; NaN for landmarks that do not count. A
            subset has none.
    """

    split: Split
    indices: np.ndarray
    labels: Labels
    scores: dict[Setting, Scores]
    frames_per_second: dict[Setting, float]
    jitter: np.ndarray
    motion: np.ndarray
    attributes: np.ndarray
    num_frames: np.ndarray
    tracks: dict[str, dict[Setting, np.ndarray]]
    frames_left_out: dict[str, int]
    by_landmark: dict[Setting, np.ndarray]

    @property
    def mean_jitter(self) -> float:
        """Mean of `jitter` over the videos where it is known, NaN if there is none."""
        return mean_of_known(self.jitter)

    @property
    def left_out(self) -> list[str]:
        """Names of the videos that do not count."""
        counted = set(self.indices.tolist())
        return [name for i, name in enumerate(self.split.source.names) if i not in counted]

    def subsets(self) -> dict[str, "Measured"]:
        """The videos with each attribute that some but not all of those that count have."""
        names = self.split.source.attribute_names
        return {
            name: self._replace(
                indices=self.indices[members],
                scores={
                    setting: Scores(*(field[members] for field in scores))
                    for setting, scores in self.scores.items()
                },
                jitter=self.jitter[members],
                motion=self.motion[members],
                attributes=self.attributes[members],
                num_frames=self.num_frames[members],
                by_landmark={},
            )
            for name, members in zip(names, self.attributes.T, strict=True)
            if members.any() and not members.all()
        }


def collect(
    split: Split,
    labels: Labels,
    videos: Mapping[int, VideoScores],
    frames_per_second: dict[Setting, float],
    tracks: dict[str, dict[Setting, np.ndarray]],
) -> Measured:
    """Puts the scores of the videos that count together.

    Args:
        split: its videos.
        labels: how they were scored.
        videos: number of each video of the split to what was measured on it.
        frames_per_second: see `Measured`.
        tracks: see `Measured`.

    Raises:
        UserError: no video counts.
    """
    alone = [videos[index].scores[ALONE] for index in range(len(split))]
    indices = np.flatnonzero(np.isfinite([scores.nme + scores.nmf for scores in alone]))
    if not len(indices):
        raise UserError(
            f"no video of {split.source.where} can be measured: each has a labelled frame without "
            "landmarks (is its face box missing?), or no two labelled frames in a row"
        )
    counted = [videos[int(index)] for index in indices]
    left_out = {
        name: videos[index].frames_left_out for index, name in enumerate(split.source.names)
    }
    return Measured(
        split=split,
        indices=indices,
        labels=labels,
        scores={
            setting: Scores(
                *map(np.array, zip(*(video.scores[setting] for video in counted), strict=True))
            )
            for setting in counted[0].scores
        },
        frames_per_second=frames_per_second,
        jitter=np.array([video.jitter for video in counted]),
        motion=np.array([video.motion for video in counted]),
        attributes=np.array([video.attributes for video in counted]),
        num_frames=np.array([video.num_frames for video in counted]),
        tracks=tracks,
        frames_left_out={name: count for name, count in left_out.items() if count},
        by_landmark={
            setting: np.mean([video.by_landmark[setting] for video in counted], axis=0)
            for setting in counted[0].by_landmark
        },
    )


def mean_of_known(values: np.ndarray) -> float:
    """Mean of the values that are finite, NaN if none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan
