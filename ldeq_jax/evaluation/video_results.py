"""Results of an evaluation on videos: the record, tables, rows, plots and overlays."""

import csv
import dataclasses
import functools
import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.evaluation.choice import Choice, choose
from ldeq_jax.evaluation.measured import Measured
from ldeq_jax.evaluation.motion import motion_table, videos_with_motion
from ldeq_jax.evaluation.settings import ALONE, Setting, is_causal, is_recurrence
from ldeq_jax.evaluation.video_tables import EXPLAINED, choice_table, setting_rows, subset_table
from ldeq_jax.face import fidelity, video_metrics
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report import overlay, records, video_plots

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
            "chosen": [_named(s) | {"keeps_nme": s not in above} for s in settings],
            "best_causal_filter": _named(self.choice.best_causal_filter),
            "label_jitter": self.reported.mean_jitter,
            "videos_with_motion": videos_with_motion(self.reported),
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
            f"Least flicker (NMF) at an NME that does not exceed {limit}. The best causal filter "
            f"is {described(choice.best_causal_filter)}:",
            choice_table(reported, choice),
        ]
        if choice.above:
            parts.append(
                "\\* No setting keeps that NME on the tuning videos; the one of least NME."
            )
        if motion := motion_table(reported, choice.of_whole_frames()):
            counts = videos_with_motion(reported)
            parts += [
                "Whether real motion survives: amplitude of the opening of mouth and eyes and of "
                "the place of the head against the labels (1: all of it), the same relative to the "
                "frames alone, lag behind the labels, and delay after the frames alone. Over the "
                "videos in which it moves in the labels, "
                f"{', '.join(f'{name} {count}' for name, count in counts.items())} of "
                f"{len(reported.indices)}:",
                motion,
            ]
        if subsets := subset_table(reported, choice.of_whole_frames()):
            parts += ["The same settings on a part of the videos:", subsets]
        at_any_nme = choose(self.tuning.scores, math.inf)
        parts += [
            "Least flicker at any NME. The best causal filter "
            f"is {described(at_any_nme.best_causal_filter)}:",
            choice_table(reported, at_any_nme._replace(settings=at_any_nme.of_whole_frames())),
        ]
        if math.isfinite(reported.mean_jitter):
            parts.append(
                "The jitter of the labels, and motion as fast, is estimated to add an NMF of "
                f"{reported.mean_jitter:.1f}."
            )
        parts.append(f"{EXPLAINED} Intervals: 95 %, bootstrap over videos. Frames/s: no decoding.")
        for sentence in self.warnings():
            head, _, rest = sentence.partition(":")
            parts.append(f"**{head}:**{rest}")
        return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"

    def warnings(self) -> list[str]:
        """What makes the intervals doubtful."""
        if (count := len(self.reported.indices)) >= _FEW_VIDEOS:
            return []
        return [
            f"Only {count} video{'s' * (count != 1)}: intervals over fewer than {_FEW_VIDEOS} hold "
            "the truth less often than they say, and the choice of videos decides much."
        ]

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
            kinds = [
                f"{name}_{what}"
                for what in ("amplitude", "lag_ms", "motion")
                for name in fidelity.SIGNALS
            ]
            writer.writerow([*head, "nme", "nme_face", "nmf", *kinds])
            for row, index in enumerate(measured.indices):
                about = [index, source.names[index], *measured.attributes[row].astype(int)]
                for setting in self.choice.settings:
                    scores = measured.scores[setting]
                    numbers = 100 * scores.nme[row], 100 * scores.nme_face[row], scores.nmf[row]
                    texts = [f"{number:.4f}" for number in numbers]
                    motion = [*scores.amplitude[row], *1000 * scores.lag[row]]
                    texts += [f"{x:.4f}" if math.isfinite(x) else "" for x in motion]
                    texts += [f"{x:.3g}" for x in measured.motion[row]]
                    names = setting.name, setting.values
                    writer.writerow([*about, measured.num_frames[row], *names, *texts])

    def draw(self, folder: Path) -> None:
        """Draws error against flicker, and the shown videos: flicker over time, overlays."""
        self._draw_trade_off(folder / "trade_off.png")
        for name, kind in (("flicker", "png"), ("overlays", "mp4")):
            for stale in (folder / name).glob(f"*.{kind}"):
                stale.unlink()
        (folder / "flicker").mkdir(exist_ok=True)
        source = self.reported.split.source
        for name, landmarks in self.reported.tracks.items():
            index, file = source.names.index(name), file_name(name)
            fps = self.reported.split.video(index)[0]["fps"]
            series = {setting.name: values for setting, values in self.flicker[name].items()}
            video_plots.flicker_plot(series, folder / "flicker" / f"{file}.png", fps, name)
            if self.overlays:
                overlay.write_overlay(
                    folder / "overlays" / f"{file}.mp4",
                    source.frames(index),
                    {setting.name: landmarks[setting] for setting in self.side_by_side},
                    self.schema,
                    fps,
                )

    @property
    def side_by_side(self) -> tuple[Setting, Setting]:
        """What is drawn of a video: the frames alone, and recurrence or else the best filter."""
        return ALONE, self.choice.recurrence or self.choice.best_causal_filter

    @functools.cached_property
    def flicker(self) -> dict[str, dict[Setting, np.ndarray]]:
        """Of each shown video, by its name, (T,) flicker of the frames alone and the best."""
        settings = [ALONE, self.choice.best_causal_filter]
        if self.choice.recurrence is not None:
            settings.append(self.choice.recurrence)
        names = self.reported.split.source.names
        return {
            name: {
                setting: self._flicker(
                    landmarks[setting], self.reported.split.video(names.index(name))[0]
                )
                for setting in settings
            }
            for name, landmarks in self.reported.tracks.items()
        }

    def _flicker(self, landmarks: np.ndarray, video: dict[str, Any]) -> np.ndarray:
        """(T,) flicker of a shown video."""
        target, labels = np.asarray(video["landmarks"], np.float64), self.reported.labels
        arranged = labels.arranged(landmarks, target)
        pair = arranged[None], target[None], video["mask"][None]
        return video_metrics.flicker(*pair, landmarks=labels.counted)[0]

    def place(self, setting: Setting) -> tuple[float, float]:
        """NME in percent and NMF of a setting, means over the reported videos."""
        scores = self.reported.scores[setting]
        return 100 * float(np.mean(scores.nme)), float(np.mean(scores.nmf))

    def methods(self) -> dict[str, list[Setting]]:
        """Settings by the curve that they lie on in plots of error against flicker.

        The filters of frames solved with fewer steps share one curve. The frames alone have none.
        """

        def curve(setting: Setting) -> str:
            budget = setting.alone_budget
            return setting.name if budget is None else f"causal filters, budget {budget}"

        grouped = itertools.groupby(self.reported.scores, key=curve)
        found = {name: list(members) for name, members in grouped}
        return {name: members for name, members in found.items() if members != [ALONE]}

    def _draw_trade_off(self, path: Path) -> None:
        """Plots every setting by error and flicker, one curve per method."""
        curves = {}
        for name, settings in self.methods().items():
            kind = settings[-1]
            curves[name] = video_plots.Curve(
                [self.place(setting) for setting in settings],
                # Settings of a single parameter have an order.
                joined="," not in kind.values and kind.alone_budget is None,
                recurrence=is_recurrence(kind),
                causal=is_causal(kind),
            )
        video_plots.trade_off_plot(
            curves,
            path,
            reference=self.place(ALONE),
            chosen={s.name: self.place(s) for s in self.choice.settings if s.name in curves},
            floor=self.reported.mean_jitter,
        )


def file_name(video: str) -> str:
    """Of what is drawn of a video, without its ending: some names hold folders."""
    return re.sub(r"[^\w.-]+", "_", video)


def _named(setting: Setting) -> dict[str, str]:
    """A setting for the record."""
    return {"method": setting.name, "values": setting.values}


def described(setting: Setting) -> str:
    """A setting in a sentence."""
    return f"{setting.name} ({setting.values})"


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
