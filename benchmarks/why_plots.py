"""Plots of what `benchmarks.why` measures; less is better in all of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ldeq_jax.report.style import clean_axes, palette, subplots

BLUE, ORANGE, GREEN, PINK, *_ = palette(4)
STARTS = {
    "zeros": ("from zeros", BLUE),
    "last state, not moved": ("from the last state, not moved", GREEN),
    "last state": ("from the last state, moved with the face", ORANGE),
}
SHAKEN = "from the equilibrium, noise of 10 grey levels added to the picture"
METHODS = {
    "frames alone": ("frames alone", BLUE),
    "filter": ("best filter that follows the face", GREEN),
    "recurrence, arithmetic": ("recurrence, arithmetic", PINK),
    "recurrence, geometric": ("recurrence, geometric", ORANGE),
}
UNITS = {"noise": "Noise (grey levels)", "covered": "Covered (% of the crop)"}


def draw(folder: Path, found: Mapping[str, dict]) -> None:
    """Writes convergence.png, equilibria.png, gain.png and parts.png.

    Args:
        folder: where to.
        found: what was measured, by model.
    """
    for plot in (convergence, equilibria, gain, parts):
        plot(found).savefig(folder / f"why_{plot.__name__}.png", dpi=150)


def convergence(found: Mapping[str, dict]):
    """Residual, error and response to noise after each evaluation; columns of conditions."""
    conditions = next(iter(found.values()))["equilibria"]
    figure, axes = subplots(3 * len(found), len(conditions), (2.5, 1.9))
    for row, (name, measured) in enumerate(found.items()):
        for column, (condition, of) in enumerate(measured["equilibria"].items()):
            residual, error, response = axes[3 * row : 3 * row + 3, column]
            for start, (shown, colour) in STARTS.items():
                curves = of["curves"][start]
                steps = np.arange(1, len(curves["nme"]) + 1)
                residual.semilogy(steps, curves["residual"], color=colour)
                error.plot(steps[:10], curves["nme"][:10], ".-", color=colour, label=shown)
            residual.set_title(condition if len(found) == 1 else f"{name}, {condition}", fontsize=9)
            residual.set_ylim(1e-7, 2)
            steps = np.arange(1, len(of["response"]) + 1)
            response.plot(steps, of["response"], color="0.3", label=SHAKEN)
            response.set_xlabel("Evaluations")
            response.set_ylim(bottom=0)
            error.set_xticks((1, 4, 7, 10))
        axes[3 * row, 0].set_ylabel("Residual")
        axes[3 * row + 1, 0].set_ylabel("NME (%)")
        axes[3 * row + 2, 0].set_ylabel("Moved by noise\n(% of eyes)")
    _finish(figure, axes, axes[1, 0], axes[2, 0])
    return figure


def equilibria(found: Mapping[str, dict]):
    """Distance of the landmarks to those found from zeros, from every start."""
    conditions = next(iter(found.values()))["equilibria"]
    figure, axes = subplots(len(found), len(conditions), (2.5, 2.3))
    for row, (name, measured) in enumerate(found.items()):
        for column, (condition, of) in enumerate(measured["equilibria"].items()):
            one = axes[row, column]
            for start, curves in of["curves"].items():
                random = start not in STARTS
                shown, colour = ("from wrong or random states", "0.6") if random else STARTS[start]
                apart = np.maximum(curves["apart"], 1e-5)
                steps = np.arange(1, len(apart) + 1)
                one.semilogy(steps, apart, color=colour, label=shown, zorder=1 if random else 2)
            one.set_title(condition if len(found) == 1 else f"{name}, {condition}", fontsize=9)
            one.set_xlabel("Evaluations")
            one.set_ylim(1e-4, 200)
        axes[row, 0].set_ylabel("Distance to the end\nfrom zeros (% of eyes)")
    _finish(figure, axes, axes[0, 0])
    return figure


def gain(found: Mapping[str, dict]):
    """Flicker, in units of the filter's, and error against the amount of degradation."""
    figure, axes = subplots(len(found), 2 * len(UNITS), (2.7, 2.4))
    for row, (name, measured) in enumerate(found.items()):
        for column, (kind, unit) in enumerate(UNITS.items()):
            for measure, one in zip(("nmf", "nme"), axes[row, column::2], strict=True):
                levels = list(measured["gain"][kind])
                by_level = measured["gain"][kind].values()
                for method, (shown, colour) in METHODS.items():
                    if (method, measure) == ("frames alone", "nmf"):
                        continue  # far above the others
                    values = np.array([of[method][measure] for of in by_level])
                    if measure == "nmf":
                        values /= [of["filter"]["nmf"] for of in by_level]
                    one.plot(levels, values, ".-", color=colour, label=shown)
                one.set_xlabel(unit)
                one.set_ylim(bottom=0)
                one.set_ylabel("NMF / the filter's" if measure == "nmf" else "NME (%)")
                one.set_title(name if len(found) > 1 else "", fontsize=9)
    _finish(figure, axes, axes[0, -1])
    return figure


def parts(found: Mapping[str, dict]):
    """Flicker of each part of recurrence, in units of the filter's."""
    figure, axes = subplots(1, len(found), (6.4, 3.6))
    for one, (name, measured) in zip(axes[0], found.items(), strict=True):
        names = list(next(iter(measured["parts"].values())))[::-1]
        for colour, (condition, rows) in zip(palette(3), measured["parts"].items(), strict=True):
            values = [rows[part]["nmf"] / rows["filter"]["nmf"] for part in names]
            one.plot(values, names, "o", color=colour, label=condition)
        one.axvline(1, color="0.4", linewidth=1, zorder=0)
        one.set_xlabel("NMF / the filter's")
        one.set_xlim(left=0)
        one.set_title(name if len(found) > 1 else "", fontsize=9)
    _finish(figure, axes, axes[0, 0])
    return figure


def _finish(figure, axes, *named_by) -> None:
    """Clean axes, and one legend above all of them; each line is named once."""
    for one in axes.flat:
        clean_axes(one)
    named = {}
    for one in named_by:
        handles, names = one.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    figure.legend(
        named.values(), named.keys(), frameon=False, fontsize=8, ncols=2, loc="outside upper left"
    )
