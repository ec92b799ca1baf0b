"""Checkpoint files of PyTorch, read without running anything in them, and written.

What their tensors mean is `interop.released`. torch is imported when it is needed.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.media.files import replacing

_CONTENT = ("args", "state_dict")


def read_released(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the args of a released checkpoint.

    No code in the file is run: it may hold tensors, plain values and an `argparse.Namespace`.

    Args:
        path: a file written by `torch.save`.

    Returns:
        Tensors by name as NumPy arrays, and the args by name.

    Raises:
        UserFileNotFoundError: there is no such file.
        UserError: torch is not installed, or it is no such file, is damaged or holds other
            objects.
    """
    torch, path = _torch(), Path(path)
    if not path.is_file():
        raise UserFileNotFoundError(f"no file {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, and its advice is to load unsafely
        raise UserError(
            f"{path} is not read: it was not written by torch.save, is damaged, or holds more than "
            f"tensors, plain values and an argparse.Namespace. {_refused(torch, path)}"
        ) from error
    args, tensors = (content.get(k) if isinstance(content, dict) else None for k in _CONTENT)
    args = vars(args) if isinstance(args, argparse.Namespace) else args
    if not isinstance(args, dict) or not isinstance(tensors, dict):
        held = f"a dict of {', '.join(map(str, content))}" if isinstance(content, dict) else "none"
        raise UserError(f"{path} must hold a dict of {' and '.join(_CONTENT)}; it holds {held}")
    if odd := [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]:
        raise UserError(f"{path}: its state_dict has more than tensors: {', '.join(map(str, odd))}")
    # NumPy has no bfloat16; as float32 it is the same number.
    half = torch.bfloat16
    tensors = {name: t.float() if t.dtype == half else t for name, t in tensors.items()}
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}, args


def write_released(
    path: str | Path, state_dict: Mapping[str, np.ndarray], args: Mapping[str, Any]
) -> None:
    """Writes what `read_released` reads; the file gets its name when it is complete.

    Raises:
        UserError: torch is not installed.
        OSError: the file cannot be written.
    """
    torch = _torch()
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state_dict.items()}
    with replacing(path) as partial:
        torch.save({"args": argparse.Namespace(**args), "state_dict": tensors}, partial)


def _refused(torch, path):
    """Which classes a file asks for that are not allowed, as far as it can be read."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is no such file
        return ""
    found = sorted(set(found) - {"argparse.Namespace"})
    return f"It asks for {', '.join(found)}: such a file could run any code" if found else ""


def _torch():
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "PyTorch's files need torch: pip install 'ldeq_jax[convert]', or pip install torch"
        ) from error
    return torch
