"""Commands of `ldeq`, run within the process of a test."""

import importlib
import io
from contextlib import redirect_stderr

import pytest

from ldeq_jax.cli.main import main
from ldeq_jax.errors import one_line


def ldeq(*arguments):
    """Runs a command, whose exit code must be 0."""
    told = io.StringIO()
    with redirect_stderr(told):
        code = main([*map(str, arguments)])
    assert code == 0, told.getvalue()


def complaint(name, *arguments):
    """The line that a command prints for an error of the user."""
    command = importlib.import_module(f"ldeq_jax.cli.{name}")
    with pytest.raises(Exception) as raised:
        command.main([*map(str, arguments)])
    line = one_line(raised.value)
    assert line is not None, raised.getrepr()
    return line
