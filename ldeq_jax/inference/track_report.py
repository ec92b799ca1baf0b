"""The report of a tracked film, a page that holds all it shows: `film_page`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.film_summary import Bin, FilmSummary
from ldeq_jax.inference.track_charts import curves, landmarks, mean_of, timeline
from ldeq_jax.report import clips
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
    data_address,
    file_address,
)
from ldeq_jax.report.versions import versions

_OPEN, _LISTED = 15, 200  # faces in the table that is open, and in all
_SHOWN = 8  # pictures


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
            Section(title="Who is there when", parts=timeline(summary)),
            Section(title="Over time", parts=curves(summary)),
            Section(title="Landmarks", parts=landmarks(summary, schema)),
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
                "confidence (%)": mean_of(100 * total.confidence, total.confident),
                "lowest (%)": 100 * low if math.isfinite(low) else math.nan,
                "at (s)": at if math.isfinite(low) else math.nan,
                "motion (%)": mean_of(total.step, total.steps),
                "its id ended": f"{reason} (at {when:.1f} s)" if reason else "",
            }
        )
    if not rows:
        return []
    caption = (
        "Every face with an id. Lost: for how long it was not found while it had its id. Motion: "
        "how far landmarks move within the face from one frame to the next, see below."
    )
    parts: list[Part] = [Table(caption=caption, rows=rows[:_OPEN])]
    if rest := rows[_OPEN:]:
        parts.append(Table(caption=f"{len(rest)} more faces", rows=rest, folded=True))
    if more := len(summary.stories) + summary.forgotten - len(rows):
        parts.append(
            Text(text=f"{more} more faces are not listed; NAME.csv and NAME.npz have all.")
        )
    return parts


def _film(summary: FilmSummary, about: Mapping[str, Any], film: Path | None) -> list[Part]:
    parts: list[Part] = []
    pictures = [
        Picture(
            data=still.jpeg,
            alt=f"The film at {time:.1f} s, landmarks drawn",
            caption=f"{time:.1f} s",
        )
        for time, still in summary.pictures.items()
    ]
    if film is not None and film.exists():
        plays, size = about["codec"] != "mp4v", film.stat().st_size
        inside = plays and size <= clips.LARGEST
        caption = "The film with the landmarks and ids drawn."
        if not inside:
            caption += f" It is a file of its own, {film.name}, {size / 1e6:.1f} MB, beside this."
        if not plays:
            caption += " Browsers cannot play its codec, media players can."
        link = file_address(Path(film.name))
        levels = [still.level for still in summary.pictures.values()]
        parts.append(
            Clip(
                caption=caption,
                address=data_address(film.read_bytes(), "video/mp4") if inside else link,
                link="" if inside else link,
                plays=plays,
                poster=pictures[clips.poster_of(levels)] if pictures else None,
            )
        )
    step = max(1, math.ceil(len(pictures) / _SHOWN))
    if pictures:
        caption = "Frames from all over the film."
        caption += " Colours are those of the ids." * bool(summary.tally.found)
        parts.append(Gallery(caption=caption, pictures=pictures[::step], width=240))
    return parts


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
    parts: list[Part] = [Facts(values=values), Facts(values=versions())]
    return [*parts, *([Code(text=about["command"])] if about["command"] else [])]


def _sum(bins: Sequence[Bin]) -> Bin:
    total = Bin()
    for one in bins:
        total = total.plus(one)
    return total


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
