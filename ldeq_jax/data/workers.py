"""Worker processes that make batches ahead of time."""

import multiprocessing
import os
import threading

import cv2
import grain
from absl import flags

from ldeq_jax.data.config import DataConfig
from ldeq_jax.errors import UserError


def in_workers(batches: grain.IterDataset, config: DataConfig, ahead: int) -> grain.IterDataset:
    """The same batches, made by ``config.num_workers`` processes.

    Args:
        batches: what to make.
        config: number of workers.
        ahead: batches that each worker makes early.

    Raises:
        WorkerLostError: while iterating: one of the processes was killed.
    """
    if not flags.FLAGS.is_parsed():
        # Grain's workers read absl flags, which only programs based on absl parse.
        flags.FLAGS.mark_as_parsed()
    workers = grain.MultiprocessingOptions(config.num_workers, per_worker_buffer_size=ahead)
    return _WorkerDataset(batches.mp_prefetch(workers, worker_init_fn=_start_worker))


class WorkerLostError(UserError, ChildProcessError):
    """A process that loads data was killed."""


class _WorkerDataset(grain.IterDataset):
    """Batches of worker processes, whose death is an error that says what to do."""

    def __iter__(self):
        return _WorkerIterator(iter(self._parent))


class _WorkerIterator(grain.DatasetIterator):
    def __next__(self):
        try:
            return next(self._parent)
        except RuntimeError as error:  # grain checks its workers once a second
            if "Worker process was terminated" not in str(error):
                raise
            raise WorkerLostError(
                f"a process that loads data is gone ({str(error).partition('. ')[0]}). If memory "
                "ran out, set a smaller data.num_workers, or 0 for threads; then give the command "
                "again"
            ) from error

    def get_state(self):
        return self._parent.get_state()

    def set_state(self, state):
        self._parent.set_state(state)


def _start_worker(worker_index, worker_count):
    cv2.setNumThreads(0)
    # Grain's workers outlive a parent that is killed, with all that they hold.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
