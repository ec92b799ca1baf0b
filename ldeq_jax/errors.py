"""Faults of an installation, which a command prints as one line instead of a traceback.

Two libraries depend on more than pip installs: OpenCV on libraries of the system, and JAX on the
devices that JAX_PLATFORMS asks for. Every command calls `explain_installation_faults` before it
imports the rest. Standard library alone.
"""

import importlib.metadata
import os
import sys
from types import TracebackType


def explain_installation_faults() -> None:
    """From now on, a fault of the installation that ends the process is one line on stderr.

    The exit code stays 1, and every other exception keeps its traceback.
    """
    show = sys.excepthook

    def show_line(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        line = installation_fault(error)
        if line is None:
            show(kind, error, trace)
        else:
            print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)

    sys.excepthook = show_line


def installation_fault(error: BaseException) -> str | None:
    """What is wrong with the installation and what to do, if that is what an exception means."""
    if isinstance(error, ImportError) and error.name == "cv2":
        return (
            f"OpenCV cannot be loaded ({error}). Where the libraries of a desktop are missing, as "
            "on a server, install its build without windows: "
            f"python -m pip install --no-deps --force-reinstall {_headless()}"
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
    # Without the plugin of CUDA, JAX 0.10 fails at an assertion that has no text, and it may have
    # removed its own frames from the traceback. But it fails in the same way when asked again.
    if not isinstance(error, AssertionError) or str(error) or "jax" not in sys.modules:
        return False
    try:
        sys.modules["jax"].devices()
    except AssertionError:
        return True
    return False
