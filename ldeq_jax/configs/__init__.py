"""Configs of training runs, by name, and how a config file of your own is read.

Each module here says in its docstring what to type, what it costs and what it reaches. A config is
a function `get_config()` that returns a `ldeq_jax.Config`; a file of your own may start from one of
these:

    from ldeq_jax.configs import ibug_300w_small

    def get_config():
        return ibug_300w_small.get_config().with_values({"train.num_steps": 2000})
"""

import importlib
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.media.files import expand

if TYPE_CHECKING:
    from ldeq_jax.config import Config


def names() -> list[str]:
    """The names of the configs that come with the package."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load(name_or_path: str) -> "Config":
    """The config of a name in `names()`, or of a Python file.

    Args:
        name_or_path: a name such as "tiny", which comes before a file of that name, or a path.
            "configs/tiny.py" means the name "tiny" where there is no such file.

    Raises:
        UserFileNotFoundError: there is no such config.
        UserError: the file has no function `get_config` that returns a Config, is not valid
            Python, imports what there is not, or a value in it is wrong.
    """
    from ldeq_jax.config import Config  # not above: `names` is quick, as --help needs it

    path = expand(name_or_path)
    is_former_path = path.parent.name == "configs" and path.suffix == ".py" and not path.exists()
    name = path.stem if is_former_path else name_or_path
    if name in names():
        return importlib.import_module(f"{__name__}.{name}").get_config()
    if not path.is_file():
        raise UserFileNotFoundError(
            f"no config {name_or_path}: give the path of a Python file, or one of these names: "
            f"{', '.join(names())}"
        )
    try:
        config = runpy.run_path(str(path)).get("get_config", lambda: None)()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except ImportError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"{path} must have a function get_config() that returns a ldeq_jax.Config")
    return config
