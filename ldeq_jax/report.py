"""Pictures and tables of data, predictions and training runs.

Predictions are drawn in blue and references in yellow, a pair that stays apart for colour-blind
readers; plots use the palette of Okabe and Ito.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ldeq_jax import metrics
from ldeq_jax.media import pictures
from ldeq_jax.schema import LandmarkSchema

Path = str | os.PathLike[str]

PREDICTED_RGB = (64, 180, 255)
TARGET_RGB = (255, 214, 10)
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHIFT = 4  # binary digits of sub-pixel position that OpenCV draws with
_TILE = 256  # least width of a face in the gallery, in drawn pixels

# Quantity (last part of a record's key): label of its axis, and whether the axis is logarithmic.
_QUANTITIES = {
    "loss": ("Loss", False),
    "nme": ("NME (%)", False),
    "solver_steps": ("Solver steps", False),
    "residual": ("Relative residual", True),
    "lr": ("Learning rate", False),
}


def draw_landmarks(
    image: np.ndarray,
    points: np.ndarray,
    schema: LandmarkSchema,
    target: np.ndarray | None = None,
    scale: int = 1,
    radius: float | None = None,
) -> np.ndarray:
    """Draws landmarks, joined along the contours of their schema, on a copy of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (K, 2) landmarks in pixels of the image, (x, y), or (N, K, 2) of several faces;
            those not finite are left out.
        schema: schema of the landmarks, for the contours.
        target: (K, 2) or (N, K, 2) reference landmarks, drawn below in another colour.
        scale: enlargement of the image before anything is drawn on it.
        radius: of the dots, in pixels of the enlarged image; lines are as thick. If None, the
            larger the face, the thicker its lines and dots.

    Returns:
        (scale * H, scale * W, 3) uint8 RGB.

    Raises:
        ValueError: the points are not those of the schema.
    """
    size = (scale * image.shape[1], scale * image.shape[0])
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    for faces, colour in ((target, TARGET_RGB), (points, PREDICTED_RGB)):
        if faces is not None:
            faces = np.asarray(faces, np.float64)
            for face in faces if faces.ndim == 3 else [faces]:
                _draw_face(canvas, face, schema, colour, scale, radius)
    return canvas


def _draw_face(
    canvas: np.ndarray,
    points: np.ndarray,
    schema: LandmarkSchema,
    colour: tuple,
    scale: int,
    radius: float | None,
) -> None:
    if points.shape != (schema.num_landmarks, 2):
        raise ValueError(
            f"{schema.name} has {schema.num_landmarks} landmarks, got points of {points.shape}"
        )
    finite = np.isfinite(points).all(axis=1)
    # Enlarging keeps the edges of the image in place, not the centre of its first pixel.
    enlarged = np.where(finite[:, None], (points + 0.5) * scale - 0.5, 0)
    fixed = np.round(np.clip(enlarged, -1e5, 1e5) * 2**_SHIFT).astype(np.int32)
    shown = np.clip(enlarged[finite], 0, max(canvas.shape))
    extent = float((shown.max(axis=0) - shown.min(axis=0)).max()) if len(shown) else 0
    radius = max(1.0, 0.7 * scale, extent / 150) if radius is None else radius
    thickness = max(1, round(radius / 2))
    for indices, closed in schema.contours:
        ends = zip(indices, (*indices[1:], indices[0]) if closed else indices[1:], strict=False)
        for start, end in ends:
            if finite[start] and finite[end]:
                line = (fixed[start].tolist(), fixed[end].tolist(), colour)
                cv2.line(canvas, *line, thickness, cv2.LINE_AA, _SHIFT)
    for point in fixed[finite]:
        cv2.circle(
            canvas, point.tolist(), round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT
        )


def contact_sheet(
    images: Sequence[np.ndarray],
    points: Sequence[np.ndarray],
    schema: LandmarkSchema,
    columns: int = 8,
    scale: int = 2,
) -> np.ndarray:
    """Tiles samples with their landmarks drawn, row by row, each with a white rim of one pixel.

    Args:
        images: N images (H, W, 3) uint8 RGB of one size.
        points: N sets of landmarks (K, 2) in pixels of their image.
        schema: schema of the landmarks.
        columns: images in a row (fewer when there are fewer images).
        scale: enlargement of each image.

    Returns:
        (rows * (scale * H + 2), columns * (scale * W + 2), 3) uint8 RGB; unused tiles are white.

    Raises:
        ValueError: there is no image, or not one set of points for each.
    """
    if not len(images) or len(images) != len(points):
        raise ValueError(f"cannot tile {len(images)} images with {len(points)} sets of points")
    tiles = [
        np.pad(
            draw_landmarks(image, face, schema, scale=scale),
            ((1, 1), (1, 1), (0, 0)),
            constant_values=255,
        )
        for image, face in zip(images, points, strict=True)
    ]
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a picture; the folder is made when missing.

    Args:
        path: file to write, its ending gives the format.
        image: (H, W, 3) uint8 RGB.

    Raises:
        OSError: it cannot be written, or the format is unknown.
    """
    pictures.write_picture(path, image)


def face_gallery(
    images: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    target: Sequence[np.ndarray],
    nme: np.ndarray,
    schema: LandmarkSchema,
    path: Path,
    count: int = 6,
) -> None:
    """Writes a picture of the best, the median and the worst faces, the NME under each.

    Args:
        images: N images uint8 RGB, of any sizes; only those shown are asked for.
        predicted: N sets of landmarks (K, 2) in pixels of their image.
        target: N sets of reference landmarks, same frame.
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
    """Plots the share of faces below each error, one curve a method or subset.

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
    """Plots what a training run logged against its steps, one panel a quantity.

    Each line of the log is an object with "step" and any of "lr", "GROUP/loss", "GROUP/nme" (in
    percent), "GROUP/solver_steps" and "GROUP/residual", where GROUP is "train", "eval" or longer
    ("eval/test"). Other keys are passed over. Where a step occurs twice, as after a resume, the
    later line counts.

    Args:
        jsonl: log to read.
        png: picture to write; its folder must exist.

    Raises:
        ValueError: a line is no such object, or there is nothing to plot.
    """
    panels = _read_series(jsonl)
    if not panels:
        raise ValueError(f"{os.fspath(jsonl)}: no record with any of {', '.join(_QUANTITIES)}")
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
                raise ValueError(
                    f"{os.fspath(jsonl)}, line {number}: not an object with a step ({error!r}); "
                    "correct that line"
                ) from error
            for key, value in record.items():
                group, _, quantity = key.rpartition("/")
                if quantity in found and isinstance(value, int | float) and math.isfinite(value):
                    found[quantity].setdefault(group, {})[step] = value
    return {quantity: series for quantity, series in found.items() if series}


def markdown_table(rows: Iterable[Mapping[str, Any]], digits: int = 2) -> str:
    """Lays rows out as a Markdown table, numbers flush right.

    Args:
        rows: one mapping a row, all with the keys of the first, which head the columns.
        digits: decimals of the floats; write a value as text to give it others.

    Returns:
        The table, ending in a newline; empty without rows.

    Raises:
        ValueError: a row has other keys than the first.
    """
    rows = list(rows)
    if not rows:
        return ""
    heads = list(rows[0])
    for number, row in enumerate(rows):
        if set(row) != set(heads):
            raise ValueError(f"row {number} of the table has {sorted(row)}, not {sorted(heads)}")
    cells = [heads, *([_cell(row[head], digits) for head in heads] for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    flush = [str.ljust if isinstance(rows[0][head], str) else str.rjust for head in heads]
    rule = [
        "-" * width if pad is str.ljust else "-" * (width - 1) + ":"
        for pad, width in zip(flush, widths, strict=True)
    ]
    lines = [
        " | ".join(pad(cell, width) for pad, cell, width in zip(flush, line, widths, strict=True))
        for line in (cells[0], rule, *cells[1:])
    ]
    return "".join(f"| {line} |\n" for line in lines)


def _cell(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float | np.floating) else str(value)


def subplots(rows: int, columns: int, inches: tuple[float, float]):
    """Figure and its (rows, columns) axes of the given size each, without pyplot's global state."""
    from matplotlib.figure import Figure  # slow to import, and drawing on images needs none of it

    size = (inches[0] * columns, inches[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False)


def clean_axes(axes) -> None:
    """Takes the frame off the free sides of axes and lays a faint grid under the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def palette(count: int) -> list[str]:
    """The colours of that many curves, which repeat after the seventh."""
    return [_PALETTE[i % len(_PALETTE)] for i in range(count)]
