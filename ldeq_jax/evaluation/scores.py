"""Scores of one video at every setting; also the landmarks of the filters, which are cheap."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.evaluation.labels import Labels, face_size
from ldeq_jax.evaluation.settings import Setting
from ldeq_jax.face import video_metrics
from ldeq_jax.face.filters import FILTERS, smooth

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
        num_evaluations=positive.mean() if len(positive) else np.float64(np.nan),
    )


def filtered(landmarks: np.ndarray, fps: float) -> dict[Setting, np.ndarray]:
    """Landmarks (T, K, 2) of frames solved alone, smoothed by every filter at all its settings."""
    known = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    # The face's size where it is first seen, as a live filter would have it.
    scale = face_size(known[:1]).sum() or 1.0
    return {
        Setting(kind.name, ", ".join(f"{name} {value:g}" for name, value in parameters.items())): (
            smooth(landmarks, kind.function, parameters, fps, scale=scale)
        )
        for kind in FILTERS
        for parameters in kind.grid
    }
