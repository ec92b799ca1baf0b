"""Scores of one video at every setting; also the landmarks of the filters, which are cheap."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.evaluation.labels import Labels, face_size
from ldeq_jax.evaluation.settings import ALONE, FILTERS, Setting
from ldeq_jax.face import video_metrics
from ldeq_jax.face.landmarks import Landmarks

LAGS = (1, 2, 4, 8, 16)


class Scores(NamedTuple):
    """Measures of one setting: of V videos, or of one, without the axis V.

    Attributes:
        nme: (V,) mean error, fraction of the inter-ocular distance.
        nme_face: (V,) the same as a fraction of the face size, sqrt(w h).
        nmf: (V,) normalised mean flicker.
        nad: (V, L) Allan deviation at `LAGS`, fraction of the face size.
        num_evaluations: (V,) evaluations of the map per frame with a face.
    """

    nme: np.ndarray
    nme_face: np.ndarray
    nmf: np.ndarray
    nad: np.ndarray
    num_evaluations: np.ndarray


class VideoScores(NamedTuple):
    """Everything that is kept of one video.

    Attributes:
        scores: by setting, without the axis V.
        jitter: NMF that the labels' own jitter is estimated to add; NaN where unknown.
        attributes: (A,) bool.
        num_frames: number of frames that count.
        frames_left_out: number of labelled frames without a size.
    """

    scores: dict[Setting, Scores]
    jitter: float
    attributes: np.ndarray
    num_frames: int
    frames_left_out: int


def score_video(
    video: Mapping[str, Any],
    frames_left_out: int,
    found: Mapping[Setting, Landmarks],
    labels: Labels,
) -> tuple[VideoScores, dict[Setting, np.ndarray]]:
    """Measures what the model's settings found in one video, and the filters of the frames alone.

    Args:
        video: its annotation of T frames.
        frames_left_out: number of labelled frames without a size.
        found: by setting, `ALONE` among them, landmarks of T frames or more.
        labels: how to compare.

    Returns:
        The scores, and by setting the landmarks (T, K', 2) in frame pixels.
    """
    mask, evaluations = video["mask"], {s: one.info.num_evaluations for s, one in found.items()}
    landmarks = {setting: one.points[: len(mask)] for setting, one in found.items()}
    spread = found[ALONE].spread[: len(mask)]
    landmarks |= filtered(landmarks[ALONE], spread, video["fps"])
    jitter = video_metrics.label_jitter(
        video["landmarks"][None], mask[None], landmarks=labels.counted
    )
    scores = VideoScores(
        scores={
            setting: score(points, video, labels, evaluations.get(setting, evaluations[ALONE]))
            for setting, points in landmarks.items()
        },
        jitter=float(jitter[0]),
        attributes=np.asarray(video["attributes"], bool),
        num_frames=int(mask.sum()),
        frames_left_out=frames_left_out,
    )
    return scores, landmarks


def score(
    landmarks: np.ndarray, video: Mapping[str, Any], labels: Labels, num_evaluations: np.ndarray
) -> Scores:
    """Measures landmarks (T, K', 2) of one video against its annotation.

    Args:
        landmarks: frame pixels; NaN where there are none.
        video: its annotation.
        labels: how to compare.
        num_evaluations: (T,) or longer, 0 in frames without a face.

    Returns:
        Scores without the axis V: NaN for a video with a labelled frame that has no landmarks.
    """
    target = np.asarray(video["landmarks"], np.float64)
    pair = labels.arranged(landmarks, target)[None], target[None], video["mask"][None]
    counted = labels.counted
    positive = num_evaluations[num_evaluations > 0]
    return Scores(
        nme=video_metrics.video_nme(
            *pair, eye_corners=labels.schema.eye_corners, landmarks=counted
        )[0],
        nme_face=video_metrics.video_nme(*pair, landmarks=counted)[0],
        nmf=video_metrics.nmf(*pair, landmarks=counted)[0],
        nad=video_metrics.nad(*pair, LAGS, landmarks=counted)[0],
        num_evaluations=np.asarray(positive.mean() if len(positive) else np.nan),
    )


def filtered(
    landmarks: np.ndarray, spread: np.ndarray, fps: float
) -> Iterator[tuple[Setting, np.ndarray]]:
    """Landmarks of frames solved alone, smoothed by every filter at all its settings.

    Args:
        landmarks: (T, K, 2) frame pixels; NaN where there are none.
        spread: (T, K) standard deviation of each, frame pixels.
        fps: frames per second.
    """
    known = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    # The face's size where it is first seen, as a live filter would have it.
    scale = face_size(known[:1]).sum() or 1.0
    for kind in FILTERS:
        for parameters, track in kind.smooth_all(landmarks, fps, scale=scale, spread=spread):
            values = ", ".join(f"{name} {value:g}" for name, value in parameters.items())
            yield Setting(kind.name, values), track
