"""Choice of the setting that each method is judged by, on the tuning videos."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ldeq_jax.evaluation.scores import Scores
from ldeq_jax.evaluation.settings import ALONE, Setting, is_causal, is_filter, is_recurrence


class Choice(NamedTuple):
    """The settings that methods are judged by.

    Attributes:
        settings: one per method, in the order of tables: frames alone, filters, the same with fewer
            solver steps, recurrence. A method that fails at every setting has none.
        above: those of methods whose NME exceeds the limit at every setting: the ones of least NME.
        best_causal_filter: the best causal filter among them, on frames solved with any budget.
        recurrence: the best recurrence among them, if any.
    """

    settings: list[Setting]
    above: set[Setting]
    best_causal_filter: Setting
    recurrence: Setting | None

    def of_whole_frames(self) -> list[Setting]:
        """The settings without those of fewer solver steps, unless one is the best."""
        best = self.best_causal_filter
        return [s for s in self.settings if s.alone_budget is None or s == best]


def choose(scores: Mapping[Setting, Scores], slack: float) -> Choice:
    """Chooses each method's setting of least flicker at an NME near that of the frames alone.

    Args:
        scores: on the tuning videos, with all filters among them.
        slack: fraction by which the NME may exceed that of the frames alone; infinite to choose by
            flicker only.
    """
    limit = (1 + slack) * float(np.mean(scores[ALONE].nme))

    def rank(setting: Setting) -> tuple[bool, float]:
        nme, flicker = np.mean(scores[setting].nme), np.mean(scores[setting].nmf)
        return (True, nme) if nme > limit else (False, flicker)

    def place(setting: Setting) -> tuple[bool, int, bool, bool]:
        steps = -1 if setting.alone_budget is None else setting.alone_budget
        return is_recurrence(setting), steps, is_filter(setting), not is_causal(setting)

    best: dict[str, Setting] = {}
    for setting, measured in scores.items():
        if np.isfinite(measured.nme + measured.nmf).all():
            so_far = best.get(setting.name, setting)
            best[setting.name] = min(so_far, setting, key=rank)
    settings = sorted(best.values(), key=place)
    filters = [setting for setting in settings if is_filter(setting)]
    return Choice(
        settings=settings,
        above={setting for setting in settings if rank(setting)[0]},
        best_causal_filter=min(filter(is_causal, filters), key=rank),
        recurrence=min(filter(is_recurrence, settings), key=rank, default=None),
    )
