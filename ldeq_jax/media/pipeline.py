"""Work beside the main thread: items made ahead of it, and calls done behind it.

OpenCV, PyAV and XLA let other threads run while they work, so that a film is decoded and written
while the model looks at it.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")

_AHEAD, _BEHIND = 4, 8  # items that wait; each may hold a frame
_PATIENCE = 1.0  # seconds for a thread that hangs, as in a camera that sends nothing


def ahead(items: Iterable[Item], depth: int = _AHEAD) -> Generator[Item, None, None]:
    """The same items, made in a thread that is up to `depth` of them ahead.

    What making them raises is raised in their place. When the iterator is closed or given up, the
    thread ends after the item that it is at, and closes what it reads.

    Args:
        items: read in the thread alone.
        depth: 1 or more.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        made = iter(items)
        try:
            for item in made:
                if not put("item", item):
                    break
        except BaseException as error:  # for the thread that asks
            put("error", error)
        else:
            put("end", None)
        finally:
            if hasattr(made, "close"):
                made.close()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join(_PATIENCE)


class Behind:
    """Calls in a thread, one after another; a context manager, left after all that was asked for.

    Args:
        depth: calls that may wait; asking for more waits for the first.
    """

    def __init__(self, depth: int = _BEHIND):
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]] | None]
        self._calls = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Behind":
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._calls.put(None)
        self._thread.join()

    def do(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Asks for a call.

        Raises:
            BaseException: what an earlier call raised; the calls after that one are left out.
        """
        self._raise()
        self._calls.put((call, arguments))

    def wait(self) -> None:
        """Waits until all calls are done.

        Raises:
            BaseException: what one of them raised.
        """
        self._calls.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        failed = False
        while (asked := self._calls.get()) is not None:
            call, arguments = asked
            try:
                if not failed:
                    call(*arguments)
            except BaseException as error:  # for the thread that asks
                self._error, failed = error, True
            finally:
                self._calls.task_done()
