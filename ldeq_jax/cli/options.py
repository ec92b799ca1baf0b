"""Types of options of the command line, and the options that several commands have.

A type turns a text into a value. For a wrong text it raises an error, which `argparse` prints
before it exits with 2.
"""

import argparse

from ldeq_jax.media.files import expand


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Adds --distributed and --host_timeout, for `hosts.join`."""
    group = parser.add_argument_group("several hosts")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="this process is one of several hosts: of a TPU pod, of a Slurm or Kubernetes job, or "
        "of those that environment variables describe, which imply it; see docs/pods.md",
    )
    group.add_argument(
        "--host_timeout",
        type=int,
        default=60,
        metavar="SECONDS",
        help="a host without a sign of life for that long counts as lost (60)",
    )


def path(text: str) -> str:
    """A path, with the home directory in place of a leading `~`."""
    return str(expand(text))


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return text.split(",")


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"needs numbers such as 0.5,1,2: {error}") from error


def budgets(text: str) -> list[int]:
    """Numbers of solver steps with commas between them, as ascending numbers, each once."""
    parts = text.split(",") if text else []
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise argparse.ArgumentTypeError(
            f"needs whole numbers such as 1,2,3,5,10, not {wrong[0]!r}"
        )
    return sorted({int(part) for part in parts})


def count(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text!r}")
    return int(text)


def natural(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of 0 or more, not {text!r}")
    return int(text)


def not_negative(text: str) -> float:
    """A number of 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of 0 or more, not {text!r}")
    return number
