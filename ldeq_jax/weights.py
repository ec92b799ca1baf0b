"""Trained weights on disk: the best ones of a run, or those of a released model."""

import json
import operator
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from jax.experimental import multihost_utils

from ldeq_jax.config import Config, from_mapping, to_mapping
from ldeq_jax.media import files
from ldeq_jax.model.ldeq import variable_shapes


def export_model(
    directory: str | Path, state: Any, config: Config, metrics: dict[str, float]
) -> None:
    """Writes a released model: weights, config and metrics (with "nme"), nothing else.

    The weights are written as plain arrays, whatever devices they are on.

    Raises:
        ValueError: checkpoints cannot be kept in a directory of that name.
    """
    with _best_manager(_folder(directory, to_write=True)) as manager:
        _save_weights(manager, state, to_mapping(config), metrics)


def load_model(directory: str | Path) -> tuple[Config, dict[str, Any], int]:
    """Reads a model: the best of a training run's directory, or a released one.

    Args:
        directory: a run's working directory, or a directory made by `export_model`.

    Returns:
        The config, the variables for `LDEQ.apply` as NumPy arrays, and the step they were taken at.

    Raises:
        FileNotFoundError: there is no such directory, or no model in it.
        ValueError: the model cannot be read: damaged, not finite, of another layout than its config
            says, or in a directory whose name the storage layer misreads.
    """
    root = _folder(directory, to_write=False)
    root = root / "best" if (root / "best").is_dir() else root
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {directory} to read a model from")
    if (step := _best_step(root)) is None:
        raise FileNotFoundError(
            f"no model in {directory}: expected STEP/weights/ in it or in its folder best/. "
            "Pass the --workdir of a training run that has validated at least once"
        )
    about = _read_about(root / str(step))
    try:
        config = from_mapping(about["config"])
    except ValueError as error:
        raise ValueError(f"{root / str(step)} was made by another version: {error}") from error
    weights = _read_arrays(
        root / str(step) / "weights", _shapes(config), "copy or export the model again"
    )
    weights = jax.device_get(weights)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise ValueError(
            f"the weights in {root / str(step)} are not all finite: the file is damaged, or was "
            "written by a run that diverged; copy or export the model again"
        )
    return config, weights, step


def _folder(directory, *, to_write):
    """The absolute path of a directory.

    Raises:
        ValueError: orbax or its storage layer would take the path for another one.
    """
    folder = files.expand(directory).resolve()
    name = f"{folder}".encode(errors="surrogateescape")
    if "\\" in f"{folder}" and os.sep == "/":  # it is read as /
        odd = "a backslash"
    elif "gs:/" in f"{folder}/":  # it is read as the beginning of an address
        odd = 'a folder whose name ends in "gs:"'
    elif name.decode(errors="ignore") != f"{folder}":
        odd = "a name that is not UTF-8"
    elif to_write and re.search(r"\[.*\]", f"{folder}"):  # orbax would look for what it matches
        odd = "square brackets"
    else:
        return folder
    raise ValueError(
        f"{folder}: checkpoints cannot be kept in a path with {odd}: rename the folder"
    )


def _best_manager(directory):
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1,
        best_fn=operator.itemgetter("nme"),
        best_mode="min",
        cleanup_tmp_directories=True,
        multiprocessing_options=_meeting_places("best"),
    )
    return ocp.CheckpointManager(directory, options=options)


def _meeting_places(name):
    """Hosts meet under names: two managers that write at the same time need names of their own."""
    return ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)


def _save_weights(manager, state, config, metrics):
    step = int(state.step)
    if step in manager.all_steps():  # a repeated step, whose rounding made it better by nothing
        return
    manager.save(
        step,
        args=ocp.args.Composite(
            weights=ocp.args.StandardSave(_gathered(state.variables())),
            about=ocp.args.JsonSave({"config": config, "metrics": metrics}),
        ),
        metrics=metrics,
        force=True,  # a run that repeats its last steps may improve on an earlier one than before
    )


def _gathered(tree):
    """Arrays as NumPy arrays: with a sharding beside them, orbax asks readers for those devices."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def _steps(directory):
    """Steps of the complete checkpoints in a directory."""
    if not directory.is_dir():
        return []
    return [int(folder.name) for folder in directory.iterdir() if folder.name.isdecimal()]


def _best_step(directory):
    """A new best stands beside the former one for a moment, or for longer if a kill comes then."""
    return min(_steps(directory), key=lambda step: _nme(directory / str(step)), default=None)


def _nme(directory):
    return _read_about(directory)["metrics"]["nme"]


def _read_about(directory):
    try:
        about = json.loads((directory / "about" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{directory} cannot be read ({_first_line(error)}): copy it here again, or move it to "
            "another place"
        ) from error
    for name in ("forward", "backward"):
        solver = about["config"].get("model", {}).get(name, {})
        # Before ridges had a scale, they were absolute; to the other methods it is all the same.
        scale = "absolute" if solver.get("method") == "anderson" else "trace"
        solver.setdefault("ridge_scale", scale)
    return about


def _read_arrays(directory, target, advice):
    """The arrays in `directory` in the place and structure of `target`."""
    try:
        # Orbax reads all arrays at once and tells of damage in a page for each: look before.
        _read_through(directory)
        handler = ocp.StandardCheckpointHandler()
        if misfits := _misfits(handler.metadata(directory).tree, target):
            raise ValueError(f"arrays other than those of its config: {'; '.join(misfits[:3])}")
        return handler.restore(directory, args=ocp.args.StandardRestore(target))
    except Exception as error:  # orbax and its storage layer raise many kinds
        raise ValueError(
            f"{directory.parent} cannot be read ({_first_line(error)}): {advice}"
        ) from error


def _read_through(directory):
    # The path is a field of its own: in an address, #, % and ? would mean something else.
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory}/"}}
    store = tensorstore.KvStore.open(store).result()
    keys = store.list().result()
    if not keys or not all(store.read(key).result().value for key in keys):
        raise ValueError("files are missing")


def _misfits(stored, target):
    def shapes(tree):
        leaves, _ = jax.tree.flatten_with_path(tree)
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): a.shape for path, a in leaves
        }

    old, new = shapes(stored), shapes(target)
    return [
        f"{name} is {old.get(name, 'missing')}, not {new.get(name, 'expected')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _shapes(config):
    """The variables of a model as shapes on one device, whatever devices they were saved from."""
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda s: s.update(sharding=one), variable_shapes(config.model))


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
