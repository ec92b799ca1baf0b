"""Predicting on many pictures: one table of all, drawings, and what is broken stops nothing."""

# ruff: noqa: F811 (the fixture of another file is an argument here)

import csv
import json
import re

import numpy as np
import pytest
from commands import complaint, ldeq
from PIL import Image
from test_predict_picture import BOXES, model, picture  # noqa: F401  (a fixture)

from ldeq_jax.cli.main import main
from ldeq_jax.errors import UserError
from ldeq_jax.inference import picture_files
from ldeq_jax.inference.detection import Detections, YuNet
from ldeq_jax.media import files
from ldeq_jax.media.albums import find_pictures


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """Sees a face in what is not grey."""

    def detect(self, image):
        count = 0 if (image[..., 0] == image[..., 2]).all() else len(BOXES)
        return Detections(np.array(BOXES)[:count], np.array([0.9, 0.85])[:count])

    monkeypatch.setattr(YuNet, "__call__", detect)


@pytest.fixture
def album(tmp_path):
    """Two pictures with faces, of one stem, and one without."""
    folder = tmp_path / "album"
    (folder / "inside").mkdir(parents=True)
    Image.fromarray(picture(9)).save(folder / "a.png")
    Image.fromarray(picture(8)).save(folder / "a.bmp")
    Image.fromarray(picture(7)[..., 0]).save(folder / "inside" / "grey.png")
    return folder


def predict(model, *arguments, code=0):
    output = arguments[-1].parent / "out"
    given = [f"--checkpoint={model}", f"--output={output}", *map(str, arguments)]
    assert main(["predict", *given]) == code
    return output


def test_there_is_a_row_per_face_and_one_for_a_picture_without(model, album, capsys):
    out = predict(model, "--json", album)
    with (out / "faces.csv").open() as file:
        rows = list(csv.DictReader(file))
    sources = [str(album / name) for name in ("a.bmp", "a.png", "inside/grey.png")]
    assert [row["picture"] for row in rows] == [*2 * sources[:1], *2 * sources[1:2], sources[2]]
    assert [row["face"] for row in rows] == ["0", "1", "0", "1", ""]
    assert set(list(rows[-1].values())[1:]) == {""}
    lines = [json.loads(line) for line in (out / "faces.jsonl").read_text().splitlines()]
    assert [line["picture"] for line in lines] == sources
    faces = [face for line in lines for face in line["faces"]]
    for row, face in zip(rows, faces, strict=False):
        points = [[float(row[f"x{k}"]), float(row[f"y{k}"])] for k in range(68)]
        assert points == face["landmarks"] and float(row["spread67"]) == face["spread"][67]
        box = [float(row[side]) for side in ("left", "top", "right", "bottom")]
        assert box == [*np.min(points, axis=0), *np.max(points, axis=0)]
        assert float(row["score"]) == face["detector_score"] and row["doubt"] == face["doubt"]
    assert "3 pictures, 4 faces; 1 pictures without a face" in capsys.readouterr().out


def test_the_faces_are_those_of_each_picture_alone(model, album):
    out = predict(model, "--json", "--no_overlay", album)
    alone = album / "alone.png"
    ldeq("predict", f"--checkpoint={model}", f"--output={alone}", album / "a.png")
    lines = [json.loads(line) for line in (out / "faces.jsonl").read_text().splitlines()]
    assert lines[1]["faces"] == json.loads(alone.with_suffix(".json").read_text())["faces"]
    assert sorted(path.name for path in out.iterdir()) == ["faces.csv", "faces.json", "faces.jsonl"]


def test_drawings_have_names_of_their_own_and_may_be_replaced_by_the_same_command(model, album):
    for _ in range(2):
        out = predict(model, album)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.jpg")}
    assert found == {"a.png.jpg", "a.bmp.jpg", "inside/grey.jpg"}
    record = json.loads((out / "faces.json").read_text())
    assert record["schema"] == "ibug_68" and record["step"] == 3
    assert set(record[files.RECORD]) == {path.name for path in out.rglob("*.*")}
    (out / "faces.json").unlink()
    told = complaint("predict", f"--checkpoint={model}", f"--output={out}", album)
    assert "faces.csv exists and was not written by an earlier call" in told


def test_boxes_beside_a_picture_are_taken(model, album):
    (album / "boxes.json").write_text(json.dumps({"a.png": BOXES[0]}))
    out = predict(model, "--no_overlay", album / "a.png", album / "a.bmp")
    assert out == album / "out"
    with (out / "faces.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["face"], row["score"]) for row in rows] == [("0", ""), ("0", "0.9"), ("1", "0.85")]


def test_a_broken_picture_is_reported_at_the_end_and_the_others_are_done(model, album, capsys):
    (album / "b.png").write_bytes((album / "a.png").read_bytes()[:200])
    (album / "empty.jpg").touch()
    Image.new("RGB", (1, 1)).save(album / "one.png")
    (album / "notes.txt").write_text("no picture")
    out = predict(model, "--no_overlay", album, code=3)
    told = capsys.readouterr().err
    assert "3 of 6 picture(s) failed:" in told and "one.png is 1 x 1 pixels: too small" in told
    assert re.search(r"b.png .*(damaged|cut short)", told) and "empty.jpg is empty" in told
    assert len((out / "faces.csv").read_text().splitlines()) == 1 + 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_found_until_an_interrupt_is_kept(model, album, monkeypatch, capsys, error):
    find, asked = picture_files.find_faces, []

    def broken_off(*arguments):
        asked.append(arguments)
        if len(asked) == 2:
            raise error(143)
        return find(*arguments)

    monkeypatch.setattr(picture_files, "find_faces", broken_off)
    if error is KeyboardInterrupt:
        out = predict(model, album, code=130)
    else:
        out = album.parent / "out"
        with pytest.raises(SystemExit):
            predict(model, album)
    assert "broken off; what was found is kept" in capsys.readouterr().out
    assert len((out / "faces.csv").read_text().splitlines()) == 1 + 2
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", ".jpg", ".json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{album}", "--box=1,2,30,40"], "--box is for one file"),
        (["{album}", "--compare"], "--compare is for one file"),
        (["{album}/a.png", "--json"], "--json is for several pictures or a folder"),
        (["{album}", "--output={album}/all.png"], "all.png must be a folder"),
        (["{album}/a.png", "{album}/none.png"], "no picture .*none.png"),
        (["{empty}"], "empty holds no picture"),
        (["{album}", "--output={album}/a.png/out"], "a.png is a file"),
    ],
)
def test_mistakes_are_reported_in_one_line(model, album, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    given = [argument.format(album=album, empty=tmp_path / "empty") for argument in arguments]
    told = complaint("predict", f"--output={tmp_path / 'out'}", f"--checkpoint={model}", *given)
    assert re.search(message, told), told


def test_a_folder_that_cannot_be_written_is_named(model, album, monkeypatch):
    monkeypatch.setattr(picture_files.os, "access", lambda *_: False)
    output = f"--output={album.parent / 'out'}"
    told = complaint("predict", output, f"--checkpoint={model}", album)
    assert told.startswith("cannot write to the folder")


def test_pictures_are_found_once_and_not_where_they_are_written(album, tmp_path):
    (album / ".hidden").mkdir()
    (album / "out").mkdir()
    for name in (".hidden/h.png", "out/o.png", ".x.png"):
        Image.fromarray(picture(3)).save(album / name)
    shots = find_pictures([album, album / "a.png"], without=album / "out")
    assert [shot.name.as_posix() for shot in shots] == ["a.bmp", "a.png", "inside/grey"]
    (tmp_path / "sound.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40))
    with pytest.raises(UserError, match="sound.wav is no picture but audio"):
        find_pictures([album, tmp_path / "sound.wav"])
