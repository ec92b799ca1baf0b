"""Reports: pages of HTML that hold all they show, and need no network: `write_page`.

A `Page` is made of sections, and these of parts: `Text`, `Facts`, `Table`, `Chart`, `Gallery`,
`Clip`, `Timeline` and `Code`. What they say is text, never HTML: it is escaped. Charts are pictures
that a script (Chart.js, which is in the page) replaces by charts that answer to the pointer; in
print and without scripts the pictures stay.
"""

import base64
import dataclasses
import datetime
import functools
import itertools
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ldeq_jax import __version__
from ldeq_jax.media.files import write_whole
from ldeq_jax.report import charts, records
from ldeq_jax.report.charts import Chart
from ldeq_jax.report.style import printable
from ldeq_jax.report.tables import cell_text

_HERE = Path(__file__).parent
_GENERATOR = '<meta name="generator" content="ldeq_jax '  # and the version, which may change
_NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?( [%s])?( \[.*\])?|[-–]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph.

    Attributes:
        text: of it.
        warning: whether it is set off, to be seen.
    """

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and their values, such as settings."""

    kind: ClassVar[str] = "facts"
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Code:
    """Text to be kept as it is, such as a command."""

    kind: ClassVar[str] = "code"
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of rows with the same keys, which are the heads of the columns.

    Attributes:
        caption: what it shows.
        rows: as `report.tables.markdown_table` takes them; the first column names the row.
        digits: decimals of floats.
        folded: shown when it is asked for.
        links: by the text of a row's first cell, the address that it leads to.
    """

    kind: ClassVar[str] = "table"
    caption: str
    rows: Sequence[Mapping[str, Any]]
    digits: int = 2
    folded: bool = False
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def heads(self) -> list[str]:
        """Of the columns."""
        return list(self.rows[0]) if self.rows else []

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are aligned right."""
        columns = zip(*self.cells, strict=True)
        return [all(map(_NUMBER.fullmatch, column)) for column in columns]

    @property
    def cells(self) -> list[list[str]]:
        """Texts of the cells, row by row; a dash where there is no number."""
        return [[self._text(row[head]) for head in self.heads] for row in self.rows]

    def _text(self, value: Any) -> str:
        text = cell_text(value, self.digits)
        return "–" if text in ("nan", "None", "") else text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture inside the page.

    Attributes:
        data: a JPEG or PNG file.
        alt: what it shows, for those who do not see it.
        caption: below it.
    """

    data: bytes
    alt: str
    caption: str = ""

    @property
    def address(self) -> str:
        """The picture as an address."""
        kind = "png" if self.data.startswith(b"\x89PNG") else "jpeg"
        return data_address(self.data, f"image/{kind}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures in a row.

    Attributes:
        caption: of all.
        pictures: of it.
        width: of each picture in CSS pixels, if there is room.
    """

    kind: ClassVar[str] = "gallery"
    caption: str
    pictures: Sequence[Picture]
    width: int = 160


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """A video.

    Attributes:
        caption: what it shows.
        address: of the film, from `data_address` or `file_address`.
        link: address of a longer one, or of the same in a file of its own; "" for none.
        poster: picture in its place, in print too.
        plays: whether browsers play it; only a link is there if not.
    """

    kind: ClassVar[str] = "clip"
    caption: str
    address: str
    link: str = ""
    poster: Picture | None = None
    plays: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """Spans of time, a row for each of several things.

    Attributes:
        caption: what it shows.
        end: of the time axis, which begins at `start`, seconds.
        rows: name of each thing to its spans: from, to and state.
        states: state to the number of its colour, 0 for the strongest.
        marks: times that are marked in all rows, and what each means.
    """

    kind: ClassVar[str] = "timeline"
    caption: str
    start: float
    end: float
    rows: Mapping[str, Sequence[tuple[float, float, str]]]
    states: Mapping[str, int]
    marks: Sequence[tuple[float, str]] = ()

    def place(self, time: float) -> float:
        """Of a time, in percent of the axis."""
        return round(100 * (time - self.start) / max(self.end - self.start, 1e-9), 3)

    @property
    def ticks(self) -> list[float]:
        """Times to write below it."""
        return charts.round_numbers(self.start, self.end)


Part = Text | Facts | Code | Table | Chart | Gallery | Clip | Timeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        title: heading.
        parts: of it; a section without parts is left out.
    """

    title: str
    parts: Sequence[Part]

    @property
    def name(self) -> str:
        """Of its anchor."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A report.

    Attributes:
        title: heading and name of the page.
        about: a line below the heading.
        figures: the few most important values, by what they are.
        sections: of it.
    """

    title: str
    about: str
    figures: Mapping[str, str]
    sections: Sequence[Section]


def write_page(path: Path, page: Page) -> None:
    """Writes a page, complete or not at all; its folder is made when missing.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, to_html(page).encode("utf-8"))


def to_html(page: Page) -> str:
    """A page as HTML."""
    sections = [section for section in page.sections if section.parts]
    script = _script() if _has_script(sections) else None
    return render("page.html", page=page, sections=sections, script=script)


def render(template: str, **values: Any) -> str:
    """A page by a template.

    Args:
        template: name of a file in `templates/`.
        values: what it shows; texts are escaped.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            time=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=__version__,
        )
    )


def is_page(path: Path) -> bool:
    """Whether a file is a page that this package wrote."""
    try:
        with path.open("rb") as file:
            return _GENERATOR.encode() in file.read(2000)
    except OSError:
        return False


def data_address(data: bytes, kind: str) -> str:
    """An address that holds a file itself.

    Args:
        data: the file.
        kind: its type, such as video/mp4.
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def file_address(path: Path) -> str:
    """The address of a file from a page in the folder that the path begins in."""
    return urllib.parse.quote(os.fsencode(path.as_posix()))


def _in_rows(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts; charts of one shape, or facts, that follow each other are beside each other."""

    def group(numbered: tuple[int, Part]) -> tuple[int, str]:
        number, part = numbered
        if isinstance(part, Chart):
            return -1, "face" if part.face else "plot"
        return (-1 if isinstance(part, Facts) else number), part.kind

    rows = itertools.groupby(enumerate(parts), group)
    return [[part for _, part in members] for _, members in rows]


def _png_address(data: bytes) -> str:
    return data_address(data, "image/png")


def _has_script(sections: Sequence[Section]) -> bool:
    kinds = {part.kind for section in sections for part in section.parts}
    return not kinds.isdisjoint({"chart", "clip"})


@functools.cache
def _environment() -> Any:
    import jinja2  # here, as the commands import this module for everything that they may write
    import markupsafe

    def as_json(value: Any) -> markupsafe.Markup:
        text = records.to_json(value)
        for character in "<>&\u2028\u2029":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return markupsafe.Markup(text)

    def plain(value: Any) -> Any:
        odd = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
        return printable(value) if odd else value

    def read(name: str) -> markupsafe.Markup:
        return markupsafe.Markup((_HERE / "templates" / name).read_text(encoding="utf-8"))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"as_json": as_json, "rows": _in_rows, "picture_address": _png_address}
    environment.globals |= {
        "generator": markupsafe.Markup(f'{_GENERATOR}{__version__}">'),
        "read": read,
    }
    return environment


@functools.cache
def _script() -> Any:
    """Chart.js with its licence."""
    import markupsafe

    code = (_HERE / "chartjs" / "chart.umd.min.js").read_text(encoding="utf-8")
    terms = [
        (_HERE / "chartjs" / name).read_text(encoding="utf-8")
        for name in ("LICENSE.md", "LICENSE_color.md")
    ]
    code = code.rpartition("//# sourceMappingURL")[0]  # a file that is not there
    return markupsafe.Markup("/*\n" + "\n".join(terms) + "*/\n" + code)
