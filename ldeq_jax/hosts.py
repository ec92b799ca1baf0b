"""The hosts of a run: processes that each drive their own devices and compute one program.

How they find each other, gather values, print once and end together. On a TPU pod and under Slurm,
Open MPI or Kubernetes, JAX finds the hosts by itself. Elsewhere three environment variables
describe them to each process; JAX itself reads only the first:

  JAX_COORDINATOR_ADDRESS  HOST:PORT of the first process, at any free port
  JAX_NUM_PROCESSES        number of processes
  JAX_PROCESS_ID           number of this process, from 0

A process on CPUs has one device, or JAX_NUM_CPU_DEVICES of them.
"""

import contextlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ldeq_jax.errors import UserError

LOST = 134  # exit code when another host is gone: that of abort(), with which JAX ends such runs
_TERMINATED = 128 + signal.SIGTERM
_SECONDS_TO_CLOSE = 10  # for a host that fails alone to close its files


def join(distributed: bool, timeout: int, *, preemptible: bool) -> bool:
    """Connects this process with the other hosts, if there are any; before anything is computed.

    Args:
        distributed: whether there are other hosts; if not, JAX_COORDINATOR_ADDRESS decides.
        timeout: seconds without a sign of life after which a host counts as lost and all others
            end.
        preemptible: whether SIGTERM to one host is reported to all of them by
            `multihost_utils.reached_preemption_sync_point`; if not, it ends the process.

    Returns:
        Whether there are other hosts.

    Raises:
        UserError: the environment does not say which the other hosts are.
    """
    if not (distributed or os.environ.get("JAX_COORDINATOR_ADDRESS")):
        return False
    number, place = (_number(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    jax.config.update("jax_enable_preemption_service", preemptible)
    try:
        jax.distributed.initialize(
            num_processes=number, process_id=place, heartbeat_timeout_seconds=timeout
        )
    except ValueError as error:
        raise UserError(
            f"JAX does not find the other hosts ({error}) Set JAX_COORDINATOR_ADDRESS to HOST:PORT "
            "of the first, JAX_NUM_PROCESSES and JAX_PROCESS_ID, see docs/pods.md"
        ) from error
    return True


def _number(variable):
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise UserError(f"the environment variable {variable} must be a number, not {text!r}")
    return None if text is None else int(text)


def is_first() -> bool:
    """Whether this host is the one that prints and writes for all hosts."""
    return jax.process_index() == 0


def print_once(text: str) -> None:
    """Prints on the first host alone."""
    if is_first():
        print(text, flush=True)


def gather(value: Any) -> list[Any]:
    """The values of all hosts, in their order; every host must call it.

    Args:
        value: of this host, anything that can be pickled, up to 2 GiB.

    Returns:
        One value for each host, the same list on every host.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


@contextlib.contextmanager
def exit_soon_on_error() -> Iterator[None]:
    """When this host of several fails within the block, or loses another, its process ends soon.

    Otherwise closing files may wait forever for the other hosts at a barrier they never reach.
    """
    try:
        yield
    except BaseException as error:
        if jax.distributed.is_initialized():
            if lost := _loss(error):
                print(
                    f"{os.path.basename(sys.argv[0])}: host {jax.process_index()} of "
                    f"{jax.process_count()} lost another ({lost}). Look at the messages of the "
                    "others; what is saved stays, and the same command on all hosts continues it",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(LOST)
            end = threading.Timer(_SECONDS_TO_CLOSE, os._exit, [1])
            end.daemon = True
            end.start()
        raise


class _Terminated(SystemExit):
    pass


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that unfinished files are removed.

    A line is printed, and the exit code is 143. One of several hosts ends at once: closing may wait
    for the others. Only for the main thread.
    """

    def end(*_):
        if jax.distributed.is_initialized():
            os._exit(_TERMINATED)
        raise _Terminated(_TERMINATED)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        print(f"{os.path.basename(sys.argv[0])}: stopped by SIGTERM", file=sys.stderr, flush=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, former)


def _loss(error):
    """The first line of an error that means a lost host, or None for other errors."""
    signs = "Gloo", "CoordinationService", "heartbeat", "Socket closed"
    while error is not None:
        if any(sign in str(error) for sign in signs):  # JAX has several types
            return str(error).splitlines()[0][:200]
        error = error.__cause__ or error.__context__
    return None
