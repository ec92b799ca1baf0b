"""`ldeq label`: from films to a set of labelled videos that the builder takes."""

import csv
import json
import os
import shlex
import shutil
from pathlib import Path

import build
import numpy as np
import pytest
from commands import complaint
from test_face_tracker import Detect
from test_track import model  # noqa: F401  (a fixture)
from test_tracking import Model, film, scene

from ldeq_jax.cli.label import MEMBERS, make_parser
from ldeq_jax.cli.main import main
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.inference import follower, tracker
from ldeq_jax.labelling import label_films, options, writing
from ldeq_jax.labelling.members import Ensemble
from ldeq_jax.labelling.window_films import Resize
from ldeq_jax.labelling.writing import COLUMNS
from ldeq_jax.media.video import VideoReader

SIDE, SPEED = 40, 2
# 45 frames are cut into 20, 12 and 12, and 30 into 15 and 15.
IDS = [f"below_fast_0000{t}_0" for t in ("00", "20", "32")]
IDS += [f"slow_one_0000{t}_0" for t in ("00", "15")]


def shape():
    """68 points of a square of side 2 around the origin, its eye corners apart."""
    points = np.random.default_rng(0).uniform(-1, 1, (68, 2))
    points[:4] = [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    points[list(IBUG_68.eye_corners)] = [[-0.6, -0.3], [0.6, -0.3]]
    return points


class Finder:
    """A member that finds the white square in a frame, with some noise."""

    calls = 0
    schema = IBUG_68

    def __init__(self, name, noise=0.2, bad=()):
        self.name, self.mark, self.noise, self.bad = name, name, noise, bad

    def find(self, frames, boxes):
        Finder.calls += len(frames)
        points = []
        for frame, box in zip(frames, boxes, strict=True):
            middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
            rows, columns = np.nonzero(frame[..., 0] > 128)
            near = np.abs(np.stack([columns, rows], 1) - middle).max(axis=1) < 1.5 * half.max()
            rng = np.random.default_rng([*np.abs(box[:2]).astype(int), len(self.name)])
            low = np.array([columns[near].min(), rows[near].min()])
            high = np.array([columns[near].max(), rows[near].max()])
            noise = self.noise * rng.standard_normal((68, 2))
            points.append((low + high) / 2 + shape() * (high - low) / 2 + noise)
        points = np.array(points)
        return Landmarks(
            points=points, spread=np.full(points.shape[:2], np.nan), ok=np.ones(len(points), bool)
        )


@pytest.fixture(autouse=True)
def squares(monkeypatch):
    """Squares are faces, and members find them."""
    pretend(monkeypatch)


def pretend(monkeypatch):
    monkeypatch.setattr(follower, "VideoPredictor", Model)
    monkeypatch.setattr(tracker, "YuNet", lambda least_score: Detect())
    monkeypatch.setattr(Finder, "calls", 0)

    def load(names):
        noise = {"wild": 6.0}
        finders = tuple(Finder(name, noise.get(name, 0.2)) for name in names)
        return Ensemble(members=finders, schema=IBUG_68, indices=(None,) * len(names))

    monkeypatch.setattr(label_films, "load_ensemble", load)


def walk(path, frames=30, speed=SPEED, faces=1):
    """A film of squares that walk to and fro, on a ground that flickers."""
    made = []
    for t in range(frames):
        x = 10 + abs((speed * t) % 80 - 40)
        image = scene(*[(x, 5 + 60 * n) for n in range(faces)], side=SIDE)
        made.append(np.maximum(image, np.uint8(20 + 7 * t % 30)))
    return film(path, made)


@pytest.fixture
def films(tmp_path):
    """A slow film, a fast one, one without a face, and a broken one."""
    return shoot(tmp_path / "films")


def shoot(folder):
    (folder / "below").mkdir(parents=True)
    walk(folder / "slow one.avi", speed=1)
    walk(folder / "below" / "fast.avi", speed=3, frames=45)
    film(folder / "empty.avi", [scene() + np.uint8(10 + 3 * t) for t in range(30)])
    return folder


def label(model, films, *arguments, code=0):  # noqa: F811
    out = Path(films).parent / "set"
    fixed = ["--codec=mp4v", "--shortest=12", "--longest=20", "--min_face=20"]
    fixed += ["--min_written_face=20", "--members=one,two,three", f"--tracker={model}"]
    assert main(["label", f"--output={out}", *fixed, *map(str, arguments), str(films)]) == code
    return out


def table(out):
    with (out / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out):
    """All files of a set but those with the time or the versions in them."""
    left_out = ("report.html", "settings.json")
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in left_out and "work" not in path.parts
    }


def test_the_set_has_the_layout_of_wflw_v_and_the_builder_takes_it(model, films, capsys):  # noqa: F811
    out = label(model, films)
    ids = {
        split: (out / f"{split}_video_IDs.txt").read_text().split() for split in ("easy", "hard")
    }
    assert sorted(ids["easy"] + ids["hard"]) == IDS and len(ids["hard"]) == 2
    for id in ids["easy"] + ids["hard"]:
        points = np.load(out / f"landmarks/{id}.npy")
        boxes = np.load(out / f"bboxes/{id}.npy")
        frames = [frame.image for frame in VideoReader(out / f"videos/{id}.mp4").frames()]
        assert points.dtype == np.float32 and points.shape == (len(frames), 68, 2)
        assert boxes.shape == (len(frames), 5)
        for frame, face, box in zip(frames, points, boxes, strict=True):
            rows, columns = np.nonzero(frame[..., 0] > 160)
            low, high = (columns.min(), rows.min()), (columns.max(), rows.max())
            np.testing.assert_allclose(face[[0, 2]], [low, high], atol=1.5)
            np.testing.assert_allclose(box[:4], [*low, *high], atol=1.5)
    assert not (out / "UNFINISHED.txt").exists()
    assert f"{len(ids['easy'])} easy and {len(ids['hard'])} hard" in capsys.readouterr().out

    data = films.parent / "data"
    report = build.main(["wflw_v/ibug_68", f"--manual_dir={out}", f"--data_dir={data}"])
    assert not report
    source = VideoSource("wflw_v/ibug_68", "easy", str(data))
    assert source.names == sorted(ids["easy"], key=source.names.index)
    assert source.annotation(0)["mask"].all()


def test_labels_are_steadier_than_members(model, films):  # noqa: F811
    out = label(model, films)
    points = np.load(out / "landmarks/slow_one_000000_0.npy")
    exact = points[:, :1] + (shape()[None] + 1) * (SIDE - 1) / 2
    assert np.sqrt(np.square(points - exact).mean()) < 0.2


def test_the_table_says_where_windows_are_from(model, films):  # noqa: F811
    out = label(model, films)
    rows = table(out)
    assert [tuple(row) for row in rows] == [COLUMNS] * 5
    row = next(row for row in rows if row["id"] == "below_fast_000020_0")
    assert row["film"] == str(films / "below" / "fast.avi") and row["face"] == "0"
    assert row["start_frame"] == "20" and float(row["start_seconds"]) == pytest.approx(1.6)
    assert float(row["seconds"]) == pytest.approx(int(row["frames"]) / 12.5, abs=1e-3)
    assert (row["width"], row["height"]) == ("160", "120") and row["decision"] == "keep"
    motion = {row["id"]: float(row["motion"]) for row in rows}
    assert motion["below_fast_000000_0"] > 2 * motion["slow_one_000000_0"]
    record = json.loads((out / "settings.json").read_text())
    assert record["complete"] and record["schema"] == "ibug_68" and record["command"]
    assert record["windows"] == {"easy": 3, "hard": 2, "dropped": 0}
    assert record["films"][str(films / "empty.avi")] == {
        "name": "empty",
        "frames": 30,
        "windows": 0,
    }


def test_the_report_shows_all_windows(model, films):  # noqa: F811
    page = (label(model, films) / "report.html").read_text()
    for text in ("below_fast_000020_0", "slow_one", "three", "data:video/mp4", "data:image/jpeg"):
        assert text in page


def test_the_same_call_gives_the_same_set(model, films):  # noqa: F811
    out = label(model, films)
    first = contents(out)
    shutil.rmtree(out)
    assert contents(label(model, films)) == first


def test_a_second_call_computes_nothing_again(model, films, monkeypatch):  # noqa: F811
    out = label(model, films)
    before, calls = contents(out), Finder.calls
    monkeypatch.setattr(label_films, "FaceTracker", None)
    assert contents(label(model, films)) == before and Finder.calls == calls
    # Members that are left out cost nothing, and neither do other rules.
    label(model, films, "--members=three,one", "--most_disagreement=0.01", code=1)
    assert Finder.calls == calls
    assert not (out / "landmarks/slow_one_000000_0.npy").exists()
    # A new member is asked, and the others are not.
    label(model, films, "--members=one,four,two,three")
    assert Finder.calls == calls * 4 / 3
    assert contents(label(model, films)) == before


@pytest.mark.parametrize("stop", ["survey", "cut", "find"])
def test_a_call_that_is_broken_off_goes_on_without_loss(model, films, monkeypatch, stop):  # noqa: F811
    whole = contents(label(model, films))
    out = films.parent / "set"
    shutil.rmtree(out)
    frames = Finder.calls
    module, name = {
        "survey": (label_films, "_survey"),
        "cut": (label_films, "write_films"),
        "find": (label_films, "find"),
    }[stop]
    real, calls = getattr(module, name), []

    def once(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, once)
        label(model, films, code=130)
    assert (out / "UNFINISHED.txt").exists() and not (out / "labels.csv").exists()
    assert not list(out.rglob("*.partial*"))
    assert contents(label(model, films)) == whole
    assert Finder.calls == 2 * frames  # no window was done twice


def test_windows_are_dropped_and_told_why(model, films):  # noqa: F811
    calm = label(model, films)
    limit = sorted(float(row["disagreement"]) for row in table(calm))[2]
    out = label(model, films, f"--most_disagreement={limit}")
    rows = table(out)
    assert [row["decision"] for row in rows].count("drop") == 2
    for row in rows:
        assert (float(row["disagreement"]) > limit) == ("the members disagree by" in row["reason"])
        there = (out / f"videos/{row['id']}.mp4").exists()
        assert there == (row["decision"] == "keep") == (row["reason"] == "") == bool(row["list"])


def test_a_set_of_nothing_says_why(model, films, capsys):  # noqa: F811
    label(model, films / "empty.avi", code=1)
    assert "no film shows a face that is large enough" in capsys.readouterr().err
    label(model, films / "slow one.avi", "--shortest=200", "--longest=220", code=1)
    assert (
        "no window of 200 frames or more is left (too short, as the film ends)"
        in capsys.readouterr().err
    )
    label(model, films / "slow one.avi", "--darkest=255", code=1)
    assert (
        "(all 2 are dropped, slow_one_000000_0: it is dark, grey level" in capsys.readouterr().err
    )


def test_what_to_do_next_can_be_pasted_into_a_shell(model, films, capsys):  # noqa: F811
    folder = films.parent / "my films #1 $HOME"
    films.rename(folder)
    out = folder / "set"
    fixed = ["--codec=mp4v", "--shortest=12", "--longest=20", "--min_face=20"]
    fixed += ["--min_written_face=20", "--members=one,two", f"--tracker={model}"]
    assert main(["label", f"--output={out}", *fixed, str(folder)]) == 0
    *_, command = capsys.readouterr().out.strip().split(": ")
    assert shlex.split(command, comments=True) == ["ldeq", "review", str(out)]


def test_two_calls_at_once_both_come_to_their_end(model, films, monkeypatch):  # noqa: F811
    once = label(model, films)
    before = contents(once)
    write_page = writing.write_page

    def meanwhile(path, page):
        (once / "UNFINISHED.txt").unlink()  # the other call ends
        write_page(path, page)

    monkeypatch.setattr(writing, "write_page", meanwhile)
    assert contents(label(model, films)) == before


def test_a_broken_film_does_not_stop_the_others(model, films, capsys):  # noqa: F811
    (films / "broken.mp4").write_bytes(b"no film at all")
    sound = Path(__file__).parent / "videos" / "sound.m4a"
    (films / "sound.mp4").write_bytes(sound.read_bytes())
    out = label(model, films, code=3)
    told = capsys.readouterr().err
    assert "broken.mp4" in told and "sound.mp4 is sound without a video" in told
    assert len(table(out)) == 5 and (out / "report.html").exists()
    record = json.loads((out / "settings.json").read_text())
    assert not record["complete"] and list(record["failed"]) == [
        str(films / name) for name in ("broken.mp4", "sound.mp4")
    ]


def test_a_film_that_changes_is_labelled_again(model, films):  # noqa: F811
    out = label(model, films)
    walk(films / "slow one.avi", frames=16)
    os.utime(films / "slow one.avi", (1, 1))
    label(model, films)
    assert len(np.load(out / "landmarks/slow_one_000000_0.npy")) == 16


def test_what_is_not_in_the_set_any_more_goes(model, films):  # noqa: F811
    out = label(model, films)
    (out / "notes.txt").write_text("mine")
    label(model, films, "--per_film=1")
    assert sorted(path.stem for path in (out / "videos").iterdir()) == sorted(
        path.stem for path in (out / "landmarks").iterdir()
    )
    assert len(table(out)) == 2 and (out / "notes.txt").exists()


def test_a_folder_of_others_is_not_written_into(model, films):  # noqa: F811
    out = films.parent / "set"
    out.mkdir()
    (out / "easy_video_IDs.txt").write_text("a\n")
    with pytest.raises(AssertionError):
        label(model, films)
    assert (out / "easy_video_IDs.txt").read_text() == "a\n" and len(list(out.iterdir())) == 1
    label(model, films, "--overwrite")
    assert len(table(out)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["camera:0"], "camera:0 cannot be read twice: record a film of it first"),
        (["--shortest=30", "--longest=20", "FILM"], "--shortest=30 must be 2 or more"),
        (["nothing.mp4"], "there is no file or folder nothing.mp4"),
    ],
)
def test_calls_of_no_use_are_refused(films, arguments, message):
    arguments = [text.replace("FILM", str(films)) for text in arguments]
    assert message in complaint("label", f"--output={films.parent / 'set'}", *arguments)
    assert not (films.parent / "set").exists()


def test_a_file_as_output_is_refused(films):
    path = films.parent / "file"
    path.write_text("")
    assert "is a file" in complaint("label", f"--output={path / 'set'}", films)


# Parts.


@pytest.mark.parametrize("size", [(640, 360), (1921, 1081), (300, 1999), (101, 77)])
def test_videos_have_even_sides_and_boxes_stay_on_the_face(size):
    resize = Resize(*size, side=640)
    width, height = resize.size
    assert width % 2 == height % 2 == 0 and max(width, height) <= 640
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = size[0] // 2, size[1] // 3
    frame[y : y + 30, x : x + 40] = 255
    picture = resize.picture(frame)
    assert picture.shape == (height, width, 3)
    rows, columns = np.nonzero(picture[..., 0] > 127)
    [box] = resize.boxes(np.array([[x, y, x + 39, y + 29, 0.5]]))
    seen = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(box[:4], seen, atol=0.8)
    assert box[4] == 0.5


def test_the_usual_members_are_said_alike():
    assert tuple(make_parser().parse_args(["--output=a", "b"]).members) == options.MEMBERS
    assert ",".join(options.MEMBERS) == MEMBERS


def test_two_faces_of_a_film_are_two_windows(model, films):  # noqa: F811
    for path in films.rglob("*.avi"):
        path.unlink()
    walk(films / "two.avi", frames=20, faces=2)
    out = label(model, films)
    assert [row["id"] for row in table(out)] == ["two_000000_0", "two_000000_1"]
    tops = [np.load(out / f"landmarks/two_000000_{n}.npy")[:, 0, 1].mean() for n in (0, 1)]
    assert abs(tops[1] - tops[0]) == pytest.approx(60, abs=1)
