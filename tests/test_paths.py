"""Paths as users write them."""

import ast
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from ldeq_jax import paths

ROOT = pathlib.Path(__file__).parents[1]
OF_PATHS = {"workdir", "contact_sheet", "checkpoint", "output", "data_dir", "points", "boxes"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_is_the_home_directory(home):
    assert paths.expand("~/a b/c") == home / "a b" / "c"
    assert paths.expand("~") == home
    for other in ("a/~/b", "/a~", "/~/a", ""):
        assert paths.expand(other) == pathlib.Path(other)
    with pytest.raises(ValueError, match="~nobody-of-that-name/a: no home directory"):
        paths.expand("~nobody-of-that-name/a")


def test_flags_are_expanded(home):
    values = flags.FlagValues()
    flags.DEFINE(paths._Parser(), "place", None, "a place", flag_values=values)
    values(["program", "--place=~/a"])
    assert values.place == f"{home}/a"
    with pytest.raises(flags.IllegalFlagValueError, match="no home directory of that user"):
        values(["program", "--place=~nobody-of-that-name/a"])


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("train.py", marks=pytest.mark.slow),
        pytest.param("evaluate.py", marks=pytest.mark.slow),
        "predict.py",
    ],
)
def test_help_of_a_script_lists_its_paths(script):
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    tree = ast.parse((ROOT / script).read_text(encoding="utf-8"))
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        if ast.unparse(call.func) == "paths.define":
            assert f"--{call.args[0].value}:" in done.stdout


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "predict.py"])
def test_every_path_among_the_flags_of_a_script_is(script):
    tree = ast.parse((ROOT / script).read_text(encoding="utf-8"))
    defined = {}
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        name = ast.unparse(call.func)
        if name.startswith(("flags.DEFINE", "paths.define")):
            defined[call.args[0].value] = name
    assert "paths.define" in defined.values()
    wrong = [name for name in OF_PATHS & defined.keys() if defined[name] != "paths.define"]
    assert not wrong, f"{script}: --{wrong[0]} is a path: define it with paths.define"
