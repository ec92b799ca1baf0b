"""The console command `ldeq`: picks a command, and turns errors of the user into one line.

Each command is a module `ldeq_jax/cli/NAME.py` with `main(arguments)`, and a line in `COMMANDS`.
The module is imported when its command is given, so `ldeq --help` imports the standard library
alone. `python -m ldeq_jax` is the same command.
"""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from ldeq_jax import __version__
from ldeq_jax.errors import INTERRUPTED, one_line

COMMANDS = {
    "predict": "find the landmarks in a picture or a video, draw them and write them as numbers",
    "track": "find the landmarks of all faces in films, with ids, as tables and drawn",
    "label": "make a set of labelled videos out of films, by several models that agree",
    "review": "look at each window of such a set in a browser, and decide which are good",
    "live": "the same of a camera: in a window, and sent on as JSON",
    "train": "train a model",
    "evaluate": "measure a model on a data set of pictures or videos",
    "calibrate": "find out how sure a trained model may be",
    "build": "prepare a data set from the files of its authors",
    "convert": "turn a released PyTorch checkpoint into a model of this package, or back",
    "export": "write a model as StableHLO or ONNX, to run it without this package",
    "doctor": "say what is installed, whether it works, and what is missing",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the command and its arguments; those of the process when None.

    Returns:
        The exit code: 0 all is done; 1 something is not, and a line says what; 2 the arguments
        cannot be understood; 130 after Ctrl-C. Commands may have others, see their `--help`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in COMMANDS:
        _parser().parse_args(argv or ["--help"])  # which exits
        raise AssertionError(argv)
    name, *arguments = argv
    try:
        return importlib.import_module(f"ldeq_jax.cli.{name}").main(arguments) or 0
    except KeyboardInterrupt:
        print(f"ldeq {name}: interrupted; no unfinished file is left", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if (line := one_line(error)) is None:
            raise
        print(f"ldeq {name}: {line}", file=sys.stderr)
        return 1


def run() -> None:
    """The console command: runs `main`, and ends the process with its exit code."""
    code = main()
    if code == INTERRUPTED:
        # XLA may still be compiling, and would crash while Python tears itself down.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {about}" for name, about in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="ldeq",
        usage="ldeq COMMAND ...\n       ldeq COMMAND --help",
        description=f"Facial landmarks in pictures and videos.\n\ncommands:\n{commands}",
        epilog="for example:\n"
        "  ldeq predict --output=drawn.png photo.jpg\n"
        "  ldeq predict --output=drawn.mp4 clip.mp4\n"
        "  ldeq track --output=tracked clip.mp4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ldeq_jax {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run()
