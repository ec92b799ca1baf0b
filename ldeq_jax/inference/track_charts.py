"""Charts of a tracked film: who is there when, confidence and motion over time, landmarks."""

import math
from collections.abc import Callable, Mapping, Sequence

from ldeq_jax.face.confidence import WITHIN
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.inference.film_summary import Bin, FilmSummary, Story, joined
from ldeq_jax.report.charts import Chart, Series, face_chart
from ldeq_jax.report.html import Table, Timeline

_CURVES = 7  # faces with curves: as many as there are colours
_LIKE = (0, 4, 2, 3, 6, 1)  # the charts' colours that are like those of ids in drawn films
_ROWS, _SPANS = 40, 3000  # faces in the timeline, and spans in all its rows
_STATES = {"seen by the detector": 0, "followed by its landmarks": 1, "lost": 2}


def timeline(summary: FilmSummary) -> list[Timeline]:
    """When each face is there, and how it is found."""
    shown = _longest(summary, _ROWS)
    if not shown:
        return []
    seconds = (summary.end - summary.start) / max(summary.tally.frames - 1, 1)
    rows, together = {f"face {story.id}": _spans(story.bins, seconds) for story in shown}, 1
    while sum(map(len, rows.values())) > _SPANS:
        together *= 2
        for story in shown:
            rows[f"face {story.id}"] = _spans(joined(story.bins, together), seconds)
    caption = (
        "Seen by the detector: in this frame or one of those since it last had to look. Followed: "
        "its landmarks are found all the same. Lost: it is not found, and may come back."
    )
    if (frames := together * summary.per_bin) > 1:
        caption += f" Of {frames} frames each, the worst is shown."
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


def _spans(bins: Mapping[int, Bin], seconds: float) -> list[tuple[float, float, str]]:
    """From when to when a face is how found.

    Args:
        bins: of the face.
        seconds: from one frame to the next, in the mean.
    """
    spans: list[tuple[float, float, str]] = []
    for _, here in sorted(bins.items()):
        state = "lost" if here.lost else [*_STATES][1 if here.unseen else 0]
        middle, half = here.seconds / here.frames, seconds * here.frames / 2
        first, last = middle - half, middle + half
        if spans and spans[-1][2] == state and first - spans[-1][1] < seconds:
            spans[-1] = (spans[-1][0], last, state)
        else:
            spans.append((first, last, state))
    return spans


def curves(summary: FilmSummary) -> list[Chart]:
    """Confidence, and motion within the face, over time."""
    shown = _longest(summary, _CURVES)
    note = f" Each point is the mean of {summary.per_bin} frames." if summary.per_bin > 1 else ""
    if some := len(shown) < len(summary.tally.found):
        note += f" The {len(shown)} faces that are found in the most frames."
    colours = _colours([story.id for story in shown])
    everyone: dict[int, Bin] = {}
    for story in summary.stories.values():
        for place, here in story.bins.items():
            everyone[place] = everyone.get(place, Bin()).plus(here)

    def series_of(value: Callable[[Bin], float]) -> list[Series]:
        series: list[Series] = []
        for story in shown:
            name, points = f"face {story.id}", _curve(story.bins, value)
            series.append(Series(name=name, points=points, colour=colours[story.id]))
        if some:  # the last is drawn below the others
            series.append(Series(name="mean of all faces", points=_curve(everyone, value)))
        return series

    parts: list[Chart] = []
    ends = summary.start, max(summary.end, summary.start + 1e-3)
    if any(story.total.confident for story in shown):
        parts.append(
            Chart(
                title="Confidence",
                series=series_of(lambda here: mean_of(100 * here.confidence, here.confident)),
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
                series=series_of(lambda here: mean_of(here.step, here.steps)),
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


def _curve(bins: Mapping[int, Bin], value: Callable[[Bin], float]) -> list[tuple[float, float]]:
    """Times and values of bins, with a gap where bins are missing."""
    points: list[tuple[float, float]] = []
    before = None
    for place, here in sorted(bins.items()):
        if before is not None and place > before + 1:
            points.append((math.nan, math.nan))
        points.append((here.seconds / here.frames, value(here)))
        before = place
    return points


def _colours(ids: Sequence[int]) -> dict[int, int]:
    """Numbers of the charts' colours by id: those most like the film's, none twice."""
    free, colours = list(range(_CURVES)), {}
    for number in ids:
        like = _LIKE[number % len(_LIKE)]
        colours[number] = free.pop(free.index(like) if like in free else 0)
    return colours


def landmarks(summary: FilmSummary, schema: LandmarkSchema) -> list[Chart | Table]:
    """Confidence of each landmark, or its spread where the model is not calibrated."""
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


def _longest(summary: FilmSummary, count: int) -> list[Story]:
    """The faces that are found in the most frames, by their ids."""
    found = sorted(summary.stories.values(), key=lambda story: -story.found)[:count]
    return sorted(found, key=lambda story: story.id)


def mean_of(total: float, count: int) -> float:
    """NaN of nothing."""
    return total / count if count else math.nan
