"""The args of a released checkpoint: what they are called, what they may say, what is assumed.

Known from outside alone: the names and values in the two released files, and the shapes of their
tensors, which tell sizes that args may leave out. `interop.released` makes a model of them.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.errors import UserError

CELL = "deq_layer.cell"
HOURGLASS = f"{CELL}.hourglass"
# Values of args that may be missing: those of both released models.
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
# Args of which this package has a model for one value only; they may be missing.
ONLY = {
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
_NEEDED = {"cell_softargmax_beta": float, "solver": str, "max_iters": int}
TOLERANCES = {"rel": "rel_diff_target", "abs": "abs_diff_target"}
METHODS = {"fpi": "picard", "anderson": "anderson", "broyden": "broyden"}


class ArgValue(NamedTuple):
    """The value of one of the released args, and where it comes from.

    Attributes:
        value: as the args have it.
        origin: "args", "tensors" (read off their shapes) or "assumed".
    """

    value: Any
    origin: str


def read_settings(
    state_dict: Mapping[str, np.ndarray], args: Mapping[str, Any]
) -> dict[str, ArgValue]:
    """The settings of a released model, from its args and the shapes of its tensors.

    The args must say cell_softargmax_beta, solver, max_iters, and rel_diff_target or, with
    stop_mode "abs", abs_diff_target. They may say im_size (or heatmap_size, a quarter of it),
    cell_gn_groups, stop_mode, anderson_m, anderson_lam, anderson_beta, JFB and
    take_one_less_inference_step; if not, the values of the released models are taken. Sizes that
    they do not say (n_keypoints, injection_width, cell_base_width, cell_width_increment) are read
    off the tensors. Args such as cell_norm, which could ask for a model that this package does not
    have, may be missing.

    Args:
        state_dict: tensors by name.
        args: the args by name, see `stored_names`.

    Returns:
        Settings by the names that released files have.

    Raises:
        UserError: a setting is missing, of another type, or asks for another kind of model; two
            contradict each other; or a tensor is missing that tells a size.
    """
    args = stored_names(args)
    stop_mode = args.get("stop_mode", _ASSUMED["stop_mode"])
    if stop_mode not in TOLERANCES:
        raise UserError(f"the args say stop_mode={stop_mode!r}; known: {', '.join(TOLERANCES)}")
    needed = _NEEDED | {TOLERANCES[stop_mode]: float}
    if missing := [name for name in needed if name not in args]:
        held = ", ".join(f"{name}={value!r}" for name, value in sorted(args.items())) or "nothing"
        raise UserError(
            f"the args do not say {', '.join(missing)}; they hold {held}. If they do by another "
            f"name, or you know it: --set {missing[0]}=VALUE"
        )
    for name, only in ONLY.items():
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
        name: ArgValue(_typed(name, args[name], kind), "args") for name, kind in needed.items()
    }
    for others, origin in ((assumed, "assumed"), (_sizes(state_dict), "tensors")):
        for name, value in others.items():
            if name in args:
                found[name] = ArgValue(_typed(name, args[name], type(value)), "args")
            else:
                found[name] = ArgValue(value, origin)
    found |= {name: ArgValue(args[name], "args") for name in ONLY if name in args}
    if "z_width" in args:
        found["z_width"] = ArgValue(_typed("z_width", args["z_width"], int), "args")
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
        UserError: one is there by both names, with different values.
    """
    args = {name: value for name, value in args.items() if value is not None}
    renamed = {name: value for name, value in args.items() if name not in _SHORT}
    for short, name in _SHORT.items():
        if short in args and renamed.setdefault(name, args[short]) != args[short]:
            raise UserError(f"the args say {name}={args[name]!r} and {short}={args[short]!r}")
    return renamed


def _sizes(state_dict):
    """Sizes that the shapes of the tensors tell."""
    width = _shape(state_dict, f"{CELL}.tail.conv.weight")[0]
    return {
        "n_keypoints": _shape(state_dict, f"{CELL}.head.conv.weight")[0],
        "injection_width": _shape(state_dict, "tail.3.conv.weight")[0],
        "cell_base_width": width,
        "cell_width_increment": _shape(state_dict, f"{HOURGLASS}.upchan1.conv.weight")[0] - width,
    }


def residual_kernel_of(state_dict: Mapping[str, np.ndarray]) -> int:
    """Side of the kernels of the hourglass that have a residual connection, by their shapes."""
    return _shape(state_dict, f"{HOURGLASS}.same{depth_of(state_dict) + 1}.conv.weight")[2]


def depth_of(state_dict: Mapping[str, np.ndarray]) -> int:
    """How often the hourglass halves: each time has a pair of each of its numbered units."""
    numbers = re.findall(
        rf"{re.escape(HOURGLASS)}\.(?:same|downchan)(\d+)\.", "\n".join(state_dict)
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


def _typed(name, value, kind):
    """A value of the args as its type; a whole number will do for a float."""
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise UserError(f"the args say {name}={value!r}, which is no {kind.__name__}")
