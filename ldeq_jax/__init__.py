"""Landmark deep equilibrium models (LDEQ) and recurrence without recurrence, in JAX and Flax.

The public names are loaded when they are first used (PEP 562), so that importing one module of the
package does not load the libraries of the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldeq_jax.config import Config
    from ldeq_jax.deq.equilibrium import fixed_point
    from ldeq_jax.deq.solver import SolveInfo, SolverConfig
    from ldeq_jax.face.landmarks import Landmarks
    from ldeq_jax.face.schema import FGNET_68, IBUG_68, WFLW_98, LandmarkSchema, get_schema
    from ldeq_jax.inference.detection import YuNet
    from ldeq_jax.inference.pictures import Predictor
    from ldeq_jax.inference.tracker import FaceTracker
    from ldeq_jax.inference.videos import VideoPredictor
    from ldeq_jax.model.ldeq import LDEQ, ModelConfig, Prediction
    from ldeq_jax.model.rwr import RwRConfig

__version__ = "0.1.0"

_MODULE_OF = {
    "FGNET_68": "face.schema",
    "IBUG_68": "face.schema",
    "LDEQ": "model.ldeq",
    "WFLW_98": "face.schema",
    "Config": "config",
    "FaceTracker": "inference.tracker",
    "LandmarkSchema": "face.schema",
    "Landmarks": "face.landmarks",
    "ModelConfig": "model.ldeq",
    "Prediction": "model.ldeq",
    "Predictor": "inference.pictures",
    "RwRConfig": "model.rwr",
    "SolveInfo": "deq.solver",
    "SolverConfig": "deq.solver",
    "VideoPredictor": "inference.videos",
    "YuNet": "inference.detection",
    "fixed_point": "deq.equilibrium",
    "get_schema": "face.schema",
}

__all__ = [
    "FGNET_68",
    "IBUG_68",
    "LDEQ",
    "WFLW_98",
    "Config",
    "FaceTracker",
    "LandmarkSchema",
    "Landmarks",
    "ModelConfig",
    "Prediction",
    "Predictor",
    "RwRConfig",
    "SolveInfo",
    "SolverConfig",
    "VideoPredictor",
    "YuNet",
    "fixed_point",
    "get_schema",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
