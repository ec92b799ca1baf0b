"""Settings: the ways to get landmarks from a video that are compared, and what they are called."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from ldeq_jax.errors import UserError
from ldeq_jax.face import aligned, filters
from ldeq_jax.model.rwr_config import Align, RwRConfig


class Setting(NamedTuple):
    """One way to get landmarks.

    Attributes:
        method: the family that it belongs to, such as "kalman" or "RwR, state moved by face".
        values: the parameters, such as "penalty 1, budget 0", which no other of its family has.
    """

    method: str
    values: str = ""


ALONE = Setting("each frame alone")
FILTERS = filters.FILTERS + aligned.FILTERS


def is_filter(setting: Setting) -> bool:
    """Whether it smooths the landmarks of frames solved alone."""
    return any(kind.name == setting.method for kind in FILTERS)


def is_causal(setting: Setting) -> bool:
    """Whether no frame waits for a later one."""
    return all(kind.causal for kind in FILTERS if kind.name == setting.method)


def recurrence_grid(
    budgets: Sequence[int],
    penalties: Sequence[float],
    follows: Sequence[float],
    aligns: Sequence[Align],
    base: RwRConfig,
) -> dict[Setting, RwRConfig]:
    """Settings of recurrence to try: every combination, one method per alignment.

    The first method is the paper's, a warm start and early stopping without a penalty.

    Args:
        budgets: solver steps of a frame that follows another.
        penalties: temporal penalties.
        follows: gains of the motion filter, used by the alignment "face" only.
        aligns: alignments, see `RwRConfig`.
        base: all that is not varied.

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
        for align in aligns:
            method = "RwR" if align == "none" else f"RwR, state moved by {align}"
            for budget in budgets:
                for follow in follows if align == "face" else (1.0,):
                    for penalty in penalties:
                        values = f"penalty {penalty:g}, budget {budget}"
                        values += f", follow {follow:g}" if align == "face" else ""
                        grid[Setting(method, values)] = dataclasses.replace(
                            base, align=align, budget=budget, penalty=penalty, follow=follow
                        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return grid
