"""Predicting on a picture file: what is written is what the model says, and nothing is lost."""

import dataclasses
import errno
import json
import os
import re
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import complaint, ldeq
from PIL import Image
from test_data import picture
from test_inference import CONFIG, MODEL, random_state

from ldeq_jax import weights
from ldeq_jax.cli import predict as predict_command
from ldeq_jax.data.config import DataConfig
from ldeq_jax.face import crops, geometry
from ldeq_jax.inference import picture_file
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media import pictures
from ldeq_jax.report import draw

ROOT = Path(__file__).parents[1]
BOXES = [[100.0, 40.0, 160.5, 99.0], [90.0, 60.0, 150.0, 120.0]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directory of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("model") / "released"
    faces = DataConfig(name="none", crop="landmarks", crop_scale=1.3, schema="ibug_68")
    config = dataclasses.replace(
        CONFIG, model=dataclasses.replace(MODEL, num_landmarks=68), data=faces
    )
    weights.export_model(folder, 3, random_state(config.model).variables(), config, {"nme": 1.0})
    return folder


@pytest.fixture
def photo(tmp_path):
    """A picture on disk."""
    Image.fromarray(picture(9)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def predict(model, photo, *options):
    """The JSON that a prediction writes."""
    output = photo.with_name("drawn.png")
    ldeq("predict", f"--checkpoint={model}", f"--output={output}", *options, photo)
    return json.loads(output.with_suffix(".json").read_text())


def test_predictions_are_the_models_in_picture_pixels(model, photo):
    record = predict(model, photo, *(f"--box={','.join(map(str, box))}" for box in BOXES))
    expected = Predictor.load(model).faces(picture(9), BOXES)
    assert [found["box"] for found in record["faces"]] == BOXES
    landmarks = [found["landmarks"] for found in record["faces"]]
    np.testing.assert_allclose(landmarks, expected.points, atol=1e-3)
    spread = [found["spread"] for found in record["faces"]]
    np.testing.assert_allclose(spread, expected.spread, atol=1e-3)
    assert (record["schema"], record["step"]) == ("ibug_68", 3)
    # Drawn five times as large, until the 240 pixels are 1000 or more.
    drawn = cv2.imread(str(photo.with_name("drawn.png")))[..., ::-1]
    assert drawn.shape == (5 * 220, 5 * 240, 3)
    for x, y in np.round((np.concatenate(expected.points) + 0.5) * 5 - 0.5).astype(int):
        np.testing.assert_allclose(drawn[y, x], draw.PREDICTED_RGB, atol=1)


def test_boxes_may_lie_beside_the_picture(model, photo):
    listing = photo.with_name("boxes.json")
    for boxes in (BOXES, BOXES[1]):
        listing.write_text(json.dumps({"photo.png": boxes, "other.png": "nonsense"}))
        found = [face["box"] for face in predict(model, photo)["faces"]]
        assert found == np.reshape(boxes, (-1, 4)).tolist()
    given = predict(model, photo, "--box=90,60,150,120")
    assert given["faces"][0]["box"] == BOXES[1]
    listing.write_text(json.dumps({"other.png": BOXES}))
    output = f"--output={photo.with_name('drawn.png')}"
    told = complaint("predict", f"--checkpoint={model}", output, photo)
    assert re.search("photo.png: no face is detected.*boxes.json: give .*--box=x1", told)


def test_without_boxes_all_faces_are_detected(tmp_path, capsys):
    shutil.copy(ROOT / "examples" / "portrait_1.jpg", tmp_path / "portrait.jpg")
    record = predict("faces-68", tmp_path / "portrait.jpg")
    (face,) = record["faces"]
    (known,) = predict("faces-68", tmp_path / "portrait.jpg", "--box=170,207.5,339.1,367.6")[
        "faces"
    ]
    np.testing.assert_allclose(face["landmarks"], known["landmarks"], atol=6)
    assert face["detector_score"] > 0.8 and not face["doubt"] and "detector_score" not in known
    assert "512 x 512 pixels, 1 face(s) detected, [[" in capsys.readouterr().out


def test_without_a_box_a_model_of_whole_pictures_sees_this_one_whole(photo, tmp_path):
    faces = DataConfig(name="none", crop="none", schema="ibug_68")
    model = dataclasses.replace(MODEL, num_landmarks=68)
    config = dataclasses.replace(CONFIG, model=model, data=faces)
    state = random_state(model)
    weights.export_model(tmp_path / "whole", 3, state.variables(), config, {"nme": 1.0})
    (found,) = predict(tmp_path / "whole", photo)["faces"]
    assert found["box"] == [0, 0, 239, 219]
    # 240 x 220 pixels on 32 x 32, with a bar above and below.
    crop = crops.crop_whole(240, 220, 32)
    image = geometry.warp(picture(9), crop, 32)[None]
    seen = np.asarray(Predictor(config, state.variables())(image).landmarks[0])
    expected = geometry.transform_points(geometry.inverse(crop), 32 * seen)
    np.testing.assert_allclose(found["landmarks"], expected, atol=2e-3)
    (boxed,) = predict(tmp_path / "whole", photo, "--box=0,0,239,219")["faces"]
    assert not np.allclose(boxed["landmarks"], expected, atol=0.5)


def test_a_picture_is_turned_as_its_tag_says(model, photo):
    upright = predict(model, photo, "--box=100,40,160,99")
    with Image.open(photo) as image:
        tag = image.getexif()
        tag[0x0112] = 6  # to be turned a quarter clockwise
        image.transpose(Image.Transpose.ROTATE_90).save(photo, exif=tag)
    turned = predict(model, photo, "--box=100,40,160,99")
    assert turned["faces"] == upright["faces"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box=1,2,3"], r"must be x1,y1,x2,y2, not '1,2,3'"),
        (["--box=1,2,3,a"], "must be x1,y1,x2,y2"),
        (["--box=9,2,3,4"], "must have x1 < x2"),
        (["--box=1,nan,3,4"], "must be finite"),
        (["--box=240,2,300,40"], "lie in the picture of 240 x 220"),
        (["--output=drawn.bmp"], r"must end in \.png or \.jpg"),
        (["--output={photo}"], "is the picture itself"),
    ],
)
def test_mistakes_are_reported_in_one_line(model, photo, options, message):
    before = photo.read_bytes()
    output = f"--output={photo.with_name('drawn.png')}"
    options = [option.format(photo=photo) for option in options]
    found = complaint("predict", f"--checkpoint={model}", output, *options, photo)
    assert re.match(rf"(?s:.*){message}", found), found
    assert photo.read_bytes() == before


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_picture_cut_short_is_named(model, photo, kind):
    path = photo.with_suffix(f".{kind}")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    found = complaint("predict", f"--checkpoint={model}", "--output=drawn.png", path)
    assert f"{path} is not a readable picture" in found
    path.unlink()
    found = complaint("predict", f"--checkpoint={model}", "--output=drawn.png", path)
    assert f"no picture {path}" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"photo.png": [1, 2,', "boxes.json must map file names to boxes"),
        ("[1, 2]", "boxes.json must map file names to boxes"),
        ('{"photo.png": [[1, 2, 30, 40], [1]]}', r"must be x1,y1,x2,y2, not \[1\] .*boxes.json"),
        ('{"photo.png": 7}', r"must be x1,y1,x2,y2, not 7 .*boxes.json"),
        ('{"photo.png": "1,2,30"}', r"must be x1,y1,x2,y2, not '1,2,30' .*boxes.json"),
        ('{"photo.png": []}', r"must be x1,y1,x2,y2, not \[\] .*boxes.json"),
    ],
)
def test_boxes_that_cannot_be_read_are_named(model, photo, text, message):
    photo.with_name("boxes.json").write_text(text)
    found = complaint("predict", f"--checkpoint={model}", "--output=drawn.png", photo)
    assert re.search(message, found), found


@pytest.mark.parametrize(
    "entry", ["[1, 2, 60, 61, 0.9, 5]", '"1,2,60,61"', "[[1, 2, 60, 61, 0.9]]"]
)
def test_boxes_may_be_those_of_a_detector_or_text(model, photo, capsys, entry):
    photo.with_name("boxes.json").write_text(f'{{"photo.png": {entry}}}')
    drawn = photo.with_name("drawn.png")
    ldeq("predict", f"--checkpoint={model}", f"--output={drawn}", photo)
    (face,) = json.loads(photo.with_name("drawn.json").read_text())["faces"]
    assert face["box"] == [1, 2, 60, 61]


def test_a_picture_too_small_for_a_face_is_refused(model, photo):
    Image.new("RGB", (5, 300)).save(photo)
    found = complaint("predict", f"--checkpoint={model}", "--output=drawn.png", photo)
    assert "is 5 x 300 pixels: too small" in found


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_boxes_beside_the_picture_may_be_written_by_any_editor(
    model, photo, capsys, form, encoding
):
    photo = photo.rename(photo.with_name(unicodedata.normalize(form, "Zo\u00eb.png")))
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    text = json.dumps({unicodedata.normalize(other, "Zo\u00eb.png"): BOXES[1]}, ensure_ascii=False)
    listing = photo.with_name("boxes.json")
    listing.write_bytes(text.encode(encoding))
    assert predict(model, photo)["faces"][0]["box"] == BOXES[1]
    assert f"{listing}, [[90.0, 60.0, 150.0, 120.0]]" in capsys.readouterr().out


def test_the_depth_of_a_picture_does_not_move_its_landmarks(model, photo):
    grey = picture(9)[..., 0]
    cv2.imwrite(str(photo), grey)
    faces = predict(model, photo, "--box=100,40,160,99")["faces"]
    cv2.imwrite(str(photo), grey.astype(np.uint16) * 257)
    assert predict(model, photo, "--box=100,40,160,99")["faces"] == faces


def test_pages_beyond_the_first_are_reported(model, photo, capsys):
    pages = [Image.fromarray(picture(seed)) for seed in (9, 8)]
    pages[0].save(photo, "TIFF", save_all=True, append_images=pages[1:])
    predict(model, photo, "--box=100,40,160,99")
    assert f"{photo}: the first of 2 pages is read" in capsys.readouterr().out


def test_files_of_others_are_not_replaced(model, photo):
    drawn, numbers = photo.with_name("drawn.png"), photo.with_name("drawn.json")
    arguments = f"--checkpoint={model}", f"--output={drawn}", "--box=100,40,160,99", photo
    for mine in (drawn, numbers):
        mine.write_text('{"mine": 1}')
        assert f"{mine} exists" in complaint("predict", *arguments)
        assert mine.read_text() == '{"mine": 1}'
        mine.unlink()
    numbers.write_text('{"mine": 1}')
    ldeq("predict", *arguments, "--overwrite")
    before = numbers.read_bytes()
    ldeq("predict", *arguments)  # a command given again
    assert numbers.read_bytes() == before
    assert sorted(os.listdir(photo.parent)) == ["drawn.json", "drawn.png", "photo.png"]


def test_boxes_are_never_replaced(model, photo):
    listing = photo.with_name("boxes.json")
    listing.write_text(json.dumps({"photo.png": BOXES}))
    before = listing.read_bytes()
    arguments = f"--checkpoint={model}", f"--output={photo.with_name('boxes.png')}", "--overwrite"
    assert "would write boxes.json" in complaint("predict", *arguments, photo)
    assert listing.read_bytes() == before
    assert sorted(os.listdir(photo.parent)) == ["boxes.json", "photo.png"]


def test_a_drawing_that_fails_leaves_the_numbers(model, photo, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(pictures, "write_picture", full)
    output = f"--output={photo.with_name('drawn.png')}"
    found = complaint("predict", f"--checkpoint={model}", output, "--box=100,40,160,99", photo)
    assert "no space left" in found
    assert sorted(os.listdir(photo.parent)) == ["drawn.json", "photo.png"]


@pytest.mark.parametrize("name", ["12:30:05.png", "%03d.png", os.fsdecode(b"\xff.png")])
def test_names_of_pictures_do_not_matter(model, photo, name):
    faces = predict(model, photo, "--box=100,40,160,99")["faces"]
    photo = photo.rename(photo.with_name(name))
    assert predict(model, photo, "--box=100,40,160,99")["faces"] == faces


def test_input_of_other_kinds_is_named(model, tmp_path):
    arguments = f"--checkpoint={model}", f"--output={tmp_path / 'drawn.png'}", tmp_path / "a.jpg"
    for content, reason in {
        b"": "is empty",
        b"<!DOCTYPE html>": "is an HTML page",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "is an HEIC picture",
        b"ID3\x04": "is sound without a video",
        b"\x1a\x45\xdf\xa3webm": r"must end in .mp4, as .*a\.jpg is a video",
    }.items():
        arguments[-1].write_bytes(content)
        assert re.match(rf".*{reason}", complaint("predict", *arguments))
    frames = [Image.fromarray(picture(seed)) for seed in (9, 8)]
    frames[0].save(arguments[-1], "GIF", save_all=True, append_images=frames[1:])
    found = complaint("predict", *arguments)
    assert f"must end in .mp4: {arguments[-1]} is an animation" in found


def test_a_damaged_model_is_named(model, photo, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "3" / "weights")
    output = f"--output={photo.with_name('drawn.png')}"
    found = complaint("predict", f"--checkpoint={tmp_path / 'model'}", output, photo)
    assert re.match(r".*model/3 cannot be read", found), found


def test_a_name_that_begins_with_a_dash_goes_after_two(model, photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    photo.rename("-photo.png")
    options = f"--checkpoint={model}", "--output=-drawn.png", "--box=100,40,160,99"
    ldeq("predict", *options, "--", "-photo.png")
    assert sorted(os.listdir()) == ["-drawn.json", "-drawn.png", "-photo.png"]


def test_the_home_directory_is_written_as_a_tilde(model, photo, monkeypatch):
    monkeypatch.setenv("HOME", str(photo.parent))
    ldeq(
        "predict", f"--checkpoint={model}", "--output=~/a.png", "--box=100,40,160,99", "~/photo.png"
    )
    assert sorted(os.listdir(photo.parent)) == ["a.json", "a.png", "photo.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("box", "doubtful"),
    [
        ("170,207.5,339.1,367.6", False),
        ("40,30,180,190", True),
        ("400,400,500,500", True),
        ("300,20,400,120", True),
        ("0,0,100,100", True),
    ],
)
def test_a_box_without_a_face_raises_doubt(box, doubtful, photo, capsys):
    shutil.copy(ROOT / "examples" / "portrait_1.jpg", photo)
    (face,) = predict("faces-68", photo, f"--box={box}")["faces"]
    assert bool(face["doubt"]) == doubtful
    assert ("there may be no face in this box" in capsys.readouterr().out) == doubtful


def test_without_a_checkpoint_the_pretrained_model_is_taken(photo, monkeypatch):
    taken = []
    monkeypatch.setattr(picture_file, "load_model", lambda name: taken.append(name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_command.main([f"--output={photo.with_name('a.png')}", str(photo)])
    assert taken == ["faces-68"]
