"""The package's modules import downwards only; data sets use its media and errors alone."""

import ast
import pathlib
import subprocess
import sys

import pytest

import ldeq_jax

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "ldeq_jax"

# From the bottom up; every module stands in one layer. A module imports from the layers below its
# own, and from the modules named before it in its own.
LAYERS = (
    (
        "errors",
        "media.files",
        "media.pictures",
        "media.video",
        "solver",
        "heatmap",
        "winograd",
        "convolution",
        "hourglass",
        "geometry",
        "schema",
        "losses",
        "metrics",
        "filters",
        "records",
        "hosts",
        "paths",
    ),
    ("model",),
    ("augment", "data", "videos", "training", "rwr", "released"),
    ("config",),
    (
        "checkpoints",
        "convert",
        "report",
        "video_report",
        "inference",
        "video_inference",
        "video_evaluation",
        "video_comparison",
        "tracking",
        "export",
    ),
    ("__init__",),
)
ORDER = [module for layer in LAYERS for module in layer]
ALLOWED = {
    module: {other for below in LAYERS[:level] for other in below} | set(layer[:place])
    for level, layer in enumerate(LAYERS)
    for place, module in enumerate(layer)
}
MODULES = {path.stem: path for path in sorted((ROOT / PACKAGE).glob("*.py"))} | {
    f"media.{path.stem}": path
    for path in sorted((ROOT / PACKAGE / "media").glob("*.py"))
    if path.stem != "__init__"
}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


def imports(path):
    """Dotted names a file imports, at any depth of its code; `from a import b` gives a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [PACKAGE] if node.level else []
            parts = base + ([node.module] if node.module else [])
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def roots(path):
    """Top-level packages a file imports."""
    return {name.partition(".")[0] for name in imports(path)}


def test_every_module_stands_in_one_layer():
    assert MODULES
    assert len(ORDER) == len(set(ORDER))
    inner = {path.parent.name for path in (ROOT / PACKAGE).glob("*/*.py")}
    assert inner <= {"media"}, "the package is flat but for media"
    assert set(MODULES) <= set(ORDER), "add the new module to LAYERS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    inside = [name.split(".") for name in imports(MODULES[module]) if name.startswith(PACKAGE)]
    for _, *rest in inside:
        name = ".".join(rest[:2]) if rest[:1] == ["media"] else ".".join(rest[:1])
        assert name in ALLOWED[module], f"{module} imports {'.'.join(rest) or PACKAGE}"


@pytest.mark.parametrize(
    "module",
    ["geometry", "schema", "metrics", "filters", "media.files", "media.pictures", "media.video"],
)
def test_numpy_modules_import_no_jax(module):
    if module in MODULES:
        assert not roots(MODULES[module]) & JAX


def test_nothing_is_imported_that_windows_lacks():
    programs = [*ROOT.glob("*.py"), *(ROOT / "datasets").rglob("*.py")]
    for path in [*programs, *(ROOT / PACKAGE).rglob("*.py")]:
        assert not roots(path) & {"fcntl", "grp", "pwd", "resource", "syslog", "termios"}, path


def test_the_solver_can_be_lifted_out():
    assert roots(MODULES["solver"]) - set(sys.stdlib_module_names) == {"jax"}


def test_errors_need_the_standard_library_alone():
    assert roots(MODULES["errors"]) <= set(sys.stdlib_module_names)


def test_data_sets_use_only_the_media_and_errors_of_the_package():
    folder = ROOT / "datasets"
    names = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    for path in MODULES.values():
        assert not roots(path) & (names | {"datasets"}), path.name
    for path in folder.rglob("*.py"):
        inside = [name for name in imports(path) if name.partition(".")[0] == PACKAGE]
        allowed = (f"{PACKAGE}.media.", f"{PACKAGE}.errors.")
        assert all(name.startswith(allowed) for name in inside), path.name
    assert not (folder / "__init__.py").exists(), "it would shadow the package named datasets"


def test_importing_media_loads_no_jax():
    code = (
        "import sys, ldeq_jax.media; "
        "assert not {'jax', 'flax', 'tensorflow_datasets', 'grain'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ldeq_jax.__all__)
def test_public_names_are_loaded_when_used(name):
    assert name in dir(ldeq_jax)
    assert getattr(ldeq_jax, name) is not None
