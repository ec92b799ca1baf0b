"""Builds a data set from downloaded files: the command in datasets/build.py, wherever it lies.

The builders are a folder of their own, not modules of the package: TFDS wants each in a folder with
its name. A wheel holds them in `ldeq_jax/builders/`, a checkout in `datasets/`.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.errors import UserFileNotFoundError, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the data set named on the command line.

    Args:
        argv: arguments without the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    folder = str(builders_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("build").main(argv)


def builders_folder() -> Path:
    """The folder of build.py and of the builders.

    Raises:
        UserFileNotFoundError: the package was installed without them.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "builders", package.parent / "datasets"):
        if (folder / "build.py").is_file():
            return folder
    raise UserFileNotFoundError(
        f"no builders of data sets in {package / 'builders'}: install the package again"
    )


if __name__ == "__main__":
    sys.exit(main())
