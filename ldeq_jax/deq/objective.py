"""The minimum of the objective that recurrence approximates: the reference for small problems."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ldeq_jax.deq.rows import Map, check_state, map_rows


def minimise_objective(
    f: Map,
    theta: Any,
    z0: Any,
    z_prev: Any,
    penalty: Any,
    num_steps: int = 20,
    linear_steps: int = 100,
) -> Any:
    """Minimises `J(z) = ||f(theta, z) - z||^2 + penalty * ||z - z_prev||^2` row by row.

    By Levenberg and Marquardt's damped Gauss-Newton steps, each solved by conjugate gradients with
    products of df/dz and its transpose. For an affine map the first step is exact. It takes
    hundreds of evaluations where `recurrence.step` takes one. Where J has several minima it finds
    one near `z0`.

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters.
        z0: (B, ...), or a pytree of such arrays: where to start.
        z_prev: the previous state, shaped as z0.
        penalty: not negative: a number, or what broadcasts against z0, leaf by leaf of a pytree.
        num_steps: damped steps; those that would raise a row's J are not taken by that row.
        linear_steps: iterations of conjugate gradients for each.

    Returns:
        Minimisers, shaped as z0.
    """
    z0, layout = check_state(z0)
    if jax.tree.structure(penalty) != layout.structure:
        penalty = jax.tree.map(lambda _: penalty, z0)
    penalty = layout.ravel(jax.tree.map(lambda p, z: jnp.zeros_like(z) + p, penalty, z0))
    z0, z_prev = layout.ravel(z0), layout.ravel(jax.tree.map(jnp.asarray, z_prev))
    mapped = functools.partial(map_rows, f, layout, theta)

    def objective(z, value):
        return _dot(value - z, value - z) + jnp.sum(penalty * jnp.square(z - z_prev), axis=1)

    def body(carry, _):
        z, damping = carry
        value, pullback = jax.vjp(mapped, z)
        pull = lambda w: pullback(w)[0] - w  # noqa: E731  A^T = df/dz^T - I
        push = jax.linear_transpose(pull, z)  # A, which needs no forward-mode derivative of f
        half_gradient = pull(value - z) + penalty * (z - z_prev)

        def normal_equations(v):
            return pull(push(v)[0]) + (penalty + damping[:, None]) * v

        candidate = z - _conjugate_gradients(normal_equations, half_gradient, linear_steps)
        better = objective(candidate, mapped(candidate)) < objective(z, value)
        damping = jnp.where(better, damping / 10, jnp.maximum(10 * damping, 1e-3))
        return (jnp.where(better[:, None], candidate, z), damping), None

    start = z0, jnp.zeros(z0.shape[0], z0.dtype)
    (z, _), _ = jax.lax.scan(body, start, length=num_steps)
    return layout.unravel(z)


def _conjugate_gradients(matvec, b, num_steps):
    """Solves `matvec(x) = b` of rows (B, N), each positive definite."""

    def body(carry, _):
        x, r, direction, size = carry
        product = matvec(direction)
        length = _ratio(size, _dot(direction, product))
        x, r = x + length * direction, r - length * product
        new_size = _dot(r, r)
        return (x, r, r + _ratio(new_size, size) * direction, new_size), None

    start = jnp.zeros_like(b), b, b, _dot(b, b)
    (x, _, _, _), _ = jax.lax.scan(body, start, length=num_steps)
    return x


def _dot(a, b):
    return jnp.sum(a * b, axis=1)


def _ratio(a, b):
    """(B, 1), 0 where a row has come to rest."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))[:, None]
