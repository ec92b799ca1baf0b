"""Data sets that were built before and that others are made from."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import tensorflow_datasets as tfds
from problems import Problem


def read_built(folder: Path, features: Set[str], kind: str) -> tfds.core.DatasetBuilder:
    """The data set that was built into a folder.

    Args:
        folder: DATA/NAME/VERSION or DATA/NAME/CONFIG/VERSION.
        features: what its examples must have.
        kind: what these are, "stills" or "videos".

    Raises:
        Problem: there is none, or it is of another kind.
    """
    if not (folder / "dataset_info.json").is_file():
        below = sorted(folder.glob("**/dataset_info.json"))
        hint = f"try {below[-1].parent}" if below else f"build the {kind} first"
        raise Problem(folder, "not a data set that ldeq build wrote", hint)
    built = tfds.builder_from_directory(folder)
    missing = features - set(built.info.features)
    if missing or "schema" not in (built.info.metadata or {}):
        detail = f"it has no {', no '.join(sorted(missing)) or 'schema'}"
        raise Problem(folder, f"not a data set of labelled {kind}", detail)
    return built
