"""Plots of videos: error against flicker, and flicker over time."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.report.style import Path, clean_axes, label, palette, subplots

_PASTELS = ("#E5B550", "#7CC0E8", "#66BC9E", "#DCA0C0", "#A6A6A6", "#C2BC5C")
_MARKERS = "sv^D<>PXhpd"
_FARTHEST = (1.15, 1.15)  # ends of the NME and of the NMF axis, in units of the reference
UNIT = "% of a pixel, 256-pixel face"


class Curve(NamedTuple):
    """Error and flicker of one method at each of its settings.

    Attributes:
        points: (N, 2) NME in percent and NMF of each setting; NaN leaves a gap.
        joined: whether the settings have an order, so that a line joins them. A grid of two
            parameters has none: the line joins the settings that no other beats in both error and
            flicker, and the rest are faint, or left out of filters.
        recurrence: whether the method is recurrent inference, drawn in bold, and not a filter.
        causal: whether no frame waits for a later one. If not: dashed, with hollow markers.
    """

    points: ArrayLike
    joined: bool = True
    recurrence: bool = False
    causal: bool = True


def trade_off_plot(
    curves: Mapping[str, Curve],
    path: Path,
    *,
    reference: tuple[float, float] | None = None,
    chosen: Mapping[str, tuple[float, float]] | None = None,
    floor: float | None = None,
) -> None:
    """Plots flicker against error, one curve per method; less of both is better.

    With a reference the axes end not far beyond it, which cuts off filters that smooth far too
    much. The reference and the chosen points are always visible.

    Args:
        curves: method to its curve.
        path: picture to write; its folder must exist.
        reference: NME and NMF of the frames solved alone, a star.
        chosen: method to the NME and NMF of the setting that it is judged by, with a black rim.
        floor: NMF that the labels' own jitter gives a perfect method, a dotted line.

    Raises:
        ValueError: a point is chosen for a method that has no curve.
    """
    chosen = chosen or {}
    if unknown := sorted(chosen.keys() - curves.keys()):
        raise ValueError(f"a point is chosen for {unknown}; the curves are {sorted(curves)}")
    figure, [[axes]] = subplots(1, 1, (6.4, 3.9))
    clean_axes(axes)
    vivid = iter(palette(len(curves)))
    pale, markers = itertools.cycle(_PASTELS), itertools.cycle(_MARKERS)
    for name, curve in sorted(curves.items(), key=lambda item: not item[1].recurrence):
        colour = next(vivid) if curve.recurrence else next(pale)
        dots = {
            "color": colour,
            "marker": "o" if curve.recurrence else next(markers),
            "markersize": 5.5 if curve.recurrence else 4,
            "markerfacecolor": colour if curve.causal else "white",
        }
        points = _points(curve.points)
        place = 3 if curve.recurrence else 2
        if not curve.joined:
            points, beaten = _front(points)
            if curve.recurrence:
                axes.plot(*beaten.T, **dots, linestyle="none", alpha=0.3, zorder=place - 0.5)
        width, line = 2.4 if curve.recurrence else 1.1, "-" if curve.causal else "--"
        axes.plot(*points.T, **dots, linewidth=width, linestyle=line, zorder=place, label=name)
        dots |= {"markersize": 7, "markerfacecolor": colour, "markeredgecolor": "black"}
        dots |= {"markeredgewidth": 1.3}
        axes.plot(*_points(chosen.get(name)).T, **dots, linestyle="none", zorder=place + 2)
    if len({curve.causal for curve in curves.values()}) > 1:
        hollow = {"color": "0.5", "marker": "o", "markersize": 4, "markerfacecolor": "white"}
        axes.plot([], [], linestyle="--", linewidth=1.1, **hollow, label="needs later frames")
    star, rims = _points(reference), _points(list(chosen.values()))
    if len(star):
        dot = {"color": "black", "marker": "*", "markersize": 13, "linestyle": "none"}
        axes.plot(*star.T, **dot, zorder=5, label="each frame alone")
    if len(rims):
        dot = {"color": "black", "marker": "o", "markersize": 7, "linestyle": "none"}
        axes.plot([], [], **dot, fillstyle="none", markeredgewidth=1.3, label="setting chosen")
    if floor is not None:
        axes.axhline(floor, color="0.35", linestyle=":", linewidth=1.2, zorder=1)
        axes.annotate(
            "jitter of the labels",
            (1, floor),
            (0, 2),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            horizontalalignment="right",
            fontsize=8,
            color="0.35",
        )
    points = np.concatenate([np.zeros((0, 2)), *(_points(of.points) for of in curves.values())])
    if ends := shown_range(points, reference=reference, chosen=rims, floor=floor):
        axes.set_xlim(*(end[0] for end in ends))
        axes.set_ylim(*(end[1] for end in ends))
    axes.set_xlabel("NME (%)")
    axes.set_ylabel(f"NMF ({UNIT})")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=150)


def _points(values: ArrayLike | None) -> np.ndarray:
    return np.asarray([] if values is None else values, np.float64).reshape(-1, 2)


def _front(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (N, 2) that no other beats in both coordinates, sorted; and the rest."""
    others = points[:, None]
    no_worse, better = (points <= others).all(axis=-1), (points < others).any(axis=-1)
    beaten = np.asarray(no_worse & better).any(axis=1)
    front = points[~beaten]
    return front[np.argsort(front[:, 0])], points[beaten]


def shown_range(
    points: ArrayLike,
    *,
    reference: tuple[float, float] | None = None,
    chosen: ArrayLike = (),
    floor: float | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Ends of the axes that `trade_off_plot` shows, lower and upper, (2,) each.

    Args:
        points: (N, 2) NME and NMF of all settings.
        reference: as in `trade_off_plot`.
        chosen: (M, 2) points that are to be seen in any case.
        floor: as in `trade_off_plot`.

    Returns:
        None where no point is finite.
    """
    star, rims = _points(reference), _points(chosen)
    everything = np.concatenate([_points(points), star, rims])
    everything = everything[np.isfinite(everything).all(axis=1)]
    if np.isfinite(star).all() and len(star):
        farthest = np.nanmax([star[0] * _FARTHEST, *rims], axis=0)
        everything = everything[(everything <= farthest).all(axis=1)]
    if not len(everything):
        return None
    low, high = everything.min(axis=0), everything.max(axis=0)
    if floor is not None:
        low[1], high[1] = np.fmin(low[1], floor), np.fmax(high[1], floor)
    space = np.where(high > low, 0.06 * (high - low), 0.1 * high + 1e-9)
    return low - space, high + space


def flicker_plot(series: Mapping[str, ArrayLike], path: Path, fps: float, title: str = "") -> None:
    """Plots the flicker of each frame of a video against time, one line per method.

    Args:
        series: method to (T,) flicker of its frames, as from `metrics.flicker`; NaN leaves a gap.
        path: picture to write; its folder must exist.
        fps: frames per second.
        title: of the plot.
    """
    figure, [[axes]] = subplots(1, 1, (7.2, 2.8))
    clean_axes(axes)
    for colour, (name, values) in zip(palette(len(series)), series.items(), strict=True):
        values = np.asarray(values, np.float64)
        seconds = np.arange(len(values)) / fps
        axes.plot(seconds, values, color=colour, linewidth=1, label=name)
        there = np.pad(np.isfinite(values), 1)
        alone = there[1:-1] & ~there[:-2] & ~there[2:]  # no line reaches these
        axes.plot(seconds[alone], values[alone], ".", color=colour, markersize=3)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.set_xlabel("Time (s)")
    axes.set_ylabel(f"Flicker\n({UNIT})")
    axes.set_title(label(title), fontsize=9, loc="right")
    if series:
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=150)
