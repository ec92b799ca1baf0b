"""Checkpoints of a run, written by orbax.

A working directory holds `checkpoints/STEP/`, the latest full training states to resume from, and
`best/STEP/`, the weights that validated best, in the form of any model: see `ldeq_jax.weights`,
which reads them.

A checkpoint gets its final name when it is complete, so a run may be killed at any time.
"""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock
import jax
import orbax.checkpoint as ocp

from ldeq_jax import hosts
from ldeq_jax.config import Config, from_mapping, to_mapping
from ldeq_jax.errors import UserError
from ldeq_jax.training.optimizer import same_rates
from ldeq_jax.training.state import TrainState
from ldeq_jax.weights import (
    barrier_names,
    best_manager,
    best_step,
    checkpoint_folder,
    read_about,
    read_arrays,
    save_weights,
    stored_nme,
    stored_steps,
)

# What may change between a run and its continuation: it changes the weights by rounding at most.
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


class RunInUseError(UserError, BlockingIOError):
    """Another run is using the directory."""


class CheckpointError(UserError, OSError):
    """A checkpoint, or anything in a run's directory, cannot be written."""


@contextlib.contextmanager
def only_run_in(workdir: str | Path) -> Iterator[None]:
    """Keeps other runs out of a directory; the lock dies with its process, however that ends.

    Of several hosts the first holds it. Where a file system has no locks, nothing is kept out.

    Args:
        workdir: the run's directory, created when missing.

    Raises:
        RunInUseError: another run is using the directory; the message names its process.
        CheckpointError: the directory cannot be written to.
        UserError: checkpoints cannot be kept in a directory of that name.
    """
    if jax.process_index() > 0:
        yield
        return
    workdir = checkpoint_folder(workdir, to_write=True)
    holder = workdir / ".lock.holder"  # Windows lets nobody else read the locked file itself
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            _hold(stack, workdir / ".lock")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except filelock.Timeout as error:
            known = holder.read_text(encoding="utf-8") if holder.exists() else ""
            raise RunInUseError(
                f"another run is using {workdir}: {known or 'its process is not known'}. "
                "Wait for it, end it, or use another --workdir"
            ) from error
        except OSError as error:
            raise CheckpointError(
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

    Writes run in the background. The next call of a method raises what failed there.

    Args:
        workdir: the run's directory, created when missing; one that all hosts see.
        config: the run's config, written into every checkpoint.

    Raises:
        UserError: the directory holds a run with another config, or of another length whose
            learning rates were others; its best model is damaged, or other hosts see other
            checkpoints.
        CheckpointError: from any method that writes: a checkpoint could not be written.
    """

    def __init__(self, workdir: str | Path, config: Config):
        self._workdir = workdir = checkpoint_folder(workdir, to_write=True)
        self._config, self._optimizer = to_mapping(config), config.optimizer
        newest = max(stored_steps(workdir / "checkpoints"), default=None)
        best = best_step(workdir / "best")
        if newest is not None:
            self._refuse_changes(workdir / "checkpoints" / str(newest))
        if best is not None:
            self._refuse_changes(workdir / "best" / str(best))
        self.best_nme = float("inf") if best is None else stored_nme(workdir / "best" / str(best))
        self._latest = ocp.CheckpointManager(
            workdir / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.train.keep,
                cleanup_tmp_directories=True,
                multiprocessing_options=barrier_names("checkpoints"),
            ),
        )
        self._best = best_manager(workdir / "best")
        # Hosts that continue from different steps would wait for each other forever, or diverge.
        seen = hosts.gather((self._latest.latest_step(), best))
        if len(set(seen)) > 1:
            raise UserError(
                f"the hosts see different checkpoints in {workdir}, the steps (latest, best) "
                f"{seen}: it must be one directory that all of them share"
            )

    def _refuse_changes(self, directory):
        now = json.loads(json.dumps(self._config))  # JSON turns tuples into lists
        then, step = read_about(directory)["config"], int(directory.name)
        with contextlib.suppress(UserError):  # fields that are newer than the run have defaults
            then = json.loads(json.dumps(to_mapping(from_mapping(then))))
        if changed := _differences(then, now):
            raise UserError(
                f"{directory} was trained with another config:\n  "
                + "\n  ".join(changed)
                + "\nUse another --workdir, or the config it was started with"
            )
        lengths = [config["train"]["num_steps"] for config in (then, now)]
        change = f"config.train.num_steps: {lengths[0]} then, {lengths[1]} now"
        if lengths[1] < step and lengths[1] != lengths[0]:
            raise UserError(f"{directory} is of a later step than the run is to have ({change})")
        if not same_rates(self._optimizer, *lengths, until=step):
            raise UserError(
                f"{directory} cannot be continued to another number of steps ({change}): with "
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
            raise CheckpointError(
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
                save_weights(self._best, int(state.step), state.variables(), self._config, metrics)

    def check(self) -> None:
        """Raises the error of a write that has failed by now; does not wait."""
        with self._writing():
            for manager in (self._latest, self._best):
                if not manager.is_saving_in_progress():
                    manager.wait_until_finished()  # its own check_for_errors misses them

    def restore(self, fresh: TrainState) -> TrainState:
        """Reads the newest checkpoint onto the devices of `fresh`; `fresh` itself if there is none.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        step = self._latest.latest_step()
        if step is None:
            return fresh
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, fresh)
        return read_arrays(
            self._latest.directory / str(step) / "state",
            target,
            "copy it here again if there is another copy; else move that folder to another place, "
            "to go on from the checkpoint before it, if there is one",
        )


def _differences(old, new, path="config"):
    """Lines that say where two nested mappings differ, as far as it matters to a resumed run."""
    if path in _FREE:
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{path}: {old!r} then, {new!r} now"]
    lines = []
    for key in old | new:
        lines += _differences(old.get(key), new.get(key), f"{path}.{key}")
    return lines
