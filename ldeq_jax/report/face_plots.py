"""Plots of stills: faces from best to worst, cumulative error, and error by solver budget.

Predictions are drawn in blue and references in yellow, which colour-blind readers can tell apart.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ldeq_jax.face import metrics
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report.draw import draw_landmarks
from ldeq_jax.report.style import Path, clean_axes, palette, subplots

_TILE = 256  # least width of a face in the gallery, in drawn pixels


class Images(Protocol):
    """Pictures by number, such as a list, or an object that reads a picture when it is needed."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def face_gallery(
    images: Images,
    predicted: Sequence[np.ndarray] | np.ndarray,
    target: Sequence[np.ndarray] | np.ndarray,
    nme: np.ndarray,
    schema: LandmarkSchema,
    path: Path,
    count: int = 6,
) -> None:
    """Draws the best, the median and the worst faces, with the NME below each.

    Args:
        images: N images uint8 RGB, of any sizes; only those that are drawn are asked for.
        predicted: N sets of landmarks (K, 2) in pixels of their image.
        target: N sets of reference landmarks, same pixels.
        nme: (N,) errors as fractions; faces with a NaN are not shown.
        schema: schema of the landmarks.
        path: picture to write; its folder must exist.
        count: faces in each of the three rows.

    Raises:
        ValueError: no face has an error.
    """
    nme = np.asarray(nme)
    order = [index for index in np.argsort(nme) if np.isfinite(nme[index])]
    if not order:
        raise ValueError(f"no face with a finite NME to show in {os.fspath(path)}")
    count = min(count, len(order))
    middle = (len(order) - count) // 2
    rows = {
        "Best": order[:count],
        "Median": order[middle : middle + count],
        "Worst": order[-count:],
    }
    figure, grid = subplots(len(rows), count, (1.7, 2.0))
    for axes_row, (title, indices) in zip(grid, rows.items(), strict=True):
        for axes, index in zip(axes_row, indices, strict=True):
            image = np.asarray(images[index])
            scale = max(1, math.ceil(_TILE / image.shape[1]))
            axes.imshow(draw_landmarks(image, predicted[index], schema, target[index], scale=scale))
            axes.set_xlabel(f"{100 * nme[index]:.2f} %", fontsize=9)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(title, fontsize=10)
    figure.suptitle("NME of each face; blue: predicted, yellow: reference", fontsize=9)
    figure.savefig(path, dpi=150)


def cumulative_error_plot(
    curves: Mapping[str, np.ndarray], path: Path, threshold: float = 0.1
) -> None:
    """Plots the share of faces below each error, one curve per method or subset.

    Args:
        curves: name to (N,) NME of its faces, as fractions; NaN counts as a failure.
        path: picture to write; its folder must exist.
        threshold: end of the error axis, also that of FR and AUC in the legend.
    """
    figure, [[axes]] = subplots(1, 1, (5.0, 3.6))
    clean_axes(axes)
    errors = np.linspace(0, threshold, 1001)
    for colour, (name, nme) in zip(palette(len(curves)), curves.items(), strict=True):
        failures, area = metrics.failure_rate(nme, threshold), metrics.auc(nme, threshold)
        axes.plot(
            100 * errors,
            100 * metrics.cumulative_error(nme, errors),
            color=colour,
            drawstyle="steps-post",
            label=f"{name} (AUC {area:.3f}, FR {100 * failures:.2f} %)",
        )
    axes.set(xlim=(0, 100 * threshold), ylim=(0, 100))
    axes.set_xlabel("NME (% of inter-ocular distance)")
    axes.set_ylabel("Faces with at most this error (%)")
    if curves:
        figure.legend(frameon=False, fontsize=8, loc="outside upper left")
    figure.savefig(path, dpi=150)


def reliability_plot(bins: np.ndarray, path: Path) -> None:
    """Plots how often landmarks are near against how probable the model says it is.

    Args:
        bins: (B, 3) mean probability, frequency and share of the landmarks, of bins of equal width,
            as `face.confidence.reliability` makes them.
        path: picture to write; its folder must exist.
    """
    figure, [[axes], [shares]] = subplots(2, 1, (3.6, 2.2))
    for part in (axes, shares):
        clean_axes(part)
    filled = bins[bins[:, 2] > 0]
    axes.plot([0, 100], [0, 100], color="0.7", linewidth=1, label="exact")
    [colour] = palette(1)
    axes.plot(100 * filled[:, 0], 100 * filled[:, 1], marker="o", color=colour, label="model")
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.set_ylabel("Are within 5 % of\neye distance (%)")
    axes.legend(frameon=False, fontsize=8)
    middles = 100 * (np.arange(len(bins)) + 0.5) / len(bins)
    shares.bar(middles, 100 * bins[:, 2], width=80 / len(bins), color=colour)
    shares.set(xlim=(0, 100))
    shares.set_ylabel("Landmarks (%)")
    shares.set_xlabel("Probability that the model gives (%)")
    figure.savefig(path, dpi=150)


def budget_plot(
    budgets: Sequence[int],
    nme: Mapping[str, Sequence[float]],
    residual: Mapping[str, Sequence[float]],
    path: Path,
) -> None:
    """Plots the mean error and the mean residual against the iteration budget of the solver.

    Args:
        budgets: iterations allowed.
        nme: subset of the faces to its mean NME at each budget, in percent.
        residual: subset to its mean relative residual at each budget.
        path: picture to write; its folder must exist.
    """
    figure, [[errors, residuals]] = subplots(1, 2, (3.6, 2.9))
    order = np.argsort(budgets)
    steps = np.asarray(budgets)[order]
    for colour, name in zip(palette(len(nme)), nme, strict=True):
        style = {"color": colour, "marker": "o", "markersize": 3}
        errors.plot(steps, np.asarray(nme[name])[order], label=name, **style)
        residuals.plot(steps, np.asarray(residual[name])[order], **style)
    for axes, label in ((errors, "NME (%)"), (residuals, "Relative residual")):
        clean_axes(axes)
        axes.set_xlabel("Solver steps allowed")
        axes.set_ylabel(label)
        axes.locator_params("x", integer=True)
    residuals.set_yscale("log")
    residuals.set_xlim(errors.get_xlim())  # without a step there is no residual
    figure.legend(frameon=False, fontsize=8, ncols=4, loc="outside upper left")
    figure.savefig(path, dpi=150)
