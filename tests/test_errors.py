"""What the user can fix ends every command with one line; a bug keeps its traceback."""

import ast
import errno
import importlib
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import get_args

import build
import pytest
import sample_faces

from ldeq_jax.cli import convert, main, predict
from ldeq_jax.errors import UserError, UserFileNotFoundError, installation_fault
from ldeq_jax.face.crops import Crop
from ldeq_jax.model import rwr_config

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in (".", "benchmarks", "datasets", "ldeq_jax/cli")
    for path in sorted((ROOT / folder).glob("*.py"))
]
MAIN = ROOT / "ldeq_jax" / "cli" / "main.py"  # which handles errors itself
COMMANDS = [
    path
    for path in SOURCES
    if '\nif __name__ == "__main__":' in path.read_text("utf-8") and path != MAIN
]
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
    assert {"train", "evaluate", "build", "sample_faces", "speed"} <= {
        path.stem for path in COMMANDS
    }


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of a command of `ldeq`."""

    def put(name, function):
        module = types.SimpleNamespace(main=function)
        monkeypatch.setitem(sys.modules, f"ldeq_jax.cli.{name}", module)

    return put


def raising(error):
    def raise_error(_):
        raise error

    return raise_error


@pytest.mark.parametrize("name", main.COMMANDS)
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("the box is empty: give another"), "the box is empty: give another"),
        (UserFileNotFoundError("no file a"), "no file a"),
        (OSError(errno.ENOSPC, "No space left", "a"), "a: No space left; make space, then run"),
        (ImportError(NO_GL, name="cv2"), "OpenCV cannot be loaded"),
    ],
    ids=["user", "missing", "disk", "opencv"],
)
def test_what_the_user_can_fix_is_one_line(command, capsys, name, error, line):
    command(name, raising(error))
    assert main.main([name]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"ldeq {name}: {line}") and told.count("\n") == 1


@pytest.mark.parametrize("name", main.COMMANDS)
@pytest.mark.parametrize(
    "error", [ValueError("shapes differ"), TypeError("x"), OSError("what"), KeyError("x")], ids=repr
)
def test_a_bug_keeps_its_traceback(command, name, error):
    command(name, raising(error))
    with pytest.raises(type(error)) as raised:
        main.main([name])
    assert raised.value is error


@pytest.mark.parametrize("name", main.COMMANDS)
def test_ctrl_c_is_exit_code_130(command, capsys, name):
    command(name, raising(KeyboardInterrupt()))
    assert main.main([name]) == 130
    assert capsys.readouterr().err == f"ldeq {name}: interrupted; no unfinished file is left\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (143, 143)])
def test_a_command_gets_its_arguments_and_says_the_exit_code(command, returned, code):
    got = []
    command("predict", lambda arguments: got.append(arguments) or returned)
    assert main.main(["predict", "--box=1", "--", "-x.png"]) == code
    assert got == [["--box=1", "--", "-x.png"]]


def test_a_word_that_is_no_command_names_those_that_are(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["predcit", "--output=a"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(name in told for name in ("predcit", *main.COMMANDS))


def test_help_and_version_import_the_standard_library_alone():
    code = """
import sys, contextlib, io
from ldeq_jax.cli.main import main
for arguments in (["--help"], ["--version"], [], ["predict", "--help"], ["convert", "--help"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:
        main(arguments)
    assert "ldeq" in told.getvalue()
others = {"numpy", "cv2", "PIL", "jax", "flax", "absl", "tqdm"} & set(sys.modules)
assert not others, others
"""
    code, told = ended(["-c", code])
    assert code == 0, told


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [(predict, "--align", rwr_config.Align), (convert, "--crop", Crop)],
)
def test_options_written_out_for_a_quick_help_are_those_of_the_library(command, option, choices):
    (found,) = [a for a in command.make_parser()._actions if option in a.option_strings]
    assert {*found.choices} == {*get_args(choices)}


def test_python_m_is_the_console_command():
    for module in ("ldeq_jax", "ldeq_jax.cli.main"):
        code, told = ended(["-m", module, "predict", "nowhere.png", "--output=a.png"])
        assert code == 1
        assert told.startswith("ldeq predict: no picture nowhere.png") and told.count("\n") == 1


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
    no_torch = ModuleNotFoundError("No module named 'torch'", name="torch")
    assert "pip install 'ldeq_jax[convert]'" in installation_fault(no_torch)
    assert installation_fault(ModuleNotFoundError("No module named 'x'", name="x")) is None
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


NEEDED = {"speed": "albumentations", "anderson": "jaxopt"}  # which not every machine has


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_reports_a_missing_library(path, without_gl, tmp_path):
    """Before it asks for arguments, or once it has those with which it gets as far as OpenCV."""
    if path.stem in NEEDED:
        pytest.importorskip(NEEDED[path.stem])
    if path.stem in ("convolution", "steadiness"):
        pytest.skip("it needs no OpenCV")
    arguments = {
        "build": ["moving_faces/easy", f"--manual_dir={ROOT / 'examples'}"],
        "evaluate": ["--checkpoint=faces-68", f"--output={tmp_path / 'out'}"],
        "train": ["--config=tiny", f"--workdir={tmp_path / 'run'}"],
    }
    arguments = arguments.get(path.stem, [])
    code, told = ended([*module_or_path(path), *arguments], PYTHONPATH=without_gl)
    assert code == 1
    assert told.startswith(f"{path.name}: OpenCV cannot be loaded ({NO_GL})"), told
    assert told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "train.py --config=tiny --workdir={tmp}/run --config.data.data_dir={tmp}/data",
        "evaluate.py --checkpoint=faces-68-tiny --output={tmp}/out --data_dir={tmp}",
        "-m ldeq_jax predict --output={tmp}/out.png examples/portrait_1.jpg",
        "-m ldeq_jax convert faces-68-tiny --output={tmp}/out.pth.tar",
        "-m benchmarks.convolution",
        "-m benchmarks.memory",
        "-m benchmarks.video --checkpoint=faces-68-tiny",
    ],
)
def test_every_command_reports_a_missing_device(arguments, tmp_path):
    if arguments.startswith("train"):  # which looks at its data first
        sample_faces.main(["--train=8", "--test=4", "--size=64", f"--output={tmp_path / 'faces'}"])
        build.main(
            ["ibug_300w", f"--manual_dir={tmp_path / 'faces'}", f"--data_dir={tmp_path / 'data'}"]
        )
    code, told = ended(arguments.format(tmp=tmp_path).split(), JAX_PLATFORMS="nonsense")
    assert code == 1
    assert "JAX finds no device for JAX_PLATFORMS=nonsense" in told
    assert told.count("\n") == 1, told


@pytest.mark.parametrize("command", ["predict", "train", "evaluate"])
def test_an_interrupt_while_libraries_are_loaded_is_one_line(command, tmp_path):
    """Whatever the libraries would make of it."""
    (tmp_path / "jax.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt as error:\n"
        "    raise ImportError('no extension') from error\n",
        "utf-8",
    )
    options = {
        "predict": ["--output=a.png", "a.jpg"],
        "train": ["--config=tiny", "--workdir=a"],
        "evaluate": ["--checkpoint=a", "--output=b"],
    }
    code, printed = ended(
        ["-m", "ldeq_jax", command, *options[command]], PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert code == 130
    assert printed.strip() == "ldeq: interrupted"
