"""Pretrained models are found by name, and are what their table says."""

import sys

import jax
import numpy as np
import pytest
from test_layers import MODULES, roots

from ldeq_jax import zoo
from ldeq_jax.errors import UserError
from ldeq_jax.weights import load_model


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_name_leads_to_the_model_that_the_table_describes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, config = zoo.MODELS[name], load_model(name)[0]
    assert config.model.num_landmarks == model.num_landmarks
    assert config.model.image_size == model.image_size
    assert config.data.schema == model.schema
    # By name, arrays are read as they are stored; by folder, they are checked against the config.
    named, checked = load_model(name)[1], load_model(zoo.find(name))[1]
    assert jax.tree.structure(named) == jax.tree.structure(checked)
    jax.tree.map(np.testing.assert_array_equal, named, checked)
    assert {leaf.dtype for leaf in jax.tree.leaves(named)} == {np.dtype(np.float32)}
    card = (zoo.find(name) / "README.md").read_text("utf-8")
    assert card.startswith(f"# Model card: {name}\n")
    assert "non-commercial research" in card and "non-commercial research" in model.terms


def test_a_folder_is_itself_and_a_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces-68").mkdir()
    (tmp_path / "mine").mkdir()
    assert zoo.find("faces-68").parent.name == "pretrained"
    for path in ("./faces-68", "mine", tmp_path / "mine", "runs/nothing", "~/run"):
        assert str(zoo.find(path)) == str(path).removeprefix("./")


@pytest.mark.parametrize("find", [zoo.find, load_model])
def test_an_unknown_name_lists_the_known(find, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder faces .* faces-68, faces-68-tiny"):
        find("faces")


def test_the_zoo_needs_the_standard_library_alone():
    assert roots(MODULES["zoo"]) <= {"ldeq_jax", *sys.stdlib_module_names}
