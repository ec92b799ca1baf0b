"""Several hosts, as processes of this machine, train and evaluate like one, and end together."""

import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import build
import jax
import numpy as np
import optax
import pytest
import sample_faces
from test_training import CONFIG_FILE, MODEL, OPTIMIZER, QUICKLY, ROOT, TRAIN, make_batch, read_log

from ldeq_jax import configs, hosts
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.mesh import make_mesh, to_devices
from ldeq_jax.training.checkpoints import Checkpoints
from ldeq_jax.training.state import create_state, state_shardings
from ldeq_jax.training.step import make_train_step
from ldeq_jax.weights import load_model

STEPS = 16
ABORTED = (hosts.LOST, -signal.SIGABRT)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small data set and a config."""
    place = tmp_path_factory.mktemp("hosts")
    options = ["--train=10", "--test=5", "--size=64", f"--output={place / 'faces'}"]
    assert sample_faces.main(options) == 0
    options = [f"--manual_dir={place / 'faces'}", f"--data_dir={place / 'data'}"]
    assert build.main(["ibug_300w", *options]) == 0
    (place / "config.py").write_text(CONFIG_FILE)
    return place


class Job:
    """A script on several hosts, each a process with one CPU device."""

    def __init__(self, place, number, script, *options, only_on_last=(), slurm=False):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        shared = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(place / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0",
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        }
        if slurm:  # which JAX knows by itself
            options += ("--distributed",)
            shared |= {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost"}
            shared |= {"SLURM_NTASKS": str(number), "SLURM_LOCALID": "0"}
        else:
            shared |= {"JAX_NUM_PROCESSES": str(number)}
        place_of = "SLURM_PROCID" if slurm else "JAX_PROCESS_ID"
        self.processes = [
            subprocess.Popen(
                [sys.executable, script, *options, *(only_on_last if host == number - 1 else ())],
                env=shared | {place_of: str(host)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for host in range(number)
        ]

    def finish(self, timeout=300):
        """Exit codes, standard outputs and standard errors of all hosts; none is left running."""
        end, results = time.monotonic() + timeout, []
        try:
            for process in self.processes:
                out, error = process.communicate(timeout=max(end - time.monotonic(), 0.1))
                # Gloo tells standard output whom it has found.
                lines = [line for line in out.splitlines() if line and "[Gloo]" not in line]
                results.append((process.returncode, "\n".join(lines), error))
        finally:
            for process in self.processes:
                process.kill()
        return zip(*results, strict=True)


def train_job(place, number, workdir, *options, steps=STEPS, **job):
    every = [f"--config.train.{name}=4" for name in ("eval_every", "checkpoint_every")]
    return Job(
        place,
        number,
        "train.py",
        f"--config={place / 'config.py'}",
        f"--config.data.data_dir={place / 'data'}",
        f"--workdir={workdir}",
        f"--config.train.num_steps={steps}",
        *every,
        *options,
        **job,
    )


def read_config(place, **changes):
    changes = {"data.data_dir": str(place / "data"), "train.num_steps": STEPS} | changes
    config = configs.load(str(place / "config.py"))
    return config.with_values(changes).for_schema(IBUG_68)


def assert_same_log(left, right, steps):
    left, right = read_log(left), read_log(right)
    assert [line["step"] for line in left] == [line["step"] for line in right] == steps
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        rel = 1e-4 if a["step"] <= 10 else 1e-3  # rounding errors grow from step to step
        for name in a.keys() & {"train/loss", "eval/nme"}:
            assert a[name] == pytest.approx(b[name], rel=rel), (a["step"], name)


def wait_for(condition, job):
    end = time.monotonic() + 280
    while not condition():
        assert time.monotonic() < end
        assert all(process.poll() is None for process in job.processes), list(job.finish())
        time.sleep(0.01)


def logged(workdir):
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope="module")
def alone(place):
    """The working directory of a run on one host."""
    codes, outs, errors = train_job(place, 1, place / "alone").finish()
    assert codes == (0,), errors
    return place / "alone"


# Quick --------------------------------------------------------------------------------------------


def test_two_hosts_train_like_one(place, tmp_path):
    changes = {"num_steps": 4, "log_every": 2, "eval_every": 2, "checkpoint_every": 2}
    options = [f"--config.train.{name}={value}" for name, value in changes.items()]
    jobs = [
        train_job(place, number, tmp_path / name, *options)
        for number, name in ((2, "two"), (1, "one"))
    ]
    codes, outs, errors = jobs[0].finish()
    assert codes == (0, 0), errors
    assert list(jobs[1].finish())[0] == (0,)
    assert "10 faces of ibug_300w" in outs[0] and "on 2 cpu device" in outs[0] and not outs[1]
    assert_same_log(tmp_path / "one", tmp_path / "two", [2, 4])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3),
        *(load_model(tmp_path / folder)[1] for folder in ("one", "two")),
    )


def test_divided_parameters_are_trained_like_whole_ones():
    mesh, results = make_mesh(4, jax.devices()[:2]), []
    for shard_params in (False, True):
        config = dataclasses.replace(TRAIN, shard_params=shard_params)
        state = create_state(MODEL, OPTIMIZER, config, mesh)
        step = make_train_step(MODEL, OPTIMIZER, config, IBUG_68.eye_corners, mesh)
        batch = to_devices(mesh, make_batch())
        step = step.lower(state, batch).compile(compiler_options=QUICKLY)
        state, measured = step(state, batch)
        results.append((optax.tree.get(state.opt_state, "mu"), state.batch_stats, measured))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)
    for name in ("params", "ema", "opt_state"):
        leaves = jax.tree.leaves(getattr(state, name))
        for leaf in leaves:
            small, local = leaf.size < 1024, leaf.addressable_shards[0].data
            assert local.size == (leaf.size if small else leaf.size // 2)
            longest = max(length for length in leaf.shape if length % 2 == 0) if not small else 0
            assert small or longest // 2 in local.shape
        assert any(leaf.size >= 1024 for leaf in leaves)


def test_arrays_without_an_axis_that_the_devices_divide_stay_whole():
    three = jax.sharding.AbstractMesh((3,), ("batch",))
    config = dataclasses.replace(TRAIN, shard_params=True)
    shardings = state_shardings(MODEL, OPTIMIZER, config, three)
    # Its kernels have 3 x 3 taps, and numbers of channels that are powers of two.
    specs = {sharding.spec for sharding in jax.tree.leaves(shardings.params)}
    assert specs == {jax.P(), jax.P("batch")}


def test_one_host_gathers_what_it_has():
    assert hosts.gather({"a": 1}) == [{"a": 1}] and hosts.is_first()
    assert not jax.distributed.is_initialized()
    with pytest.raises(KeyError), hosts.exit_soon_on_error():
        raise KeyError


def test_a_host_that_does_not_know_the_others_is_told_how(monkeypatch):
    def initialize(**_):  # as JAX would say if this process had computed nothing yet
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    assert not hosts.join(False, 60, preemptible=False)
    with pytest.raises(ValueError, match="JAX_COORDINATOR_ADDRESS.*JAX_NUM_PROCESSES"):
        hosts.join(True, 60, preemptible=True)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES must be a number, not 'two'"):
        hosts.join(True, 60, preemptible=True)


# Training -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("number", "shard_params"), [(2, True), (4, False), (4, True)])
def test_any_number_of_hosts_trains_like_one(place, alone, number, shard_params):
    workdir = place / f"{number}_{shard_params}"
    job = train_job(place, number, workdir, f"--config.train.shard_params={shard_params}")
    codes, outs, errors = job.finish()
    assert codes == (0,) * number, errors
    assert not any(outs[1:])
    assert_same_log(workdir, alone, list(range(1, STEPS + 1)))


@pytest.mark.slow
def test_hosts_write_many_checkpoints_of_both_kinds_at_the_same_time(place):
    workdir = place / "often"
    changes = {"eval_every": 1, "checkpoint_every": 1, "log_every": 1}
    options = [f"--config.train.{name}={value}" for name, value in changes.items()]
    codes, outs, errors = train_job(place, 2, workdir, *options, steps=40, slurm=True).finish()
    assert codes == (0, 0), errors
    assert sorted(int(f.name) for f in (workdir / "checkpoints").iterdir()) == [39, 40]
    assert not [f.name for f in workdir.glob("*/*tmp*")]
    nme = [line["eval/nme"] for line in read_log(workdir)]
    assert load_model(workdir)[2] == 1 + int(np.argmin(nme))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "victim", "then", "shard_params"),
    [(2, 1, 1, True), (2, 0, 4, False), (4, 2, 2, True)],
)
def test_a_killed_host_ends_the_others_and_any_number_goes_on(
    place, alone, number, victim, then, shard_params
):
    workdir = place / f"killed_{number}_{victim}"
    options = [f"--config.train.shard_params={shard_params}"]
    job = train_job(place, number, workdir, *options)
    wait_for((workdir / "checkpoints" / "4").is_dir, job)
    job.processes[victim].kill()
    start = time.monotonic()
    codes, outs, errors = job.finish()
    assert time.monotonic() - start < 30
    assert codes[victim] == -signal.SIGKILL
    others = [host for host in range(number) if host != victim]
    assert all(codes[host] in ABORTED for host in others), errors
    for host in others:
        told = "lost another", "another task died"  # by us, or by JAX where the first host is gone
        assert any(words in errors[host] for words in told), errors[host]

    codes, outs, errors = train_job(place, then, workdir).finish()
    assert codes == (0,) * then, errors
    assert "continuing after step " in outs[0]
    assert_same_log(workdir, alone, list(range(1, STEPS + 1)))


@pytest.mark.slow
def test_one_host_s_checkpoint_goes_on_on_four(place, alone):
    workdir = place / "one_four"
    job = train_job(place, 1, workdir)
    wait_for((workdir / "checkpoints" / "4").is_dir, job)
    job.processes[0].kill()
    assert list(job.finish())[0] == (-signal.SIGKILL,)
    job = train_job(place, 4, workdir, "--config.train.shard_params=True")
    codes, outs, errors = job.finish()
    assert codes == (0,) * 4 and "continuing after step " in outs[0], errors
    assert_same_log(workdir, alone, list(range(1, STEPS + 1)))


@pytest.mark.slow
def test_a_silent_host_ends_the_others(place):
    workdir = place / "silent"
    job = train_job(place, 2, workdir, "--host_timeout=10")
    wait_for(lambda: logged(workdir) >= 2, job)
    job.processes[1].send_signal(signal.SIGSTOP)
    start = time.monotonic()
    try:
        assert job.processes[0].wait(timeout=60) in ABORTED
        assert time.monotonic() - start < 40
    finally:
        job.processes[1].send_signal(signal.SIGCONT)
        _, _, errors = job.finish()
    assert "stopped sending heartbeats" in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("told", [(0,), (1,), (0, 1)])
def test_a_stopped_host_stops_all_and_the_same_command_goes_on(place, alone, told):
    workdir = place / f"stopped_{told}"
    job = train_job(place, 2, workdir)
    wait_for(lambda: logged(workdir) >= 2, job)
    for host in told:
        job.processes[host].send_signal(signal.SIGTERM)
    codes, outs, errors = job.finish()
    assert codes == (128 + signal.SIGTERM,) * 2, errors
    step = logged(workdir)
    assert f"stopped by SIGTERM after step {step}, saved" in outs[0]
    assert (workdir / "checkpoints" / str(step)).is_dir()
    codes, outs, errors = train_job(place, 2, workdir).finish()
    assert codes == (0, 0) and f"continuing after step {step}" in outs[0], errors
    assert_same_log(workdir, alone, list(range(1, STEPS + 1)))


@pytest.mark.slow
def test_a_host_that_fails_alone_says_why_and_ends_the_others(place):
    broken = ["--config.data.data_dir=/nowhere"]  # so it goes before the hosts have connected
    job = train_job(place, 2, place / "alone_fails", "--host_timeout=10", only_on_last=broken)
    job.processes[1].wait(timeout=200)
    start = time.monotonic()
    codes, outs, errors = job.finish()
    assert time.monotonic() - start < 40
    assert codes[1] == 1 and codes[0] in ABORTED, errors
    assert "train.py: no data set 'ibug_300w' in /nowhere" in errors[1]


@pytest.mark.slow
def test_hosts_that_share_no_directory_are_told_so(place, alone):
    other = [f"--workdir={place / 'another'}"]
    codes, outs, errors = train_job(place, 2, alone, only_on_last=other).finish()
    assert set(codes) <= {1, *ABORTED} and 1 in codes, errors
    told = "the hosts see different checkpoints", "one directory that all of them share"
    assert any(all(words in error for words in told) for error in errors), errors


@pytest.mark.slow
def test_hosts_start_from_a_model(place, alone):
    options = [f"--config.train.start_from={alone}", "--config.train.shard_params=True"]
    workdir = place / "from"
    job = train_job(place, 2, workdir, *options, "--config.optimizer.learning_rate=1e-12", steps=1)
    codes, outs, errors = job.finish()
    assert codes == (0, 0) and f"starting from {alone}" in outs[0], errors
    # Nothing was learnt in this step, so the weights are those it started from.
    config = read_config(place, **{"train.start_from": str(alone), "train.num_steps": 1})
    config = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-12),
        train=dataclasses.replace(config.train, shard_params=True),
    )
    fresh = create_state(
        config.model, config.optimizer, config.train, make_mesh(4, jax.devices()[:1])
    )
    with Checkpoints(workdir, config) as saved:
        state = jax.device_get(saved.restore(fresh))
    expected = load_model(alone)[1]["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, expected)


# Evaluation ---------------------------------------------------------------------------------------


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4])
def test_any_number_of_hosts_evaluates_each_face_once(place, alone, number):
    def evaluated(count):
        output = place / f"faces_{number}_{count}"
        options = [f"--checkpoint={alone}", f"--output={output}", f"--data_dir={place / 'data'}"]
        job = Job(place, count, "evaluate.py", *options, "--budgets=0,2", "--batch_size=4")
        codes, outs, errors = job.finish()
        assert codes == (0,) * count, errors
        assert outs[0].count("faces of ibug_300w:test_common") == 1 and not any(outs[1:])
        return output

    expected, got = evaluated(1), evaluated(number)
    rows = [read_csv(folder / "faces.csv") for folder in (expected, got)]
    assert [row["index"] for row in rows[1]] == [str(index) for index in range(5)]
    for a, b in zip(*rows, strict=True):
        assert a["name"] == b["name"] and a["num_steps"] == b["num_steps"]
        assert float(a["nme"]) == pytest.approx(float(b["nme"]), rel=1e-4)
    records = [json.loads((folder / "metrics.json").read_text()) for folder in (expected, got)]
    for a, b in zip(*(record["budgets"].values() for record in records), strict=True):
        assert a["all"]["faces"] == b["all"]["faces"] == 5
        assert a["all"]["nme"] == pytest.approx(b["all"]["nme"], rel=1e-4)


@pytest.mark.slow
def test_any_number_of_hosts_evaluates_each_video_once(place, alone):
    options = ["--train=2", "--test=7", f"--output={place / 'large'}"]
    assert sample_faces.main(options) == 0
    stills, clips = place / "stills", place / "clips"
    assert build.main(["ibug_300w", f"--manual_dir={place / 'large'}", f"--data_dir={stills}"]) == 0
    options = [f"--manual_dir={stills / 'ibug_300w' / '1.0.0'}", f"--data_dir={clips}"]
    assert build.main(["moving_faces/easy", *options]) == 0

    def evaluated(count):
        output = place / f"videos_{count}"
        codes, outs, errors = Job(
            place,
            count,
            "evaluate.py",
            f"--checkpoint={alone}",
            f"--output={output}",
            f"--data_dir={clips}",
            "--dataset=moving_faces/easy",
            "--crop=extent",
            "--tuning_split=test_common[:2]",
            "--split=test_common[2:]",  # five videos
            "--budgets=0",
            "--penalties=1",
            "--aligns=none",
            "--remove_offset",
        ).finish()
        assert codes == (0,) * count, errors
        assert outs[0].count("tuning on test_common[:2]") == 1 and not any(outs[1:])
        return output

    expected = evaluated(1)
    for number in (2, 4):
        got = evaluated(number)
        left, right = (read_csv(folder / "settings.csv") for folder in (expected, got))
        assert [row["setting"] for row in left] == [row["setting"] for row in right]
        for a, b in zip(left, right, strict=True):
            assert a["videos"] == b["videos"] == {"tuning": "2", "reported": "5"}[a["split"]]
            for name in ("nme_percent", "nmf", "evaluations_per_frame"):
                assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3)
        left, right = (read_csv(folder / "videos.csv") for folder in (expected, got))
        assert [row["index"] for row in left] == [row["index"] for row in right]
        assert {row["index"] for row in right} == set("01234")
        shown = {path.name for path in (got / "flicker").iterdir()}
        assert len(shown) == 1 and shown == {f.name for f in (expected / "flicker").iterdir()}
