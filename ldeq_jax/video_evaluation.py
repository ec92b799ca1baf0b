"""Ways of making landmarks steady, compared on labelled videos: filters against recurrence."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ldeq_jax import metrics, report
from ldeq_jax.config import Config
from ldeq_jax.filters import FILTERS, smooth
from ldeq_jax.rwr import RwRConfig
from ldeq_jax.schema import LandmarkSchema
from ldeq_jax.video_inference import Track, compare
from ldeq_jax.videos import VideoSource, video_chunks

ALONE = "each frame alone"
LAGS = (1, 2, 4, 8, 16)


class Setting(NamedTuple):
    """One way to get landmarks.

    Attributes:
        method: the family it belongs to, such as "kalman" or "RwR, face".
        values: what tells it from the others of its family, such as "penalty 1, budget 0".
    """

    method: str
    values: str = ""

    def __str__(self) -> str:
        return f"{self.method} ({self.values})" if self.values else self.method


class Scores(NamedTuple):
    """Measures of one setting, a row a video.

    Attributes:
        nme: (V,) mean error, fraction of the inter-ocular distance.
        nme_face: (V,) the same as a fraction of the face size, sqrt(w h).
        nmf: (V,) normalised mean flicker.
        nad: (V, L) Allan deviation at `LAGS`, fraction of the face size.
        num_evaluations: evaluations of the map, mean over frames.
    """

    nme: np.ndarray
    nme_face: np.ndarray
    nmf: np.ndarray
    nad: np.ndarray
    num_evaluations: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """How predictions and labels of landmarks are held against each other.

    Attributes:
        schema: of the labels.
        points: index of a predicted landmark to that of the labelled one it is compared with; None
            compares all, in the same order.
        offset: (K, 2) mean of the predictions minus the labels, in units of the face size, to take
            off the predictions: what two schemes of annotation differ by.
    """

    schema: LandmarkSchema
    points: Mapping[int, int] | None = None
    offset: np.ndarray | None = None

    def arranged(self, landmarks: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Predictions (T, K', 2) as (T, K, 2) in the order of the labels, NaN where none is."""
        if self.points is None:
            result = np.array(landmarks, np.float64)
        else:
            result = np.full(target.shape, np.nan)
            result[:, list(self.points.values())] = landmarks[:, list(self.points)]
        return result if self.offset is None else result - self.offset * face_size(target)

    @property
    def counted(self) -> list[int] | None:
        """Labelled landmarks that count; None for all."""
        return None if self.points is None else sorted(self.points.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        recurrences: family to its settings by name; each is how a frame depends on the last.
        remove_offset: take the constant offset of each landmark off all predictions alike, measured
            on the frames solved alone.
        slack: a setting may be chosen when its NME on the tuning videos exceeds that of the frames
            solved alone by no more than this part.
        shown: names of videos to plot and to draw; the first one when empty.
        overlays: draw the shown videos with landmarks.
        chunk_frames: frames of a video that are on the device at a time.
    """

    recurrences: Mapping[str, Mapping[str, RwRConfig]]
    remove_offset: bool = False
    slack: float = 0.0
    shown: Sequence[str] = ()
    overlays: bool = False
    chunk_frames: int = 32


def recurrence_grid(
    budgets: Sequence[int],
    penalties: Sequence[float],
    follows: Sequence[float],
    aligns: Sequence[str],
    weighting: str = "uniform",
) -> dict[str, dict[str, RwRConfig]]:
    """Families of recurrence, one an alignment, and the paper's: warm start and early stopping."""
    families = {
        "RwR, early stopping": {
            f"budget {b}": RwRConfig(budget=b, penalty=0.0, align="none") for b in budgets
        }
    }
    for align in aligns:
        family = families[f"RwR, state moved by {align}" if align != "none" else "RwR"] = {}
        for budget in budgets:
            for follow in follows if align == "face" else (1.0,):
                for penalty in penalties:
                    name = f"penalty {penalty:g}, budget {budget}"
                    name += f", follow {follow:g}" if align == "face" else ""
                    family[name] = RwRConfig(
                        budget=budget,
                        penalty=penalty,
                        follow=follow,
                        align=align,
                        weighting=weighting,
                    )
    return families


class Measured(NamedTuple):
    """Everything about one split.

    Attributes:
        source: its videos.
        labels: how they are scored.
        tracks: by setting, landmarks (T, K', 2) of each video, in frame pixels.
        scores: by setting.
        frames_per_second: of the settings that evaluate the map; NaN where not measured.
        jitter: (V,) NMF that the labels' own jitter is estimated to add.
    """

    source: VideoSource
    labels: Labels
    tracks: dict[Setting, list[np.ndarray]]
    scores: dict[Setting, Scores]
    frames_per_second: dict[Setting, float]
    jitter: np.ndarray


def measure(
    config: Config,
    variables: dict[str, Any],
    split: str,
    comparison: Comparison,
    labels: Labels,
) -> Measured:
    """Runs every setting over the videos of a split and scores it.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        split: videos.
        comparison: what to run.
        labels: how to score; its offset is measured here if it has none and one is wanted.

    Returns:
        Measured.
    """
    data = config.data
    source = VideoSource(data.name, split, data.data_dir)
    settings: dict[Setting, RwRConfig | None] = {Setting(ALONE): None}
    for family, members in comparison.recurrences.items():
        settings |= {Setting(family, values): member for values, member in members.items()}
    chunks = video_chunks(
        data, split, config.model.image_size, chunk_frames=comparison.chunk_frames
    )
    found, speeds = compare(config, variables, settings, tqdm(chunks, unit="chunk", desc=split))
    videos = [source.annotation(index) for index in range(len(source))]
    lengths = [len(video["mask"]) for video in videos]

    def cut(by_index: dict[int, Track], field: str) -> list[np.ndarray]:
        return [getattr(by_index[i], field)[:length] for i, length in enumerate(lengths)]

    tracks = {setting: cut(of, "landmarks") for setting, of in found.items()}
    alone = tracks[Setting(ALONE)]
    for kind in FILTERS:
        for parameters in kind.grid:
            values = ", ".join(f"{name} {value:g}" for name, value in parameters.items())
            tracks[Setting(kind.name, values)] = [
                smooth(points, kind.function, parameters, video["fps"], scale=_scale(points))
                for points, video in zip(alone, videos, strict=True)
            ]
    if comparison.remove_offset and labels.offset is None:
        labels = dataclasses.replace(labels, offset=offset(alone, videos, labels))
    evaluations = {
        setting: float(np.mean(np.concatenate(cut(of, "num_evaluations"))))
        for setting, of in found.items()
    }
    scores = {
        setting: score(
            landmarks, videos, labels, evaluations.get(setting, evaluations[Setting(ALONE)])
        )
        for setting, landmarks in tqdm(tracks.items(), unit="setting", desc="scoring")
    }
    jitter = np.array(
        [
            metrics.label_jitter(v["landmarks"][None], v["mask"][None], landmarks=labels.counted)[0]
            for v in videos
        ]
    )
    return Measured(source, labels, tracks, scores, speeds, jitter)


def score(
    tracks: Sequence[np.ndarray],
    videos: Sequence[Mapping[str, Any]],
    labels: Labels,
    num_evaluations: float,
) -> Scores:
    """Measures landmarks (T, K', 2) of each video against its annotation."""
    rows = []
    for landmarks, video in zip(tracks, videos, strict=True):
        target = np.asarray(video["landmarks"], np.float64)
        pair = labels.arranged(landmarks, target)[None], target[None], video["mask"][None]
        chosen = {"landmarks": labels.counted}
        rows.append(
            (
                metrics.video_nme(*pair, eye_corners=labels.schema.eye_corners, **chosen)[0],
                metrics.video_nme(*pair, **chosen)[0],
                metrics.nmf(*pair, **chosen)[0],
                metrics.nad(*pair, LAGS, **chosen)[0],
            )
        )
    nme, nme_face, nmf, nad = (np.array(column) for column in zip(*rows, strict=True))
    return Scores(nme, nme_face, nmf, nad, num_evaluations)


def offset(tracks, videos, labels: Labels) -> np.ndarray:
    """(K, 2) mean error of each landmark over all frames that count, in units of the face size."""
    errors = []
    for landmarks, video in zip(tracks, videos, strict=True):
        target = np.asarray(video["landmarks"], np.float64)
        error = (labels.arranged(landmarks, target) - target) / face_size(target)
        errors.append(error[video["mask"]])
    errors = np.concatenate(errors)
    # A frame without a prediction has no offset; it costs its video its score elsewhere.
    present = np.isfinite(errors)
    return np.where(present, errors, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)


def face_size(target: np.ndarray) -> np.ndarray:
    """(T, 1, 1) sqrt(w h) of the extent of (T, K, 2) landmarks."""
    extent = target.max(axis=1) - target.min(axis=1)
    return np.sqrt(extent.prod(axis=-1))[:, None, None]


def _scale(points):
    """Face size in the first frame with a face, which is all that a live filter knows."""
    known = points[np.isfinite(points).all(axis=(1, 2))]
    return float(face_size(known[:1])[0, 0, 0]) if len(known) else 1.0


def choose(scores: Mapping[Setting, Scores], slack: float) -> dict[str, Setting]:
    """The setting each method is judged by: least flicker at an NME not above the frames' alone.

    Args:
        scores: on the tuning videos, with `ALONE` among them.
        slack: part by which the NME may be higher all the same; infinite to look at flicker alone.

    Returns:
        Method to setting. Where no setting keeps the limit, the one of least NME.
    """
    limit = (1 + slack) * np.mean(scores[Setting(ALONE)].nme)
    chosen = {}
    for method in dict.fromkeys(setting.method for setting in scores):
        members = [setting for setting in scores if setting.method == method]
        allowed = [setting for setting in members if np.mean(scores[setting].nme) <= limit]
        flicker = [np.mean(scores[setting].nmf) for setting in allowed]
        error = [np.mean(scores[setting].nme) for setting in members]
        chosen[method] = (
            allowed[int(np.nanargmin(flicker))] if allowed else members[int(np.argmin(error))]
        )
    return chosen


def causal(setting: Setting) -> bool:
    """Whether no frame waits for a later one."""
    return all(kind.causal for kind in FILTERS if kind.name == setting.method)


def is_filter(setting: Setting) -> bool:
    """Whether it smooths the landmarks of frames solved alone."""
    return any(kind.name == setting.method for kind in FILTERS)


def best_filter(scores: Mapping[Setting, Scores], chosen: Mapping[str, Setting]) -> Setting:
    """The causal filter of least flicker among those chosen, by the tuning videos."""
    rivals = [setting for setting in chosen.values() if is_filter(setting) and causal(setting)]
    return min(rivals, key=lambda setting: np.mean(scores[setting].nmf))


def table(measured: Measured, settings: Iterable[Setting], rival: Setting) -> str:
    """Markdown table, a row a setting; the last columns hold its flicker against a rival's."""
    rows = []
    for setting in settings:
        scores = measured.scores[setting]
        change = metrics.paired_bootstrap(measured.scores[rival].nmf, scores.nmf).relative
        against = "-" if setting == rival else _interval(change)
        above = np.sqrt(np.maximum(scores.nmf**2 - measured.jitter**2, 0))
        speed = measured.frames_per_second.get(setting, math.nan)
        rows.append(
            {
                "method": setting.method,
                "setting": setting.values,
                "NME (%)": 100 * float(np.mean(scores.nme)),
                "of face size (%)": 100 * float(np.mean(scores.nme_face)),
                "NMF": f"{np.mean(scores.nmf):.1f}",
                "above jitter": f"{np.mean(above):.1f}",
                "NMF against best causal filter (%)": against,
                "NAD(1) (%)": 100 * float(np.mean(scores.nad[:, 0])),
                f"NAD({LAGS[-1]}) (%)": 100 * float(np.mean(scores.nad[:, -1])),
                "evaluations": f"{scores.num_evaluations:.2f}",
                "frames/s": f"{speed:.0f}" if math.isfinite(speed) else "",
            }
        )
    return report.markdown_table(rows, digits=3)


def _interval(change) -> str:
    value, low, high = (100 * part for part in change)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def record(measured: Measured) -> list[dict[str, Any]]:
    """Means of every setting, for a file."""
    return [
        {
            "method": setting.method,
            "setting": setting.values,
            "videos": len(scores.nme),
            "nme_percent": 100 * float(np.mean(scores.nme)),
            "nme_face_percent": 100 * float(np.mean(scores.nme_face)),
            "nmf": float(np.mean(scores.nmf)),
            "evaluations_per_frame": scores.num_evaluations,
            "frames_per_second": measured.frames_per_second.get(setting, math.nan),
        }
        | {f"nad_{lag}": float(np.mean(scores.nad[:, i])) for i, lag in enumerate(LAGS)}
        for setting, scores in measured.scores.items()
    ]
