"""The style that all plots share: the layout of figures, axes, and colours of Okabe and Ito.

Colour-blind readers can tell the colours apart. The plots themselves are in `face_plots`,
`video_plots` and `training_plots`.
"""

import os
import re

Path = str | os.PathLike[str]

# What no file of text should hold, and what turns the direction of the text around it.
_ODD = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


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


def printable(text: str) -> str:
    """A text without characters that UTF-8 or HTML cannot hold, as names of files may have."""
    return _ODD.sub("\ufffd", text)


def label(text: str) -> str:
    """A text, such as a name, for matplotlib, which takes what is between dollars for formulas."""
    return printable(text).replace("$", r"\$")
