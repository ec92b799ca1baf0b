"""Errors that the user can fix, and how commands print them: as one line.

The library raises `UserError` where the cause is something that the user gave: a file, an option, a
config, a box. Wrong calls by other code stay ValueError and TypeError. Commands print a
`UserError`, an error of the operating system and a fault of the installation as one line; every
other exception is a bug and keeps its traceback. `ldeq` does so around its commands, and a script
calls `show_in_one_line` before it imports the rest. This module needs the standard library alone.
"""

import contextlib
import errno
import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ends, as shells have it

# Libraries of the extras in setup.cfg.
_EXTRAS = {
    "albumentations": "bench",
    "av": "video",
    "flatbuffers": "stablehlo",
    "jaxopt": "bench",
    "onnx": "onnx",
    "onnxruntime": "ensemble",
    "torch": "convert",
}


class UserError(ValueError):
    """A fault that the user can fix. The message says what is wrong, where, and what to do."""


class UserFileNotFoundError(UserError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class UserFileExistsError(UserError, FileExistsError):
    """A file or folder that would be replaced."""


class UserWriteError(UserError, OSError):
    """A file or folder that cannot be written where the user wants it."""


def show_in_one_line() -> None:
    """Makes uncaught exceptions that the user can fix print one line on stderr.

    The exit code stays 1, or 130 after Ctrl-C. Every other exception keeps its traceback.
    """
    show = sys.excepthook

    def show_line(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        line = one_line(error)
        if line is None:
            show(kind, error, trace)
        else:
            print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)

    sys.excepthook = show_line


@contextlib.contextmanager
def exit_at_once_on_interrupt() -> Iterator[None]:
    """Within, Ctrl-C ends the process at once, with a line and exit code 130.

    For the time while libraries are loaded, which turn an interrupt into errors of their own or
    swallow it, and in which nothing is open that would have to be closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        os.write(2, f"{os.path.basename(sys.argv[0])}: interrupted\n".encode())
        os._exit(INTERRUPTED)

    former = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def one_line(error: BaseException) -> str | None:
    """What is wrong and what to do, in one line, for an exception that the user can fix.

    Returns:
        The line; None for every other exception. The message of a `UserError` is taken as it is.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename
        name = os.fsdecode(name) if isinstance(name, bytes) else name
        place = "" if name is None else f"{name}: "
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        advice = "; make space, then run the command again" if full else ""
        return f"{place}{error.strerror}{advice}"
    return installation_fault(error)


def installation_fault(error: BaseException) -> str | None:
    """What is wrong with the installation and what to do; None for exceptions of other causes."""
    if isinstance(error, ImportError) and error.name == "cv2":
        return (
            f"OpenCV cannot be loaded ({error}). Where the libraries of a desktop are missing, as "
            "on a server, install its build without windows: "
            f"python -m pip install --no-deps --force-reinstall {_headless()}"
        )
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return (
            f"{error.name} is not installed: pip install 'ldeq_jax[{_EXTRAS[error.name]}]', or "
            f"pip install -e '.[{_EXTRAS[error.name]}]' in a checkout"
        )
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms and _is_of_missing_device(error):
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        return (
            f"JAX finds no device for JAX_PLATFORMS={platforms}{reason}. Unset it to use the "
            "devices that there are, or install what JAX needs: pip install -e '.[cuda]' for "
            "NVIDIA GPUs, '.[tpu]' for TPUs"
        )
    return None


def _headless() -> str:
    """OpenCV's build without windows, in the version of the build that is installed."""
    try:
        return f"opencv-python-headless=={importlib.metadata.version('opencv-python')}"
    except importlib.metadata.PackageNotFoundError:
        return "opencv-python-headless"


def _is_of_missing_device(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        return str(error).startswith("Unable to initialize backend")
    # Without the CUDA plugin, JAX 0.10 fails at an assertion without text, whose traceback may lack
    # JAX's own frames. But it fails in the same way when asked again.
    if not isinstance(error, AssertionError) or str(error) or "jax" not in sys.modules:
        return False
    try:
        sys.modules["jax"].devices()
    except AssertionError:
        return True
    return False
