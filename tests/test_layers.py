"""The package's modules import downwards only; data sets use what needs no model."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

import ldeq_jax

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "ldeq_jax"

# From the bottom up: a folder, or a module beside the folders, imports from those named before it
# and, within a folder, from its neighbours, without a circle.
FLOORS = (
    "errors",
    "hosts",
    "mesh",
    "deq",
    "media",
    "face",
    "head",
    "model",
    "data",
    "report",
    "fields",
    "config",
    "configs",
    "zoo",
    "weights",
    "inference",
    "labelling",
    "interop",
    "training",
    "evaluation",
    "cli",
    "__main__",
    "__init__",
)
MODULES = {
    ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
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


def imported_modules(module):
    """Modules of the package that one of them imports, in dots below the package."""
    for name in imports(MODULES[module]):
        _, *rest = name.split(".") if name.startswith(f"{PACKAGE}.") else [""]
        while rest and ".".join(rest) not in MODULES:
            rest.pop()
        if rest:
            yield ".".join(rest)


def test_every_module_is_on_a_floor():
    assert {module.partition(".")[0] for module in MODULES} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    floor = module.partition(".")[0]
    for other in imported_modules(module):
        below = FLOORS[: FLOORS.index(floor)]
        assert other.partition(".")[0] in (*below, floor), f"{module} imports {other}"


def test_no_modules_import_each_other():
    graph = {module: set(imported_modules(module)) - {module} for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.startswith(("face.", "head.", "media."))]
)
def test_numpy_modules_import_no_jax(module):
    assert not roots(MODULES[module]) & JAX


def test_nothing_is_imported_that_windows_lacks():
    programs = [*ROOT.glob("*.py"), *(ROOT / "datasets").rglob("*.py")]
    for path in [*programs, *(ROOT / PACKAGE).rglob("*.py")]:
        assert not roots(path) & {"fcntl", "grp", "pwd", "resource", "syslog", "termios"}, path


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("deq.")])
def test_deq_needs_jax_alone(module):
    allowed = {"jax", PACKAGE, *sys.stdlib_module_names}
    assert roots(MODULES[module]) <= allowed
    assert all(other.startswith("deq") for other in imported_modules(module))


def test_importing_deq_loads_jax_alone():
    others = "cv2", "flax", "grain", "optax", "orbax", "tensorflow_datasets"
    code = f"import sys, ldeq_jax.deq; assert not set({others!r}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_training_loads_no_pytorch():
    code = "import sys, ldeq_jax.training.loop; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_errors_need_the_standard_library_alone():
    assert roots(MODULES["errors"]) <= set(sys.stdlib_module_names)


def test_data_sets_use_only_what_needs_no_model():
    folder = ROOT / "datasets"
    names = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    for path in MODULES.values():
        assert not roots(path) & (names | {"datasets"}), path.name
    for path in folder.rglob("*.py"):
        inside = [name for name in imports(path) if name.partition(".")[0] == PACKAGE]
        needs = ("media.", "head.", "errors.", "face.schema.")
        allowed = tuple(f"{PACKAGE}.{name}" for name in needs)
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
