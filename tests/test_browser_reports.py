"""Reports in a browser: no errors, no network, charts that answer, narrow and wide.

Needs Debian's chromium, or another at CHROMIUM, and `pip install playwright`.
"""

import os
import shutil

import numpy as np
import pytest
from test_html import every_part

from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.report import clips, html
from ldeq_jax.report.charts import face_chart
from ldeq_jax.report.html import Clip, Page, Section, Table, data_address, file_address

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDTHS = {"phone": 375, "desktop": 1280}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with every part, a film in it, and one beside it."""
    folder = tmp_path_factory.mktemp("report")
    film = clips.encode([np.full((60, 100, 3), 20 * t, np.uint8) for t in range(9)], 10)
    (folder / "beside it.mp4").write_bytes(film)
    wide = Table(caption="wide", rows=[{f"column {k}": 1e6 + k for k in range(30)}])
    films = [
        Clip(caption="inside", address=data_address(film, "video/mp4")),
        Clip(
            caption="beside", address=file_address((folder / "beside it.mp4").relative_to(folder))
        ),
    ]
    # Texts without a space, and charts beside each other.
    shape = np.random.default_rng(0).normal(0, 9, (68, 2))
    face = face_chart(
        "Errors of a face", shape, np.arange(68.0), IBUG_68, unit="%", caption="Dots."
    )
    parts = [part for part in every_part("word" * 30) if part.kind != "clip"]
    sections = [Section(title="Parts", parts=[*parts, *parts[5:6], face, wide, *films])]
    page = Page(title="A report", about="", figures={"a": "1"}, sections=sections)
    html.write_page(folder / "page.html", page)
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt install chromium, or set CHROMIUM to one")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(w, s) for w in WIDTHS for s in ("light", "dark")], ids="-".join)
def shown(request, browser, report):
    """The page in a window, with all that is reported of it."""
    width, scheme = request.param
    size = {"width": WIDTHS[width], "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.reports = []
    page.on("console", lambda message: page.reports.append(message.text))
    page.on("pageerror", lambda error: page.reports.append(str(error)))
    page.on("request", lambda request: page.reports.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState > 0)")
    yield page
    context.close()


def test_nothing_is_loaded_and_nothing_goes_wrong(shown, report):
    beside = report.with_name("beside%20it.mp4").as_uri().replace("%2520", "%20")
    loaded = [text for text in shown.reports if not text.startswith(("data:", "blob:"))]
    assert set(loaded) == {report.as_uri(), beside}


def test_nothing_is_wider_than_the_window(shown):
    root = "document.documentElement"
    assert shown.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")


def test_films_play(shown):
    assert shown.evaluate("[...document.querySelectorAll('video')].map(v => v.videoWidth)") == [
        100,
        100,
    ]


def test_charts_are_drawn_and_answer_to_pointer_and_keys(shown):
    canvases = shown.locator("canvas")
    assert canvases.count() == 3 and not shown.locator(".still").first.is_visible()
    canvas = canvases.first
    canvas.scroll_into_view_if_needed()
    assert canvas.evaluate("c => Chart.getChart(c).tooltip.opacity") == 0
    canvas.hover(position={"x": 150, "y": 150})
    assert canvas.evaluate("c => Chart.getChart(c).tooltip.opacity") == 1
    assert canvas.evaluate("c => Chart.getChart(c).tooltip.body.length") > 0
    canvas.focus()
    shown.keyboard.press("ArrowRight")
    first = shown.locator(".said").first.text_content()
    shown.keyboard.press("ArrowRight")
    second = shown.locator(".said").first.text_content()
    assert "word" in first and second, "the second point is a gap"
    shown.keyboard.press("ArrowDown")
    assert "other" in shown.locator(".said").first.text_content()


def test_the_lines_of_a_face_answer_to_nothing(shown):
    face = shown.locator(".face canvas")
    names = "c => Chart.getChart(c).data.datasets.map(d => d.label)"
    assert face.evaluate(names) == ["Errors of a face"]
    face.scroll_into_view_if_needed()
    box = face.bounding_box()
    for x in (0.1, 0.5, 0.9):
        face.hover(position={"x": x * box["width"], "y": box["height"] / 2})
        told = face.evaluate("c => Chart.getChart(c).tooltip.body.flatMap(part => part.lines)")
        assert told and all(line.startswith("landmark ") for line in told)


def test_charts_follow_light_and_dark(shown):
    canvas = shown.locator("canvas").first
    ink = "c => Chart.getChart(c).options.plugins.legend.labels.color"
    before = canvas.evaluate(ink)
    scheme = shown.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    shown.emulate_media(color_scheme="light" if scheme else "dark")
    assert canvas.evaluate(ink) != before


def test_pictures_are_printed_in_place_of_charts_and_films(shown):
    shown.emulate_media(media="print")
    assert shown.locator(".still").first.is_visible()
    assert not shown.locator("canvas").first.is_visible()
    assert not shown.locator("video").first.is_visible()


def test_without_scripts_the_pictures_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".still").first.is_visible() and page.locator("canvas").count() == 0
    context.close()
