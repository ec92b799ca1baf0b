"""The wheel holds the package, and works without the rest of the repository."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("ldeq_jax", "datasets", "tests", "benchmarks", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", f"-w{folder}", folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = (ROOT / "ldeq_jax").rglob("*")
    files = {str(path.relative_to(ROOT)) for path in package if path.is_file()}
    assert inside == {name for name in files if "__pycache__" not in name}


@pytest.mark.slow
def test_an_installed_wheel_finds_landmarks(wheel, tmp_path):
    pip("install", "--no-deps", "--no-index", f"--target={tmp_path / 'site'}", wheel)
    box = json.loads((ROOT / "examples" / "boxes.json").read_text())["portrait_1.jpg"]
    code = f"""
import cv2, ldeq_jax, ldeq_jax.media
predictor = ldeq_jax.Predictor.load("faces-68-stills")
picture = cv2.imread({str(ROOT / "examples" / "portrait_1.jpg")!r})[..., ::-1]
landmarks, spread, info = predictor.faces(picture, [{box}])
x1, y1, x2, y2 = {box}
inside = (landmarks > [x1 - 20, y1 - 20]) & (landmarks < [x2 + 20, y2 + 20])
assert landmarks.shape == (1, 68, 2) and inside.all()
print(ldeq_jax.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "site" / "ldeq_jax" / "__init__.py"
