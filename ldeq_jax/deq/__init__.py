"""Fixed points of any map, derivatives through them, and recurrence over frames; jax alone."""

from ldeq_jax.deq import recurrence
from ldeq_jax.deq.diagnostics import jacobian_penalty, spectral_radius
from ldeq_jax.deq.equilibrium import fixed_point
from ldeq_jax.deq.methods import Anderson, Broyden, Method, Picard
from ldeq_jax.deq.objective import minimise_objective
from ldeq_jax.deq.solver import SolveInfo, SolverConfig

__all__ = [
    "Anderson",
    "Broyden",
    "Method",
    "Picard",
    "SolveInfo",
    "SolverConfig",
    "fixed_point",
    "jacobian_penalty",
    "minimise_objective",
    "recurrence",
    "spectral_radius",
]
