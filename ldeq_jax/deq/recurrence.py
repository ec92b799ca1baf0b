"""Recurrence over frames for any equilibrium model, trained or not to expect it.

The equilibrium of a frame is searched for near that of the frame before (Recurrence without
Recurrence, Micaelli et al. 2023, sec. 4). Softly constrained, it minimises

    J(z) = ||f(theta_t, z) - z||^2 + penalty * ||z - z_prev||^2,

which is done cheaply in two ways that compose: the solver starts at `z_prev` with a small budget
(stopping early near a point acts as a Gaussian prior centred on it), and the result is averaged
with `z_prev` by the closed form that minimises J where f does not depend on z,

    z <- (f(theta_t, z) + penalty * z_prev) / (1 + penalty).

`ldeq_jax.deq.objective` finds the minimum itself. What moves from frame to frame moves the state
with it: `align` says how. A video is the `jax.lax.scan` of `step`. Nothing here knows of faces;
`ldeq_jax.model.rwr` is one user.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ldeq_jax.deq.equilibrium import Gradient, fixed_point
from ldeq_jax.deq.rows import Map, check_state, norm
from ldeq_jax.deq.solver import SolverConfig

Align = Callable[[Any, Any, Any | None], tuple[Any, Any]]
Fuse = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class RecurrentState(NamedTuple):
    """What one frame passes to the next, row by row.

    Attributes:
        z: state of the last frame: an array (B, ...) or a pytree of them.
        memory: what `align` learned of the motion: a pytree of arrays (B, ...). Zero where there is
            no motion yet: before the first frame, and in one that follows none.
        valid: (B,) bool, False before the first frame and after a frame without a solution.
    """

    z: Any
    memory: Any
    valid: jax.Array


class FrameInfo(NamedTuple):
    """What happened to a frame; every field (B,).

    Attributes:
        num_steps: solver iterations.
        num_evaluations: evaluations of the map in total; 0 where the mask is False.
        residual: of the last evaluation, `||f(z) - z|| / (1e-5 + ||f(z)||)`; that of the solver,
            by its own stop rule, without a final evaluation.
        distance: `||z - z_prev|| / (1e-5 + ||z||)`, with the previous state as it was aligned; NaN
            where none was used.
        ok: False where the mask is, and where the map was not finite.
    """

    num_steps: jax.Array
    num_evaluations: jax.Array
    residual: jax.Array
    distance: jax.Array
    ok: jax.Array


def initial_state(z: Any, memory: Any = ()) -> RecurrentState:
    """The state before the first frame.

    Args:
        z: an array (B, ...) or a pytree of them, whose shapes and types count, not their values.
        memory: the same of what `align` remembers.
    """
    z, memory = (jax.tree.map(jnp.zeros_like, tree) for tree in (z, memory))
    z, _ = check_state(z, "z")
    return RecurrentState(z, memory, jnp.zeros(jax.tree.leaves(z)[0].shape[0], bool))


def step(
    f: Map,
    theta: Any,
    state: RecurrentState,
    *,
    forward: SolverConfig,
    budget: jax.Array | int = 0,
    first_budget: jax.Array | int | None = None,
    penalty: Any = 1.0,
    align: Align | None = None,
    fuse: Fuse | None = None,
    warm_start: bool = True,
    final_evaluation: bool = True,
    gradient: Gradient = "implicit",
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[FrameInfo, RecurrentState]:
    """The state of one frame of each of B videos, row by row.

    Example:
        >>> def frame(state, theta):
        ...     info, state = step(f, theta, state, forward=solver, penalty=0.5)
        ...     return state, (state.z, info)
        >>> state, (z, info) = jax.lax.scan(frame, initial_state(z0), thetas)

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters, and what it takes from this frame.
        state: what the last frame left, or `initial_state`.
        forward: the solver; its own `final_evaluation` is not used.
        budget: iterations of a frame that follows another, traced, at most `forward.max_steps`.
        first_budget: iterations of a frame that follows none; `forward.max_steps` when None.
        penalty: weight of the distance to the previous state, not negative, traced; 0 is no
            constraint. For frames dt apart, tau / dt makes the mean below the implicit Euler step
            of tau dz/dt = f - z, with the same lag tau for any dt. A number; or a pytree like z of
            arrays that broadcast against its own; or a function from the aligned previous state to
            either.
        align: `(z_prev, memory, z) -> (z_prev where it belongs in this frame, memory)`. It is
            called twice with the same z_prev and memory: first with z None, for the start of the
            solver; then with the z of this frame before the penalty, and this answer is used for
            the penalty and kept. It may close over what is known of the frames, such as a flow.
            None leaves the state as it is.
        fuse: `(z, z_prev, penalty) -> z`, leaf by leaf, with the penalty as an array that
            broadcasts. None is the mean `(z + penalty * z_prev) / (1 + penalty)`. A penalty of 0
            must give z.
        warm_start: start the solver at the previous state rather than from zeros.
        final_evaluation: evaluate the map once more at the solution.
        gradient: of the solver, as in `fixed_point`. "one_step" with a final evaluation
            differentiates that evaluation alone.
        reset: (B,) bool, True for a frame that does not follow the last one: it is solved alone. So
            is every row whose state is not valid.
        mask: (B,) bool, False for rows that are not to be solved: they cost no iterations, and the
            next frame is solved alone.

    Returns:
        What happened, and the state for the next frame, which holds this frame's z: zero in rows
        that are not `ok`.
    """
    if align is None:
        align = _leave
    rows = state.valid.shape[0]
    mask = jnp.ones(rows, bool) if mask is None else mask
    follows = state.valid & mask if reset is None else state.valid & mask & ~reset

    def aligned(z):
        return _where(follows, align(state.z, state.memory, z))

    previous, _ = aligned(None)
    previous, layout = check_state(previous, "the state")

    def rows_norm(tree):
        return norm(layout.ravel(tree))

    z0 = previous if warm_start else jax.tree.map(jnp.zeros_like, previous)
    first_budget = forward.max_steps if first_budget is None else first_budget
    budget = jnp.where(mask, jnp.where(follows, budget, first_budget), 0)
    forward = dataclasses.replace(forward, final_evaluation=False)
    one_step = gradient == "one_step" and final_evaluation
    z, info = fixed_point(f, theta, z0, forward=forward, budget=budget, gradient=gradient)
    z = jax.lax.stop_gradient(z) if one_step else z
    residual = info.residual
    start_evaluations = jnp.where(budget > 0, forward.start_evaluations, 0)
    evaluations = start_evaluations + info.num_steps + final_evaluation
    if final_evaluation:
        value = f(theta, z)
        residual = rows_norm(_subtract(value, z)) / (1e-5 + rows_norm(value))
        z = value

    previous, memory = aligned(z)
    weights = _where(follows, _weights(penalty, previous))
    z = jax.tree.map(weighted_mean if fuse is None else fuse, z, previous, weights)
    size = rows_norm(z)
    ok = mask & jnp.isfinite(residual) & jnp.isfinite(size)
    distance = rows_norm(_subtract(z, previous)) / (1e-5 + size)
    frame = FrameInfo(
        num_steps=info.num_steps,
        num_evaluations=jnp.where(mask, evaluations, 0),
        residual=jnp.where(ok, residual, jnp.nan),
        distance=jnp.where(ok & follows, distance, jnp.nan),
        ok=ok,
    )
    return frame, RecurrentState(_where(ok, z), _where(ok, memory), ok)


def weighted_mean(z: jax.Array, z_prev: jax.Array, penalty: jax.Array) -> jax.Array:
    """`(z + penalty * z_prev) / (1 + penalty)`, how `step` fuses by default."""
    return (z + penalty * z_prev) / (1 + penalty)


def _leave(z_prev, memory, z):
    return z_prev, memory


def _weights(penalty, previous):
    """The penalty as a tree like the state, each array with as many axes as its counterpart."""
    if callable(penalty):
        penalty = penalty(previous)
    if jax.tree.structure(penalty) != jax.tree.structure(previous):
        penalty = jax.tree.map(lambda _: penalty, previous)

    def full_rank(weight, leaf):
        weight = jnp.asarray(weight, leaf.dtype)
        if weight.ndim > leaf.ndim:
            raise ValueError(f"a penalty of shape {weight.shape} for a state of {leaf.shape}")
        return weight.reshape((1,) * (leaf.ndim - weight.ndim) + weight.shape)

    return jax.tree.map(full_rank, penalty, previous)


def _subtract(a, b):
    return jax.tree.map(lambda a, b: a - b, a, b)


def _where(rows, tree):
    """The tree in the rows (B,) that are True, else 0."""
    return jax.tree.map(
        lambda leaf: jnp.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0), tree
    )
