"""Training: optimiser by its formulas, steps on any devices, runs that may be killed any time."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import build
import jax
import jax.numpy as jnp
import numpy as np
import optax
import psutil
import pytest
import sample_faces
from commands import complaint

from ldeq_jax import configs
from ldeq_jax.cli import train as cli_train
from ldeq_jax.config import Config, OptimizerConfig, TrainConfig, from_mapping
from ldeq_jax.data.faces import LandmarkBatch
from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.mesh import make_mesh, to_devices
from ldeq_jax.model.ldeq import (
    ModelConfig,
    hourglass_map,
    select_landmarks,
    variable_shapes,
)
from ldeq_jax.training import loop
from ldeq_jax.training.checkpoints import Checkpoints
from ldeq_jax.training.log import Log
from ldeq_jax.training.optimizer import make_optimizer, make_schedule
from ldeq_jax.training.preview import draw_contact_sheet
from ldeq_jax.training.start import nearest_landmarks
from ldeq_jax.training.state import create_state, with_weights
from ldeq_jax.training.step import make_train_step
from ldeq_jax.training.stop import StopRequest
from ldeq_jax.weights import load_model

ROOT = Path(__file__).parent.parent
STEPS = 40

# Schedules and optimiser --------------------------------------------------------------------------


def rates(num_steps, **fields):
    schedule = make_schedule(OptimizerConfig(learning_rate=0.3, **fields), num_steps)
    return np.array([schedule(step) for step in range(num_steps + 1)])


def test_the_rate_rises_linearly_and_falls_as_a_cosine_to_zero():
    expected = 0.15 * (1 + np.cos(np.pi * np.arange(31) / 30))
    np.testing.assert_allclose(rates(30, decay="cosine"), expected, atol=1e-7)
    warm = rates(40, decay="cosine", warmup_steps=10)
    np.testing.assert_allclose(warm[:10], 0.03 * np.arange(10), atol=1e-7)
    np.testing.assert_allclose(warm[10:], expected, atol=1e-7)
    assert warm[-1] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_the_rate_drops_at_the_steps_that_it_should(warmup_steps):
    got = rates(20, decay="step", decay_at=(7, 12), decay_factor=0.5, warmup_steps=warmup_steps)
    step = np.arange(21)
    expected = 0.3 * np.where(step < 7, 1, np.where(step < 12, 0.5, 0.25))
    np.testing.assert_allclose(got[warmup_steps:], expected[warmup_steps:], rtol=1e-6)
    np.testing.assert_allclose(rates(5, decay="none"), 0.3, rtol=1e-6)


def updates(params, gradient, **fields):
    """First update at learning rate 1."""
    config = OptimizerConfig(learning_rate=1.0, decay="none", **fields)
    optimizer = make_optimizer(config, 10)
    return optimizer.update(gradient, optimizer.init(params), params)[0]


@pytest.mark.parametrize("clip", ["value", "norm", "none"])
def test_the_gradient_is_clipped_before_the_moments(clip):
    params, gradient = jnp.zeros(2), jnp.array([-3.0, 4.0])
    config = OptimizerConfig(decay="none", clip=clip, clip_at=2.0)
    optimizer = make_optimizer(config, 10)
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    clipped = {"value": [-2.0, 2.0], "norm": [-1.2, 1.6], "none": [-3.0, 4.0]}[clip]
    first_moment = optax.tree.get(state, "mu")
    np.testing.assert_allclose(first_moment, 0.1 * np.array(clipped), rtol=1e-5)


def test_adam_first_moves_by_the_rate_whatever_the_gradient():
    got = updates(jnp.zeros(3), jnp.array([1e-3, -0.5, 2.0]), name="adam", clip="none")
    np.testing.assert_allclose(got, [-1, 1, -1], rtol=1e-4)


def test_weight_decay_spares_biases_norms_and_the_temperature():
    params = {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0), "beta": jnp.float32(2)}
    got = updates(params, jax.tree.map(jnp.zeros_like, params), name="adamw", weight_decay=0.1)
    np.testing.assert_allclose(got["kernel"], -0.2, rtol=1e-6)
    assert not got["bias"].any() and not got["beta"]


# One step -----------------------------------------------------------------------------------------

MODEL = ModelConfig(
    num_landmarks=68,
    image_size=16,
    depth=1,
    injection_width=8,
    base_width=8,
    width_increment=8,
    residual_kernel=3,
    groups=2,
    forward=SolverConfig(max_steps=4, tol=0.0),
    gradient="one_step",
)
QUICKLY = {"xla_backend_optimization_level": 0}  # to compile takes longer than to run
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, decay="none", ema_decay=0.9)
TRAIN = TrainConfig(min_budget=2)


def make_batch(seed=0, size=4):
    rng = np.random.default_rng(seed)
    return LandmarkBatch(
        image=rng.integers(0, 256, (size, 16, 16, 3), np.uint8),
        landmarks=rng.uniform(0.1, 0.9, (size, 68, 2)).astype(np.float32),
        mask=np.ones(size, bool),
        frame_from_crop=np.tile(np.eye(3, dtype=np.float32), (size, 1, 1)),
        index=np.arange(size, dtype=np.int32),
    )


class Run:
    """A compiled step on a mesh."""

    def __init__(self, devices):
        self.mesh = make_mesh(4, devices)
        self.state = create_state(MODEL, OPTIMIZER, TRAIN, self.mesh)
        function = make_train_step(MODEL, OPTIMIZER, TRAIN, IBUG_68.eye_corners, self.mesh)
        lowered = function.lower(self.state, to_devices(self.mesh, make_batch()))
        self.function = lowered.compile(compiler_options=QUICKLY)

    def __call__(self, state, batch):
        state = jax.tree.map(jnp.copy, state)  # the step consumes it
        return jax.device_get(self.function(state, to_devices(self.mesh, batch)))


@pytest.fixture(scope="module")
def two():
    return Run(jax.devices()[:2])


@pytest.fixture(scope="module")
def one():
    return Run(jax.devices()[:1])


def assert_close(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def test_devices_change_nothing_beyond_rounding(one, two):
    jax.tree.map(np.testing.assert_array_equal, one.state, two.state)
    # Adam would turn the rounding of a gradient near zero into a step of full length; its first
    # moments are the gradients themselves.
    left, alone = one(one.state, make_batch())
    right, divided = two(two.state, make_batch())
    assert_close(alone, divided, rtol=1e-5, atol=1e-6)
    assert_close(left.batch_stats, right.batch_stats, rtol=1e-5, atol=1e-6)
    moments = [optax.tree.get(state.opt_state, "mu") for state in (left, right)]
    assert_close(*moments, rtol=1e-3, atol=1e-6)
    losses = []
    for run, state in ((one, one.state), (two, two.state)):
        losses.append([])
        for seed in range(8):
            state, measured = run(state, make_batch(seed % 2))
            losses[-1].append(measured["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert losses[0][-1] < 0.98 * losses[0][0]


def test_each_device_has_its_rows(two):
    image = to_devices(two.mesh, make_batch()).image
    assert [shard.data.shape[0] for shard in image.addressable_shards] == [2, 2]
    np.testing.assert_array_equal(image, make_batch().image)


def test_devices_must_divide_the_batch():
    with pytest.raises(ValueError, match="a batch of 5 cannot be divided over 2 devices"):
        make_mesh(5)


def test_the_average_follows_its_recursion(two):
    state = two.state
    for _ in range(3):
        after, _ = two(state, make_batch())
        decay = min(OPTIMIZER.ema_decay, (1 + int(state.step)) / (10 + int(state.step)))
        expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, state.ema, after.params)
        assert_close(after.ema, expected, rtol=1e-5, atol=1e-7)
        state = after
    assert state.step == 3


def test_budgets_stay_in_range_and_depend_on_the_step_alone(two):
    def drawn(step, batch):
        state = two.state.replace(step=jnp.full_like(two.state.step, step))
        return float(
            two(state, batch)[1]["solver_steps"]
        )  # the tolerance is 0: all budgets are used up

    budgets = [drawn(step, make_batch()) for step in range(60)]
    assert set(budgets) == {2, 3, 4}
    assert all(12 <= budgets.count(budget) <= 28 for budget in (2, 3, 4))  # 20 each, give or take
    assert budgets[:6] == [drawn(step, make_batch(1)) for step in range(6)]


def test_a_budget_cannot_exceed_the_largest(two):
    with pytest.raises(ValueError, match="min_budget 5 exceeds model.forward.max_steps 4"):
        make_train_step(MODEL, OPTIMIZER, TrainConfig(min_budget=5), (0, 1), two.mesh)


def test_masked_rows_do_not_count_whatever_they_hold(two):
    batch = make_batch()
    mask = np.array([True, False, True, True])
    broken = batch.landmarks.copy()
    broken[1] = np.nan
    right, expected = two(two.state, batch._replace(mask=mask))
    left, measured = two(two.state, batch._replace(mask=mask, landmarks=broken))
    assert measured == expected
    assert np.isfinite(list(measured.values())).all()
    jax.tree.map(np.testing.assert_array_equal, left, right)
    # The mean is over the rows that count, not over all of them.
    others = [
        two(two.state, batch._replace(mask=np.arange(4) == row))[1]["loss"] for row in (0, 2, 3)
    ]
    np.testing.assert_allclose(measured["loss"], np.mean(others), rtol=1e-5)


def test_a_step_that_is_not_finite_is_skipped_and_the_next_is_not(one, two):
    batch = make_batch()
    lost = batch._replace(landmarks=batch.landmarks.copy())
    lost.landmarks[2] = np.nan
    ends = []
    for run in (one, two):
        before, _ = run(run.state, make_batch(1))
        skipped, measured = run(before, lost)
        assert not np.isfinite(measured["loss"])
        counted = {"step": 2, "skipped": 1, "skipped_in_a_row": 1}
        jax.tree.map(np.testing.assert_array_equal, skipped, before.replace(**counted))
        assert (measured["skipped"], measured["skipped_in_a_row"]) == (1, 1)
        skipped, measured = run(skipped, lost)
        assert (measured["skipped"], measured["skipped_in_a_row"]) == (2, 2)
        # Then the run goes on as one that is at this step and was never disturbed.
        after, measured = run(skipped, batch)
        assert (measured["skipped"], measured["skipped_in_a_row"]) == (2, 0)
        expected, undisturbed = run(before.replace(step=skipped.step), batch)
        assert measured["loss"] == undisturbed["loss"]
        jax.tree.map(np.testing.assert_array_equal, after, expected.replace(skipped=2))
        assert not np.array_equal(*(jax.tree.leaves(s.params)[0] for s in (before, after)))
        ends.append(after.skipped)
    assert ends == [2, 2]


def test_an_infinite_loss_with_a_finite_gradient_is_skipped_too(two):
    lost = make_batch()
    lost.landmarks[0, 0, 0] = np.inf  # the slope of |d| is 1 all the way
    after, measured = two(two.state, lost)
    assert np.isposinf(measured["loss"]) and np.isfinite(measured["grad_norm"])
    jax.tree.map(np.testing.assert_array_equal, after.params, two.state.params)
    assert after.skipped == 1


def test_batch_statistics_move_and_are_what_a_prediction_uses(two):
    state, batch = two.state, make_batch()
    after, _ = two(state, batch)
    # With the same batch again and again, means approach a limit by the tenth each time.
    twice, _ = two(after.replace(params=state.params), batch)
    limit = jax.tree.map(lambda a, b: (b - 0.9 * a) / 0.1, state.batch_stats, after.batch_stats)
    again = jax.tree.map(lambda a, b: (b - 0.9 * a) / 0.1, after.batch_stats, twice.batch_stats)
    assert_close(limit, again, rtol=1e-3, atol=1e-4)
    assert not np.allclose(limit["stem"]["half"]["norm"]["mean"], 0)

    config = Config(model=MODEL).for_schema(IBUG_68)
    old, new = (
        Predictor(config, {"params": state.params, "batch_stats": stats})(batch.image)
        for stats in (jax.device_get(state.batch_stats), limit)
    )
    assert not np.allclose(old.landmarks, new.landmarks, atol=1e-4)


def test_what_the_spread_exceeds_its_target_by_is_a_part_of_the_loss(two):
    plain, target = two(two.state, make_batch())[1], 0.02
    costly = dataclasses.replace(TRAIN, spread_weight=0.7, spread_target=target)
    arguments = MODEL, OPTIMIZER, costly, IBUG_68.eye_corners, two.mesh
    step = make_train_step(*arguments)
    lowered = step.lower(two.state, to_devices(two.mesh, make_batch()))
    state = jax.tree.map(jnp.copy, two.state)
    batch = to_devices(two.mesh, make_batch())
    _, measured = lowered.compile(compiler_options=QUICKLY)(state, batch)
    # Heatmaps of random weights are all broader than that.
    excess = float(plain["spread"]) / 100 - target
    np.testing.assert_allclose(measured["loss"], plain["loss"] + 0.7 * excess, rtol=1e-5)


def test_a_run_may_start_from_weights(two):
    given, _ = two(two.state, make_batch())
    variables = {"params": given.params, "batch_stats": given.batch_stats}
    state, new = with_weights(two.state, variables)
    for fresh, expected in (
        (state.params, given.params),
        (state.ema, given.params),
        (state.batch_stats, given.batch_stats),
        (state.opt_state, two.state.opt_state),
    ):
        jax.tree.map(np.testing.assert_array_equal, fresh, expected)
    assert state.step == 0 and new == []


def random_variables(**changes):
    """Variables of MODEL with some fields changed."""
    rng, shapes = np.random.default_rng(0), variable_shapes(dataclasses.replace(MODEL, **changes))
    return jax.tree.map(lambda s: rng.normal(size=s.shape), shapes)


def test_layers_of_another_shape_stay_random_and_are_named(two):
    variables = random_variables(base_width=10, width_increment=6)
    state, new = with_weights(two.state, variables)
    assert "map.head" in new and "map.entry.conv" in new
    assert not any(name.startswith("stem") for name in new)
    assert_close(state.params["stem"], variables["params"]["stem"], rtol=1e-6)
    assert_close(state.params["map"]["head"]["kernel"], two.state.params["map"]["head"]["kernel"])
    # The coarser level is as wide as before, so its convolution fits, though not what leads to it.
    assert_close(state.params["map"]["bottom"], variables["params"]["map"]["bottom"], rtol=1e-6)
    assert_close(state.ema, state.params, rtol=0)
    for fresh, before in zip(*map(jax.tree.leaves, (state, two.state)), strict=True):
        assert fresh.dtype == before.dtype and fresh.sharding == before.sharding


def test_a_model_none_of_whose_layers_fits_is_refused(two):
    named_otherwise = {"params": two.state.params["map"], "batch_stats": {}}
    grown = jax.tree.map(lambda a: np.zeros((*a.shape[:-1], a.shape[-1] + 1)), two.state.params)
    for given in (named_otherwise, {"params": grown}):
        with pytest.raises(UserError, match="train.start_from: no layer of that model fits"):
            with_weights(two.state, given)


class Finds:
    """In place of a model's Predictor."""

    def __init__(self, landmarks, target):
        self.batches = lambda batches: {"landmarks": landmarks, "target": target}


def test_each_landmark_is_matched_with_the_nearest_over_all_faces():
    rng, numbers = np.random.default_rng(0), [5, 0, 3, 5]
    found = rng.uniform(0, 1, (30, 7, 2))
    target = found[:, numbers] + rng.normal(0, 0.02, (30, 4, 2))
    target[0] = found[0, [1, 2, 4, 6]]  # a face labelled wrongly changes nothing
    assert nearest_landmarks(Finds(found, target), []) == numbers


def test_selected_landmarks_are_those_of_the_whole_model():
    variables, numbers = random_variables(), [8, 36, 45, 8]
    some = dataclasses.replace(MODEL, num_landmarks=len(numbers))
    chosen = select_landmarks(MODEL, variables, numbers)
    assert jax.tree.map(np.shape, chosen) == jax.tree.map(np.shape, variable_shapes(some))
    # The whole map gives the same where only the selected heatmaps are not 0.
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 4, 4, MODEL.injection_width)).astype(np.float32)
    z = rng.uniform(0, 1, (1, 4, 4, len(numbers))).astype(np.float32)
    everything = np.zeros((1, 4, 4, 68), np.float32)
    for k, number in enumerate(numbers):
        everything[..., number] += z[..., k]
    part, whole = (
        hourglass_map(config).apply({"params": given["params"]["map"]}, heatmaps, x)
        for config, given, heatmaps in ((some, chosen, z), (MODEL, variables, everything))
    )
    np.testing.assert_allclose(part, whole[..., numbers], atol=1e-4)


# The command line ---------------------------------------------------------------------------------

CONFIG_FILE = f"""
from ldeq_jax import Config

def get_config():
    return Config().with_values({{
        "data.name": "ibug_300w",
        "data.eval_split": "test_common",
        "data.crop": "landmarks",
        "data.batch_size": 4,
        "model.image_size": 16,
        "model.depth": 1,
        "model.residual_kernel": 3,
        "model.groups": 2,
        "model.injection_width": 8,
        "model.base_width": 8,
        "model.width_increment": 8,
        "model.forward.method": "picard",
        "model.forward.max_steps": 3,
        "model.gradient": "one_step",
        "optimizer.ema_decay": 0.9,
        "train.min_budget": 1,
        "train.num_steps": {STEPS},
        "train.log_every": 1,
        "train.eval_every": 8,
        "train.checkpoint_every": 5,
    }})
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small data set and a config."""
    place = tmp_path_factory.mktemp("runs")
    options = ["--train=10", "--test=5", "--size=64", f"--output={place / 'faces'}"]
    assert sample_faces.main(options) == 0
    options = [f"--manual_dir={place / 'faces'}", f"--data_dir={place / 'data'}"]
    assert build.main(["ibug_300w", *options]) == 0
    (place / "config.py").write_text(CONFIG_FILE)
    return place


def start(place, workdir, *options, **environment):
    """Starts train.py; compiled programs are shared, which changes nothing in them."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0",
        **environment,
    }
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "train.py"),
            f"--config={place / 'config.py'}",
            f"--config.data.data_dir={place / 'data'}",
            f"--workdir={workdir}",
            *options,
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finish(process):
    """Waits for it and returns exit code, standard output and standard error."""
    try:
        out, error = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out, error


def steps_logged(workdir):
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def interrupt(process, workdir, number, due):
    """Sends a signal as soon as `due()`; returns exit code, output and standard error."""
    end = time.monotonic() + 300
    while not due() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    process.send_signal(number)
    result = finish(process)
    assert steps_logged(workdir) < STEPS, "it was done before the signal came"
    return result


@pytest.fixture(scope="module")
def undisturbed(place):
    """The working directory of a run that nobody disturbs."""
    code, out, error = finish(start(place, place / "undisturbed"))
    assert code == 0, error
    assert "10 faces of ibug_300w" in out
    return place / "undisturbed"


def read_config(place, **changes):
    """The config of the runs, with other values at dotted paths."""
    config = configs.load(str(place / "config.py"))
    changes = {"data.data_dir": str(place / "data")} | changes
    return config.with_values(changes).for_schema(IBUG_68)


def final_state(config, workdir):
    mesh = make_mesh(4, jax.devices()[:1])
    fresh = create_state(config.model, config.optimizer, config.train, mesh)
    with Checkpoints(workdir, config) as saved:
        return jax.device_get(saved.restore(fresh))


def read_log(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def assert_as_undisturbed(place, workdir, undisturbed):
    expected, got = (final_state(read_config(place), f) for f in (undisturbed, workdir))
    assert got.step == STEPS and got.ema and got.batch_stats
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert [line["step"] for line in read_log(workdir)] == list(range(1, STEPS + 1))
    assert read_log(workdir) == read_log(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, load_model(workdir), load_model(undisturbed))
    assert (workdir / "curves.png").exists()


def test_a_killed_run_goes_on_as_if_it_had_not_been(place, undisturbed):
    workdir, at = place / "killed", random.Random(0).randint(6, 15)
    process = start(place, workdir)
    code, *_ = interrupt(process, workdir, signal.SIGKILL, lambda: steps_logged(workdir) >= at)
    assert code == -signal.SIGKILL
    with (workdir / "metrics.jsonl").open("a") as log:
        log.write('{"step": 1')  # a line may be torn

    process = start(place, workdir)
    seen = steps_logged(workdir)
    code, out, error = interrupt(
        process, workdir, signal.SIGTERM, lambda: steps_logged(workdir) > seen + 5
    )
    assert code == 128 + signal.SIGTERM
    assert "continuing after step" in out
    assert f"stopped by SIGTERM after step {steps_logged(workdir)}, saved" in out
    lines = read_log(workdir)
    assert lines == read_log(undisturbed)[: len(lines)]


@pytest.mark.slow
def test_a_stopped_run_ends_as_if_it_had_not_been(place, undisturbed):
    workdir = place / "stopped"
    code, *_ = interrupt(
        start(place, workdir), workdir, signal.SIGTERM, lambda: steps_logged(workdir) >= 7
    )
    assert code == 128 + signal.SIGTERM
    code, out, error = finish(start(place, workdir))
    assert code == 0, error
    assert_as_undisturbed(place, workdir, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(place, undisturbed, seed):
    draw, workdir = random.Random(seed), place / f"killed_{seed}"
    for at in sorted(draw.sample(range(1, STEPS - 8), 3)):
        process = start(place, workdir)
        code, *_ = interrupt(
            process, workdir, signal.SIGKILL, lambda n=at: steps_logged(workdir) >= n
        )
        assert code == -signal.SIGKILL
    assert finish(start(place, workdir))[0] == 0
    assert_as_undisturbed(place, workdir, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["checkpoints", "best"])
def test_a_run_killed_while_it_writes_ends_as_if_it_had_not_been(place, undisturbed, folder):
    workdir = place / f"killed_writing_{folder}"

    def writing():
        names = [f.name for f in (workdir / folder).glob("*")]
        return any("tmp" in name for name in names) and any(name.isdecimal() for name in names)

    code, *_ = interrupt(start(place, workdir), workdir, signal.SIGKILL, writing)
    assert code == -signal.SIGKILL
    assert any("tmp" in f.name for f in (workdir / folder).iterdir())
    assert finish(start(place, workdir))[0] == 0
    assert_as_undisturbed(place, workdir, undisturbed)
    assert not [f for f in (workdir / folder).iterdir() if "tmp" in f.name]


@pytest.mark.slow
def test_control_c_saves(place, undisturbed):
    workdir = place / "control_c"
    process = start(place, workdir, "--config.data.num_workers=1")
    code, out, error = interrupt(
        process, workdir, signal.SIGINT, lambda: steps_logged(workdir) >= 3
    )
    assert code == 128 + signal.SIGINT
    assert "stopped by SIGINT" in out and "Traceback" not in error
    assert finish(start(place, workdir))[0] == 0  # without workers: the faces are the same
    assert_as_undisturbed(place, workdir, undisturbed)


@pytest.mark.slow
def test_one_core_trains_like_two(place, undisturbed):
    cores = psutil.Process().cpu_affinity()
    if len(cores) < 2:
        pytest.skip("there is one core")
    workdir, lines = place / "one_core", []
    process = start(place, workdir, JAX_COMPILATION_CACHE_DIR="")
    os.sched_setaffinity(process.pid, cores[:1])  # it asks long after it has started
    code, out, error = finish(process)
    assert code == 0, error
    assert "on 1 cpu device" in out
    for folder in (workdir, undisturbed):
        lines.append([line["train/loss"] for line in read_log(folder)])
    np.testing.assert_allclose(*(line[:20] for line in lines), rtol=1e-3)
    np.testing.assert_allclose(*lines, rtol=1e-2)  # rounding errors grow from step to step
    for folder in (workdir, undisturbed):
        load_model(folder)


@pytest.mark.slow
def test_a_finished_run_is_extended_to_what_it_would_have_been(place, undisturbed):
    workdir, shorter = place / "extended", "--config.train.num_steps=16"
    code, out, error = finish(start(place, workdir, shorter))
    assert code == 0 and steps_logged(workdir) == 16, error
    code, out, error = finish(start(place, workdir))
    assert code == 0 and "continuing after step 16" in out, error
    assert_as_undisturbed(place, workdir, undisturbed)
    cosine = "--config.optimizer.decay=cosine"
    assert finish(start(place, place / "cosine", shorter, cosine))[0] == 0
    code, _, error = finish(start(place, place / "cosine", cosine))
    assert code == 1 and error.count("\n") == 1 and "train.start_from=" in error


@pytest.mark.slow
def test_a_run_starts_from_another_once(place, undisturbed, tmp_path):
    options = f"--config.train.start_from={undisturbed}", "--config.train.num_steps=2"
    code, out, error = finish(start(place, tmp_path / "run", *options))
    assert code == 0, error
    assert f"starting from {undisturbed}, step " in out
    nowhere = start(place, tmp_path / "other", "--config.train.start_from=/nowhere")
    code, out, error = finish(nowhere)
    assert code == 1 and error.splitlines()[-1].startswith("train.py: there is no folder /nowhere")


def test_errors_of_the_user_are_one_line_and_help_explains(place, tmp_path, capsys):
    code, out, error = finish(start(place, tmp_path, "--config.data.data_dir=/nowhere"))
    assert code == 1 and "Traceback" not in error
    assert error.startswith("train.py: no data set 'ibug_300w' in /nowhere. Build it with")
    given = f"--config={place / 'config.py'}", f"--workdir={tmp_path}"
    line = complaint("train", *given, "--config.optimizer.learning_rat=1")
    assert "config.optimizer has no field 'learning_rat'; it has name" in line
    for words in (given, ()):
        with pytest.raises(SystemExit) as ended:
            cli_train.main([*words, "--help"])
        assert ended.value.code == 0
        told = capsys.readouterr().out
        for word in ("ldeq build", "--config.SECTION.FIELD", "best/", "Ctrl-C"):
            assert word in told


@pytest.mark.parametrize(
    "options",
    [
        ["--workdir=run"],
        ["--config=tiny"],
        ["--config=tiny", "--workdir=run", "--cofnig.train.seed=1"],
        ["--config=tiny", "--workdir=run", "--host_timeout=soon"],
        ["--config=tiny", "--workdir=run", "more"],
    ],
)
def test_wrong_flags_exit_with_2(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli_train.main(options)
    assert ended.value.code == 2 and "usage: ldeq train" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_wrong_config_is_an_error_of_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option in ("--config=tyni", "--config=tiny --config.train.steps=1"):
        with pytest.raises(UserError, match="no config tyni|no field 'steps'"):
            cli_train.main([*option.split(), "--workdir=run"])
    assert not list(tmp_path.iterdir())


# The loop in this process -------------------------------------------------------------------------


def test_too_many_skipped_steps_are_an_error():
    measured = {"loss": jnp.nan, "grad_norm": jnp.nan, "skipped_in_a_row": jnp.int32(9)}
    assert loop.read_metrics(7, measured)["skipped_in_a_row"] == 9
    with pytest.raises(FloatingPointError, match="step 7 has loss nan .* for 10 steps"):
        loop.read_metrics(7, measured | {"skipped_in_a_row": jnp.int32(10)})


def test_a_run_that_explodes_ends_with_what_it_had_before(place, tmp_path):
    changes = {"optimizer.learning_rate": 1e30, "train.checkpoint_every": 1}
    options = [f"--config.{name}={value}" for name, value in changes.items()]
    code, out, error = finish(start(place, tmp_path, *options))
    assert code == 1 and "Traceback" not in error
    assert error.splitlines()[-1].startswith("train.py: step 11 has loss nan")
    assert [line.get("train/loss") is None for line in read_log(tmp_path)] == [False] + 9 * [True]
    assert [line["train/skipped"] for line in read_log(tmp_path)] == list(range(10))
    config = read_config(place, **changes)
    state = final_state(config, tmp_path)
    # So the same command ends at once, and not after ten steps more.
    assert (state.step, state.skipped, state.skipped_in_a_row) == (10, 9, 9)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_signals_are_noted_once_and_then_act():
    former = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.is_due(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_due(1) and stop.received == signal.SIGTERM
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == former
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == former


def test_the_log_drops_what_will_be_logged_again(tmp_path):
    config = Config()
    with Log(tmp_path, 0, config) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "lo')
    with Log(tmp_path, 2, config) as log:
        log.write(3, {"loss": 9.0})
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path)] == [(1, 1), (2, 2), (3, 9)]
    assert from_mapping(json.loads((tmp_path / "config.json").read_text())) == config


def test_the_contact_sheet_needs_no_training(place, tmp_path):
    draw_contact_sheet(read_config(place), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
