"""Settings: the ways to get landmarks from a video that are compared, and what they are called."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ldeq_jax.errors import UserError
from ldeq_jax.face import aligned, filters
from ldeq_jax.model.rwr_config import Align, Fusion, RwRConfig


class Setting(NamedTuple):
    """One way to get landmarks.

    Attributes:
        method: the family that it belongs to, such as "kalman" or "RwR, state moved by face".
        values: the parameters, such as "penalty 1, budget 0", which no other of its family has.
        alone_budget: of frames solved alone and of filters on them, the solver steps of each frame;
            None for the model's own number, and for recurrence.
    """

    method: str
    values: str = ""
    alone_budget: int | None = None

    @property
    def name(self) -> str:
        """Of the family, such as "kalman" or "kalman, budget 1"."""
        fewer = "" if self.alone_budget is None else f", budget {self.alone_budget}"
        return self.method + fewer


ALONE = Setting("each frame alone")
FILTERS = filters.FILTERS + aligned.FILTERS


def is_alone(setting: Setting) -> bool:
    """Whether it solves each frame by itself and does nothing more."""
    return setting.method == ALONE.method


def is_filter(setting: Setting) -> bool:
    """Whether it smooths the landmarks of frames solved alone."""
    return any(kind.name == setting.method for kind in FILTERS)


def is_causal(setting: Setting) -> bool:
    """Whether no frame waits for a later one."""
    return all(kind.causal for kind in FILTERS if kind.name == setting.method)


def is_recurrence(setting: Setting) -> bool:
    """Whether the model itself carries its state from frame to frame."""
    return not is_alone(setting) and not is_filter(setting)


def recurrence_grid(
    budgets: Sequence[int],
    penalties: Sequence[float],
    follows: Sequence[float],
    aligns: Sequence[Align],
    fusions: Sequence[Fusion],
    base: RwRConfig,
) -> dict[Setting, RwRConfig]:
    """Settings of recurrence to try: every combination, one method per alignment and fusion.

    The first method is the paper's, a warm start and early stopping without a penalty; the second
    is `base` itself, what users get who set nothing.

    Args:
        budgets: solver steps of a frame that follows another.
        penalties: temporal penalties.
        follows: gains of the motion filter, used by the alignment "face" only.
        aligns: alignments, see `RwRConfig`.
        fusions: ways to hold the state, with the alignment "face"; the others try the first.
        base: the model's own, which has all that is not varied.

    Raises:
        UserError: a value is outside its range.
    """
    grid = {}
    try:
        for budget in budgets:
            setting = Setting("RwR, early stopping", f"budget {budget}")
            grid[setting] = dataclasses.replace(
                base, budget=budget, penalty=0.0, follow=1.0, align="none"
            )
        grid[Setting("RwR, as configured", _described(base))] = base
        for align in aligns:
            face = align == "face"
            for fusion in fusions if face else fusions[:1]:
                method = "RwR" if align == "none" else f"RwR, state moved by {align}"
                method += ", product of experts" if fusion == "geometric" else ""
                tried = itertools.product(budgets, follows if face else [1.0], penalties)
                for budget, follow, penalty in tried:
                    values = f"penalty {penalty:g}, budget {budget}"
                    values += f", follow {follow:g}" if face else ""
                    grid[Setting(method, values)] = dataclasses.replace(
                        base,
                        align=align,
                        fusion=fusion,
                        budget=budget,
                        penalty=penalty,
                        follow=follow,
                    )
    except ValueError as error:
        raise UserError(str(error)) from error
    return grid


def _described(recurrence: RwRConfig) -> str:
    """Its numbers, such as "hold_seconds 0.04, follow_seconds 0.01, budget 0"."""
    names = ["hold_seconds" if recurrence.penalty is None else "penalty"]
    if recurrence.align == "face":
        names.append("follow_seconds" if recurrence.follow is None else "follow")
    parts = []
    for name in [*names, "budget"]:
        value = getattr(recurrence, name)
        parts.append(f"{name} " + ("by landmark" if isinstance(value, tuple) else f"{value:g}"))
    return ", ".join(parts)
