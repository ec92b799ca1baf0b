"""Detected faces: where they are, whatever the size of the picture; and what is made of them."""

import dataclasses
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_inference import CONFIG, MODEL, random_state

from ldeq_jax.errors import UserError
from ldeq_jax.face.boxes import check_boxes
from ldeq_jax.inference import detection, video_file
from ldeq_jax.inference.detection import Detections, YuNet, boxes_for, overlaps
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media.pictures import read_picture

EXAMPLES = Path(__file__).parents[1] / "examples"
BOXES = json.loads((EXAMPLES / "boxes.json").read_text())


@pytest.fixture(scope="module")
def detect():
    return YuNet()


def portrait(number=1):
    name = f"portrait_{number}.jpg"
    return read_picture(EXAMPLES / name), np.array(BOXES[name])


def test_the_weights_are_those_of_opencv_zoo_and_their_licence_is_beside_them():
    digest = hashlib.sha256(detection.FILE.read_bytes()).hexdigest()
    assert digest == "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
    assert "Permission is hereby granted" in (detection.FILE.parent / "LICENSE").read_text()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("zoom", [0.15, 0.5, 1, 3])
def test_the_box_is_the_extent_of_the_landmarks_in_pictures_of_any_size(detect, number, zoom):
    picture, box = portrait(number)
    picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    found = detect(picture)
    assert found.boxes.shape == (1, 4) and found.scores[0] > 0.8
    assert overlaps(found.boxes / zoom, box[None])[0, 0] > 0.65
    middles = [(corners[:2] + corners[2:]) / 2 for corners in (found.boxes[0] / zoom, box)]
    assert np.abs(middles[0] - middles[1]).max() < 0.06 * (box[2] - box[0])


def test_a_face_that_fills_a_large_picture_has_a_box_too(detect):
    picture, (x1, y1, x2, y2) = portrait()
    face = picture[int(y1) - 20 : int(y2) + 20, int(x1) - 10 : int(x2) + 10]
    large = cv2.resize(face, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    small, large = detect(face), detect(large)
    assert len(large.scores) == 1 and large.scores[0] > 0.9
    assert overlaps(large.boxes / 6, small.boxes)[0, 0] > 0.75


def test_faces_come_the_largest_first_and_move_with_the_picture(detect):
    one, other = portrait(1)[0], cv2.resize(portrait(2)[0], (256, 256))
    canvas = np.full((600, 900, 3), 128, np.uint8)
    canvas[300:556, 40:296], canvas[20:532, 380:892] = other, one
    found = detect(canvas)
    assert len(found.scores) == 2
    areas = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
    assert areas[0] > areas[1] and found.boxes[0, 0] > found.boxes[1, 0]
    alone = detect(np.pad(one, ((20, 68), (380, 8), (0, 0)), constant_values=128))
    np.testing.assert_allclose(alone.boxes[0], found.boxes[0], atol=4)
    assert len(found.above(2.0).scores) == 0 and len(found.above(0.8).boxes) == 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 600), (40, 40), (2000, 30)])
def test_nothing_is_found_in_nothing(detect, shape):
    found = detect(np.full((*shape, 3), 90, np.uint8))
    assert found.boxes.shape == (0, 4) and found.scores.shape == (0,)
    assert boxes_for(found, "box").shape == (0, 4)


def test_floating_pictures_are_the_same_and_what_is_no_picture_is_refused(detect):
    picture, _ = portrait()
    np.testing.assert_allclose(detect(picture / 255.0).boxes, detect(picture).boxes)
    for wrong in (picture[..., 0], picture.astype(np.float32), np.zeros((9, 9, 4), np.uint8)):
        with pytest.raises(ValueError, match="H, W, 3|0, 1"):
            detect(wrong)
    with pytest.raises(TypeError, match="int32"):
        detect(picture.astype(np.int32))


def test_all_that_is_detected_may_be_cropped(detect):
    picture, (x1, y1, x2, y2) = portrait()
    for cut in (picture[:, int(x1 + x2) // 2 :], picture[: int(y1 + y2) // 2 + 20]):
        check_boxes(detect(cut).boxes, cut.shape)


def test_overlaps_are_intersection_over_union():
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 40]])
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(overlaps(boxes, boxes), expected)
    assert overlaps(boxes[:0], boxes).shape == (0, 3)


def test_boxes_are_made_for_the_crop_rule_of_the_model():
    found = Detections(np.array([[10.0, 20, 50, 60]]), np.array([0.9]))
    np.testing.assert_allclose(boxes_for(found, "landmarks"), [[10, 20, 50, 60]])
    np.testing.assert_allclose(boxes_for(found, "box"), [[10, 8, 50, 60]])


# Of a predictor.


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load("faces-68")


@pytest.fixture(scope="module")
def untrained():
    """A small model that has learnt nothing, where it is not its landmarks that matter."""
    data = dataclasses.replace(CONFIG.data, crop="landmarks")
    return Predictor(dataclasses.replace(CONFIG, data=data), random_state(MODEL).variables())


def test_detected_faces_have_the_landmarks_of_boxes_that_are_known(predictor):
    for number in (1, 2):
        picture, box = portrait(number)
        known = predictor.faces(picture, [box])
        faces, scores = predictor.detect(picture)
        assert len(faces) == len(scores) == 1 and faces.ok.all() and scores[0] > 0.8
        away = np.linalg.norm(faces.points - known.points, axis=-1).mean()
        assert away < 0.015 * np.sqrt(np.prod(box[2:] - box[:2]))


def test_another_detector_can_be_handed_in(untrained):
    picture, box = portrait()
    calls = []

    def detector(given):
        calls.append(given.shape)
        return Detections(np.stack([box, box + [0, 3, 0, 3]]), np.array([0.1, 0.2]))

    faces, scores = untrained.detect(picture, detector)
    assert calls == [picture.shape] and scores.tolist() == [0.1, 0.2] and len(faces) == 2
    nothing, scores = untrained.detect(picture, lambda _: Detections(faces.box[:0], scores[:0]))
    assert len(nothing) == len(scores) == 0
    assert video_file.largest_face(detector, picture, "landmarks") is None  # not sure enough


def test_a_face_of_which_the_detector_is_less_sure_is_taken_where_there_is_no_other(
    untrained, monkeypatch
):
    picture, box = portrait()
    boxes = np.stack([box, box + 2])
    for scores, taken in (([0.7, 0.65], [0.7]), ([0.9, 0.7], [0.9]), ([0.6, 0.8], [0.8])):
        found = Detections(boxes, np.array(scores))
        monkeypatch.setattr(YuNet, "__call__", lambda *_, found=found: found)
        assert untrained.detect(picture)[1].tolist() == taken


def test_a_video_needs_a_box_for_a_model_of_whole_pictures(tmp_path):
    with pytest.raises(UserError, match="--crop_at_boxes needs --boxes"):
        video_file.read_boxes(None, None, None, crop_at_boxes=True)
    assert video_file.read_boxes(None, None, None, crop_at_boxes=False) is None
