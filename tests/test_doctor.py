"""`ldeq doctor` tells what works from what does not, and looks at all parts whatever one does."""

import configparser
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from commands import ldeq

from ldeq_jax.cli import doctor
from ldeq_jax.cli.main import main
from ldeq_jax.inference import self_test
from ldeq_jax.inference.self_test import Check
from ldeq_jax.media import film_writer, window, writer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def well(monkeypatch):
    """A self-test that passes at once."""
    monkeypatch.setattr(self_test, "run", lambda: [Check("landmarks", True, "0 pixels")])
    monkeypatch.setattr(window, "why_no_window", lambda: "no display")


def test_the_drawn_face_has_the_numbers_that_are_expected(monkeypatch):
    checks = self_test.run()
    assert [(check.name, check.ok) for check in checks] == [("detector", True), ("landmarks", True)]
    face = self_test.drawn_face()
    assert face.shape == (240, 240, 3) and face.dtype == np.uint8
    # What is off is noticed: a face that is elsewhere, or none.
    for other, names in (
        (np.roll(face, 2, axis=1), ["landmarks"]),
        (face * 0, ["detector"]),
    ):
        monkeypatch.setattr(self_test, "drawn_face", lambda other=other: other)
        assert [check.name for check in self_test.run() if not check.ok] == names


def test_all_parts_are_told(well, capsys):
    ldeq("doctor")
    told = capsys.readouterr().out
    for part in ("ldeq_jax 0.", "jax ", "cpu 0", "landmarks: 0 pixels", "no display", "[cuda]"):
        assert part in told, part
    assert "--codec=vp09 (VP9), can be written" in told and told.endswith("needed works\n")
    assert "!" not in told


def test_extras_are_those_of_the_package_and_missing_ones_say_how(well, monkeypatch, capsys):
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    assert set(doctor.EXTRAS) <= set(setup["options.extras_require"])
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "av" else find(name, *more)
    )
    ldeq("doctor")
    told = capsys.readouterr().out
    assert "missing: pip install 'ldeq_jax[video]'" in told and "h264 (" not in told


def test_what_does_not_work_is_marked_and_the_exit_code_is_1(well, monkeypatch, capsys):
    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(self_test, "run", lambda: [Check("landmarks", False, "9 pixels")])
    monkeypatch.setattr(writer, "open_writer", broken)
    monkeypatch.setattr(film_writer, "open_film", broken)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "! landmarks: 9 pixels" in lines and any("[cuda]" in line for line in lines)
    assert "! films, --codec=vp09 (VP9), cannot be written: No space left on device" in [
        line.partition(";")[0] for line in lines
    ]


def test_a_part_that_fails_as_a_whole_is_told_with_the_rest(well, monkeypatch, capsys):
    def fail():
        raise RuntimeError("the device is on fire")

    monkeypatch.setattr(self_test, "run", fail)
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "! RuntimeError('the device is on fire')" in told and "[video]" in told
