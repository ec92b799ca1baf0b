"""Flags of absl whose values are paths, for the commands that are configured by absl."""

from absl import flags

from ldeq_jax.media.files import expand

# `--help` of a command lists the flags that it defines; those defined through this module, too.
flags.disclaim_key_flags()


def define_path(name: str, default: str | None, help: str) -> flags.FlagHolder[str | None]:
    """Defines an absl flag whose value is a path, as a string; `~` is the home directory."""
    return flags.DEFINE(PathParser(), name, default, help)


class PathParser(flags.ArgumentParser):
    """Parses a path."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        """The path, with the home directory in place of `~`."""
        return str(expand(argument))

    def flag_type(self) -> str:
        """What `--help` calls the type."""
        return "string"
