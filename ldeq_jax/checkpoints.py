"""Checkpoints of a run, written by orbax.

A working directory holds `checkpoints/STEP/`, the latest full training states to resume from, and
`best/STEP/`, the weights that validated best. The latter form, weights, config and metrics without
optimiser, is also what a released model looks like; `load_model` reads either.

A checkpoint gets its final name when it is complete, so a run may be killed at any time.
"""

import contextlib
import errno
import json
import operator
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from jax.experimental import multihost_utils

from ldeq_jax import hosts, paths
from ldeq_jax.config import Config, from_mapping, to_mapping
from ldeq_jax.model import variable_shapes
from ldeq_jax.training import TrainState, same_rates

# What may change between a run and its continuation: it does not touch the weights, or by rounding
# alone.
_FREE = {
    "config.data.data_dir",
    "config.data.num_workers",
    "config.train.log_every",
    "config.train.eval_every",
    "config.train.checkpoint_every",
    "config.train.keep",
    "config.train.num_steps",  # as far as the learning rate lets it, see `_refuse_changes`
    "config.train.shard_params",
    "config.rwr",
}


@contextlib.contextmanager
def only_run_in(workdir: str | Path) -> Iterator[None]:
    """Keeps other runs out of a directory; the lock dies with its process, however that ends.

    Of several hosts the first holds it. Where a file system has no locks, nothing is kept out.

    Args:
        workdir: the run's directory, created when missing.

    Raises:
        BlockingIOError: another run is using the directory; the message names its process.
        OSError: the directory cannot be written to.
        ValueError: checkpoints cannot be kept in a directory of that name.
    """
    if jax.process_index() > 0:
        yield
        return
    workdir = _folder(workdir, to_write=True)
    holder = workdir / ".lock.holder"  # Windows lets nobody else read the locked file itself
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            _hold(stack, workdir / ".lock")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except filelock.Timeout as error:
            known = holder.read_text(encoding="utf-8") if holder.exists() else ""
            raise BlockingIOError(
                f"another run is using {workdir}: {known or 'its process is not known'}. "
                "Wait for it, end it, or use another --workdir"
            ) from error
        except OSError as error:
            raise OSError(
                f"cannot write to {workdir} ({error.strerror or error}): make it a folder that you "
                "may write to, or choose another --workdir"
            ) from error
        yield


def _hold(stack, file):
    """Holds a lock until the stack is left, if the file system has locks."""
    try:
        stack.enter_context(filelock.FileLock(file, timeout=0))
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise


class Checkpoints:
    """Writes and reads the checkpoints of one run; leaving the context waits for writes.

    Writes go on in the background, and what fails there is told by the next call of a method.

    Args:
        workdir: the run's directory, created when missing; one that all hosts see.
        config: the run's config, written into every checkpoint.

    Raises:
        ValueError: the directory holds a run with another config, or of another length whose
            learning rates were others; its best model is damaged, or other hosts see other
            checkpoints.
        OSError: from any method that writes: a checkpoint could not be written.
    """

    def __init__(self, workdir: str | Path, config: Config):
        self._workdir = workdir = _folder(workdir, to_write=True)
        self._config, self._optimizer = to_mapping(config), config.optimizer
        newest = max(_steps(workdir / "checkpoints"), default=None)
        best = _best_step(workdir / "best")
        if newest is not None:
            self._refuse_changes(workdir / "checkpoints" / str(newest))
        if best is not None:
            self._refuse_changes(workdir / "best" / str(best))
        self.best_nme = float("inf") if best is None else _nme(workdir / "best" / str(best))
        self._latest = ocp.CheckpointManager(
            workdir / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.train.keep,
                cleanup_tmp_directories=True,
                multiprocessing_options=_meeting_places("checkpoints"),
            ),
        )
        self._best = _best_manager(workdir / "best")
        # Hosts that went on from different steps would wait for each other in vain, or learn apart.
        seen = hosts.gathered((self._latest.latest_step(), best))
        if len(set(seen)) > 1:
            raise ValueError(
                f"the hosts see different checkpoints in {workdir}, the steps (latest, best) "
                f"{seen}: it must be one directory that all of them share"
            )

    def _refuse_changes(self, directory):
        now = json.loads(json.dumps(self._config))  # JSON turns tuples into lists
        then, step = _read_about(directory)["config"], int(directory.name)
        if changed := _differences(then, now):
            raise ValueError(
                f"{directory} was trained with another config:\n  "
                + "\n  ".join(changed)
                + "\nUse another --workdir, or the config it was started with"
            )
        lengths = [config["train"]["num_steps"] for config in (then, now)]
        told = f"config.train.num_steps: {lengths[0]} then, {lengths[1]} now"
        if lengths[1] < step and lengths[1] != lengths[0]:
            raise ValueError(f"{directory} is of a later step than the run is to have ({told})")
        if not same_rates(self._optimizer, *lengths, until=step):
            raise ValueError(
                f"{directory} cannot be continued to another number of steps ({told}): with "
                f"optimizer.decay={self._optimizer.decay!r}, the learning rates up to here depend "
                "on that number. To train its best weights further, start a new run, with another "
                f"--workdir and --config.train.start_from={self._workdir}"
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        with self._writing(), contextlib.closing(self._best), contextlib.closing(self._latest):
            pass

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except Exception as error:  # orbax and its storage layer raise many kinds
            reason = str(error).splitlines()[0].rpartition(": ")[2][:200]
            raise OSError(
                f"no checkpoint could be written to {self._workdir} ({reason}); those from before "
                "are whole. If the disk is full, make space; then give the same command again"
            ) from error

    def save(self, state: TrainState) -> None:
        """Writes a full state in the background; a write under way is waited for first."""
        step = int(state.step)
        with self._writing():
            if step in self._latest.all_steps():
                return
            self._latest.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    about=ocp.args.JsonSave({"config": self._config}),
                ),
            )

    def save_best(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Writes the weights if `metrics["nme"]` is the lowest so far, in place of the best."""
        if metrics["nme"] < self.best_nme:
            self.best_nme = metrics["nme"]
            with self._writing():
                _save_weights(self._best, state, self._config, metrics)

    def check(self) -> None:
        """Tells of a write that failed since; does not wait."""
        with self._writing():
            for manager in (self._latest, self._best):
                if not manager.is_saving_in_progress():
                    manager.wait_until_finished()  # its own check_for_errors misses them

    def restore(self, fresh: TrainState) -> TrainState:
        """Reads the newest checkpoint onto the devices of `fresh`; `fresh` itself if there is none.

        Raises:
            ValueError: the checkpoint cannot be read.
        """
        step = self._latest.latest_step()
        if step is None:
            return fresh
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, fresh)
        return _read_arrays(
            self._latest.directory / str(step) / "state",
            target,
            "copy it here again if there is another copy; else move that folder to another place, "
            "to go on from the checkpoint before it, if there is one",
        )


def export_model(
    directory: str | Path, state: TrainState, config: Config, metrics: dict[str, float]
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
    folder = paths.expand(directory).resolve()
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


def _differences(old, new, path="config"):
    """Lines that tell where two nested mappings differ, as far as it matters to a resumed run."""
    if path in _FREE:
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{path}: {old!r} then, {new!r} now"]
    lines = []
    for key in old | new:
        lines += _differences(old.get(key), new.get(key), f"{path}.{key}")
    return lines


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
