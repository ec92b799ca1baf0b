"""Choices that people make by hand, as tables: `read_choices` and `Choices`.

A file of them is a CSV table with the columns id, choice and digest. The digest says which window
the choice is for, and may be left out; other columns count for nothing, so labels.csv, whose column
choice is filled in, is such a file too. Files with the same columns can be joined.
"""

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from ldeq_jax.errors import UserError
from ldeq_jax.labelling.choice import DROP, EASY, HARD, KEEP
from ldeq_jax.media.files import read_text

NONE = "none"  # looked at, and left as the rules decide
WORDS = (KEEP, DROP, EASY, HARD, NONE)
COLUMNS = ("id", "choice", "digest")
_NAMED = 3  # IDs in a message


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a person says of a window.

    Attributes:
        word: one of `WORDS`.
        digest: of the window, see `gathered.digests_of`; "" for whichever has the ID.
    """

    word: str
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a person says of several windows.

    Attributes:
        rows: by the windows' IDs.
        where: file or folder that it is from, for messages.
    """

    rows: Mapping[str, Choice]
    where: str

    def strangers(self, digests: Mapping[str, str]) -> list[str]:
        """IDs of the choices that are for none of some windows.

        Args:
            digests: of the windows, by their IDs.
        """
        return [
            id
            for id, row in self.rows.items()
            if id not in digests or row.digest not in ("", digests[id])
        ]

    def check(self, digests: Mapping[str, str], former: "Choices") -> None:
        """Checks that all are for windows that there are, or that have been there.

        Args:
            digests: of the windows, by their IDs.
            former: choices that the set was last given, among them those that wait for windows.

        Raises:
            UserError: some are not.
        """
        known = former.rows.items()
        strangers = [id for id in self.strangers(digests) if (id, self.rows[id]) not in known]
        if unknown := [id for id in strangers if id not in digests]:
            raise UserError(
                f"{self.where}: the set has no window {some(unknown)}: is it the file of another "
                "set? Else delete these lines"
            )
        if strangers:
            raise UserError(
                f"{self.where} is of another set: {some(strangers)} is another window there. If "
                "the choices hold here too, delete the column digest"
            )

    def only(self, ids: Iterable[str]) -> "Choices":
        """Those for some windows."""
        return dataclasses.replace(self, rows={id: self.rows[id] for id in ids})

    def words(self, digests: Mapping[str, str]) -> dict[str, str]:
        """What is said of those windows that there are, `NONE` left out, by their IDs."""
        away = set(self.strangers(digests))
        return {
            id: row.word for id, row in self.rows.items() if row.word != NONE and id not in away
        }

    def with_digests(self, digests: Mapping[str, str]) -> "Choices":
        """The same for these windows and no others of the same IDs."""
        rows = {
            id: row if row.digest else dataclasses.replace(row, digest=digests.get(id, ""))
            for id, row in self.rows.items()
        }
        return dataclasses.replace(self, rows=rows)

    def lines(self) -> list[str]:
        """The lines of a file of them, the first of which names the columns."""
        rows = [(id, row.word, row.digest) for id, row in self.rows.items()]
        return [",".join(cells) for cells in (COLUMNS, *rows)]


def read_choices(path: Path) -> Choices:
    """Choices from a file, as `ldeq review` saves it or as people write it.

    Raises:
        OSError: it cannot be read.
        UserError: it is no table of choices; the message names the line.
    """
    try:
        text = read_text(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    return parse_choices(text.split("\n"), str(path))


def parse_choices(lines: Iterable[str], where: str) -> Choices:
    """Choices from the lines of a file.

    Args:
        lines: of it.
        where: the file, for messages.

    Raises:
        UserError: as `read_choices`.
    """
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip(",;\t ")]
    head = numbered[0][1] if numbered else ""
    delimiter = next((mark for mark in ";\t" if mark in head), ",")  # as spreadsheets write it
    names = [cell.strip().lower() for cell in _cells(head, delimiter)]
    if not {"id", "choice"} <= set(names):
        raise UserError(
            f"{where} is no file of choices: its first line must be id,choice,digest, or id,choice "
            f"in a file written by hand, not {head[:40]!r}"
        )
    rows: dict[str, Choice] = {}
    for number, line in numbered[1:]:
        if line == head:
            continue  # several files in one
        cells = dict(zip(names, _cells(line, delimiter), strict=False))
        id, word = cells.get("id", "").strip(), cells.get("choice", "").strip().lower()
        if not id or word not in ("", *WORDS):
            raise UserError(
                f"{where}, line {number}: must be an ID and then {', '.join(WORDS)} or nothing, "
                f"not {line[:80]!r}"
            )
        row = Choice(word, cells.get("digest", "").strip())
        former = rows.setdefault(id, row) if word else row
        if former.word == NONE:
            rows[id] = row
        elif row != former and word != NONE:
            raise UserError(
                f"{where}, line {number}: {id} is to be {word}, and {former.word} in a line above: "
                "delete one of both"
            )
    return Choices(rows, where)


def some(ids: list[str]) -> str:
    """A few of them, and how many more there are."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:  # such as a quotation mark without another
        return []
