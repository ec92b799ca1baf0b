"""The config of a run: the dataclasses that the modules own, in one tree.

A config file is a Python program with a function `get_config()` that changes `default_config()`.
Its fields can be set on the command line: `--config.optimizer.learning_rate=1e-3`.
"""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import ml_collections

from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.config import DataConfig
from ldeq_jax.face.schema import KNOWN_SCHEMAS, Contour, LandmarkSchema
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.model.losses import LossName
from ldeq_jax.model.rwr import RwRConfig

OptimizerName = Literal["adam", "adamw", "nadam", "radam"]
Decay = Literal["cosine", "step", "none"]
Clip = Literal["value", "norm", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser, learning-rate schedule, clipping and weight average.

    Attributes:
        name: "adam", "adamw", "nadam" or "radam".
        learning_rate: peak learning rate.
        warmup_steps: steps of linear rise; the first step has rate 0.
        decay: "cosine" to 0 over the rest of the run, "step" (times `decay_factor` from each of the
            steps `decay_at` on) or "none".
        decay_at: steps at which "step" decays, counted from the start of the run.
        decay_factor: what it multiplies by.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled decay of matrices and kernels, for "adamw".
        clip: "value" (each element), "norm" (whole gradient) or "none".
        clip_at: the threshold.
        ema_decay: decay of the weight average that is evaluated and exported; 0 keeps none.
    """

    name: OptimizerName = "adam"
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    decay: Decay = "step"
    decay_at: tuple[int, ...] = ()
    decay_factor: float = 0.1
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip: Clip = "value"
    clip_at: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for field, kind in (("name", OptimizerName), ("decay", Decay), ("clip", Clip)):
            if getattr(self, field) not in get_args(kind):
                raise ValueError(
                    f"{field} must be one of {get_args(kind)}, not {getattr(self, field)!r}"
                )
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"weight_decay needs adamw; {self.name} has none")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
        if self.warmup_steps < 0 or self.clip_at <= 0:
            raise ValueError("warmup_steps must be 0 or more, and clip_at above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a run, its loss, and how often things happen.

    Attributes:
        num_steps: optimiser steps.
        loss: "l1", "l2", "smooth_l1" or "wing", on normalised coordinates.
        min_budget: each step draws its solver budget uniformly from min_budget, ...,
            forward.max_steps, so that the map learns to improve a state of any age; 0 always uses
            the largest.
        jacobian_weight: weight of the squared Frobenius norm of df/dz per state element.
        spread_weight: weight of what the heatmaps' spread exceeds `spread_target` by, mean over
            landmarks, in normalised coordinates. The loss of the coordinates alone lets heatmaps be
            broad or have several peaks, which then cannot be moved with a face on video.
        spread_target: spread that costs nothing, in normalised coordinates.
        shard_params: whether the devices divide parameters, their average and the optimiser's
            state among them, which takes less memory of each and more talk between them; if not,
            each has all of it. The results are the same but for rounding.
        start_from: directory of a model whose weights the run starts from; "" starts from random
            ones.
        seed: of the initial weights and of all randomness of a step.
        log_every: steps between lines of the log.
        eval_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        keep: number of latest checkpoints kept; the best is kept besides.
    """

    num_steps: int = 1000
    loss: LossName = "l1"
    min_budget: int = 0
    jacobian_weight: float = 0.0
    spread_weight: float = 0.0
    spread_target: float = 0.03
    shard_params: bool = False
    start_from: str = ""
    seed: int = 0
    log_every: int = 20
    eval_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise ValueError(f"loss must be one of {get_args(LossName)}, not {self.loss!r}")
        for field in ("num_steps", "log_every", "eval_every", "checkpoint_every", "keep"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.min_budget < 0:
            raise ValueError(f"min_budget must be 0 or more, not {self.min_budget}")
        for field in ("jacobian_weight", "spread_weight", "spread_target"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be 0 or more, not {getattr(self, field)}")


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
    if origin in (types.UnionType, typing.Union):  # the latter with a Literal in it
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
