"""What is written as JSON can be read by any reader of JSON."""

import json
import pathlib

import numpy as np
import pytest

from ldeq_jax.report import records

ROOT = pathlib.Path(__file__).parents[1]


def strictly(text):
    """Reads JSON, but neither NaN nor Infinity, which Python's own reader takes."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_lacks_are_null_wherever_they_are():
    nan, inf = float("nan"), float("inf")
    value = {
        "a": nan,
        "b": [1.5, (inf, {"c": -inf})],
        "d": np.array([[1, np.nan], [np.inf, 4]]),
        "e": np.float32(np.nan),
    }
    assert strictly(records.to_json(value)) == {
        "a": None,
        "b": [1.5, [None, {"c": None}]],
        "d": [[1, None], [None, 4]],
        "e": None,
    }


def test_everything_else_is_kept():
    value = {"a": 1, "b": [True, None, "text", 0.1], "c": {"d": []}}
    assert strictly(records.to_json(value, indent=1)) == value
    assert records.to_json({"a": [1]}) == '{"a": [1]}'
    numbers = {"n": np.int64(3), "x": np.float32(0.5), "yes": np.True_}
    assert strictly(records.to_json(numbers)) == {"n": 3, "x": 0.5, "yes": True}
    with pytest.raises(TypeError, match="set"):
        records.to_json({"a": {1}})


def test_nothing_writes_json_by_another_way():
    files = [*ROOT.glob("*.py"), *(ROOT / "ldeq_jax").rglob("*.py")]
    files += [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "datasets").rglob("*.py")]
    found = {str(f.relative_to(ROOT)) for f in files if "json.dump" in f.read_text("utf-8")}
    # The others write nothing: one compares in memory, one shows an example.
    assert found == {
        "ldeq_jax/report/records.py",
        "ldeq_jax/training/checkpoints.py",
        "ldeq_jax/face/schema.py",
    }
