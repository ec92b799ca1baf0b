"""A face's landmarks depend on that face alone, and go where its pixels are."""

import dataclasses
import json
import os
import pathlib

import cv2
import jax
import numpy as np
import pytest

from ldeq_jax import checkpoints, geometry, inference
from ldeq_jax.config import Config
from ldeq_jax.data import DataConfig, LandmarkBatch
from ldeq_jax.inference import Predictor
from ldeq_jax.model import LDEQ, ModelConfig
from ldeq_jax.solver import SolverConfig
from ldeq_jax.training import TrainState

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


def test_padding_has_no_say_where_a_batch_stops_as_one(state):
    # Three faces and a padded row, a copy of the first: one for which the means differ.
    images, forward = noise(3, SIZE, SIZE, 3), dataclasses.replace(MODEL.forward, tol=0.0)
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


def test_a_predictor_made_anew_compiles_nothing(predictor, state):
    images = noise(2, SIZE, SIZE, 3)
    predictor(images)
    compiled = predictor._predict._cache_size()
    other = Predictor(CONFIG, random_state(MODEL).variables())
    other(images)
    assert other._predict._cache_size() == compiled


def test_bfloat16_moves_trained_landmarks_by_less_than_a_thousandth_of_the_eyes_distance():
    config, variables, _ = checkpoints.load_model(ROOT / "checkpoints" / "ibug_300w_video")
    half = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="bfloat16"))
    boxes = json.loads((ROOT / "examples" / "boxes.json").read_text())
    for file, box in boxes.items():
        picture = cv2.imread(str(ROOT / "examples" / file))[..., ::-1]
        full, low = (
            Predictor(c, variables).faces(picture, [box]).landmarks for c in (config, half)
        )
        moved = np.linalg.norm(low - full, axis=-1).mean()
        assert 0 < moved / np.linalg.norm(full[0, 36] - full[0, 45]) < 1e-3


@pytest.mark.parametrize("crop", ["landmarks", "box"])
def test_faces_are_found_in_picture_pixels(state, crop):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, crop=crop))
    predictor = Predictor(config, state.variables())
    picture, box = noise(90, 110, 3), np.array([31.4, 22.3, 71.9, 52.8])
    faces = predictor.faces(picture, [box])
    if crop == "box":
        crop_from_frame, side = geometry.crop_from_box(box, SIZE, 1.3), 41  # in whole pixels
    else:
        crop_from_frame, side = geometry.crop_from_landmarks(box.reshape(2, 2), SIZE, 1.3), 40.5
    seen = predictor(geometry.warp(picture, crop_from_frame, SIZE)[None])
    there = geometry.transform_points(crop_from_frame, faces.landmarks[0]) / SIZE
    np.testing.assert_allclose(there, seen.landmarks[0], atol=1e-6)
    # The crop shows 1.3 times the box on its whole width.
    np.testing.assert_allclose(faces.spread[0], 1.3 * side * np.array(seen.spread[0]), rtol=1e-5)
    assert faces.info.num_steps.shape == (1,)


def test_faces_move_with_their_pixels(predictor):
    picture, box = noise(60, 70, 3), np.array([20, 15, 50, 45])
    moved = np.zeros((100, 120, 3), np.uint8)
    moved[11:71, 30:100] = picture
    here, there = predictor.faces(picture, [box]), predictor.faces(moved, [box + [30, 11, 30, 11]])
    np.testing.assert_allclose(there.landmarks, here.landmarks + [30, 11], atol=1e-3)
    np.testing.assert_allclose(there.spread, here.spread, atol=1e-3)


def test_many_faces_are_each_found_as_if_alone(predictor):
    picture, rng = noise(90, 110, 3), np.random.default_rng(0)
    corner = rng.uniform(10, 40, (10, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(15, 40, (10, 2))], axis=1)
    together = predictor.faces(picture, boxes)
    for number, box in enumerate(boxes):
        alone = predictor.faces(picture, [box])
        np.testing.assert_allclose(together.landmarks[number], alone.landmarks[0], atol=1e-3)
        np.testing.assert_allclose(together.spread[number], alone.spread[0], atol=1e-3)
        assert together.info.num_steps[number] == alone.info.num_steps[0]


def test_no_faces_are_no_landmarks(predictor):
    faces = predictor.faces(noise(40, 40, 3), [])
    assert faces.landmarks.shape == (0, 5, 2) and faces.spread.shape == (0, 5)
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
    with pytest.raises((ValueError, TypeError), match="images must be"):
        predictor.faces(picture, [[1, 1, 20, 20]])


def test_a_box_without_area_is_refused(predictor):
    with pytest.raises(ValueError, match="nothing to crop"):
        predictor.faces(noise(40, 40, 3), [[5, 5, 5, 5]])


def test_an_exported_model_predicts_the_same(predictor, state, tmp_path):
    checkpoints.export_model(tmp_path / "model", state, CONFIG, {"nme": 1.0})
    read = Predictor.from_checkpoint(tmp_path / "model")
    assert read.config == CONFIG
    images = noise(2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(read(images).landmarks, predictor(images).landmarks)


@pytest.mark.parametrize(("batch_size", "devices"), [(0, 6), (32, 4), (5, 5), (7, 1), (12, 6)])
def test_as_many_devices_as_cores_that_divide_the_batch(monkeypatch, batch_size, devices):
    set_to = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(jax.config, "update", set_to.__setitem__)
    inference.use_all_cores(batch_size)
    assert set_to == {"jax_num_cpu_devices": devices}
