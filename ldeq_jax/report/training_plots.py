"""Plots of what a training run logged."""

import json
import math
import os

from ldeq_jax.errors import UserError
from ldeq_jax.report.style import Path, clean_axes, palette, subplots

# Quantity (last part of a record's key): label of its axis, and whether the axis is logarithmic.
_QUANTITIES = {
    "loss": ("Loss", False),
    "nme": ("NME (%)", False),
    "solver_steps": ("Solver steps", False),
    "residual": ("Relative residual", True),
    "lr": ("Learning rate", False),
}


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
