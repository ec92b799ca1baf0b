"""The report of a tracked film, a page that holds all it shows: `film_page`."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldeq_jax.face.confidence import WITHIN
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.film_summary import Bin, FilmSummary, Story
from ldeq_jax.report import clips
from ldeq_jax.report.charts import Chart, Series, face_chart
from ldeq_jax.report.html import (
    Clip,
    Code,
    Facts,
    Gallery,
    Page,
    Part,
    Picture,
    Section,
    Table,
    Text,
    Timeline,
    data_address,
    file_address,
)
from ldeq_jax.report.versions import versions

_CURVES = 7  # faces with curves: as many as there are colours
_LIKE = (0, 4, 2, 3, 6, 1)  # the charts' colours that are like those of ids in drawn films
_ROWS = 40  # faces in the timeline
_LISTED = 200  # faces in the table
_SHOWN = 8  # pictures
_STATES = {"seen by the detector": 0, "followed by its landmarks": 1, "lost": 2}


def film_page(
    summary: FilmSummary, schema: LandmarkSchema, about: Mapping[str, Any], film: Path | None
) -> Page:
    """The report of a tracked film.

    Args:
        summary: what was found.
        schema: of the landmarks.
        about: source, name, checkpoint, step, settings (JSON), command, fps, size, complete,
            codec and trouble, texts of what went wrong.
        film: the drawn film, beside the report; None if there is none.
    """
    tally = summary.tally
    parts: list[Part] = [Text(text=f"{tally}.")]
    if not about["complete"]:
        parts.insert(0, Text(text=_INCOMPLETE, warning=True))
    parts += [Text(text=text, warning=True) for text in about["trouble"]]
    return Page(
        title=str(about["name"]),
        about=f"All faces of {about['source']}, tracked by {about['checkpoint']}",
        figures=_figures(summary, about),
        sections=[
            Section(title="Summary", parts=[*parts, *_faces(summary)]),
            Section(title="Film", parts=_film(summary, about, film)),
            Section(title="Who is there when", parts=_timeline(summary)),
            Section(title="Over time", parts=_over_time(summary)),
            Section(title="Landmarks", parts=_landmarks(summary, schema)),
            Section(title="How it was tracked", parts=_how(about)),
        ],
    )


_INCOMPLETE = (
    "This report is incomplete: the film was broken off before its end. It holds what was found "
    "until then. The same command begins the film again."
)


def _figures(summary: FilmSummary, about: Mapping[str, Any]) -> dict[str, str]:
    tally, stories = summary.tally, summary.stories.values()
    figures = {
        "frames": f"{tally.frames}" + " (incomplete)" * (not about["complete"]),
        "length": _duration(summary.end - summary.start + summary.interval),
        "frames with a face": percent_of(tally.with_a_face, tally.frames),
        "faces (ids)": str(len(tally.found)),
    }
    if summary.most:
        figures["at a time, at most"] = str(summary.most)
    total = _sum([story.total for story in stories])
    if total.confident:
        figures["mean confidence"] = f"{100 * total.confidence / total.confident:.1f} %"
    if total.steps:
        figures["motion within the face"] = f"{total.step / total.steps:.2f} %"
    if summary.num_cuts:
        figures["cuts"] = str(summary.num_cuts)
    return figures


def _faces(summary: FilmSummary) -> list[Part]:
    rows, frames = [], summary.tally.frames
    for story in [*summary.stories.values()][:_LISTED]:
        total, (reason, when) = story.total, story.ended
        low, at = story.lowest
        rows.append(
            {
                "face": story.id,
                "from (s)": story.first,
                "to (s)": story.last,
                "frames": story.found,
                "of all frames": percent_of(story.found, frames),
                "detected in": story.detected,
                "lost (s)": story.lost_seconds,
                "confidence (%)": _mean(100 * total.confidence, total.confident),
                "lowest (%)": f"{100 * low:.1f} at {at:.1f} s" if math.isfinite(low) else "",
                "motion (%)": _mean(total.step, total.steps),
                "its id ended": f"{reason} (at {when:.1f} s)" if reason else "",
            }
        )
    if not rows:
        return []
    caption = (
        "Every face with an id. Lost: for how long it was not found while it had its id. Motion: "
        "how far landmarks move within the face from one frame to the next, see below."
    )
    parts: list[Part] = [Table(caption=caption, rows=rows)]
    if more := len(summary.stories) + summary.forgotten - len(rows):
        parts.append(Text(text=f"{more} more faces are not listed; the tables have them all."))
    return parts


def _film(summary: FilmSummary, about: Mapping[str, Any], film: Path | None) -> list[Part]:
    parts: list[Part] = []
    pictures = [
        Picture(
            data=data, alt=f"The film at {time:.1f} s, landmarks drawn", caption=f"{time:.1f} s"
        )
        for time, data in summary.pictures.items()
    ]
    if film is not None and film.exists():
        plays, size = about["codec"] != "mp4v", film.stat().st_size
        inside = plays and size <= clips.LARGEST
        caption = "The film with the landmarks and ids drawn."
        if not inside:
            caption += f" It is a file of its own, {film.name}, {size / 1e6:.0f} MB, beside this."
        link = file_address(Path(film.name))
        parts.append(
            Clip(
                caption=caption,
                address=data_address(film.read_bytes(), "video/mp4") if inside else link,
                link="" if inside else link,
                plays=plays,
                poster=pictures[len(pictures) // 2] if pictures else None,
            )
        )
    step = max(1, math.ceil(len(pictures) / _SHOWN))
    if pictures:
        caption = "Frames from all over the film. Colours are those of the ids."
        parts.append(Gallery(caption=caption, pictures=pictures[::step], width=240))
    return parts


def _timeline(summary: FilmSummary) -> list[Part]:
    shown = _longest(summary, _ROWS)
    if not shown:
        return []
    seconds = (summary.end - summary.start) / max(summary.tally.frames - 1, 1)
    rows = {}
    for story in shown:
        spans: list[tuple[float, float, str]] = []
        for _, here in sorted(story.bins.items()):
            state = "lost" if here.lost else [*_STATES][1 if here.unseen else 0]
            middle, half = here.seconds / here.frames, seconds * here.frames / 2
            first, last = middle - half, middle + half
            if spans and spans[-1][2] == state and first - spans[-1][1] < seconds:
                spans[-1] = (spans[-1][0], last, state)
            else:
                spans.append((first, last, state))
        rows[f"face {story.id}"] = spans
    caption = (
        "Seen by the detector: in this frame or one of those since it last had to look. Followed: "
        "its landmarks are found all the same. Lost: it is not found, and may come back."
    )
    if summary.per_bin > 1:
        caption += f" Of {summary.per_bin} frames each, the worst is shown."
    if len(shown) < len(summary.tally.found):
        caption += f" These are the {len(shown)} faces that are found in the most frames."
    return [
        Timeline(
            caption=caption,
            start=summary.start - seconds / 2,
            end=summary.end + seconds / 2,
            rows=rows,
            states=_STATES,
            marks=[(time, "cut") for time in summary.cuts],
        )
    ]


def _over_time(summary: FilmSummary) -> list[Part]:
    shown = _longest(summary, _CURVES)
    note = f" Each point is the mean of {summary.per_bin} frames." if summary.per_bin > 1 else ""
    if len(shown) < len(summary.tally.found):
        note += f" The {len(shown)} faces that are found in the most frames."

    colours = _colours([story.id for story in shown])

    def curves(value: Callable[[Bin], float]) -> list[Series]:
        series: list[Series] = []
        for story in shown:
            points, before = [], None
            for place, here in sorted(story.bins.items()):
                if before is not None and place > before + 1:
                    points.append((math.nan, math.nan))
                points.append((here.seconds / here.frames, value(here)))
                before = place
            colour = colours[story.id]
            series.append(Series(name=f"face {story.id}", points=points, colour=colour))
        return series

    parts: list[Part] = []
    ends = summary.start, max(summary.end, summary.start + 1e-3)
    if any(story.total.confident for story in shown):
        parts.append(
            Chart(
                title="Confidence",
                series=curves(lambda here: _mean(100 * here.confidence, here.confident)),
                x_label="Time (s)",
                y_label="Probability that it is a face (%)",
                caption="What the model says of each face, frame by frame." + note,
                x_range=ends,
                y_range=(0, 100),
            )
        )
    if any(story.total.steps for story in shown):
        parts.append(
            Chart(
                title="Motion within the face",
                series=curves(lambda here: _mean(here.step, here.steps)),
                x_label="Time (s)",
                y_label="Motion from the frame before (% of the face)",
                caption="How far landmarks are from where the frame before has them, once its "
                "position, size and rotation are fitted to this frame by least squares: mean over "
                "landmarks, percent of the face's size (root of the area of the landmarks' "
                "extent). What is left is expression and flicker." + note,
                x_range=ends,
                y_range=(0, None),
            )
        )
    return parts


def _colours(ids: Sequence[int]) -> dict[int, int]:
    """Numbers of the charts' colours by id: those most like the film's, none twice."""
    free, colours = list(range(_CURVES)), {}
    for number in ids:
        like = _LIKE[number % len(_LIKE)]
        colours[number] = free.pop(free.index(like) if like in free else 0)
    return colours


def _landmarks(summary: FilmSummary, schema: LandmarkSchema) -> list[Part]:
    means = summary.by_landmark
    if not means:
        return []
    if "probability" in means:
        chart = face_chart(
            "Confidence of each landmark",
            means["shape"],
            100 * means["probability"],
            schema,
            unit="%",
            caption=f"Mean of the probability that a landmark is within {WITHIN:.0%} of the "
            "distance of the outer eye corners of where it belongs, over all faces and frames, on "
            "their mean face. Large and dark: unsure.",
            large_is_low=True,
        )
        values = {"probability (%)": 100 * means["probability"]}
    else:
        chart = face_chart(
            "Spread of each landmark",
            means["shape"],
            100 * means["spread"],
            schema,
            unit="%",
            caption="Width of the landmarks' heatmaps in percent of the face's size, mean over all "
            "faces and frames, on their mean face. Large and bright: unsure.",
        )
        values = {"spread (%)": 100 * means["spread"]}
    rows = [
        {"landmark": k, **{name: float(of[k]) for name, of in values.items()}}
        for k in range(schema.num_landmarks)
    ]
    return [chart, Table(caption="All landmarks", rows=rows, folded=True)]


def _how(about: Mapping[str, Any]) -> list[Part]:
    settings = json.loads(about["settings"])
    limits = settings.pop("limits")
    named = {name.replace("_", " "): value for name, value in {**settings, **limits}.items()}
    width, height = about["size"]
    values = {
        "film": about["source"],
        "frames": f"{width} x {height} pixels, {about['fps']:.5g} a second by the header",
        "model": about["checkpoint"],
        "training step": about["step"],
        "landmarks": about["schema"],
    }
    named.pop("checkpoint")
    values |= {name: _said(value) for name, value in named.items()}
    parts: list[Part] = [Facts(values=values)]
    if about["command"]:
        parts.append(Code(text=about["command"]))
    return [*parts, Facts(values=versions())]


def _longest(summary: FilmSummary, count: int) -> list[Story]:
    """The faces that are found in the most frames, by their ids."""
    found = sorted(summary.stories.values(), key=lambda story: -story.found)[:count]
    return sorted(found, key=lambda story: story.id)


def _sum(bins: Sequence[Bin]) -> Bin:
    total = Bin()
    for one in bins:
        total = total.plus(one)
    return total


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan


def percent_of(part: int, whole: int) -> str:
    """A share in words; a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _said(value: Any) -> str:
    words = {None: "–", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
