"""Size and spectral radius of the Jacobian of a map."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ldeq_jax.deq.solver import Map, _apply, _norm


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
