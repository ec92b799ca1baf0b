"""Faults of an installation end every command with one line that says what to do."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import build
import pytest
import sample_faces

from ldeq_jax.errors import installation_fault

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in (".", "benchmarks", "datasets", "ldeq_jax/cli")
    for path in sorted((ROOT / folder).glob("*.py"))
]
COMMANDS = [path for path in SOURCES if '\nif __name__ == "__main__":' in path.read_text("utf-8")]
NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"


def ended(arguments, **environment):
    """Exit code and stderr of a Python process in the repository."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


def module_or_path(path):
    """How Python is told to run a command."""
    if path.parent.name in ("benchmarks", "cli"):
        return ["-m", ".".join(path.relative_to(ROOT).with_suffix("").parts)]
    return [str(path)]


@pytest.fixture(scope="module")
def without_gl(tmp_path_factory):
    """PYTHONPATH of an OpenCV that lacks a library, and of the package."""
    folder = tmp_path_factory.mktemp("without_gl")
    (folder / "cv2.py").write_text(f"raise ImportError({NO_GL!r}, name='cv2')", "utf-8")
    return f"{folder}{os.pathsep}{ROOT}"


def test_the_commands_are_found():
    assert {"train", "evaluate", "predict", "build", "sample_faces", "convert", "speed"} <= {
        path.stem for path in COMMANDS
    }


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_commands_explain_before_they_import_the_rest(path):
    seen = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            seen.append(node.module)
        elif isinstance(node, ast.Import):
            seen += [alias.name for alias in node.names]
        elif isinstance(node, ast.If):
            assert ast.unparse(node) == ("if __name__ == '__main__':\n    show_in_one_line()")
            break
    assert seen[-1] == "ldeq_jax.errors"
    roots = {name.partition(".")[0] for name in seen[:-1]}
    assert not roots & {"cv2", "ldeq_jax/cli", "benchmarks", "albumentations"}


def test_only_a_fault_of_the_installation_is_explained(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    no_tpu = RuntimeError("Unable to initialize backend 'tpu': no libtpu.so\nmore")
    line = installation_fault(no_tpu)
    assert "JAX_PLATFORMS=tpu (Unable to initialize backend 'tpu': no libtpu.so)" in line
    for error in (ValueError("x"), RuntimeError("x"), AssertionError(), ImportError("x")):
        assert installation_fault(error) is None
    assert installation_fault(ModuleNotFoundError("No module named 'torch'", name="torch")) is None
    monkeypatch.delenv("JAX_PLATFORMS")
    assert installation_fault(no_tpu) is None, "nothing was asked for that could be unset"


def test_a_missing_library_of_opencv_is_one_line(without_gl, tmp_path):
    script = str(ROOT / "datasets" / "sample_faces.py")
    code, told = ended([script, f"--output={tmp_path}"], PYTHONPATH=without_gl)
    assert code == 1
    assert told.startswith(f"sample_faces.py: OpenCV cannot be loaded ({NO_GL}). ")
    assert "pip install --no-deps --force-reinstall opencv-python-headless" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_a_missing_device_is_one_line(platform):
    plugins = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}
    if any(importlib.util.find_spec(name) for name in plugins.get(platform, ())):
        pytest.skip(f"this machine may have a {platform}")
    # Within `jit` JAX removes its own frames from the traceback.
    code, told = ended(
        [
            "-c",
            "from ldeq_jax.errors import show_in_one_line as explain; explain();"
            "import jax; jax.jit(lambda x: x + 1)(1)",
        ],
        JAX_PLATFORMS=platform,
    )
    assert code == 1
    assert told.startswith(f"-c: JAX finds no device for JAX_PLATFORMS={platform}")
    assert told.count("\n") == 1, told


def test_other_errors_keep_their_traceback():
    code, told = ended(
        [
            "-c",
            "from ldeq_jax.errors import show_in_one_line as explain; explain();assert False",
        ],
        JAX_PLATFORMS="tpu",
    )
    assert code == 1
    assert told.startswith("Traceback") and told.endswith("AssertionError\n")


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_tells_of_a_missing_library(path, without_gl, tmp_path):
    """Before it asks for arguments, or once it has those with which it gets as far as OpenCV."""
    if path.stem == "speed":
        pytest.importorskip("albumentations")
    arguments = ["moving_faces/easy", f"--manual_dir={ROOT / 'examples'}"]
    arguments = arguments if path.stem == "build" else []
    code, told = ended([*module_or_path(path), *arguments], PYTHONPATH=without_gl)
    assert code == 1
    assert told.startswith(f"{path.name}: OpenCV cannot be loaded ({NO_GL})"), told
    assert told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "train.py --config=tiny --workdir={tmp}/run --config.data.data_dir={tmp}/data",
        "evaluate.py --checkpoint=faces-68-stills --output={tmp}/out --data_dir={tmp}",
        "predict.py --checkpoint=faces-68-stills --output={tmp}/out.png examples/portrait_1.jpg",
        "-m ldeq_jax.cli.convert faces-68-stills --output={tmp}/out.pth.tar",
        "-m benchmarks.convolution",
        "-m benchmarks.memory",
        "-m benchmarks.video --checkpoint=faces-68-stills",
    ],
)
def test_every_command_tells_of_a_missing_device(arguments, tmp_path):
    if arguments.startswith("train"):  # which looks at its data first
        sample_faces.main(["--train=8", "--test=4", "--size=64", f"--output={tmp_path / 'faces'}"])
        build.main(
            ["ibug_300w", f"--manual_dir={tmp_path / 'faces'}", f"--data_dir={tmp_path / 'data'}"]
        )
    code, told = ended(arguments.format(tmp=tmp_path).split(), JAX_PLATFORMS="nonsense")
    assert code == 1
    assert "JAX finds no device for JAX_PLATFORMS=nonsense" in told
    assert told.count("\n") == 1, told
