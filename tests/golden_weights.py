"""Seeded weights of the released PyTorch model, by the recipe in tests/goldens/README.md."""

import zlib
from typing import Any

import numpy as np

_HOURGLASS = "deq_layer.cell.hourglass"


def torch_weights(meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """The `state_dict` that the goldens were computed with."""
    weights = {}
    for name, shape in meta["names"].items():
        rng = np.random.default_rng([meta["seed"], zlib.crc32(name.encode())])
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith(("running_var", ".norm.weight")):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(("running_mean", "bias")):
            value = 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
        weights[name] = value
    weights["deq_layer.cell.head.conv.weight"] *= meta["head_gain"]
    return weights


def flax_path(torch_name: str) -> tuple[str, ...]:
    """Where an entry of the `state_dict` sits in the variables of our model."""
    unit, kind, leaf = torch_name.rsplit(".", 2)
    names = {"weight": "kernel" if kind == "conv" else "scale", "bias": "bias"}
    names |= {"running_mean": "mean", "running_var": "var"}
    collection = "batch_stats" if leaf.startswith("running") else "params"
    place = _units()[unit]
    return (collection, *place, *(() if place[-1] == "head" else (kind,)), names[leaf])


def to_flax(torch_name: str, value: np.ndarray) -> np.ndarray:
    """A kernel from (out, in, h, w) to (h, w, in, out), or to (in, out) if it is 1x1."""
    if value.ndim != 4:
        return value
    kernel = value.transpose(2, 3, 1, 0)
    return kernel[0, 0] if kernel.shape[:2] == (1, 1) else kernel


def flax_variables(meta: dict[str, Any]) -> dict[str, Any]:
    """The same weights as variables of our model."""
    variables: dict[str, Any] = {}
    for name, value in torch_weights(meta).items():
        *path, leaf = flax_path(name)
        node = variables
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = to_flax(name, value)
    return variables


def _units() -> dict[str, tuple[str, ...]]:
    """Convolution units by their PyTorch name, in the order of use."""
    units = {
        "tail.0": ("stem", "half"),
        "tail.1": ("stem", "widen"),
        "tail.3": ("stem", "quarter"),
        "deq_layer.cell.tail": ("map", "entry"),
        "deq_layer.cell.head": ("map", "head"),
        f"{_HOURGLASS}.bottlneck": ("map", "bottom"),
    }
    for step in range(4):
        level = 3 - step
        units |= {
            f"{_HOURGLASS}.same{step + 1}": ("map", f"down{step}_skip"),
            f"{_HOURGLASS}.upchan{step + 1}": ("map", f"down{step}_widen"),
            f"{_HOURGLASS}.downchan{2 * step + 1}": ("map", f"up{level}_narrow"),
            f"{_HOURGLASS}.downchan{2 * step + 2}": ("map", f"up{level}_merge"),
            f"{_HOURGLASS}.same{step + 5}": ("map", f"up{level}_residual"),
        }
    return units
