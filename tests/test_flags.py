"""Flags whose values are paths."""

import importlib

import pytest
from absl import flags

from ldeq_jax.cli.flags import PathParser

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


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_flags_that_are_paths_are_expanded(home, command):
    module = importlib.import_module(f"ldeq_jax.cli.{command}")
    found = {action.dest: action.type for action in module._parser()._actions}
    places = OF_PATHS & found.keys()
    assert len(places) > 1
    assert {str(found[name]("~/a")) for name in places} == {f"{home}/a"}
