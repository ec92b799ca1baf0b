"""The config of a run: the dataclasses that the modules own, in one tree.

A config file is a Python program with a function `get_config()` that changes `default_config()`. Its fields
can be set on the command line: `--config.optimizer.learning_rate=1e-3`.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from ldeq_jax.augment import AugmentConfig
from ldeq_jax.data import DataConfig
from ldeq_jax.model import ModelConfig
from ldeq_jax.schema import LandmarkSchema
from ldeq_jax.training import OptimizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run.

    Attributes:
        model: sizes and solver.
        data: faces, crops, batches.
        augment: how training faces are varied.
        optimizer: optimiser and schedule.
        train: length, loss, intervals.
    """

    model: ModelConfig = ModelConfig(num_landmarks=0)
    data: DataConfig = DataConfig(name="wflw")
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()

    def for_schema(self, schema: LandmarkSchema) -> "Config":
        """This config with the number of landmarks and the schema's name filled in.

        Raises:
            ValueError: the model is set to another number of landmarks.
        """
        if self.model.num_landmarks not in (0, schema.num_landmarks):
            raise ValueError(
                f"model.num_landmarks is {self.model.num_landmarks}, but {schema.name} has "
                f"{schema.num_landmarks}; 0 takes the number from the schema"
            )
        model = dataclasses.replace(self.model, num_landmarks=schema.num_landmarks)
        return dataclasses.replace(
            self, model=model, data=dataclasses.replace(self.data, schema=schema.name)
        )


def default_config() -> ml_collections.ConfigDict:
    """The defaults as a ConfigDict, which refuses unknown fields and values of another type."""
    return to_config_dict(Config())


def to_config_dict(config: Config) -> ml_collections.ConfigDict:
    """A Config as a ConfigDict."""
    return ml_collections.ConfigDict(dataclasses.asdict(config))


def from_mapping(values: Mapping[str, Any]) -> Config:
    """A Config of nested mappings, such as a ConfigDict or parsed JSON; absent fields get their defaults.

    Raises:
        ValueError: an unknown field, or a value that a module refuses; the message names the field.
    """
    return _build(Config, values, "config")


def to_mapping(config: Config) -> dict[str, Any]:
    """A Config as nested dicts that JSON can hold."""
    return dataclasses.asdict(config)


def _build(kind, values, path):
    if not isinstance(values, Mapping | ml_collections.ConfigDict):
        raise ValueError(f"{path} must hold the fields of {kind.__name__}, not {values!r}")
    types = typing.get_type_hints(kind)
    fields = {}
    for name in values:
        if name not in types:
            raise ValueError(f"{path} has no field {name!r}; it has {', '.join(types)}")
        value = values[name]
        if dataclasses.is_dataclass(types[name]):
            value = _build(types[name], value, f"{path}.{name}")
        elif isinstance(value, list):  # JSON has no tuples
            value = tuple(value)
        fields[name] = value
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
