"""`ldeq convert`: released PyTorch checkpoints into models of this package, and back.

This module reads the arguments; `interop.conversion` does the work.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax import zoo
from ldeq_jax.cli.options import parser_of, path

_DESCRIPTION = """\
Turns a released PyTorch checkpoint (a file) into a model of this package (a folder), or a model of
this package into such a file.
"""
_EPILOG = """\
examples:
  ldeq convert final.pth.tar --output=weights/wflw
  ldeq convert weights/wflw --output=back.pth.tar --args_from=final.pth.tar

A released checkpoint is what torch.save makes of a dict with args, an argparse.Namespace, and
state_dict. The folder is a model for every --checkpoint, and for train.start_from. PyTorch is
needed: pip install 'ldeq_jax[convert]'. A name that begins with "-" goes after "--".

The weights keep their licence: those released with the paper are for non-commercial use, and
converting them changes nothing about that.
"""
FROM_FILE = ("set", "dataset", "crop", "crop_scale", "schema", "batch_mean_stop")
FROM_FOLDER = ("args_from",)


def main(argv: Sequence[str] | None = None) -> int:
    """Converts as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code 0.

    Raises:
        UserError: the arguments or a file cannot be used.
    """
    options = make_parser().parse_args(argv)

    from ldeq_jax.errors import UserError, UserFileNotFoundError
    from ldeq_jax.interop.conversion import export_file, import_file

    named = options.source in zoo.MODELS
    source = zoo.find(options.source) if named else Path(options.source)
    output = Path(options.output)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"--output={output} exists already: choose another name")
    if not source.exists():
        raise UserFileNotFoundError(f"there is no file or folder {source}")
    from_folder = source.is_dir()
    useless = FROM_FILE if from_folder else FROM_FOLDER
    if misplaced := [name for name in useless if getattr(options, name)]:
        kind = "a directory" if from_folder else "no directory"
        raise UserError(f"--{misplaced[0]} is of no use here: {source} is {kind}")
    if from_folder:
        export_file(source, output, args_from=options.args_from and Path(options.args_from))
    else:
        import_file(source, output, **{name: getattr(options, name) for name in FROM_FILE})
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments; options are None or empty if not given."""
    parser = parser_of("ldeq convert", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "source",
        type=path,
        metavar="SOURCE",
        help="checkpoint file; or folder of a model or training run, or name of a pretrained model",
    )
    parser.add_argument(
        "--output", type=path, required=True, metavar="PATH", help="folder, or file, to write"
    )
    file = parser.add_argument_group("from a file")
    file.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one of the args of the file, in place of what it says; repeat it for more",
    )
    file.add_argument(
        "--dataset",
        metavar="NAME",
        help="data set that `ldeq evaluate` takes by default: wflw if not given, or "
        "wflw/precropped",
    )
    file.add_argument(
        "--crop",
        choices=("box", "extent", "landmarks", "none"),
        help="how its faces are cropped: box if not given; none for pictures that are crops",
    )
    file.add_argument(
        "--crop_scale",
        type=float,
        metavar="FACTOR",
        help="side of the crop in units of the larger side of the box or extent: 1.2 if not given",
    )
    file.add_argument(
        "--schema",
        metavar="NAME",
        help="meaning of the landmarks, a name or a .json file; if not given, by their number: 98 "
        "is wflw_98, 68 is ibug_68",
    )
    file.add_argument(
        "--batch_mean_stop",
        action="store_true",
        help="stop the solver on the mean residual of a batch, as the released code does; the "
        "landmarks of a face then depend on the other faces of its batch",
    )
    folder = parser.add_argument_group("from a folder")
    folder.add_argument(
        "--args_from",
        type=path,
        metavar="FILE",
        help="checkpoint file whose args are kept, but for those that the model says itself",
    )
    return parser
