"""Records of results as JSON, which has neither NaN nor infinity: they become null."""

import json
import math
from typing import Any

import numpy as np


def without_nan(value: Any) -> Any:
    """Nested values in the types of JSON, with None for each number that is not finite.

    Args:
        value: nested dicts, lists, tuples, NumPy arrays and scalars, text, numbers, None.

    Returns:
        The same as dicts, lists, text, numbers and None.
    """
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return without_nan(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(value: Any, indent: int | None = None) -> str:
    """Valid JSON of nested values: null for NaN and for infinity.

    Args:
        value: as in `without_nan`.
        indent: spaces per level; all on one line when None.

    Raises:
        TypeError: the value contains something that JSON cannot hold.
    """
    return json.dumps(without_nan(value), indent=indent, allow_nan=False)
