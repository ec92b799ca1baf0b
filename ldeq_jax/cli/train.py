r"""Trains a landmark model.

  ldeq train --config=tiny --workdir=runs/tiny
  ldeq train --config=ibug_300w_small --workdir=runs/small \
      --config.data.data_dir=DATA --config.optimizer.learning_rate=1e-3

Build the data set first: ldeq build --help. --config takes one of the names below or a Python file
of your own, such as

  from ldeq_jax.configs import ibug_300w_small

  def get_config():
      return ibug_300w_small.get_config().with_values({"train.num_steps": 2000})

The working directory gets

  checkpoints/     the latest training states       metrics.jsonl, tensorboard/  the log
  best/            the weights that validated best  config.json, curves.png

Run the same command again to continue after an interruption: it starts from the last checkpoint and
gives what an undisturbed run would have given. Ctrl-C and SIGTERM save a checkpoint first, and a
second one stops at once. A larger train.num_steps extends a run, also a finished one, where the
learning rates so far do not depend on the number of steps (optimizer.decay "step" or "none");
otherwise train.start_from begins a new run with the weights of an old one or of a pretrained model.

To see what the model will be shown, without training:

  ldeq train --config=ibug_300w_small --contact_sheet=sheet.png

All devices of a machine are used. On a TPU pod or a cluster, start the same command with
--distributed on every host, with data and --workdir where all of them see them: docs/pods.md.

Exit codes: 0 the run is complete, 143 stopped by SIGTERM (130 by Ctrl-C) and saved, 134 another
host is gone, 2 unknown or missing flags, 1 any other error.
"""

import argparse
import sys
from collections.abc import Sequence

from ldeq_jax.errors import exit_at_once_on_interrupt, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.cli.options import add_host_options, parser_of, path


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, or draws a contact sheet.

    Args:
        argv: arguments without the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    options, settings = parse(sys.argv[1:] if argv is None else argv)
    # Imported when the flags are known to be right, so that --help and mistakes take no time.
    # A run takes over what Ctrl-C does at its first step.
    with exit_at_once_on_interrupt():
        from absl import logging

        from ldeq_jax import configs, hosts
        from ldeq_jax.mesh import use_all_cores
        from ldeq_jax.training.loop import train
        from ldeq_jax.training.preview import draw_contact_sheet

        logging.set_verbosity(logging.ERROR)  # orbax logs every file that it writes
        with hosts.exit_soon_on_error():
            config = configs.load(options.config).with_options(settings)
            if not hosts.join(options.distributed, options.host_timeout, preemptible=True):
                use_all_cores(config.data.batch_size)
            if options.contact_sheet is not None:
                draw_contact_sheet(config, options.contact_sheet)
                return 0
            stopped_by = train(config, options.workdir)
    return 0 if stopped_by is None else 128 + stopped_by


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and what --config.SECTION.FIELD=VALUE sets, as texts SECTION.FIELD=VALUE."""
    prefix = "--config."
    settings = [text.removeprefix(prefix) for text in argv if text.startswith(prefix)]
    parser = _parser()
    options = parser.parse_args([text for text in argv if not text.startswith(prefix)])
    if options.workdir is None and options.contact_sheet is None:
        parser.error("--workdir is needed to train")
    return options, settings


def _parser() -> argparse.ArgumentParser:
    from ldeq_jax.configs import names

    parser = parser_of("ldeq train", __doc__)
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME",
        help=f"one of {', '.join(names())}, or the path of a config file. Its fields are set by "
        "--config.SECTION.FIELD=VALUE; the sections are model, data, augment, optimizer, train and "
        "rwr, see ldeq_jax/config.py",
    )
    parser.add_argument(
        "--workdir", type=path, metavar="DIR", help="directory of the run, created when missing"
    )
    parser.add_argument(
        "--contact_sheet",
        type=path,
        metavar="PNG",
        help="draw the first augmented training faces to this file and stop",
    )
    add_host_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
