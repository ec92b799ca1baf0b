"""Fixed points of random maps: steps and time of each method and of jaxopt's Anderson.

    pip install -e '.[bench]'
    JAX_PLATFORMS=cpu python -m benchmarks.anderson

Every row of a batch has its own right-hand side. The steps of a method are those of its slowest
row, until every relative residual is below the tolerance, in float32. jaxopt stops on one residual
of the whole batch; its tolerance is set to the same accuracy. Times are medians over pairs of
alternating runs, in one process.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from jaxopt import AndersonAcceleration

from ldeq_jax.deq import SolverConfig, fixed_point
from ldeq_jax.report.tables import markdown_table

_ROWS = flags.DEFINE_integer("rows", 64, "Rows per batch.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 1024, "Numbers per row.", lower_bound=2)
_TOL = flags.DEFINE_float("tol", 1e-6, "Tolerance: relative residual of every row.")
_MAX_STEPS = flags.DEFINE_integer("max_steps", 400, "Most iterations.", lower_bound=1)
_PAIRS = 9


def maps(rows: int, size: int) -> dict[str, tuple]:
    """Maps by name: f(theta, z), its theta, and the starting point."""
    rng = np.random.default_rng(0)
    square = rng.standard_normal((size, size)).astype(np.float32)
    bias = rng.standard_normal((rows, size)).astype(np.float32)
    start = np.zeros((rows, size), np.float32)

    def affine(theta, z):
        return z @ theta[0].T + theta[1]

    def tanh(theta, z):
        return jnp.tanh(z @ theta[0].T + theta[1])

    def slope(theta, z):
        return theta[0] * z + theta[1]

    basis = np.linalg.qr(square)[0]
    symmetric = (basis * np.linspace(-0.9, 0.9, size, dtype=np.float32)) @ basis.T
    dense = 0.9 * square / np.sqrt(size)
    return {
        "affine, symmetric, spectral radius .9": (affine, (symmetric, bias), start),
        "affine, not symmetric, spectral radius .9": (affine, (dense, bias), start),
        "the same, values of a thousand": (affine, (dense, 1000 * bias), start),
        "tanh layer": (tanh, (1.5 * dense, bias), start),
        ".5 z + 1000": (slope, (np.float32(0.5), np.float32(1000)), start),
    }


def ways() -> dict[str, SolverConfig]:
    """Our solvers by name."""
    common = {"max_steps": _MAX_STEPS.value, "tol": _TOL.value, "final_evaluation": False}
    anderson = {"method": "anderson"} | common
    return {
        "Picard": SolverConfig(**common),
        "Anderson": SolverConfig(**anderson),
        "Anderson, absolute ridge 1e-4": SolverConfig(
            **anderson, ridge=1e-4, ridge_scale="absolute"
        ),
        "Broyden": SolverConfig(method="broyden", **common),
    }


def seconds(run, *arguments) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    return time.perf_counter() - start


def row_of(name: str, f, theta, start) -> dict[str, str]:
    """Steps of each method on one map, and the time per step relative to jaxopt's."""
    found = {"map": name}
    for method, config in ways().items():
        _, info = jax.jit(lambda t, z, c=config: fixed_point(f, t, z, forward=c))(theta, start)
        steps = str(int(info.num_steps.max()))
        if not info.converged.all():
            steps = f"{int(np.sum(~info.converged))} of {len(start)} not in {_MAX_STEPS.value}"
        found[f"{method} (steps)"] = steps

    ours = jax.jit(
        lambda t, z: fixed_point(
            f, t, z, forward=SolverConfig(method="anderson", max_steps=30, tol=0.0)
        )[0]
    )
    options = {"history_size": 6, "ridge": 1e-6, "jit": True}
    theirs = AndersonAcceleration(lambda z, t: f(t, z), maxiter=30, tol=0.0, **options)
    theirs = jax.jit(lambda t, z, solver=theirs: solver.run(z, t).params)
    scale = float(np.linalg.norm(ours(theta, start)))
    goal = AndersonAcceleration(
        lambda z, t: f(t, z), maxiter=_MAX_STEPS.value, tol=_TOL.value * scale, **options
    )
    result = jax.jit(lambda t, z: goal.run(z, t))(theta, start)
    reached = float(result.state.error) <= _TOL.value * scale
    steps = int(result.state.iter_num)
    found["jaxopt's Anderson (steps)"] = str(steps) if reached else f"not in {_MAX_STEPS.value}"
    for run in (ours, theirs):
        jax.block_until_ready(run(theta, start))
    pairs = np.array(
        [[seconds(run, theta, start) for run in (ours, theirs)] for _ in range(_PAIRS)]
    )
    found["30 steps, jaxopt / ours"] = f"{np.median(pairs[:, 1] / pairs[:, 0]):.2f}"
    return found


def main(_) -> None:
    """Prints the table."""
    named = maps(_ROWS.value, _SIZE.value)
    print(markdown_table([row_of(name, *parts) for name, parts in named.items()]))


if __name__ == "__main__":
    app.run(main)
