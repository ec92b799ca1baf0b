"""The wheel holds the package, the builders and the models, and works in an empty folder."""

import email
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ldeq_jax
from ldeq_jax import zoo

ROOT = Path(__file__).parents[1]


def pip(*arguments):
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *map(str, arguments)],
        check=True,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy: setuptools leaves a folder beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("ldeq_jax", "datasets", "tests", "benchmarks", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", f"-w{folder}", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Where it is installed, an empty folder, and how Python and `ldeq` run there."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    pip("install", "--no-deps", "--no-index", f"--target={site}", wheel)

    def run(program, *arguments):
        done = subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ldeq(*arguments):
        return run([site / "bin" / "ldeq"], *arguments)

    return site, empty, run, ldeq


def files_of(folder, inside):
    """Names of the files below a folder of the repository, as they lie in the wheel."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {str(inside / path.relative_to(ROOT / folder)) for path in paths}
    return {name for name in names if "__pycache__" not in name}


def test_the_wheel_holds_package_and_builders_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = files_of("ldeq_jax", Path("ldeq_jax"))
    assert inside == package | files_of("datasets", Path("ldeq_jax/builders"))
    models = sum(model.megabytes for model in zoo.MODELS.values())
    assert wheel.stat().st_size < 1e6 * (models + 1.2)


def test_the_wheel_says_who_it_is_and_under_which_terms(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            name.partition(".dist-info/")[2]: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    about = email.message_from_string(texts["METADATA"])
    assert (about["Name"], about["Version"]) == ("ldeq_jax", ldeq_jax.__version__)
    assert "ldeq = ldeq_jax.cli.main:run" in texts["entry_points.txt"]
    assert "Apache License" in texts["licenses/LICENSE"]
    assert "non-commercial research" in texts["licenses/ldeq_jax/pretrained/README.md"]
    assert "Permission is hereby granted" in texts["licenses/ldeq_jax/pretrained/yunet/LICENSE"]
    for name in ("LICENSE.md", "LICENSE_color.md"):
        assert "MIT License" in texts[f"licenses/ldeq_jax/report/chartjs/{name}"]


def test_commands_of_an_installed_wheel_explain_themselves(installed):
    site, _, run, ldeq = installed
    code = "import ldeq_jax; print(ldeq_jax.__file__, ldeq_jax.__version__)"
    expected = f"{site / 'ldeq_jax' / '__init__.py'} {ldeq_jax.__version__}\n"
    assert run(["-c", code]) == expected
    assert "train" in ldeq("--help")
    assert "ibug_300w_small" in ldeq("train", "--help")
    told = ldeq("build", "--help")
    assert "wflw_v/ibug_68" in told and "Expected" not in told


@pytest.mark.slow
def test_an_installed_wheel_builds_trains_and_predicts(installed):
    site, empty, run, ldeq = installed
    ldeq("build", "sample_faces", "--output=faces", "--train=20", "--test=4", "--size=64")
    told = ldeq("build", "ibug_300w", "--manual_dir=faces", "--data_dir=data")
    assert "built: " in told
    changes = "--config.data.data_dir=data", "--config.train.num_steps=2"
    ldeq("train", "--config=tiny", "--contact_sheet=sheet.png", *changes)
    assert (empty / "sheet.png").stat().st_size > 1000
    ldeq("train", "--config=tiny", "--workdir=run", "--config.train.start_from=", *changes)
    assert (empty / "run" / "best" / "2").is_dir()
    box = json.loads((ROOT / "examples" / "boxes.json").read_text())["portrait_1.jpg"]
    code = f"""
import cv2, ldeq_jax
predictor = ldeq_jax.Predictor.load("faces-68")
picture = cv2.imread({str(ROOT / "examples" / "portrait_1.jpg")!r})[..., ::-1]
points = predictor.faces(picture, [{box}]).points
x1, y1, x2, y2 = {box}
inside = (points > [x1 - 20, y1 - 20]) & (points < [x2 + 20, y2 + 20])
assert points.shape == (1, 68, 2) and inside.all()
"""
    run(["-c", code])


@pytest.mark.slow
def test_an_installed_wheel_labels_films_and_shows_them_to_be_judged(installed):
    _, empty, _, ldeq = installed
    film = ROOT / "examples" / "wflw_v" / "videos" / "intel_head_pose_male.mp4"
    members = "--members=faces-68-tiny,faces-68-tiny:mirrored"
    lengths = "--shortest=40", "--longest=62"
    ldeq("label", "--output=set", members, "--tracker=faces-68-tiny", *lengths, film)
    assert "1 window(s)" in ldeq("review", "set")
    page = (empty / "set" / "review.html").read_text("utf-8")
    assert "How to review" in page and "addEventListener" in page and "--paper" in page
    assert {path.suffix for path in (empty / "set" / "review").iterdir()} == {".jpg", ".mp4"}
    [id] = [path.stem for path in (empty / "set" / "videos").iterdir()]
    (empty / "choices.csv").write_text(f"id,choice\n{id},hard\n")
    ldeq("label", "--output=set", "--apply=choices.csv")
    assert (empty / "set" / "hard_video_IDs.txt").read_text().split() == [id]
