"""Types of options of the command line, and the options that several commands have.

A type turns a text into a value. For a wrong text it raises an error, which `argparse` prints
before it exits with 2.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ldeq_jax import zoo
from ldeq_jax.media.files import expand

if TYPE_CHECKING:
    from ldeq_jax.inference.tracker import Limits

SOME_FAILED = 3  # exit code of commands that go on after a film or picture that fails
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}  # as JAX_PLATFORMS names them


def parser_of(
    command: str, description: str | None, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A parser whose help keeps its lines, and that takes no shortened names of options.

    Args:
        command: as it is typed, such as "ldeq track".
        description: above the options.
        epilog: below them.
    """
    return argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_model(
    parser: argparse.ArgumentParser, name: str = "--checkpoint", *, default: str | None = None
) -> None:
    """Adds the option, or the argument, that says which model, as `weights.load_model` takes it.

    Args:
        parser: gets it.
        name: of an option, which is required without a default; or of an argument.
        default: the model if none is given.
    """
    about = (
        f"pretrained model ({', '.join(zoo.MODELS)}), a training run's --workdir, whose best model "
        "is taken, or the folder of a converted or calibrated model"
    )
    if default is not None:
        about += f"; {default} if not given"
    action = parser.add_argument(name, type=path, default=default, metavar="MODEL", help=about)
    action.required = default is None


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


def add_face_options(parser: argparse.ArgumentParser, max_faces: int = 16) -> None:
    """Adds the options that say which faces are tracked, for `inference.tracker.Limits`."""
    faces = parser.add_argument_group("faces")
    faces.add_argument(
        "--max_faces",
        type=count,
        default=max_faces,
        metavar="N",
        help=f"followed at a time ({max_faces})",
    )
    faces.add_argument(
        "--min_size",
        type=not_negative,
        default=12.0,
        metavar="PIXELS",
        help="of a new face, the root of its area (12)",
    )
    faces.add_argument(
        "--min_score",
        type=not_negative,
        default=0.8,
        metavar="SCORE",
        help="of the detector for a new face, 0 to 1 (0.8); 0.6 finds more, and false ones",
    )
    faces.add_argument(
        "--detect_every", type=count, default=5, metavar="N", help="frames between detections (5)"
    )
    faces.add_argument(
        "--keep",
        type=not_negative,
        default=2.0,
        metavar="SECONDS",
        help="a lost face that comes back within that time keeps its id (2)",
    )
    faces.add_argument("--no_cuts", action="store_true", help="ids go on across cuts")


def limits_of(options: argparse.Namespace) -> "Limits":
    """What the options of `add_face_options` say, once JAX may be loaded."""
    from ldeq_jax.inference.tracker import Limits

    return Limits(
        detect_every=options.detect_every,
        min_score=options.min_score,
        min_size=options.min_size,
        max_faces=options.max_faces,
        keep_seconds=options.keep,
        cuts=not options.no_cuts,
    )


def add_device(parser: argparse.ArgumentParser, *, models: str = "the model runs") -> None:
    """Adds --device, for `prepare`."""
    parser.add_argument(
        "--device",
        choices=_PLATFORMS,
        help=f"where {models}; where JAX chooses if not given",
    )


def prepare(device: str | None = None) -> None:
    """Prepares the process of a command, before it loads JAX.

    Args:
        device: of the option of `add_device`; None leaves the choice to JAX.
    """
    if device is not None:
        os.environ["JAX_PLATFORMS"] = _PLATFORMS[device]
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8


def print_failed(command: str, failed: Mapping[str, str], total: int, kind: str = "film") -> None:
    """Says which films or pictures failed, and why.

    Args:
        command: as it is typed.
        failed: reasons by what messages call each film.
        total: number of all.
        kind: what they are.
    """
    print(f"{command}: {len(failed)} of {total} {kind}(s) failed:", file=sys.stderr)
    for source, reason in failed.items():
        named = reason if source in reason else f"{source}: {reason}"
        print(f"  {named}", file=sys.stderr)


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


def rate(text: str) -> float:
    """A number of frames per second."""
    number = not_negative(text)
    if not 0 < number <= 1000:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1000, not {text!r}")
    return number
