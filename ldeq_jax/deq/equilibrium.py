"""Fixed points `z* = f(theta, z*)` of batched maps, and their derivatives.

The state z is any pytree of real arrays (B, ...). `fixed_point` works under `jax.jit`, `jax.vmap`
and `jax.shard_map`. It needs jax alone and knows nothing of landmarks: it serves any deep
equilibrium model.
"""

import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from ldeq_jax.deq.rows import Map, check_state, map_rows, mesh_axes, mix, varying
from ldeq_jax.deq.solver import SolveInfo, SolverConfig, measure, solve

Gradient = Literal["implicit", "one_step", "phantom", "unrolled"]
Differentiation = Literal["vjp", "jvp"]


def fixed_point(
    f: Map,
    theta: Any,
    z0: Any,
    *,
    forward: SolverConfig,
    backward: SolverConfig | None = None,
    gradient: Gradient = "implicit",
    differentiation: Differentiation = "vjp",
    budget: jax.Array | int | None = None,
    phantom_steps: int = 5,
    phantom_mixing: float = 0.5,
    trace: bool = False,
) -> tuple[Any, SolveInfo]:
    """Solves `z = f(theta, z)` row by row, differentiably in `theta`.

    With "vjp", second derivatives are those of the chosen gradient by forward over reverse mode
    (`jax.jvp` of `jax.grad`). Reverse over reverse raises JAX's error about `while_loop`, except
    for "unrolled". With "jvp", the implicit derivative can be taken by any mode, to any order.

    Args:
        f: the map; row b of its result must depend on row b of `z` alone. It must not close over
            traced values: all that is differentiated sits in `theta`. It may compute in low
            precision; the solver works in its own.
        theta: pytree of parameters and injected features.
        z0: initial state: an array (B, ...) or a pytree of them, real; B may be 0. The solver works
            on all its leaves as one row of numbers per sample, and residuals are norms of that row.
            All leaves are converted to the widest of their types, at least float32; f gets them so.
        forward: the forward solver.
        backward: the solver of the adjoint equation `y = J^T y + g` ("vjp"), or of the tangent
            equation `t = J t + (df/dtheta) dtheta` and its transpose ("jvp"), used by "implicit";
            `forward` when None. Its `best_iterate` and `final_evaluation` mean the same as forward.
        gradient: "implicit" (implicit function theorem), "one_step" (Jacobian-free: backward
            through one evaluation at the solution), "phantom" (backward through `phantom_steps`
            damped steps from the solution), or "unrolled" (backward through every iteration; memory
            grows with `forward.max_steps`, and the solution is computed twice: rows are only taken
            as far as they do not diverge).
        differentiation: the rule that "implicit" and "one_step" define: "vjp" for reverse mode, or
            "jvp" for forward mode, whose linear solve JAX can transpose, so that reverse mode and
            Hessian-vector products work too. "jvp" needs forward-mode derivatives of f. "phantom"
            and "unrolled" are differentiated by JAX itself in either mode.
        budget: () or (B,) largest number of iterations now, traced, clipped to [0,
            forward.max_steps]; None is forward.max_steps. 0 takes the final evaluation alone.
        phantom_steps: number of steps of the phantom gradient.
        phantom_mixing: their damping, in (0, 1].
        trace: keep the residual of each iteration in the returned info.

    Returns:
        The state, structured as z0, and its SolveInfo, which carries no gradient. The gradient with
        respect to `z0` is zero unless "unrolled".

    Raises:
        ValueError: an unknown gradient or differentiation, `phantom_mixing` outside (0, 1], fewer
            than one phantom step, an array of `z0` has no batch axis or another one, or `f` does
            not keep the structure and shapes of the state.
        TypeError: `z0` holds what is no array, or it or the map's value is complex.

    Reference:
        Bai et al., Deep Equilibrium Models, NeurIPS 2019 ("implicit"). Fung et al., JFB, AAAI 2022
        ("one_step"). Geng et al., On Training Implicit Models, NeurIPS 2021 ("phantom").
    """
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient must be one of {get_args(Gradient)}, not {gradient!r}")
    if differentiation not in get_args(Differentiation):
        raise ValueError(
            f"differentiation must be one of {get_args(Differentiation)}, not {differentiation!r}"
        )
    check_phantom(phantom_steps, phantom_mixing)
    z0, layout = check_state(z0)
    rows = jax.tree.leaves(z0)[0].shape[0]
    budget = jnp.asarray(forward.max_steps if budget is None else budget, jnp.int32)
    budget = jnp.broadcast_to(jnp.clip(budget, 0, forward.max_steps), (rows,))
    z0, budget = varying((z0, budget), mesh_axes((theta, z0, budget)))
    z0 = layout.ravel(z0)

    f = functools.partial(map_rows, f, layout)
    attached = functools.partial(f, theta)
    if gradient in ("implicit", "one_step"):
        linear = (backward or forward) if gradient == "implicit" else None
        if differentiation == "vjp":
            z, info = _with_vjp(f, forward, linear, trace, theta, z0, budget)
        else:
            z, info, _ = _with_jvp(f, forward, linear, trace, theta, z0, budget)
    elif gradient == "phantom":
        z, info = _detached(f, forward, trace, theta, z0, budget)
        for step in range(phantom_steps):
            value = attached(z)
            info = info if step else measure(forward, info, z, value)
            z = mix(value, z, phantom_mixing)
    else:
        z, info = _unrolled(f, forward, trace, theta, z0, budget)
        if forward.final_evaluation:
            z, info = (value := attached(z)), measure(forward, info, z, value)
    return layout.unravel(z), jax.lax.stop_gradient(info)


def check_phantom(steps: int, mixing: float) -> None:
    """Refuses options of the phantom gradient that are out of range.

    Raises:
        ValueError: fewer than one step, or mixing outside (0, 1].
    """
    if steps < 1:
        raise ValueError(f"phantom_steps must be at least 1, not {steps}")
    if not 0 < mixing <= 1:
        raise ValueError(f"phantom_mixing must be in (0, 1], not {mixing}")


def _solve_and_evaluate(f, forward, trace, theta, z0, budget):
    """What is returned, the info, and z where the solver stopped.

    The implicit and one-step derivatives linearise f at z, which is the point that the final
    evaluation starts from.
    """
    mapped = functools.partial(f, theta)
    z, info = solve(mapped, z0, forward, budget, trace)
    if not forward.final_evaluation:
        return z, info, z
    out = mapped(z)
    return out, measure(forward, info, z, out), z


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _with_vjp(f, forward, linear, trace, theta, z0, budget):
    return _solve_and_evaluate(f, forward, trace, theta, z0, budget)[:2]


def _with_vjp_forward(f, forward, linear, trace, theta, z0, budget):
    out, info, z = _solve_and_evaluate(f, forward, trace, theta, z0, budget)
    return (out, info), (theta, z)


def _with_vjp_backward(f, forward, linear, trace, saved, cotangents):
    theta, z = saved
    g = cotangents[0]
    axes = mesh_axes(z)
    # Parameters that the devices share are summed over them once, at the end, not in the loop.
    theta, shared = jax.vjp(lambda theta: varying(theta, axes), theta)
    _, pullback = jax.vjp(f, theta, z)
    y = g
    if linear is not None:
        y = _linear_fixed_point(lambda y: pullback(y)[1] + g, z, linear)
    (cotangent,) = shared(pullback(y)[0])
    return cotangent, varying(jnp.zeros_like(z), axes), None


_with_vjp.defvjp(_with_vjp_forward, _with_vjp_backward)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _with_jvp(f, forward, linear, trace, theta, z0, budget):
    return _solve_and_evaluate(f, forward, trace, theta, z0, budget)


@_with_jvp.defjvp
def _with_jvp_tangents(f, forward, linear, trace, primals, tangents):
    theta, z0, budget = primals
    if linear is None:
        # Without this rule, second derivatives see that z moves with theta.
        out, info, z = _solve_and_evaluate(f, forward, trace, theta, z0, budget)
    else:
        out, info, z = _with_jvp(f, forward, linear, trace, theta, z0, budget)
    axes = mesh_axes(z)
    _, tangent = jax.jvp(lambda t: f(varying(t, axes), z), (theta,), (tangents[0],))
    if linear is not None:
        _, push = jax.linearize(functools.partial(f, varying(theta, axes)), z)

        def solve_linear(matvec, b):
            # `matvec` is I - J, or its transpose.
            return _linear_fixed_point(lambda y: y - matvec(y) + b, z, linear)

        tangent = jax.lax.custom_linear_solve(
            lambda v: v - push(v), tangent, solve_linear, solve_linear
        )
    return (out, info, z), (tangent, _no_tangents(info), tangent)


def _linear_fixed_point(step, z, config):
    """The fixed point of an affine map of rows shaped as z, from zeros."""
    zero = varying(jnp.zeros_like(z), mesh_axes(z))
    budget = jnp.full(z.shape[0], config.max_steps, jnp.int32)
    y, _ = solve(step, zero, config, budget)
    return step(y) if config.final_evaluation else y


# The solution that phantom steps start from: no gradient, at first order. Its rule, unlike
# `stop_gradient`, lets second derivatives see that it moves with theta.


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _detached(f, forward, trace, theta, z0, budget):
    return solve(functools.partial(f, theta), z0, forward, budget, trace)


@_detached.defjvp
def _detached_tangents(f, forward, trace, primals, tangents):
    theta, z0, budget = primals
    # Not `_detached` itself, or second derivatives would take this rule again.
    out = solve(functools.partial(f, theta), z0, forward, budget, trace)
    return out, _no_tangents(out)


def _no_tangents(tree):
    """Zero tangents of a tree's leaves, of each type of number."""
    return jax.jvp(lambda _: tree, (0.0,), (0.0,))[1]


def _unrolled(f, forward, trace, theta, z0, budget):
    """Backward through every iteration that a row makes before it stops or diverges.

    A non-finite value anywhere would turn the whole gradient into NaN, used or not. So rows are
    first solved without a gradient, to learn how many of their iterations are sound.
    """
    frozen, start = jax.lax.stop_gradient((theta, z0))
    _, info = solve(functools.partial(f, frozen), start, forward, budget)
    sound = info.num_steps - info.diverged
    attached = functools.partial(f, theta)
    z, again = solve(attached, z0, forward, sound, trace, diverged=info.diverged)
    return z, info._replace(trace=again.trace)
