"""The hosts of a run: processes that each drive devices of their own and compute as one.

On a TPU pod and under Slurm, Open MPI or Kubernetes, JAX finds them by itself. Elsewhere three
environment variables tell each process of the others; JAX itself reads the first of them alone:

  JAX_COORDINATOR_ADDRESS  HOST:PORT of the first process, at any free port
  JAX_NUM_PROCESSES        how many there are
  JAX_PROCESS_ID           which of them this is, from 0

A process on CPUs has one device, or as many as JAX_NUM_CPU_DEVICES says.
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

LOST = 134  # the exit code where another host is gone: that of abort(), by which JAX ends such runs
_TERMINATED = 128 + signal.SIGTERM
_CLOSING = 10  # seconds that a host which fails alone has to close its files


def join(distributed: bool, timeout: int, *, preemptible: bool) -> bool:
    """Makes this process one of several, where that is wanted; before anything is computed.

    Args:
        distributed: whether it is one of several; if not, JAX_COORDINATOR_ADDRESS decides.
        timeout: seconds after which a host that gives no sign of life counts as lost and all the
            others end.
        preemptible: whether SIGTERM to one of the hosts is noted for all of them, to be asked for
            by `multihost_utils.reached_preemption_sync_point`; if not, it ends the process.

    Returns:
        Whether it is one of several.

    Raises:
        ValueError: it is not told which the others are.
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
        raise ValueError(
            f"JAX does not find the other hosts ({error}) Set JAX_COORDINATOR_ADDRESS to HOST:PORT "
            "of the first, JAX_NUM_PROCESSES and JAX_PROCESS_ID, see docs/pods.md"
        ) from error
    return True


def _number(variable):
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise ValueError(f"the environment variable {variable} must be a number, not {text!r}")
    return None if text is None else int(text)


def is_first() -> bool:
    """Whether this host is the one that prints and writes for all of them."""
    return jax.process_index() == 0


def print_once(text: str) -> None:
    """Prints, once for all hosts."""
    if is_first():
        print(text, flush=True)


def gather(value: Any) -> list[Any]:
    """What each host has, in the order of hosts; to be asked for on all of them.

    Args:
        value: anything that can be pickled, up to 2 GiB.
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
    """Where a host of several fails or loses another within, it ends before long.

    Otherwise whatever is closed then may wait for the others at a place that they never reach.
    """
    try:
        yield
    except BaseException as error:
        if jax.distributed.is_initialized():
            if lost := _loss(error):
                print(
                    f"{os.path.basename(sys.argv[0])}: host {jax.process_index()} of "
                    f"{jax.process_count()} lost another ({lost}). See what the others say; what "
                    "is saved stays, and the same command on all hosts goes on from there",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(LOST)
            end = threading.Timer(_CLOSING, os._exit, [1])
            end.daemon = True
            end.start()
        raise


class _Terminated(SystemExit):
    pass


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """SIGTERM ends what runs within as Ctrl-C does: unfinished files are removed on the way.

    A line says so, and the exit code is 143. Of several hosts, one ends at once: what it closes
    may wait for the others. Only for the main thread.
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
    """What an error says of a lost host, if it does."""
    signs = "Gloo", "CoordinationService", "heartbeat", "Socket closed"
    while error is not None:
        if any(sign in str(error) for sign in signs):  # of whatever type: JAX has several
            return str(error).splitlines()[0][:200]
        error = error.__cause__ or error.__context__
    return None
