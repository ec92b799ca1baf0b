"""Ways of making landmarks steady, compared on labelled videos: filters against recurrence."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.data.videos import video_chunks
from ldeq_jax.evaluation.runner import Clock, run_methods
from ldeq_jax.face import metrics
from ldeq_jax.face.filters import FILTERS, smooth
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.report import tables

LAGS = (1, 2, 4, 8, 16)


class Setting(NamedTuple):
    """One way to get landmarks.

    Attributes:
        method: the family it belongs to, such as "kalman" or "RwR, state moved by face".
        values: what tells it from the others of its family, such as "penalty 1, budget 0".
    """

    method: str
    values: str = ""


ALONE = Setting("each frame alone")


class Scores(NamedTuple):
    """Measures of one setting: of V videos, or of one, without the axis V.

    Attributes:
        nme: (V,) mean error, fraction of the inter-ocular distance.
        nme_face: (V,) the same as a fraction of the face size, sqrt(w h).
        nmf: (V,) normalised mean flicker.
        nad: (V, L) Allan deviation at `LAGS`, fraction of the face size.
        num_evaluations: (V,) evaluations of the map a frame with a face.
    """

    nme: np.ndarray
    nme_face: np.ndarray
    nmf: np.ndarray
    nad: np.ndarray
    num_evaluations: np.ndarray


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
    base: RwRConfig,
) -> dict[str, dict[str, RwRConfig]]:
    """Families of recurrence, one an alignment, and the paper's: warm start and early stopping.

    What is not varied is as in `base`.
    """
    vary = functools.partial(dataclasses.replace, base)
    families = {
        "RwR, early stopping": {
            f"budget {b}": vary(budget=b, penalty=0.0, align="none") for b in budgets
        }
    }
    for align in aligns:
        family = families[f"RwR, state moved by {align}" if align != "none" else "RwR"] = {}
        for budget in budgets:
            for follow in follows if align == "face" else (1.0,):
                for penalty in penalties:
                    name = f"penalty {penalty:g}, budget {budget}"
                    name += f", follow {follow:g}" if align == "face" else ""
                    family[name] = vary(budget=budget, penalty=penalty, follow=follow, align=align)
    return families


class Split(NamedTuple):
    """The videos of a split, and all that is known of them but their frames.

    Attributes:
        name: of the split.
        source: its videos.
        videos: the annotation of each, as `VideoSource.annotation` gives it.
    """

    name: str
    source: VideoSource
    videos: list[dict[str, Any]]

    @classmethod
    def read(cls, data: DataConfig, name: str) -> "Split":
        """Reads a split of a data set."""
        source = VideoSource(data.name, name, data.data_dir)
        return cls(name, source, [source.annotation(index) for index in range(len(source))])

    @property
    def names(self) -> list[str]:
        """Names of the videos."""
        return [video["name"] for video in self.videos]

    def with_sizes(self, eye_corners: tuple[int, int]) -> tuple["Split", dict[str, int]]:
        """This split, its masks without the frames whose labels have no size.

        No error can be measured in them: eye corners coincide, or all points lie on one point or
        on a horizontal or vertical line.

        Args:
            eye_corners: indices of the outer eye corners among the labelled landmarks.

        Returns:
            The split, and how many frames were taken out, by the name of the video.
        """
        left, right = eye_corners
        videos, taken = [], {}
        for video in self.videos:
            target, mask = np.asarray(video["landmarks"], np.float64), video["mask"]
            eyes = np.linalg.norm(target[:, left] - target[:, right], axis=-1)
            degenerate = mask & ((eyes == 0) | (face_size(target)[:, 0, 0] == 0))
            if degenerate.any():
                taken[video["name"]] = int(degenerate.sum())
            videos.append(dict(video, mask=mask & ~degenerate))
        return self._replace(videos=videos), taken

    def num_chunks(self, batch_size: int, chunk_frames: int) -> int:
        """Number of chunks that `videos.video_chunks` makes of it."""
        lengths = sorted((len(video["mask"]) for video in self.videos), reverse=True)
        return sum(-(-longest // chunk_frames) for longest in lengths[::batch_size])


class Measured(NamedTuple):
    """Everything about one split.

    A video counts where the frames solved alone can be measured: it has two labelled frames in a
    row, and a crop of the face in each labelled frame. What a method leaves out in a video that
    counts makes its means NaN, so that all means are over the same videos. Frames whose labels
    have no size do not count.

    Attributes:
        split: its videos, their masks without such frames.
        indices: (V,) numbers of those that count, ascending.
        labels: how they are scored.
        scores: by setting.
        frames_per_second: of the settings that evaluate the map, of all hosts together; NaN where
            not measured.
        jitter: (V,) NMF that the labels' own jitter is estimated to add; NaN where unknown.
        tracks: name of each video to be shown to its landmarks (T, K', 2) by setting, frame pixels.
        frames_left_out: name of a video to its number of labelled frames without a size; those
            that have none are not named.
    """

    split: Split
    indices: np.ndarray
    labels: Labels
    scores: dict[Setting, Scores]
    frames_per_second: dict[Setting, float]
    jitter: np.ndarray
    tracks: dict[str, dict[Setting, np.ndarray]]
    frames_left_out: dict[str, int]

    @property
    def mean_jitter(self) -> float:
        """Mean of `jitter` over the videos that it is known of, NaN if it is of none."""
        known = self.jitter[np.isfinite(self.jitter)]
        return float(known.mean()) if len(known) else math.nan

    @property
    def left_out(self) -> list[str]:
        """Names of the videos that do not count."""
        counted = set(self.indices.tolist())
        return [name for i, name in enumerate(self.split.names) if i not in counted]

    def subsets(self) -> dict[str, "Measured"]:
        """The videos with each attribute that some but not all of those that count have."""
        videos = [self.split.videos[index] for index in self.indices]
        flags = np.array([video["attributes"] for video in videos], bool).T
        return {
            name: self._replace(
                indices=self.indices[members],
                scores={
                    setting: Scores(*(field[members] for field in scores))
                    for setting, scores in self.scores.items()
                },
                jitter=self.jitter[members],
            )
            for name, members in zip(self.split.source.attribute_names, flags, strict=True)
            if members.any() and not members.all()
        }


def measure(
    config: Config,
    variables: dict[str, Any],
    split: Split,
    comparison: Comparison,
    labels: Labels,
) -> Measured:
    """Runs every setting over the videos of a split and scores it.

    Each host has a part of the videos and waits for no other until it is done with them. Memory
    holds the scores, and the landmarks of the videos under way and of those to be shown; those of
    all videos while an offset is measured.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        split: videos.
        comparison: what to run.
        labels: how to score; its offset is measured here if it has none and one is wanted.

    Returns:
        Measured, the same on every host.

    Raises:
        ValueError: no video counts.
    """
    split, frames_left_out = split.with_sizes(labels.schema.eye_corners)
    data, videos = config.data, split.videos
    settings: dict[Setting, RwRConfig | None] = {ALONE: None}
    for family, members in comparison.recurrences.items():
        settings |= {Setting(family, values): member for values, member in members.items()}
    clocks = {setting: Clock() for setting in settings}
    frames = comparison.chunk_frames
    chunks = video_chunks(
        split.source,
        data,
        config.model.image_size,
        chunk_frames=frames,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    total, quiet = split.num_chunks(data.batch_size, frames), not hosts.is_first()
    chunks = tqdm(chunks, total=total, unit="chunk", desc=split.source.where, disable=quiet)

    found = run_methods(config, variables, settings, chunks, clocks)
    if comparison.remove_offset and labels.offset is None:
        found = list(found)
        alone = merge_hosts({index: tracks[ALONE].points for index, tracks in found})
        pairs = [(alone[index], video) for index, video in enumerate(videos)]
        labels = dataclasses.replace(labels, offset=offset(pairs, labels))
    rows: dict[int, dict[Setting, Scores]] = {}
    shown = {}
    for index, tracks in found:
        video = videos[index]
        length = len(video["mask"])
        landmarks = {setting: track.points[:length] for setting, track in tracks.items()}
        landmarks |= filtered(landmarks[ALONE], video["fps"])
        evaluations = {setting: track.info.num_evaluations for setting, track in tracks.items()}
        rows[index] = {
            setting: score(points, video, labels, evaluations.get(setting, evaluations[ALONE]))
            for setting, points in landmarks.items()
        }
        if video["name"] in comparison.shown:
            shown[video["name"]] = landmarks
    rows, shown = merge_hosts(rows), merge_hosts(shown)

    alone = np.array([[rows[i][ALONE].nme, rows[i][ALONE].nmf] for i in range(len(videos))])
    indices = np.flatnonzero(np.isfinite(alone).all(axis=1))
    if not len(indices):
        raise ValueError(
            f"no video of {split.source.where} can be measured: each has a labelled frame without "
            "landmarks (is its face box missing?), or no two labelled frames in a row"
        )
    scores = {
        setting: Scores(*map(np.array, zip(*(rows[i][setting] for i in indices), strict=True)))
        for setting in rows[indices[0]]
    }
    jitter = [
        metrics.label_jitter(v["landmarks"][None], v["mask"][None], landmarks=labels.counted)[0]
        for v in (videos[index] for index in indices)
    ]
    speeds = hosts.gather({name: clock.frames_per_second for name, clock in clocks.items()})
    speeds = {setting: sum(of[setting] for of in speeds) for setting in settings}
    return Measured(
        split, indices, labels, scores, speeds, np.array(jitter), shown, frames_left_out
    )


def merge_hosts(part: dict) -> dict:
    """What each host knows of its part of the videos, put together."""
    return {key: value for known in hosts.gather(part) for key, value in known.items()}


def filtered(landmarks: np.ndarray, fps: float) -> dict[Setting, np.ndarray]:
    """Landmarks (T, K, 2) of frames solved alone, smoothed by every filter at all its settings."""
    known = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    # The face's size where it is first seen, which is all that a live filter knows.
    scale = face_size(known[:1]).sum() or 1.0
    return {
        Setting(kind.name, ", ".join(f"{name} {value:g}" for name, value in parameters.items())): (
            smooth(landmarks, kind.function, parameters, fps, scale=scale)
        )
        for kind in FILTERS
        for parameters in kind.grid
    }


def score(
    landmarks: np.ndarray, video: Mapping[str, Any], labels: Labels, num_evaluations: np.ndarray
) -> Scores:
    """Measures landmarks (T, K', 2) of one video against its annotation.

    Args:
        landmarks: NaN where there are none.
        video: its annotation.
        labels: how to compare.
        num_evaluations: (T,) or longer, 0 in frames without a face.

    Returns:
        Scores without the axis V: NaN for a video with a labelled frame that has no landmarks.
    """
    target = np.asarray(video["landmarks"], np.float64)
    pair = labels.arranged(landmarks, target)[None], target[None], video["mask"][None]
    counted = labels.counted
    worked = num_evaluations[num_evaluations > 0]
    return Scores(
        nme=metrics.video_nme(*pair, eye_corners=labels.schema.eye_corners, landmarks=counted)[0],
        nme_face=metrics.video_nme(*pair, landmarks=counted)[0],
        nmf=metrics.nmf(*pair, landmarks=counted)[0],
        nad=metrics.nad(*pair, LAGS, landmarks=counted)[0],
        num_evaluations=worked.mean() if len(worked) else np.float64(np.nan),
    )


def offset(pairs: Iterable[tuple[np.ndarray, Mapping[str, Any]]], labels: Labels) -> np.ndarray:
    """(K, 2) mean error of each landmark over all labelled frames, in units of the face size.

    Args:
        pairs: landmarks (T, K', 2), or of more frames, and annotation of each video.
        labels: how to compare.
    """
    errors = []
    for landmarks, video in pairs:
        target, mask = np.asarray(video["landmarks"], np.float64), video["mask"]
        error = (labels.arranged(landmarks[: len(mask)], target) - target)[mask]
        errors.append(error / face_size(target[mask]))
    errors = np.concatenate(errors)
    # A frame without a prediction has no offset; it costs its video its score elsewhere.
    present = np.isfinite(errors)
    return np.where(present, errors, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)


def face_size(target: np.ndarray) -> np.ndarray:
    """(T, 1, 1) sqrt(w h) of the extent of (T, K, 2) landmarks."""
    extent = target.max(axis=1) - target.min(axis=1)
    return np.sqrt(extent.prod(axis=-1))[:, None, None]


class Choice(NamedTuple):
    """The settings that methods are judged by.

    Attributes:
        settings: one a method, in the order of tables: frames alone, filters, recurrence. A method
            that fails at every setting has none.
        above: those of methods that keep the limit at no setting; they have the least NME instead.
        best_causal_filter: the best causal filter among them.
        recurrence: the best recurrence among them, if any.
    """

    settings: list[Setting]
    above: set[Setting]
    best_causal_filter: Setting
    recurrence: Setting | None


def choose(scores: Mapping[Setting, Scores], slack: float) -> Choice:
    """Chooses the setting of least flicker of each method, at an NME near that of the frames alone.

    Args:
        scores: on the tuning videos, with all filters among them.
        slack: part by which the NME may exceed that of the frames alone; infinite to look at
            flicker alone.
    """
    limit = (1 + slack) * float(np.mean(scores[ALONE].nme))

    def rank(setting: Setting) -> tuple[bool, float]:
        nme, flicker = np.mean(scores[setting].nme), np.mean(scores[setting].nmf)
        return (True, nme) if nme > limit else (False, flicker)

    def place(setting: Setting) -> tuple[bool, bool, bool]:
        return setting != ALONE, not is_filter(setting), not causal(setting)

    best: dict[str, Setting] = {}
    for setting, measured in scores.items():
        if np.isfinite(measured.nme + measured.nmf).all():
            so_far = best.get(setting.method, setting)
            best[setting.method] = min(so_far, setting, key=rank)
    settings = sorted(best.values(), key=place)
    return Choice(
        settings=settings,
        above={setting for setting in settings if rank(setting)[0]},
        best_causal_filter=min((s for s in settings if is_filter(s) and causal(s)), key=rank),
        recurrence=min((s for s in settings[1:] if not is_filter(s)), key=rank, default=None),
    )


def causal(setting: Setting) -> bool:
    """Whether no frame waits for a later one."""
    return all(kind.causal for kind in FILTERS if kind.name == setting.method)


def is_filter(setting: Setting) -> bool:
    """Whether it smooths the landmarks of frames solved alone."""
    return any(kind.name == setting.method for kind in FILTERS)


def table(measured: Measured, choice: Choice) -> str:
    """Markdown table, a row a chosen setting; an asterisk where none of its method keeps the limit.

    Flicker is held against that of the best causal filter, with an interval of 95 %.
    """
    rows = []
    for setting in choice.settings:
        scores = measured.scores[setting]
        change = metrics.paired_bootstrap(
            measured.scores[choice.best_causal_filter].nmf, scores.nmf
        ).relative
        against = "-" if setting == choice.best_causal_filter else _interval(change)
        above = np.sqrt(np.maximum(scores.nmf**2 - measured.jitter**2, 0))
        speed = measured.frames_per_second.get(setting, math.nan)
        rows.append(
            {
                "method": setting.method + "*" * (setting in choice.above),
                "setting": setting.values,
                "NME (%)": 100 * float(np.mean(scores.nme)),
                "of face size (%)": 100 * float(np.mean(scores.nme_face)),
                "NMF": f"{np.mean(scores.nmf):.1f}",
                f"against {choice.best_causal_filter.method} (%)": against,
                "above jitter": f"{_mean_of_known(above, scores):.1f}",
                f"NAD({LAGS[-1]}) (%)": 100 * _mean_of_known(scores.nad[:, -1], scores),
                "evaluations": f"{_mean_of_known(scores.num_evaluations, scores):.2f}",
                "frames/s": f"{speed:.0f}" if math.isfinite(speed) else "",
            }
        )
    return tables.markdown_table(rows, digits=3)


def subset_table(measured: Measured, settings: Iterable[Setting]) -> str:
    """Markdown table of NME and NMF of the subsets, a row a setting; empty without subsets."""
    subsets = measured.subsets()
    rows = []
    for setting in settings if subsets else ():
        row = {"method": setting.method, "setting": setting.values}
        for name, part in subsets.items():
            scores = part.scores[setting]
            row[f"NME (%), {len(part.indices)} {name}"] = 100 * float(np.mean(scores.nme))
            row[f"NMF, {name}"] = f"{np.mean(scores.nmf):.1f}"
        rows.append(row)
    return tables.markdown_table(rows, digits=3)


def record(measured: Measured, settings: Iterable[Setting] | None = None) -> list[dict[str, Any]]:
    """Means over videos of some settings, or of all, for a file."""
    rows = []
    for setting in measured.scores if settings is None else settings:
        scores = measured.scores[setting]
        row = {
            "method": setting.method,
            "setting": setting.values,
            "videos": len(scores.nme),
            "nme_percent": 100 * float(np.mean(scores.nme)),
            "nme_face_percent": 100 * float(np.mean(scores.nme_face)),
            "nmf": float(np.mean(scores.nmf)),
            "evaluations_per_frame": _mean_of_known(scores.num_evaluations, scores),
            "frames_per_second": measured.frames_per_second.get(setting, math.nan),
        }
        deviations = (_mean_of_known(column, scores) for column in scores.nad.T)
        rows.append(row | {f"nad_{m}": nad for m, nad in zip(LAGS, deviations, strict=True)})
    return rows


def _mean_of_known(values: np.ndarray, scores: Scores) -> float:
    """Mean over the videos that are long enough for the measure; NaN for a setting that failed."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) and np.isfinite(scores.nme).all() else math.nan


def _interval(change: metrics.Interval) -> str:
    value, low, high = (100 * part for part in change)
    if not math.isfinite(value):
        return ""
    return f"{value:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else "")
