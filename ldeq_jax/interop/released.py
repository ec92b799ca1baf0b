"""The model released with the paper as one of ours, and back: `from_released`, `to_released`.

Known from outside alone: the names and shapes of a checkpoint's tensors, its args (`interop.args`),
and the numbers that come out. Files are read and written by `interop.torch_files`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.errors import UserError
from ldeq_jax.interop.args import (
    CELL,
    HOURGLASS,
    METHODS,
    ONLY,
    TOLERANCES,
    depth_of,
    read_settings,
    residual_kernel_of,
)
from ldeq_jax.model.ldeq import LDEQ, ModelConfig, variable_shapes
from ldeq_jax.model.rwr import RwRConfig

# What the released code does on video: two evaluations per frame, from the last state as it is,
# also in the first frame, and no penalty.
RELEASED_RWR = RwRConfig(budget=1, first_budget=1, penalty=0.0, align="none")

_PLACES = {  # of a unit's tensors: collection, layer and leaf in flax
    "conv.weight": ("params", "conv", "kernel"),
    "conv.bias": ("params", "conv", "bias"),
    "norm.weight": ("params", "norm", "scale"),
    "norm.bias": ("params", "norm", "bias"),
    "norm.running_mean": ("batch_stats", "norm", "mean"),
    "norm.running_var": ("batch_stats", "norm", "var"),
}
COUNTER = "norm.num_batches_tracked"  # beside running averages; flax has no such variable
_FIXED = (
    "depth",
    "residual_kernel",
    "stem_norm",
)  # not in the args; the released code has one value for each


def from_released(
    state_dict: Mapping[str, np.ndarray], args: Mapping[str, Any]
) -> tuple[LDEQ, dict[str, Any]]:
    """A released model as one of ours, such that `model.apply(variables, images)` agrees with it.

    Args:
        state_dict: its tensors by name, in PyTorch's layout.
        args: what it was made with, see `read_settings`; other names are ignored.

    Returns:
        The model and its variables. They are float64 where tensors are and JAX has 64 bits switched
        on (`jax_enable_x64`), else float32.

    Raises:
        UserError: a tensor is unknown, missing, of another shape or type, or not finite (all such
            tensors are listed); or the args lack a setting, or hold an unknown one.
    """
    settings = {name: found.value for name, found in read_settings(state_dict, args).items()}
    config = _model_config(state_dict, settings)
    tensors = _tensors(config)
    _check(state_dict, tensors)
    leaves = {
        place: _to_flax(np.asarray(state_dict[name], config.dtype), shape)
        for name, (place, shape) in tensors.items()
        if place
    }
    return LDEQ(config), unflatten_dict(leaves)


def to_released(
    model: LDEQ, variables: Mapping[str, Any], batches_seen: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A model under the names of the released one: the inverse of `from_released`.

    Args:
        model: the model.
        variables: its variables.
        batches_seen: what PyTorch's BatchNorm counts, num_batches_tracked.

    Returns:
        Tensors by name, in PyTorch's layout and in the order of use, and the args that
        `from_released` reads. These cannot express every setting of a solver, see `lost_settings`.

    Raises:
        ValueError: the variables are not those of the model.
    """
    config, leaves = model.config, flatten_dict(dict(variables))
    if (learnt := leaves.pop(("params", "map", "log_temperature"), None)) is not None:
        config = dataclasses.replace(config, temperature=math.exp(learnt), learn_temperature=False)
    if {place: np.shape(leaf) for place, leaf in leaves.items()} != _shapes(config):
        raise ValueError("the variables are not those of the model: other layers, or other sizes")
    counter = np.array(batches_seen, np.int64)
    state_dict = {
        name: np.array(_to_torch(np.asarray(leaves[place])).reshape(shape), order="C")
        if place
        else counter
        for name, (place, shape) in _tensors(config).items()
    }
    return state_dict, _args_of(config)


def lost_settings(model: LDEQ, state_dict: Mapping[str, np.ndarray], args: Mapping) -> list[str]:
    """What the released code does differently with a model exported by `to_released`, in words."""
    back, _ = from_released(state_dict, args)
    ours, theirs = (flatten_dict(dataclasses.asdict(m.config)) for m in (model, back))
    theirs |= {(name,): getattr(ModelConfig, name) for name in _FIXED}
    no_matter = {"batch_mean_stop"}
    if model.config.forward.method != "anderson":
        no_matter.add("ridge_scale")
    return [
        f"{'.'.join(path)} is {value} here, {theirs[path]} there"
        for path, value in ours.items()
        if path[0] != "backward" and path[-1] not in no_matter and theirs[path] != value
    ]


def _model_config(state_dict, settings):
    """The config of a released model."""
    method = settings["solver"]
    if method not in METHODS:
        raise UserError(f"the args say solver={method!r}; known: {', '.join(METHODS)}")
    forward = SolverConfig(
        method=METHODS[method],
        max_steps=settings["max_iters"],
        tol=settings[TOLERANCES[settings["stop_mode"]]],
        stop=settings["stop_mode"],
        history_size=settings["anderson_m"],
        ridge=settings["anderson_lam"],
        ridge_scale="absolute",
        mixing=settings["anderson_beta"] if method == "anderson" else 1.0,
        best_iterate=method != "fpi",
        final_evaluation=not settings["take_one_less_inference_step"],
        divergence_ratio=math.inf,  # the released code does not check for divergence
    )
    kinds = [np.asarray(value).dtype for value in state_dict.values()]
    averaged = any(name.endswith("norm.running_mean") for name in state_dict)
    return ModelConfig(
        num_landmarks=settings["n_keypoints"],
        image_size=settings["im_size"],
        injection_width=settings["injection_width"],
        base_width=settings["cell_base_width"],
        width_increment=settings["cell_width_increment"],
        depth=depth_of(state_dict),
        residual_kernel=residual_kernel_of(state_dict),
        groups=settings["cell_gn_groups"],
        temperature=settings["cell_softargmax_beta"],
        stem_norm="batch" if averaged else "group",
        dtype=str(jax.dtypes.canonicalize_dtype("float64" if np.float64 in kinds else "float32")),
        forward=forward,
        backward=dataclasses.replace(forward, final_evaluation=False),
        gradient="one_step" if settings["JFB"] else "implicit",
    )


def _args_of(config):
    """The args of a model: the inverse of `_model_config`."""
    forward = config.forward
    return {
        **ONLY,
        "n_keypoints": config.num_landmarks,
        "z_width": config.num_landmarks,
        "im_size": config.image_size,
        "heatmap_size": config.heatmap_size,
        "injection_width": config.injection_width,
        "cell_base_width": config.base_width,
        "cell_width_increment": config.width_increment,
        "cell_gn_groups": config.groups,
        "cell_softargmax_beta": config.temperature,
        "solver": {ours: theirs for theirs, ours in METHODS.items()}[forward.method],
        "max_iters": forward.max_steps,
        "stop_mode": forward.stop,
        TOLERANCES[forward.stop]: forward.tol,
        "anderson_m": forward.history_size,
        "anderson_lam": forward.ridge,
        "anderson_beta": forward.mixing,
        "take_one_less_inference_step": not forward.final_evaluation,
        "JFB": config.gradient == "one_step",
    }


def _tensors(config):
    """Place in the variables, () for none, and PyTorch's shape of each tensor, in order of use."""
    shapes, tensors = _shapes(config), {}
    for unit, (part, module) in _units(config.depth).items():
        for name, (collection, layer, leaf) in _PLACES.items():
            place = (collection, part, module, layer, leaf)
            if module == "head" and layer == "conv":  # it is a convolution and nothing else
                place = (collection, part, module, leaf)
            if place in shapes:
                shape = shapes[place]
                if len(shape) == 2:  # a 1x1 convolution
                    shape = (1, 1, *shape)
                if len(shape) == 4:
                    shape = (shape[3], shape[2], *shape[:2])
                tensors[f"{unit}.{name}"] = place, shape
        if f"{unit}.norm.running_var" in tensors:
            tensors[f"{unit}.{COUNTER}"] = (), ()
    return tensors


@functools.cache
def _shapes(config):
    """Shapes of the variables by their place."""
    return {place: leaf.shape for place, leaf in flatten_dict(variable_shapes(config)).items()}


def _units(depth):
    """Part and module of each convolution unit by its name in the released model."""
    units = {
        "tail.0": ("stem", "half"),
        "tail.1": ("stem", "widen"),
        "tail.3": ("stem", "quarter"),
        f"{CELL}.tail": ("map", "entry"),
    }
    for level in range(depth):
        units[f"{HOURGLASS}.same{level + 1}"] = ("map", f"down{level}_skip")
        units[f"{HOURGLASS}.upchan{level + 1}"] = ("map", f"down{level}_widen")
    units[f"{HOURGLASS}.bottlneck"] = ("map", "bottom")
    for step in range(depth):
        level = depth - 1 - step
        units[f"{HOURGLASS}.downchan{2 * step + 1}"] = ("map", f"up{level}_narrow")
        units[f"{HOURGLASS}.downchan{2 * step + 2}"] = ("map", f"up{level}_merge")
        units[f"{HOURGLASS}.same{depth + step + 1}"] = ("map", f"up{level}_residual")
    return units | {f"{CELL}.head": ("map", "head")}


def _to_flax(value, shape):
    """A tensor of a PyTorch shape in flax's layout: (h, w, in, out), (in, out) if it is 1x1."""
    if len(shape) != 4:
        return value
    kernel = value.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(kernel[0, 0] if shape[2:] == (1, 1) else kernel)


def _to_torch(value):
    """The inverse, but for the two axes of a 1x1 kernel."""
    if value.ndim == 2:
        return value.T
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


def _check(state_dict, tensors):
    """Refuses tensors other than those expected, and names all of them."""
    wrong = [f"{name} is not known" for name in state_dict if name not in tensors]
    counts = set()
    for name, (place, shape) in tensors.items():
        value = np.asarray(state_dict.get(name))
        if name not in state_dict:
            wrong.append(f"{name} is missing")
        elif value.shape != shape:
            wrong.append(f"{name} is {value.shape}, not {shape}")
        elif not np.issubdtype(value.dtype, np.floating if place else np.integer):
            wrong.append(f"{name} is of type {value.dtype}")
        elif not np.isfinite(value).all():
            wrong.append(f"{name} is not finite")
        elif not place:
            counts.add(int(value))
    if len(counts) > 1:
        wrong.append(f"*.{COUNTER} differ: {', '.join(map(str, sorted(counts)))}")
    if wrong:
        raise UserError("no released model of these sizes:\n  " + "\n  ".join(wrong))
