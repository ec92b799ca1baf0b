"""The part of a report that says how its numbers were measured, and numbers in its words."""

import math
from collections.abc import Mapping
from typing import Any

from ldeq_jax.report.html import Code, Facts, Part


def how_it_was_measured(record: Mapping[str, Any]) -> list[Part]:
    """Settings, versions and command of an evaluation.

    Args:
        record: as in metrics.json.
    """
    solver, crop = record["solver"], record["crop"]
    settings = {
        "model": record["checkpoint"],
        "training step": record["step"],
        "landmarks": record["schema"],
        "data set": record["dataset"],
        "split": record["split"],
        "crop": f"{crop['rule']}, scale {crop['scale']:g}",
        "solver": f"{solver['method']}, at most {solver['max_steps']} steps, or to a residual of "
        f"{solver['tol']:g}",
        "precision": record["dtype"],
    }
    if "tuning_split" in record:
        settings["settings chosen on"] = record["tuning_split"]
        settings["error that a choice may add"] = f"{100 * record['slack']:g} %"
    parts: list[Part] = [Facts(values=settings), Facts(values=record["versions"])]
    return [*parts, *([Code(text=record["command"])] if record.get("command") else [])]


def percent(value: float, digits: int = 2) -> str:
    """A number of percent in words; a dash where it is not known."""
    return f"{value:.{digits}f} %" if math.isfinite(value) else "–"
