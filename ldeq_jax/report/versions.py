"""What computed a result: versions of the package and of the libraries, platform and devices."""

import importlib.metadata
import platform
from collections.abc import Sequence

from ldeq_jax import __version__

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "opencv-python", "av")


def installed(libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Versions of those libraries that are installed, by name."""
    found = {}
    for name in libraries:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def versions() -> dict[str, str]:
    """Versions by name, the platform, and the devices that JAX has found."""
    import jax  # what only draws needs none

    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    return {
        "ldeq_jax": __version__,
        **installed(),
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} {jax.default_backend()} ({', '.join(kinds)})",
    }
