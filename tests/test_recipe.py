"""Laws of the ablation of the recipe: its commands, its table, and turned stills."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_head import HEAD, SIZE, face

from benchmarks import recipe
from benchmarks.turned_stills import turned
from ldeq_jax.cli.train import parse
from ldeq_jax.configs import ibug_300w_small
from ldeq_jax.head.fit import fit_head

OPTIONS = argparse.Namespace(
    output=Path("out"), start=Path("start"), data_dir=Path("data"), steps=300
)


@pytest.mark.parametrize("variant", recipe.VARIANTS)
def test_every_variant_is_a_config_and_only_the_long_ones_are_longer(variant):
    words = recipe.command(variant, 7, OPTIONS)
    _, settings = parse(words[words.index("train") + 1 :])
    config = ibug_300w_small.get_config().with_options(settings)
    assert config.train.num_steps == (600 if "twice" in variant else 300)
    assert config.data.seed == 7 and config.train.start_from == "start"
    assert bool(config.train.teacher) == ("taught" in variant)
    assert "," not in variant  # --variants has commas between them


def test_the_table_has_means_over_seeds_and_half_their_range():
    lines = [
        {"variant": "a", "seed": 0, "test": [3.0, 4.0]},
        {"variant": "b", "seed": 0, "test": [5.0, 6.0]},
        {"variant": "a", "seed": 1, "test": [3.5, 4.0]},
    ]
    rows = recipe.table(lines).splitlines()
    assert rows[2:] == ["| a | 2 | 3.25 ± 0.25 | 4.00 ± 0.00 |", "| b | 1 | 5.00 | 6.00 |"]


def test_a_still_turns_as_told_and_none_that_is_turned_already():
    points = face(2, yaw=12)[3]
    picture = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3)).astype(np.uint8)
    _, still = turned(picture, points, np.zeros(2), 45)
    np.testing.assert_allclose(still, points, atol=1e-6)
    for degrees in (-20, 15):
        other, moved = turned(picture, points, np.radians([0, degrees]), 45)
        assert abs(abs(yaw(moved) - yaw(points)) - abs(degrees)) < 6
        assert other.shape == picture.shape
    assert turned(picture, points, np.zeros(2), 8) is None


def yaw(points):
    """Degrees, of the face that is fitted to points."""
    rotation = fit_head(HEAD, points).pose.rotation
    return Rotation.from_matrix(rotation).as_euler("YXZ", degrees=True)[0]
