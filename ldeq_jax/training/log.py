"""The log of a run: metrics.jsonl, config.json and TensorBoard files in its working directory."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from ldeq_jax import hosts
from ldeq_jax.config import Config, to_mapping
from ldeq_jax.report import records


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Makes imports of a module fail, unless it is loaded already."""
    hidden = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


# tensorboardX loads PyTorch where it is installed: seconds of each start, and not needed here.
with _without("torch"):
    from tensorboardX import SummaryWriter


class Log:
    """Writes the numbers of a run, one line of JSON for each logged step; on the first host alone.

    What was logged after the checkpoint that a run continues from is dropped: it will be logged
    again.

    Args:
        workdir: the run's directory.
        start: step that the run starts or continues from.
        config: of the run.

    Raises:
        OSError: here and from `write`: a file cannot be written; the error names it.
    """

    def __init__(self, workdir: Path, start: int, config: Config):
        self._file = None
        if not hosts.is_first():
            return
        self._path = workdir / "metrics.jsonl"
        with _naming(workdir / "config.json") as path:
            path.write_text(records.to_json(to_mapping(config), indent=1))
        with _naming(self._path.with_name("metrics.jsonl.tmp")) as kept:
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            kept.write_text("".join(f"{line}\n" for line in lines if _is_up_to(line, start)))
            kept.replace(self._path)
            self._file = self._path.open("a")
        # A full disk ends its thread; `add_scalar` would then wait for room in a limited queue.
        board = str(workdir / "tensorboard")
        self._board = SummaryWriter(board, purge_step=start + 1, max_queue=0)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # `write` has raised it already
                self._file.close()
            with contextlib.suppress(OSError):
                self._board.close()

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Adds one line, without the numbers that are not finite: JSON has none."""
        if self._file is None:
            return
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        with _naming(self._path):
            self._file.write(records.to_json({"step": step} | numbers) + "\n")
            self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)


@contextlib.contextmanager
def _naming(path):
    """Errors of the operating system name the file: those of a full disk do not by themselves."""
    try:
        yield path
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_up_to(line, start):
    """Whether a line of the log is of a step up to `start`; a kill may have cut the line short."""
    try:
        return json.loads(line)["step"] <= start
    except ValueError:
        return False
