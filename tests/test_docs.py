"""The pages speak of what exists: files, flags, fields, names; and their Python runs."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import build
import cv2
import pytest

from ldeq_jax import configs, fields
from ldeq_jax.config import Config

ROOT = Path(__file__).parents[1]
FOLDERS = "benchmarks|datasets|docs|examples|ldeq_jax|tests"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(path for name in FOLDERS.split("|") for path in (ROOT / name).rglob("*.md")),
]
COMMANDS = [
    "ldeq_jax/cli/train.py",
    "ldeq_jax/cli/evaluate.py",
    "ldeq_jax/cli/predict.py",
    "ldeq_jax/cli/track.py",
    "ldeq_jax/cli/label.py",
    "ldeq_jax/cli/review.py",
    "ldeq_jax/cli/live.py",
    "ldeq_jax/cli/doctor.py",
    "ldeq_jax/cli/convert.py",
    "ldeq_jax/cli/calibrate.py",
    "ldeq_jax/cli/export.py",
]
VIDEOS = {"wflw_v", "moving_faces", "degraded_videos"}  # data sets of them
COMMANDS += ["datasets/build.py", "datasets/sample_faces.py"]
COMMANDS += [f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.py"))]
COMMANDS += [f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.py"))]
COMMANDS += [
    "web/export_models.py",
    *(f"web/tests/{name}.py" for name in ("make_golden", "screenshots", "speed")),
]
SAME_AS = {
    ("python", "train.py"): "ldeq_jax/cli/train.py",
    ("ldeq", "build"): "datasets/build.py",
    ("python", "evaluate.py"): "ldeq_jax/cli/evaluate.py",
}
# Texts with commands: the pages, and what a config or a command says of itself.
TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PAGES} | {
    name: ast.get_docstring(ast.parse((ROOT / name).read_text("utf-8"))) or ""
    for name in [*COMMANDS, *(f"ldeq_jax/configs/{name}.py" for name in configs.names())]
}
FLAGS_OF_OTHERS = {
    "--worker",  # of the ssh command of a TPU's cloud
    *("--nodes", "--ntasks-per-node", "--gpus-per-node", "--requeue", "--signal"),  # of Slurm
    "--help",
}

# What a block of Python on a page needs that the page leaves open, as code to run before it; a
# text that starts with # is the reason why the block is not run.
BEFORE = {
    ("datasets/README.md", 0): "# tests/test_dataset_builders.py builds the data, and runs it",
    ("datasets/README.md", 1): "# tests/test_dataset_builders.py builds the data, and runs it",
    ("docs/weights.md", 0): "# needs a released file; tests/test_convert.py makes such files",
}
SLOW = dict.fromkeys(
    [("README.md", 1), ("docs/export.md", 0), ("docs/video.md", 0), ("docs/video.md", 1)],
    pytest.mark.slow,
)


# Functions that define flags of several commands, and where they are.
SHARED = dict.fromkeys(
    ("add_host_options", "add_face_options", "add_device"), "ldeq_jax/cli/options.py"
) | {"training_parser": "benchmarks/ablation.py"}


def flags_of(name, function=None):
    """Flags that a command, or a function, defines in its text; with --no for absl's switches."""
    flags, tree = set(), ast.parse((ROOT / name).read_text("utf-8"))
    if function is not None:
        [tree] = [node for node in tree.body if getattr(node, "name", "") == function]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = getattr(node.func, "attr", getattr(node.func, "id", ""))
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        texts = [text for text in texts if isinstance(text, str)]
        if function.startswith("DEFINE_") and texts:
            flags.add(f"--{texts[0]}")
            if function == "DEFINE_bool":
                flags.add(f"--no{texts[0]}")
        elif function in SHARED:
            flags |= flags_of(SHARED[function], function)
        elif function == "add_model" and not texts:
            flags.add("--checkpoint")
        elif function in ("add_argument", "add"):
            flags |= {text for text in texts if text.startswith("--")}
    return flags


FLAGS = {name: flags_of(name) for name in COMMANDS}
FLAGS["datasets/build.py"] |= flags_of("datasets/faces/faces.py")


def commands(text):
    """Words of each command that a text shows: on a line of its own, or between backticks."""
    text = re.sub(r"\\\\?\n\s*", " ", text)
    start = r"(?:srun |JAX_\w+=\S+ )*(?:python|ldeq|make|pytest|pip)"
    shown = re.findall(rf"^\s*({start} .*)$", text, re.M) + re.findall(rf"`({start} [^`]*)`", text)
    for line in shown:
        for part in re.split(r"&&|;", re.sub(r"\s#.*", "", line).rstrip("& ")):
            words = shlex.split(part)
            while words and (words[0] == "srun" or "=" in words[0]):
                words.pop(0)
            if words:
                yield words


def problems_of(words):
    """What is wrong with a command, as texts."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        return [f"no target {word}" for word in words[1:] if word not in targets]
    if words[0] in ("pip", "pytest"):
        return []
    if words[:3] == ["ldeq", "build", "sample_faces"]:
        words = ["python", "datasets/sample_faces.py", *words[3:]]
    name, arguments = words[1], words[2:]
    if name == "-m":
        name, arguments = f"{words[2].replace('.', '/')}.py", words[3:]
    if f"ldeq_jax/cli/{name}.py" in FLAGS and words[0] == "ldeq":
        name = f"ldeq_jax/cli/{name}.py"
    name = SAME_AS.get((words[0], name), name)
    if name not in FLAGS:
        return [f"no command {name}"]
    problems = []
    for word in arguments:
        flag, _, value = word.partition("=")
        if flag.startswith("--config."):
            try:
                fields.field_type(Config, flag.removeprefix("--config."), "config")
            except ValueError as error:
                problems.append(str(error))
        elif flag == "--config" and value not in configs.names() and value.islower():
            problems.append(f"no config {value}")
        elif flag.startswith("--") and flag not in FLAGS[name] | {"--help"}:
            problems.append(f"{name} has no flag {flag}")
        if flag == "--dataset" or (name == "datasets/build.py" and word == arguments[0]):
            problems += problems_of_data_set(value or word)
    flags = dict(word.partition("=")[::2] for word in arguments)
    of_videos = flags.get("--dataset", "").partition("/")[0] in VIDEOS
    if of_videos and "evaluate" in name and not flags.get("--tuning_split"):
        problems.append("videos are evaluated without --tuning_split")
    return problems


def problems_of_data_set(name):
    folder, _, config = name.partition("/")
    if name[0] == "-" or folder.isupper():
        return []
    if folder not in build.builder_names():
        return [f"no data set {folder}"]
    builder_class = build.load_builder(folder)
    if hasattr(builder_class, "with_options"):  # the user chooses the config's name
        return []
    known = builder_class.builder_configs
    return [f"{folder} has no config {config}"] if config and config not in known else []


@pytest.mark.parametrize("name", TEXTS)
def test_commands_exist_with_their_flags(name):
    found = {" ".join(words): problems_of(words) for words in commands(TEXTS[name])}
    assert not {command: problems for command, problems in found.items() if problems}


def test_wrong_commands_are_found():
    text = (
        "    python train.py --config=tyni --config.data.no=1 \\\n        --wrokdir=x\n"
        "see `make nothing`, or\n\n    JAX_PLATFORMS=cpu ldeq predict --box=1 & wait\n"
        "    python datasets/build.py wflw/none --manual_dir=x  # and so on\n"
        "    python -m ldeq_jax.none\n    python evaluate.py --dataset=none --budgets=0\n"
        "    ldeq train --config=tiny --config.data.no=1\n    ldeq none\n"
        "    ldeq evaluate --dataset=wflw_v/ibug_68 --split=hard\n"
    )
    found = [problems_of(words) for words in commands(text)]
    assert [len(problems) for problems in found] == [3, 0, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_in_the_text_exist(page):
    known = set.union(FLAGS_OF_OTHERS, *FLAGS.values())
    named = re.findall(r"(?<![\w-])--[a-z][a-z_-]*\b(?!\.)", page.read_text("utf-8"))
    assert set(named) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_sections_exist(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, section = target.partition("#")
        if path.startswith(("http", "mailto")):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.M)
            assert section in [
                re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings
            ]
    for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*[\w*/]", text):
        assert any(ROOT.glob(path)) or any(page.parent.glob(path)), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_of_the_package_exist(page):
    for name in re.findall(r"\bldeq_jax(?:\.\w+)+", page.read_text("utf-8")):
        parts = name.split(".")
        place, rest = importlib.import_module("ldeq_jax"), parts[1:]
        while rest:
            known = hasattr(place, rest[0])
            place = (
                getattr(place, rest[0])
                if known
                else importlib.import_module(f"{place.__name__}.{rest[0]}")
            )
            rest = rest[1:]


def blocks():
    """Page, number on the page and code of each block of Python."""
    for page in PAGES:
        found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        for number, code in enumerate(found):
            yield str(page.relative_to(ROOT)), number, code


BLOCKS = [
    pytest.param(*block, id=f"{block[0]}-{block[1]}", marks=SLOW.get(block[:2], ()))
    for block in blocks()
]


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """A working folder with what the repository ships, and a clip of two frames."""
    for name in ("ldeq_jax", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    source = cv2.VideoCapture(str(ROOT / "examples/wflw_v/videos/intel_head_pose_male.mp4"))
    frames = [source.read()[1] for _ in range(2)]
    size = frames[0].shape[1::-1]
    clip = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, size)
    for frame in frames:
        clip.write(frame)
    clip.release()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("page", "number", "code"), BLOCKS)
def test_python_on_the_pages_runs(page, number, code, in_a_folder):
    before = BEFORE.get((page, number), "")
    if before.startswith("#"):
        pytest.skip(before)
    names = {}
    exec(compile(before, page, "exec"), names)
    exec(compile(code, f"{page}, block {number}", "exec"), names)


def test_the_list_of_exceptions_names_blocks():
    assert {*BEFORE, *SLOW} <= {(page, number) for page, number, _ in blocks()}
