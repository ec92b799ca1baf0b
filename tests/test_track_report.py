"""Reports of tracked films: they say what the tables say, and stay small however long a film is."""

import base64
import io
import math
import os
import types
from pathlib import Path

import numpy as np
import pytest
from commands import complaint
from pages import Page
from PIL import Image
from test_track import clip, frames, model, numbers, squares, track  # noqa: F401 (fixtures)
from test_tracking import film

from ldeq_jax.cli.main import main
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.inference import drawing, film_summary, track_films, tracker
from ldeq_jax.inference.film_summary import Bin, FilmSummary, Tally, steps_in_face
from ldeq_jax.inference.track_charts import timeline
from ldeq_jax.inference.track_report import film_page
from ldeq_jax.inference.tracker import Face, TrackedFrame
from ldeq_jax.report.draw import draw_tracks
from ldeq_jax.report.html import to_html


def test_the_report_says_what_the_tables_say(model, clip):  # noqa: F811
    out = track(model, "--report", clip)
    found, page = numbers(out / "clip.npz"), Page(out / "clip.html").check()
    assert set(found["written_files"]) == {path.name for path in out.iterdir()}
    rows = page.rows()
    assert [row["face"] for row in rows] == ["0", "1"]
    for row in rows:
        mine = found["face"] == int(row["face"])
        assert int(row["frames"]) == mine.sum()
        assert int(row["detected in"]) == (found["status"][mine] == "detected").sum()
        assert float(row["from (s)"]) == pytest.approx(found["time"][mine].min(), abs=0.005)
        assert float(row["to (s)"]) == pytest.approx(found["time"][mine].max(), abs=0.005)
        steps = [
            steps_in_face(a, b) for a, b in zip(*shifted(found["landmarks"][mine]), strict=True)
        ]
        assert float(row["motion (%)"]) == pytest.approx(np.mean(steps), abs=0.005)
    assert "12 frames, 10 of them with a face; 2 face(s): face 0 in 10, face 1 in 8" in page.text
    assert "incomplete" not in page.text and "confidence (%)" in rows[0]
    assert "ldeq track --detect_every=2" in page.text and "ibug_68" in page.text
    assert {chart["title"] for chart in page.charts} == {
        "Motion within the face",
        "Spread of each landmark",
    }


def shifted(values):
    return values[:-1], values[1:]


def test_the_drawn_film_is_in_the_page_if_browsers_play_it(model, clip, monkeypatch):  # noqa: F811
    arguments = ["track", f"--output={clip.parent / 'out'}", f"--checkpoint={model}", str(clip)]
    assert main([*arguments, "--report", "--codec=vp09"]) == 0
    path = clip.parent / "out" / "clip.html"
    [video] = [of for tag, of in Page(path).check().elements if tag == "video"]
    assert video["src"].startswith("data:video/mp4;base64,")
    monkeypatch.setattr("ldeq_jax.report.clips.LARGEST", 100)
    assert main([*arguments, "--report", "--codec=vp09"]) == 0
    page = Page(path).check()
    [video] = [of for tag, of in page.elements if tag == "video"]
    assert video["src"] == "clip.mp4" and "clip.mp4" in page.attributes("href")
    assert main([*arguments, "--report", "--codec=mp4v"]) == 0
    page = Page(path).check()
    assert not [tag for tag, _ in page.elements if tag == "video"]
    assert "clip.mp4" in page.attributes("href")
    assert main([*arguments, "--report", "--no_overlay", "--overwrite"]) == 0
    page = Page(path).check()
    assert not [link for link in page.attributes("href") if "mp4" in link]
    assert len([tag for tag, _ in page.elements if tag == "img"]) > 3, "frames are there"


def test_a_film_that_is_black_up_to_its_middle_has_a_poster(model, tmp_path):  # noqa: F811
    black = [np.zeros_like(frames()[0])] * 8
    out = track(
        model, "--report", "--codec=vp09", film(tmp_path / "clip.avi", black + frames()[6:9])
    )
    page = Page(out / "clip.html").check()
    [poster] = [of["src"] for _, of in page.elements if "poster" in of.get("class", "")]
    data = base64.b64decode(poster.removeprefix("data:image/jpeg;base64,"))
    assert np.mean(Image.open(io.BytesIO(data))) > 30


def test_a_film_without_a_face_has_a_report(model, tmp_path):  # noqa: F811
    out = track(model, "--report", film(tmp_path / "none.avi", [frames()[0]] * 5))
    page = Page(out / "none.html").check()
    assert "5 frames, 0 of them with a face: no face is detected" in page.text
    assert page.tables == page.charts == []


def test_a_report_of_a_film_that_is_broken_off_says_so(model, clip, monkeypatch):  # noqa: F811
    step = tracker.FaceTracker.step

    def broken_off(self, image, time, state=None, seen=None):
        if state is not None and state.index == 7:
            raise KeyboardInterrupt
        return step(self, image, time, state, seen)

    arguments = ["--report", "--no_overlay", clip]
    with monkeypatch.context() as patched:
        patched.setattr(tracker.FaceTracker, "step", broken_off)
        out = track(model, *arguments, code=130)
    page = Page(out / "clip.html").check()
    assert "This report is incomplete" in page.text and "7 frames, 5 of them" in page.text
    track(model, "--resume", *arguments)
    assert "incomplete" not in Page(out / "clip.html").text


def test_a_film_that_is_done_without_a_report_is_done_again(model, clip, capsys):  # noqa: F811
    track(model, "--no_overlay", clip)
    track(model, "--no_overlay", "--report", "--resume", clip)
    assert "done before" not in capsys.readouterr().out
    track(model, "--no_overlay", "--report", "--resume", clip)
    track(model, "--no_overlay", "--resume", clip)
    assert capsys.readouterr().out.count("done before") == 2


def test_a_drawing_that_fails_is_reported_in_the_report(model, clip, monkeypatch):  # noqa: F811
    def refuse(*_, **__):
        raise OSError("no codec")

    monkeypatch.setattr(drawing, "open_writer", refuse)
    out = track(model, "--report", clip, code=3)
    assert "clip.mp4 is not written: no codec" in Page(out / "clip.html").check().text


def test_names_that_are_no_text_are_harmless(model, tmp_path):  # noqa: F811
    name = os.fsdecode(b"<u>&'\"\xff") + ".avi"
    path = film(tmp_path / "plain.avi", frames())
    path = path.rename(tmp_path / name)
    out = track(model, "--report", path)
    page = Page(out / Path(name).with_suffix(".html")).check()
    assert "<u>&'\"\ufffd" in page.text and "u" not in {tag for tag, _ in page.elements}
    assert "%3Cu%3E%26%27%22%FF.mp4" in page.attributes("href")


def test_reports_of_others_are_not_replaced(model, clip):  # noqa: F811
    out = clip.parent / "out"
    out.mkdir()
    (out / "clip.html").write_text("mine")
    arguments = [f"--output={out}", f"--checkpoint={model}", "--report", str(clip)]
    assert "clip.html exists and was not written" in complaint("track", *arguments)
    assert (out / "clip.html").read_text() == "mine"


# The page of all films.


@pytest.fixture
def folder(tmp_path):
    for name in ("a.avi", "deep/b&.avi"):
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        film(path, frames())
    return tmp_path / "films"


def test_a_page_leads_to_the_reports_of_all_films(model, folder):  # noqa: F811
    out = track(model, "--report", "--no_overlay", folder)
    page = Page(out / "index.html").check()
    assert [row["film"] for row in page.rows()] == ["a", "deep/b&"]
    assert {row["frames"] for row in page.rows()} == {"12"}
    assert {row["with a face"] for row in page.rows()} == {"83.3 %"}
    assert {row["faces (ids)"] for row in page.rows()} == {"2"}
    links = [link for link in page.attributes("href") if link.endswith(".html")]
    assert links == ["a.html", "deep/b%26.html"] and (out / "deep" / "b&.html").exists()
    (out / "index.html").unlink()
    (out / "a.html").unlink()
    track(model, "--report", "--no_overlay", "--resume", folder)
    assert len(Page(out / "index.html").rows()) == 2, "those that are done before, too"


def test_films_that_are_not_done_are_left_out(model, folder, monkeypatch):  # noqa: F811
    seen = []

    def broken_off(self, image, time, state=None, seen_=None):
        seen.append(time)
        if len(seen) == 15:
            raise KeyboardInterrupt
        return step(self, image, time, state, seen_)

    step = tracker.FaceTracker.step
    monkeypatch.setattr(tracker.FaceTracker, "step", broken_off)
    out = track(model, "--report", "--no_overlay", folder, code=130)
    rows = Page(out / "index.html").check().rows()
    assert [(row["film"], row["complete"]) for row in rows] == [
        ("a", "yes"),
        ("deep/b&", "no, broken off"),
    ]


def test_a_film_that_is_cut_short_and_one_that_fails_are_named(model, folder, monkeypatch):  # noqa: F811
    (folder / "c.avi").write_bytes(b"no film")

    def short(reader, count):
        return "the end is missing: it may be cut short" if reader.name.endswith("a.avi") else ""

    monkeypatch.setattr(track_films, "cut_short", short)
    out = track(model, "--report", "--no_overlay", folder, code=3)
    page = Page(out / "index.html").check()
    assert [(row["film"], row["complete"]) for row in page.rows()] == [
        ("a", "no, the film is cut short"),
        ("deep/b&", "yes"),
    ]
    assert "Films that failed" in page.text and "c.avi" in page.text
    assert "the end is missing" in Page(out / "a.html").check().text
    assert "the end is missing" not in Page(out / "deep" / "b&.html").check().text


def test_one_film_needs_no_such_page(model, clip):  # noqa: F811
    assert not (track(model, "--report", "--no_overlay", clip) / "index.html").exists()


def test_the_page_of_all_replaces_nothing_of_others(model, folder):  # noqa: F811
    out = folder / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    arguments = [f"--output={out}", f"--checkpoint={model}", "--report", str(folder)]
    assert "index.html exists and was not written" in complaint("track", *arguments)
    (out / "index.html").unlink()
    (folder / "a.avi").rename(folder / "index.avi")
    assert "rename it, or track it by itself" in complaint("track", *arguments)


# Summaries.


def face(number, points, status="tracked", confidence=0.5):
    known = {"confidence": np.float32(confidence), "probability": np.full(68, 0.25)}
    landmarks = Landmarks(points=points, spread=np.ones(68), ok=True, **known)
    return Face(id=number, status=status, landmarks=landmarks, trouble="gone" * (status == "lost"))


SHAPE = np.random.default_rng(2).uniform(20, 90, (68, 2))


def long_film(count, faces=lambda t: [face(0, SHAPE)], image=None):
    summary = FilmSummary(IBUG_68, 5, draw_tracks)
    for t in range(count):
        summary.add(TrackedFrame(index=t, time=t / 25, image=image, faces=tuple(faces(t))))
    return summary


def test_a_long_film_needs_no_more_memory_and_loses_no_frame():
    def faces(t):
        shown = [face(0, SHAPE + 0.1 * (t % 2)), face(1 + t // 5, SHAPE)]
        return shown if t % 10 else shown[1:]

    summary = long_film(3000, faces, np.zeros((120, 160, 3), np.uint8))
    assert len(summary.stories) <= film_summary._STORIES
    assert len(summary.stories) + summary.forgotten == len(summary.tally.found)
    assert 8 <= len(summary.pictures) <= 16 and summary.per_bin == 4
    story = summary.stories[0]
    assert story.found == 2700 and 500 < len(story.bins) <= 1000
    total = Bin()
    for one in story.bins.values():
        total = total.plus(one)
    np.testing.assert_allclose(total, story.total)
    times = np.array([*summary.pictures])
    np.testing.assert_allclose(np.diff(times), np.diff(times)[0])
    assert len(to_html(film_page(summary, IBUG_68, ABOUT, None))) < 1_500_000


def test_a_timeline_of_many_changes_is_made_coarser():
    def faces(t):
        lost = t % 2 == 0
        points = np.full((68, 2), math.nan) if lost else SHAPE
        return [face(k, points, "lost" if lost else "detected") for k in range(5)]

    [fine], [coarse] = timeline(long_film(600, faces)), timeline(long_film(900, faces))
    assert sum(map(len, fine.rows.values())) == 5 * 600 and "the worst" not in fine.caption
    assert [*coarse.rows.values()] == [[(pytest.approx(-0.02), pytest.approx(35.98), "lost")]] * 5
    assert "Of 2 frames each, the worst is shown" in coarse.caption


ABOUT = {
    "name": "film",
    "source": "film.mp4",
    "checkpoint": "none",
    "step": 3,
    "schema": "ibug_68",
    "settings": '{"checkpoint": "none", "limits": {"cuts": true}, "end": null}',
    "command": "ldeq track",
    "fps": 25.0,
    "size": (160, 120),
    "codec": None,
    "complete": True,
    "trouble": [],
}


def test_time_lost_and_reasons_are_counted():
    summary = FilmSummary(IBUG_68, 5, draw_tracks)
    states = ["detected", "tracked", "lost", "lost", "tracked", "tracked"]
    for t, status in enumerate(states):
        points = np.full((68, 2), math.nan) if status == "lost" else SHAPE
        shown = (face(3, points, status, 0.9 - 0.1 * t),)
        summary.add(TrackedFrame(index=t, time=2.0 * t, image=None, faces=shown, cut=t == 4))
    summary.add(TrackedFrame(index=6, time=12.0, image=None, faces=(), ended=((3, "it left"),)))
    story = summary.stories[3]
    assert (story.found, story.detected, story.lost_seconds) == (4, 1, 4)
    assert story.ended == ("it left", 12) and summary.cuts == [8] and summary.num_cuts == 1
    assert story.lowest == (pytest.approx(0.4), 10) and (story.first, story.last) == (0, 10)
    assert story.total.steps == 2, "from frames that follow each other"
    page = Page(to_html(film_page(summary, IBUG_68, ABOUT, None))).check()
    assert page.rows()[0]["its id ended"] == "it left (at 12.0 s)"
    assert (page.rows()[0]["lowest (%)"], page.rows()[0]["at (s)"]) == ("40.00", "10.00")
    states = [of["class"] for tag, of in page.elements if tag == "rect"]
    assert states == ["state0", "state2", "state0", "mark"]
    assert {of["title"] for of in page.charts} >= {"Confidence", "Confidence of each landmark"}


def test_a_face_that_is_not_detected_for_long_is_only_followed():
    def faces(t):
        return [face(0, SHAPE, "detected" if t in (0, 5) else "tracked")]

    summary = long_film(20, faces)
    unseen = [here.unseen for _, here in sorted(summary.stories[0].bins.items())]
    assert unseen == [0] * 11 + [1] * 9


def test_motion_of_the_whole_face_is_no_step():
    turn = 1.3 * np.array([[0.8, -0.6], [0.6, 0.8]])
    moved = SHAPE @ turn.T + [300, -20]
    assert steps_in_face(SHAPE, moved) == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.5, SHAPE.shape)
    noisy = SHAPE + noise
    step = steps_in_face(SHAPE, noisy)
    assert steps_in_face(3 * SHAPE, 3 * noisy) == pytest.approx(step)
    size = math.sqrt(np.prod(np.ptp(noisy, axis=0)))
    assert step == pytest.approx(100 * np.linalg.norm(noise, axis=1).mean() / size, rel=0.04)


def test_the_tally_is_in_words():
    tally = Tally()
    tally.add(types.SimpleNamespace(image=None, faces=()))
    assert str(tally) == "1 frames, 0 of them with a face, 1 cannot be decoded: no face is detected"
