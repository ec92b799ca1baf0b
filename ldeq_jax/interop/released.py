"""The model released with the paper: its parameters by name, its settings, and ours for them.

Known from outside alone: the names and shapes of a checkpoint's tensors and args, and the numbers
that come out.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.errors import UserError
from ldeq_jax.model.ldeq import LDEQ, ModelConfig, variable_shapes
from ldeq_jax.model.rwr import RwRConfig

# What the released code does on video: two evaluations a frame from the last state, left where it
# is, in the first frame too, and no penalty.
RELEASED_RWR = RwRConfig(budget=1, first_budget=1, penalty=0.0, align="none")

_CELL = "deq_layer.cell"
_HOURGLASS = f"{_CELL}.hourglass"
_PLACES = {  # of a unit's tensors: collection, layer and leaf in flax
    "conv.weight": ("params", "conv", "kernel"),
    "conv.bias": ("params", "conv", "bias"),
    "norm.weight": ("params", "norm", "scale"),
    "norm.bias": ("params", "norm", "bias"),
    "norm.running_mean": ("batch_stats", "norm", "mean"),
    "norm.running_var": ("batch_stats", "norm", "var"),
}
COUNTER = "norm.num_batches_tracked"  # beside running averages; has no place in flax
# What the args need not say; both released models agree in these.
_ASSUMED = {
    "im_size": 256,
    "cell_gn_groups": 8,
    "stop_mode": "rel",
    "anderson_m": 6,
    "anderson_lam": 1e-4,
    "anderson_beta": 1.0,
    "take_one_less_inference_step": False,
    "JFB": False,
}
# Args with one value that this package has a model for; they need not be there.
_ONLY = {
    "landmark_model_name": "udeq",
    "cell_name": "Cell0",
    "model_mode": "implicit",
    "input_channels": 3,
    "downres_factor": 4,
    "z0_mode": "zeros",
    "cell_norm": "softargmax",
    "cell_extra_latent_width": 0,
    "cell_learn_softargmax_beta": False,
    "stochastic_max_iters": False,
}
# Shorter names of some args, which are read as well.
_SHORT = {
    "beta": "cell_softargmax_beta",
    "num_landmarks": "n_keypoints",
    "image_size": "im_size",
    "gn_groups": "cell_gn_groups",
    "base_width": "cell_base_width",
    "width_increment": "cell_width_increment",
}
_FIXED = ("depth", "residual_kernel", "stem_norm")  # no args for these, and no others there
_NEEDED = {"cell_softargmax_beta": float, "solver": str, "max_iters": int}
_TOLERANCES = {"rel": "rel_diff_target", "abs": "abs_diff_target"}
_METHODS = {"fpi": "picard", "anderson": "anderson", "broyden": "broyden"}


class ReleasedArg(NamedTuple):
    """The value of one of the released args, and where it comes from.

    Attributes:
        value: as the args have it.
        origin: "args", "tensors" (read off their shapes) or "assumed".
    """

    value: Any
    origin: str


def from_released(
    state_dict: Mapping[str, np.ndarray], args: Mapping[str, Any]
) -> tuple[LDEQ, dict[str, Any]]:
    """A released model as one of ours, such that `model.apply(variables, images)` agrees with it.

    Args:
        state_dict: its tensors by name, in PyTorch's layout.
        args: what it was made with, see `read_settings`; names that mean nothing here are allowed.

    Returns:
        The model and its variables. They are float64 where tensors are and JAX has 64 bits switched
        on (`jax_enable_x64`), else float32.

    Raises:
        ValueError: a tensor is unknown, missing, of another shape or type, or not finite (all such
            tensors are listed); or the args lack a setting, or hold one that is not known.
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
        `from_released` reads. These cannot say everything of a solver, see `lost_settings`.

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


def read_settings(
    state_dict: Mapping[str, np.ndarray], args: Mapping[str, Any]
) -> dict[str, ReleasedArg]:
    """What the args, and the shapes of the tensors, say of a released model.

    The args must say cell_softargmax_beta, solver, max_iters, and rel_diff_target or, with
    stop_mode "abs", abs_diff_target. They may say im_size (or heatmap_size, a quarter of it),
    cell_gn_groups, stop_mode, anderson_m, anderson_lam, anderson_beta, JFB and
    take_one_less_inference_step; else these are those of the released models. Sizes that they do
    not say (n_keypoints, injection_width, cell_base_width, cell_width_increment) are read off the
    tensors. Args such as cell_norm, which could ask for a model that this package does not have,
    may be missing.

    Args:
        state_dict: tensors by name.
        args: the args by name, see `stored_names`.

    Returns:
        The args by the names that released files have.

    Raises:
        ValueError: a setting is missing, of another type, or asks for another kind of model; two
            contradict each other; or a tensor is missing that tells a size.
    """
    args = stored_names(args)
    stop_mode = args.get("stop_mode", _ASSUMED["stop_mode"])
    if stop_mode not in _TOLERANCES:
        raise UserError(f"the args say stop_mode={stop_mode!r}; known: {', '.join(_TOLERANCES)}")
    needed = _NEEDED | {_TOLERANCES[stop_mode]: float}
    if missing := [name for name in needed if name not in args]:
        held = ", ".join(f"{name}={value!r}" for name, value in sorted(args.items())) or "nothing"
        raise UserError(
            f"the args do not say {', '.join(missing)}; they hold {held}. If they do by another "
            f"name, or you know it: --set {missing[0]}=VALUE"
        )
    for name, only in _ONLY.items():
        if name in args and args[name] != only:
            raise UserError(
                f"the args say {name}={args[name]!r}, and there is no such model here, only that "
                f"of {name}={only!r}. If its weights are of that kind: --set {name}={only}"
            )
    assumed = dict(_ASSUMED)
    if "heatmap_size" in args:
        assumed["im_size"] = 4 * _typed("heatmap_size", args["heatmap_size"], int)
        if args.get("im_size", assumed["im_size"]) != assumed["im_size"]:
            raise UserError(
                f"the args say im_size={args['im_size']!r} and heatmap_size="
                f"{args['heatmap_size']!r}, which must be a quarter of it"
            )
    found = {
        name: ReleasedArg(_typed(name, args[name], kind), "args") for name, kind in needed.items()
    }
    for others, origin in ((assumed, "assumed"), (_sizes(state_dict), "tensors")):
        for name, value in others.items():
            if name in args:
                found[name] = ReleasedArg(_typed(name, args[name], type(value)), "args")
            else:
                found[name] = ReleasedArg(value, origin)
    found |= {name: ReleasedArg(args[name], "args") for name in _ONLY if name in args}
    if "z_width" in args:
        found["z_width"] = ReleasedArg(_typed("z_width", args["z_width"], int), "args")
        if args["z_width"] != found["n_keypoints"].value:
            raise UserError(
                f"the args say z_width={args['z_width']}, and here the state has a heatmap for "
                f"each of the {found['n_keypoints'].value} landmarks and nothing else"
            )
    return found


def stored_names(args: Mapping[str, Any]) -> dict[str, Any]:
    """Args under the names that released files have, also where shorter ones are given.

    Args:
        args: the args by name; None counts as not there.

    Raises:
        ValueError: one is there by both names, with different values.
    """
    args = {name: value for name, value in args.items() if value is not None}
    renamed = {name: value for name, value in args.items() if name not in _SHORT}
    for short, name in _SHORT.items():
        if short in args and renamed.setdefault(name, args[short]) != args[short]:
            raise UserError(f"the args say {name}={args[name]!r} and {short}={args[short]!r}")
    return renamed


def lost_settings(model: LDEQ, state_dict: Mapping[str, np.ndarray], args: Mapping) -> list[str]:
    """In words, what is different about a model exported by `to_released` in the released code."""
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
    if method not in _METHODS:
        raise UserError(f"the args say solver={method!r}; known: {', '.join(_METHODS)}")
    forward = SolverConfig(
        method=_METHODS[method],
        max_steps=settings["max_iters"],
        tol=settings[_TOLERANCES[settings["stop_mode"]]],
        stop=settings["stop_mode"],
        history_size=settings["anderson_m"],
        ridge=settings["anderson_lam"],
        ridge_scale="absolute",
        mixing=settings["anderson_beta"] if method == "anderson" else 1.0,
        best_iterate=method != "fpi",
        final_evaluation=not settings["take_one_less_inference_step"],
        divergence_ratio=math.inf,  # there, nothing looks for divergence
    )
    kinds = [np.asarray(value).dtype for value in state_dict.values()]
    averaged = any(name.endswith("norm.running_mean") for name in state_dict)
    return ModelConfig(
        num_landmarks=settings["n_keypoints"],
        image_size=settings["im_size"],
        injection_width=settings["injection_width"],
        base_width=settings["cell_base_width"],
        width_increment=settings["cell_width_increment"],
        depth=_depth(state_dict),
        residual_kernel=_residual_kernel(state_dict),
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
        **_ONLY,
        "n_keypoints": config.num_landmarks,
        "z_width": config.num_landmarks,
        "im_size": config.image_size,
        "heatmap_size": config.heatmap_size,
        "injection_width": config.injection_width,
        "cell_base_width": config.base_width,
        "cell_width_increment": config.width_increment,
        "cell_gn_groups": config.groups,
        "cell_softargmax_beta": config.temperature,
        "solver": {ours: theirs for theirs, ours in _METHODS.items()}[forward.method],
        "max_iters": forward.max_steps,
        "stop_mode": forward.stop,
        _TOLERANCES[forward.stop]: forward.tol,
        "anderson_m": forward.history_size,
        "anderson_lam": forward.ridge,
        "anderson_beta": forward.mixing,
        "take_one_less_inference_step": not forward.final_evaluation,
        "JFB": config.gradient == "one_step",
    }


def _sizes(state_dict):
    """Sizes that the shapes of the tensors tell."""
    width = _shape(state_dict, f"{_CELL}.tail.conv.weight")[0]
    return {
        "n_keypoints": _shape(state_dict, f"{_CELL}.head.conv.weight")[0],
        "injection_width": _shape(state_dict, "tail.3.conv.weight")[0],
        "cell_base_width": width,
        "cell_width_increment": _shape(state_dict, f"{_HOURGLASS}.upchan1.conv.weight")[0] - width,
    }


def _residual_kernel(state_dict):
    return _shape(state_dict, f"{_HOURGLASS}.same{_depth(state_dict) + 1}.conv.weight")[2]


def _depth(state_dict):
    """How often the hourglass halves: each time has a pair of each of its numbered units."""
    numbers = re.findall(
        rf"{re.escape(_HOURGLASS)}\.(?:same|downchan)(\d+)\.", "\n".join(state_dict)
    )
    return (max(map(int, numbers), default=0) + 1) // 2


def _shape(state_dict, name):
    """Shape of a convolution's kernel, which tells a size."""
    if name not in state_dict:
        raise UserError(f"no released model: the tensor {name} is missing, which tells a size")
    shape = np.shape(state_dict[name])
    if len(shape) != 4:
        raise UserError(f"no released model: {name} is {shape}, no kernel of a convolution")
    return shape


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
        f"{_CELL}.tail": ("map", "entry"),
    }
    for level in range(depth):
        units[f"{_HOURGLASS}.same{level + 1}"] = ("map", f"down{level}_skip")
        units[f"{_HOURGLASS}.upchan{level + 1}"] = ("map", f"down{level}_widen")
    units[f"{_HOURGLASS}.bottlneck"] = ("map", "bottom")
    for step in range(depth):
        level = depth - 1 - step
        units[f"{_HOURGLASS}.downchan{2 * step + 1}"] = ("map", f"up{level}_narrow")
        units[f"{_HOURGLASS}.downchan{2 * step + 2}"] = ("map", f"up{level}_merge")
        units[f"{_HOURGLASS}.same{depth + step + 1}"] = ("map", f"up{level}_residual")
    return units | {f"{_CELL}.head": ("map", "head")}


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


def _typed(name, value, kind):
    """A value of the args as its type; a whole number will do for a float."""
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise UserError(f"the args say {name}={value!r}, which is no {kind.__name__}")
