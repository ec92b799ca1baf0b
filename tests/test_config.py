"""The config: what a file, a mapping or JSON may hold, and how mistakes in them are told."""

import dataclasses
import json
from pathlib import Path

import ml_collections
import pytest

from ldeq_jax.config import (
    Config,
    OptimizerConfig,
    TrainConfig,
    check_field,
    default_config,
    from_mapping,
    to_config_dict,
    to_mapping,
)
from ldeq_jax.data.config import DataConfig
from ldeq_jax.face.schema import IBUG_68, WFLW_98, Contour, LandmarkSchema, mirror_runs
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.model.rwr import RwRConfig

CONFIGS = Path(__file__).parent.parent / "configs"
CHANGED = Config(
    model=ModelConfig(num_landmarks=68, image_size=64, depth=2, stem_norm="group"),
    data=DataConfig(name="ibug_300w", crop="landmarks"),
    optimizer=OptimizerConfig(decay="step", decay_at=(3, 7)),
)


OF_VIDEO = Config(rwr=RwRConfig(budget=1, first_budget=1, penalty=(0.5, 2.0), align="none"))


@pytest.mark.parametrize("config", [Config(), CHANGED, OF_VIDEO])
def test_a_config_survives_every_form_it_takes(config):
    assert from_mapping(to_config_dict(config)) == config
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
    for name in reversed(path.split(".")):
        value = {name: value}
    for values in (value, ml_collections.ConfigDict(value)):
        with pytest.raises(ValueError) as error:
            from_mapping(values)
        assert all(word in str(error.value) for word in words), error.value


def test_a_field_of_the_command_line_is_looked_up_before_anything_else():
    check_field("optimizer.learning_rate")
    check_field("model.forward.tol")
    for path in ("optimizer.lr", "optimiser.learning_rate", "train.num_steps.more"):
        with pytest.raises(ValueError, match="has no field"):
            check_field(path)


def test_a_config_file_cannot_change_a_type():
    config = default_config()
    config.optimizer.learning_rate = 1  # a whole number is a float as well
    for values in (config, {"optimizer": {"learning_rate": 1}}):
        assert isinstance(from_mapping(values).optimizer.learning_rate, float)
    with pytest.raises(TypeError, match="learning_rate"):
        config.optimizer.learning_rate = "much"


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
        config = from_mapping(load(name)).for_schema(WFLW_98)
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
    for name in ("tiny", "ibug_300w_small"):
        from_mapping(load(name)).for_schema(IBUG_68)


def load(name):
    """What configs/NAME.py says."""
    scope = {}
    file = CONFIGS / f"{name}.py"
    exec(compile(file.read_text(), file, "exec"), scope)
    return scope["get_config"]()
