"""Size and spectral radius of the Jacobian df/dz of a map, estimated from products with it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ldeq_jax.deq.rows import Map, check_state, map_rows, norm


def jacobian_penalty(f: Map, theta: Any, z: Any, key: jax.Array, num_samples: int = 1) -> jax.Array:
    """Hutchinson estimate of the squared Frobenius norm of df/dz, as a regulariser.

    `E ||J^T v||^2 = ||J||_F^2` for random signs v. Differentiable in `theta`; keeping it small
    keeps the fixed point easy to solve for (Bai et al. 2021).

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters.
        z: (B, ...), or a pytree of such arrays, where the Jacobian is taken.
        key: random key.
        num_samples: probes to average over.

    Returns:
        (B,) estimates, one per row.
    """
    rows, pullback = _pullback(f, theta, z)

    def probe(key):
        (product,) = pullback(jax.random.rademacher(key, rows.shape, rows.dtype))
        return jnp.sum(jnp.square(product), axis=1)

    return jnp.mean(jax.lax.map(probe, jax.random.split(key, num_samples)), axis=0)


def spectral_radius(f: Map, theta: Any, z: Any, key: jax.Array, num_iters: int = 50) -> jax.Array:
    """Power-method estimate of the spectral radius of df/dz.

    Below 1, plain iteration from nearby converges.

    Args:
        f: the map, as in `fixed_point`.
        theta: its parameters.
        z: (B, ...), or a pytree of such arrays, where the Jacobian is taken.
        key: random key of the start vector.
        num_iters: vector-Jacobian products; the growth of the later half is averaged, so that a
            complex pair of leading eigenvalues does not make the estimate swing.

    Returns:
        (B,) estimates, one per row.
    """
    # The transpose has the same spectrum, and every map that can be trained has it.
    rows, pullback = _pullback(f, theta, z)

    def step(v, _):
        (v,) = pullback(v)
        growth = norm(v)
        # A vector that the map takes to zero stays there, and the radius is exp(-inf) = 0.
        return v / jnp.where(growth == 0, 1, growth)[:, None], jnp.log(growth)

    start = jax.random.normal(key, rows.shape, rows.dtype)
    _, growth = jax.lax.scan(step, start, length=num_iters)
    return jnp.exp(jnp.mean(growth[num_iters // 2 :], axis=0))


def _pullback(f, theta, z):
    """The state as rows (B, N), and the function from cotangents of f(theta, z) to those of z."""
    z, layout = check_state(z, "z")
    rows = layout.ravel(z)
    return rows, jax.vjp(functools.partial(map_rows, f, layout, theta), rows)[1]
