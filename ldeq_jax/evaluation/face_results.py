"""Results of an evaluation on stills: the record, tables, rows, plots and drawn faces."""

import csv
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ldeq_jax.data.sources import FaceSource
from ldeq_jax.face import geometry, metrics
from ldeq_jax.face.confidence import (
    WITHIN,
    ConfidenceConfig,
    calibration_error,
    reliability,
    with_confidence,
)
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report import face_plots
from ldeq_jax.report.tables import markdown_table

Arrays = dict[str, np.ndarray]
Row = dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceResults:
    """What was measured on the faces of a split.

    A subset holds the faces with an attribute that some but not all of them have.

    Attributes:
        source: the faces.
        labels: annotation of each face.
        measured: at the budget of the config, see `faces.measure`.
        by_budget: the same at other budgets.
        schema: of the landmarks.
        image_size: side of the model's crops, pixels.
        confidence: the model's calibration.
    """

    source: FaceSource
    labels: Sequence[dict[str, Any]]
    measured: Arrays
    by_budget: Mapping[int, Arrays]
    schema: LandmarkSchema
    image_size: int
    confidence: ConfidenceConfig = ConfidenceConfig()

    @property
    def left_out(self) -> list[str]:
        """Names of the faces whose labels or box have no size."""
        missing = np.setdiff1d(np.arange(len(self.labels)), self.measured["index"])
        return [self.labels[index]["name"] for index in missing]

    def subsets(self) -> dict[str, np.ndarray]:
        """Masks (N,) of all measured faces and of the subsets."""
        labels = [self.labels[index] for index in self.measured["index"]]
        flags = np.array([label["attributes"] for label in labels], bool)
        members = dict(zip(self.source.attribute_names, flags.T, strict=True))
        parts = {name: mask for name, mask in members.items() if mask.any() and not mask.all()}
        return {"all": np.ones(len(labels), bool)} | parts

    @functools.cached_property
    def found(self) -> Landmarks:
        """(N,) what the model found, in units of the crops, with its confidence if calibrated."""
        found = Landmarks(
            points=self.measured["landmarks"],
            spread=self.measured["spread"],
            ok=np.isfinite(self.measured["nme"]),
        )
        return with_confidence(found, self.confidence, self.schema.eye_corners)

    @functools.cached_property
    def errors(self) -> np.ndarray:
        """(N, K) distance of each landmark from its label, as a fraction of the eye distance."""
        target = self.measured["target"]
        left, right = (target[:, corner] for corner in self.schema.eye_corners)
        eyes = np.linalg.norm(left - right, axis=-1)[:, None]
        return np.linalg.norm(self.found.points - target, axis=-1) / eyes

    @functools.cached_property
    def crops(self) -> "SharpCrops":
        """Pictures of the measured faces."""
        return SharpCrops(self.source, self.measured, self.image_size)

    def certainty(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Of every landmark found, how probable it is that it is near, and whether it is: (M,).

        None for a model that is not calibrated. Near is within 5 % of the eye distance.
        """
        probability, ok = self.found.probability, self.found.ok
        if probability is None:
            return None
        return probability[ok].ravel(), (self.errors < WITHIN)[ok].ravel()

    def record(self) -> dict[str, Any]:
        """All numbers."""
        subsets, certainty = self.subsets(), self.certainty()
        calibration = None if certainty is None else calibration_error(*certainty)
        return {
            "schema": self.schema.name,
            "num_faces": len(self.measured["index"]),
            "left_out": self.left_out,
            "calibration_error": calibration,
            "subsets": {name: summary(self.measured, mask) for name, mask in subsets.items()},
            "budgets": {
                budget: {name: summary(measured, mask) for name, mask in subsets.items()}
                for budget, measured in self.by_budget.items()
            },
        }

    def tables(self) -> str:
        """A table of the subsets and, with budgets, one of the budgets, as Markdown."""
        numbers = self.record()
        parts = [markdown_table(subset_rows(numbers), digits=3)]
        if self.by_budget:
            parts.append(markdown_table(budget_rows(numbers), digits=3))
        return "\n".join(parts)

    def notes(self) -> list[str]:
        """Sentences on the calibration, and on faces that were left out or got no landmarks."""
        return [*self.calibration_notes(), *self.missing_notes()]

    def calibration_notes(self) -> list[str]:
        """What probabilities say against what is true; nothing without a calibration."""
        if (certainty := self.certainty()) is None:
            return []
        return [
            f"Landmarks within {WITHIN:.0%} of the eye distance: probability "
            f"{np.mean(certainty[0]):.3f} in the mean, in fact {np.mean(certainty[1]):.3f}; "
            f"expected calibration error {calibration_error(*certainty):.3f}"
        ]

    def missing_notes(self) -> list[str]:
        """Sentences on the faces that were left out or got no landmarks."""
        notes = []
        if left_out := self.left_out:
            some = ", ".join(left_out[:5]) + ", ..." * (len(left_out) > 5)
            notes.append(f"{len(left_out)} faces left out whose labels or box have no size: {some}")
        if lost := int(np.sum(~np.isfinite(self.measured["nme"]))):
            notes.append(
                f"{lost} faces got no finite landmarks: failures in FR10 and AUC10, no mean NME"
            )
        return notes

    def write_rows(self, folder: Path) -> None:
        """Writes faces.csv, each face: its error in percent, true and false as 1 and 0."""
        measured = self.measured
        with (folder / "faces.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            head = ["index", "name", *self.source.attribute_names, "nme", "num_steps", "residual"]
            writer.writerow([*head, "converged", "diverged"])
            for row, index in enumerate(measured["index"]):
                writer.writerow(
                    [
                        index,
                        self.labels[index]["name"],
                        *np.asarray(self.labels[index]["attributes"], int),
                        f"{100 * measured['nme'][row]:.4f}",
                        measured["num_steps"][row],
                        f"{measured['residual'][row]:.3e}",
                        int(measured["converged"][row]),
                        int(measured["diverged"][row]),
                    ]
                )

    def draw(self, folder: Path) -> None:
        """Draws the share of faces below each error, the budgets, and faces from best to worst."""
        for sometimes in ("budgets.png", "faces.png", "reliability.png"):
            (folder / sometimes).unlink(missing_ok=True)  # an earlier evaluation's
        measured, subsets = self.measured, self.subsets()
        if self.by_budget:
            rows = self.record()["budgets"].values()
            nme, residual = (
                {name: [row[name][key] for row in rows] for name in subsets}
                for key in ("nme", "residual")
            )
            face_plots.budget_plot(list(self.by_budget), nme, residual, folder / "budgets.png")
        if (certainty := self.certainty()) is not None:
            face_plots.reliability_plot(reliability(*certainty), folder / "reliability.png")
        curves = {name: measured["nme"][mask] for name, mask in subsets.items()}
        face_plots.cumulative_error_plot(curves, folder / "cumulative_error.png")
        if np.isfinite(measured["nme"]).any():
            crops = self.crops
            predicted, target = (crops.SIZE * measured[key] for key in ("landmarks", "target"))
            path = folder / "faces.png"
            face_plots.face_gallery(crops, predicted, target, measured["nme"], self.schema, path)


def summary(measured: Arrays, members: np.ndarray) -> Row:
    """Numbers over the faces of a subset; all but num_steps, residual and auc10 in percent.

    Args:
        measured: see `faces.measure`.
        members: (N,) True for the faces of the subset.
    """
    nme = measured["nme"][members]
    means = {key: float(np.mean(measured[key][members])) for key in ("num_steps", "residual")}
    shares = {
        key: 100 * float(np.mean(measured[key][members])) for key in ("converged", "diverged")
    }
    return {
        "faces": len(nme),
        "nme": 100 * float(np.mean(nme)),
        "fr10": 100 * metrics.failure_rate(nme),
        "auc10": metrics.auc(nme),
        **means,
        **shares,
    }


def subset_rows(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of all faces and of the subsets, from `FaceResults.record`."""
    return [
        {"faces of": name, "number": row["faces"], **_cells(row)}
        for name, row in numbers["subsets"].items()
    ]


def budget_rows(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of the budgets, from `FaceResults.record`."""
    return [
        {"steps allowed": budget, **_cells(row["all"])}
        for budget, row in numbers["budgets"].items()
    ]


def _cells(row: Row) -> dict[str, Any]:
    """Columns that both tables have."""
    return {
        "NME (%)": row["nme"],
        "FR10 (%)": row["fr10"],
        "AUC10": row["auc10"],
        "steps": row["num_steps"],
        "residual": f"{row['residual']:.1e}",
        "converged (%)": f"{row['converged']:.1f}",
    }


class SharpCrops:
    """Crops of measured faces by row, larger than the model's; those asked for are kept."""

    SIZE: ClassVar[int] = 256

    def __init__(self, source: FaceSource, measured: Arrays, image_size: int):
        zoom = np.diag([self.SIZE / image_size, self.SIZE / image_size, 1])
        self._source, self._indices = source, measured["index"]
        self._view_from_frame = zoom @ geometry.inverse(measured["frame_from_crop"])
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, row: int) -> np.ndarray:
        if row not in self._kept:
            picture = self._source[int(self._indices[row])]["image"]
            self._kept[row] = geometry.warp(picture, self._view_from_frame[row], self.SIZE)
        return self._kept[row]
