"""The released PyTorch checkpoints into models of this package, and back.

  python -m ldeq_jax.cli.convert final.pth.tar --output=DIR
  python -m ldeq_jax.cli.convert DIR --output=back.pth.tar --args_from=final.pth.tar

A released checkpoint is what `torch.save` makes of a dict with `args`, an `argparse.Namespace`, and
`state_dict`. It becomes a directory that `evaluate.py`, `predict.py` and `train.start_from` take.
Reading and writing such files needs torch, the extra "convert"; `from_released` and `to_released`,
which do the rest, do not.
"""

import argparse
import ast
import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from typing import get_args

import jax

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax import weights, zoo
from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import IBUG_68, WFLW_98, get_schema
from ldeq_jax.interop.released import (
    COUNTER,
    RELEASED_RWR,
    from_released,
    lost_settings,
    read_settings,
    stored_names,
    to_released,
)
from ldeq_jax.interop.torch_files import read_released, write_released
from ldeq_jax.media import files
from ldeq_jax.model.ldeq import LDEQ

__all__ = ["from_released", "main", "read_released", "to_released", "write_released"]

_OF_FILES = ("set", "dataset", "crop", "crop_scale", "schema", "batch_mean_stop")
_OF_MODELS = ("args_from",)
_LICENCE = """\
The weights keep their licence: those released with the paper are for non-commercial use, and
converting them changes nothing about that.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Converts as the command line says; what the user can mend is told in a line."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        options.source = zoo.find(options.source)
        if options.output.exists() and (options.output.is_file() or any(options.output.iterdir())):
            raise ValueError(f"--output={options.output} exists already: choose another name")
        options.output.parent.mkdir(parents=True, exist_ok=True)
        convert, others = (_export, _OF_FILES) if options.source.is_dir() else (_import, _OF_MODELS)
        if misplaced := [name for name in others if getattr(options, name)]:
            kind = "a directory" if options.source.is_dir() else "no directory"
            raise ValueError(f"--{misplaced[0]} is of no use here: {options.source} is {kind}")
        convert(options)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"convert: {error}")


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m ldeq_jax.cli.convert",
        description="Turns a released PyTorch checkpoint (a file) into a model of this package (a "
        "directory), or a model of this package into such a file.",
        epilog=_LICENCE,
    )
    parser.add_argument(
        "source", type=files.expand, help="checkpoint file, or directory of a model or run"
    )
    parser.add_argument(
        "--output", type=files.expand, required=True, help="directory, or file, to write"
    )
    to_ours = parser.add_argument_group("from a file")
    to_ours.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one of the args of the file, in place of what it says; repeat it for more",
    )
    to_ours.add_argument(
        "--dataset",
        help="data set that evaluate.py takes by default: wflw if unset, or wflw/precropped",
    )
    to_ours.add_argument(
        "--crop",
        choices=get_args(Crop),
        help="how its faces are cropped: box if unset; none for crops",
    )
    to_ours.add_argument(
        "--crop_scale",
        type=float,
        help="side of the crop by that of the box or extent: 1.2 if unset",
    )
    to_ours.add_argument(
        "--schema",
        help="meaning of the landmarks, a name or a .json file; by default of their number: 98 is "
        "wflw_98, 68 is ibug_68",
    )
    to_ours.add_argument(
        "--batch_mean_stop",
        action="store_true",
        help="stop the solver on the mean residual of a batch, as the released code does; the "
        "landmarks of a face then depend on the other faces of its batch",
    )
    to_theirs = parser.add_argument_group("from a directory")
    to_theirs.add_argument(
        "--args_from",
        type=files.expand,
        metavar="FILE",
        help="checkpoint file whose args are kept, but for those that the model says itself",
    )
    return parser


def _import(options):
    """File to directory."""
    state_dict, args = read_released(options.source)
    by_hand = stored_names(dict(_assignment(text) for text in options.set))
    args = stored_names(args) | by_hand
    settings = read_settings(state_dict, args)
    model, variables = from_released(state_dict, args)
    schema = _schema(options.schema, model.config.num_landmarks)
    if options.batch_mean_stop:
        forward = dataclasses.replace(model.config.forward, batch_mean_stop=True)
        model = LDEQ(dataclasses.replace(model.config, forward=forward))
    final = model.config.forward.final_evaluation
    config = Config(
        model=model.config,
        data=DataConfig(
            name=options.dataset or "wflw",
            crop=options.crop or "box",
            crop_scale=options.crop_scale or DataConfig.crop_scale,
        ),
        rwr=dataclasses.replace(RELEASED_RWR, final_evaluation=final),
    ).for_schema(schema)
    counters = [int(value) for name, value in state_dict.items() if name.endswith(COUNTER)]
    step = max(counters, default=0)
    weights.export_model(options.output, step, variables, config, {"nme": math.nan})

    number = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{options.source}: {len(state_dict)} tensors, {number:,} parameters, {step:,} batches\n")
    for name, setting in settings.items():
        origin = "--set" if name in by_hand else setting.origin
        print(f"  {name:<29} {setting.value!s:<10} {origin}")
    if unused := sorted(args.keys() - settings.keys() - {"heatmap_size"}):
        print(f"\nargs that say nothing of the model: {', '.join(unused)}")
    if args.get("AMP"):
        print(
            "\nthe args say AMP: the model was trained in mixed precision, and runs in float32 here"
        )
    print(f"\nwrote {options.output}\n{_LICENCE}", end="")


def _export(options):
    """Directory to file."""
    config, variables, step = weights.load_model(options.source)
    model = LDEQ(config.model)
    state_dict, args = to_released(model, variables, step)
    lost = lost_settings(model, state_dict, args)
    if options.args_from is not None:
        args = stored_names(read_released(options.args_from)[1]) | args
    write_released(options.output, state_dict, args)
    print(f"wrote {options.output}: {len(state_dict)} tensors")
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


def _assignment(text):
    """Name and value of NAME=VALUE; the value as JSON, as Python writes it, or else as text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"--set needs NAME=VALUE, not {text!r}")
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            return name, parse(value)
    return name, value


def _schema(name, num_landmarks):
    if name is not None:
        return get_schema(name)
    for schema in (WFLW_98, IBUG_68):
        if schema.num_landmarks == num_landmarks:
            return schema
    raise ValueError(
        f"the model has {num_landmarks} landmarks; say what they mean with --schema=FILE.json, as "
        "ldeq_jax/face/schema.py explains"
    )


if __name__ == "__main__":
    main()
