"""Training on clips: the loss is that of video, on any devices, and settings are checked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import MODEL, OPTIMIZER, QUICKLY, TRAIN

from ldeq_jax.data.faces import ClipBatch
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.mesh import make_mesh, to_devices
from ldeq_jax.model.ldeq import LDEQ
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.training.clips import check_clips, clip_loss
from ldeq_jax.training.state import create_state
from ldeq_jax.training.step import make_train_step

MODEL = dataclasses.replace(MODEL, stem_norm="group")
RWR = RwRConfig(fusion="geometric")
CLIPS = dataclasses.replace(TRAIN, flicker_weight=2.0)
EYES = IBUG_68.eye_corners


def make_clips(seed=0, size=4, frames=2):
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 200, (size, 1, 16, 16, 3))
    noise = rng.integers(0, 55, (size, frames, 16, 16, 3))
    points = rng.uniform(0.2, 0.8, (size, 1, 68, 2))
    return ClipBatch(
        image=(still + noise).astype(np.uint8),
        landmarks=np.repeat(points, frames, axis=1).astype(np.float32),
        mask=np.ones(size, bool),
        frame_from_crop=np.tile(np.eye(3, dtype=np.float32), (size, frames, 1, 1)),
        index=np.arange(size, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def variables():
    return jax.jit(LDEQ(MODEL).init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


jitted = jax.jit(clip_loss, static_argnums=(0, 1, 3))


def loss_of(variables, batch, train=CLIPS, recurrence=RWR, key=1):
    return jitted(MODEL, train, recurrence, EYES, variables, batch, jax.random.key(key))


def test_the_loss_of_a_batch_is_the_mean_of_its_clips(variables):
    batch = make_clips()
    whole, _ = loss_of(variables, batch)
    parts = [
        loss_of(variables, jax.tree.map(lambda a, i=i: a[i : i + 1], batch))[0] for i in range(4)
    ]
    assert float(whole) == pytest.approx(float(np.mean(parts)), rel=1e-5)


def test_without_carry_frames_do_not_see_each_other(variables):
    alone = dataclasses.replace(CLIPS, carry=0.0, flicker_weight=0.0)
    batch = make_clips()
    turned = jax.tree.map(lambda a: a[:, ::-1] if a.ndim > 1 else a, batch)
    forward, backward = (float(loss_of(variables, b, alone)[0]) for b in (batch, turned))
    assert forward == pytest.approx(backward, rel=1e-6)
    carried = dataclasses.replace(CLIPS, flicker_weight=0.0)
    forward, backward = (float(loss_of(variables, b, carried)[0]) for b in (batch, turned))
    assert forward != pytest.approx(backward, rel=1e-6)


def test_the_price_on_flicker_is_that_of_the_metric(variables):
    batch = make_clips()
    free, metrics = loss_of(variables, batch, dataclasses.replace(CLIPS, flicker_weight=0.0))
    priced, _ = loss_of(variables, batch)
    extent = np.ptp(batch.landmarks, axis=2).prod(axis=-1) ** 0.5
    change = (float(priced) - float(free)) / 2  # mean of root mean squares, crop units
    assert float(metrics["flicker"]) == pytest.approx(25600 * change / extent.mean(), rel=0.05)


def test_clips_without_a_face_count_by_their_spread_alone(variables):
    batch = make_clips()._replace(mask=np.array([True, False, False, False]))
    other = batch._replace(landmarks=batch.landmarks.copy())
    other.landmarks[1:] = 0.3 * other.landmarks[1:] + 0.1
    priced = dataclasses.replace(CLIPS, empty_weight=1.0)
    loss, metrics = loss_of(variables, batch, priced)
    assert float(loss_of(variables, other, priced)[0]) == float(loss)
    faces = jax.tree.map(lambda a: a[:1], batch)
    free = float(loss_of(variables, batch)[0])
    assert free == pytest.approx(float(loss_of(variables, faces)[0]), rel=1e-5)
    assert float(loss) > free
    assert float(metrics["nme"]) == pytest.approx(
        float(loss_of(variables, faces)[1]["nme"]), rel=1e-5
    )


@pytest.mark.slow
def test_a_share_of_the_clips_carries_its_state(variables):
    batch = make_clips(size=8)
    rows = [jax.tree.map(lambda a, i=i: a[i : i + 1], batch) for i in range(8)]
    free = dataclasses.replace(CLIPS, flicker_weight=0.0)
    some, carried, alone = (
        float(loss_of(variables, batch, dataclasses.replace(free, carry=share))[0])
        for share in (0.5, 1.0, 0.0)
    )
    # Each clip is one or the other: the sum is one of the sums over subsets.
    differences = [
        float(loss_of(variables, row, free)[0])
        - float(loss_of(variables, row, dataclasses.replace(free, carry=0.0))[0])
        for row in rows
    ]
    chosen = np.array(list(np.ndindex(*[2] * 8)))
    sums = 8 * alone + chosen @ differences
    closest = np.abs(sums - 8 * some).argmin()
    assert sums[closest] == pytest.approx(8 * some, abs=1e-5)
    assert 0 < chosen[closest].sum() < 8
    assert some != pytest.approx(carried, rel=1e-6)


def test_the_price_can_be_the_logarithm(variables):
    batch = make_clips(size=1)  # one change: the mean of logarithms is the logarithm of the mean
    log = dataclasses.replace(CLIPS, flicker_loss="log", flicker_weight=1.0)
    priced, metrics = loss_of(variables, batch, log)
    plain, _ = loss_of(variables, batch)
    size = np.ptp(batch.landmarks[0, 1], axis=0).prod() ** 0.5
    change = float(metrics["flicker"]) / 25600 * size
    expected = np.log(change) - CLIPS.flicker_weight * change
    assert float(priced - plain) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("field", [{"carry": 1.5}, {"carry": -0.1}, {"flicker_loss": "square"}])
def test_values_out_of_range_are_named(field):
    with pytest.raises(UserError, match=next(iter(field))):
        dataclasses.replace(CLIPS, **field)


@pytest.mark.parametrize(
    "fusion", [pytest.param("arithmetic", marks=pytest.mark.slow), "geometric"]
)
@pytest.mark.parametrize("carry_gradient", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gradients_are_finite_and_the_state_carries_them(variables, fusion, carry_gradient):
    train = dataclasses.replace(CLIPS, carry_gradient=carry_gradient, penalties=(1.0, 1.0))
    recurrence = dataclasses.replace(RWR, fusion=fusion)
    batch = make_clips()

    def last_frame(variables):
        loss, _ = loss_of(variables, batch, train, recurrence)
        return loss

    gradient = jax.grad(last_frame)(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_two_devices_train_as_one_and_the_loss_falls():
    runs = []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        mesh = make_mesh(4, devices)
        state = create_state(MODEL, OPTIMIZER, CLIPS, mesh)
        step = make_train_step(MODEL, OPTIMIZER, CLIPS, EYES, mesh, recurrence=RWR)
        batch = to_devices(mesh, make_clips())
        step = step.lower(state, batch).compile(compiler_options=QUICKLY)
        losses = []
        for _ in range(6):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
            assert int(metrics["skipped"]) == 0
        runs.append(losses)
    np.testing.assert_allclose(*runs, rtol=2e-3)
    assert runs[0][-1] < runs[0][0]


@pytest.mark.parametrize(
    ("model", "train", "recurrence", "message"),
    [
        ({"stem_norm": "batch"}, {}, {}, "stem_norm"),
        ({}, {"frame_budget": 9}, {}, "frame_budget"),
        ({}, {}, {"final_evaluation": False, "budget": 1, "first_budget": 1}, "final_evaluation"),
    ],
)
def test_settings_that_cannot_work_are_named(model, train, recurrence, message):
    with pytest.raises(UserError, match=message):
        check_clips(
            dataclasses.replace(MODEL, **model),
            dataclasses.replace(CLIPS, **train),
            dataclasses.replace(RWR, **recurrence),
        )
