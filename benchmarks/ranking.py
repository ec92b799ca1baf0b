r"""Whether two benchmarks rank methods alike: one with true labels, others with labels of models.

    ldeq evaluate --checkpoint=MODEL --dataset=KNOWN --tuning_split=A --split=B --output=TRUE
    ldeq evaluate --checkpoint=MODEL --dataset=LABELLED --tuning_split=C --split=D --output=MADE
    python -m benchmarks.ranking --truth=TRUE MADE OTHER

Both evaluations are of the same settings, with the same flags; each setting's NME and NMF are the
means over all its videos, those for tuning too. Printed for each other benchmark, and of the first
two a summary for the two splits of the truth against each other:

- the rank correlation (Spearman's) of NME and of NMF over all settings;
- how many of all pairs of settings are in the same order of NMF as in the truth, by how far they
  are apart there, and the difference at which 95 % are (isotonic regression): smaller differences
  between methods cannot be shown;
- what is lost by whoever chooses by it: the causal setting of least NMF whose NME is at most
  --slack percent above that of the frames alone, there, and what that setting has in the truth; of
  all settings, and of the filters and the recurrence alone;
- by how much recurrence flickers less than the best causal filter, by either.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ldeq_jax.errors import UserError, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import numpy as np
import scipy.optimize
import scipy.stats

from ldeq_jax.evaluation.settings import ALONE, FILTERS
from ldeq_jax.report.tables import markdown_table

BINS = (0, 1, 3, 10, 30, np.inf)  # percent of NMF
SPLITS = ("tuning", "reported")
_ALIKE = 0.95  # share of pairs


class Score(NamedTuple):
    """Of a setting, means over all videos of a benchmark: NME in percent, and NMF."""

    nme: float
    nmf: float


Key = tuple[str, str]  # method and setting
Scores = Mapping[Key, Score]


def main() -> None:
    """Compares, and prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, required=True, help="output of ldeq evaluate")
    parser.add_argument("others", type=Path, nargs="+", metavar="OTHER", help="likewise")
    parser.add_argument("--slack", type=float, default=0.5, help="percent of the NME (0.5)")
    options = parser.parse_args()
    truth = read(options.truth)
    halves = (read(options.truth, [split]) for split in SPLITS)
    print(f"The two splits of the truth, one against the other: {agreement(*halves).text}.\n")
    for path in options.others:
        print(report(truth, read(path), path.name, options.slack))


def read(folder: Path, splits: Sequence[str] = SPLITS) -> dict[Key, Score]:
    """The scores of all settings of an evaluation on videos.

    Args:
        folder: its output.
        splits: whose videos count, all alike.

    Raises:
        UserError: the folder has no such evaluation.
    """
    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows = [row for split in splits for row in record[split]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is not the output of ldeq evaluate on videos") from error
    sums: dict[Key, np.ndarray] = {}
    for row in rows:
        if row["nme_percent"] is not None and row["nmf"] is not None:
            value = row["videos"] * np.array([1.0, row["nme_percent"], row["nmf"]])
            key = row["method"], row["setting"]
            sums[key] = sums.get(key, np.zeros(3)) + value
    return {key: Score(nme / videos, nmf / videos) for key, (videos, nme, nmf) in sums.items()}


class Agreement(NamedTuple):
    """How far two benchmarks rank alike.

    Attributes:
        settings: number of those that both have.
        nme: rank correlation of the NME.
        nmf: the same of the NMF.
        shares: a text for each of `BINS`: pairs of settings in the same order of NMF.
        least: the difference in NMF, in percent, from which on 95 % are.
    """

    settings: int
    nme: float
    nmf: float
    shares: list[str]
    least: float

    @property
    def text(self) -> str:
        """All but the shares."""
        return (
            f"{self.settings} settings, rank correlation of NME {self.nme:.2f}, of NMF "
            f"{self.nmf:.2f}; pairs that differ in NMF by {self.least:.1f} % or more are in the "
            f"same order in {100 * _ALIKE:g} %"
        )


def agreement(truth: Scores, other: Scores) -> Agreement:
    """How far two benchmarks rank alike.

    Raises:
        UserError: the two have no three settings in common.
    """
    keys = [key for key in truth if key in other]
    if len(keys) < 3:
        raise UserError(
            f"the evaluations have {len(keys)} settings in common, and 3 are needed: give both the "
            "same flags"
        )
    first, second = (np.array([scores[key] for key in keys]) for scores in (truth, other))
    nme, nmf = (scipy.stats.spearmanr(first[:, c], second[:, c]).statistic for c in (0, 1))
    return Agreement(len(keys), nme, nmf, *ordered_alike(first[:, 1], second[:, 1]))


def report(truth: Scores, other: Scores, name: str, slack: float) -> str:
    """What is to be said of a benchmark, see above.

    Raises:
        UserError: the two have no three settings in common.
    """
    keys = [key for key in truth if key in other]
    alike = agreement(truth, other)
    parts = [
        f"**{name}**: {alike.text}. All pairs, by their difference in the truth:",
        markdown_table([dict(zip(_BIN_NAMES, alike.shares, strict=True))]).rstrip("\n"),
    ]
    rows = []
    for who, allowed in _KINDS.items():
        some = [key for key in keys if allowed(key[0])]
        if not some:
            continue
        true, made = chosen(truth, some, slack), chosen(other, some, slack)
        rows.append(
            {
                "chosen of": who,
                "by the truth": _said(true, truth),
                f"by {name}": _said(made, truth),
                "NMF lost (%)": f"{100 * (truth[made].nmf / truth[true].nmf - 1):+.1f}",
                "NME added (%)": f"{100 * (truth[made].nme / truth[true].nme - 1):+.1f}",
            }
        )
    parts.append(markdown_table(rows).rstrip("\n"))
    gains = [gain(scores, keys, slack) for scores in (truth, other)]
    parts.append(
        "The best recurrence against the best causal filter, each benchmark by itself: NMF "
        f"{gains[0]:+.1f} % by the truth, {gains[1]:+.1f} % by {name}."
    )
    return "\n\n".join(parts) + "\n"


def ordered_alike(truth: np.ndarray, other: np.ndarray) -> tuple[list[str], float]:
    """How many of all pairs of settings have the same order in two benchmarks.

    Args:
        truth: (N,) flicker of each setting.
        other: (N,) the same in the other benchmark.

    Returns:
        A text for each of `BINS`, and the true difference in percent from which on 95 % have, by
        isotonic regression of the share on the difference; NaN if they have it at none.
    """
    first, second = np.array(list(itertools.combinations(range(len(truth)), 2))).T
    low = np.minimum(truth[first], truth[second])
    apart = 100 * np.abs(truth[first] - truth[second]) / low
    alike = (truth[first] > truth[second]) == (other[first] > other[second])
    texts = []
    for start, stop in itertools.pairwise(BINS):
        inside = (apart >= start) & (apart < stop)
        count = np.count_nonzero(inside)
        texts.append(f"{100 * alike[inside].mean():.0f} % of {count}" if count else "-")
    order = np.argsort(apart)
    shares = scipy.optimize.isotonic_regression(alike[order].astype(float)).x
    enough = np.flatnonzero(shares >= _ALIKE)
    return texts, float(apart[order][enough[0]]) if len(enough) else float("nan")


def chosen(scores: Scores, keys: Sequence[Key], slack: float) -> Key:
    """The setting of least NMF whose NME is near that of the frames alone, else of least NME.

    Args:
        scores: of a benchmark.
        keys: of the settings to choose from.
        slack: percent by which the NME may exceed that of the frames alone.
    """
    limit = (1 + slack / 100) * scores[ALONE.name, ALONE.values].nme
    good = [key for key in keys if scores[key].nme <= limit]
    if good:
        return min(good, key=lambda key: scores[key].nmf)
    return min(keys, key=lambda key: scores[key].nme)


def gain(scores: Scores, keys: Sequence[Key], slack: float) -> float:
    """By how many percent the NMF of the best recurrence differs from that of the best filter."""
    best = []
    for allowed in (_is_recurrence, _is_causal_filter):
        some = [key for key in keys if allowed(key[0])]
        best.append(scores[chosen(scores, some, slack)].nmf if some else float("nan"))
    return 100 * (best[0] / best[1] - 1)


def _family(method: str) -> str:
    return method.partition(", budget ")[0]


def _is_causal_filter(method: str) -> bool:
    return any(kind.name == _family(method) and kind.causal for kind in FILTERS)


def _is_recurrence(method: str) -> bool:
    return method.startswith("RwR")


def _said(key: Key, scores: Scores) -> str:
    score = scores[key]
    return f"{', '.join(part for part in key if part)}: {score.nme:.3f} / {score.nmf:.1f}"


_KINDS: dict[str, Callable[[str], bool]] = {
    "all causal settings": lambda method: _is_causal_filter(method) or _is_recurrence(method),
    "filters": _is_causal_filter,
    "recurrence": _is_recurrence,
}
_BIN_NAMES = [
    f"above {start:g} %" if np.isinf(stop) else f"{start:g} to {stop:g} %"
    for start, stop in itertools.pairwise(BINS)
]


if __name__ == "__main__":
    main()
