"""Landmark deep equilibrium models (LDEQ) and recurrence without recurrence, in JAX and Flax."""

from ldeq_jax.config import Config, default_config
from ldeq_jax.inference import Predictor
from ldeq_jax.model import LDEQ, ModelConfig, Prediction
from ldeq_jax.rwr import RwRConfig
from ldeq_jax.schema import FGNET_68, IBUG_68, WFLW_98, LandmarkSchema, get_schema
from ldeq_jax.solver import SolveInfo, SolverConfig, fixed_point
from ldeq_jax.video_inference import VideoPredictor

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
