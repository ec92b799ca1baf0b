"""`ldeq calibrate`: a model that knows how sure it is.

This module reads the arguments; `evaluation.calibration` does the work.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.cli.options import add_model, parser_of, path

_DESCRIPTION = """\
Calibrates a model: measures on faces that it has not seen what the spread of its heatmaps says, and
writes the same model with the result. From then on everything that the model finds has

  confidence   the probability that there is a face, per face
  probability  that the landmark is within 5 % of the eye distance of where it belongs, per landmark
  deviation    standard deviation of the error of each coordinate, in pixels, per landmark

Train with augment.empty_probability and train.spread_growth above 0, as faces_68_base does: a model
that has seen only faces finds one everywhere, and its spread says little.
"""
_EPILOG = """\
example:
  ldeq calibrate --checkpoint=runs/mine --output=models/mine

ldeq evaluate measures the result on another split: its calibration error, and reliability.png.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrates a model as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code 0.

    Raises:
        UserError: the model or the data set cannot be used, or the output exists.
    """
    options = make_parser().parse_args(argv)

    import dataclasses

    from ldeq_jax.errors import UserError
    from ldeq_jax.evaluation.calibration import calibration_of
    from ldeq_jax.weights import export_model, load_model, model_folder, read_about

    output = Path(options.output)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"--output={output} exists already: choose another name")
    config, variables, step = load_model(options.checkpoint)
    data = config.data
    data = dataclasses.replace(
        data,
        name=options.dataset or data.name,
        data_dir=options.data_dir or data.data_dir,
        eval_split=options.split or data.eval_split,
    )
    found = calibration_of(config, variables, data, options.crops)
    export_model(
        output,
        step,
        variables,
        dataclasses.replace(config, confidence=found),
        read_about(model_folder(options.checkpoint))["metrics"],
    )
    print(
        f"{output}: the median error of a landmark grows with its spread to the power "
        f"{found.power:.2f}; half of the errors lie within a factor {3**found.scatter:.2f} of it. "
        f"A face is as likely as not at a mean spread of {found.face_spread:.3f} of the face size"
    )
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = parser_of("ldeq calibrate", _DESCRIPTION, _EPILOG)
    add_model(parser)
    parser.add_argument(
        "--output", type=path, required=True, metavar="FOLDER", help="the calibrated model"
    )
    parser.add_argument("--dataset", help="data set as built; the training's if not given")
    parser.add_argument(
        "--split", help="faces that the model has not seen; the training's eval_split if not given"
    )
    parser.add_argument("--data_dir", help="folder of the data sets; the training's if not given")
    parser.add_argument(
        "--crops", type=int, default=1600, metavar="N", help="crops to measure on (1600)"
    )
    return parser
