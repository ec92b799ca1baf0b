"""Trained weights on disk: writing a model, and reading one by its name or its folder.

A model is a folder `STEP/` with `weights/` (the arrays), `about/` (config and metrics as JSON) and
`metrics/`, written by orbax. The best model of a training run has the same form, in `best/`. The
states that a run resumes from, with optimiser and all, are `training.checkpoints`; it shares the
functions below that read, check and write what orbax stores.
"""

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

from ldeq_jax import zoo
from ldeq_jax.config import Config, from_mapping, to_mapping
from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.media import files
from ldeq_jax.model.ldeq import variable_shapes


def export_model(
    directory: str | Path,
    step: int,
    variables: dict[str, Any],
    config: Config,
    metrics: dict[str, float],
) -> None:
    """Writes a model: weights, config and metrics, nothing else.

    The weights are written as plain arrays, whatever devices they are on.

    Args:
        directory: folder that gets the folder STEP, created when missing.
        step: training steps that the weights have seen.
        variables: of `LDEQ.apply`.
        config: of the model and its training.
        metrics: validation figures; "nme" is required.

    Raises:
        UserError: checkpoints cannot be kept in a directory of that name.
    """
    with best_manager(checkpoint_folder(directory, to_write=True)) as manager:
        save_weights(manager, step, variables, to_mapping(config), metrics)


def load_model(name_or_directory: str | Path) -> tuple[Config, dict[str, Any], int]:
    """Reads a model: a pretrained one by its name, the best of a training run, or an exported one.

    Args:
        name_or_directory: a name in `zoo.MODELS`, a run's working directory, or a directory made by
            `export_model`.

    Returns:
        The config, the variables for `LDEQ.apply` as NumPy arrays, and the step they were taken at.

    Raises:
        UserFileNotFoundError: there is no such directory, or no model in it.
        UserError: there is no such name, or the model cannot be read: damaged, not finite, of
            another layout than its config says, or in a directory whose name the storage layer
            misreads.
    """
    folder = model_folder(name_or_directory)
    about = read_about(folder)
    try:
        config = from_mapping(about["config"])
    except ValueError as error:
        raise UserError(f"{folder} was made by another version: {error}") from error
    # Shapes from the config take .3 s; those of the models in the package are known to be right.
    shapes = None if str(name_or_directory) in zoo.MODELS else _shapes(config)
    weights = read_arrays(folder / "weights", shapes, "copy or export the model again")
    weights = jax.device_get(weights)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise UserError(
            f"the weights in {folder} are not all finite: the file is damaged, or was written by a "
            "run that diverged; copy or export the model again"
        )
    return config, weights, int(folder.name)


def model_folder(name_or_directory: str | Path) -> Path:
    """The folder STEP of a model, named as for `load_model`.

    Raises:
        UserFileNotFoundError: there is no such directory, or no model in it.
        UserError: there is no such name, or the storage layer misreads it.
    """
    root = checkpoint_folder(zoo.find(name_or_directory), to_write=False)
    root = root / "best" if (root / "best").is_dir() else root
    if not root.is_dir():
        raise UserFileNotFoundError(f"there is no folder {name_or_directory} to read a model from")
    step = best_step(root)
    if step is None:
        raise UserFileNotFoundError(
            f"no model in {name_or_directory}: expected STEP/weights/ in it or in its folder "
            "best/. Pass the --workdir of a training run that has validated at least once"
        )
    return root / str(step)


def checkpoint_folder(directory: str | Path, *, to_write: bool) -> Path:
    """The absolute path of a directory of checkpoints, `~` expanded.

    Args:
        directory: it need not exist.
        to_write: whether checkpoints are to be written there, not only read.

    Raises:
        UserError: orbax or its storage layer would take the path for another one.
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
    raise UserError(f"{folder}: checkpoints cannot be kept in a path with {odd}: rename the folder")


def best_manager(directory: Path) -> ocp.CheckpointManager:
    """Orbax's manager of a directory that keeps the model of the lowest NME alone."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1,
        best_fn=operator.itemgetter("nme"),
        best_mode="min",
        cleanup_tmp_directories=True,
        multiprocessing_options=barrier_names("best"),
    )
    return ocp.CheckpointManager(directory, options=options)


def barrier_names(prefix: str) -> ocp.options.MultiprocessingOptions:
    """Names for the barriers at which hosts meet: managers that write at the same time differ."""
    return ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=prefix)


def save_weights(
    manager: ocp.CheckpointManager,
    step: int,
    variables: dict[str, Any],
    config: dict[str, Any],
    metrics: dict[str, float],
) -> None:
    """Starts to write a model in the background; arguments as in `export_model`, config as JSON."""
    if step in manager.all_steps():  # a repeated step, whose rounding made it better by nothing
        return
    manager.save(
        step,
        args=ocp.args.Composite(
            weights=ocp.args.StandardSave(_as_numpy(variables)),
            about=ocp.args.JsonSave({"config": config, "metrics": metrics}),
        ),
        metrics=metrics,
        force=True,  # a run that repeats its last steps may improve on an earlier one than before
    )


def stored_steps(directory: Path) -> list[int]:
    """Steps of the complete checkpoints in a directory; none where there is no directory."""
    if not directory.is_dir():
        return []
    return [int(folder.name) for folder in directory.iterdir() if folder.name.isdecimal()]


def best_step(directory: Path) -> int | None:
    """Step of the lowest NME among the models in a directory, which are usually one.

    A new best model stands beside the former one for a moment, or for longer if a kill comes then.
    """
    return min(
        stored_steps(directory), key=lambda step: stored_nme(directory / str(step)), default=None
    )


def stored_nme(folder: Path) -> float:
    """The validation NME of a model, percent, from its folder STEP."""
    return read_about(folder)["metrics"]["nme"]


def read_about(folder: Path) -> dict[str, Any]:
    """What the folder STEP of a checkpoint says of it: "config" and, of a model, "metrics".

    Raises:
        UserError: the file is damaged or missing.
    """
    try:
        about = json.loads((folder / "about" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} cannot be read ({_first_line(error)}): copy it here again, or move it to "
            "another place"
        ) from error
    for name in ("forward", "backward"):
        solver = about["config"].get("model", {}).get(name, {})
        # Before ridges had a scale, they were absolute; the other methods have no ridge.
        scale = "absolute" if solver.get("method") == "anderson" else "trace"
        solver.setdefault("ridge_scale", scale)
    return about


def read_arrays(directory: Path, target: Any, advice: str) -> Any:
    """The arrays in a directory, in the place and structure of `target`.

    Args:
        directory: `STEP/weights` or `STEP/state`.
        target: pytree of arrays or shapes with shardings; None for what is stored, on one device.
        advice: what the user can do about a damaged one.

    Raises:
        UserError: files are damaged or missing, or the arrays are of another layout.
    """
    try:
        # Orbax reads all arrays at once and reports damage in a page for each: check it first.
        _read_through(directory)
        handler = ocp.StandardCheckpointHandler()
        stored = handler.metadata(directory).tree
        if target is None:
            target = _on_one_device(stored)
        elif misfits := _misfits(stored, target):
            raise ValueError(f"arrays other than those of its config: {'; '.join(misfits[:3])}")
        return handler.restore(directory, args=ocp.args.StandardRestore(target))
    except Exception as error:  # orbax and its storage layer raise many kinds
        raise UserError(
            f"{directory.parent} cannot be read ({_first_line(error)}): {advice}"
        ) from error


def _as_numpy(tree):
    """Arrays as NumPy arrays: with a sharding beside them, orbax asks readers for those devices."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def _read_through(directory):
    # The path is a field of its own: in an address, #, % and ? would mean something else.
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory}/"}}
    store = tensorstore.KvStore.open(store).result()
    keys = store.list().result()
    if not keys or not all(store.read(key).result().value for key in keys):
        raise ValueError("files are missing")


def _misfits(stored, target):
    """Lines that say where the shapes of two trees differ."""

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
    return _on_one_device(variable_shapes(config.model))


def _on_one_device(arrays):
    """The shapes of arrays, on one device."""
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=one), arrays)


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
