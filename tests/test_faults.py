"""What goes wrong around a run: nothing is lost, and one line reports it. docs/faults.md."""

import datetime
import gc
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_checkpoints import CONFIG, assert_same, at, create
from test_evaluate import complaint
from test_training import (
    ROOT,
    STEPS,
    assert_as_undisturbed,
    final_state,
    finish,
    interrupt,
    place,
    read_config,
    read_log,
    start,
    steps_logged,
    undisturbed,
)
from test_videos import SIZE, ToyVideos
from test_videos import data_dir as video_dir

from ldeq_jax import mesh
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import eval_batches
from ldeq_jax.data.sources import FaceSource, VideoSource, kind_of
from ldeq_jax.data.videos import video_chunks
from ldeq_jax.deq import SolverConfig, fixed_point
from ldeq_jax.training.checkpoints import Checkpoints, only_run_in
from ldeq_jax.training.log import Log

__all__ = ["ToyVideos", "place", "undisturbed", "video_dir"]  # fixtures and what they need
VERSION = "ibug_300w/1.0.0"


@pytest.fixture(scope="module")
def state():
    return create(mesh.make_mesh(2))


# Data sets with damaged files ---------------------------------------------------------------------


def flipped(data):
    """With another byte in the middle of what is not zero."""
    at = len(data.rstrip(b"\0")) // 2
    while data[at] == 0:
        at += 1
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


DAMAGE = {
    "cut": lambda data: data[: 3 * len(data) // 4],
    "cut in half": lambda data: data[: len(data) // 2],
    "cut short": lambda data: data[:20],
    "emptied": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "flipped": flipped,
    "gone": None,
}


def spoil(files, how):
    for file in files:
        data = file.read_bytes()
        file.unlink()
        if DAMAGE[how] is not None:
            file.write_bytes(DAMAGE[how](data))
    assert files


@pytest.fixture
def faces(place, tmp_path):
    """A copy of the drawn faces, to spoil."""
    return shutil.copytree(place / "data", tmp_path / "data")


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_records_name_the_face_the_folder_and_the_remedy(faces, how):
    spoil(list((faces / VERSION).glob("*train.array_record*")), how)
    source = FaceSource("ibug_300w", "train", str(faces))
    told = []
    for index in range(len(source)):
        try:
            source[index]
        except ValueError as error:
            told.append(str(error))
            assert f"face {index} of ibug_300w:train" in told[-1]
    assert len(told) == len(source) or how == "flipped" and told
    for message in told:
        assert f"{faces / VERSION} (" in message and "\n" not in message
        assert "build it again with ldeq build --overwrite" in message
    whole = FaceSource("ibug_300w", "test_common", str(faces))
    assert all(np.isfinite(whole[i]["landmarks"]).all() for i in range(len(whole)))


@pytest.mark.parametrize("how", [how for how in DAMAGE if how != "flipped"])
@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "metadata.json"])
def test_a_damaged_description_is_told(faces, file, how):
    spoil([faces / VERSION / file], how)
    opened = [lambda: FaceSource("ibug_300w", "train", str(faces))]
    if file != "metadata.json" or how != "gone":
        opened.append(lambda: kind_of("ibug_300w", str(faces)))
    for call in opened:
        with pytest.raises(ValueError, match=f"{VERSION} does not describe .*build it again"):
            call()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_faces_are_told_from_wherever_they_are_read(faces, num_workers):
    spoil(list((faces / VERSION).glob("*test_common.array_record*")), "cut")
    config = DataConfig(
        name="ibug_300w", data_dir=str(faces), crop="landmarks", num_workers=num_workers
    )
    with pytest.raises(ValueError, match=r"face \d of ibug_300w:test_common cannot be read from"):
        list(eval_batches(config, "test_common", 16))


def test_damaged_videos_are_told(video_dir, tmp_path):
    copy = shutil.copytree(video_dir, tmp_path / "videos")
    (folder,) = (copy / "toy_videos").glob("*.*.*")
    spoil(list(folder.glob("*test.array_record*")), "cut")
    source = VideoSource("toy_videos", "test", str(copy))
    words = f"video 2 of toy_videos:test cannot be read from {folder} .*build it again"
    for read in (source.annotation, lambda index: next(source.frames(index))):
        with pytest.raises(ValueError, match=words):
            read(2)
    with pytest.raises(ValueError, match=r"video \d of toy_videos:test cannot be read"):
        list(video_chunks(source, DataConfig(name="toy_videos", data_dir=str(copy)), SIZE))


def test_an_example_that_there_is_not(place):
    source = FaceSource("ibug_300w", "train", str(place / "data"))
    for index in (-1, 10):
        with pytest.raises(IndexError, match=f"examples 0 to 9, no {index}"):
            source[index]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_train_and_evaluate_tell_of_damaged_files(place, undisturbed, faces, tmp_path, num_workers):
    spoil(list((faces / VERSION).glob("*test_common.array_record*")), "cut")
    options = [f"--config.data.data_dir={faces}", f"--config.data.num_workers={num_workers}"]
    words = f"face 0 of ibug_300w:test_common cannot be read from {faces / VERSION} ("
    code, out, error = finish(start(place, tmp_path / "run", *options))  # validating after step 8
    assert code == 1 and "Traceback" not in error
    assert error.splitlines()[-1].startswith(f"train.py: {words}")
    assert {f.name for f in (tmp_path / "run" / "checkpoints").iterdir()} == {"5"}
    model = [f"--checkpoint={undisturbed}", f"--output={tmp_path / 'out'}"]
    told = complaint("evaluate", *model, f"--data_dir={faces}", f"--num_workers={num_workers}")
    assert told.startswith(f"evaluate.py: {words}")

    spoil(list((faces / VERSION).glob("*train.array_record*")), "flipped")
    code, out, error = finish(start(place, tmp_path / "other", *options))
    assert code == 1 and "Traceback" not in error
    assert "train.py: face " in error.splitlines()[-1] and "build it again" in error


# A solve that diverges ----------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["implicit", "one_step", "phantom"])
def test_a_row_that_diverges_spares_the_gradient(gradient):
    def loss(theta, slope):
        z, info = fixed_point(
            lambda theta, z: slope[:, None] * z + theta,
            theta,
            jnp.zeros((3, 4)),
            forward=SolverConfig(method="picard", max_steps=30),
            gradient=gradient,
        )
        return jnp.sum(z**2), info

    theta = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, info), slopes = compute(theta, jnp.array([0.5, 1e3, -0.5]))
    _, undisturbed = compute(theta, jnp.array([0.5, 0.2, -0.5]))
    assert info.diverged.tolist() == [False, True, False]
    assert np.isfinite(value) and np.isfinite(slopes).all()
    np.testing.assert_array_equal(slopes[::2], undisturbed[::2])


# A full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_files():
    """Makes every write beyond so many bytes of a file fail, as on a full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


# Orbax leaves the coroutines of a write that failed to the collector, which complains of them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("part", "told_by"),
    [
        ("save", "check"),
        ("save_best", "exit"),
        pytest.param("save_best", "check", marks=pytest.mark.slow),
        pytest.param("save", "save", marks=pytest.mark.slow),
    ],
)
def test_a_write_that_fails_is_told_and_costs_nothing(state, tmp_path, small_files, part, told_by):
    def write(saved, step):
        saved.save(at(step, state))
        saved.save_best(at(step, state), {"nme": 9.0 - step})

    workdir, later = tmp_path / "run", tmp_path / "later"
    with Checkpoints(workdir, CONFIG) as saved:
        write(saved, 1)
    told = "at once"  # by the very call, as it may happen
    words = rf"could be written to {workdir} \(File too large.*\); .* same command again"
    with pytest.raises(OSError, match=words):
        with Checkpoints(workdir, CONFIG) as saved:
            small_files(9_000)
            if part == "save":
                saved.save(at(2, state))
            else:
                saved.save_best(at(2, state), {"nme": 0.5})
            end = time.monotonic() + (0 if told_by == "exit" else 30)
            try:
                while time.monotonic() < end:
                    saved.check() if told_by == "check" else saved.save(at(3, state))
            except OSError:
                told = told_by
                raise
            told = "exit"
    assert told in (told_by, "at once")
    small_files(resource.RLIM_INFINITY)
    gc.collect()
    workdir.rename(later)  # writes of other arrays go on for a while, as in no new process
    with Checkpoints(later, CONFIG) as saved:
        assert_same(saved.restore(state), at(1, state))
        assert saved.best_nme == 8.0
        write(saved, 2)
    for folder in ("checkpoints", "best"):
        assert not [f.name for f in (later / folder).iterdir() if "tmp" in f.name]
    with Checkpoints(later, CONFIG) as saved:
        assert saved.restore(state).step == 2 and saved.best_nme == 7.0


@pytest.mark.slow
def test_a_run_on_a_full_disk_goes_on_when_there_is_space(place, undisturbed):
    workdir = place / "full"
    process = start(place, workdir)
    while not (workdir / "checkpoints" / "5").exists() and process.poll() is None:
        time.sleep(0.001)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    code, out, error = finish(process)
    told = [line for line in error.splitlines() if line.startswith("train.py: ")]
    assert code == 1 and len(told) == 1
    assert told[0].startswith(f"train.py: no checkpoint could be written to {workdir} (File too")
    assert steps_logged(workdir) < STEPS
    code, out, error = finish(start(place, workdir))
    assert code == 0 and "continuing after step" in out
    assert_as_undisturbed(place, workdir, undisturbed)


def test_a_line_of_the_log_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OSError, match="No space left on device"):
        with Log(tmp_path, 0, CONFIG) as log:
            log.write(1, {"loss": 1.0, "lost": np.nan})
            log._file.close()
            log._file = open("/dev/full", "a")
            log.write(2, {"loss": 1.0})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 1.0}\n'


@pytest.mark.slow
def test_a_run_whose_log_cannot_be_written_tells_what_to_do(place, tmp_path):
    (tmp_path / "config.json").symlink_to("/dev/full")
    code, out, error = finish(start(place, tmp_path))
    assert code == 1 and "Traceback" not in error
    told = f"train.py: {tmp_path}/config.json: No space left on device; make space, then"
    assert error.splitlines()[-1].startswith(told)


# Processes that load data -------------------------------------------------------------------------


def workers_of(process):
    """Numbers of the processes that load data for a run, whichever of its threads started them."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    numbers = [int(n) for thread in threads for n in (thread / "children").read_text().split()]
    return [n for n in numbers if "spawn_main" in Path(f"/proc/{n}/cmdline").read_text()]


def alive(number):
    """Whether there is a process of a number that is no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_and_the_same_command_goes_on(place, undisturbed):
    workdir, option = place / "worker", "--config.data.num_workers=2"
    process = start(place, workdir, option)
    while steps_logged(workdir) < 6 and process.poll() is None:
        time.sleep(0.001)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    begin = time.monotonic()
    code, out, error = finish(process)
    assert time.monotonic() - begin < 200  # seconds, if nothing else runs
    assert code == 1 and "Traceback" not in error and steps_logged(workdir) < STEPS
    told = [line for line in error.splitlines() if line.startswith("train.py: ")]
    assert len(told) == 1 and "a process that loads data is gone" in told[0]
    assert "exit code -9" in told[0] and "data.num_workers" in told[0]
    code, out, error = finish(start(place, workdir, option))
    assert code == 0 and "continuing after step" in out
    same = read_config(place)
    assert_same(final_state(same, workdir), final_state(same, undisturbed))
    assert read_log(workdir) == read_log(undisturbed)


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed(place, tmp_path):
    process = start(place, tmp_path, "--config.data.num_workers=2")
    while steps_logged(tmp_path) < 2 and process.poll() is None:
        time.sleep(0.001)
    workers = workers_of(process)
    process.kill()
    end = time.monotonic() + 30
    while (left := [n for n in workers if alive(n)]) and time.monotonic() < end:
        time.sleep(0.1)
    for number in left:
        os.kill(number, signal.SIGKILL)
    finish(process)
    assert len(workers) == 2 and not left


# The clock ----------------------------------------------------------------------------------------


@pytest.fixture
def clock_back(monkeypatch):
    """A clock that goes back by an hour whenever it is read."""
    now, readings = time.time(), itertools.count()

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(readings))
    monkeypatch.setattr(datetime, "datetime", Backwards)
    return readings


def test_checkpoints_do_not_ask_the_clock(state, tmp_path, clock_back):
    for first in (1, 4):
        with Checkpoints(tmp_path, CONFIG) as saved:
            for step in range(first, first + 3):
                saved.save(at(step, state))
                saved.save_best(at(step, state), {"nme": 9.0 - step})
    assert next(clock_back) > 100, "it was read"
    assert {f.name for f in (tmp_path / "checkpoints").iterdir()} == {"5", "6"}
    with Checkpoints(tmp_path, CONFIG) as saved:
        assert_same(saved.restore(state), at(6, state))
        assert saved.best_nme == 3.0


BACKWARDS = """
import itertools, runpy, sys, time
now, readings = time.time(), itertools.count()
time.time = lambda: now - 60 * next(readings)
sys.argv = sys.argv[1:]
sys.path.insert(0, {root!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_run_does_not_ask_the_clock(place, undisturbed, monkeypatch):
    workdir, script = place / "clock", place / "backwards.py"
    script.write_text(BACKWARDS.format(root=str(ROOT)))

    class Backwards(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__([command[0], str(script), *command[1:]], **options)

    monkeypatch.setattr(subprocess, "Popen", Backwards)
    seen = 12
    code, *_ = interrupt(
        start(place, workdir), workdir, signal.SIGTERM, lambda: steps_logged(workdir) >= seen
    )
    assert code == 128 + signal.SIGTERM
    code, out, error = finish(start(place, workdir))
    assert code == 0, error
    assert_as_undisturbed(place, workdir, undisturbed)


# Two runs -----------------------------------------------------------------------------------------

HOLDER = """
import sys, time
sys.path.insert(0, {root!r})
from ldeq_jax.training.checkpoints import only_run_in
with only_run_in({workdir!r}):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_directory_is_one_runs_and_free_again_when_that_is_killed(tmp_path):
    workdir = tmp_path / "deep" / "run"
    code = HOLDER.format(root=str(ROOT), workdir=str(workdir))
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):
            with pytest.raises(BlockingIOError) as error, only_run_in(workdir):
                raise AssertionError("two runs")
            assert f"{workdir}: process {holder.pid} on " in str(error.value)
            assert "another --workdir" in str(error.value)
        with only_run_in(tmp_path / "other"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with only_run_in(workdir):
        assert f"process {os.getpid()} on " in (workdir / ".lock.holder").read_text()
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "):
            with only_run_in(workdir):
                raise AssertionError("two runs")
    with only_run_in(workdir):
        pass


def test_hosts_but_the_first_take_no_lock(tmp_path, monkeypatch):
    with only_run_in(tmp_path):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with only_run_in(tmp_path):
            pass


@pytest.mark.slow
def test_a_second_run_is_refused_and_the_first_goes_on(place, undisturbed):
    workdir = place / "shared"
    first = start(place, workdir)
    while steps_logged(workdir) < 1 and first.poll() is None:
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)  # so that it is still there
    try:
        code, out, error = finish(start(place, workdir))
    finally:
        first.send_signal(signal.SIGCONT)
    assert code == 1 and not out
    assert error.startswith(f"train.py: another run is using {workdir}: process {first.pid} on ")
    assert error.count("\n") == 1
    code, out, error = finish(first)
    assert code == 0, error
    assert_as_undisturbed(place, workdir, undisturbed)
