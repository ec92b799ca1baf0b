"""Points of one's own: the drawn heads, and the tutorial run as it stands on its page."""

import csv
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldeq_jax.face.metrics import nme
from ldeq_jax.face.schema import from_fields

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/own_points.md"
NUM_STEPS = 80  # of training, fewer than on the page

SPEC = importlib.util.spec_from_file_location("drawn_heads", ROOT / "examples/drawn_heads.py")
heads = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(heads)


def test_a_mirrored_head_has_its_points_mirrored():
    schema = from_fields(heads.POINTS)
    person = heads.Person(np.random.default_rng(0))
    person.identity = 0 * person.identity
    still = np.zeros(len(heads.load_head().expression))
    background = np.zeros((64, 64, 3), np.float32)
    drawn = []
    for sign in (1, -1):
        view = np.array([5, 20, 10]) * [1, sign, sign], still, 2.0, np.array([32, 34]), (sign, 0.5)
        drawn.append(heads.draw(person, view, np.array([0, 0, 1.0]), background)[1])
    mirrored = drawn[1] * [-1, 1] + [64, 0]
    # Coordinates of the mesh are rounded, so that its halves differ a little.
    np.testing.assert_allclose(mirrored[list(schema.flip_permutation)], drawn[0], atol=0.05)
    left, right = schema.eye_corners
    assert drawn[0][left][0] < drawn[0][right][0]


def test_pupils_are_dark_where_their_labels_are():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        person, side = heads.Person(rng), 200
        open_eyes = np.zeros(len(heads.load_head().expression))
        view = rng.uniform(-10, 10, 3), open_eyes, side / 24, np.full(2, side / 2), (0.6, 0.2)
        picture, points = heads.draw(
            person, view, np.array([0, 0, 1.0]), np.full((side, side, 3), 255, np.float32)
        )
        for x, y in np.round(points[4:6]).astype(int):
            assert picture[y, x].max() < 20 and picture[y - 8 : y + 8, x - 15 : x + 15].max() > 150


def test_files_are_those_that_the_page_shows(tmp_path):
    heads.main([f"--output={tmp_path}", "--people=2", "--views=2", "--frames=2"])
    text = PAGE.read_text("utf-8")
    shown = re.search(r"^```\n(\{.*?\})\n```", text, re.M | re.S).group(1)
    assert json.loads(shown) == json.loads((tmp_path / "points.json").read_text())
    rows = list(csv.reader((tmp_path / "landmarks.csv").read_text().splitlines()))
    assert len(rows) == 5 and all(len(row) == 25 for row in rows)
    for row, first in zip(rows, ("name", "000_0.jpg", "000_1.jpg"), strict=False):
        start = ",".join(row[:7])
        assert row[0] == first and f"\n{start}, ... ,{row[-2]},{row[-1]}\n" in text


def commands():
    """Words of the page's commands, in order: those on lines of their own."""
    text = re.sub(r"\\\n\s*", " ", PAGE.read_text("utf-8"))
    return [shlex.split(line) for line in re.findall(r"^    ((?:python|ldeq) .*)$", text, re.M)]


@pytest.mark.slow
def test_the_page_leads_to_a_model_that_finds_the_points(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    told = ""
    for program, *words in commands():
        module = ["-m", "ldeq_jax"] if program == "ldeq" else []
        if words[0] == "train":
            words.append(f"--config.train.num_steps={NUM_STEPS}")
        done = subprocess.run(
            [sys.executable, *module, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told += done.stdout
    started = re.search(r"^starting from .*$", told, re.M).group()
    assert f"`{started}`" in PAGE.read_text("utf-8")

    # It is 6.2 % before the first step; from random weights, 13.1 % after all steps of the page.
    metrics = json.loads((tmp_path / "own/test/metrics.json").read_text())
    assert metrics["subsets"]["all"]["nme"] < 4.5
    truth = np.array([points for _, points in heads.film(np.random.default_rng(2), 75)])
    table = list(csv.DictReader((tmp_path / "own/tracked/film.csv").read_text().splitlines()))
    assert {row["face"] for row in table} == {"0"} and len(table) == len(truth)
    found = np.array([[[row[f"{axis}{k}"] for axis in "xy"] for k in range(12)] for row in table])
    assert 100 * nme(found.astype(float), truth, heads.POINTS["eye_corners"]).mean() < 5
    (face,) = json.loads((tmp_path / "own/portrait.json").read_text())["faces"]
    assert np.shape(face["landmarks"]) == (12, 2)
