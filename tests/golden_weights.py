"""The released PyTorch model on seeded weights, by the recipe in tests/goldens/README.md."""

import zlib
from typing import Any

import numpy as np

_SIZES = ("num_landmarks", "image_size", "injection_width", "base_width", "width_increment")


def released_weights(meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """The `state_dict` that the goldens were computed with."""
    weights = {}
    for name, shape in meta["names"].items():
        rng = np.random.default_rng([meta["seed"], zlib.crc32(name.encode())])
        if name.endswith("num_batches_tracked"):
            value = np.array(0)
        elif name.endswith(("running_var", ".norm.weight")):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(("running_mean", "bias")):
            value = 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
        weights[name] = value
    weights["deq_layer.cell.head.conv.weight"] *= meta["head_gain"]
    return weights


def released_args(meta: dict[str, Any], case: str) -> dict[str, Any]:
    """The args of a checkpoint whose solver is set as in one of the cases."""
    return {name: meta[name] for name in (*_SIZES, "gn_groups", "beta")} | meta["cases"][case]
