"""A released PyTorch checkpoint file into a folder of this package, and back.

`interop.released` knows what the tensors and args of such a file mean, `interop.torch_files` reads
and writes it.
"""

import ast
import contextlib
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from ldeq_jax import weights
from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.errors import UserError
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import IBUG_68, WFLW_98, LandmarkSchema, get_schema
from ldeq_jax.interop.args import read_settings, stored_names
from ldeq_jax.interop.released import (
    COUNTER,
    RELEASED_RWR,
    from_released,
    lost_settings,
    to_released,
)
from ldeq_jax.interop.torch_files import read_released, write_released
from ldeq_jax.model.ldeq import LDEQ

_LICENCE = """\
The weights keep their licence: those released with the paper are for non-commercial use, and
converting them changes nothing about that.
"""


def import_file(
    source: Path,
    output: Path,
    *,
    set: Sequence[str] = (),
    dataset: str | None = None,
    crop: Crop | None = None,
    crop_scale: float | None = None,
    schema: str | None = None,
    batch_mean_stop: bool = False,
) -> None:
    """A checkpoint file into a folder; prints what was read, and where from.

    Args:
        source: the file.
        output: folder to write.
        set: args in place of what the file says, as text "NAME=VALUE".
        dataset: data set of the model's config; wflw if None.
        crop: how its faces are cropped; "box" if None.
        crop_scale: side of the crop in units of the box; that of `DataConfig` if None.
        schema: meaning of the landmarks, a name or a .json file; by their number if None.
        batch_mean_stop: stop the solver on the mean residual of a batch, as the released code does.

    Raises:
        UserError: the file cannot be read, or is of another kind of model.
    """
    state_dict, args = read_released(source)
    by_hand = stored_names(dict(_assignment(text) for text in set))
    args = stored_names(args) | by_hand
    settings = read_settings(state_dict, args)
    model, variables = from_released(state_dict, args)
    meaning = _schema(schema, model.config.num_landmarks)
    if batch_mean_stop:
        forward = dataclasses.replace(model.config.forward, batch_mean_stop=True)
        model = LDEQ(dataclasses.replace(model.config, forward=forward))
    final = model.config.forward.final_evaluation
    config = Config(
        model=model.config,
        data=DataConfig(
            name=dataset or "wflw",
            crop=crop or "box",
            crop_scale=crop_scale or DataConfig.crop_scale,
        ),
        rwr=dataclasses.replace(RELEASED_RWR, final_evaluation=final),
    ).for_schema(meaning)
    counters = [int(value) for name, value in state_dict.items() if name.endswith(COUNTER)]
    step = max(counters, default=0)
    weights.export_model(output, step, variables, config, {"nme": math.nan})

    number = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{source}: {len(state_dict)} tensors, {number:,} parameters, {step:,} batches\n")
    for name, setting in settings.items():
        origin = "--set" if name in by_hand else setting.origin
        print(f"  {name:<29} {setting.value!s:<10} {origin}")
    if unused := sorted(args.keys() - settings.keys() - {"heatmap_size"}):
        print(f"\nargs that say nothing of the model: {', '.join(unused)}")
    if args.get("AMP"):
        print(
            "\nthe args say AMP: the model was trained in mixed precision, and runs in float32 here"
        )
    print(f"\nwrote {output}\n{_LICENCE}", end="")


def export_file(source: Path, output: Path, *, args_from: Path | None = None) -> None:
    """A folder into a checkpoint file; prints what such a file cannot say.

    Args:
        source: folder of a model or a training run.
        output: file to write; its folder is made when missing.
        args_from: checkpoint file whose args are kept, but for those that the model says itself.

    Raises:
        UserError: a model or file cannot be read.
    """
    config, variables, step = weights.load_model(source)
    model = LDEQ(config.model)
    state_dict, args = to_released(model, variables, step)
    lost = lost_settings(model, state_dict, args)
    if args_from is not None:
        args = stored_names(read_released(args_from)[1]) | args
    write_released(output, state_dict, args)
    print(f"wrote {output}: {len(state_dict)} tensors")
    if lost:
        print("the args of the released code cannot say:\n  " + "\n  ".join(lost))
    data = config.data
    print(
        "nor how faces are cropped, and how the model is used on video. The way back takes\n"
        f"  --dataset={data.name} --crop={data.crop} --crop_scale={data.crop_scale} "
        f"--schema={data.schema}"
    )
    if config.rwr != RELEASED_RWR:
        print("and on video the settings of the released code, not this model's")
    print(_LICENCE, end="")


def _assignment(text: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; the value as JSON, as Python writes it, or else as text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UserError(f"--set needs NAME=VALUE, not {text!r}")
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            return name, parse(value)
    return name, value


def _schema(name: str | None, num_landmarks: int) -> LandmarkSchema:
    if name is not None:
        return get_schema(name)
    for schema in (WFLW_98, IBUG_68):
        if schema.num_landmarks == num_landmarks:
            return schema
    raise UserError(
        f"the model has {num_landmarks} landmarks; say what they mean with --schema=FILE.json, as "
        "ldeq_jax/face/schema.py explains"
    )
