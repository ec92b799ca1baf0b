"""Stopping a run between two steps, so that it is saved first."""

import os
import signal

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """Notes SIGINT and SIGTERM, so that a run ends between two steps; a second one ends it at once.

    Several hosts must stop at the same step: there JAX's own service notes SIGTERM for all of them.

    Attributes:
        received: the first of them.
    """

    received: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        kinds = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else ()
        self._former = {kind: signal.signal(kind, self._note) for kind in kinds}
        return self

    def __exit__(self, *_) -> None:
        for kind, handler in self._former.items():
            signal.signal(kind, handler)

    def _note(self, number, _):
        self.received = signal.Signals(number)
        self.__exit__()
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # safe in a handler

    def is_due(self, step: int) -> bool:
        """Whether to stop after `step`; to be called at every step, on every host."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None
