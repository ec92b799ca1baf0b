"""The config: what a file, a command line or JSON may hold, and how mistakes are reported."""

import dataclasses
import json

import pytest

from ldeq_jax import configs, zoo
from ldeq_jax.config import Config, OptimizerConfig, TrainConfig, from_mapping, to_mapping
from ldeq_jax.data.config import DataConfig
from ldeq_jax.deq import Picard
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import FGNET_68, IBUG_68, WFLW_98, Contour, LandmarkSchema, mirror_runs
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.model.rwr import RwRConfig

CHANGED = Config(
    model=ModelConfig(num_landmarks=68, image_size=64, depth=2, stem_norm="group"),
    data=DataConfig(name="ibug_300w", crop="landmarks"),
    optimizer=OptimizerConfig(decay="step", decay_at=(3, 7)),
)


OF_VIDEO = Config(rwr=RwRConfig(budget=1, first_budget=1, penalty=(0.5, 2.0), align="none"))


@pytest.mark.parametrize("config", [Config(), CHANGED, OF_VIDEO])
def test_a_config_survives_every_form_it_takes(config):
    assert from_mapping(json.loads(json.dumps(to_mapping(config)))) == config


def test_a_schema_of_ones_own_survives_json():
    three = LandmarkSchema(
        name="three",
        num_landmarks=3,
        flip_permutation=mirror_runs(3, [0, 2]),
        eye_corners=(0, 2),
        contours=(Contour((0, 1, 2), closed=True),),
    )
    config = Config(data=DataConfig(name="mine", schema=three)).for_schema(three)
    assert config.data.schema == three
    assert from_mapping(json.loads(json.dumps(to_mapping(config)))) == config


def test_absent_fields_get_their_defaults():
    assert from_mapping({}) == Config()
    config = from_mapping({"train": {"num_steps": 7}})
    assert config == dataclasses.replace(Config(), train=TrainConfig(num_steps=7))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("modle", 3, ["config has no field 'modle'", "model, data, augment"]),
        ("optimizer.lr", 1.0, ["config.optimizer has no field 'lr'", "learning_rate"]),
        ("model.forward.steps", 1, ["config.model.forward has no field 'steps'", "max_steps"]),
        (
            "optimizer.learning_rate",
            "1e-3",
            ["config.optimizer.learning_rate must be of type float"],
        ),
        ("train.num_steps", 2.5, ["config.train.num_steps must be of type int", "2.5"]),
        ("train.num_steps", True, ["config.train.num_steps must be of type int", "True"]),
        ("optimizer.decay_at", 3, ["config.optimizer.decay_at must be of type tuple"]),
        ("optimizer.decay_at", [3, "x"], ["config.optimizer.decay_at[1] must be of type int"]),
        ("rwr.first_budget", 1.5, ["config.rwr.first_budget must be of type int", "1.5"]),
        ("rwr.penalty", [1.0, "x"], ["config.rwr.penalty[1] must be of type float"]),
        ("rwr.penalty", -1.0, ["config.rwr: penalty must not be negative"]),
        ("model.readout_offset", 1.0, ["config.model: readout_offset must be in [0, 1)"]),
        ("model.gradient", "exact", ["config.model.gradient must be one of", "one_step"]),
        ("model", 3, ["config.model must be of type mapping"]),
        ("data.schema", 3, ["config.data.schema must be of type str"]),
        ("train.num_steps", 0, ["config.train: num_steps must be at least 1, not 0"]),
        ("train.min_budget", -1, ["config.train: min_budget"]),
        ("optimizer.weight_decay", 0.1, ["config.optimizer: weight_decay needs adamw"]),
        ("optimizer.ema_decay", 1.0, ["config.optimizer: ema_decay must be in [0, 1)"]),
        ("optimizer.clip_at", 0.0, ["config.optimizer: ", "clip_at above 0"]),
    ],
)
def test_a_mistake_is_named_with_what_would_do(path, value, words):
    nested = value
    for name in reversed(path.split(".")):
        nested = {name: nested}
    for read in (lambda: from_mapping(nested), lambda: Config().with_values({path: value})):
        with pytest.raises(UserError) as error:
            read()
        assert all(word in str(error.value) for word in words), error.value


def test_values_are_set_at_the_same_time():
    config = Config().with_values({"optimizer.weight_decay": 0.1, "optimizer.name": "adamw"})
    assert config.optimizer == OptimizerConfig(name="adamw", weight_decay=0.1)
    with pytest.raises(UserError, match="weight_decay needs adamw"):
        config.with_values({"optimizer.name": "adam"})
    assert config.with_values({"train": {"num_steps": 3}}).train == TrainConfig(num_steps=3)
    both = {"train": {"num_steps": 3}, "train.seed": 5}
    assert config.with_values(both).train == TrainConfig(num_steps=3, seed=5)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("train.num_steps=7", 7),
        ("optimizer.learning_rate=1e-3", 1e-3),
        ("optimizer.learning_rate=1", 1.0),
        ("train.shard_params=True", True),
        ("model.remat=false", False),
        ("optimizer.decay=none", "none"),
        ("optimizer.decay_at=(3, 7)", (3, 7)),
        ("optimizer.decay_at=3,7", (3, 7)),
        ("optimizer.decay_at=()", ()),
        ("model.forward.method=broyden", "broyden"),
        ("data.train_split=train[:95%]", "train[:95%]"),
        ("data.also=a:train:.1,b:train[:9%]:.2", ("a:train:.1", "b:train[:9%]:.2")),
        ("data.also=('a:train:.1',)", ("a:train:.1",)),
        ("data.also=", ()),
        ("data.data_dir=a=b", "a=b"),
        ("data.data_dir=12", "12"),
        ("data.schema=nine.json", "nine.json"),
        ("rwr.penalty=2", 2.0),
        ("rwr.penalty=(0.5, 2)", (0.5, 2.0)),
        ("rwr.first_budget=none", None),
        ("rwr.first_budget=3", 3),
    ],
)
def test_a_command_line_sets_fields_of_every_type(option, expected):
    config = Config().with_options([option])
    value = config
    for name in option.partition("=")[0].split("."):
        value = getattr(value, name)
    assert value == expected and type(value) is type(expected)
    values = {option.partition("=")[0]: expected}
    assert config == Config().with_values(values)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("optimizer.lr=1", ["config.optimizer has no field 'lr'", "learning_rate"]),
        ("optimiser.lr=1", ["config has no field 'optimiser'", "optimizer"]),
        ("train.num_steps.more=1", ["config.train.num_steps has no field 'more'; it has none"]),
        ("train.num_steps=2.5", ["config.train.num_steps must be of type int, not 2.5"]),
        ("train.num_steps=many", ["config.train.num_steps must be of type int, not 'many'"]),
        ("train.num_steps=", ["config.train.num_steps must be of type int, not ''"]),
        ("train.num_steps", ["config.train.num_steps needs a value", "=VALUE"]),
        ("train.shard_params=maybe", ["config.train.shard_params must be of type bool"]),
        ("optimizer.decay=linear", ["config.optimizer.decay must be one of", "'cosine'"]),
        ("optimizer.decay_at=(3, x)", ["config.optimizer.decay_at must be of type tuple"]),
        ("model.forward=picard", ["config.model.forward is a section", "method, max_steps"]),
        ("train.num_steps=0", ["config.train: num_steps must be at least 1, not 0"]),
    ],
)
def test_a_mistake_on_the_command_line_is_named_with_what_would_do(option, words):
    with pytest.raises(UserError) as error:
        Config().with_options([option])
    assert all(word in str(error.value) for word in words), error.value


def test_a_method_object_is_accepted_but_not_stored():
    config = Config().with_values({"model.forward.method": Picard()})
    assert config.model.forward.method == Picard()
    with pytest.raises(UserError, match="config.model.forward.method is an object .Picard"):
        to_mapping(config)


def test_whole_numbers_are_floats_as_well():
    for config in (
        Config().with_values({"optimizer.learning_rate": 1}),
        from_mapping({"optimizer": {"learning_rate": 1}}),
    ):
        assert isinstance(config.optimizer.learning_rate, float)


# Config files -------------------------------------------------------------------------------------


def test_a_config_is_found_by_name_or_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = configs.load("tiny")
    assert tiny == configs.load("configs/tiny.py") and tiny.train.num_steps == 400
    file = tmp_path / "configs" / "tiny.py"
    file.parent.mkdir()
    file.write_text(
        "from ldeq_jax.configs import tiny\n"
        "def get_config():\n"
        "    return tiny.get_config().with_values({'train.num_steps': STEPS})\n"
        "STEPS = 7\n"
    )
    for path in ("configs/tiny.py", str(file)):
        assert configs.load(path) == tiny.with_values({"train.num_steps": 7})
    assert configs.load("tiny") == tiny
    assert [path.name for path in file.parent.iterdir()] == ["tiny.py"]


@pytest.mark.parametrize("name", ["tyni", "configs/tyni.py", "tiny.py", "/nowhere/tiny.py"])
def test_an_unknown_config_lists_the_known(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no config {name}: .* ibug_300w_small, .* wflw_v"):
        configs.load(name)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "must have a function get_config"),
        ("def get_config(): return {}", "must have a function get_config"),
        (
            "from ldeq_jax import Config\n"
            "def get_config(): return Config().with_values({'train.steps': 3})",
            "config.train has no field 'steps'; it has num_steps",
        ),
        ("\ndef get_config(:", ", line 2: invalid syntax"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
    ],
)
def test_a_mistake_in_a_config_file_names_the_file(code, words, tmp_path):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(UserError, match=f"{tmp_path}/mine.py.*{words}"):
        configs.load(str(tmp_path / "mine.py"))


def test_the_schema_fills_in_the_number_of_landmarks():
    config = Config().for_schema(WFLW_98)
    assert (config.model.num_landmarks, config.data.schema) == (98, "wflw_98")
    assert config.for_schema(WFLW_98) == config
    with pytest.raises(ValueError, match="num_landmarks is 98, but ibug_68 has 68"):
        config.for_schema(IBUG_68)


def test_the_configs_that_come_along_are_valid():
    # The released recipe: 7,500 faces, batches of 16, 60 epochs, decay at epochs 30 and 50.
    for name, method, temperature, tol in (
        ("wflw", "anderson", 0.3, 1e-4),
        ("wflw_v", "picard", 0.4, 5e-4),
    ):
        config = configs.load(name).for_schema(WFLW_98)
        faces = config.data.batch_size * config.train.num_steps
        assert faces == pytest.approx(60 * 7500, abs=config.data.batch_size)
        assert config.optimizer.decay_at == (
            round(30 * 7500 / config.data.batch_size),
            round(50 * 7500 / config.data.batch_size),
        )
        for solver in (config.model.forward, config.model.backward):
            assert (solver.method, solver.tol, solver.max_steps) == (method, tol, 5)
        assert config.model.temperature == temperature
        assert config.model.gradient == "implicit"
    for name in ("tiny", "ibug_300w_small", "ibug_300w_video"):
        configs.load(name).for_schema(IBUG_68)
    assert configs.load("ibug_300w_video").train.start_from in zoo.MODELS
    fgnet = configs.load("fgnet").for_schema(FGNET_68)
    assert fgnet.train.start_from in zoo.MODELS and fgnet.clip.num_frames == 4
