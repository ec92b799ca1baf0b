"""Fixed points `z* = f(theta, z*)` of batched maps, and gradients through them.

Three solvers share one `lax.while_loop`: Picard (plain iteration), Anderson and Broyden. Every row
of the batch stops on its own, so a row's answer does not depend on its neighbours (unless
`batch_mean_stop` asks for that), and the iteration budget is a traced value, so changing it does
not recompile. It works under `jax.jit`, `jax.vmap` and `jax.shard_map`.

The module needs jax alone and knows nothing of landmarks: it can serve any deep equilibrium model.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

Method = Literal["picard", "anderson", "broyden"]
StopRule = Literal["rel", "abs"]
RidgeScale = Literal["trace", "absolute"]
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
        ridge: Anderson's regulariser, added to the diagonal of the Gram matrix of the residuals.
        ridge_scale: the unit of `ridge`: the "trace" of the Gram matrix, so that the iterates of
            `c f(z / c)` from `c z0` are `c` times those of `f` from `z0`; or 1 ("absolute"), as in
            the released code. The sum is never less than what rounding needs.
        mixing: weight of f(z) against z in Picard and Anderson updates, in (0, 1]; 1 is undamped.
        best_iterate: return the iterate of lowest residual rather than the last one.
        final_evaluation: return `f(z)` of the solution rather than the solution itself.
        divergence_ratio: a row whose absolute residual exceeds this multiple of its lowest so far
            has diverged; residuals that are no more than rounding count as equal.
        batch_mean_stop: stop all rows together, once the mean of their residuals is below `tol`. A
            row's answer then depends on its neighbours; it is here to repeat what was computed so.
    """

    method: Method = "picard"
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
    def start_evaluations(self) -> int:
        """Evaluations before the first iteration of a row that has a budget.

        Each iteration takes one more, and so does the final evaluation.
        """
        return _METHODS[self.method].start_evaluations

    def __post_init__(self) -> None:
        choices_of = {"method": Method, "stop": StopRule, "ridge_scale": RidgeScale}
        for name, choices in ((n, get_args(c)) for n, c in choices_of.items()):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
        for name in ("max_steps", "history_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if not 0 < self.mixing <= 1:
            raise ValueError(f"mixing must be in (0, 1], not {self.mixing}")
        for name in ("tol", "ridge"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, not {getattr(self, name)}")
        if not self.divergence_ratio > 1:
            raise ValueError(f"divergence_ratio must be above 1, not {self.divergence_ratio}")


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

    Second derivatives are those of the chosen gradient by forward over reverse mode (`jax.jvp` of
    `jax.grad`). Reverse over reverse raises JAX's error about `while_loop`, except for "unrolled".

    Args:
        f: the map; row b of its result must depend on row b of `z` alone. It must not close over
            traced values: all that is differentiated sits in `theta`. It may compute in low
            precision; the solver works in the precision of `z0`, at least float32.
        theta: pytree of parameters and injected features.
        z0: (B, ...) initial state, real; B may be 0.
        forward: the forward solver.
        backward: the solver of the adjoint equation `y = J^T y + g`, used by "implicit"; `forward`
            when None. Its `best_iterate` and `final_evaluation` mean the same as forward.
        gradient: "implicit" (implicit function theorem), "one_step" (Jacobian-free: backward
            through one evaluation at the solution), "phantom" (backward through `phantom_steps`
            damped steps from the solution), or "unrolled" (backward through every iteration; memory
            grows with `forward.max_steps`, and the solution is computed twice: rows are only taken
            as far as they do not diverge).
        budget: () or (B,) largest number of iterations now, traced, clipped to [0,
            forward.max_steps]; None is forward.max_steps. 0 takes the final evaluation alone.
        phantom_steps: number of steps of the phantom gradient.
        phantom_mixing: their damping, in (0, 1].
        trace: keep the residual of each iteration in the returned info.

    Returns:
        The state (B, ...) and its SolveInfo, which carries no gradient. The gradient with respect
        to `z0` is zero unless "unrolled".

    Raises:
        ValueError: an unknown gradient, `phantom_mixing` outside (0, 1], `z0` has no batch axis, or
            `f` does not keep its shape.
        TypeError: `z0` is no array, or it or the map's value is complex.
    """
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient must be one of {get_args(Gradient)}, not {gradient!r}")
    if not 0 < phantom_mixing <= 1:
        raise ValueError(f"phantom_mixing must be in (0, 1], not {phantom_mixing}")
    z0 = _checked_state(z0)
    budget = jnp.asarray(forward.max_steps if budget is None else budget, jnp.int32)
    budget = jnp.broadcast_to(jnp.clip(budget, 0, forward.max_steps), z0.shape[:1])
    z0, budget = _varying((z0, budget), _mesh_axes((theta, z0, budget)))

    attached = functools.partial(_apply, f, theta)
    if gradient in ("implicit", "one_step"):
        adjoint = (backward or forward) if gradient == "implicit" else None
        z, info = _attached(f, forward, adjoint, trace, theta, z0, budget)
    elif gradient == "phantom":
        z, info = _detached(f, forward, trace, theta, z0, budget)
        for step in range(phantom_steps):
            value = attached(z)
            info = info if step else _measured(forward, info, z, value)
            z = _mix(value, z, phantom_mixing)
    else:
        z, info = _unrolled(f, forward, trace, theta, z0, budget)
        if forward.final_evaluation:
            z, info = (value := attached(z)), _measured(forward, info, z, value)
    return z, jax.lax.stop_gradient(info)


# The implicit and one-step gradients. Both linearise f where the solver stopped, which is the point
# that the final evaluation starts from.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _attached(f, forward, adjoint, trace, theta, z0, budget):
    return _attached_forward(f, forward, adjoint, trace, theta, z0, budget)[0]


def _attached_forward(f, forward, adjoint, trace, theta, z0, budget):
    mapped = functools.partial(_apply, f, theta)
    z, info = _solve(mapped, z0, forward, budget, trace)
    out = z
    if forward.final_evaluation:
        out = mapped(z)
        info = _measured(forward, info, z, out)
    return (out, info), (theta, z)


def _attached_backward(f, forward, adjoint, trace, saved, cotangents):
    theta, z = saved
    g = cotangents[0]
    axes = _mesh_axes(z)
    # Parameters that the devices share are summed over them once, at the end, not in the loop.
    theta, shared = jax.vjp(lambda theta: _varying(theta, axes), theta)
    _, pullback = jax.vjp(functools.partial(_apply, f), theta, z)
    zero = _varying(jnp.zeros_like(z), axes)
    y = g
    if adjoint is not None:
        step = lambda y: pullback(y)[1] + g  # noqa: E731
        budget = jnp.full(z.shape[:1], adjoint.max_steps, jnp.int32)
        y, _ = _solve(step, zero, adjoint, budget, trace=False)
        y = step(y) if adjoint.final_evaluation else y
    (cotangent,) = shared(pullback(y)[0])
    return cotangent, zero, None


_attached.defvjp(_attached_forward, _attached_backward)


# The solution that phantom steps start from: no gradient, at first order. Its rule, unlike
# `stop_gradient`, lets second derivatives see that it moves with theta.


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _detached(f, forward, trace, theta, z0, budget):
    return _solve(functools.partial(_apply, f, theta), z0, forward, budget, trace)


@_detached.defjvp
def _detached_tangents(f, forward, trace, primals, tangents):
    theta, z0, budget = primals
    # Not `_detached` itself, or second derivatives would take this rule again.
    out = _solve(functools.partial(_apply, f, theta), z0, forward, budget, trace)
    # What does not depend on a variable has the tangents wanted here, of each type of number.
    return out, jax.jvp(lambda _: out, (0.0,), (0.0,))[1]


def _unrolled(f, forward, trace, theta, z0, budget):
    """Backward through every iteration that a row makes before it stops or diverges.

    A non-finite value anywhere would turn the whole gradient into NaN, used or not. So rows are
    first solved without a gradient, to learn how many of their iterations are sound.
    """
    frozen, start = jax.lax.stop_gradient((theta, z0))
    _, info = _solve(functools.partial(_apply, f, frozen), start, forward, budget, trace=False)
    sound = info.num_steps - info.diverged
    attached = functools.partial(_apply, f, theta)
    z, again = _solve(attached, z0, forward, sound, trace, diverged=info.diverged)
    return z, info._replace(trace=again.trace)


class _Progress(NamedTuple):
    """The loop's carry; all but `evaluations` and `memory` is frozen in rows that are done."""

    evaluations: jax.Array
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


def _solve(f, z0, config, budget, trace, diverged=None):
    """Runs the loop on flat rows; returns the state before any final evaluation, and the info.

    Args:
        f: the map of a state.
        z0: initial state, as `fixed_point` has made it.
        config: the solver.
        budget: (B,).
        trace: keep residuals.
        diverged: (B,) bool, rows whose budget ends where they would diverge; None if that is to be
            found out. With it the loop has a static length and can be differentiated backwards.
    """
    shape, rows = z0.shape, z0.shape[0]
    method = _METHODS[config.method]
    # Growth among residuals that are no more than rounding is no divergence.
    rounding = jnp.finfo(z0.dtype).eps

    def flat_f(z):
        return f(z.reshape(shape)).reshape(z.shape)

    def body(progress):
        count = progress.evaluations - method.start_evaluations  # iterations before this one
        point = method.propose(config, progress.memory, progress.evaluations)
        if diverged is not None:
            # Rows that are done are evaluated all the same, and must not give what is not finite.
            point = jnp.where(progress.active[:, None], point, z0)
        value = flat_f(point)
        memory, z = method.learn(config, progress.memory, progress.evaluations, point, value)

        measured, reference = jax.lax.stop_gradient((value - point, value))
        absolute, size = _norm(measured), _norm(reference)
        residual = absolute if config.stop == "abs" else absolute / (1e-5 + size)
        scale = jnp.fmax(progress.scale, size)
        lowest = jnp.maximum(progress.lowest_absolute, rounding * scale)
        good = jnp.isfinite(absolute) & jnp.isfinite(residual)
        good &= absolute / config.divergence_ratio <= lowest
        counted = progress.active & (count >= 0)
        keep = counted & good
        better = keep & (residual < progress.best_residual)
        # Rows that have no budget, diverged or ran out of steps are not asked.
        stops_by = jnp.mean(residual, where=keep) if config.batch_mean_stop else residual
        num_steps = progress.num_steps + counted
        goes_on = keep & (stops_by >= config.tol) & (num_steps < budget)
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
            active=jnp.where(count >= 0, goes_on, progress.active),
            diverged=progress.diverged | (counted & ~good),
            trace=record,
        )

    z0 = z0.reshape(rows, math.prod(shape[1:]))
    infinity = jnp.full(rows, jnp.inf, z0.dtype)
    progress = _Progress(
        evaluations=jnp.int32(0),
        memory=method.start(config, z0),
        z=z0,
        residual=infinity,
        best_z=z0,
        best_residual=infinity,
        lowest_absolute=infinity,
        scale=jax.lax.stop_gradient(_norm(z0)),
        num_steps=jnp.zeros(rows, jnp.int32),
        active=budget > 0,
        diverged=jnp.zeros(rows, bool),
        trace=jnp.full((rows, config.max_steps), jnp.nan, z0.dtype) if trace else None,
    )
    progress = _varying(progress, _mesh_axes(z0))
    if diverged is None:
        progress = jax.lax.while_loop(lambda p: jnp.any(p.active), body, progress)
        diverged = progress.diverged
    else:
        length = method.start_evaluations + config.max_steps
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
    return z.reshape(shape), info


def _measured(config, info, z, value):
    """The info of a solution z, by the map's value there."""
    difference, value = jax.lax.stop_gradient((value - z, value))
    residual = _norm(difference)
    if config.stop == "rel":
        residual = residual / (1e-5 + _norm(value))
    converged = ~info.diverged & (residual < config.tol)
    return info._replace(residual=residual, converged=converged)


class _Method(NamedTuple):
    """A method on flat rows (B, N), as functions between evaluations of the map.

    Attributes:
        start_evaluations: evaluations before those that count as iterations.
        start: `(config, z0) -> memory`.
        propose: `(config, memory, evaluations) -> point` to evaluate next, after so many.
        learn: `(config, memory, evaluations, point, value) -> memory, iterate`, where the iterate
            is what is returned if the loop ends here.
    """

    start_evaluations: int
    start: Callable
    propose: Callable
    learn: Callable


def _picard_learn(config, z, evaluations, point, value):
    new = _mix(value, point, config.mixing)
    return new, new


def _anderson_start(config, z):
    empty = _empty_slots(z, config.history_size)
    return jax.lax.dynamic_update_index_in_dim(empty, z, 0, axis=1), empty


def _anderson_propose(config, memory, evaluations):
    """The first two points are z0 and f(z0); then mixtures of the history."""
    states, values = memory
    filled = jnp.arange(config.history_size) < jnp.maximum(evaluations, 1)
    weights = _anderson_weights(config, values - states, filled)
    mixed_values = _product("bm,bmn->bn", weights, values)
    mixed_states = _product("bm,bmn->bn", weights, states)
    mixing = jnp.where(evaluations == 1, 1, jnp.asarray(config.mixing, values.dtype))
    point = _mix(mixed_values, mixed_states, config.mixing if config.mixing == 1 else mixing)
    return jnp.where(evaluations == 0, states[:, 0], point)


def _anderson_weights(config, differences, filled):
    """(B, M) weights a that minimise `||sum a_i d_i||^2 + ridge ||a||^2` under `sum a_i = 1`.

    They are proportional to `G^-1 1` of the Gram matrix G with the ridge on its diagonal.

    Args:
        config: the solver.
        differences: (B, M, N) f(z_i) - z_i, zero in slots that are not filled.
        filled: (M,) bool.
    """
    gram = _product("bmn,bkn->bmk", differences, differences)
    trace = jnp.trace(gram, axis1=1, axis2=2)[:, None, None]
    unit = jnp.where(trace == 0, 1, trace)
    # Below this, rounding of G alone may make it singular.
    least = 4 * jnp.finfo(gram.dtype).eps
    ridge = config.ridge if config.ridge_scale == "trace" else config.ridge / unit
    ridge = jnp.broadcast_to(jnp.maximum(ridge, least), trace.shape)
    # An empty slot has a row of the identity in G and 0 on the right-hand side: no weight.
    diagonal = jnp.eye(len(filled), dtype=gram.dtype)[None] * jnp.where(filled, ridge, 1)
    ones = jnp.broadcast_to(filled.astype(gram.dtype)[None], gram.shape[:2])
    weights = _solve_systems(gram / unit + diagonal, ones)
    return weights / weights.sum(axis=1, keepdims=True)


def _anderson_learn(config, memory, evaluations, point, value):
    slot = evaluations % config.history_size
    states, values = memory
    states = jax.lax.dynamic_update_index_in_dim(states, point, slot, axis=1)
    values = jax.lax.dynamic_update_index_in_dim(values, value, slot, axis=1)
    return (states, values), point


# "Good" Broyden on g(z) = f(z) - z. The inverse Jacobian is -I + sum_i u_i v_i^T.


def _broyden_start(config, z):
    empty = _empty_slots(z, config.max_steps)
    return z, jnp.zeros_like(z), jnp.zeros_like(z), empty, empty


def _broyden_propose(config, memory, evaluations):
    z, _, update, _, _ = memory
    return z + update


def _broyden_learn(config, memory, evaluations, point, value):
    _, g, update, u, v = memory
    new_g = value - point
    change = new_g - g
    new_v = _broyden_product(v, u, update)
    scale = jnp.sum(new_v * change, axis=1, keepdims=True)
    new_u = update - _broyden_product(u, v, change)
    # At the first point, and in a row that has come to rest, there is no secant to learn from.
    new_u = jnp.where(scale == 0, 0, new_u / jnp.where(scale == 0, 1, scale))
    slot = jnp.maximum(evaluations - 1, 0)
    u = jax.lax.dynamic_update_index_in_dim(u, new_u, slot, axis=1)
    v = jax.lax.dynamic_update_index_in_dim(v, new_v, slot, axis=1)
    return (point, new_g, -_broyden_product(u, v, new_g), u, v), point


def _empty_slots(z, count):
    """(B, count, N) zeros, divided over devices as z (B, N) is."""
    return jnp.broadcast_to(jnp.zeros_like(z)[:, None], (z.shape[0], count, z.shape[1]))


def _broyden_product(columns, rows, vector):
    inner = _product("bsn,bn->bs", rows, vector)
    return _product("bs,bsn->bn", inner, columns) - vector


_METHODS = {
    "picard": _Method(
        start_evaluations=0,
        start=lambda config, z: z,
        propose=lambda config, z, evaluations: z,
        learn=_picard_learn,
    ),
    "anderson": _Method(2, _anderson_start, _anderson_propose, _anderson_learn),
    "broyden": _Method(1, _broyden_start, _broyden_propose, _broyden_learn),
}


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


def _checked_state(z0):
    """The initial state in the solver's precision."""
    if not hasattr(z0, "ndim") or not hasattr(z0, "dtype"):
        raise TypeError(f"z0 must be one array (B, ...), not {type(z0).__name__}")
    if z0.ndim == 0:
        raise ValueError("z0 must be (B, ...), one row for each sample; it is a scalar")
    if jnp.issubdtype(z0.dtype, jnp.complexfloating):
        raise TypeError("z0 is complex: stack its real and imaginary parts on an axis instead")
    return jnp.asarray(z0, jnp.promote_types(z0.dtype, jnp.float32))


def _apply(f, theta, z):
    """f in the solver's precision."""
    value = f(theta, z)
    if value.shape != z.shape:
        raise ValueError(f"f turns a state of shape {z.shape} into {value.shape}")
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError("f is complex: stack its real and imaginary parts on an axis instead")
    return value.astype(z.dtype)


def _mix(value, z, mixing):
    return (
        value
        if isinstance(mixing, int | float) and mixing == 1
        else mixing * value + (1 - mixing) * z
    )


def _norm(rows):
    """(B,) Euclidean norm of each row of a (B, ...) array."""
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=tuple(range(1, rows.ndim))))


# Under `jax.shard_map` an array is typed by the mesh axes over which it differs between devices,
# and what a loop carries must keep its type.


def _mesh_axes(tree):
    """The axes along which any leaf differs."""
    types = [jax.typeof(leaf) for leaf in jax.tree.leaves(tree)]
    # `vma` is what JAX before 0.10.2 calls it.
    axes = [t.vma if hasattr(t, "vma") else t.manual_axis_type.varying for t in types]
    return frozenset().union(*axes)


def _varying(tree, axes):
    """The tree, typed as different on each device along the axes."""

    def cast(leaf):
        missing = tuple(axes - _mesh_axes(leaf))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree
