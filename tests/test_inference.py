"""A face's landmarks depend on that face alone, and go where its pixels are."""

import dataclasses
import json
import os
import pathlib

import cv2
import jax
import numpy as np
import pytest

from ldeq_jax import mesh, weights
from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import LandmarkBatch
from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.face import crops, geometry
from ldeq_jax.face.boxes import check_boxes
from ldeq_jax.inference import pictures
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.model.ldeq import LDEQ, ModelConfig
from ldeq_jax.training.state import TrainState

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 32
MODEL = ModelConfig(
    num_landmarks=5,
    image_size=SIZE,
    injection_width=8,
    base_width=8,
    width_increment=4,
    depth=1,
    residual_kernel=3,
    groups=4,
    stem_norm="group",
    forward=SolverConfig(method="picard", max_steps=4),
)
CONFIG = Config(model=MODEL, data=DataConfig(name="none", crop="landmarks", crop_scale=1.3))


def random_state(model):
    """Some weights, without compiling anything."""
    rng = np.random.default_rng(3)
    image = np.zeros((1, model.image_size, model.image_size, 3), np.float32)
    shapes = jax.eval_shape(LDEQ(model).init, jax.random.key(0), image)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype), shapes)
    return TrainState(step=np.int32(3), params=params, batch_stats={}, opt_state=(), ema={})


@pytest.fixture(scope="module")
def state():
    return random_state(MODEL)


@pytest.fixture(scope="module")
def predictor(state):
    return Predictor(CONFIG, state.variables())


def noise(*shape):
    """Pictures with something to see at every scale."""
    rng = np.random.default_rng(7)
    return np.clip(rng.normal(128, 60, shape).cumsum(axis=-2) % 256, 0, 255).astype(np.uint8)


def batches(images, batch_size):
    """The images as a split, its last batch filled up."""
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, start + batch_size)
        real = rows < len(images)
        yield LandmarkBatch(
            image=images[np.where(real, rows, 0)],
            landmarks=np.zeros((batch_size, 5, 2), np.float32),
            mask=real,
            frame_from_crop=np.tile(np.eye(3, dtype=np.float32), (batch_size, 1, 1)),
            index=np.where(real, rows, -1).astype(np.int32),
        )


def test_padding_is_excluded_from_the_mean_stopping_test(state):
    # Three faces and a padded row, a copy of the first: one for which the means differ.
    images = noise(3, SIZE, SIZE, 3)
    # Without the final evaluation, residuals are those that the stopping rule looks at.
    forward = dataclasses.replace(MODEL.forward, tol=0.0, final_evaluation=False)
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, forward=forward))
    after_two = np.asarray(Predictor(config, state.variables())(images, 2).info.residual)
    images = images[np.argsort(after_two)]
    with_padding = np.mean([*after_two, after_two.min()])
    tol = (with_padding + after_two.mean()) / 2
    forward = dataclasses.replace(forward, batch_mean_stop=True, tol=float(tol))
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, forward=forward))
    predictor = Predictor(config, state.variables())
    assert predictor(np.append(images, images[:1], axis=0)).info.num_steps.tolist() == [2] * 4
    steps = predictor(images).info.num_steps.tolist()
    assert steps[0] > 2 and steps == [steps[0]] * 3
    assert predictor.batches(batches(images, 4))["num_steps"].tolist() == steps
    assert predictor._predict_rows(images, MODEL.forward.max_steps)[2].num_steps.tolist() == steps


@pytest.mark.parametrize("batch_size", [1, 3])
def test_neither_batch_nor_padding_nor_devices_change_a_face(predictor, batch_size):
    images = noise(7, SIZE, SIZE, 3)
    result = predictor.batches(batches(images, batch_size))
    np.testing.assert_array_equal(result["index"], np.arange(7))
    for row, image in enumerate(images):
        alone = predictor(image[None])
        np.testing.assert_allclose(result["landmarks"][row], alone.landmarks[0], atol=1e-5)
        np.testing.assert_allclose(result["spread"][row], alone.spread[0], atol=1e-5)
        assert result["num_steps"][row] == alone.info.num_steps[0]
    assert not np.allclose(result["landmarks"][0], result["landmarks"][1], atol=1e-4)


def test_a_budget_is_a_shorter_solver_and_compiles_nothing(predictor, state):
    images = noise(2, SIZE, SIZE, 3)
    full = predictor(images)
    compiled = predictor._predict._cache_size()
    found = predictor(images, 2)
    assert (found.info.num_steps == 2).all() and (full.info.num_steps > 2).all()
    assert not np.allclose(full.landmarks, found.landmarks, atol=1e-4)
    assert predictor._predict._cache_size() == compiled
    expected = Predictor(CONFIG, state.variables(), max_steps=2)(images)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-6)


def test_weights_are_copied_to_the_devices_once(state, monkeypatch):
    predictor, images = Predictor(CONFIG, state.variables()), noise(2, SIZE, SIZE, 3)
    picture, box, used = noise(90, 110, 3), [31.4, 22.3, 71.9, 52.8], []
    predictor(images), predictor.faces(picture, [box])  # compiles
    with jax.transfer_guard_host_to_device("disallow"):  # of what is not moved explicitly
        predictor(images), predictor.faces(picture, [box])
    predict = predictor._predict
    monkeypatch.setattr(predictor, "_predict", lambda *a: used.append(a[0]) or predict(*a))
    for _ in range(2):
        predictor(images), predictor.batches(batches(images, 2))
    alone, everywhere, *again = [jax.tree.leaves(variables) for variables in used]
    for before, after in zip((alone, everywhere), again, strict=True):
        assert all(leaf is other for leaf, other in zip(before, after, strict=True))
    # Arrays that lie on several devices, a training's, stay where they are.
    stay = jax.tree.leaves(pictures.on_device(used[1]))
    assert all(leaf is other for leaf, other in zip(everywhere, stay, strict=True))
    # Each device holds one copy, though the first is used in both ways.
    for leaf, copied in zip(alone, everywhere, strict=True):
        assert len(copied.sharding.device_set) == jax.device_count() == 2
        copies = {part.data.unsafe_buffer_pointer() for part in copied.addressable_shards}
        assert len(copies) == 2 and leaf.unsafe_buffer_pointer() in copies


def test_a_second_predictor_compiles_nothing(predictor, state):
    images = noise(2, SIZE, SIZE, 3)
    predictor(images)
    compiled = predictor._predict._cache_size()
    other = Predictor(CONFIG, random_state(MODEL).variables())
    other(images)
    assert other._predict._cache_size() == compiled


def test_bfloat16_moves_trained_landmarks_by_less_than_a_thousandth_of_the_eyes_distance():
    config, variables, _ = weights.load_model("faces-68")
    half = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="bfloat16"))
    boxes = json.loads((ROOT / "examples" / "boxes.json").read_text())
    for file, box in boxes.items():
        picture = cv2.imread(str(ROOT / "examples" / file))[..., ::-1]
        full, low = (Predictor(c, variables).faces(picture, [box]).points for c in (config, half))
        moved = np.linalg.norm(low - full, axis=-1).mean()
        assert 0 < moved / np.linalg.norm(full[0, 36] - full[0, 45]) < 1e-3


@pytest.mark.parametrize("crop", ["landmarks", "box"])
def test_faces_are_found_in_picture_pixels(state, crop):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, crop=crop))
    predictor = Predictor(config, state.variables())
    picture, box = noise(90, 110, 3), np.array([31.4, 22.3, 71.9, 52.8])
    faces = predictor.faces(picture, [box])
    if crop == "box":
        crop_from_frame, side = crops.crop_from_box(box, SIZE, 1.3), 41  # in whole pixels
    else:
        crop_from_frame, side = crops.crop_from_landmarks(box.reshape(2, 2), SIZE, 1.3), 40.5
    seen = predictor(geometry.warp(picture, crop_from_frame, SIZE)[None])
    there = geometry.transform_points(crop_from_frame, faces.points[0]) / SIZE
    np.testing.assert_allclose(there, seen.landmarks[0], atol=1e-6)
    # The crop shows 1.3 times the box on its whole width.
    np.testing.assert_allclose(faces.spread[0], 1.3 * side * np.array(seen.spread[0]), rtol=1e-5)
    assert faces.info.num_steps.shape == (1,) and faces.ok.tolist() == [True]
    np.testing.assert_array_equal(faces.box, [box])


def test_faces_move_with_their_pixels(predictor):
    picture, box = noise(60, 70, 3), np.array([20, 15, 50, 45])
    moved = np.zeros((100, 120, 3), np.uint8)
    moved[11:71, 30:100] = picture
    here, there = predictor.faces(picture, [box]), predictor.faces(moved, [box + [30, 11, 30, 11]])
    np.testing.assert_allclose(there.points, here.points + [30, 11], atol=1e-3)
    np.testing.assert_allclose(there.spread, here.spread, atol=1e-3)


def test_many_faces_are_each_found_as_if_alone(predictor):
    picture, rng = noise(90, 110, 3), np.random.default_rng(0)
    corner = rng.uniform(10, 40, (10, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(15, 40, (10, 2))], axis=1)
    together = predictor.faces(picture, boxes)
    for number, box in enumerate(boxes):
        alone = predictor.faces(picture, [box])
        np.testing.assert_allclose(together.points[number], alone.points[0], atol=1e-3)
        np.testing.assert_allclose(together.spread[number], alone.spread[0], atol=1e-3)
        assert together.info.num_steps[number] == alone.info.num_steps[0]
    programs = predictor._predict._cache_size()
    predictor.faces(picture, boxes[:4])
    assert predictor._predict._cache_size() <= programs + 1
    programs = predictor._predict._cache_size()
    for count in (3, 5, 6, 7, 9):
        some = predictor.faces(picture, boxes[:count])
        assert len(some.points) == len(some.spread) == len(some.info.residual) == count
        np.testing.assert_allclose(some.points, together.points[:count], atol=1e-3)
        np.testing.assert_allclose(some.spread, together.spread[:count], atol=1e-3)
    assert predictor._predict._cache_size() == programs, "1, 2, 4 and 8 rows serve any number"


@pytest.mark.parametrize("columns", [5, 15])
@pytest.mark.parametrize("count", [1, 4])
def test_rows_of_a_detector_are_boxes_with_something_behind(predictor, columns, count):
    picture, boxes = noise(90, 110, 3), np.tile([31.4, 22.3, 71.9, 52.8], (count, 1))
    boxes[:, :2] -= np.arange(count)[:, None]
    rows = np.concatenate([boxes, np.full((count, columns - 4), 0.9)], axis=1)
    found, expected = predictor.faces(picture, rows), predictor.faces(picture, boxes)
    np.testing.assert_array_equal(found.points, expected.points)


def test_a_model_of_whole_pictures_sees_them_as_in_training(predictor, state):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, crop="none"))
    whole, picture = Predictor(config, state.variables()), noise(SIZE, SIZE, 3)
    faces, seen = whole.faces(picture, None), predictor(picture[None])
    np.testing.assert_array_equal(faces.points, SIZE * np.float64(seen.landmarks))
    picture = noise(60, 90, 3)
    crop = crops.labelled_crop("none", 1.3, SIZE, shape=picture.shape, box=None, landmarks=None)
    seen = predictor(geometry.warp(picture, crop, SIZE)[None])
    found = geometry.transform_points(crop, whole.faces(picture, None).points[0])
    np.testing.assert_allclose(found, SIZE * seen.landmarks[0], atol=1e-4)
    with pytest.raises(ValueError, match="trained on crops around faces .landmarks.: give the box"):
        predictor.faces(picture, None)


def test_no_faces_are_no_landmarks(predictor):
    faces = predictor.faces(noise(40, 40, 3), [])
    assert faces.points.shape == (0, 5, 2) and faces.spread.shape == (0, 5)
    assert faces.info.num_steps.shape == faces.info.converged.shape == (0,)


def test_floating_images_are_uint8_ones_over_255(predictor):
    images = noise(2, SIZE, SIZE, 3)
    np.testing.assert_allclose(
        predictor(images / np.float32(255)).landmarks, predictor(images).landmarks, atol=1e-5
    )


GOOD = np.zeros((1, SIZE, SIZE, 3), np.float32)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (GOOD.astype(np.int32), TypeError, "not int32"),
        (GOOD > 0, TypeError, "not bool"),
        (GOOD + 255, ValueError, "pass uint8"),
        (GOOD - 0.5, ValueError, r"\[0, 1\]"),
        (GOOD + np.nan, ValueError, "nan"),
        (GOOD[0], ValueError, r"not \(32, 32, 3\)"),
        (GOOD[..., :1], ValueError, r"not \(1, 32, 32, 1\)"),
        (GOOD[:, :, :-1], ValueError, r"must be \(B, 32, 32, 3\)"),
    ],
)
def test_what_is_no_image_is_refused(predictor, images, error, message):
    with pytest.raises(error, match=message):
        predictor(images)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((40, 40)), np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3), np.int32)],
)
def test_what_is_no_picture_is_refused(predictor, picture):
    with pytest.raises((ValueError, TypeError), match="(images|picture) must be"):
        predictor.faces(picture, [[1, 1, 20, 20]])


WRONG_BOXES = [
    ([5, 5, 5, 5], "two corners"),
    ([5, 5, 5, 20], "two corners"),
    ([30, 20, 15, 25], "two corners, not a corner and a size"),
    ([0.33, 0.40, 0.66, 0.72], "fractions of the picture of 60 x 40 pixels: multiply x by its wid"),
    ([-0.1, 0.0, 1.2, 1.0], "fractions"),
    ([0.4, 0.4, 0.2, 0.2], "fractions"),
    ([20, 20, 23, 40], "3 x 20 pixels: too small"),
    ([20, 20, 40, 23], "20 x 3 pixels: too small"),
    ([60, 5, 80, 30], "must lie in the picture of 60 x 40 pixels"),
    ([-30, 5, 0, 30], "must lie in the picture"),
    ([5, 40, 30, 70], "must lie in the picture"),
    ([5, -30, 30, 0], "must lie in the picture"),
    ([0, 0, 1e9, 1e9], "more than 3 times as large as the picture of 60 x 40"),
    ([0, -100, 30, 81], "more than 3 times as large"),
    ([5, np.nan, 30, 30], "finite"),
    ([5, 5, np.inf, 30], "finite"),
]


@pytest.mark.parametrize(("box", "message"), WRONG_BOXES)
def test_what_is_no_box_of_a_face_is_refused(predictor, box, message):
    picture = noise(40, 60, 3)
    with pytest.raises(ValueError, match=rf"the box [^ ]+ .*{message}"):
        predictor.faces(picture, [[10, 10, 30, 30], box])
    with pytest.raises(ValueError, match=message):
        crops.crop_around("landmarks", 1.3, SIZE, shape=picture.shape, box=np.array(box))


@pytest.mark.parametrize("picture", [None, "photo.jpg", [[1]]])
def test_what_is_no_array_is_no_picture(predictor, picture):
    with pytest.raises(TypeError, match=f"must be an array .* not {type(picture).__name__}"):
        predictor.faces(picture, [[10, 10, 30, 30]])


def test_a_grey_picture_is_named_by_its_own_shape(predictor):
    with pytest.raises(ValueError, match=r"not \(40, 60\)"):
        predictor.faces(np.zeros((40, 60), np.uint8), [[10, 10, 30, 30]])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([5, 5, 30, 30], r"\(N, 4\) or wider, .* not \(4,\); a single box goes in a list"),
        ([[5, 5, 30]], r"not \(1, 3\)"),
        ([[5, 5, 30, 30], [5]], "must be numbers"),
        ([["5", "5", "30", "a"]], "must be numbers"),
    ],
)
def test_what_are_no_boxes_is_refused(boxes, message):
    with pytest.raises(ValueError, match=message):
        check_boxes(boxes, (40, 60))


def test_boxes_that_show_a_face_are_kept():
    boxes = [[20, 20, 24, 24], [59, 39, 70, 50], [-10, -10, 0.5, 0.5], [-60, -70, 120, 110]]
    np.testing.assert_array_equal(check_boxes(boxes, (40, 60)), boxes)
    assert check_boxes([], (40, 60)).shape == (0, 4)


def test_an_exported_model_predicts_the_same(predictor, state, tmp_path):
    weights.export_model(tmp_path / "model", 3, state.variables(), CONFIG, {"nme": 1.0})
    read = Predictor.load(tmp_path / "model")
    assert read.config == CONFIG
    images = noise(2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(read(images).landmarks, predictor(images).landmarks)


@pytest.mark.parametrize(("batch_size", "devices"), [(0, 6), (32, 4), (5, 5), (7, 1), (12, 6)])
def test_as_many_devices_as_cores_that_divide_the_batch(monkeypatch, batch_size, devices):
    set_to = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(jax.config, "update", set_to.__setitem__)
    mesh.use_all_cores(batch_size)
    assert set_to == {"jax_num_cpu_devices": devices}
