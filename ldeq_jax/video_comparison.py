"""One evaluation on video from end to end: measure, choose, write tables, plots and overlays."""

import csv
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax import metrics, video_report
from ldeq_jax.config import Config
from ldeq_jax.schema import LandmarkSchema
from ldeq_jax.video_evaluation import (
    ALONE,
    Comparison,
    Labels,
    Measured,
    Setting,
    best_filter,
    causal,
    choose,
    is_filter,
    measure,
    record,
    table,
)

_FOLDERS = ("flicker", "overlays")


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

    Args:
        config: the model's, with data and solver as wanted; `config.data.eval_split` is reported.
        variables: of the model.
        schema: of the predictions, to draw them.
        labels: how they are scored.
        tuning_split: videos that settings are chosen on.
        comparison: what is compared.
        about: for the record.
        output: directory of the results; what an earlier evaluation left there is replaced.
    """
    output.mkdir(parents=True, exist_ok=True)
    for folder in _FOLDERS:
        shutil.rmtree(output / folder, ignore_errors=True)
    tuning = measure(config, variables, tuning_split, comparison, labels)
    reported = measure(config, variables, config.data.eval_split, comparison, tuning.labels)
    chosen = choose(tuning.scores, comparison.slack)
    steadiest = choose(tuning.scores, math.inf)
    rival = best_filter(tuning.scores, chosen)
    limit = "that of the frames alone"
    if comparison.slack:
        limit += f" by {100 * comparison.slack:g} %"
    text = (
        f"{len(reported.source)} videos of {reported.source.where}; settings chosen on "
        f"{len(tuning.source)} videos of {tuning.source.where}.\n\n"
        f"Least flicker (NMF) at an NME that does not exceed {limit}:\n\n"
        + table(reported, order(reported, chosen), rival)
        + "\nLeast flicker at any NME:\n\n"
        + table(reported, order(reported, steadiest), best_filter(tuning.scores, steadiest))
        + f"\nThe labels' own jitter is estimated to add an NMF of {np.mean(reported.jitter):.1f}; "
        '"above jitter" is what is left without it. Intervals: 95 %, bootstrap over videos. '
        "Frames/s without decoding.\n"
    )
    (output / "table.md").write_text(text)
    print("\n" + text)
    write_record(output / "metrics.json", tuning, reported, chosen, rival, comparison, about)
    write_settings(output / "settings.csv", {"tuning": tuning, "reported": reported})
    write_videos(output / "videos.csv", reported, order(reported, chosen))
    plot_trade_off(output / "trade_off.png", reported, chosen)
    recurrences = [s for s in order(reported, chosen) if s.method in comparison.recurrences]
    ours = min(recurrences, key=lambda s: float(np.mean(tuning.scores[s].nmf)))
    show(reported, comparison, schema, ours, rival, output)
    print(f"wrote {output}/: {', '.join(sorted(path.name for path in output.iterdir()))}")
    if lost := int(np.sum(~np.isfinite(reported.scores[Setting(ALONE)].nme))):
        print(f"{lost} videos have frames without landmarks and so no measures: see videos.csv")


def order(measured: Measured, chosen: dict[str, Setting]) -> list[Setting]:
    """The chosen settings as they stand in tables: frames alone, filters, recurrence."""

    def place(setting: Setting) -> tuple[bool, bool, bool]:
        return setting.method != ALONE, not is_filter(setting), not causal(setting)

    return sorted(chosen.values(), key=place)


def write_record(path, tuning, reported, chosen, rival, comparison, about) -> None:
    """All numbers as JSON, and how they came about."""
    entries = {
        **about,
        "split": reported.source.where,
        "tuning_split": tuning.source.where,
        "slack": comparison.slack,
        "chosen": [setting._asdict() for setting in chosen.values()],
        "best_causal_filter": rival._asdict(),
        "label_jitter": float(np.mean(reported.jitter)),
        "reported": record(reported),
        "tuning": record(tuning),
    }
    path.write_text(json.dumps(_without_nan(entries), indent=1, allow_nan=False) + "\n")


def write_settings(path: Path, splits: dict[str, Measured]) -> None:
    """A line for every setting on each split."""
    rows = [{"split": name} | row for name, of in splits.items() for row in record(of)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_videos(path: Path, measured: Measured, settings: list[Setting]) -> None:
    """A line for each video and each of the settings."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "name", "frames", "method", "setting", "nme", "nme_face", "nmf"])
        for index in range(len(measured.source)):
            video = measured.source.annotation(index)
            for setting in settings:
                scores = measured.scores[setting]
                numbers = 100 * scores.nme[index], 100 * scores.nme_face[index], scores.nmf[index]
                writer.writerow(
                    [index, video["name"], int(video["mask"].sum()), *setting]
                    + [f"{number:.4f}" for number in numbers]
                )


def plot_trade_off(path: Path, measured: Measured, chosen: dict[str, Setting]) -> None:
    """Every setting by error and flicker, a curve a method."""

    def place(setting: Setting) -> tuple[float, float]:
        scores = measured.scores[setting]
        return 100 * float(np.mean(scores.nme)), float(np.mean(scores.nmf))

    curves = {}
    methods = itertools.groupby(measured.scores, key=lambda setting: setting.method)
    for method, settings in methods:
        settings = list(settings)
        if method != ALONE:
            # Settings with two numbers and more form a cloud, not a line.
            curves[method] = video_report.Curve(
                [place(setting) for setting in settings],
                joined="," not in settings[0].values,
                recurrence=not is_filter(settings[0]),
                causal=causal(settings[0]),
            )
    video_report.trade_off_plot(
        curves,
        path,
        reference=place(Setting(ALONE)),
        chosen={method: place(s) for method, s in chosen.items() if method != ALONE},
        floor=float(np.mean(measured.jitter)),
    )


def show(
    measured: Measured,
    comparison: Comparison,
    schema: LandmarkSchema,
    ours: Setting,
    rival: Setting,
    output: Path,
) -> None:
    """Flicker over time and, if wanted, overlays of the shown videos.

    Raises:
        ValueError: there is no video of a name to be shown.
    """
    source = measured.source
    names = {source.annotation(index)["name"]: index for index in range(len(source))}
    wanted = list(comparison.shown) or list(names)[:1]
    if unknown := [name for name in wanted if name not in names]:
        raise ValueError(f"no video {unknown[0]!r} in {source.where}; it has {', '.join(names)}")
    for folder in _FOLDERS[: 1 + comparison.overlays]:
        (output / folder).mkdir()
    for name in wanted:
        video = source.annotation(names[name])
        target, mask = np.asarray(video["landmarks"], np.float64), video["mask"]
        tracks = {
            ALONE: measured.tracks[Setting(ALONE)][names[name]],
            rival.method: measured.tracks[rival][names[name]],
            ours.method: measured.tracks[ours][names[name]],
        }
        series = {}
        for method, track in tracks.items():
            arranged = measured.labels.arranged(track, target)[None]
            pair = arranged, target[None], mask[None]
            series[method] = metrics.flicker(*pair, landmarks=measured.labels.counted)[0]
        video_report.flicker_plot(series, output / "flicker" / f"{name}.png", video["fps"], name)
        if comparison.overlays:
            pair = {method: tracks[method] for method in (ALONE, ours.method)}
            video_report.write_overlay(
                output / "overlays" / f"{name}.mp4",
                source.frames(names[name]),
                pair,
                schema,
                float(video["fps"]),
            )


def _without_nan(value):
    """Nested values with None for each number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
