"""Plots of stills and of training runs, and the style that all plots share.

Predictions are drawn in blue and references in yellow, which colour-blind readers can tell apart;
curves have the palette of Okabe and Ito. `video_plots` holds the plots of videos.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face import metrics
from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report.draw import draw_landmarks

Path = str | os.PathLike[str]

_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_TILE = 256  # least width of a face in the gallery, in drawn pixels

# Quantity (last part of a record's key): label of its axis, and whether the axis is logarithmic.
_QUANTITIES = {
    "loss": ("Loss", False),
    "nme": ("NME (%)", False),
    "solver_steps": ("Solver steps", False),
    "residual": ("Relative residual", True),
    "lr": ("Learning rate", False),
}


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


def training_curves(jsonl: Path, png: Path) -> None:
    """Plots what a training run logged against its steps, one panel per quantity.

    Each line of the log is an object with "step" and any of "lr", "GROUP/loss", "GROUP/nme" (in
    percent), "GROUP/solver_steps" and "GROUP/residual", where GROUP is "train", "eval" or longer
    ("eval/test"). Other keys are ignored. Where a step occurs twice, as after a resume, the later
    line counts.

    Args:
        jsonl: log to read.
        png: picture to write; its folder must exist.

    Raises:
        UserError: a line is not such an object, or there is nothing to plot.
    """
    panels = _read_series(jsonl)
    if not panels:
        raise UserError(f"{os.fspath(jsonl)}: no record with any of {', '.join(_QUANTITIES)}")
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure, grid = subplots(rows, columns, (3.6, 2.7))
    groups = list(dict.fromkeys(group for series in panels.values() for group in series))
    colours = dict(zip(groups, palette(len(groups)), strict=True))
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (quantity, series) in zip(grid.flat, panels.items(), strict=False):
        label, logarithmic = _QUANTITIES[quantity]
        for group, values in series.items():
            steps, heights = zip(*sorted(values.items()), strict=True)
            marker = "o" if len(steps) < 30 else None
            axes.plot(
                steps, heights, color=colours[group], label=group, marker=marker, markersize=3
            )
        clean_axes(axes)
        axes.set_xlabel("Step")
        axes.set_ylabel(label)
        axes.locator_params("x", nbins=5, integer=True)
        if logarithmic and all(v > 0 for values in series.values() for v in values.values()):
            axes.set_yscale("log")
        elif not logarithmic:
            axes.set_ylim(bottom=0)
        if set(series) != {""}:
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(png, dpi=150)


def _read_series(jsonl: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Values of a log by quantity, group and step, quantities in the order of their panels."""
    found: dict[str, dict[str, dict[int, float]]] = {quantity: {} for quantity in _QUANTITIES}
    with open(jsonl, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                step = int(record.pop("step"))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{os.fspath(jsonl)}, line {number}: not an object with a step ({error!r}); "
                    "correct that line"
                ) from error
            for key, value in record.items():
                group, _, quantity = key.rpartition("/")
                if quantity in found and isinstance(value, int | float) and math.isfinite(value):
                    found[quantity].setdefault(group, {})[step] = value
    return {quantity: series for quantity, series in found.items() if series}


def subplots(rows: int, columns: int, inches: tuple[float, float]):
    """Figure and its (rows, columns) axes of the given size each, without pyplot's global state."""
    # Slow to import, and drawing on images does not need it.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = (inches[0] * columns, inches[1] * rows)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    return figure, figure.subplots(rows, columns, squeeze=False)


def clean_axes(axes) -> None:
    """Removes the upper and right lines of axes and draws a faint grid below the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def palette(count: int) -> list[str]:
    """Colours of `count` curves; they repeat after the seventh."""
    return [_PALETTE[i % len(_PALETTE)] for i in range(count)]
