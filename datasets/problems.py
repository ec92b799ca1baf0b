"""The report of a build: what it keeps and what it leaves out, with file, line and reason."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from tqdm import tqdm

Candidate = TypeVar("Candidate")
Example = dict


class Problem(Exception):
    """An input that cannot be used as it is.

    Attributes:
        where: the file, with ":line" where there is one.
        kind: a few words, the same for all problems of a kind, which are counted together.
        detail: what was found, and how to correct it.
    """

    def __init__(self, where: object, kind: str, detail: str) -> None:
        super().__init__(f"{where}: {kind}: {detail}")
        self.where, self.kind, self.detail = str(where), kind, detail


class NothingUsable(Exception):
    """No split has a single usable example."""


@dataclasses.dataclass
class Tally:
    """Counts of one split."""

    candidates: int
    most: int | None = None
    kept: int = 0
    left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    warned: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    warned_frames: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    contents: collections.Counter = dataclasses.field(default_factory=collections.Counter)


class Report:
    """Counts the examples of every split and prints each problem once, when it occurs.

    Args:
        unit: name of one example in progress bars and counts, in the singular.
    """

    def __init__(self, unit: str = "face") -> None:
        self.unit = unit
        self.splits: dict[str, Tally] = {}
        self.notes: list[str] = []
        self._printed: set[str] = set()

    def note(self, text: str) -> None:
        """Adds a sentence to the summary, for instance about a split that is not built."""
        self.notes.append(text)

    def warn(self, split: str, kind: str) -> None:
        """Counts a peculiarity of an example that is kept."""
        self.splits[split].warned[kind] += 1

    def warn_frames(self, split: str, problem: Problem, frames: int) -> None:
        """Counts and prints a peculiarity of some frames of an example that is kept."""
        self.warn(split, problem.kind)
        self.splits[split].warned_frames[problem.kind] += frames
        self._print_once(f"warning: {problem}")

    def count(self, split: str, content: str, number: int) -> None:
        """Adds to the contents of the kept examples, for the first line of the summary."""
        self.splits[split].contents[content] += number

    def leave_out(self, split: str, problem: Problem) -> None:
        """Counts and prints a problem."""
        self.splits[split].left_out[problem.kind] += 1
        self._print_once(f"left out: {problem}")

    def _print_once(self, text: str) -> None:
        if text not in self._printed:  # a face can be in several splits
            self._printed.add(text)
            tqdm.write(text, file=sys.stderr)

    def usable(
        self,
        split: str,
        candidates: Sequence[Candidate],
        read: Callable[[str, Candidate], tuple[str, Example]],
        most: int | None = None,
    ) -> Iterator[tuple[str, Example]]:
        """Yields `(key, example)` of each candidate that `read(split, candidate)` can read.

        A candidate is left out if `read` raises a `Problem`, or if its key was seen before or is
        not UTF-8. It ends when `most` candidates are kept, if given.
        """
        tally = self.splits[split] = Tally(len(candidates), most=most)
        seen: set[str] = set()
        for candidate in candidates:
            if tally.kept == most:
                break
            try:
                key, example = read(split, candidate)
                if key.encode(errors="replace").decode() != key:
                    raise Problem(repr(key), "name is not UTF-8", "rename the file")
                if key in seen:
                    raise Problem(key, "twice in one split", f"{split} keeps the first one")
            except Problem as problem:
                self.leave_out(split, problem)
                continue
            seen.add(key)
            tally.kept += 1
            yield key, example

    def nonempty(
        self, splits: Mapping[str, Iterator[tuple[str, Example]]]
    ) -> dict[str, Iterator[tuple[str, Example]]]:
        """Drops empty splits, which TFDS cannot write; the others get a progress bar.

        Args:
            splits: the iterator that `usable` returned for each split.

        Raises:
            NothingUsable: no split is left.
        """
        kept = {}
        for split, examples in splits.items():
            first = next(examples, None)
            if first is None:
                self.note(f"{split} is not built: no usable {self.unit}")
            else:
                kept[split] = self._with_bar(split, itertools.chain([first], examples))
        if not kept:
            raise NothingUsable
        return kept

    def _with_bar(
        self, split: str, examples: Iterator[tuple[str, Example]]
    ) -> Iterator[tuple[str, Example]]:
        tally = self.splits[split]
        total = min(tally.candidates, tally.most or tally.candidates)
        with tqdm(total=total, desc=split, unit=self.unit, disable=None) as bar:
            for example in examples:
                yield example
                bar.update(tally.kept + tally.left_out.total() - bar.n)

    def __str__(self) -> str:
        """One line per split, then the notes."""
        width = max(map(len, self.splits), default=0)
        lines = []
        for split, tally in self.splits.items():
            line = f"{split:{width}}  {tally.kept:6d} of {tally.candidates} {self.unit}s"
            lines.append(", ".join([line, *(f"{n} {what}" for what, n in tally.contents.items())]))
            for heading, counts in (("left out", tally.left_out), ("warning", tally.warned)):
                for kind, n in counts.items():
                    frames = tally.warned_frames[kind] if heading == "warning" else 0
                    line = f"{'':{width}}  {n:6d} {heading}: {kind}"
                    lines.append(line + (f" ({frames} frames)" if frames else ""))
        return "\n".join(lines + self.notes)
