"""One evaluation on video from end to end: measure, choose, write tables, plots and overlays."""

import csv
import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.evaluation.videos import (
    ALONE,
    Choice,
    Comparison,
    Labels,
    Measured,
    Setting,
    Split,
    causal,
    choose,
    is_filter,
    measure,
    record,
    subset_table,
    table,
)
from ldeq_jax.face import metrics
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report import overlay as video_report
from ldeq_jax.report import plots, records

_FEW_VIDEOS = 20


def evaluate(
    config: Config,
    variables: dict[str, Any],
    schema: LandmarkSchema,
    labels: Labels,
    tuning_split: str,
    comparison: Comparison,
    about: dict[str, Any],
    output: Path,
) -> None:
    """Chooses settings on the tuning videos, measures them on the others, writes the results.

    Of several hosts each measures a part of the videos, and the first one writes.

    Args:
        config: the model's, with data and solver as wanted; `config.data.eval_split` is reported.
        variables: of the model.
        schema: of the predictions, to draw them.
        labels: how they are scored.
        tuning_split: videos that settings are chosen on.
        comparison: what is compared.
        about: for the record.
        output: directory of the results; what an earlier evaluation left there is replaced.

    Raises:
        FileNotFoundError: the data set has not been built.
        ValueError: the splits share a video, there is no video of a name to be shown, or a split
            has no video that can be measured.
    """
    splits = [Split.read(config.data, name) for name in (tuning_split, config.data.eval_split)]
    check_apart(*splits)
    comparison = dataclasses.replace(comparison, shown=shown_names(comparison.shown, splits[1]))
    # Rows beyond the videos there are would cost as much as the others.
    rows = min(config.data.batch_size, max(len(split.videos) for split in splits))
    rows = -(-rows // jax.process_count()) * jax.process_count()
    data = dataclasses.replace(config.data, batch_size=rows)
    config = dataclasses.replace(config, data=data)
    if hosts.is_first():
        output.mkdir(parents=True, exist_ok=True)

    tuning = measure(config, variables, splits[0], comparison, labels)
    reported = measure(config, variables, splits[1], comparison, tuning.labels)
    if not hosts.is_first():
        return
    choice = choose(tuning.scores, comparison.slack)
    text = tables(tuning, reported, choice, comparison.slack)
    write_record(output / "metrics.json", tuning, reported, choice, comparison.slack, about)
    (output / "table.md").write_text(text, encoding="utf-8")
    print("\n" + text)
    write_settings(output / "settings.csv", {"tuning": tuning, "reported": reported})
    write_videos(output / "videos.csv", reported, choice.settings)
    plot_trade_off(output / "trade_off.png", reported, choice)
    show(reported, choice, schema, output, overlays=comparison.overlays)
    print(f"wrote {output}/: {', '.join(sorted(path.name for path in output.iterdir()))}")


def check_apart(tuning: Split, reported: Split) -> None:
    """Refuses splits with a video in common: settings would be judged where they were chosen.

    Raises:
        ValueError: they share a video.
    """
    shared = sorted(set(tuning.names) & set(reported.names))
    if shared:
        raise ValueError(
            f"{len(shared)} videos are in both the tuning split {tuning.name} and the reported "
            f"split {reported.name}, such as {shared[0]!r}: choose splits without a common video"
        )


def shown_names(wanted: Sequence[str], split: Split) -> Sequence[str]:
    """Names of the videos to show: the first one of the split where none is wanted.

    Raises:
        ValueError: there is no video of a name.
    """
    if unknown := [name for name in wanted if name not in split.names]:
        some = ", ".join(split.names[:10]) + ", ..." * (len(split.names) > 10)
        raise ValueError(f"no video {unknown[0]!r} to show in {split.source.where}; it has {some}")
    return wanted or split.names[:1]


def tables(tuning: Measured, reported: Measured, choice: Choice, slack: float) -> str:
    """All tables of the reported videos, as Markdown with the words that explain them."""
    limit = "that of the frames alone" + f" by more than {100 * slack:g} %" * bool(slack)
    parts = [
        f"{_videos(reported)}; settings chosen on {_videos(tuning)}.",
        f"Least flicker (NMF) at an NME that does not exceed {limit}:",
        table(reported, choice),
    ]
    if choice.above:
        parts.append("\\* No setting keeps that NME on the tuning videos; the one of least NME.")
    if subsets := subset_table(reported, choice.settings):
        parts += ["The same settings on a part of the videos:", subsets]
    parts += ["Least flicker at any NME:", table(reported, choose(tuning.scores, math.inf))]
    if math.isfinite(reported.mean_jitter):
        parts.append(
            "The jitter of the labels, and motion as fast, is estimated to add an NMF of "
            f'{reported.mean_jitter:.1f}; "above jitter" is what is left without it.'
        )
    parts.append("Intervals: 95 %, bootstrap over videos. Frames/s without decoding.")
    if (count := len(reported.indices)) < _FEW_VIDEOS:
        parts.append(
            f"**Only {count} video{'s' * (count != 1)}:** intervals over fewer than {_FEW_VIDEOS} "
            "hold the truth less often than they say, and the choice of videos decides much."
        )
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def write_record(
    path: Path,
    tuning: Measured,
    reported: Measured,
    choice: Choice,
    slack: float,
    about: dict[str, Any],
) -> None:
    """All numbers as JSON, and how they came about."""
    entries = {
        **about,
        "split": reported.split.source.where,
        "tuning_split": tuning.split.source.where,
        "left_out": reported.left_out,
        "tuning_left_out": tuning.left_out,
        "frames_left_out": reported.frames_left_out,
        "tuning_frames_left_out": tuning.frames_left_out,
        "slack": slack,
        "chosen": [s._asdict() | {"keeps_nme": s not in choice.above} for s in choice.settings],
        "best_causal_filter": choice.best_causal_filter._asdict(),
        "label_jitter": reported.mean_jitter,
        "subsets": {
            name: record(part, choice.settings) for name, part in reported.subsets().items()
        },
        "reported": record(reported),
        "tuning": record(tuning),
    }
    path.write_text(records.to_json(entries, indent=1) + "\n", encoding="utf-8")


def write_settings(path: Path, splits: dict[str, Measured]) -> None:
    """A line for every setting on each split."""
    rows = [{"split": name} | row for name, of in splits.items() for row in record(of)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(records.without_nan(rows))


def write_videos(path: Path, measured: Measured, settings: Sequence[Setting]) -> None:
    """A line for each video that counts and each of the settings."""
    attributes = measured.split.source.attribute_names
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = ["index", "name", *attributes, "frames", "method", "setting"]
        writer.writerow([*head, "nme", "nme_face", "nmf"])
        for row, index in enumerate(measured.indices):
            video = measured.split.videos[index]
            about = [index, video["name"], *np.asarray(video["attributes"], int)]
            for setting in settings:
                scores = measured.scores[setting]
                numbers = 100 * scores.nme[row], 100 * scores.nme_face[row], scores.nmf[row]
                numbers = (f"{number:.4f}" for number in numbers)
                writer.writerow([*about, int(video["mask"].sum()), *setting, *numbers])


def plot_trade_off(path: Path, measured: Measured, choice: Choice) -> None:
    """Every setting by error and flicker, a curve a method."""

    def place(setting: Setting) -> tuple[float, float]:
        scores = measured.scores[setting]
        return 100 * float(np.mean(scores.nme)), float(np.mean(scores.nmf))

    curves = {}
    methods = itertools.groupby(measured.scores, key=lambda setting: setting.method)
    for method, settings in methods:
        settings = list(settings)
        if settings != [ALONE]:
            curves[method] = plots.Curve(
                [place(setting) for setting in settings],
                joined="," not in settings[0].values,  # one number tells them apart
                recurrence=not is_filter(settings[0]),
                causal=causal(settings[0]),
            )
    plots.trade_off_plot(
        curves,
        path,
        reference=place(ALONE),
        chosen={s.method: place(s) for s in choice.settings if s != ALONE},
        floor=measured.mean_jitter,
    )


def show(
    measured: Measured, choice: Choice, schema: LandmarkSchema, output: Path, *, overlays: bool
) -> None:
    """Draws the shown videos: flicker over time of the best methods and, if wanted, overlays."""
    for folder, kind in (("flicker", "png"), ("overlays", "mp4")):
        for stale in (output / folder).glob(f"*.{kind}"):
            stale.unlink()
    (output / "flicker").mkdir(exist_ok=True)
    best = (
        [choice.best_causal_filter]
        if choice.recurrence is None
        else [choice.best_causal_filter, choice.recurrence]
    )
    for name, landmarks in measured.tracks.items():
        index = measured.split.names.index(name)
        video = measured.split.videos[index]
        target, mask = np.asarray(video["landmarks"], np.float64), video["mask"]
        series = {}
        for setting in [ALONE, *best]:
            arranged = measured.labels.arranged(landmarks[setting], target)
            pair = arranged[None], target[None], mask[None]
            counted = measured.labels.counted
            series[setting.method] = metrics.flicker(*pair, landmarks=counted)[0]
        file = re.sub(r"[^\w.-]+", "_", name)  # some names hold folders
        plots.flicker_plot(series, output / "flicker" / f"{file}.png", video["fps"], name)
        if overlays:
            video_report.write_overlay(
                output / "overlays" / f"{file}.mp4",
                measured.split.source.frames(index),
                {setting.method: landmarks[setting] for setting in (ALONE, best[-1])},
                schema,
                video["fps"],
            )


def _videos(measured: Measured) -> str:
    """How many videos the means are over, and of what."""
    text = f"{len(measured.indices)} videos of {measured.split.source.where}"
    if lost := measured.left_out:
        some = ", ".join(lost[:5]) + ", ..." * (len(lost) > 5)
        text += f" ({len(lost)} left out that cannot be measured: {some})"
    if frames := measured.frames_left_out:
        some = ", ".join(f"{name} ({count})" for name, count in list(frames.items())[:5])
        some += ", ..." * (len(frames) > 5)
        text += f" ({sum(frames.values())} frames left out whose labels have no size: {some})"
    return text
