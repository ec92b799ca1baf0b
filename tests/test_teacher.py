"""Distillation: what a teacher adds to the loss, and which teachers are refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_clip_training import CLIPS, loss_of, make_clips
from test_clip_training import MODEL as CLIP_MODEL
from test_training import (
    MODEL,
    OPTIMIZER,
    QUICKLY,
    TRAIN,
    final_state,
    finish,
    make_batch,
    place,
    read_config,
    start,
)

from ldeq_jax.config import Config
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import IBUG_68, WFLW_98
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.mesh import make_mesh, to_devices
from ldeq_jax.model.ldeq import LDEQ
from ldeq_jax.training.state import create_state
from ldeq_jax.training.step import make_train_step
from ldeq_jax.training.teacher import load_teacher
from ldeq_jax.weights import export_model

__all__ = ["place"]  # a fixture
WEIGHT = 0.7


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(4, jax.devices()[:2])


@pytest.fixture(scope="module")
def step_of(mesh):
    """Loss and gradient, as Adam's first moment, of a step on a batch."""
    train = dataclasses.replace(TRAIN, teacher_weight=WEIGHT)
    state = create_state(MODEL, OPTIMIZER, train, mesh)
    step = make_train_step(MODEL, OPTIMIZER, train, IBUG_68.eye_corners, mesh)
    compiled = {}

    def run(batch):
        batch, alone = to_devices(mesh, batch), batch.taught is None
        if alone not in compiled:
            compiled[alone] = step.lower(state, batch).compile(compiler_options=QUICKLY)
        after, measured = compiled[alone](jax.tree.map(jnp.copy, state), batch)
        return float(measured["loss"]), jax.device_get(optax.tree.get(after.opt_state, "mu"))

    return run


def test_the_teacher_counts_as_labels_do_times_its_weight(step_of):
    batch, taught = make_batch(), make_batch(1).landmarks
    loss, gradient = step_of(batch._replace(taught=taught))
    by_labels, by_teacher = step_of(batch), step_of(batch._replace(landmarks=taught))
    assert loss == pytest.approx(by_labels[0] + WEIGHT * by_teacher[0], rel=1e-5)
    both = jax.tree.map(lambda a, b: a + WEIGHT * b, by_labels[1], by_teacher[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), gradient, both
    )


def test_where_there_is_no_face_the_teacher_is_not_heard(step_of):
    batch = make_batch()._replace(mask=np.array([True, False, True, True]))
    taught = make_batch(1).landmarks
    expected = step_of(batch._replace(taught=taught.copy()))
    taught[1] = np.nan
    got = step_of(batch._replace(taught=taught))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_the_teacher_counts_in_every_frame_of_a_clip():
    variables = jax.jit(LDEQ(CLIP_MODEL).init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    train = dataclasses.replace(CLIPS, flicker_weight=0.0, teacher_weight=WEIGHT)
    batch, taught = make_clips(), make_clips(1).landmarks
    taught[:, 1] += 0.1  # the frames differ

    def loss(batch):
        return float(loss_of(variables, batch, train)[0])

    both = loss(batch) + WEIGHT * loss(batch._replace(landmarks=taught))
    assert loss(batch._replace(taught=taught)) == pytest.approx(both, rel=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a model with random weights, and its config."""
    config = Config(model=MODEL).for_schema(IBUG_68)
    variables = jax.jit(LDEQ(config.model).init)(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))
    folder = tmp_path_factory.mktemp("teacher")
    export_model(folder, 1, variables, config, {"nme": 5.0})
    return folder, config


def taught_by(folder, config):
    return config.with_values({"train.teacher": str(folder)})


@pytest.mark.parametrize("frames", [(), (3,)])
def test_a_teacher_finds_what_it_predicts_on_any_devices(trained, mesh, frames):
    folder, config = trained
    image = np.random.default_rng(0).integers(0, 256, (4, *frames, 16, 16, 3), np.uint8)
    found = Predictor.load(folder)(image.reshape(-1, 16, 16, 3)).landmarks
    for some in (mesh, make_mesh(4, jax.devices()[:1])):
        taught = load_teacher(taught_by(folder, config), IBUG_68, some)(to_devices(some, image))
        assert taught.shape == (4, *frames, 68, 2)
        np.testing.assert_allclose(taught.reshape(-1, 68, 2), found, atol=1e-4)


def test_a_teacher_that_does_not_fit_is_refused(trained, mesh, tmp_path):
    folder, config = trained
    other = Config().for_schema(WFLW_98)
    with pytest.raises(UserError, match=r"train.teacher: .*: 68 against 98 landmarks"):
        load_teacher(taught_by(folder, other), WFLW_98, mesh)
    larger = taught_by(folder, config.with_values({"model.image_size": 32}))
    with pytest.raises(UserError, match=r"of 16 pixels, the run has model.image_size=32"):
        load_teacher(larger, IBUG_68, mesh)
    with pytest.raises(UserError, match="/nowhere"):
        load_teacher(taught_by("/nowhere", config), IBUG_68, mesh)
    with pytest.raises(UserError, match="teacher_weight must be 0 or more"):
        config.with_values({"train.teacher_weight": -1.0})


@pytest.mark.slow
def test_a_taught_run_continues_as_if_it_had_not_stopped(place, trained, tmp_path):
    options = [f"--config.train.teacher={trained[0]}", "--config.train.num_steps=12"]
    runs = {"whole": [options], "stopped": [[*options, "--config.train.num_steps=5"], options]}
    for name, parts in runs.items():
        for part in parts:
            code, _, error = finish(start(place, tmp_path / name, *part))
            assert code == 0, error
    code, _, error = finish(start(place, tmp_path / "untaught", "--config.train.num_steps=12"))
    assert code == 0, error
    values = {"train.num_steps": 12}
    whole, stopped, untaught = (
        final_state(read_config(place, **values, **more), tmp_path / name)
        for name, more in (
            ("whole", {"train.teacher": str(trained[0])}),
            ("stopped", {"train.teacher": str(trained[0])}),
            ("untaught", {}),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, whole, stopped)
    # The state is that of any run, with other weights: the teacher is not in it.
    assert jax.tree.map(np.shape, whole) == jax.tree.map(np.shape, untaught)
    losses = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["train/loss"]
        for name in ("whole", "untaught")
    ]
    assert losses[0] > losses[1]
