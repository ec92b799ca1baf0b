"""The config of a run: one tree of the dataclasses that the modules own.

A config file is a Python program with a function `get_config()` that returns a Config, see
`ldeq_jax.configs`. A command line changes its fields: `--config.optimizer.learning_rate=1e-3`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from ldeq_jax import fields
from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.moving import ClipConfig
from ldeq_jax.errors import UserError
from ldeq_jax.face.confidence import ConfidenceConfig
from ldeq_jax.face.schema import KNOWN_SCHEMAS, LandmarkSchema
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.model.losses import LossName
from ldeq_jax.model.rwr import RwRConfig

OptimizerName = Literal["adam", "adamw"]
Decay = Literal["cosine", "step", "none"]
Clipping = Literal["value", "norm", "none"]
FlickerLoss = Literal["mean", "log"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser, learning-rate schedule, clipping and weight average.

    Attributes:
        name: "adam" or "adamw".
        learning_rate: peak learning rate.
        warmup_steps: steps of linear rise; the first step has rate 0.
        decay: "cosine" to 0 over the rest of the run, "step" (times `decay_factor` at each of the
            steps `decay_at`) or "none".
        decay_at: steps at which "step" decays, counted from the start of the run.
        decay_factor: what it multiplies by.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled decay of matrices and kernels, for "adamw".
        clip: "value" (each element), "norm" (whole gradient) or "none".
        clip_at: the threshold.
        ema_decay: decay of the weight average that is evaluated and exported; 0 keeps none.

    Raises:
        UserError: a field is outside its range.
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
    clip: Clipping = "value"
    clip_at: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for field, kind in (("name", OptimizerName), ("decay", Decay), ("clip", Clipping)):
            if getattr(self, field) not in get_args(kind):
                raise UserError(
                    f"{field} must be one of {get_args(kind)}, not {getattr(self, field)!r}"
                )
        if self.weight_decay and self.name != "adamw":
            raise UserError(f"weight_decay needs adamw; {self.name} has no weight decay")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
        if self.warmup_steps < 0 or self.clip_at <= 0:
            raise UserError("warmup_steps must be 0 or more, and clip_at above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a run, its loss, and how often things happen.

    Attributes:
        num_steps: optimiser steps.
        loss: "l1" or "l2", on normalised coordinates.
        min_budget: each step draws its solver budget uniformly from min_budget, ...,
            forward.max_steps, so that the map learns to improve states of early and late
            iterations; 0 always uses the largest budget.
        jacobian_weight: weight of the squared Frobenius norm of df/dz per state element.
        spread_weight: weight of the mean excess of the heatmaps' spread over `spread_target`, in
            normalised coordinates. The loss of the coordinates alone lets heatmaps be
            broad or have several peaks, which then cannot be moved with a face on video.
        spread_target: spread that costs nothing, in normalised coordinates.
        spread_growth: how the wanted spread of a landmark grows with its error, see
            `losses.spread_loss`, so that the spread tells how certain a landmark is; 0 wants every
            heatmap sharp.
        empty_weight: weight of the loss of crops without a face (`augment.empty_probability`),
            whose heatmaps are to be broad, see `losses.empty_loss`; with 0 they do not count.
        flicker_weight: with clips, weight of the change of the error from frame to frame, which is
            what NMF measures.
        flicker_loss: "mean" of that change, in normalised coordinates, or the mean of its "log",
            which counts steady clips as much as clips that flicker.
        penalties: with clips, lowest and highest penalty of recurrence; each step draws one.
        follows: with clips, lowest and highest gain of the face's motion; each step draws one.
        frame_budget: with clips, largest solver budget of a frame that follows another; each step
            draws 0, ..., frame_budget.
        carry: with clips, share of them in which a frame's state is passed to the next; in the
            others each frame is solved alone, as a still.
        carry_gradient: whether the gradient passes from frame to frame with the state.
        shard_params: whether parameters, their average and the optimiser's state are divided among
            the devices, which takes less memory of each and more communication; if not, each device
            holds all of them. The results are the same but for rounding.
        start_from: a model whose weights the run starts from, by its name ("faces-68") or its
            folder; "" starts from random ones. A model of other landmarks will do: each landmark of
            the run begins as the one that the model finds nearest to it in training faces. Layers
            of another shape start from random weights.
        teacher: a trained model, by its name or folder, whose landmarks the run learns in addition
            to the labels (distillation); "" for none. It sees the same varied crops, so it needs
            the same landmarks and size of crops, and it costs its own time in each step.
        teacher_weight: weight of the loss against the teacher's landmarks; that of the labels is 1.
        seed: of the initial weights and of all randomness of a step.
        log_every: steps between lines of the log.
        eval_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        keep: number of latest checkpoints kept; the best model is kept in addition.

    Raises:
        UserError: a field is outside its range.
    """

    num_steps: int = 1000
    loss: LossName = "l1"
    min_budget: int = 0
    jacobian_weight: float = 0.0
    spread_weight: float = 0.0
    spread_target: float = 0.03
    spread_growth: float = 0.0
    empty_weight: float = 0.0
    flicker_weight: float = 0.0
    flicker_loss: FlickerLoss = "mean"
    penalties: tuple[float, ...] = (0.25, 4.0)
    follows: tuple[float, ...] = (0.7, 1.0)
    frame_budget: int = 1
    carry: float = 1.0
    carry_gradient: bool = True
    shard_params: bool = False
    start_from: str = ""
    teacher: str = ""
    teacher_weight: float = 1.0
    seed: int = 0
    log_every: int = 20
    eval_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise UserError(f"loss must be one of {get_args(LossName)}, not {self.loss!r}")
        if self.flicker_loss not in get_args(FlickerLoss):
            raise UserError(
                f"flicker_loss must be one of {get_args(FlickerLoss)}, not {self.flicker_loss!r}"
            )
        if not 0 <= self.carry <= 1:
            raise UserError(f"carry must be in [0, 1], not {self.carry}")
        for field in ("num_steps", "log_every", "eval_every", "checkpoint_every", "keep"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.min_budget < 0:
            raise UserError(f"min_budget must be 0 or more, not {self.min_budget}")
        for field, most in (("penalties", float("inf")), ("follows", 1.0)):
            low, high = getattr(self, field) if len(getattr(self, field)) == 2 else (0, 0)
            if not 0 < low <= high <= most:
                raise ValueError(
                    f"{field} must be the lowest and the highest value, above 0, not "
                    f"{getattr(self, field)}"
                )
        if self.frame_budget < 0:
            raise ValueError(f"frame_budget must be 0 or more, not {self.frame_budget}")
        for field in (
            "jacobian_weight",
            "spread_weight",
            "spread_target",
            "spread_growth",
            "empty_weight",
            "flicker_weight",
            "teacher_weight",
        ):
            if getattr(self, field) < 0:
                raise UserError(f"{field} must be 0 or more, not {getattr(self, field)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run.

    Attributes:
        model: sizes and solver.
        data: faces, crops, batches.
        augment: how training faces are varied.
        clip: how clips are made from training faces, if the model is trained on clips.
        optimizer: optimiser and schedule.
        train: length, loss, intervals.
        rwr: how the trained model is used on video by default.
        confidence: what the spread of the trained model's heatmaps says, from `ldeq calibrate`.
    """

    model: ModelConfig = ModelConfig(num_landmarks=0)
    data: DataConfig = DataConfig(name="wflw")
    augment: AugmentConfig = AugmentConfig()
    clip: ClipConfig = ClipConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    rwr: RwRConfig = RwRConfig()
    confidence: ConfidenceConfig = ConfidenceConfig()

    def for_schema(self, schema: LandmarkSchema) -> "Config":
        """This config with the number of landmarks and the schema filled in.

        Raises:
            UserError: the model is set to another number of landmarks.
        """
        if self.model.num_landmarks not in (0, schema.num_landmarks):
            raise UserError(
                f"model.num_landmarks is {self.model.num_landmarks}, but {schema.name} has "
                f"{schema.num_landmarks}; 0 takes the number from the schema"
            )
        model = dataclasses.replace(self.model, num_landmarks=schema.num_landmarks)
        # A schema that is not known by name is stored whole: its file may move.
        known = schema in KNOWN_SCHEMAS
        data = dataclasses.replace(self.data, schema=schema.name if known else schema)
        return dataclasses.replace(self, model=model, data=data)

    def with_values(self, values: Mapping[str, Any]) -> "Config":
        """This config with other values in some fields, all set at the same time.

        Args:
            values: by dotted names: {"train.num_steps": 400, "optimizer.decay": "cosine"}.

        Raises:
            UserError: an unknown field, or a value of another type or outside its range; the
                message names the field and what it could be.
        """
        return fields.replace(self, values, "config")

    def with_options(self, options: Iterable[str]) -> "Config":
        """This config with what a command line sets: "train.num_steps=400".

        Raises:
            UserError: as from `with_values`, or there is no value.
        """
        values = {}
        for option in options:
            name, equals, text = option.partition("=")
            kind = fields.field_type(Config, name, "config")
            if not equals:
                raise UserError(f"config.{name} needs a value: --config.{name}=VALUE")
            values[name] = fields.parse(kind, text, f"config.{name}")
        return self.with_values(values)


def to_mapping(config: Config) -> dict[str, Any]:
    """A Config as nested dicts that JSON can hold.

    Raises:
        UserError: a solver's method is an object, which JSON cannot hold.
    """
    for name in ("forward", "backward"):
        method = getattr(config.model, name).method
        if not isinstance(method, str):
            raise UserError(
                f"config.model.{name}.method is an object ({type(method).__name__}); a config that "
                "is stored needs the name of a method"
            )
    return dataclasses.asdict(config)


def from_mapping(values: Mapping[str, Any]) -> Config:
    """A Config of nested mappings, such as parsed JSON; absent fields get their defaults.

    Raises:
        UserError: an unknown field, or a value of another type or outside its range; the message
            names the field and what it could be.
    """
    return fields.convert(Config, values, "config")
