"""Reads the pages of reports, as strictly as the tests need it."""

import html.parser
import json
import re
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input", "source"}
# Attributes whose address a browser loads by itself; those of links it follows when asked.
LOADED = {"src", "poster", "data", "srcset", "action", "background"}


class Page(html.parser.HTMLParser):
    """A page: its elements, text, tables and charts; badly nested elements are errors.

    Args:
        source: HTML, or the file of it.
    """

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source = source.read_text("utf-8") if isinstance(source, Path) else source
        self.open, self.elements, self.texts = [], [], []
        self.tables, self.charts, self.scripts = [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            kind = [attributes for tag, attributes in self.elements if tag == "script"][-1]
            is_data = kind.get("type") == "application/json"
            (self.charts if is_data else self.scripts).append(json.loads(data) if is_data else data)
        elif inside != "style":
            self.texts.append(data)
            if {"th", "td"} & set(self.open):
                self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name):
        """Values of an attribute, of all elements that have it."""
        return [found[name] for _, found in self.elements if name in found]

    def rows(self, number=0):
        """A table as dicts."""
        head, *rows = ([cell.strip() for cell in row] for row in self.tables[number])
        return [dict(zip(head, row, strict=True)) for row in rows]

    def check(self):
        """That it stands alone and can be read by all."""
        for tag, found in self.elements:
            for name in LOADED & set(found):
                held = found[name].startswith("data:")
                assert held or (tag == "video" and ":" not in found[name]), (tag, found[name][:80])
            if tag == "link":
                assert found["href"] == "data:,"
            if tag == "img":
                assert found["alt"]
            assert not [name for name in found if name.startswith("on")]
        style = re.search("<style>(.*?)</style>", self.source, re.S)[1]
        assert "url(" not in style and "@import" not in style
        for script in self.scripts:
            assert not re.search(r"\bfetch\(|XMLHttpRequest|importScripts|sendBeacon", script)
        names = self.attributes("id")
        assert len(names) == len(set(names))
        headings = [int(tag[1]) for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]
        assert headings[0] == 1 and headings.count(1) == 1
        assert all(
            after <= before + 1 for before, after in zip(headings, headings[1:], strict=False)
        )
        tables = [tag for tag, _ in self.elements].count("table")
        assert [tag for tag, _ in self.elements].count("caption") == tables
        return self
