r"""Evaluates a model on a split of a data set, of stills or of videos.

  ldeq evaluate --checkpoint=runs/small --output=runs/small/eval
  ldeq evaluate --checkpoint=runs/small --dataset=ibug_300w --split=test_helen \
      --output=helen --budgets=1,2,3,5,10

The data set, its split and the crop are those of the training unless flags say otherwise. Errors
are measured in pixels of the original picture, in percent of the distance between the outer eye
corners: NME, FR10 and AUC10, for all faces and for the subset with each attribute of the data set.
Faces whose labels or box have no size are left out and counted. The output directory gets

  report.html   all of it on one page, with faces, which needs no other file and no network
  metrics.json  all numbers, and how they were measured   faces.csv   one line per face
  table.md      the numbers, also printed                 faces.png   best, median and worst faces
  cumulative_error.png  share of faces below each error
  reliability.png  of a calibrated model: how far its probabilities are true
  budgets.png   with --budgets: error and residual for each number of solver steps allowed

in place of those of an earlier evaluation. Other files of these names are not replaced without
--overwrite. --solver, --max_steps and --tol try another solver or budget than the trained one.

On a data set of videos it compares ways to keep landmarks steady: each frame alone, conventional
filters over grids of their parameters, and recurrence (RwR) over a grid of budgets and penalties:

  ldeq evaluate --checkpoint=runs/small --dataset=moving_faces/hard --crop=extent \
      --tuning_split="test_common[:40%]" --split="test_common[40%:]" --output=runs/small/video

For each method, the setting of least flicker whose NME is at most --slack percent above that of the
frames alone is chosen on the tuning videos and measured on the others, also by attribute. Changes
are against the best causal filter of all. Amplitude and lag of mouth, eyes and head show whether
real motion survives. A video counts where the frames alone can be measured; frames whose labels
have no size are left out. The output directory gets report.html (all of it on one page, with the
first 5 seconds of the shown videos, landmarks side by side), table.md, metrics.json, settings.csv
(every setting on both splits), videos.csv (each video), trade_off.png (error against flicker),
flicker/ (over time, of --show) and, with --overlays, overlays/ (whole videos with landmarks, side
by side). See docs/video.md and docs/reports.md.

On several hosts start the same command on each, as with ldeq train, see docs/pods.md: they divide
the faces or videos, and the first host writes the results.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ldeq_jax.errors import UserError, exit_at_once_on_interrupt, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.cli.options import (
    add_host_options,
    add_model,
    budgets,
    count,
    names,
    not_negative,
    numbers,
    parser_of,
    path,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates.

    Args:
        argv: arguments without the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(argv)
    # Imported when the flags are known to be right, so that --help and mistakes take no time.
    with exit_at_once_on_interrupt():
        from absl import logging

        from ldeq_jax import hosts
        from ldeq_jax.data.sources import kind_of
        from ldeq_jax.evaluation.evaluate import evaluate
        from ldeq_jax.evaluation.faces import FaceOptions
        from ldeq_jax.evaluation.settings import recurrence_grid
        from ldeq_jax.evaluation.videos import VideoOptions
        from ldeq_jax.mesh import use_all_cores
        from ldeq_jax.weights import load_model

    logging.set_verbosity(logging.ERROR)  # orbax logs every file that it reads
    with hosts.exit_on_sigterm(), hosts.exit_soon_on_error():
        if not hosts.join(options.distributed, options.host_timeout, preemptible=False):
            use_all_cores()
        config, variables, step = load_model(options.checkpoint)
        config = config.with_values(changes(options))
        given = video_options(options)
        if given and kind_of(config.data.name, config.data.data_dir) == "faces":
            raise UserError(f"--{given[0]} is for videos; {config.data.name} holds pictures")
        grid = recurrence_grid(
            budgets=options.budgets or [0, 1],
            penalties=options.penalties,
            follows=options.follows,
            aligns=options.aligns,
            fusions=options.fusions,
            base=config.rwr,
        )
        evaluate(
            config,
            variables,
            options.output,
            faces=FaceOptions(budgets=options.budgets),
            videos=VideoOptions(
                recurrences=grid,
                tuning_split=options.tuning_split,
                filter_budgets=options.filter_budgets,
                slack=options.slack / 100,
                points=options.points,
                remove_offset=options.remove_offset,
                shown=options.show,
                overlays=options.overlays,
                chunk_frames=options.chunk_frames,
            ),
            about={
                "checkpoint": options.checkpoint,
                "step": step,
                "command": shlex.join(["ldeq", "evaluate", *argv]),
            },
            overwrite=options.overwrite,
        )
    return 0


def video_options(options: argparse.Namespace) -> list[str]:
    """Names of the options of videos that were given."""
    usual = vars(_parser().parse_args(["--checkpoint=", "--output="]))
    return [name for name in VIDEO_OPTIONS if getattr(options, name) != usual[name]]


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of the model's config that the flags change, with their values."""
    import jax

    values = {
        "model.forward.method": options.solver,
        "model.forward.max_steps": options.max_steps,
        "model.forward.tol": options.tol,
        "model.dtype": options.dtype,
        "data.name": options.dataset,
        "data.data_dir": options.data_dir,
        "data.eval_split": options.split,
        "data.crop": options.crop,
        "data.crop_scale": options.crop_scale,
        # A multiple of the devices, so that none of them runs on rows without a face.
        "data.batch_size": -(-options.batch_size // jax.device_count()) * jax.device_count(),
        "data.num_workers": options.num_workers,
        "rwr.weighting": options.weighting,
    }
    return {field: value for field, value in values.items() if value is not None}


VIDEO_OPTIONS = (
    "tuning_split",
    "penalties",
    "follows",
    "aligns",
    "fusions",
    "weighting",
    "filter_budgets",
    "slack",
    "points",
    "remove_offset",
    "show",
    "overlays",
    "chunk_frames",
)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("ldeq evaluate", __doc__)
    add = parser.add_argument
    add_model(parser)
    add("--output", type=path, required=True, help="directory of the results, made when missing")
    add(
        "--overwrite",
        action="store_true",
        help="replace files of the names above even if they are not of an earlier evaluation",
    )
    add("--dataset", help="data set as built, e.g. ibug_300w or wflw/precropped")
    add("--split", help='split or part of one, e.g. test, "test[:100]", "a+b"')
    add("--data_dir", type=path, help="folder of the data sets ($TFDS_DATA_DIR)")
    add(
        "--crop",
        help="crop around the face box (box), the landmarks (landmarks), or the box taken as the "
        "extent of the landmarks (extent), or not at all (none)",
    )
    add("--crop_scale", type=float, help="side of the crop in units of the box or extent")
    add("--solver", help="forward solver: picard, anderson or broyden")
    add("--max_steps", type=count, help="most solver steps for a face")
    add("--tol", type=float, help="the solver stops below this residual; 0 takes every step")
    add("--dtype", help="precision of the convolutions, float32 or bfloat16; the rest is float32")
    add(
        "--budgets",
        type=budgets,
        default=[],
        help="numbers of solver steps, e.g. 1,2,3,5,10, to evaluate and plot as well; on videos "
        "those of RwR in a frame that follows another (0,1), where 0 is one evaluation of the map",
    )
    add("--batch_size", type=count, default=32, help="faces or videos at once (32); for speed only")
    add("--num_workers", type=int, help="processes that load data")

    add = parser.add_argument_group("videos").add_argument
    add("--tuning_split", help="videos on which settings are chosen, other ones than --split")
    add(
        "--penalties",
        type=numbers,
        default="0.5,1,2,4,8,16",
        help="temporal penalties of RwR to try (%(default)s)",
    )
    add(
        "--follows",
        type=numbers,
        default="0.65,0.8,1",
        help="gains of the filter of the face's motion; 1 trusts the new frame (%(default)s)",
    )
    add(
        "--aligns",
        type=names,
        default="none,crop,face",
        help="how RwR moves the state of the last frame (%(default)s)",
    )
    add(
        "--fusions",
        type=names,
        default="arithmetic,geometric",
        help="how RwR holds the state that is moved by the face: mean of heatmaps (arithmetic) or "
        "product of experts (geometric); other alignments try the first (%(default)s)",
    )
    add("--weighting", help="penalty of each landmark: uniform or spread")
    add(
        "--filter_budgets",
        type=budgets,
        default="1",
        help="solver steps with which frames are also solved alone, for causal filters that cost "
        "no more than RwR; nothing for none (%(default)s)",
    )
    add(
        "--slack",
        type=not_negative,
        default=0.5,
        help="percent by which a chosen setting's NME may exceed that of the frames alone "
        "(%(default)s)",
    )
    add(
        "--points",
        type=path,
        help="JSON file with the labelled landmark that each predicted one is compared with, as "
        '{"36": 27, ...}, for labels of another schema; only these count',
    )
    add("--remove_offset", action="store_true", help="subtract each landmark's mean offset")
    add("--show", type=names, default=[], help="names of videos to plot and draw (the first)")
    add("--overlays", action="store_true", help="draw the shown videos with landmarks")
    add("--chunk_frames", type=count, default=32, help="frames on the device at once (32)")
    add_host_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
