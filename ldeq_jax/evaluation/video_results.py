"""Results of an evaluation on videos: the record, tables, rows, plots and overlays."""

import csv
import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.evaluation.choice import Choice, choose
from ldeq_jax.evaluation.measured import Measured, mean_of_known
from ldeq_jax.evaluation.scores import LAGS, Scores
from ldeq_jax.evaluation.settings import ALONE, Setting, is_causal, is_filter
from ldeq_jax.face import intervals, video_metrics
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report import overlay, records, video_plots
from ldeq_jax.report.tables import markdown_table

_FEW_VIDEOS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoResults:
    """What was measured, and the settings that were chosen.

    Attributes:
        tuning: on the videos that settings are chosen on.
        reported: on the others.
        choice: by the tuning videos.
        slack: fraction by which a chosen setting's NME may exceed that of the frames alone.
        schema: of the predictions, to draw them.
        overlays: whether the shown videos are drawn with landmarks.
    """

    tuning: Measured
    reported: Measured
    choice: Choice
    slack: float
    schema: LandmarkSchema
    overlays: bool

    def record(self) -> dict[str, Any]:
        """All numbers."""
        settings, above = self.choice.settings, self.choice.above
        subsets = self.reported.subsets()
        return {
            "schema": self.reported.labels.schema.name,
            "left_out": self.reported.left_out,
            "tuning_split": self.tuning.split.source.split,
            "tuning_left_out": self.tuning.left_out,
            "frames_left_out": self.reported.frames_left_out,
            "tuning_frames_left_out": self.tuning.frames_left_out,
            "slack": self.slack,
            "chosen": [s._asdict() | {"keeps_nme": s not in above} for s in settings],
            "best_causal_filter": self.choice.best_causal_filter._asdict(),
            "label_jitter": self.reported.mean_jitter,
            "subsets": {name: setting_rows(part, settings) for name, part in subsets.items()},
            "reported": setting_rows(self.reported),
            "tuning": setting_rows(self.tuning),
        }

    def tables(self) -> str:
        """All tables of the reported videos, as Markdown with the words that explain them."""
        reported, choice = self.reported, self.choice
        limit = "that of the frames alone"
        limit += f" by more than {100 * self.slack:g} %" * bool(self.slack)
        parts = [
            f"{_counts(reported)}; settings chosen on {_counts(self.tuning)}.",
            f"Least flicker (NMF) at an NME that does not exceed {limit}:",
            choice_table(reported, choice),
        ]
        if choice.above:
            parts.append(
                "\\* No setting keeps that NME on the tuning videos; the one of least NME."
            )
        if subsets := subset_table(reported, choice.settings):
            parts += ["The same settings on a part of the videos:", subsets]
        at_any_nme = choose(self.tuning.scores, math.inf)
        parts += ["Least flicker at any NME:", choice_table(reported, at_any_nme)]
        if math.isfinite(reported.mean_jitter):
            parts.append(
                "The jitter of the labels, and motion as fast, is estimated to add an NMF of "
                f'{reported.mean_jitter:.1f}; "above jitter" is what is left without it.'
            )
        parts.append("Intervals: 95 %, bootstrap over videos. Frames/s without decoding.")
        if (count := len(reported.indices)) < _FEW_VIDEOS:
            parts.append(
                f"**Only {count} video{'s' * (count != 1)}:** intervals over fewer than "
                f"{_FEW_VIDEOS} hold the truth less often than they say, and the choice of videos "
                "decides much."
            )
        return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"

    def notes(self) -> list[str]:
        """Nothing: the tables say what was left out."""
        return []

    def write_rows(self, folder: Path) -> None:
        """Writes settings.csv, every setting on both splits, and videos.csv, each video."""
        splits = {"tuning": self.tuning, "reported": self.reported}
        rows = [{"split": name} | row for name, of in splits.items() for row in setting_rows(of)]
        with (folder / "settings.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(records.without_nan(rows))

        measured, source = self.reported, self.reported.split.source
        with (folder / "videos.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            head = ["index", "name", *source.attribute_names, "frames", "method", "setting"]
            writer.writerow([*head, "nme", "nme_face", "nmf"])
            for row, index in enumerate(measured.indices):
                about = [index, source.names[index], *measured.attributes[row].astype(int)]
                for setting in self.choice.settings:
                    scores = measured.scores[setting]
                    numbers = 100 * scores.nme[row], 100 * scores.nme_face[row], scores.nmf[row]
                    texts = [f"{number:.4f}" for number in numbers]
                    writer.writerow([*about, measured.num_frames[row], *setting, *texts])

    def draw(self, folder: Path) -> None:
        """Draws error against flicker, and the shown videos: flicker over time, overlays."""
        self._draw_trade_off(folder / "trade_off.png")
        for name, kind in (("flicker", "png"), ("overlays", "mp4")):
            for stale in (folder / name).glob(f"*.{kind}"):
                stale.unlink()
        (folder / "flicker").mkdir(exist_ok=True)
        best = [self.choice.best_causal_filter]
        if self.choice.recurrence is not None:
            best.append(self.choice.recurrence)
        source = self.reported.split.source
        for name, landmarks in self.reported.tracks.items():
            index = source.names.index(name)
            video, _ = self.reported.split.video(index)
            file = re.sub(r"[^\w.-]+", "_", name)  # some names hold folders
            video_plots.flicker_plot(
                {
                    setting.method: self._flicker(landmarks[setting], video)
                    for setting in (ALONE, *best)
                },
                folder / "flicker" / f"{file}.png",
                video["fps"],
                name,
            )
            if self.overlays:
                overlay.write_overlay(
                    folder / "overlays" / f"{file}.mp4",
                    source.frames(index),
                    {setting.method: landmarks[setting] for setting in (ALONE, best[-1])},
                    self.schema,
                    video["fps"],
                )

    def _flicker(self, landmarks: np.ndarray, video: dict[str, Any]) -> np.ndarray:
        """(T,) flicker of a shown video."""
        target, labels = np.asarray(video["landmarks"], np.float64), self.reported.labels
        arranged = labels.arranged(landmarks, target)
        pair = arranged[None], target[None], video["mask"][None]
        return video_metrics.flicker(*pair, landmarks=labels.counted)[0]

    def _draw_trade_off(self, path: Path) -> None:
        """Plots every setting by error and flicker, one curve per method."""

        def place(setting: Setting) -> tuple[float, float]:
            scores = self.reported.scores[setting]
            return 100 * float(np.mean(scores.nme)), float(np.mean(scores.nmf))

        curves = {}
        methods = itertools.groupby(self.reported.scores, key=lambda setting: setting.method)
        for method, members in methods:
            settings = list(members)
            if settings != [ALONE]:
                curves[method] = video_plots.Curve(
                    [place(setting) for setting in settings],
                    joined="," not in settings[0].values,  # settings of a single parameter
                    recurrence=not is_filter(settings[0]),
                    causal=is_causal(settings[0]),
                )
        video_plots.trade_off_plot(
            curves,
            path,
            reference=place(ALONE),
            chosen={s.method: place(s) for s in self.choice.settings if s != ALONE},
            floor=self.reported.mean_jitter,
        )


def choice_table(measured: Measured, choice: Choice) -> str:
    """Markdown table, one row per chosen setting; an asterisk marks an NME above the limit.

    The change of flicker is against the best causal filter, with an interval of 95 %.
    """
    rows, compared = [], measured.scores[choice.best_causal_filter]
    for setting in choice.settings:
        scores = measured.scores[setting]
        change = intervals.paired_bootstrap(compared.nmf, scores.nmf).relative
        against = "-" if setting == choice.best_causal_filter else _percent(change)
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
                "above jitter": f"{_mean(above, scores):.1f}",
                f"NAD({LAGS[-1]}) (%)": 100 * _mean(scores.nad[:, -1], scores),
                "evaluations": f"{_mean(scores.num_evaluations, scores):.2f}",
                "frames/s": f"{speed:.0f}" if math.isfinite(speed) else "",
            }
        )
    return markdown_table(rows, digits=3)


def subset_table(measured: Measured, settings: Iterable[Setting]) -> str:
    """Markdown table of NME and NMF of the subsets, one row per setting; empty without subsets."""
    subsets = measured.subsets()
    rows = []
    for setting in settings if subsets else ():
        row: dict[str, Any] = {"method": setting.method, "setting": setting.values}
        for name, part in subsets.items():
            scores = part.scores[setting]
            row[f"NME (%), {len(part.indices)} {name}"] = 100 * float(np.mean(scores.nme))
            row[f"NMF, {name}"] = f"{np.mean(scores.nmf):.1f}"
        rows.append(row)
    return markdown_table(rows, digits=3)


def setting_rows(
    measured: Measured, settings: Sequence[Setting] | None = None
) -> list[dict[str, Any]]:
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
            "evaluations_per_frame": _mean(scores.num_evaluations, scores),
            "frames_per_second": measured.frames_per_second.get(setting, math.nan),
        }
        deviations = (_mean(column, scores) for column in scores.nad.T)
        rows.append(row | {f"nad_{m}": nad for m, nad in zip(LAGS, deviations, strict=True)})
    return rows


def _mean(values: np.ndarray, scores: Scores) -> float:
    """Mean over the videos that are long enough for the measure; NaN for a setting that failed."""
    return mean_of_known(values) if np.isfinite(scores.nme).all() else math.nan


def _percent(change: intervals.Interval) -> str:
    value, low, high = (100 * part for part in change)
    if not math.isfinite(value):
        return ""
    return f"{value:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else "")


def _counts(measured: Measured) -> str:
    """How many videos the means are over, and what is left out."""
    text = f"{len(measured.indices)} videos of {measured.split.source.where}"
    if lost := measured.left_out:
        some = ", ".join(lost[:5]) + ", ..." * (len(lost) > 5)
        text += f" ({len(lost)} left out that cannot be measured: {some})"
    if frames := measured.frames_left_out:
        some = ", ".join(f"{name} ({count})" for name, count in list(frames.items())[:5])
        some += ", ..." * (len(frames) > 5)
        text += f" ({sum(frames.values())} frames left out whose labels have no size: {some})"
    return text
