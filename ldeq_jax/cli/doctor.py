"""`ldeq doctor`: what is installed, whether it works, and what is missing."""

import importlib.util
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ldeq_jax import __version__
from ldeq_jax.cli.options import parser_of
from ldeq_jax.errors import one_line
from ldeq_jax.report import versions

_DESCRIPTION = """\
Says which versions and devices there are, whether the installation computes what it should, which
windows can be opened and films written, and what more could be installed.
"""
_EPILOG = """\
exit codes: 0 all that is needed works, 1 something does not (its line begins with "!").
"""
_LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "scipy",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "tensorflow-datasets",
)
EXTRAS = {
    "cuda": ("jax_cuda12_plugin", "the model on NVIDIA GPUs"),
    "tpu": ("libtpu", "the model on TPUs"),
    "video": ("av", "drawn films in H.264, with sound and exact times (PyAV, with x264: GPL)"),
    "convert": ("torch", "conversion of released PyTorch files, by ldeq convert"),
    "onnx": ("onnx", "models as ONNX, by ldeq export --format=onnx"),
    "ensemble": ("onnxruntime", "ONNX models of others as members of an ensemble, in ldeq label"),
    "stablehlo": ("flatbuffers", "models as StableHLO, by ldeq export --format=stablehlo"),
    "bench": ("albumentations", "the comparisons in benchmarks/"),
}
"""For each extra for users, a module of it, and what it is good for."""

Line = tuple[bool, str]  # whether it is as it should be


def main(argv: Sequence[str] | None = None) -> int:
    """Examines the installation and prints what it finds.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code: 0, or 1 if something that is needed does not work.
    """
    parser = parser_of("ldeq doctor", _DESCRIPTION, _EPILOG)
    parser.parse_args(argv)
    parts: dict[str, Callable[[], Iterator[Line]]] = {
        "versions": _versions,
        "devices": _devices,
        "self-test": _self_test,
        "windows and films": _films,
        "extras": _extras,
    }
    well = True
    for title, part in parts.items():
        print(f"{title}:", flush=True)
        try:
            for ok, text in part():
                well &= ok
                print(f"{' ' if ok else '!'} {text}", flush=True)
        except Exception as error:  # the other parts are worth knowing all the more
            well = False
            print(f"! {one_line(error) or repr(error)}", flush=True)
    print("all that is needed works" if well else "something does not work: see the lines with !")
    return 0 if well else 1


def _versions() -> Iterator[Line]:
    yield True, f"ldeq_jax {__version__}, Python {platform.python_version()}, {platform.platform()}"
    found = versions.installed(_LIBRARIES)
    yield True, ", ".join(f"{name} {version}" for name, version in found.items())


def _devices() -> Iterator[Line]:
    import jax

    for device in jax.devices():
        yield True, f"{device.platform} {device.id}: {device.device_kind}"


def _self_test() -> Iterator[Line]:
    from ldeq_jax.inference import self_test

    for check in self_test.run():
        yield check.ok, f"{check.name}: {check.told}"


def _films() -> Iterator[Line]:
    from ldeq_jax.media.window import why_no_window

    reason = why_no_window()
    can = "can be opened" if not reason else f"cannot be opened: {reason}"
    yield True, f"windows, for ldeq live, {can}"
    for codec, name in (("vp09", "VP9"), ("mp4v", "MPEG-4"), ("h264", "H.264, with sound")):
        if codec == "h264" and importlib.util.find_spec("av") is None:
            continue  # the extras say so
        reason = _why_no_film(codec)
        can = "can be written" if not reason else f"cannot be written: {reason}"
        yield not reason, f"films, --codec={codec} ({name}), {can}"


def _why_no_film(codec: str) -> str:
    """Why a film of a codec cannot be written and read again; "" if it can."""
    import numpy as np

    from ldeq_jax.media.film_writer import open_film
    from ldeq_jax.media.video import VideoReader
    from ldeq_jax.media.writer import open_writer

    pictures = [np.full((48, 64, 3), 25 * t, np.uint8) for t in range(5)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        try:
            if codec == "h264":
                with open_film(path, 25) as film:
                    for t, picture in enumerate(pictures):
                        film.write(picture, t / 25)
            else:
                with open_writer(path, 25, codec=codec) as writer:
                    for picture in pictures:
                        writer.write(picture)
            found = [image for image, _ in VideoReader(path).frames() if image is not None]
        except Exception as error:
            return one_line(error) or repr(error)
    return "" if len(found) == len(pictures) else f"{len(found)} of {len(pictures)} frames are read"


def _extras() -> Iterator[Line]:
    for name, (module, use) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        missing = f"; missing: pip install 'ldeq_jax[{name}]'"
        yield True, f"[{name}] {use}{'' if there else missing}"
