"""The loop of a fixed-point solve: its configuration, its stop rules, and what happened.

One `lax.while_loop` serves every method. Each row of the batch stops on its own, so a row's answer
does not depend on its neighbours (unless `batch_mean_stop` asks for that), and the iteration budget
is a traced value, so changing it does not recompile. Derivatives of a solution are defined in
`ldeq_jax.deq.equilibrium`, ways to iterate in `ldeq_jax.deq.methods`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from ldeq_jax.deq.methods import Anderson, Broyden, Method, Picard, RidgeScale
from ldeq_jax.deq.rows import mesh_axes, norm, varying

MethodName = Literal["picard", "anderson", "broyden"]
StopRule = Literal["rel", "abs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolverConfig:
    """How a fixed point is searched for; one type for the forward and the backward solve.

    Attributes:
        method: "picard" (z <- f(z)), "anderson" or "broyden"; or a `Method` of your own, which has
            its own options. A saved config of a run holds names alone.
        max_steps: the largest iteration budget. A traced budget given at call time is clipped to
            it.
        tol: a row stops once its residual is below this; 0 uses the whole budget.
        stop: residual `||f(z) - z|| / (1e-5 + ||f(z)||)` ("rel") or `||f(z) - z||` ("abs").
        history_size: of `Anderson`.
        ridge: of `Anderson`.
        ridge_scale: of `Anderson`.
        mixing: of `Picard` and of `Anderson`.
        best_iterate: return the iterate of lowest residual rather than the last one.
        final_evaluation: return `f(z)` of the solution rather than the solution itself.
        divergence_ratio: a row whose absolute residual exceeds this multiple of its lowest so far
            has diverged; residuals that are no more than rounding count as equal.
        batch_mean_stop: stop all rows together, once the mean of their residuals is below `tol`. A
            row's answer then depends on its neighbours; it exists to reproduce released results.
    """

    method: MethodName | Method = "picard"
    max_steps: int = 5
    tol: float = 1e-4
    stop: StopRule = "rel"
    history_size: int = 6
    ridge: float = 1e-6
    ridge_scale: RidgeScale = "trace"
    mixing: float = 1.0
    best_iterate: bool = True
    final_evaluation: bool = True
    divergence_ratio: float = 1e3
    batch_mean_stop: bool = False

    @property
    def iteration(self) -> Method:
        """The method as an object."""
        if isinstance(self.method, Method):
            return self.method
        return self._named_methods()[self.method]

    @property
    def start_evaluations(self) -> int:
        """Evaluations before the first iteration of a row that has a budget.

        Each iteration takes one more, and so does the final evaluation.
        """
        return self.iteration.start_evaluations

    def __post_init__(self) -> None:
        names = self._named_methods()  # refuses options of theirs that are out of range
        if isinstance(self.method, Method):
            hash(self.method)  # a TypeError now rather than a stranger one when it is compiled
        elif self.method not in names:
            raise ValueError(
                f"method must be one of {tuple(names)} or a Method, not {self.method!r}"
            )
        if self.stop not in get_args(StopRule):
            raise ValueError(f"stop must be one of {get_args(StopRule)}, not {self.stop!r}")
        if not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(
                f"max_steps must be a whole number of at least 1, not {self.max_steps!r}"
            )
        if not 0 <= self.tol < math.inf:
            raise ValueError(f"tol must be 0 or more and finite, not {self.tol}")
        if not self.divergence_ratio > 1:
            raise ValueError(f"divergence_ratio must be above 1, not {self.divergence_ratio}")

    def _named_methods(self) -> dict[str, Method]:
        return {
            "picard": Picard(mixing=self.mixing),
            "anderson": Anderson(
                history_size=self.history_size,
                ridge=self.ridge,
                ridge_scale=self.ridge_scale,
                mixing=self.mixing,
            ),
            "broyden": Broyden(),
        }


class SolveInfo(NamedTuple):
    """What happened to each row of a solve.

    Attributes:
        num_steps: (B,) int32, iterations used.
        residual: (B,) residual of the solution by the configured stop rule. With a final
            evaluation (phantom steps likewise) it is that of the state which the evaluation starts
            from, measured there. Without one it is the last that was measured: that of the
            returned state, but for Picard, which returns `f(z)`, that of the z before; infinite
            without a budget.
        converged: (B,) bool, that residual is below the tolerance.
        diverged: (B,) bool, the row turned NaN or grew beyond the divergence ratio; its solution
            is its best iterate from before that.
        trace: (B, max_steps) residual of every iteration, NaN where none was made; None unless
            asked for.
    """

    num_steps: jax.Array
    residual: jax.Array
    converged: jax.Array
    diverged: jax.Array
    trace: jax.Array | None = None


class _Progress(NamedTuple):
    """The loop's carry; all but `evaluations` and `memory` is frozen in rows that are done."""

    evaluations: jax.Array | int
    memory: Any
    z: jax.Array
    residual: jax.Array
    best_z: jax.Array
    best_residual: jax.Array
    lowest_absolute: jax.Array
    scale: jax.Array
    num_steps: jax.Array
    active: jax.Array
    diverged: jax.Array
    trace: jax.Array | None


def solve(
    f: Callable[[jax.Array], jax.Array],
    z0: jax.Array,
    config: SolverConfig,
    budget: jax.Array,
    trace: bool = False,
    diverged: jax.Array | None = None,
    loop: bool = True,
) -> tuple[jax.Array, SolveInfo]:
    """Runs the loop on rows; returns the state before any final evaluation, and the info.

    Args:
        f: the map of rows (B, N) to rows of the same type.
        z0: (B, N) initial state, at least float32.
        config: the solver.
        budget: (B,) int32, at most `config.max_steps`.
        trace: keep residuals.
        diverged: (B,) bool, rows whose budget ends where they would diverge; None if that is to be
            found out. With it the loop has a static length and can be differentiated backwards.
        loop: False lays out all iterations that `config.max_steps` allows, one after another, for
            programs that must have no loop. The result is the same.
    """
    rows, method = z0.shape[0], config.iteration
    # Growth among residuals that are no more than rounding is no divergence.
    rounding = jnp.finfo(z0.dtype).eps

    def body(progress):
        count = progress.evaluations - method.start_evaluations  # iterations before this one
        point = method.propose(progress.memory, progress.evaluations)
        if diverged is not None:
            # Rows that are done are evaluated all the same, and must not give what is not finite.
            point = jnp.where(progress.active[:, None], point, z0)
        value = f(point)
        memory, z = method.learn(progress.memory, progress.evaluations, point, value)

        measured, reference = jax.lax.stop_gradient((value - point, value))
        absolute, size = norm(measured), norm(reference)
        residual = absolute if config.stop == "abs" else absolute / (1e-5 + size)
        scale = jnp.fmax(progress.scale, size)
        lowest = jnp.maximum(progress.lowest_absolute, rounding * scale)
        good = jnp.isfinite(absolute) & jnp.isfinite(residual)
        good &= absolute / config.divergence_ratio <= lowest
        counted = progress.active & (count >= 0)
        keep = counted & good
        better = keep & (residual < progress.best_residual)
        # Rows that have no budget, diverged or ran out of steps are excluded from the mean.
        stops_by = jnp.mean(residual, where=keep) if config.batch_mean_stop else residual
        num_steps = progress.num_steps + counted
        goes_on = keep & (stops_by >= config.tol) & (num_steps < budget)
        active = (goes_on & (count >= 0)) | (progress.active & (count < 0))
        record = progress.trace
        if record is not None:
            column = jnp.where(counted, residual, jnp.nan)
            record = jax.lax.dynamic_update_index_in_dim(
                record, column, jnp.maximum(count, 0), axis=1
            )
        return _Progress(
            evaluations=progress.evaluations + 1,
            memory=memory,
            z=jnp.where(keep[:, None], z, progress.z),
            residual=jnp.where(keep, residual, progress.residual),
            best_z=jnp.where(better[:, None], z, progress.best_z),
            best_residual=jnp.where(better, residual, progress.best_residual),
            lowest_absolute=jnp.where(
                keep, jnp.minimum(absolute, progress.lowest_absolute), progress.lowest_absolute
            ),
            scale=scale,
            num_steps=num_steps,
            active=active,
            diverged=progress.diverged | (counted & ~good),
            trace=record,
        )

    infinity = jnp.full(rows, jnp.inf, z0.dtype)
    progress = _Progress(
        evaluations=jnp.int32(0) if loop else 0,
        memory=method.start(z0, config.max_steps),
        z=z0,
        residual=infinity,
        best_z=z0,
        best_residual=infinity,
        lowest_absolute=infinity,
        scale=jax.lax.stop_gradient(norm(z0)),
        num_steps=jnp.zeros(rows, jnp.int32),
        active=budget > 0,
        diverged=jnp.zeros(rows, bool),
        trace=jnp.full((rows, config.max_steps), jnp.nan, z0.dtype) if trace else None,
    )
    progress = varying(progress, mesh_axes(z0))
    length = method.start_evaluations + config.max_steps
    if not loop:
        for _ in range(length):
            progress = body(progress)
        diverged = progress.diverged
    elif diverged is None:
        progress = jax.lax.while_loop(lambda p: jnp.any(p.active), body, progress)
        diverged = progress.diverged
    else:
        progress, _ = jax.lax.scan(lambda p, _: (body(p), None), progress, length=length)

    use_best = diverged | config.best_iterate
    z = jnp.where(use_best[:, None], progress.best_z, progress.z)
    residual = jnp.where(use_best, progress.best_residual, progress.residual)
    info = SolveInfo(
        num_steps=progress.num_steps,
        residual=residual,
        converged=~diverged & (residual < config.tol),
        diverged=diverged,
        trace=progress.trace,
    )
    return z, info


def measure(config: SolverConfig, info: SolveInfo, z: jax.Array, value: jax.Array) -> SolveInfo:
    """The info of a solution z (B, N), by the map's value there."""
    difference, value = jax.lax.stop_gradient((value - z, value))
    residual = norm(difference)
    if config.stop == "rel":
        residual = residual / (1e-5 + norm(value))
    converged = ~info.diverged & (residual < config.tol)
    return info._replace(residual=residual, converged=converged)
