"""Paths as users write them: `~` is the home directory, also where no shell has replaced it."""

import os
from pathlib import Path

from absl import flags

# `--help` of a command lists the flags that it defines; those that it defines by this module, too.
flags.disclaim_key_flags()


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with the home directory in place of a leading `~` or `~USER`.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: no home directory of that user") from error


def define(name: str, default: str | None, help: str) -> flags.FlagHolder[str | None]:
    """Defines an absl flag whose value is a path, expanded; as a string."""
    return flags.DEFINE(_Parser(), name, default, help)


class _Parser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return str(expand(argument))

    def flag_type(self) -> str:
        return "string"
