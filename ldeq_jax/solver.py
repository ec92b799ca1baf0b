"""Fixed points `z* = f(theta, z*)` of batched maps, and gradients through them.

Three solvers share one `lax.while_loop`: Picard (plain iteration), Anderson and Broyden. Every row
of the batch stops on its own, so a row's answer does not depend on its neighbours (unless
`batch_mean_stop` asks for that), and the iteration budget is a traced value, so changing it does
not recompile.

The module needs jax alone and knows nothing of landmarks: it can serve any deep equilibrium model.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

Method = Literal["picard", "anderson", "broyden"]
StopRule = Literal["rel", "abs"]
Gradient = Literal["implicit", "one_step", "phantom", "unrolled"]
Map = Callable[[Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolverConfig:
    """How a fixed point is searched for; one type for the forward and the backward solve.

    Attributes:
        method: "picard" (z <- f(z)), "anderson" or "broyden".
        max_steps: the largest iteration budget. A traced budget given at call time is clipped to
            it.
        tol: a row stops once its residual is below this; 0 uses the whole budget.
        stop: residual `||f(z) - z|| / (1e-5 + ||f(z)||)` ("rel") or `||f(z) - z||` ("abs").
        history_size: pairs (z, f(z)) that Anderson mixes.
        ridge: Anderson's regulariser, added to the diagonal of the Gram matrix.
        mixing: weight of f(z) against z in Picard and Anderson updates, in (0, 1]; 1 is undamped.
        best_iterate: return the iterate of lowest residual rather than the last one.
        final_evaluation: return `f(z)` of the solution rather than the solution itself.
        divergence_ratio: a row whose absolute residual exceeds this multiple of its lowest so far
            has diverged.
        batch_mean_stop: stop all rows together, once the mean of their residuals is below `tol`. A
            row's answer then depends on its neighbours; it is here to repeat what was computed so.
    """

    method: Method = "picard"
    max_steps: int = 5
    tol: float = 1e-4
    stop: StopRule = "rel"
    history_size: int = 6
    ridge: float = 1e-4
    mixing: float = 1.0
    best_iterate: bool = True
    final_evaluation: bool = True
    divergence_ratio: float = 1e3
    batch_mean_stop: bool = False

    @property
    def start_evaluations(self) -> int:
        """Evaluations of the map before the first iteration; each iteration takes one more."""
        return {"picard": 0, "anderson": 2, "broyden": 1}[self.method]

    def __post_init__(self) -> None:
        for name, choices in (("method", get_args(Method)), ("stop", get_args(StopRule))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
        if self.max_steps < 1 or self.history_size < 1:
            raise ValueError("max_steps and history_size must be at least 1")
        if not 0 < self.mixing <= 1:
            raise ValueError(f"mixing must be in (0, 1], not {self.mixing}")
        if self.tol < 0 or self.ridge < 0:
            raise ValueError("tol and ridge must not be negative")


class SolveInfo(NamedTuple):
    """What happened to each row of a solve.

    Attributes:
        num_steps: (B,) int32, iterations used.
        residual: (B,) residual of the solution, by the configured stop rule.
        converged: (B,) bool, residual below the tolerance.
        diverged: (B,) bool, the row turned NaN or grew beyond the divergence ratio; it holds its
            best iterate from before that.
        trace: (B, max_steps) residual of every iteration, NaN where none was made; None unless
            asked for.
    """

    num_steps: jax.Array
    residual: jax.Array
    converged: jax.Array
    diverged: jax.Array
    trace: jax.Array | None = None


def fixed_point(
    f: Map,
    theta: Any,
    z0: jax.Array,
    *,
    forward: SolverConfig,
    backward: SolverConfig | None = None,
    gradient: Gradient = "implicit",
    budget: jax.Array | int | None = None,
    phantom_steps: int = 5,
    phantom_mixing: float = 0.5,
    trace: bool = False,
) -> tuple[jax.Array, SolveInfo]:
    """Solves `z = f(theta, z)` row by row, differentiably in `theta`.

    Args:
        f: the map; row b of its result must depend on row b of `z` alone. It must not close over
            traced
            values: all that is differentiated sits in `theta`. It may compute in low precision; the
            solver works in the precision of `z0`, at least float32.
        theta: pytree of parameters and injected features.
        z0: (B, ...) initial state.
        forward: the forward solver.
        backward: the solver of the adjoint equation `y = J^T y + g`, used by "implicit"; `forward`
            when None. Its `best_iterate` and `final_evaluation` mean the same as forward.
        gradient: "implicit" (implicit function theorem), "one_step" (Jacobian-free: backward
            through one evaluation at the solution), "phantom" (backward through `phantom_steps`
            damped steps from the solution), or "unrolled" (backward through every iteration; memory
            grows with `forward.max_steps`).
        budget: () or (B,) largest number of iterations now, traced, clipped to [0,
            forward.max_steps]; None is forward.max_steps.
        phantom_steps: number of steps of the phantom gradient.
        phantom_mixing: their damping, in (0, 1].
        trace: keep the residual of each iteration in the returned info.

    Returns:
        The state (B, ...) and its SolveInfo, which carries no gradient. The gradient with respect
        to `z0` is zero unless "unrolled".

    Raises:
        ValueError: an unknown gradient, or `f` does not keep the shape of `z0`.
    """
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient must be one of {get_args(Gradient)}, not {gradient!r}")
    z0 = z0.astype(jnp.promote_types(z0.dtype, jnp.float32))
    budget = jnp.asarray(forward.max_steps if budget is None else budget, jnp.int32)
    budget = jnp.broadcast_to(jnp.clip(budget, 0, forward.max_steps), z0.shape[:1])

    if gradient in ("implicit", "one_step"):
        adjoint = (backward or forward) if gradient == "implicit" else None
        z, info = _attached(f, forward, adjoint, trace, theta, z0, budget)
    elif gradient == "phantom":
        frozen, z0 = jax.lax.stop_gradient((theta, z0))
        z, info = _solve(functools.partial(_apply, f, frozen), z0, forward, budget, trace)
        for _ in range(phantom_steps):
            z = _mix(_apply(f, theta, z), z, phantom_mixing)
    else:
        attached = functools.partial(_apply, f, theta)
        z, info = _solve(attached, z0, forward, budget, trace, unroll=True)
        z = attached(z) if forward.final_evaluation else z
    return z, jax.lax.stop_gradient(info)


def jacobian_penalty(
    f: Map, theta: Any, z: jax.Array, key: jax.Array, num_samples: int = 1
) -> jax.Array:
    """Hutchinson estimate of the squared Frobenius norm of df/dz, as a regulariser.

    `E ||J^T v||^2 = ||J||_F^2` for random signs v. Differentiable in `theta`; keeping it small
    keeps the fixed point easy to solve for (Bai et al. 2021).

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters.
        z: (B, ...) where the Jacobian is taken.
        key: random key.
        num_samples: probes to average over.

    Returns:
        (B,) estimates, one a row.
    """
    _, pullback = jax.vjp(functools.partial(_apply, f, theta), z)

    def probe(key):
        (product,) = pullback(jax.random.rademacher(key, z.shape, z.dtype))
        return jnp.sum(jnp.square(product), axis=tuple(range(1, z.ndim)))

    return jnp.mean(jax.lax.map(probe, jax.random.split(key, num_samples)), axis=0)


def spectral_radius(
    f: Map, theta: Any, z: jax.Array, key: jax.Array, num_iters: int = 50
) -> jax.Array:
    """Power-method estimate of the spectral radius of df/dz.

    Below 1, plain iteration converges from nearby.

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters.
        z: (B, ...) where the Jacobian is taken.
        key: random key of the start vector.
        num_iters: vector-Jacobian products; the growth of the later half is averaged, so that a
            complex pair of leading eigenvalues does not make the estimate swing.

    Returns:
        (B,) estimates, one a row.
    """
    # The transpose has the same spectrum, and every map that can be trained has it.
    _, pullback = jax.vjp(functools.partial(_apply, f, theta), z)
    per_row = (-1,) + (1,) * (z.ndim - 1)

    def step(v, _):
        (v,) = pullback(v)
        growth = _norm(v)
        # A vector that the map takes to zero stays there, and the radius comes out as exp(-inf) =
        # 0.
        return v / jnp.where(growth == 0, 1, growth).reshape(per_row), jnp.log(growth)

    start = jax.random.normal(key, z.shape, z.dtype)
    _, growth = jax.lax.scan(step, start, length=num_iters)
    return jnp.exp(jnp.mean(growth[num_iters // 2 :], axis=0))


# The implicit and one-step gradients. Both linearise f where the solver stopped, which is the point
# that the final evaluation starts from.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _attached(f, forward, adjoint, trace, theta, z0, budget):
    return _attached_forward(f, forward, adjoint, trace, theta, z0, budget)[0]


def _attached_forward(f, forward, adjoint, trace, theta, z0, budget):
    mapped = functools.partial(_apply, f, theta)
    z, info = _solve(mapped, z0, forward, budget, trace)
    out = mapped(z) if forward.final_evaluation else z
    return (out, info), (theta, z)


def _attached_backward(f, forward, adjoint, trace, saved, cotangents):
    theta, z = saved
    g = cotangents[0]
    _, pullback = jax.vjp(functools.partial(_apply, f), theta, z)
    y = g
    if adjoint is not None:
        step = lambda y: pullback(y)[1] + g  # noqa: E731
        budget = jnp.full(z.shape[:1], adjoint.max_steps, jnp.int32)
        y, _ = _solve(step, jnp.zeros_like(g), adjoint, budget, trace=False)
        y = step(y) if adjoint.final_evaluation else y
    return pullback(y)[0], jnp.zeros_like(z), None


_attached.defvjp(_attached_forward, _attached_backward)


class _Progress(NamedTuple):
    """The loop's carry. All but `step` and `memory` is per row and frozen once the row is done."""

    step: jax.Array
    memory: Any
    z: jax.Array
    residual: jax.Array
    best_z: jax.Array
    best_residual: jax.Array
    lowest_absolute: jax.Array
    num_steps: jax.Array
    active: jax.Array
    diverged: jax.Array
    trace: jax.Array | None


def _solve(f, z0, config, budget, trace, unroll=False):
    """Runs the loop on flat rows; returns the state before any final evaluation, and the info."""
    shape, rows = z0.shape, z0.shape[0]
    start, advance = _METHODS[config.method](config)

    def flat_f(z):
        return f(z.reshape(shape)).reshape(rows, -1)

    def body(progress):
        memory, z, value, difference = advance(flat_f, progress.memory, progress.step)
        absolute = _norm(difference)
        residual = absolute if config.stop == "abs" else absolute / (1e-5 + _norm(value))
        good = jnp.isfinite(absolute) & jnp.isfinite(residual)
        good &= absolute <= config.divergence_ratio * progress.lowest_absolute
        keep = progress.active & good
        better = keep & (residual < progress.best_residual)
        # Rows that have no budget, diverged or ran out of steps are not asked.
        stops_by = jnp.mean(residual, where=keep) if config.batch_mean_stop else residual
        num_steps = progress.num_steps + progress.active
        record = progress.trace
        if record is not None:
            column = jnp.where(progress.active, residual, jnp.nan)
            record = jax.lax.dynamic_update_index_in_dim(record, column, progress.step, axis=1)
        return _Progress(
            step=progress.step + 1,
            memory=memory,
            z=jnp.where(keep[:, None], z, progress.z),
            residual=jnp.where(keep, residual, progress.residual),
            best_z=jnp.where(better[:, None], z, progress.best_z),
            best_residual=jnp.where(better, residual, progress.best_residual),
            lowest_absolute=jnp.where(
                keep, jnp.minimum(absolute, progress.lowest_absolute), progress.lowest_absolute
            ),
            num_steps=num_steps,
            active=keep & (stops_by >= config.tol) & (num_steps < budget),
            diverged=progress.diverged | (progress.active & ~good),
            trace=record,
        )

    z0 = z0.reshape(rows, -1)
    infinity = jnp.full(rows, jnp.inf, z0.dtype)
    progress = _Progress(
        step=jnp.int32(0),
        memory=start(flat_f, z0),
        z=z0,
        residual=infinity,
        best_z=z0,
        best_residual=infinity,
        lowest_absolute=infinity,
        num_steps=jnp.zeros(rows, jnp.int32),
        active=budget > 0,
        diverged=jnp.zeros(rows, bool),
        trace=jnp.full((rows, config.max_steps), jnp.nan, z0.dtype) if trace else None,
    )
    if unroll:
        # A loop of static length can be differentiated backwards; rows that are done stay as they
        # are.
        progress, _ = jax.lax.scan(lambda p, _: (body(p), None), progress, length=config.max_steps)
    else:
        progress = jax.lax.while_loop(lambda p: jnp.any(p.active), body, progress)

    use_best = progress.diverged | config.best_iterate
    z = jnp.where(use_best[:, None], progress.best_z, progress.z)
    residual = jnp.where(use_best, progress.best_residual, progress.residual)
    info = SolveInfo(
        num_steps=progress.num_steps,
        residual=residual,
        converged=~progress.diverged & (residual < config.tol),
        diverged=progress.diverged,
        trace=progress.trace,
    )
    return z.reshape(shape), info


# A method is a pair of functions on flat rows (B, N): `start(f, z)` makes its memory, and
# `advance(f, memory, step)` returns the new memory, the iterate, f at the point whose residual is
# measured, and that residual vector f(z) - z.


def _picard(config):
    def start(f, z):
        return z

    def advance(f, z, step):
        value = f(z)
        new = _mix(value, z, config.mixing)
        return new, new, value, value - z

    return start, advance


def _anderson(config):
    size = config.history_size

    def push(f, memory, z, count):
        states, values = memory
        value = f(z)
        states = jax.lax.dynamic_update_index_in_dim(states, z, count % size, axis=1)
        values = jax.lax.dynamic_update_index_in_dim(values, value, count % size, axis=1)
        return (states, values), value

    def start(f, z):
        empty = jnp.zeros((z.shape[0], size, z.shape[1]), z.dtype)
        memory, value = push(f, (empty, empty), z, 0)
        memory, _ = push(f, memory, value, 1)
        return memory

    def advance(f, memory, step):
        states, values = memory
        filled = jnp.arange(size) < step + 2
        # Minimising ||sum a_i (f_i - z_i)||^2 + ridge ||a||^2 under sum a_i = 1 gives a ~ G^-1 1.
        # An empty slot holds zeros: with a unit row in G and a 0 on the right-hand side it gets no
        # weight.
        differences = values - states
        gram = _product("bmn,bkn->bmk", differences, differences)
        gram += jnp.diag(jnp.where(filled, config.ridge, 1).astype(gram.dtype))[None]
        ones = jnp.broadcast_to(filled.astype(gram.dtype)[None], gram.shape[:2])
        weights = _solve_systems(gram, ones)
        weights = weights / weights.sum(axis=1, keepdims=True)
        z = _mix(
            _product("bm,bmn->bn", weights, values),
            _product("bm,bmn->bn", weights, states),
            config.mixing,
        )
        memory, value = push(f, memory, z, step + 2)
        return memory, z, value, value - z

    return start, advance


def _broyden(config):
    # "Good" Broyden on g(z) = f(z) - z. The inverse Jacobian is -I + sum_i u_i v_i^T.
    def times(columns, rows, vector):
        inner = _product("bsn,bn->bs", rows, vector)
        return _product("bs,bsn->bn", inner, columns) - vector

    def start(f, z):
        empty = jnp.zeros((z.shape[0], config.max_steps, z.shape[1]), z.dtype)
        g = f(z) - z
        return z, g, g, empty, empty

    def advance(f, memory, step):
        z, g, update, u, v = memory
        z = z + update
        value = f(z)
        new_g = value - z
        change = new_g - g
        new_v = times(v, u, update)
        scale = jnp.sum(new_v * change, axis=1, keepdims=True)
        new_u = update - times(u, v, change)
        # A row that has come to rest has no secant to learn from.
        new_u = jnp.where(scale == 0, 0, new_u / jnp.where(scale == 0, 1, scale))
        u = jax.lax.dynamic_update_index_in_dim(u, new_u, step, axis=1)
        v = jax.lax.dynamic_update_index_in_dim(v, new_v, step, axis=1)
        return (z, new_g, -times(u, v, new_g), u, v), z, value, new_g

    return start, advance


_METHODS = {"picard": _picard, "anderson": _anderson, "broyden": _broyden}


# In full precision: TPUs and some GPUs would round the factors by default, but an accelerated step
# is made of small differences.
_product = functools.partial(jnp.einsum, precision="highest")


def _solve_systems(matrices, vectors):
    """Solves small positive definite systems, (B, M, M) and (B, M), by elimination.

    They need no pivots. A library's LU decomposition is a call that compilers do not divide over
    devices, so that each of these would solve the systems of all rows.
    """
    systems = jnp.concatenate([matrices, vectors[..., None]], axis=2)
    for k in range(matrices.shape[1]):
        pivot = systems[:, k] / systems[:, k, k : k + 1]
        systems = systems - systems[:, :, k : k + 1] * pivot[:, None]
        systems = systems.at[:, k].set(pivot)
    return systems[..., -1]


def _apply(f, theta, z):
    """f in the solver's precision."""
    value = f(theta, z)
    if value.shape != z.shape:
        raise ValueError(f"f turns a state of shape {z.shape} into {value.shape}")
    return value.astype(z.dtype)


def _mix(value, z, mixing):
    return value if mixing == 1 else mixing * value + (1 - mixing) * z


def _norm(rows):
    """(B,) Euclidean norm of each row of a (B, ...) array."""
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=tuple(range(1, rows.ndim))))
