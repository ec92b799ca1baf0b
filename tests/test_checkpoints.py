"""Checkpoints: read as written, on any devices; damage and mix-ups are told, not trained on."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax import zoo
from ldeq_jax.config import Config, OptimizerConfig, TrainConfig, to_mapping
from ldeq_jax.data.config import DataConfig
from ldeq_jax.mesh import make_mesh, replicated
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.training.checkpoints import Checkpoints, only_run_in
from ldeq_jax.training.state import create_state
from ldeq_jax.weights import export_model, load_model

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = Config(
    model=ModelConfig(
        num_landmarks=4,
        image_size=16,
        depth=1,
        injection_width=8,
        base_width=8,
        width_increment=8,
        residual_kernel=3,
        groups=2,
    ),
    data=DataConfig(name="faces", schema="ibug_68"),
    optimizer=OptimizerConfig(ema_decay=0.9),
    train=TrainConfig(keep=2),
)


def changed(section, **fields):
    return dataclasses.replace(
        CONFIG, **{section: dataclasses.replace(getattr(CONFIG, section), **fields)}
    )


@pytest.fixture(scope="module")
def state():
    """A state on both devices, every number of it another one."""
    mesh = make_mesh(2)
    leaves, structure = jax.tree.flatten(create(mesh))
    rng = np.random.default_rng(0)
    leaves = [np.asarray(rng.normal(0, 9, leaf.shape), leaf.dtype) for leaf in leaves]
    state = jax.device_put(jax.tree.unflatten(structure, leaves), replicated(mesh))
    return at(0, state)


def create(mesh):
    return create_state(CONFIG.model, CONFIG.optimizer, CONFIG.train, mesh)


def at(step, state):
    return state.replace(step=jnp.full_like(state.step, step))


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def finished(state, tmp_path_factory):
    """A run that validated twice, the second time worse."""
    workdir = tmp_path_factory.mktemp("run")
    with Checkpoints(workdir, CONFIG) as saved:
        for step, nme in ((3, 4.0), (6, 5.0)):
            saved.save(at(step, state))
            saved.save_best(at(step, state), {"nme": nme, "auc": 0.5})
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(finished, tmp_path / "run")


def test_the_newest_state_is_read_back_bit_for_bit(finished, state):
    with Checkpoints(finished, CONFIG) as saved:
        assert_same(saved.restore(state), at(6, state))


def test_a_state_of_two_devices_goes_on_with_one(finished, state):
    one = make_mesh(2, jax.devices()[1:])
    with Checkpoints(finished, CONFIG) as saved:
        restored = saved.restore(create(one))
    assert {leaf.sharding for leaf in jax.tree.leaves(restored)} == {replicated(one)}
    assert_same(jax.device_get(restored), jax.device_get(at(6, state)))


def test_the_model_is_the_best_average_as_numpy(finished, state):
    config, variables, step = load_model(finished)
    assert (config, step) == (CONFIG, 3)
    assert {type(leaf) for leaf in jax.tree.leaves(variables)} == {np.ndarray}
    assert_same(
        variables,
        {"params": jax.device_get(state.ema), "batch_stats": jax.device_get(state.batch_stats)},
    )


def test_an_exported_model_is_read_like_a_run(state, tmp_path):
    export_model(tmp_path / "model", 8, state.variables(), CONFIG, {"nme": 3.0})
    config, variables, step = load_model(tmp_path / "model")
    assert (config, step) == (CONFIG, 8)
    assert_same(variables["params"], jax.device_get(state.ema))


def test_the_latest_and_the_best_are_kept(state, tmp_path):
    with Checkpoints(tmp_path, CONFIG) as saved:
        for step, nme in ((1, 5.0), (2, 3.0), (3, 4.0), (4, float("nan"))):
            saved.save(at(step, state))
            saved.save_best(at(step, state), {"nme": nme})
    assert {f.name for f in (tmp_path / "checkpoints").iterdir()} == {"3", "4"}
    assert {f.name for f in (tmp_path / "best").iterdir()} == {"2"}
    # A run that goes on knows its best; one that repeats steps may improve on it earlier.
    with Checkpoints(tmp_path, CONFIG) as saved:
        saved.save_best(at(5, state), {"nme": 3.5})
        saved.save_best(at(2, state), {"nme": 2.9})
        saved.save_best(at(1, state), {"nme": 2.5})
    assert {f.name for f in (tmp_path / "best").iterdir()} == {"1"}


def test_of_two_best_models_the_better_counts(state, tmp_path):
    """As a kill leaves them, between the writing of one and the removal of the other."""
    for step, nme in ((1, 2.0), (7, 3.0)):
        export_model(tmp_path / str(step), step, state.variables(), CONFIG, {"nme": nme})
        shutil.copytree(tmp_path / str(step) / str(step), tmp_path / "run" / "best" / str(step))
    assert load_model(tmp_path / "run")[2] == 1


def test_a_write_cut_short_is_not_a_checkpoint(run, state):
    for folder in ("checkpoints", "best"):
        latest = max((run / folder).iterdir(), key=lambda f: int(f.name))
        half = shutil.copytree(latest, run / folder / "9.orbax-checkpoint-tmp-123")
        shutil.rmtree(half / "about")
    assert load_model(run)[2] == 3
    with Checkpoints(run, CONFIG) as saved:
        assert saved.restore(state).step == 6
        saved.save(at(9, state))
    assert {f.name for f in (run / "checkpoints").iterdir()} == {"6", "9"}


@pytest.mark.parametrize(("method", "scale"), [("anderson", "absolute"), ("picard", "trace")])
def test_a_ridge_without_a_scale_is_of_the_time_before(run, method, scale):
    (about,) = (run / "best").glob("*/about/metadata")
    record = json.loads(about.read_text())
    for solver in (record["config"]["model"][name] for name in ("forward", "backward")):
        solver["method"] = method
        del solver["ridge_scale"]
    about.write_text(json.dumps(record))
    model = load_model(run)[0].model
    assert (model.forward.ridge_scale, model.backward.ridge_scale) == (scale, scale)


def test_a_directory_without_a_model(tmp_path):
    (tmp_path / "best").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no model in {tmp_path}"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path / 'nowhere'}"):
        load_model(tmp_path / "nowhere")


def test_a_model_whose_weights_are_not_finite_is_refused(state, tmp_path):
    params = jax.tree.map(np.array, state.params)
    jax.tree.leaves(params)[0].flat[0] = np.nan
    state = state.replace(params=params, ema=params)
    export_model(tmp_path / "model", 3, state.variables(), CONFIG, {"nme": 1.0})
    with pytest.raises(ValueError, match="not all finite"):
        load_model(tmp_path / "model")


def damage(folder, how):
    """Cuts all files in a folder in half, or removes them.

    All: which of the storage layer's files hold what is still in use depends on the time it took.
    """
    for file in [f for f in folder.rglob("*") if f.is_file()]:
        data = file.read_bytes()
        file.unlink()
        if how == "cut":
            file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("how", ["cut", "removed"])
@pytest.mark.parametrize("part", ["about", "weights/d", "weights/ocdbt.process_0", "weights"])
def test_a_damaged_model_is_named(run, part, how, capfd):
    damage(run / "best" / "3" / part, how)
    with pytest.raises(ValueError, match=r"best/3 cannot be read \(.*: .* copy") as error:
        load_model(run)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not capfd.readouterr().err


@pytest.mark.parametrize("how", ["cut", "removed"])
@pytest.mark.parametrize("part", ["about", "state/d", "state/ocdbt.process_0", "state"])
def test_a_damaged_state_is_named_and_the_one_before_it_helps(run, state, part, how, capfd):
    with Checkpoints(run, CONFIG) as saved:
        saved.save(at(9, state))
    damage(run / "checkpoints" / "9" / part, how)
    capfd.readouterr()
    with pytest.raises(ValueError, match=r"checkpoints/9 cannot be read \(.*: copy .* move"):
        with Checkpoints(run, CONFIG) as saved:
            saved.restore(state)
    assert not capfd.readouterr().err
    (run / "checkpoints" / "9").rename(run / "9")  # as the message says
    with Checkpoints(run, CONFIG) as saved:
        assert_same(saved.restore(state), at(6, state))


def test_a_run_does_not_go_on_with_another_config(run):
    other = changed("model", base_width=16)
    other = dataclasses.replace(other, train=dataclasses.replace(CONFIG.train, loss="l2"))
    for folder in ("checkpoints", "best"):  # the best model alone tells as well
        with pytest.raises(ValueError) as error:
            Checkpoints(run, other)
        assert f"{folder}/" in str(error.value)
        assert "config.model.base_width: 8 then, 16 now" in str(error.value)
        assert "config.train.loss: 'l1' then, 'l2' now" in str(error.value)
        assert "groups" not in str(error.value)
        shutil.rmtree(run / folder)


def test_what_does_not_touch_the_weights_may_change(run, state):
    other = changed("data", data_dir="elsewhere", num_workers=2)
    train = dataclasses.replace(CONFIG.train, log_every=1, eval_every=2, keep=5)
    video = RwRConfig(penalty=3.0)
    with Checkpoints(run, dataclasses.replace(other, train=train, rwr=video)) as saved:
        assert saved.restore(state).step == 6


def test_a_run_from_before_a_field_goes_on_with_its_default(run, state):
    for file in run.glob("*/*/about/metadata"):
        about = json.loads(file.read_text())
        del about["config"]["model"]["remat"], about["config"]["train"]["spread_target"]
        file.write_text(json.dumps(about))
    with Checkpoints(run, CONFIG) as saved:
        assert saved.restore(state).step == 6
    with pytest.raises(ValueError, match="config.model.remat: False then, True now"):
        Checkpoints(run, changed("model", remat=True))


def lengthened(num_steps, **optimizer):
    """A run of so many steps."""
    config = changed("optimizer", **optimizer)
    return dataclasses.replace(config, train=dataclasses.replace(CONFIG.train, num_steps=num_steps))


def trained_as(run, config):
    """Writes another config into the checkpoints of a run."""
    for file in run.glob("*/*/about/metadata"):
        about = json.loads(file.read_text()) | {"config": to_mapping(config)}
        file.write_text(json.dumps(about))


LENGTHS = {  # of the run that was trained to step 6, with 20 steps in mind
    "constant": ({"decay": "none"}, (30, 6), ()),
    "steps": ({"decay": "step", "decay_at": (4, 25)}, (30, 6), ()),
    "cosine": ({"decay": "cosine"}, (20,), (30, 10)),
    "cosine after warm-up": ({"decay": "cosine", "warmup_steps": 4}, (20,), (30,)),
    "cosine in warm-up": ({"decay": "cosine", "warmup_steps": 8}, (30, 10), ()),
}


@pytest.mark.parametrize("schedule", LENGTHS)
def test_a_run_may_be_made_longer_while_its_rates_so_far_stay_the_same(run, state, schedule):
    optimizer, fine, refused = LENGTHS[schedule]
    trained_as(run, lengthened(20, **optimizer))
    for num_steps in fine:
        with Checkpoints(run, lengthened(num_steps, **optimizer)) as saved:
            assert saved.restore(state).step == 6
    for num_steps in refused:
        with pytest.raises(ValueError, match="checkpoints/6 cannot be continued") as error:
            Checkpoints(run, lengthened(num_steps, **optimizer))
        told = str(error.value)
        assert f"num_steps: 20 then, {num_steps} now" in told and "'cosine'" in told
        assert f"another --workdir and --config.train.start_from={run}" in told


def test_a_run_cannot_end_before_the_step_it_has_reached(run):
    trained_as(run, lengthened(20, decay="none"))
    with pytest.raises(ValueError, match=r"checkpoints/6 is of a later step .* 20 then, 5 now"):
        Checkpoints(run, lengthened(5, decay="none"))


# Where checkpoints lie ----------------------------------------------------------------------------


def test_any_ordinary_name_will_do_for_a_folder(finished, state, tmp_path):
    """Some storage layers take paths for addresses, in which #, % and ? mean something."""
    run = shutil.copytree(finished, tmp_path / "a#b 50%" / "what? %20" / "ä|Ж *" / "run")
    assert load_model(run)[2] == 3
    with Checkpoints(run, CONFIG) as saved:
        assert_same(saved.restore(state), at(6, state))
        saved.save(at(9, state))
    with Checkpoints(run, CONFIG) as saved:
        assert_same(saved.restore(state), at(9, state))


def test_a_folder_that_orbax_would_take_for_a_pattern_is_read_and_not_written(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "[a-c]" / "run")
    assert load_model(run)[2] == 3
    for use in (lambda: Checkpoints(run, CONFIG), lambda: only_run_in(run).__enter__()):
        with pytest.raises(ValueError, match=r"cannot be kept in a path with square brackets"):
            use()


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("a\\b", "a backslash"),
        ("logs:", 'a folder whose name ends in "gs:"'),
        (os.fsdecode(b"a\xff"), "a name that is not UTF-8"),
    ],
)
def test_a_folder_that_would_be_taken_for_another_is_refused(state, tmp_path, name, odd):
    folder = tmp_path / name / "run"
    for use in (
        lambda: Checkpoints(folder, CONFIG),
        lambda: load_model(folder),
        lambda: export_model(folder, 3, state.variables(), CONFIG, {"nme": 3.0}),
        lambda: only_run_in(folder).__enter__(),
    ):
        with pytest.raises(ValueError, match=f"cannot be kept in a path with {odd}: rename"):
            use()
    assert not list(tmp_path.iterdir())


def test_the_home_directory_is_written_as_a_tilde(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "run")
    assert load_model("~/run")[2] == 3
    with only_run_in("~/other"), Checkpoints("~/other", CONFIG):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other"}
    with pytest.raises(ValueError, match="~nobody-of-that-name/run: no home directory"):
        load_model("~nobody-of-that-name/run")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", pathlib.Path("/proc/run")):
        with pytest.raises(OSError, match=f"cannot write to {folder} .*--workdir"):
            with only_run_in(folder):
                raise AssertionError("it can")
    assert (tmp_path / "file").read_text() == "precious"


def test_no_advice_to_delete(run):
    """What cannot be read may be whole all the same."""
    (run / "checkpoints" / "6" / "about" / "metadata").write_text("")
    (run / "best" / "3" / "weights" / "manifest.ocdbt").unlink()
    for use in (lambda: Checkpoints(run, CONFIG), lambda: load_model(run)):
        with pytest.raises(ValueError, match=r"cannot be read .*: copy") as error:
            use()
        assert not re.search("delete|remove", str(error.value).partition("cannot be read")[2])


# Without this package -----------------------------------------------------------------------------

PLAIN = """
import sys
import jax
import numpy as np
import orbax.checkpoint as ocp

assert jax.device_count() == 1
with ocp.StandardCheckpointer() as checkpointer:
    weights = checkpointer.restore(sys.argv[1])
leaves, _ = jax.tree.flatten_with_path(weights)
np.savez(sys.argv[2], **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})
assert "ldeq_jax" not in sys.modules
"""


def test_orbax_alone_reads_an_exported_model_on_one_device(finished, state, tmp_path):
    """The best model of a run and an exported one, both written where there are two devices."""
    export_model(tmp_path / "model", 8, state.variables(), CONFIG, {"nme": 3.0})
    expected, _ = jax.tree.flatten_with_path(jax.device_get(at(8, state).variables()))
    folder, copy = tmp_path / "model" / "8" / "weights", tmp_path / "copy.npz"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", PLAIN, folder, copy]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    with np.load(copy) as found:
        assert len(found.files) == len(expected)
        for path, leaf in expected:
            np.testing.assert_array_equal(found[jax.tree_util.keystr(path)], leaf)
    for weights in (folder, finished / "best" / "3" / "weights"):
        assert "Sharding" not in "".join(f.read_text() for f in weights.glob("_sharding"))


@pytest.mark.parametrize("name", list(zoo.MODELS))
def test_the_lines_of_the_model_cards_read_their_weights(name):
    """In a process with one device, from the root of the repository, as the cards say."""
    card = (zoo.find(name) / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = lines + "\nimport jax\nassert jax.device_count() == 1\n"
    code += "print(sum(leaf.size for leaf in jax.tree.leaves(weights['params'])))"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    _, variables, _ = load_model(name)
    assert int(told.stdout) == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    size = sum(f.stat().st_size for f in zoo.find(name).rglob("*") if f.is_file())
    assert size == pytest.approx(1e6 * zoo.MODELS[name].megabytes, rel=0.05)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("base_width", 16, r"params.map.bottom.conv.bias is \(16,\), not \(24,\)"),
        ("stem_norm", "group", "batch_stats.* not expected"),
        ("num_landmarks", 5, r"params.map.head.* is \(4,\), not \(5,\)"),
        ("colour", "red", "config.model has no field 'colour'"),
    ],
)
def test_weights_that_are_not_those_of_their_config(run, field, value, words):
    file = run / "best" / "3" / "about" / "metadata"
    about = json.loads(file.read_text())
    about["config"]["model"][field] = value
    file.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=f"best/3 .*{words}"):
        load_model(run)
