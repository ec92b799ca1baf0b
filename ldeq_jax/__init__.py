"""Landmark deep equilibrium models (LDEQ) and recurrence without recurrence, in JAX and Flax.

The public names are loaded when they are first used (PEP 562), so that importing one module of the
package does not load the libraries of the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldeq_jax.config import Config, default_config
    from ldeq_jax.inference import Predictor
    from ldeq_jax.model import LDEQ, ModelConfig, Prediction
    from ldeq_jax.rwr import RwRConfig
    from ldeq_jax.schema import FGNET_68, IBUG_68, WFLW_98, LandmarkSchema, get_schema
    from ldeq_jax.solver import SolveInfo, SolverConfig, fixed_point
    from ldeq_jax.video_inference import VideoPredictor

_MODULE_OF = {
    "FGNET_68": "schema",
    "IBUG_68": "schema",
    "LDEQ": "model",
    "WFLW_98": "schema",
    "Config": "config",
    "LandmarkSchema": "schema",
    "ModelConfig": "model",
    "Prediction": "model",
    "Predictor": "inference",
    "RwRConfig": "rwr",
    "SolveInfo": "solver",
    "SolverConfig": "solver",
    "VideoPredictor": "video_inference",
    "default_config": "config",
    "fixed_point": "solver",
    "get_schema": "schema",
}

__all__ = [
    "FGNET_68",
    "IBUG_68",
    "LDEQ",
    "WFLW_98",
    "Config",
    "LandmarkSchema",
    "ModelConfig",
    "Prediction",
    "Predictor",
    "RwRConfig",
    "SolveInfo",
    "SolverConfig",
    "VideoPredictor",
    "default_config",
    "fixed_point",
    "get_schema",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
