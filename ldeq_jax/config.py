"""The config of a run: the dataclasses that the modules own, in one tree.

A config file is a Python program with a function `get_config()` that changes `default_config()`.
Its fields can be set on the command line: `--config.optimizer.learning_rate=1e-3`.
"""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from ldeq_jax.augment import AugmentConfig
from ldeq_jax.data import DataConfig
from ldeq_jax.model import ModelConfig
from ldeq_jax.rwr import RwRConfig
from ldeq_jax.schema import KNOWN_SCHEMAS, Contour, LandmarkSchema
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
        rwr: how the trained model is used on video, unless it is told otherwise.
    """

    model: ModelConfig = ModelConfig(num_landmarks=0)
    data: DataConfig = DataConfig(name="wflw")
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    rwr: RwRConfig = RwRConfig()

    def for_schema(self, schema: LandmarkSchema) -> "Config":
        """This config with the number of landmarks and the schema filled in.

        Raises:
            ValueError: the model is set to another number of landmarks.
        """
        if self.model.num_landmarks not in (0, schema.num_landmarks):
            raise ValueError(
                f"model.num_landmarks is {self.model.num_landmarks}, but {schema.name} has "
                f"{schema.num_landmarks}; 0 takes the number from the schema"
            )
        model = dataclasses.replace(self.model, num_landmarks=schema.num_landmarks)
        # A schema of one's own is kept whole: no name leads to it, and its file may move.
        known = schema in KNOWN_SCHEMAS
        data = dataclasses.replace(self.data, schema=schema.name if known else schema)
        return dataclasses.replace(self, model=model, data=data)


def default_config() -> ml_collections.ConfigDict:
    """The defaults as a ConfigDict, for config files; it refuses values of another type."""
    return to_config_dict(Config())


def to_config_dict(config: Config) -> ml_collections.ConfigDict:
    """A Config as a ConfigDict."""
    return ml_collections.ConfigDict(to_mapping(config))


def to_mapping(config: Config) -> dict[str, Any]:
    """A Config as nested dicts that JSON can hold."""
    return dataclasses.asdict(config)


def from_mapping(values: Mapping[str, Any]) -> Config:
    """A Config of nested mappings, such as a ConfigDict or parsed JSON; the rest gets its defaults.

    Raises:
        ValueError: an unknown field, or a value of another type or outside its range; the message
            names the field and what it could be.
    """
    return _convert(Config, values, "config")


def check_field(path: str) -> None:
    """Refuses a path such as "optimizer.learning_rate" that leads to no field of a Config.

    Raises:
        ValueError: no such field; the message names those there are.
    """
    kind, parent = Config, "config"
    for name in path.split("."):
        kind = _field_types(kind, parent, [name])[name]
        parent += f".{name}"


def _field_types(kind, path: str, names: Iterable[str]):
    """The types of a dataclass's fields, after a look whether it has all `names`."""
    hints = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    for name in names:
        if name not in hints:
            raise ValueError(f"{path} has no field {name!r}; it has {', '.join(hints) or 'none'}")
    return hints


def _member(kinds, value, is_nested):
    """The type of a union that a value is meant to be of: the first, if it fits none."""
    for kind in kinds:
        if dataclasses.is_dataclass(kind):
            fits = is_nested
        elif typing.get_origin(kind) is tuple:
            fits = isinstance(value, list | tuple)
        else:
            fits = type(value) is kind
        if fits:
            return kind
    return kinds[0]


def _convert(kind, value, path):
    """A value from a mapping, as its field's type wants it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    is_nested = isinstance(value, Mapping | ml_collections.ConfigDict)
    if origin is types.UnionType:
        if value is None and types.NoneType in arguments:
            return None
        kind = _member(arguments, value, is_nested)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and is_nested:
        hints = _field_types(kind, path, value)
        fields = {name: _convert(hints[name], value[name], f"{path}.{name}") for name in value}
        try:
            return kind(**fields)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{path} must be one of {arguments}, not {value!r}")
        return value
    if isinstance(value, list | tuple):  # JSON turns tuples into lists
        if kind is Contour:
            return Contour(tuple(value[0]), value[1])
        if origin is tuple:
            return tuple(_convert(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        name = "mapping" if dataclasses.is_dataclass(kind) else getattr(kind, "__name__", kind)
        raise ValueError(f"{path} must be of type {name}, not {value!r}")
    return value
