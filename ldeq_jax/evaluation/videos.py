"""Evaluation on videos: each frame alone, filters and recurrence, on labelled videos.

The settings of every method are chosen on the tuning videos and measured on others. `runner` runs
the model, `scores` measures one video, `choice` chooses, and `video_results` writes.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from tqdm import tqdm

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.data.videos import video_chunks
from ldeq_jax.errors import UserError
from ldeq_jax.evaluation.choice import choose
from ldeq_jax.evaluation.labels import Labels, check_schema, mean_offset, read_points
from ldeq_jax.evaluation.measured import Measured, Split, collect
from ldeq_jax.evaluation.runner import Clock, run_methods
from ldeq_jax.evaluation.scores import VideoScores, score_video
from ldeq_jax.evaluation.settings import ALONE, Setting
from ldeq_jax.evaluation.video_results import VideoResults
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import get_schema
from ldeq_jax.model.rwr import RwRConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What is compared on videos, and how.

    Attributes:
        recurrences: setting to how a frame depends on the one before.
        tuning_split: the videos on which settings are chosen; it is needed.
        filter_budgets: numbers of solver steps with which frames are also solved alone, and then
            filtered by the causal filters.
        slack: a setting may be chosen when its NME on the tuning videos exceeds that of the frames
            solved alone by no more than this fraction.
        points: JSON file, see `labels.read_points`, for labels of another schema; only the
            landmarks that it names count. None where the labels have the model's schema.
        remove_offset: subtract the constant offset of each landmark, measured on the frames solved
            alone of the tuning videos, from all predictions alike.
        shown: names of videos to plot and to draw; the first one when empty.
        overlays: draw the shown videos with landmarks.
        chunk_frames: frames of a video that are on the device at a time.
    """

    recurrences: Mapping[Setting, RwRConfig]
    tuning_split: str | None = None
    filter_budgets: Sequence[int] = ()
    slack: float = 0.005
    points: str | os.PathLike[str] | None = None
    remove_offset: bool = False
    shown: Sequence[str] = ()
    overlays: bool = False
    chunk_frames: int = 32


class VideoEvaluator:
    """Measures a model on the videos of `config.data.eval_split`.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        options: what to compare.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: there is no tuning split, the splits share a video, there is no video of a name
            to show, the labels mean something else than the predictions, or a budget exceeds the
            solver's.
    """

    written: ClassVar[tuple[str, ...]] = (
        "metrics.json",
        "table.md",
        "report.html",
        "settings.csv",
        "videos.csv",
        "trade_off.png",
        "flicker",
        "overlays",
    )

    def __init__(self, config: Config, variables: dict[str, Any], options: VideoOptions):
        data, most = config.data, config.model.forward.max_steps
        if options.tuning_split is None:
            raise UserError(
                "videos need --tuning_split, on which the settings of every method are chosen, "
                'such as --tuning_split="easy[:30%]" --split="easy[30%:]"'
            )
        budgets = [recurrence.budget for recurrence in options.recurrences.values()]
        for flag, values in (("budgets", budgets), ("filter_budgets", options.filter_budgets)):
            if any(budget > most for budget in values):
                raise UserError(
                    f"--{flag} cannot exceed the solver's {most} steps: raise --max_steps"
                )
        sources = [
            VideoSource(data.name, split, data.data_dir)
            for split in (options.tuning_split, data.eval_split)
        ]
        self.schema = get_schema(data.schema)
        if options.points is None:
            check_schema(self.schema, sources[0])
            self.labels = Labels(schema=self.schema)
        else:
            labelled = get_schema(sources[0].schema)
            points = read_points(options.points, self.schema, labelled)
            self.labels = Labels(schema=labelled, points=points)
        check_apart(*sources)
        shown = shown_names(options.shown, sources[1])
        eye_corners = self.labels.schema.eye_corners
        self.tuning, self.reported = (Split(source, eye_corners) for source in sources)
        self.config, self.variables = config, variables
        self.options = dataclasses.replace(options, shown=shown)

    def description(self) -> str:
        """What is measured, for the line that is printed first."""
        data = self.config.data
        return f"{data.name}, tuning on {self.options.tuning_split}, reporting {data.eval_split}"

    def measure(self) -> VideoResults:
        """Measures every setting on both splits and chooses; the same on every host."""
        options, data = self.options, self.config.data
        # More rows than there are videos would cost as much as the others.
        rows = min(data.batch_size, max(len(self.tuning), len(self.reported)))
        rows = -(-rows // jax.process_count()) * jax.process_count()
        data = dataclasses.replace(data, batch_size=rows)
        config = dataclasses.replace(self.config, data=data)
        tuning = measure(config, self.variables, self.tuning, options, self.labels)
        reported = measure(config, self.variables, self.reported, options, tuning.labels)
        return VideoResults(
            tuning=tuning,
            reported=reported,
            choice=choose(tuning.scores, options.slack),
            slack=options.slack,
            schema=self.schema,
            overlays=options.overlays,
        )


def check_apart(tuning: VideoSource, reported: VideoSource) -> None:
    """Refuses splits with a video in common: settings would be judged where they were chosen.

    Raises:
        UserError: they share a video.
    """
    if shared := sorted(set(tuning.names) & set(reported.names)):
        raise UserError(
            f"{len(shared)} videos are in both the tuning split {tuning.split} and the reported "
            f"split {reported.split}, such as {shared[0]!r}: choose splits without a common video"
        )


def shown_names(wanted: Sequence[str], source: VideoSource) -> Sequence[str]:
    """Names of the videos to show: the first one of the split where none is wanted.

    Raises:
        UserError: there is no video of a name.
    """
    if unknown := [name for name in wanted if name not in source.names]:
        some = ", ".join(source.names[:10]) + ", ..." * (len(source.names) > 10)
        raise UserError(f"no video {unknown[0]!r} to show in {source.where}; it has {some}")
    return wanted or source.names[:1]


def measure(
    config: Config,
    variables: dict[str, Any],
    split: Split,
    options: VideoOptions,
    labels: Labels,
) -> Measured:
    """Runs every setting over the videos of a split and scores it.

    Each host has a part of the videos and waits for the others only at the end. Memory holds the
    scores, the annotations, and the landmarks of the videos in progress and of those to show; of
    all videos while an offset is measured.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        split: videos.
        options: what to run.
        labels: how to score; its offset is measured here if it has none and one is wanted.

    Returns:
        Measured, the same on every host.

    Raises:
        UserError: no video counts.
    """
    data, source, num_frames = config.data, split.source, options.chunk_frames
    settings: dict[Setting, RwRConfig | int | None] = {
        ALONE: None,
        **{ALONE._replace(alone_budget=budget): budget for budget in options.filter_budgets},
        **options.recurrences,
    }
    clocks = {setting: Clock() for setting in settings}
    chunks = video_chunks(
        source,
        data,
        config.model.image_size,
        chunk_frames=num_frames,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    total, quiet = split.num_chunks(data.batch_size, num_frames), not hosts.is_first()
    chunks = tqdm(chunks, total=total, unit="chunk", desc=source.where, disable=quiet)

    found: Iterable[tuple[int, dict[Setting, Landmarks]]]
    found = run_methods(config, variables, settings, chunks, clocks)
    if options.remove_offset and labels.offset is None:
        found = list(found)
        alone = merge_hosts({index: tracks[ALONE].points for index, tracks in found})
        pairs = ((alone[index], split.video(index)[0]) for index in range(len(split)))
        labels = mean_offset(pairs, labels)
    scores: dict[int, VideoScores] = {}
    shown: dict[str, dict[Setting, np.ndarray]] = {}
    for index, tracks in found:
        video, left_out = split.video(index)
        keep = video["name"] in options.shown
        scores[index], landmarks = score_video(video, left_out, tracks, labels, keep=keep)
        if keep:
            shown[video["name"]] = landmarks
    speeds = hosts.gather({name: clock.frames_per_second for name, clock in clocks.items()})
    frames_per_second = {setting: sum(of[setting] for of in speeds) for setting in settings}
    return collect(split, labels, merge_hosts(scores), frames_per_second, merge_hosts(shown))


def merge_hosts(part: dict) -> dict:
    """The dicts of all hosts in one; no key is on two of them."""
    return {key: value for known in hosts.gather(part) for key, value in known.items()}
