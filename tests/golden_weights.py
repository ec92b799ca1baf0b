"""The released PyTorch model on seeded weights, by the recipe in tests/goldens/README.md."""

import zlib
from typing import Any

import numpy as np

# All that the args of the two released files say of the model and its solver, and more.
STILL_ARGS = {
    "im_size": 256,
    "heatmap_size": 64,
    "downres_factor": 4,
    "input_channels": 3,
    "n_keypoints": 98,
    "z_width": 98,
    "z0_mode": "zeros",
    "landmark_model_name": "udeq",
    "cell_name": "Cell0",
    "model_mode": "implicit",
    "explicit_depth": 1,
    "injection_width": 264,
    "cell_base_width": 264,
    "cell_width_increment": 24,
    "cell_extra_latent_width": 0,
    "cell_gn_groups": 8,
    "cell_use_bn_for_explicit": False,
    "cell_norm": "softargmax",
    "cell_softargmax_beta": 0.3,
    "cell_learn_softargmax_beta": False,
    "solver": "anderson",
    "stop_mode": "rel",
    "abs_diff_target": 0.001,
    "rel_diff_target": 0.0001,
    "max_iters": 5,
    "stochastic_max_iters": False,
    "anderson_m": 6,
    "anderson_lam": 0.0001,
    "anderson_beta": 1.0,
    "take_one_less_inference_step": False,
    "JFB": False,
    "verbose_solver": False,
    "AMP": False,
    "phantom_ift": True,
    "phantom_indexing": [],
    "phantom_phantom_grad": [3],
    "n_epochs": 60,
    "init_lr": 0.0001,
    "dataloading_pipeline_version": "v2",
    "experiment_name": "still",
    "load_weights": False,
}
VIDEO_ARGS = STILL_ARGS | {
    "cell_softargmax_beta": 0.4,
    "solver": "fpi",
    "rel_diff_target": 0.0005,
    "dataloading_pipeline_version": "v3",
    "experiment_name": "video",
}
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


def stored_sizes(meta: dict[str, Any]) -> dict[str, Any]:
    """The sizes of the goldens' model, under the names of released files."""
    return {
        "im_size": meta["image_size"],
        "heatmap_size": meta["heatmap_size"],
        "n_keypoints": meta["num_landmarks"],
        "z_width": meta["num_landmarks"],
        "injection_width": meta["injection_width"],
        "cell_base_width": meta["base_width"],
        "cell_width_increment": meta["width_increment"],
    }
