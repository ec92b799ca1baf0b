"""Fixed points of any map and gradients through them: deep equilibrium models, with jax alone."""

from ldeq_jax.deq.diagnostics import jacobian_penalty, spectral_radius
from ldeq_jax.deq.solver import SolveInfo, SolverConfig, fixed_point

__all__ = ["SolveInfo", "SolverConfig", "fixed_point", "jacobian_penalty", "spectral_radius"]
