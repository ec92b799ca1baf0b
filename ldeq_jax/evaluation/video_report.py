"""The report of an evaluation on videos, a page that holds all it shows: `video_page`."""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.evaluation.choice import choose
from ldeq_jax.evaluation.how import how_it_was_measured, percent
from ldeq_jax.evaluation.motion import motion_rows
from ldeq_jax.evaluation.settings import ALONE, Setting, is_causal
from ldeq_jax.evaluation.video_results import VideoResults, described, file_name
from ldeq_jax.evaluation.video_tables import EXPLAINED, choice_rows, subset_rows
from ldeq_jax.media.pictures import jpeg
from ldeq_jax.report import clips, overlay, video_plots
from ldeq_jax.report.charts import Chart, Series, face_chart, upright
from ldeq_jax.report.html import (
    Clip,
    Page,
    Part,
    Picture,
    Section,
    Table,
    Text,
    data_address,
    file_address,
)

_SECONDS, _FRAMES = 5.0, 150  # of a clip in the report, at most
_HEIGHT = 240  # of a face in it, at least
_SHOWN = 10  # best and worst videos
_POINTS = 2000  # of a curve, at most
_FACES = 500  # frames whose labels make the mean face
_UNIT = "percent of a pixel of a face of 256 pixels"


def video_page(results: VideoResults, record: Mapping[str, Any], folder: Path) -> Page:
    """The report of what was measured on videos.

    Args:
        results: what was measured.
        record: all numbers and how they were measured, as in metrics.json.
        folder: where plots and overlays are.
    """
    return Page(
        title=f"{record['checkpoint']} on {record['dataset']}",
        about=f"Landmarks in the videos of {record['dataset']}, split {record['split']}",
        figures=_figures(results),
        sections=[
            Section(title="Methods", parts=_methods(results)),
            Section(title="Error against flicker", parts=[_trade_off(results, folder)]),
            Section(title="Over time", parts=_over_time(results, folder)),
            Section(title="Landmarks", parts=_landmarks(results)),
            Section(title="Videos", parts=_videos(results)),
            Section(title="Does real motion survive?", parts=_motion(results)),
            Section(title="How it was measured", parts=how_it_was_measured(record)),
        ],
    )


def _figures(results: VideoResults) -> dict[str, str]:
    figures = {"videos": str(len(results.reported.indices))}
    filtered, recurrence = results.choice.best_causal_filter, results.choice.recurrence
    named = {"each frame alone": ALONE, "best causal filter": filtered}
    if recurrence is not None:
        named["recurrence (RwR)"] = recurrence
    for name, setting in named.items():
        nme, nmf = results.place(setting)
        figures[f"{name}: error, flicker"] = f"{percent(nme)}, {nmf:.0f}"
    return figures


def _methods(results: VideoResults) -> list[Part]:
    reported, choice = results.reported, results.choice
    caption = (
        "Of each method, the setting of least flicker on the tuning videos whose error there "
        f"exceeds that of the frames alone by {100 * results.slack:g} % at most. NME: mean "
        "distance from the labels, percent of the distance of the outer eye corners. NMF: "
        f"flicker, {_UNIT}. Against: change of the flicker against the best causal filter, "
        f"{described(choice.best_causal_filter)}, with an interval of 95 % (bootstrap over videos)."
        f" {EXPLAINED}"
    )
    parts: list[Part] = [Table(caption=caption, rows=choice_rows(reported, choice), digits=3)]
    if choice.above:
        parts.append(Text(text="* No setting keeps that error; the one of least error."))
    parts += [Text(text=sentence, warning=True) for sentence in results.warnings()]
    if rows := subset_rows(reported, choice.of_whole_frames()):
        caption = "The same settings on a part of the videos"
        parts.append(Table(caption=caption, rows=rows, digits=3, folded=True))
    at_any = choose(results.tuning.scores, math.inf)
    at_any = at_any._replace(settings=at_any.of_whole_frames())
    rows = choice_rows(reported, at_any)
    caption = "The settings of least flicker, whatever their error"
    return [*parts, Table(caption=caption, rows=rows, digits=3, folded=True)]


def _trade_off(results: VideoResults, folder: Path) -> Chart:
    star, floor = results.place(ALONE), results.reported.mean_jitter
    series = [_series(ALONE.name, [ALONE], 0, results)]
    for number, (name, settings) in enumerate(results.methods().items(), start=1):
        series.append(_series(name, settings, number, results))
    places = np.array([results.place(setting) for setting in results.reported.scores])
    chosen = [results.place(setting) for setting in results.choice.settings]
    known = floor if math.isfinite(floor) else None
    ends = video_plots.shown_range(places, reference=star, chosen=chosen, floor=known)
    x_range, y_range = zip(*ends, strict=True) if ends else ((None, None), (None, None))
    if known is not None and ends:
        points = [(ends[0][0], floor), (ends[1][0], floor)]
        series.append(Series(name="jitter of the labels", points=points, dashed=True))
    return Chart(
        title="Error against flicker",
        series=series,
        x_label="NME (%)",
        y_label=f"NMF ({video_plots.UNIT})",
        caption="Less of both is better: left and below. Large: the setting that a method is "
        "judged by, chosen on other videos; faint: the others that were tried. Settings that "
        "smooth far too much lie beyond the axes. Hollow: methods that need later frames.",
        x_range=_pair(x_range),
        y_range=_pair(y_range),
        picture=(folder / "trade_off.png").read_bytes(),
    )


def _pair(ends: Any) -> tuple[float | None, float | None]:
    low, high = ends
    return (None, None) if low is None else (float(f"{low:.4g}"), float(f"{high:.4g}"))


def _series(name: str, settings: list[Setting], number: int, results: VideoResults) -> Series:
    chosen = [k for k, setting in enumerate(settings) if setting in results.choice.settings]
    places = [results.place(setting) for setting in settings]
    return Series(
        name=name,
        hollow=not is_causal(settings[0]),
        points=places,
        line=False,
        dots=True,
        colour=number,
        chosen=chosen[0] if len(chosen) == 1 else -1,
        labels=[
            f"{setting.values or 'as it is'}\nNME {percent(nme)}, NMF {nmf:.1f}"
            for setting, (nme, nmf) in zip(settings, places, strict=True)
        ],
    )


def _over_time(results: VideoResults, folder: Path) -> list[Part]:
    parts: list[Part] = []
    for name, flicker in results.flicker.items():
        video = _annotation(results, name)
        every = -(-len(video["mask"]) // _POINTS)
        series = [
            Series(name=setting.name, points=_decimated(values, video["fps"], every), colour=number)
            for number, (setting, values) in enumerate(flicker.items())
        ]
        caption = f"Change of the error from each frame to the next, {_UNIT}, in {name}."
        if every > 1:
            caption += f" Each point is the mean of {every} frames."
        chart = Chart(
            title=f"Flicker in {name}",
            series=series,
            x_label="Time (s)",
            y_label=f"Flicker ({video_plots.UNIT})",
            caption=caption,
            y_range=(0, None),
            picture=(folder / "flicker" / f"{file_name(name)}.png").read_bytes(),
        )
        parts += [chart, *_clip(results, name)]
    return parts


def _decimated(values: np.ndarray, fps: float, every: int) -> np.ndarray:
    """(N, 2) time and mean of every so many values, without those that are not known."""
    padded = np.pad(values, (0, -len(values) % every), constant_values=np.nan).reshape(-1, every)
    known = np.isfinite(padded)
    sums, count = np.where(known, padded, 0).sum(axis=1), known.sum(axis=1)
    times = (np.arange(len(padded)) * every + (every - 1) / 2) / fps
    return np.c_[times, np.where(count > 0, sums / np.maximum(count, 1), np.nan)]


def _clip(results: VideoResults, name: str) -> Iterator[Clip]:
    """The beginning of a shown video, drawn side by side."""
    video, source = _annotation(results, name), results.reported.split.source
    fps = float(video["fps"])
    length = min(len(video["mask"]), max(1, min(round(_SECONDS * fps), _FRAMES)))
    tracks = results.reported.tracks[name]
    drawn = {setting.name: tracks[setting][:length] for setting in results.side_by_side}
    window = overlay.face_window(drawn.values())
    frames = source.frames(source.names.index(name))
    pictures = []
    for t, frame in enumerate(itertools.islice(frames, length)):
        if frame is not None:
            points = {method: track[t] for method, track in drawn.items()}
            pictures.append(
                clips.fitted(
                    overlay.side_by_side(
                        frame, points, results.schema, window=window, height=_HEIGHT
                    ),
                    960,
                )
            )
    if not pictures:
        return
    caption = f"{name}, its first {len(pictures)} frames: " + " and ".join(drawn) + "."
    poster = pictures[clips.poster_of([float(picture.mean()) for picture in pictures])]
    whole = Path("overlays") / f"{file_name(name)}.mp4"
    yield Clip(
        caption=caption,
        address=data_address(clips.encode(pictures, fps), "video/mp4"),
        poster=Picture(data=jpeg(poster), alt=f"A frame of {name}"),
        link=file_address(whole) if results.overlays else "",
    )


def _annotation(results: VideoResults, name: str) -> dict[str, Any]:
    split = results.reported.split
    return split.video(split.source.names.index(name))[0]


def _landmarks(results: VideoResults) -> list[Part]:
    reported, settings = results.reported, results.side_by_side
    found = {s: reported.by_landmark[s] for s in settings if s in reported.by_landmark}
    if not found:
        return []
    shape, schema = _mean_face(results), reported.labels.schema
    captions = {
        "Error": "Mean distance from the label, percent of the distance of the outer eye corners.",
        "Flicker": f"Root mean square change of the error from frame to frame, {_UNIT}.",
    }
    parts: list[Part] = []
    columns: dict[str, np.ndarray] = {}
    for column, (what, caption) in enumerate(captions.items()):
        unit, factor = ("%", 100) if what == "Error" else ("", 1)
        numbers = {s: factor * values[:, column].astype(float) for s, values in found.items()}
        together = np.concatenate([*numbers.values()])
        ends = float(np.nanmin(together)), float(np.nanmax(together))
        for setting, values in numbers.items():
            title = f"{what}, {setting.name}"
            columns[f"{title} (%)" if unit else title] = values
            parts.append(
                face_chart(title, shape, values, schema, unit=unit, caption=caption, ends=ends)
            )
    rows = [
        {"landmark": k, **{name: float(values[k]) for name, values in columns.items()}}
        for k in range(len(shape))
        if any(np.isfinite(values[k]) for values in columns.values())
    ]
    return [*parts, Table(caption="All landmarks", rows=rows, folded=True)]


def _mean_face(results: VideoResults) -> np.ndarray:
    """(K, 2) mean of the labels of a first video that counts, and the next, up to some frames."""
    faces: list[np.ndarray] = []
    split = results.reported.split
    for index in results.reported.indices:
        video, _ = split.video(int(index))
        labelled = np.asarray(video["landmarks"], np.float64)[video["mask"]]
        faces += list(labelled[:: max(1, len(labelled) // 50)])
        if len(faces) >= _FACES:
            break
    return np.nanmean(upright(np.array(faces), results.reported.labels.schema.eye_corners), axis=0)


def _videos(results: VideoResults) -> list[Part]:
    reported = results.reported
    judged = results.side_by_side[1]
    shown = list(dict.fromkeys([ALONE, results.choice.best_causal_filter, judged]))
    order = np.argsort(-reported.scores[judged].nme, kind="stable")
    rows = []
    for row in order.tolist():
        name = reported.split.source.names[reported.indices[row]]
        cells: dict[str, Any] = {"video": name, "frames": int(reported.num_frames[row])}
        for setting in shown:
            scores = reported.scores[setting]
            cells[f"NME (%), {setting.name}"] = 100 * float(scores.nme[row])
            cells[f"NMF, {setting.name}"] = f"{scores.nmf[row]:.1f}"
        rows.append(cells)
    by = f"by the error of: {judged.name}"
    if len(rows) <= 2 * _SHOWN:
        return [Table(caption=f"All videos, the worst first, {by}", rows=rows)]
    return [
        Table(caption=f"The {_SHOWN} worst videos, {by}", rows=rows[:_SHOWN]),
        Table(caption=f"The {_SHOWN} best videos, {by}", rows=rows[-_SHOWN:][::-1]),
    ]


def _motion(results: VideoResults) -> list[Part]:
    rows = motion_rows(results.reported, results.choice.of_whole_frames())
    if not rows:
        return []
    caption = (
        "Amplitude of the opening of mouth and eyes and of the place of the head, against the "
        "labels (1: all of it) and relative to the frames alone; lag behind the labels, and delay "
        "after the frames alone. Intervals of 95 %."
    )
    return [Table(caption=caption, rows=rows)]
