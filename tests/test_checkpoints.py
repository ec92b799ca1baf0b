"""Checkpoints: read as written, on any devices; damage and mix-ups are told, not trained on."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax import training
from ldeq_jax.checkpoints import Checkpoints, export_model, load_model
from ldeq_jax.config import Config
from ldeq_jax.data import DataConfig
from ldeq_jax.model import ModelConfig
from ldeq_jax.rwr import RwRConfig
from ldeq_jax.training import OptimizerConfig, TrainConfig

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
    mesh = training.make_mesh(2)
    leaves, structure = jax.tree.flatten(create(mesh))
    rng = np.random.default_rng(0)
    leaves = [np.asarray(rng.normal(0, 9, leaf.shape), leaf.dtype) for leaf in leaves]
    state = jax.device_put(jax.tree.unflatten(structure, leaves), training.replicated(mesh))
    return at(0, state)


def create(mesh):
    return training.create_state(CONFIG.model, CONFIG.optimizer, CONFIG.train, mesh)


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
    one = training.make_mesh(2, jax.devices()[1:])
    with Checkpoints(finished, CONFIG) as saved:
        restored = saved.restore(create(one))
    assert {leaf.sharding for leaf in jax.tree.leaves(restored)} == {training.replicated(one)}
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
    export_model(tmp_path / "model", at(8, state), CONFIG, {"nme": 3.0})
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
        export_model(tmp_path / str(step), at(step, state), CONFIG, {"nme": nme})
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


def test_a_directory_without_a_model(tmp_path):
    (tmp_path / "best").mkdir()
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"no model in {directory}"):
            load_model(directory)


def damage(folder, how):
    """Cuts or removes the largest file in a folder."""
    file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
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
    with pytest.raises(ValueError, match=r"checkpoints/9 cannot be read \(.*: delete"):
        with Checkpoints(run, CONFIG) as saved:
            saved.restore(state)
    assert not capfd.readouterr().err
    shutil.rmtree(run / "checkpoints" / "9")  # as the message says
    with Checkpoints(run, CONFIG) as saved:
        assert_same(saved.restore(state), at(6, state))


def test_a_run_does_not_go_on_with_another_config(run):
    other = changed("model", base_width=16)
    other = dataclasses.replace(other, train=dataclasses.replace(CONFIG.train, loss="wing"))
    for folder in ("checkpoints", "best"):  # the best model alone tells as well
        with pytest.raises(ValueError) as error:
            Checkpoints(run, other)
        assert f"{folder}/" in str(error.value)
        assert "config.model.base_width: 8 then, 16 now" in str(error.value)
        assert "config.train.loss: 'l1' then, 'wing' now" in str(error.value)
        assert "groups" not in str(error.value)
        shutil.rmtree(run / folder)


def test_what_does_not_touch_the_weights_may_change(run, state):
    other = changed("data", data_dir="elsewhere", num_workers=2)
    train = dataclasses.replace(CONFIG.train, log_every=1, eval_every=2, keep=5)
    video = RwRConfig(penalty=3.0)
    with Checkpoints(run, dataclasses.replace(other, train=train, rwr=video)) as saved:
        assert saved.restore(state).step == 6


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
