"""The report of a set of labels: how far its members agree, which windows it has, and faces."""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.labelling.choice import EASY, HARD
from ldeq_jax.labelling.label_pictures import clip_of, picture_of
from ldeq_jax.labelling.labels import Labelled, Labels
from ldeq_jax.labelling.members import Ensemble
from ldeq_jax.labelling.work import Survey
from ldeq_jax.report.charts import Chart, Series, face_chart, upright
from ldeq_jax.report.html import (
    Clip,
    Code,
    Facts,
    Gallery,
    Page,
    Part,
    Section,
    Table,
    Text,
    data_address,
)

_SHOWN = 8  # windows of each kind in a gallery
_CURVES = 5  # windows in the chart over time
_DROPPED = "dropped"


def label_page(
    work: Path,
    labels: Labels,
    *,
    sources: Mapping[str, str],
    surveys: Mapping[str, Survey],
    ensemble: Ensemble,
    record: Mapping[str, Any],
) -> Page:
    """The page.

    Args:
        work: folder of the windows' videos, ID.mp4.
        labels: of all windows.
        sources: the film of each window, by its ID.
        surveys: of the films, by their source.
        ensemble: the members.
        record: what settings.json has.
    """
    windows = labels.windows
    kept = [window for window in windows.values() if window.kept]
    frames = sum(len(window.window) for window in kept)
    seconds = sum(len(window.window) / window.window.fps for window in kept)
    figures = {
        "windows": str(len(kept)),
        "easy": str(record["windows"][EASY]),
        "hard": str(record["windows"][HARD]),
        "dropped": str(record["windows"]["dropped"]),
        "frames": str(frames),
        "minutes": f"{seconds / 60:.1f}",
    }
    measured = [window.measures for window in kept if window.measures is not None]
    if measured:
        mean = np.mean([m.disagreement for m in measured])
        figures["disagreement"] = f"{mean:.2f} %"
    if by_hand := sum(bool(window.choice) for window in windows.values()):
        figures["by hand"] = str(by_hand)
    warnings: list[Part] = []
    if record["failed"]:
        said = "; ".join(f"{source}: {reason}" for source, reason in record["failed"].items())
        warnings.append(Text(text=f"Not all films are in it. {said}", warning=True))
    if not kept:
        warnings.append(Text(text="No window is kept. The tables below say why.", warning=True))
    return Page(
        title="Videos labelled by an ensemble",
        about=f"{len(kept)} windows of {len(surveys)} films, {ensemble.schema.num_landmarks} "
        f"landmarks ({ensemble.schema.name}). The labels are those of models, not of people.",
        figures=figures,
        sections=[
            Section(title="Warnings", parts=warnings),
            Section(title="Agreement", parts=_agreement(labels, ensemble)),
            Section(title="Faces", parts=_faces(work, windows, ensemble)),
            Section(
                title="Windows", parts=[*_by_hand(windows, record), *_windows(windows, sources)]
            ),
            Section(title="Films", parts=_films(windows, sources, surveys)),
            Section(title="Members", parts=_members(labels, ensemble)),
            Section(title="How it was made", parts=_how(record)),
        ],
    )


def _agreement(labels: Labels, ensemble: Ensemble) -> list[Part]:
    series: list[Series] = []
    parts: list[Part] = []
    for number, kind in enumerate((EASY, HARD, _DROPPED)):
        some = _of(labels.windows, kind)
        points = [(w.measures.motion, w.measures.disagreement) for _, w in some if w.measures]
        names = [id for id, w in some if w.measures]
        if points:
            series.append(
                Series(name=kind, points=points, line=False, dots=True, colour=number, labels=names)
            )
    if series:
        parts.append(
            Chart(
                title="Motion and disagreement of all windows",
                series=series,
                x_label="Motion (% of the face size per frame)",
                y_label="Disagreement (% of the eye distance)",
                caption="Motion: root-mean-square way of the landmarks from frame to frame. "
                "Disagreement: root-mean-square distance of the members from the labels, mean over "
                "landmarks and frames.",
                x_range=(0, None),
                y_range=(0, None),
            )
        )
    kept = [(id, window) for id, window in labels.windows.items() if window.kept]
    worst = sorted(kept, key=lambda item: -np.nan_to_num(item[1].disagreement.mean()))[:_CURVES]
    if worst:
        parts.append(
            Chart(
                title="Disagreement over time",
                series=[
                    Series(
                        name=id,
                        points=list(enumerate(window.disagreement.mean(axis=1))),
                        colour=number,
                    )
                    for number, (id, window) in enumerate(worst)
                ],
                x_label="Frame of the window",
                y_label="Disagreement (% of the eye distance)",
                caption="Mean over landmarks; the windows in the set in which it is greatest.",
                y_range=(0, None),
            )
        )
        schema = ensemble.schema
        shapes = [upright(window.points, schema.eye_corners).mean(axis=0) for _, window in kept]
        by_landmark = np.mean([window.disagreement.mean(axis=0) for _, window in kept], axis=0)
        parts.append(
            face_chart(
                "Disagreement of each landmark",
                np.mean(shapes, axis=0),
                by_landmark,
                schema,
                unit="%",
                caption="In percent of the eye distance, mean over the windows that are kept, on "
                "their mean face.",
            )
        )
    return parts


def _faces(work: Path, windows: Mapping[str, Labelled], ensemble: Ensemble) -> list[Part]:
    parts: list[Part] = []
    for kind, caption in (
        (HARD, "Hard windows, those with the greatest disagreement"),
        (EASY, "Easy windows, likewise"),
        (_DROPPED, "Windows that are dropped"),
    ):
        some = sorted(_of(windows, kind), key=lambda item: -np.nan_to_num(_mean(item[1]), nan=1e9))
        pictures = [picture_of(work, id, window, ensemble) for id, window in some[:_SHOWN]]
        shown = [picture for picture in pictures if picture is not None]
        if shown:
            text = f"{caption}: the frame in which the members disagree most."
            parts.append(Gallery(caption=text, pictures=shown, width=180))
    clips_of = [(kind, _of(windows, kind)) for kind in (HARD, EASY)]
    first = next(((kind, some) for kind, some in clips_of if some), None)
    if first is not None:
        id, window = max(first[1], key=lambda item: _mean(item[1]))
        data = clip_of(work, id, window, ensemble)
        if data is not None:
            kind = f"the {first[0]} window with the greatest disagreement"
            caption = f"{id}, {kind}: the seconds around its worst frame."
            clip = Clip(
                caption=caption,
                address=data_address(data, "video/mp4"),
                poster=picture_of(work, id, window, ensemble),
            )
            parts.insert(0, clip)
    return parts


def _by_hand(windows: Mapping[str, Labelled], record: Mapping[str, Any]) -> list[Part]:
    """What people chose."""
    seen = len({line.partition(",")[0] for line in record["choices"]} & windows.keys())
    words = collections.Counter(window.choice for window in windows.values() if window.choice)
    if not seen:
        return []
    said = ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
    text = f"People looked at {seen} windows, and decided on {words.total()} of them"
    return [Text(text=f"{text}: {said}." if said else f"{text}.")]


def _windows(windows: Mapping[str, Labelled], sources: Mapping[str, str]) -> list[Part]:
    rows = []
    for id, window in windows.items():
        m = window.measures
        rows.append(
            {
                "ID": id,
                "list": window.split or _DROPPED,
                "frames": len(window.window),
                "from (s)": round(float(window.window.times[0]), 2),
                "motion (%)": m.motion if m else None,
                "disagreement (%)": m.disagreement if m else None,
                "worst frame (%)": m.worst_frame if m else None,
                "face (px)": round(m.face) if m else None,
                "by hand": window.choice,
                "reason": window.reason,
            }
        )
    if not rows:
        return []
    return [Table(caption="All windows, as in labels.csv", rows=rows, folded=len(rows) > 20)]


def _films(
    windows: Mapping[str, Labelled], sources: Mapping[str, str], surveys: Mapping[str, Survey]
) -> list[Part]:
    rows = []
    for source, survey in surveys.items():
        own = [window for id, window in windows.items() if sources[id] == source]
        ends = ", ".join(f"{reason}: {count}" for reason, count in survey.ends.items())
        rows.append(
            {
                "film": source,
                "frames": survey.frames,
                "windows": len(own),
                "kept": sum(window.kept for window in own),
                "frames not used": survey.unused,
                "stretches too short for a window, by how they ended": ends,
            }
        )
    if not rows:
        return []
    return [
        Table(caption="Films; frames with two faces count twice", rows=rows, folded=len(rows) > 20)
    ]


def _members(labels: Labels, ensemble: Ensemble) -> list[Part]:
    if labels.habits is None:
        return []
    made = [window for window in labels.windows.values() if window.measures is not None]
    weights = np.mean([window.weights for window in made], axis=0)
    offsets = 100 * np.linalg.norm(labels.habits.offsets, axis=-1).mean(axis=1)
    lost = [
        sum(window.measures.lost[member.name] for window in made if window.measures)
        for member in ensemble.members
    ]
    rows = [
        {
            "member": member.name,
            "weight (%)": 100 * float(weights[m]),
            "offset (%)": float(offsets[m]),
            "residual (%)": 100 * float(labels.habits.residuals[m]),
            "frames without a face": lost[m],
        }
        for m, member in enumerate(ensemble.members)
    ]
    return [
        Table(caption="Members of the ensemble", rows=rows),
        Text(
            text="Offset: mean over landmarks of the constant distance of a member's landmarks "
            "from the mean of those members that find the landmarks of the labels, which is taken "
            "away. Residual: median distance from the median of the other members after that. Both "
            "in percent of the eye distance."
        ),
    ]


def _how(record: Mapping[str, Any]) -> list[Part]:
    options = dict(record["options"])
    values: dict[str, Any] = {"members": ", ".join(options.pop("members"))}
    for name, value in options.items():
        if isinstance(value, dict):
            named = {f"{name}: {key}".replace("_", " "): inner for key, inner in value.items()}
            values |= {key: _said(inner) for key, inner in named.items()}
        else:
            values[name.replace("_", " ")] = _said(value)
    parts: list[Part] = [Facts(values=values)]
    if record["command"]:
        parts.append(Code(text=record["command"]))
    return [*parts, Facts(values=record["versions"])]


def _of(windows: Mapping[str, Labelled], kind: str) -> Sequence[tuple[str, Labelled]]:
    return [(id, window) for id, window in windows.items() if (window.split or _DROPPED) == kind]


def _mean(window: Labelled) -> float:
    return float(window.disagreement.mean())


def _said(value: Any) -> str:
    words = {None: "–", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
