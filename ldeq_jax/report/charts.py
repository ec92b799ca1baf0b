"""Charts of a report: what they show, as data for the page's script and as a picture.

`Chart` is one of lines and dots on two axes, or of a face. `face_chart` draws a number of each
landmark on a mean face.
"""

import dataclasses
import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.report.style import clean_axes, label, palette, subplots

_MARKS = (("circle", "o"), ("triangle", "^"), ("rect", "s"), ("rectRot", "D"))
_INCHES = {"plot": (5.4, 3.4), "face": (3.4, 3.4)}
_COLOURS = 256
_SMALLEST, _GROWTH = 3.5, 4.5  # radii of a face's dots, CSS pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """What one name in a chart's legend stands for.

    Attributes:
        name: in the legend; "" for what is only background, such as the lines of a face.
        points: (N, 2); NaN leaves a gap.
        line: whether a line joins the points.
        dots: whether they are marked.
        colour: number of the colour, also of the mark; None for grey.
        dashed: of the line.
        hollow: whether its dots are not filled.
        labels: what is said of each point; () for its coordinates alone.
        chosen: the point that stands out: the others are faint then; -1 makes all faint.
        colours: of each dot, as #rrggbb, in place of the series' colour.
        radii: of each dot, in place of the usual.
    """

    name: str
    points: ArrayLike
    line: bool = True
    dots: bool = False
    colour: int | None = None
    dashed: bool = False
    hollow: bool = False
    labels: Sequence[str] = ()
    chosen: int | None = None
    colours: Sequence[str] = ()
    radii: Sequence[float] = ()

    @property
    def array(self) -> np.ndarray:
        """(N, 2) float64, what is not finite as NaN."""
        points = np.array(self.points, np.float64).reshape(-1, 2)
        points[~np.isfinite(points)] = np.nan
        return points

    @property
    def mark(self) -> tuple[str, str]:
        """Name of its dots' shape, for the script and for the picture."""
        return _MARKS[(self.colour or 0) // len(palette(7)) % len(_MARKS)]

    def data(self) -> dict[str, Any]:
        """What the script needs."""
        rounded = [[_short(x), _short(y)] for x, y in self.array.tolist()]
        fields = ("name", "line", "dots", "colour", "dashed", "hollow", "labels", "chosen")
        shown: dict[str, Any] = {name: getattr(self, name) for name in fields}
        shown |= {"colours": list(self.colours), "radii": list(self.radii)}
        return shown | {"points": rounded, "mark": self.mark[0]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines and dots on two axes, or a face.

    Attributes:
        title: above it.
        series: of it.
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical one.
        caption: below it: what is to be seen, and how it is computed.
        x_range: ends of the axis; None for those of the points, as either end may be.
        y_range: likewise.
        log: whether the vertical axis is logarithmic.
        whole: whether the horizontal one has whole numbers alone.
        face: without axes, upright, and as high as wide.
        picture: PNG to show where no script runs; drawn from the series when None.
        ramp: texts at the dark and at the bright end of the colours of a face.
    """

    kind: ClassVar[str] = "chart"
    title: str
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    caption: str = ""
    x_range: tuple[float | None, float | None] = (None, None)
    y_range: tuple[float | None, float | None] = (None, None)
    log: bool = False
    whole: bool = False
    face: bool = False
    picture: bytes | None = None
    ramp: tuple[str, str] | None = None

    @property
    def alt(self) -> str:
        """What it shows, for those who do not see it."""
        if self.face:
            return f"{self.title}, drawn on a mean face"
        names = [series.name for series in self.series if series.name]
        return f"{self.title}. {self.y_label} against {self.x_label}: {', '.join(names)}"

    @property
    def png(self) -> bytes:
        """The picture."""
        return self.picture or draw(self)

    @property
    def ramp_colours(self) -> list[str]:
        """Some colours from the dark to the bright end."""
        return colours_of(np.linspace(0, 1, 9))

    def data(self) -> dict[str, Any]:
        """What the script needs, as JSON can hold it."""
        return {
            "title": self.title,
            "x": {"label": self.x_label, "range": self.x_range, "whole": self.whole},
            "y": {"label": self.y_label, "range": self.y_range, "log": self.log},
            "face": self.face,
            "alt": self.alt,
            "series": [series.data() for series in self.series],
        }


def face_chart(
    title: str,
    shape: np.ndarray,
    values: np.ndarray,
    schema: LandmarkSchema,
    *,
    unit: str,
    caption: str,
    ends: tuple[float, float] | None = None,
    large_is_low: bool = False,
) -> Chart:
    """A number of each landmark as colour and size of its dot on a face.

    Args:
        title: what the number is.
        shape: (K, 2) the face, x then y downwards.
        values: (K,) numbers; landmarks without one are left out.
        schema: of the landmarks, for the contours.
        unit: of the numbers, such as "%".
        caption: how they are computed.
        ends: numbers at the dark and the bright end, for faces to be compared; those of the values
            when None.
        large_is_low: whether the dots of low numbers are the large ones.
    """
    shown = np.isfinite(values) & np.isfinite(shape).all(axis=1)
    known = values[shown]
    if ends is None:
        ends = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    low, high = ends
    place = np.clip((known - low) / max(high - low, 1e-12), 0, 1)
    contours = []
    for indices, closed in schema.contours:
        ring = [*indices, indices[0]] if closed else list(indices)
        contours += [shape[ring], np.full((1, 2), np.nan)]
    outline = np.concatenate(contours) if contours else np.zeros((0, 2))
    size = 1 - place if large_is_low else place
    dots = Series(
        name=title,
        points=shape[shown],
        line=False,
        dots=True,
        colours=colours_of(place),
        radii=[round(float(r), 1) for r in _SMALLEST + _GROWTH * size],
        labels=[
            f"landmark {k}: {value:.3g} {unit}"
            for k, value in zip(np.flatnonzero(shown), known, strict=True)
        ],
    )
    said = f"{low:.3g} {unit}", f"{high:.3g} {unit}"
    return Chart(
        title=title,
        series=[Series(name="", points=outline), dots],
        caption=caption,
        face=True,
        ramp=said if len(known) else None,
    )


def colours_of(places: np.ndarray) -> list[str]:
    """Colours of numbers between 0, dark, and 1, bright, which colour-blind readers can tell."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["viridis"](np.clip(places, 0, 1))]


def upright(points: np.ndarray, eye_corners: tuple[int, int]) -> np.ndarray:
    """Faces (..., K, 2) about 0, turned until the eyes are level, at one size.

    The size is the root of the mean square distance of the landmarks from their centre. NaN for a
    face with a NaN.
    """
    about = points - points.mean(axis=-2, keepdims=True)
    left, right = (about[..., corner, :] for corner in eye_corners)
    eyes = right - left
    turn = np.exp(-1j * np.angle(eyes[..., 0] + 1j * eyes[..., 1]))[..., None]
    size = np.sqrt(np.square(about).sum(axis=-1).mean(axis=-1))[..., None]
    turned = turn * (about[..., 0] + 1j * about[..., 1]) / np.maximum(size, 1e-12)
    return np.stack([turned.real, turned.imag], axis=-1)


def draw(chart: Chart) -> bytes:
    """A chart as a PNG file."""
    figure, [[axes]] = subplots(1, 1, _INCHES["face" if chart.face else "plot"])
    for number, series in enumerate(chart.series):
        points, (_, mark) = series.array, series.mark
        colour = "0.6" if series.colour is None else palette(series.colour + 1)[-1]
        style: dict[str, Any] = {
            "color": colour,
            "label": label(series.name) or None,
            "linewidth": 1.1,
        }
        style["linestyle"] = ("--" if series.dashed else "-") if series.line else "none"
        if series.colours:
            sizes = np.array(series.radii or [_SMALLEST] * len(points)) ** 2
            axes.scatter(*points.T, c=list(series.colours), s=2 * sizes, zorder=3)
            continue
        if series.chosen is not None:
            axes.plot(*points.T, mark, **style | {"alpha": 0.35, "label": None}, markersize=4)
            stands_out = points[[series.chosen]] if series.chosen >= 0 else np.zeros((0, 2))
            axes.plot(*stands_out.T, mark, **style, markersize=8, zorder=4)
            continue
        style["markerfacecolor"] = "white" if series.hollow else colour
        style |= {"marker": mark if series.dots else None, "markersize": 4}
        axes.plot(*points.T, **style, zorder=2 - 0.01 * number)  # the first on top, as in the page
    if chart.face:
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_axis_off()
    else:
        clean_axes(axes)
        if chart.log:
            axes.set_yscale("log")
        axes.set_xlim(*chart.x_range)
        axes.set_ylim(*chart.y_range)
        axes.set_xlabel(label(chart.x_label))
        axes.set_ylabel(textwrap.fill(label(chart.y_label), 36))
        names = [series.name for series in chart.series if series.name]
        if len(names) > 1:
            figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside upper left")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in another script
        figure.savefig(file, dpi=110)
    return file.getvalue()


def round_numbers(start: float, end: float, count: int = 6) -> list[float]:
    """Round numbers between two, about so many, for an axis."""
    length = max(end - start, 1e-9)
    power = 10.0 ** math.floor(math.log10(length / count))
    step = next(power * m for m in (1, 2, 5, 10) if length / (power * m) <= count)
    first = math.ceil(start / step - 1e-9)
    return [round(step * n, 9) for n in range(first, math.floor(end / step + 1e-9) + 1)]


def _short(number: float) -> float | None:
    """With as many digits as can be seen."""
    return float(f"{number:.5g}") if math.isfinite(number) else None
