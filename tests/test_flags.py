"""Flags whose values are paths."""

import ast
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from ldeq_jax.cli.flags import PathParser

ROOT = pathlib.Path(__file__).parents[1]
OF_PATHS = {"workdir", "contact_sheet", "checkpoint", "output", "data_dir", "points", "boxes"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_flags_are_expanded(home):
    values = flags.FlagValues()
    flags.DEFINE(PathParser(), "place", None, "a place", flag_values=values)
    values(["program", "--place=~/a"])
    assert values.place == f"{home}/a"
    with pytest.raises(flags.IllegalFlagValueError, match="no home directory of that user"):
        values(["program", "--place=~nobody-of-that-name/a"])


def tree_of(command):
    """The module that defines a command's flags, parsed."""
    module = ROOT / "ldeq_jax" / "cli" / f"{command}.py"
    path = module if module.exists() else ROOT / f"{command}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def calls_in(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_of_a_command_lists_its_paths(command):
    script = [sys.executable, ROOT / f"{command}.py", "--help"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    for call in calls_in(tree_of(command)):
        if ast.unparse(call.func) == "define_path":
            assert f"--{call.args[0].value}:" in done.stdout


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_flags_that_are_paths_are_defined_as_paths(command):
    defined = {}
    for call in calls_in(tree_of(command)):
        name = ast.unparse(call.func)
        if name.startswith(("flags.DEFINE", "define_path")):
            defined[call.args[0].value] = name
    assert "define_path" in defined.values()
    wrong = [name for name in OF_PATHS & defined.keys() if defined[name] != "define_path"]
    assert not wrong, f"{command}: --{wrong[0]} is a path: define it with define_path"
