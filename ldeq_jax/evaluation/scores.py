"""Scores of one video at every setting; also the landmarks of the filters, which are cheap."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.evaluation.labels import Labels, face_size
from ldeq_jax.evaluation.settings import ALONE, FILTERS, Setting, is_alone
from ldeq_jax.face import fidelity, video_metrics
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
        amplitude: (V, S) amplitude of each of `fidelity.SIGNALS` against the labels; NaN where the
            labels rest or do not have it.
        lag: (V, S) seconds by which it is late; NaN likewise.
    """

    nme: np.ndarray
    nme_face: np.ndarray
    nmf: np.ndarray
    nad: np.ndarray
    num_evaluations: np.ndarray
    amplitude: np.ndarray
    lag: np.ndarray


class VideoScores(NamedTuple):
    """Everything that is kept of one video.

    Attributes:
        scores: by setting, without the axis V.
        jitter: NMF that the labels' own jitter is estimated to add; NaN where unknown.
        motion: (S,) how much each of `fidelity.SIGNALS` moves in the labels; 0 where it rests.
        attributes: (A,) bool.
        num_frames: number of frames that count.
        frames_left_out: number of labelled frames without a size.
        by_landmark: (K, 2) of `video_metrics.by_landmark`, of the model's settings.
    """

    scores: dict[Setting, Scores]
    jitter: float
    motion: np.ndarray
    attributes: np.ndarray
    num_frames: int
    frames_left_out: int
    by_landmark: dict[Setting, np.ndarray]


def score_video(
    video: Mapping[str, Any],
    frames_left_out: int,
    found: Mapping[Setting, Landmarks],
    labels: Labels,
    *,
    keep: bool = False,
) -> tuple[VideoScores, dict[Setting, np.ndarray]]:
    """Measures what the model's settings found in one video, and the filters of the frames alone.

    Args:
        video: its annotation of T frames.
        frames_left_out: number of labelled frames without a size.
        found: by setting, `ALONE` among them, landmarks of T frames or more.
        labels: how to compare.
        keep: return the landmarks.

    Returns:
        The scores, and by setting the landmarks (T, K', 2) in frame pixels if they are kept.
    """
    target, mask = np.asarray(video["landmarks"], np.float64), video["mask"]
    schema, counted = labels.schema, labels.counted
    signals = fidelity.signals(target, schema, counted=counted)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in signals}
    scores, landmarks, by_landmark = {}, {}, {}
    for setting, points, num_evaluations in _tracks(found, len(mask), video["fps"]):
        arranged = labels.arranged(points, target)
        scores[setting] = _score(arranged, target, mask, labels, num_evaluations)
        own = fidelity.signals(arranged, schema, reference=target, counted=counted)
        for name, signal in own.items():
            seen[name].append(signal)
        if setting in found:
            pair = arranged[None], target[None], mask[None]
            [of] = video_metrics.by_landmark(
                *pair, eye_corners=schema.eye_corners, landmarks=counted
            )
            by_landmark[setting] = of.astype(np.float32)
        if keep:
            landmarks[setting] = points

    amplitude = np.full((len(scores), len(fidelity.SIGNALS)), np.nan)
    lag, motion = amplitude.copy(), np.zeros(len(fidelity.SIGNALS))
    times = np.arange(len(mask)) / video["fps"]
    for column, name in enumerate(fidelity.SIGNALS):
        if name in signals:
            response = fidelity.response(np.stack(seen[name]), signals[name], times, mask)
            amplitude[:, column], lag[:, column], motion[column] = response
    jitter = video_metrics.label_jitter(target[None], mask[None], landmarks=counted)
    return VideoScores(
        scores={
            setting: one._replace(amplitude=amplitude[row], lag=lag[row])
            for row, (setting, one) in enumerate(scores.items())
        },
        jitter=float(jitter[0]),
        motion=motion,
        attributes=np.asarray(video["attributes"], bool),
        num_frames=int(mask.sum()),
        frames_left_out=frames_left_out,
        by_landmark=by_landmark,
    ), landmarks


def _score(
    arranged: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray,
    labels: Labels,
    num_evaluations: np.ndarray,
) -> Scores:
    """Scores of landmarks (T, K, 2) against labels, without amplitudes and lags.

    NaN for a video with a labelled frame that has no landmarks.
    """
    pair = arranged[None], target[None], mask[None]
    counted = labels.counted
    positive = num_evaluations[num_evaluations > 0]
    unknown = np.full(len(fidelity.SIGNALS), np.nan)
    return Scores(
        nme=video_metrics.video_nme(
            *pair, eye_corners=labels.schema.eye_corners, landmarks=counted
        )[0],
        nme_face=video_metrics.video_nme(*pair, landmarks=counted)[0],
        nmf=video_metrics.nmf(*pair, landmarks=counted)[0],
        nad=video_metrics.nad(*pair, LAGS, landmarks=counted)[0],
        num_evaluations=np.asarray(positive.mean() if len(positive) else np.nan),
        amplitude=unknown,
        lag=unknown,
    )


def _tracks(
    found: Mapping[Setting, Landmarks], num_frames: int, fps: float
) -> Iterator[tuple[Setting, np.ndarray, np.ndarray]]:
    """Landmarks and evaluations per frame of every setting, and of every filter of frames alone.

    Frames solved with fewer solver steps get the causal filters only: they are the ones that run
    live, where time is short.
    """
    for setting, one in found.items():
        points, evaluations = one.points[:num_frames], one.info.num_evaluations
        yield setting, points, evaluations
        if is_alone(setting):
            known = points[np.isfinite(points).all(axis=(1, 2))]
            # The face's size where it is first seen, as a live filter would have it.
            scale, spread = face_size(known[:1]).sum() or 1.0, one.spread[:num_frames]
            for kind in FILTERS:
                if kind.causal or setting == ALONE:
                    for parameters, track in kind.smooth_all(
                        points, fps, scale=scale, spread=spread
                    ):
                        values = ", ".join(f"{name} {v:g}" for name, v in parameters.items())
                        yield setting._replace(method=kind.name, values=values), track, evaluations
