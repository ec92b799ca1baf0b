"""Tables of results in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def markdown_table(rows: Iterable[Mapping[str, Any]], digits: int = 2) -> str:
    """Formats rows as a Markdown table, numbers aligned right.

    Args:
        rows: one mapping per row, all with the keys of the first, which are the heads of the
            columns.
        digits: decimals of the floats; a value given as text is kept as it is.

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
    cells = [heads, *([cell_text(row[head], digits) for head in heads] for row in rows)]
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


def cell_text(value: Any, digits: int) -> str:
    """A value as a cell shows it: floats with so many decimals, all else as it is."""
    return f"{value:.{digits}f}" if isinstance(value, float | np.floating) else str(value)
