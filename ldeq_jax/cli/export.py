"""`ldeq export`: a model as StableHLO or ONNX, for programs without this package.

This module reads the arguments; `interop.export` does the work.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.cli.options import add_model, parser_of, path

_DESCRIPTION = """\
Writes a model as programs with explicit state, and a manifest that describes their inputs and
outputs, the crops they take, the landmarks and the face detector, which is written too.

  onnx       first.onnx for a frame that follows none, next.onnx for one that follows another,
             without loops, for onnxruntime and onnxruntime-web
  stablehlo  still and next, for jax.export, each for CPU, CUDA and TPU

Batches may have any size.
"""
_EPILOG = """\
examples:
  ldeq export faces-68 --format=onnx --output=exported
  python examples/onnx_video.py exported film.mp4

Needed: pip install 'ldeq_jax[onnx]' for onnx, 'ldeq_jax[stablehlo]' for stablehlo. The weights keep
their terms; the manifest repeats those of the pretrained models.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exports as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code 0.

    Raises:
        UserError: the model cannot be read or exported, or the output exists.
    """
    options = make_parser().parse_args(argv)

    from ldeq_jax.errors import UserError
    from ldeq_jax.interop.export import export_onnx, export_stablehlo

    output = Path(options.output)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"--output={output} exists already: choose another name")
    write = export_onnx if options.format == "onnx" else export_stablehlo
    for file in write(options.model, output):
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = parser_of("ldeq export", _DESCRIPTION, _EPILOG)
    add_model(parser, "model")
    parser.add_argument("--format", choices=("stablehlo", "onnx"), required=True)
    parser.add_argument(
        "--output", type=path, required=True, metavar="FOLDER", help="folder to write"
    )
    return parser
