"""Reports as HTML: they say what they are given, stand alone, and escape what is hostile."""

import dataclasses
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from pages import Page as Read

from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.report import charts, clips, html
from ldeq_jax.report.charts import Chart, Series, face_chart, round_numbers, upright
from ldeq_jax.report.html import (
    Clip,
    Code,
    Facts,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    Text,
    Timeline,
)

HOSTILE = "</script><script>alert(1)</script><b x='\"'>&amp;\udcff\x00\u202eend"
HARMLESS = "</script><script>alert(1)</script><b x='\"'>&amp;\ufffd\ufffd\ufffdend"
JPEG = cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
NAN = float("nan")


def page(*parts, title="A page", **fields):
    sections = [Section(title="Part one", parts=parts)]
    fields = {"about": "about it", "figures": {"frames": "3"}} | fields
    return Page(title=title, sections=sections, **fields)


def read(*parts, **fields):
    return Read(html.to_html(page(*parts, **fields)))


def every_part(text):
    """A part of each kind, with a text wherever there may be one."""
    picture = Picture(data=JPEG, alt=text, caption=text)
    series = [
        Series(name=text, points=[(0, 1), (1, NAN), (2, 3)], labels=[text] * 3, colour=0),
        Series(name="other", points=[(0, 1)], dots=True, line=False, chosen=0, colour=8),
    ]
    return [
        Text(text=text, warning=True),
        Facts(values={text: text}),
        Code(text=text),
        Table(caption=text, rows=[{text: text, "b": 1.25}], links={text: "a.html"}),
        Table(caption=text, rows=[{"a": 1}], folded=True),
        Chart(title=text, series=series, x_label=text, y_label=text, caption=text),
        Gallery(caption=text, pictures=[picture]),
        Clip(caption=text, address="data:video/mp4;base64,AAAA", poster=picture, link="a.mp4"),
        Timeline(
            caption=text,
            start=0.0,
            end=4.0,
            rows={text: [(0.0, 2.0, text)]},
            states={text: 0},
            marks=[(1.0, text)],
        ),
    ]


def test_a_page_with_every_part_is_well_formed_and_stands_alone():
    found = read(*every_part("words")).check()
    kinds = {tag for tag, _ in found.elements}
    assert {"h1", "h2", "table", "caption", "figure", "video", "svg", "details", "dl"} <= kinds
    assert len(found.charts) == 1 and len(found.scripts) == 2


def test_hostile_texts_are_shown_and_do_nothing():
    quiet, found = read(*every_part("words")), read(
        *every_part(HOSTILE), title=HOSTILE, about=HOSTILE, figures={HOSTILE: HOSTILE}
    )  # fmt: skip
    found.check()
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in quiet.elements]
    assert found.text.count(HARMLESS) == quiet.text.count("words") + 5
    assert found.charts[0]["title"] == HOSTILE and found.scripts == quiet.scripts
    assert "\x00" not in found.source and found.source.encode("utf-8")


def test_a_page_may_load_nothing_and_says_so():
    [policy] = [
        of["content"] for _, of in read(*every_part("words")).elements if "http-equiv" in of
    ]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy and "connect-src" not in policy


def test_pages_without_charts_have_no_script():
    assert read(Text(text="a")).scripts == []


def test_the_library_of_the_charts_is_there_with_its_licences():
    script, _ = read(*every_part("words")).scripts
    folder = Path(html.__file__).parent / "chartjs"
    version = re.search(r"Chart\.js v([\d.]+)", script)[1]
    assert f" {version} as npm" in (folder / "README.md").read_text("utf-8")
    assert script.count("Permission is hereby granted, free of charge") == 2
    assert "sourceMappingURL" not in script


def test_cells_are_those_of_the_markdown_table_and_a_dash_where_there_is_no_number():
    rows = [
        {"name": "a", "x": 1.23456, "n": 3, "text": "+1.5 [-2.0, 3.0]", "words": "two 2"},
        {"name": "b", "x": NAN, "n": 40, "text": "-", "words": ""},
    ]
    table = Table(caption="c", rows=rows, digits=3)
    assert read(table).rows() == [
        {"name": "a", "x": "1.235", "n": "3", "text": "+1.5 [-2.0, 3.0]", "words": "two 2"},
        {"name": "b", "x": "–", "n": "40", "text": "-", "words": "–"},
    ]
    assert table.numeric == [False, True, True, True, False]
    assert Table(caption="c", rows=[]).heads == []


def test_sections_without_parts_are_left_out():
    sections = [Section(title="Full", parts=[Text(text="a")]), Section(title="Empty", parts=[])]
    found = Read(html.to_html(dataclasses.replace(page(), sections=sections)))
    assert "Full" in found.text and "Empty" not in found.text


def test_a_written_page_is_known_again(tmp_path):
    path = tmp_path / "deep" / "page.html"
    html.write_page(path, page(Text(text="a")))
    (tmp_path / "other.html").write_text("<html></html>")
    assert html.is_page(path)
    text = path.read_text("utf-8").replace(f"ldeq_jax {html.__version__}", "ldeq_jax 9.9")
    path.write_text(text, "utf-8")
    assert html.is_page(path), "of another version"
    assert not html.is_page(tmp_path / "other.html") and not html.is_page(tmp_path / "none")


def test_addresses_of_files_lead_to_them_whatever_their_names():
    name = os.fsdecode(b"a b/\xff#?%.mp4")
    assert html.file_address(Path(name)) == "a%20b/%FF%23%3F%25.mp4"


def test_a_timeline_has_its_spans_in_their_places():
    timeline = Timeline(
        caption="c",
        start=10.0,
        end=30.0,
        rows={"face 0": [(10.0, 15.0, "found"), (15.0, 30.0, "lost")]},
        states={"found": 0, "lost": 2},
    )
    found = [of for tag, of in read(timeline).elements if tag == "rect"]
    assert [(float(of["x"]), float(of["width"]), of["class"]) for of in found] == [
        (0, 25, "state0"),
        (25, 75, "state2"),
    ]
    assert timeline.ticks == [10, 15, 20, 25, 30]


@pytest.mark.parametrize("ends", [(0, 1), (0.3, 97.2), (5, 5), (0, 1e-7), (0, 86400)])
def test_ticks_are_round_within_their_ends_and_few(ends):
    ticks = round_numbers(*ends)
    assert len(ticks) <= 7 and all(ends[0] - 1e-9 <= tick <= ends[1] + 1e-8 for tick in ticks)


# Charts.


def test_what_is_not_finite_is_a_gap():
    series = Series(name="a", points=[(0, 1), (NAN, 2), (2, np.inf)])
    assert series.data()["points"] == [[0, 1], [None, 2], [2, None]]


@pytest.mark.parametrize("points", [[], [(NAN, NAN)], [(1, 1)], [(0, 0), (1, 2)]])
def test_every_chart_has_a_picture(points):
    chart = Chart(title="t", series=[Series(name="a", points=points, colour=0)], y_label="y")
    picture = cv2.imdecode(np.frombuffer(chart.png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 300
    assert dataclasses.replace(chart, picture=b"given").png == b"given"


def face():
    """(68, 2) points of a face, upright."""
    rng = np.random.default_rng(3)
    points = rng.normal(0, 20, (68, 2))
    points[36], points[45] = (-30, 0), (30, 0)
    return points


def test_upright_faces_do_not_depend_on_place_size_and_turn():
    points = face()
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = 3 * points @ turn.T + [100, -7]
    one, other = (upright(p, IBUG_68.eye_corners) for p in (points, moved))
    np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_allclose(one.mean(axis=0), 0, atol=1e-12)
    assert np.square(one).sum(axis=-1).mean() == pytest.approx(1)
    assert one[36, 1] == pytest.approx(one[45, 1]) and one[36, 0] < one[45, 0]


def test_numbers_of_landmarks_are_colours_and_sizes():
    values = np.linspace(1, 5, 68)
    values[3] = NAN
    chart = face_chart("Error", face(), values, IBUG_68, unit="%", caption="c")
    outline, dots = chart.series
    assert outline.name == "" and len(dots.array) == 67
    assert dots.labels[3] == f"landmark 4: {values[4]:.3g} %"
    assert dots.radii == sorted(dots.radii) and dots.radii[0] < dots.radii[-1]
    assert dots.colours[0] == charts.colours_of(np.zeros(1))[0]
    assert chart.ramp == ("1 %", "5 %")
    unsure = face_chart("Sure", face(), values, IBUG_68, unit="", caption="c", large_is_low=True)
    assert unsure.series[1].radii[0] > unsure.series[1].radii[-1]
    same = face_chart("E", face(), values, IBUG_68, unit="", caption="c", ends=(1, 9))
    assert same.series[1].colours[-1] == charts.colours_of(np.array([0.5]))[0]
    none = face_chart("None", face(), np.full(68, NAN), IBUG_68, unit="", caption="c")
    assert none.ramp is None and none.png


# Clips.


@pytest.mark.parametrize("has_av", [True, False])
def test_a_clip_is_a_film_of_its_pictures(monkeypatch, tmp_path, has_av):
    if has_av:
        pytest.importorskip("av")
    monkeypatch.setattr(clips.importlib.util, "find_spec", lambda name: has_av or None)
    pictures = [np.full((60, 101, 3), 20 * t, np.uint8) for t in range(9)]
    path = tmp_path / "clip.mp4"
    path.write_bytes(clips.encode(pictures, 10, width=50))
    film = cv2.VideoCapture(str(path))
    shown = []
    while (read := film.read())[0]:
        shown.append(read[1])
    assert len(shown) == 9 and shown[0].shape == (30, 50, 3)
    np.testing.assert_allclose([image.mean() for image in shown], 20 * np.arange(9), atol=8)


def test_pictures_are_fitted_and_never_enlarged():
    assert clips.fitted(np.zeros((30, 41, 3), np.uint8), 100).shape == (30, 40, 3)
    assert clips.fitted(np.zeros((300, 600, 3), np.uint8), 100).shape == (50, 100, 3)
    same = np.zeros((30, 40, 3), np.uint8)
    assert clips.fitted(same, 40) is same


@pytest.mark.parametrize(
    ("levels", "chosen"),
    [
        ([90, 100, 110, 120], 2),
        ([2, 2, 2, 2, 80, 90], 4),
        ([80, 90, 100, 3, 2, 2, 2], 2),
        ([2, 9, 31, 3], 2),
        ([0], 0),
    ],
)
def test_the_poster_of_a_film_is_not_dark(levels, chosen):
    """Black at the beginning, in the middle, or everywhere: what can be seen stands for it."""
    assert clips.poster_of(levels) == chosen
