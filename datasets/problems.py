"""What a build keeps and what it leaves out, told with file, line and reason."""

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
    """Something that cannot be used as it stands.

    Attributes:
        where: the file, with ":line" where there is one.
        kind: a few words that are the same for all problems of a kind; they are counted.
        detail: what was found here, and what would mend it.
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
    """Counts the examples of every split and prints each problem once, as it is met.

    Args:
        unit: what one example is called in progress bars and counts, in the singular.
    """

    def __init__(self, unit: str = "face") -> None:
        self.unit = unit
        self.splits: dict[str, Tally] = {}
        self.notes: list[str] = []
        self._printed: set[str] = set()

    def note(self, text: str) -> None:
        """Keeps a sentence for the summary, for instance on a split that is not built."""
        self.notes.append(text)

    def warn(self, split: str, kind: str) -> None:
        """Counts something odd about an example that is kept all the same."""
        self.splits[split].warned[kind] += 1

    def warn_frames(self, split: str, problem: Problem, frames: int) -> None:
        """Counts and prints something odd about some frames of an example that is kept."""
        self.warn(split, problem.kind)
        self.splits[split].warned_frames[problem.kind] += frames
        self._print_once(f"warning: {problem}")

    def count(self, split: str, content: str, number: int) -> None:
        """Adds to what the kept examples hold, for the first line of the summary."""
        self.splits[split].contents[content] += number

    def leave_out(self, split: str, problem: Problem) -> None:
        """Counts and prints a problem."""
        self.splits[split].left_out[problem.kind] += 1
        self._print_once(f"left out: {problem}")

    def _print_once(self, text: str) -> None:
        if text not in self._printed:  # a face can stand in several splits
            self._printed.add(text)
            tqdm.write(text, file=sys.stderr)

    def usable(
        self,
        split: str,
        candidates: Sequence[Candidate],
        read: Callable[[str, Candidate], tuple[str, Example]],
        most: int | None = None,
    ) -> Iterator[tuple[str, Example]]:
        """Yields `(key, example)` of each candidate that `read(split, candidate)` understands.

        A `Problem` raised by `read`, a key that was seen before or one that is no UTF-8 leaves the
        candidate out. It ends when `most` candidates are kept, if given.
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
                    raise Problem(key, "twice in one split", f"the first one is kept in {split}")
            except Problem as problem:
                self.leave_out(split, problem)
                continue
            seen.add(key)
            tally.kept += 1
            yield key, example

    def nonempty(
        self, splits: Mapping[str, Iterator[tuple[str, Example]]]
    ) -> dict[str, Iterator[tuple[str, Example]]]:
        """Drops the splits that yield nothing, which TFDS cannot write; gives the rest a bar.

        Args:
            splits: what `usable` returned for each split.

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
        """One line a split, then the notes."""
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
