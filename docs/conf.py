"""How the documentation is built: `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout

project = "ldeq_jax"
author = "The ldeq_jax authors"
copyright = "2026, the ldeq_jax authors"
release = importlib.metadata.version("ldeq_jax")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "api/modules.rst"]

# Pages of the repository link to files that are no pages of the site.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

apidoc_modules = [
    {
        "path": "../ldeq_jax",
        "destination": "api",
        "exclude_patterns": ["../ldeq_jax/cli/*", "../ldeq_jax/configs/*"],  # help texts
        "separate_modules": True,
        "module_first": True,
        "max_depth": 2,
        "automodule_options": {"members", "show-inheritance"},
    }
]
autodoc_member_order = "bysource"
autodoc_mock_imports = ["onnx"]  # of an extra
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "ignore-module-all": True}
default_role = "code"  # docstrings mark code as Markdown does, by single backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"ldeq_jax {release}"
html_show_sphinx = False
