"""The report of an evaluation on stills, a page that holds all it shows: `face_page`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.evaluation.face_results import FaceResults, budget_rows, subset_rows
from ldeq_jax.evaluation.how import how_it_was_measured, percent
from ldeq_jax.face import metrics
from ldeq_jax.face.confidence import WITHIN, reliability
from ldeq_jax.media.pictures import jpeg
from ldeq_jax.report.charts import Chart, Series, face_chart, upright
from ldeq_jax.report.draw import draw_landmarks
from ldeq_jax.report.html import Gallery, Page, Part, Picture, Section, Table, Text

_BEST, _WORST = 6, 12  # faces that are shown
_THRESHOLD = 0.1  # end of the error axis, as in the plot beside the report


def face_page(results: FaceResults, record: Mapping[str, Any], folder: Path) -> Page:
    """The report of what was measured on stills.

    Args:
        results: what was measured.
        record: all numbers and how they were measured, as in metrics.json.
        folder: where the plots are.
    """
    everyone = record["subsets"]["all"]
    figures = {
        "mean error (NME)": percent(everyone["nme"]),
        "failures (FR10)": percent(everyone["fr10"]),
        "AUC10": f"{everyone['auc10']:.3f}",
        "faces": str(everyone["faces"]),
    }
    if record["calibration_error"] is not None:
        figures["calibration error"] = f"{record['calibration_error']:.3f}"
    return Page(
        title=f"{record['checkpoint']} on {record['dataset']}",
        about=f"Landmarks of the faces of {record['dataset']}, split {record['split']}",
        figures=figures,
        sections=[
            Section(title="Errors", parts=_errors(results, record, folder)),
            Section(title="Confidence", parts=_confidence(results, folder)),
            Section(title="Landmarks", parts=_landmarks(results)),
            Section(title="Faces", parts=_faces(results)),
            Section(title="How it was measured", parts=how_it_was_measured(record)),
        ],
    )


def _errors(results: FaceResults, record: Mapping[str, Any], folder: Path) -> list[Part]:
    caption = (
        "NME: distance of landmarks from their labels, mean over landmarks and faces, in percent "
        "of the distance of the outer eye corners. FR10: faces with an NME above 10 %. AUC10: "
        "area under the curve below, 1 if there were no error. Steps and residual: of the solver."
    )
    parts: list[Part] = [Table(caption=caption, rows=subset_rows(record), digits=3)]
    parts += [Text(text=note, warning=True) for note in results.missing_notes()]
    parts.append(_cumulative(results, folder / "cumulative_error.png"))
    if results.by_budget:
        parts += _budgets(record, folder / "budgets.png")
    return parts


def _cumulative(results: FaceResults, plot: Path) -> Chart:
    errors = np.linspace(0, _THRESHOLD, 201)
    series = []
    for number, (name, members) in enumerate(results.subsets().items()):
        nme = results.measured["nme"][members]
        shares = metrics.cumulative_error(nme, errors)
        series.append(
            Series(
                name=name,
                points=np.c_[100 * errors, 100 * shares],
                colour=number,
                labels=[
                    f"{100 * share:.1f} % of the faces have at most {100 * error:.2f} %"
                    for share, error in zip(shares, errors, strict=True)
                ],
            )
        )
    return Chart(
        title="Cumulative error",
        series=series,
        x_label="NME (%)",
        y_label="Faces with at most this error (%)",
        caption="Share of the faces whose error is at most that of the axis; higher is better.",
        x_range=(0, 100 * _THRESHOLD),
        y_range=(0, 100),
        picture=plot.read_bytes(),
    )


def _budgets(record: Mapping[str, Any], plot: Path) -> list[Part]:
    budgets, series = record["budgets"], []
    for number, name in enumerate(record["subsets"]):
        points = [(float(steps), of[name]["nme"]) for steps, of in budgets.items()]
        series.append(Series(name=name, points=sorted(points), dots=True, colour=number))
    chart = Chart(
        title="Error by solver steps",
        series=series,
        x_label="Solver steps allowed",
        y_label="NME (%)",
        whole=True,
        caption="Error of the model when the solver may take so many steps.",
        picture=plot.read_bytes(),
    )
    caption = "The same faces with other numbers of solver steps."
    return [chart, Table(caption=caption, rows=budget_rows(record), digits=3, folded=True)]


def _confidence(results: FaceResults, folder: Path) -> list[Part]:
    if (certainty := results.certainty()) is None:
        return []
    bins = reliability(*certainty)
    bins = bins[bins[:, 2] > 0]
    model = Series(
        name="model",
        points=100 * bins[:, :2],
        dots=True,
        colour=0,
        labels=[
            f"said {100 * said:.0f} %, true {100 * true:.0f} %\nof {100 * share:.1f} % of all"
            for said, true, share in bins
        ],
    )
    chart = Chart(
        title="Reliability",
        series=[Series(name="exact", points=[(0, 0), (100, 100)]), model],
        x_label="Probability that the model gives (%)",
        y_label="Landmarks that are near (%)",
        caption=f"Near is within {WITHIN:.0%} of the distance of the outer eye corners. On the "
        "line, what the model says is true as often as it says.",
        x_range=(0, 100),
        y_range=(0, 100),
        picture=(folder / "reliability.png").read_bytes(),
    )
    return [chart, *(Text(text=f"{note}.") for note in results.calibration_notes())]


def _landmarks(results: FaceResults) -> list[Part]:
    ok = results.found.ok
    if not ok.any():
        return []
    shape = upright(results.measured["target"][ok], results.schema.eye_corners)
    shape = np.nanmean(shape, axis=0)
    columns = {"error (%)": 100 * results.errors[ok].mean(axis=0)}
    parts: list[Part] = [
        face_chart(
            "Error of each landmark",
            shape,
            columns["error (%)"],
            results.schema,
            unit="%",
            caption="Mean distance from the label, percent of the distance of the outer eye "
            "corners. Large and bright: a large error.",
        )
    ]
    if results.found.probability is not None:
        columns["probability (%)"] = 100 * results.found.probability[ok].mean(axis=0)
        columns["near (%)"] = 100 * (results.errors[ok] < WITHIN).mean(axis=0)
        parts.append(
            face_chart(
                "Confidence of each landmark",
                shape,
                columns["probability (%)"],
                results.schema,
                unit="%",
                caption="Mean of the probability that the model gives, that the landmark is within "
                f"{WITHIN:.0%} of the distance of the eye corners. Large and dark: unsure.",
                large_is_low=True,
            )
        )
    rows = [
        {"landmark": k, **{name: float(values[k]) for name, values in columns.items()}}
        for k in range(len(shape))
    ]
    return [*parts, Table(caption="All landmarks", rows=rows, folded=True)]


def _faces(results: FaceResults) -> list[Part]:
    nme = results.measured["nme"]
    order = [int(row) for row in np.argsort(nme) if np.isfinite(nme[row])]
    marks = "Blue: found; yellow: label. Below: the error and the name."
    if not order:
        return [Text(text="No face has an error to show.")]
    if len(order) <= _BEST + _WORST:
        return [_gallery(results, order, f"All faces, from the best to the worst. {marks}")]
    return [
        _gallery(results, order[: -_WORST - 1 : -1], f"The worst faces. {marks}"),
        _gallery(results, order[:_BEST], f"The best faces. {marks}"),
    ]


def _gallery(results: FaceResults, rows: Sequence[int], caption: str) -> Gallery:
    crops, measured, pictures = results.crops, results.measured, []
    for row in rows:
        predicted, target = (crops.SIZE * measured[key][row] for key in ("landmarks", "target"))
        drawn = draw_landmarks(crops[row], predicted, results.schema, target)
        name = results.labels[measured["index"][row]]["name"]
        error = percent(100 * measured["nme"][row])
        alt = f"Face {name} with landmarks, error {error}"
        pictures.append(Picture(data=jpeg(drawn), alt=alt, caption=f"{error}  {name}"))
    return Gallery(caption=caption, pictures=pictures)
