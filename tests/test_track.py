"""`ldeq track`: what is written is what the tracker says, of every film that can be read."""

import csv
import dataclasses
import functools
import json
import os
import re
import weakref
from pathlib import Path

import numpy as np
import pytest
from commands import complaint, ldeq
from PIL import Image
from test_face_tracker import Detect, walk
from test_inference import CONFIG, MODEL, random_state
from test_tracking import Model, film, scene, square

from ldeq_jax import weights
from ldeq_jax.cli.main import main
from ldeq_jax.data.config import DataConfig
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.inference import drawing, follower, track_films, tracker
from ldeq_jax.inference.track_films import Options, recurrence_of
from ldeq_jax.media.films import find_films
from ldeq_jax.media.video import VideoReader
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.report.draw import draw_tracks

VIDEOS = Path(__file__).parent / "videos"
SIDE = 40
ONE, OTHER = walk((4, 10), (2, 1), 12), walk((110, 70), (-1, 0), 12)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directory of a model that has learnt nothing, and is not asked."""
    folder = tmp_path_factory.mktemp("model") / "released"
    faces = DataConfig(name="none", crop="landmarks", crop_scale=1.3, schema="ibug_68")
    config = dataclasses.replace(
        CONFIG, model=dataclasses.replace(MODEL, num_landmarks=68), data=faces
    )
    weights.export_model(folder, 3, random_state(config.model).variables(), config, {"nme": 1.0})
    return folder


@pytest.fixture(autouse=True)
def squares(monkeypatch):
    """Squares are faces; the times at which the model is asked."""
    monkeypatch.setattr(follower, "VideoPredictor", Model)
    monkeypatch.setattr(tracker, "YuNet", lambda least_score: Detect())


def frames(count=12):
    """Frames without a face, then with one, then with two."""
    corners = [[], [], [ONE[2]], [ONE[3]]] + [[ONE[t], OTHER[t]] for t in range(4, count)]
    return [scene(*places, side=SIDE) for places in corners]


@pytest.fixture
def clip(tmp_path):
    return film(tmp_path / "clip.avi", frames())


def track(model, *arguments, code=0):
    """Runs the command, which writes to `out` beside the first film."""
    output = f"--output={Path(arguments[-1]).parent / 'out'}"
    arguments = [output, f"--checkpoint={model}", "--codec=mp4v", "--no_cuts", *map(str, arguments)]
    assert main(["track", "--detect_every=2", *arguments]) == code
    return Path(arguments[-1]).parent / "out"


def numbers(path):
    with np.load(path) as arrays:
        return dict(arrays)


# What is written.


def test_there_is_a_row_per_frame_and_face_and_one_for_a_frame_without(model, clip, capsys):
    out = track(model, "--json", clip)
    found = numbers(out / "clip.npz")
    faces = [-1, -1, 0, 0] + [0, 1] * 8
    assert found["face"].tolist() == faces
    assert found["frame"].tolist() == [0, 1, 2, 3] + [t for t in range(4, 12) for _ in "ab"]
    np.testing.assert_allclose(found["time"], found["frame"] / 12.5, atol=1e-3)
    assert (
        found["status"][:6].tolist() == ["none", "none", "detected", "tracked"] + ["detected"] * 2
    )
    there = found["face"] >= 0
    for name in ("landmarks", "spread", "box"):
        assert (np.isfinite(found[name]).reshape(20, -1).all(axis=1) == there).all()
    assert (np.isfinite(found["score"]) == (found["status"] == "detected")).all()
    for row, face in enumerate(faces):
        if face >= 0:
            corner = (ONE, OTHER)[face][found["frame"][row]]
            np.testing.assert_allclose(found["box"][row], square(*corner, SIDE), atol=0.6)
            np.testing.assert_allclose(found["landmarks"][row, 0], corner, atol=0.6)
    assert found["schema"] == "ibug_68" and found["complete"] and found["fps"] == 12.5
    assert found["size"].tolist() == [160, 120] and found["step"] == 3
    assert json.loads(str(found["settings"]))["limits"]["detect_every"] == 2
    assert set(found["written_files"]) == {path.name for path in out.iterdir()}
    told = capsys.readouterr().out
    assert "12 frames, 10 of them with a face; 2 face(s): face 0 in 10, face 1 in 8" in told
    assert "no sound" in told


def test_all_tables_say_the_same(model, clip):
    out = track(model, "--json", clip)
    found = numbers(out / "clip.npz")
    with (out / "clip.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["frame"])
    lines = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12)) and lines[0]["faces"] == []
    records = [face for line in lines for face in line["faces"] or [None]]
    for t, (row, record) in enumerate(zip(rows, records, strict=True)):
        assert int(row["frame"]) == found["frame"][t] and row["status"] == found["status"][t]
        assert float(row["time"]) == pytest.approx(found["time"][t], abs=1e-6)
        if record is None:
            assert row["face"] == row["x0"] == row["left"] == row["score"] == ""
            continue
        points = [[float(row[f"x{k}"]), float(row[f"y{k}"])] for k in range(68)]
        np.testing.assert_allclose(points, found["landmarks"][t], atol=1e-3)
        np.testing.assert_allclose(record["landmarks"], found["landmarks"][t], atol=1e-3)
        box = [float(row[side]) for side in ("left", "top", "right", "bottom")]
        np.testing.assert_allclose(box, found["box"][t], atol=1e-3)
        assert int(row["face"]) == record["face"] == found["face"][t]
        assert float(row["spread67"]) == record["spread"][67] == 1.0
        scores = float(row["score"] or "nan"), found["score"][t], record["score"]
        assert record["score"] is None if np.isnan(scores[1]) else scores[2] == pytest.approx(0.9)


def test_the_film_is_drawn_frame_by_frame_with_each_face_in_its_colour(model, clip):
    out = track(model, clip)
    drawn = [image for image, _ in VideoReader(out / "clip.mp4").frames()]
    plain = [image for image, _ in VideoReader(clip).frames()]
    assert len(drawn) == 12 and drawn[0].shape == plain[0].shape
    away = [np.abs(a.astype(int) - b).mean() for a, b in zip(drawn, plain, strict=True)]
    assert max(away[:2]) < 2 < min(away[2:])
    assert not (track(model, "--no_overlay", "--overwrite", clip) / "other.mp4").exists()


def test_ids_have_colours_and_are_written_above_their_faces():
    image = np.zeros((121, 161, 3), np.uint8)
    points = np.stack([20 + 40 * np.linspace(0, 1, 68), 40 + 40 * np.linspace(0, 1, 68)], axis=1)
    drawn = draw_tracks(image, {0: points, 1: points + [60, 0]}, IBUG_68)
    assert drawn.shape == (122, 162, 3)
    left, right = (
        drawn[:, :70].reshape(-1, 3).astype(int),
        drawn[:, 80:160].reshape(-1, 3).astype(int),
    )
    assert (left[:, 2] > left[:, 0] + 50).any() and not (left[:, 0] > left[:, 2] + 50).any()
    assert (right[:, 0] > right[:, 2] + 50).any()
    assert drawn[28:39, 15:35].any() and not drawn[:20, :161].any()
    np.testing.assert_array_equal(draw_tracks(image[:120, :160], {}, IBUG_68), image[:120, :160])
    assert not draw_tracks(image, {3: points * np.nan}, IBUG_68)[:121, :161].any()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--start=0.4"], range(5, 12)),
        (["--end=0.32"], range(4)),
        (["--start=0.16", "--end=0.5", "--stride=2"], [2, 4, 6]),
        (["--max_frames=3", "--stride=4"], [0, 4, 8]),
        (["--stride=3"], [0, 3, 6, 9]),
        (["--start=0.08", "--stride=3"], [1, 4, 7, 10]),
    ],
)
def test_parts_of_a_film_keep_the_numbers_and_times_of_its_frames(model, clip, options, kept):
    out = track(model, *options, clip)
    found = numbers(out / "clip.npz")
    assert sorted(set(found["frame"].tolist())) == list(kept)
    np.testing.assert_allclose(found["time"], found["frame"] / 12.5, atol=1e-3)
    reader = VideoReader(out / "clip.mp4")
    stride = int(dict(option.split("=") for option in options).get("--stride", 1))
    assert len(list(reader.frames())) == len(kept) and reader.fps == pytest.approx(
        12.5 / stride, 1e-3
    )


def test_strengths_scale_the_time_constants_and_none_is_alone():
    config = RwRConfig(budget=1, hold_seconds=(0.1, 0.2), follow_seconds=0.01)
    assert recurrence_of(config, Options()) == config
    strong = recurrence_of(config, Options(strength="strong"))
    assert strong == RwRConfig(budget=1, hold_seconds=(0.2, 0.4), follow_seconds=0.02)
    light = recurrence_of(RwRConfig(penalty=3.0), Options(strength="light"))
    assert light == RwRConfig(penalty=1.5, hold_seconds=0.02, follow_seconds=0.005)
    assert recurrence_of(config, Options(smooth="none")) is None


def test_filters_smooth_frames_alone_and_keep_the_rest(model, clip):
    out = {}
    for smooth in ("none", "moving_average"):
        place = clip.parent / smooth
        arguments = ["--detect_every=2", "--no_cuts", "--no_overlay", f"--smooth={smooth}"]
        ldeq("track", f"--output={place}", f"--checkpoint={model}", *arguments, clip)
        out[smooth] = numbers(place / "clip.npz")
    alone, smoothed = out.values()
    for name in ("frame", "face", "status", "score", "spread"):
        np.testing.assert_array_equal(alone[name], smoothed[name])
    for number in (0, 1):
        tracks = [found["landmarks"][found["face"] == number] for found in out.values()]
        np.testing.assert_allclose(
            tracks[1][2:],
            (tracks[0] + sum(np.roll(tracks[0], shift, axis=0) for shift in (1, 2)))[2:] / 3,
            atol=1e-3,
        )


@pytest.mark.parametrize("smooth", ["rwr", "one_euro"])
def test_side_by_side_shows_the_film_twice(model, clip, smooth):
    alone = track(model, "--overwrite", clip) / "clip.mp4"
    once = [image for image, _ in VideoReader(alone).frames()]
    out = track(model, "--side_by_side", f"--smooth={smooth}", "--detect_every=1", clip)
    twice = [image for image, _ in VideoReader(out / "clip.mp4").frames()]
    assert len(once) == len(twice) == 12
    height, width = once[0].shape[:2]
    assert twice[0].shape[1] >= 2 * width and twice[0].shape[0] > height
    for image in (twice[1], twice[10]):
        left, right = image[-height:, :width].astype(int), image[-height:, -width:].astype(int)
        assert np.abs(left - right).mean() < 6
    blue = [image[-height:, :width, 2].astype(int) - image[-height:, :width, 0] for image in twice]
    assert (blue[1] > 80).sum() == 0 < (blue[10] > 80).sum(), "the left has its landmarks too"


# Many films, and films that fail.


def test_a_broken_film_is_reported_at_the_end_and_the_others_are_done(model, tmp_path, capsys):
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    film(folder / "a.avi", frames())
    film(folder / "more" / "z.avi", frames())
    (folder / "b.mp4").write_bytes((VIDEOS / "reordered.mp4").read_bytes()[:300])
    (folder / "empty.mov").touch()
    (folder / "notes.txt").write_text("no film")
    (folder / "sound.mp4").write_bytes((VIDEOS / "sound.m4a").read_bytes())
    Image.fromarray(scene((10, 10))).save(folder / "picture.mp4", "PNG")
    out = track(model, "--no_overlay", folder, code=3)
    assert numbers(out / "a.npz")["complete"] and numbers(out / "more" / "z.npz")["complete"]
    assert sorted(path.name for path in out.iterdir()) == ["a.csv", "a.npz", "more"]
    told = capsys.readouterr().err
    assert "ldeq track: 4 of 6 film(s) failed:" in told
    assert re.search(r"b.mp4 is .*(damaged|not finished)", told) and "empty.mov is empty" in told
    assert re.search(r"sound.mp4 is sound without a video.*: get it again", told)
    assert "picture.mp4 is a picture with the ending of a film: rename it" in told


def test_films_that_are_done_are_left_out(model, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in "ab":
        film(folder / f"{name}.avi", frames())
    out = track(model, "--no_overlay", "--resume", folder)
    first = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "b.csv").unlink()
    capsys.readouterr()
    track(model, "--no_overlay", "--resume", folder)
    told = capsys.readouterr().out
    assert "a.avi: done before" in told and "b.avi: 12 frames" in told
    assert all(
        (path.stat().st_mtime_ns == time) == (path.stem == "a") for path, time in first.items()
    )
    track(model, "--no_overlay", "--resume", "--stride=2", folder)
    assert "done before" not in capsys.readouterr().out, "other options, other numbers"


def test_a_film_that_was_replaced_is_not_left_out(model, tmp_path, capsys):
    shots, other = tmp_path / "films" / "shots", film(tmp_path / "other.avi", frames()[::-1])
    shots.mkdir(parents=True)
    for t, image in enumerate(frames()):
        Image.fromarray(image).save(shots / f"{t}.png")
    clip = film(tmp_path / "films" / "clip.avi", frames())
    out = track(model, "--no_overlay", clip.parent)
    whole = numbers(out / "clip.npz")
    copied = clip.read_bytes()
    clip.unlink()
    clip.write_bytes(copied)
    capsys.readouterr()
    track(model, "--no_overlay", "--resume", clip.parent)
    assert capsys.readouterr().out.count("done before") == 2, "a copy is the same film"

    clip.write_bytes(other.read_bytes())
    (shots / "11.png").unlink()
    track(model, "--no_overlay", "--resume", clip.parent)
    told = capsys.readouterr().out
    assert told.count("not the film that was tracked before") == 2 and "done before" not in told
    assert not np.array_equal(numbers(out / "clip.npz")["face"], whole["face"])
    assert numbers(out / "shots.npz")["frame"].max() == 10

    old = {name: value for name, value in whole.items() if name != "fingerprint"}
    np.savez(out / "clip.npz", **old)
    track(model, "--no_overlay", "--resume", clip.parent)
    assert capsys.readouterr().out.count("done before") == 2, "not known what it is of"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_found_until_an_interrupt_is_kept_and_starts_over(
    model, clip, monkeypatch, capsys, error
):
    step = tracker.FaceTracker.step

    def broken_off(self, image, time, state=None, seen=None):
        if state is not None and state.index == 7:
            raise error(143)
        return step(self, image, time, state, seen)

    out = clip.parent / "out"
    with monkeypatch.context() as patched:
        patched.setattr(tracker.FaceTracker, "step", broken_off)
        arguments = ["track", f"--output={out}", f"--checkpoint={model}", "--codec=mp4v", str(clip)]
        if error is KeyboardInterrupt:
            assert main(arguments) == 130
        else:
            with pytest.raises(SystemExit):
                main(arguments)
    found = numbers(out / "clip.npz")
    assert not found["complete"] and found["frame"].max() == 6
    assert len((out / "clip.csv").read_text().splitlines()) == 1 + len(found["frame"])
    assert len(list(VideoReader(out / "clip.mp4").frames())) == 7
    assert "broken off; what was found in 7 frames is kept" in capsys.readouterr().out
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", ".mp4", ".npz"]
    assert main([*arguments, "--resume"]) == 0
    assert numbers(out / "clip.npz")["complete"]


def test_the_tables_are_there_where_the_drawing_fails(model, clip, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError("no codec")

    monkeypatch.setattr(drawing, "open_writer", refuse)
    out = track(model, clip, code=3)
    assert numbers(out / "clip.npz")["complete"] and not (out / "clip.mp4").exists()
    assert "clip.mp4 is not written: no codec; the tables are there" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback_and_leaves_no_file(model, clip, monkeypatch):
    monkeypatch.setattr(tracker.FaceTracker, "step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        track(model, clip)
    assert not list((clip.parent / "out").iterdir())


def test_files_of_others_are_not_replaced(model, clip):
    out = clip.parent / "out"
    out.mkdir()
    (out / "clip.csv").write_text("mine")
    arguments = [f"--output={out}", f"--checkpoint={model}", str(clip)]
    assert re.search("clip.csv exists and was not written", complaint("track", *arguments))
    assert (out / "clip.csv").read_text() == "mine"
    track(model, "--overwrite", clip)
    track(model, clip)
    own = clip.with_suffix(".mp4")
    clip.rename(own)
    arguments = [f"--output={clip.parent}", f"--checkpoint={model}", "--overwrite", str(own)]
    assert re.search("clip.mp4 would be replaced", complaint("track", *arguments))


@pytest.mark.parametrize("name", ["variable_rate.mp4", "wide_pixels.mp4", "wide_pixels_turned.mp4"])
def test_films_of_any_rate_shape_and_rotation_are_tracked(model, tmp_path, name):
    copy = tmp_path / name
    copy.write_bytes((VIDEOS / name).read_bytes())
    out = track(model, copy)
    found, reader = numbers(out / (copy.stem + ".npz")), VideoReader(copy)
    times, _ = reader.times()
    np.testing.assert_allclose(np.unique(found["time"]), times)
    drawn = VideoReader(out / (copy.stem + ".mp4"))
    assert (drawn.width, drawn.height) == (reader.width, reader.height)
    assert drawn.fps == pytest.approx(reader.fps, 0.01)


def test_a_drawing_leaves_out_the_frames_for_which_its_rate_has_no_room(
    model, tmp_path, monkeypatch, capsys
):
    times = [0.0, 0.1, 0.11, 0.12, 0.2, 0.3, 0.6]
    decode = functools.partial(zip, frames()[:7], times, strict=True)

    def opened(_):
        reader = VideoReader(decode, name="uneven")
        reader.header_fps = 10.0
        return reader

    monkeypatch.setattr(track_films.Film, "open", opened)
    out = track(model, film(tmp_path / "clip.avi", frames()))
    drawn = VideoReader(out / "clip.mp4")
    # Those of .1 and .11 are not shown, that of .3 three times.
    assert drawn.fps == 10 and len(list(drawn.frames())) == 7
    assert np.unique(numbers(out / "clip.npz")["time"]).tolist() == times
    assert "2 frames are left out of the drawing" in capsys.readouterr().out


def test_a_damaged_frame_has_a_row_and_is_no_end(model, clip, monkeypatch):
    whole = VideoReader.frames

    def with_a_hole(self):
        for t, frame in enumerate(whole(self)):
            yield frame._replace(image=None) if t == 6 else frame

    monkeypatch.setattr(VideoReader, "frames", with_a_hole)
    found = numbers(track(model, "--no_overlay", clip) / "clip.npz")
    assert found["status"][found["frame"] == 6].tolist() == ["lost", "lost"]
    assert set(found["face"][found["frame"] > 6]) == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4"], "there is no file or folder .*nowhere.mp4"),
        (["{picture}"], "picture.png is a picture: use ldeq predict"),
        (["{empty}"], "empty holds no video and no pictures in a row"),
        (["{folder}/frame_%03d.png"], "there are no pictures .*frame_%03d.png"),
        (["{clip}", "--start=2", "--end=1"], "--end=1 must be later than --start=2"),
        (["{clip}", "--side_by_side", "--smooth=none"], "--side_by_side and --smooth=none excl"),
        (["{clip}", "--side_by_side", "--no_overlay"], "--side_by_side and --no_overlay excl"),
        (["{clip}", "--min_score=2"], "min_score must be at most 1"),
        (["{clip}", "--checkpoint=nothing"], "no folder nothing"),
        (["{clip}", "--output={picture}/out"], "picture.png is a file"),
    ],
)
def test_mistakes_are_reported_in_one_line(model, clip, tmp_path, arguments, message):
    Image.fromarray(scene((10, 10))).save(tmp_path / "picture.png")
    (tmp_path / "empty").mkdir()
    names = {"clip": clip, "picture": tmp_path / "picture.png", "empty": tmp_path / "empty"}
    names["folder"] = tmp_path
    given = [argument.format(**names) for argument in arguments]
    told = complaint("track", f"--output={tmp_path / 'out'}", f"--checkpoint={model}", *given)
    assert re.search(message, told), told


@pytest.mark.parametrize("command", ["track", "label", "live"])
def test_the_device_is_that_of_the_option(command, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # what JAX reads when it is loaded
    given = ["--output=out"] * (command != "live") + [tmp_path / "nothing.mp4"]
    assert "there is no file" in complaint(command, "--device=tpu", *given)
    assert os.environ["JAX_PLATFORMS"] == "tpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start=9"], "has no frame from --start on"),
        (["{sound}"], "sound"),
        (["camera:77"], "camera:77 cannot be opened"),
    ],
)
def test_films_of_no_use_fail_by_themselves(model, clip, capsys, arguments, message):
    given = [argument.format(sound=VIDEOS / "sound.m4a") for argument in arguments]
    given += [] if len(given) and not given[0].startswith("--") else [str(clip)]
    output = f"--output={clip.parent / 'out'}"
    assert main(["track", output, f"--checkpoint={model}", *given]) == 3
    told = capsys.readouterr().err
    assert "1 of 1 film(s) failed" in told and re.search(message, told), told
    assert not list((clip.parent / "out").iterdir())


# Which films.


def test_pictures_in_a_row_are_a_film(model, tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    for t, image in enumerate(frames()):
        Image.fromarray(image if t % 2 else image[..., 0]).save(
            folder / f"f{t}.png"
        )  # some are grey
    (folder / "f5.png").write_bytes(b"\x89PNG is damaged")
    for given in (folder, folder / "f%d.png"):
        out = track(model, "--fps=10", "--no_overlay", given)
    for name, place in (("shots", tmp_path / "out"), ("f", folder / "out")):
        found = numbers(place / f"{name}.npz")
        assert sorted(set(found["frame"].tolist())) == list(range(12))
        np.testing.assert_allclose(found["time"], found["frame"] / 10)
        assert found["status"][found["frame"] == 5].tolist() == ["lost", "lost"]
        np.testing.assert_allclose(found["box"][-2], square(*ONE[11], SIDE), atol=0.6)
    assert out.exists()


def test_motion_jpeg_begins_like_a_picture_and_is_a_film(tmp_path):
    path = tmp_path / "films" / "clip.mjpeg"
    path.parent.mkdir()
    Image.fromarray(frames()[3]).save(tmp_path / "frame.jpg")
    path.write_bytes((tmp_path / "frame.jpg").read_bytes() * 3)
    for given in (path, path.parent):
        [found] = find_films([str(given)])
        assert len([*found.open().frames()]) == 3


def test_films_of_a_folder_are_those_below_it_too_with_names_of_their_own(tmp_path):
    for name in ("b.avi", "a10.avi", "a2.avi", "inside/b.avi", "inside/deep/c.avi", "out/x.avi"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        film(path, frames()[:2])
    film(tmp_path / "b.mkv", frames()[:2])
    (tmp_path / ".hidden").mkdir()
    film(tmp_path / ".hidden" / "h.avi", frames()[:2])
    Image.fromarray(frames()[3]).save(tmp_path / "inside" / "cover.png")
    found = find_films([str(tmp_path)], without=tmp_path / "out")
    names = [film.name.as_posix() for film in found]
    assert names == ["a2", "a10", "b.avi", "b.mkv", "inside/b", "inside/deep/c"]
    twice = find_films([str(tmp_path / "b.avi"), str(tmp_path / "inside" / "b.avi"), "camera:3"])
    assert [film.name.as_posix() for film in twice] == ["b.avi", "b_2", "camera_3"]
    assert find_films([str(tmp_path), str(found[0].source)], without=tmp_path / "out") == found
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no video"):
        find_films([str(tmp_path / "b.avi"), str(tmp_path / "empty")])


def test_a_film_that_is_cut_short_is_tracked_as_far_as_it_goes(model, tmp_path, capsys):
    whole = film(tmp_path / "whole.mp4", frames() * 5, codec="mp4v")
    data = whole.read_bytes()
    # The index lies at the end of this file, so the pictures are damaged instead.
    cut = bytearray(data)
    middle = data.index(b"mdat") + 4 + (data.index(b"moov") - data.index(b"mdat")) // 2
    cut[middle : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - middle)
    (tmp_path / "short.mp4").write_bytes(cut)
    out = track(model, "--no_overlay", tmp_path / "short.mp4")
    found = numbers(out / "short.npz")
    assert 5 < len(np.unique(found["frame"])) <= 60 and found["complete"]
    told = capsys.readouterr().out
    assert "it may be cut short" in told or "cannot be decoded" in told
    track(model, "--no_overlay", "--max_frames=3", tmp_path / "short.mp4")
    assert "cut short" not in capsys.readouterr().out


def test_frames_are_handed_on_one_by_one(model, tmp_path, monkeypatch):
    """Nothing of a film is held but its last frames: a long one needs no more memory."""
    images, given, most = frames(), [], 0

    def decode():
        nonlocal most
        for t in range(120):
            image = images[t % 12].copy()
            given.append(weakref.ref(image))
            most = max(most, sum(reference() is not None for reference in given))
            yield image, t / 25

    monkeypatch.setattr(track_films.Film, "open", lambda self: VideoReader(decode, name="long"))
    track(model, film(tmp_path / "clip.avi", images))
    assert len(given) > 120 and most <= 36, "the reader looks 32 frames ahead"


def test_the_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as ended:
        ldeq("track", "--help")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "frames/%04d.png" in told and "exit codes: 0 all films are done" in told
    with pytest.raises(SystemExit) as ended:
        main(["track", "--output=o", "--stride=0", "f.mp4"])
    assert ended.value.code == 2
