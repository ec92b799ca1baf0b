"""Methods that iterate a map towards its fixed point: Picard, Anderson, Broyden, or your own.

A method is an object between evaluations of the map: it proposes a point and learns from the map's
value there. It knows nothing of budgets, tolerances, divergence or gradients: the loop of
`ldeq_jax.deq.solver` does the rest, and does it for every method alike. To add a method, subclass
`Method` and give an instance to `SolverConfig(method=...)`.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp

from ldeq_jax.deq.rows import mix

RidgeScale = Literal["trace", "absolute"]


class Method:
    """A way to find fixed points, working on rows (B, N) of states.

    An instance takes part in the identity of a compiled program: it must be hashable and must not
    hold arrays. A frozen dataclass of plain numbers is. Row b of all that it returns must depend on
    row b of what it is given alone.

    `memory` is a pytree of arrays of fixed shapes, made by `start`. `evaluations` counts the
    evaluations of the map made so far, as a traced int32; it is the same for all rows.

    Example:
        Iteration with a step that shrinks:

        >>> @dataclasses.dataclass(frozen=True)
        ... class Shrinking(Method):
        ...     power: float = 0.25
        ...
        ...     def start(self, z0, max_steps):
        ...         return z0
        ...
        ...     def propose(self, memory, evaluations):
        ...         return memory
        ...
        ...     def learn(self, memory, evaluations, point, value):
        ...         z = point + (value - point) / (evaluations + 1.0) ** self.power
        ...         return z, z
        >>> solver = SolverConfig(method=Shrinking(), max_steps=50)

    Attributes:
        start_evaluations: evaluations before the first that counts as an iteration.
    """

    start_evaluations: ClassVar[int] = 0

    def start(self, z0: jax.Array, max_steps: int) -> Any:
        """The memory before the first evaluation.

        Args:
            z0: (B, N) initial state.
            max_steps: the largest number of iterations.
        """
        raise NotImplementedError

    def propose(self, memory: Any, evaluations: jax.Array) -> jax.Array:
        """The point (B, N) at which the map is evaluated next."""
        raise NotImplementedError

    def learn(
        self, memory: Any, evaluations: jax.Array, point: jax.Array, value: jax.Array
    ) -> tuple[Any, jax.Array]:
        """The memory and the iterate (B, N) after the map's `value` at `point`.

        The iterate is what is returned if the loop ends here.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picard(Method):
    """Plain iteration, `z <- mixing f(z) + (1 - mixing) z`.

    Attributes:
        mixing: weight of f(z) against z, in (0, 1]; 1 is undamped.
    """

    mixing: float = 1.0

    def __post_init__(self) -> None:
        _check_mixing(self.mixing)

    def start(self, z0: jax.Array, max_steps: int) -> jax.Array:
        """The memory is the next point."""
        return z0

    def propose(self, memory: jax.Array, evaluations: jax.Array) -> jax.Array:
        """The last iterate."""
        return memory

    def learn(
        self, memory: jax.Array, evaluations: jax.Array, point: jax.Array, value: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The iterate is the mixture: a state whose own residual is not known yet."""
        new = mix(value, point, self.mixing)
        return new, new


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anderson(Method):
    """Anderson acceleration (1965): mixes the last pairs (z, f(z)) so that their residual is least.

    Attributes:
        history_size: M, pairs that are mixed.
        ridge: regulariser, added to the diagonal of the Gram matrix of the residuals.
        ridge_scale: the unit of `ridge`: the "trace" of the Gram matrix, so that the iterates of
            `c f(z / c)` from `c z0` are `c` times those of `f` from `z0`; or 1 ("absolute"), as in
            the released code. The sum is never less than what rounding needs.
        mixing: weight of the values f(z) against the points z, in (0, 1]; 1 is undamped.
    """

    history_size: int = 6
    ridge: float = 1e-6
    ridge_scale: RidgeScale = "trace"
    mixing: float = 1.0

    start_evaluations: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not isinstance(self.history_size, int) or self.history_size < 1:
            raise ValueError(
                f"history_size must be a whole number of at least 1, not {self.history_size!r}"
            )
        if not 0 <= self.ridge < math.inf:
            raise ValueError(f"ridge must be 0 or more and finite, not {self.ridge}")
        if self.ridge_scale not in get_args(RidgeScale):
            raise ValueError(
                f"ridge_scale must be one of {get_args(RidgeScale)}, not {self.ridge_scale!r}"
            )
        _check_mixing(self.mixing)

    def start(self, z0: jax.Array, max_steps: int) -> tuple[jax.Array, jax.Array]:
        """The memory is the points and the values of the last pairs, (B, M, N) each."""
        empty = _empty_slots(z0, self.history_size)
        return jax.lax.dynamic_update_index_in_dim(empty, z0, 0, axis=1), empty

    def propose(self, memory: tuple[jax.Array, jax.Array], evaluations: jax.Array) -> jax.Array:
        """The first two points are z0 and f(z0); then mixtures of the history."""
        states, values = memory
        filled = jnp.arange(self.history_size) < jnp.maximum(evaluations, 1)
        weights = self._weights(values - states, filled)
        mixed_values = _product("bm,bmn->bn", weights, values)
        mixed_states = _product("bm,bmn->bn", weights, states)
        mixing = jnp.where(evaluations == 1, 1, jnp.asarray(self.mixing, values.dtype))
        point = mix(mixed_values, mixed_states, self.mixing if self.mixing == 1 else mixing)
        return jnp.where(evaluations == 0, states[:, 0], point)

    def learn(
        self,
        memory: tuple[jax.Array, jax.Array],
        evaluations: jax.Array,
        point: jax.Array,
        value: jax.Array,
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """Puts the pair in the place of the oldest; the iterate is the point itself."""
        slot = evaluations % self.history_size
        states, values = memory
        states = jax.lax.dynamic_update_index_in_dim(states, point, slot, axis=1)
        values = jax.lax.dynamic_update_index_in_dim(values, value, slot, axis=1)
        return (states, values), point

    def _weights(self, differences, filled):
        """(B, M) weights a that minimise `||sum a_i d_i||^2 + ridge ||a||^2`, `sum a_i = 1`.

        They are proportional to `G^-1 1` of the Gram matrix G with the ridge on its diagonal.

        Args:
            differences: (B, M, N) f(z_i) - z_i, zero in slots that are not filled.
            filled: (M,) bool.
        """
        gram = _product("bmn,bkn->bmk", differences, differences)
        trace = jnp.trace(gram, axis1=1, axis2=2)[:, None, None]
        unit = jnp.where(trace == 0, 1, trace)
        # Below this, rounding of G alone may make it singular.
        least = 4 * jnp.finfo(gram.dtype).eps
        ridge = self.ridge if self.ridge_scale == "trace" else self.ridge / unit
        ridge = jnp.broadcast_to(jnp.maximum(ridge, least), trace.shape)
        # An empty slot has a row of the identity in G and 0 on the right-hand side: no weight.
        diagonal = jnp.eye(len(filled), dtype=gram.dtype)[None] * jnp.where(filled, ridge, 1)
        ones = jnp.broadcast_to(filled.astype(gram.dtype)[None], gram.shape[:2])
        weights = _solve_systems(gram / unit + diagonal, ones)
        return weights / weights.sum(axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broyden(Method):
    """Broyden's "good" method (1965) on g(z) = f(z) - z, without a line search.

    The inverse Jacobian is `-I + sum_i u_i v_i^T`, with one term for each iteration.
    """

    start_evaluations: ClassVar[int] = 1

    def start(self, z0: jax.Array, max_steps: int) -> tuple[jax.Array, ...]:
        """The memory is the last point, g there, the next update, and all u and v."""
        empty = _empty_slots(z0, max_steps)
        return z0, jnp.zeros_like(z0), jnp.zeros_like(z0), empty, empty

    def propose(self, memory: tuple[jax.Array, ...], evaluations: jax.Array) -> jax.Array:
        """A quasi-Newton step from the last point."""
        z, _, update, _, _ = memory
        return z + update

    def learn(
        self,
        memory: tuple[jax.Array, ...],
        evaluations: jax.Array,
        point: jax.Array,
        value: jax.Array,
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Adds the term that the last step's secant asks for; the iterate is the point itself."""
        _, g, update, u, v = memory
        new_g = value - point
        change = new_g - g
        new_v = _inverse_jacobian_product(v, u, update)
        scale = jnp.sum(new_v * change, axis=1, keepdims=True)
        new_u = update - _inverse_jacobian_product(u, v, change)
        # At the first point, and in a row at rest, there is no secant to learn from.
        new_u = jnp.where(scale == 0, 0, new_u / jnp.where(scale == 0, 1, scale))
        slot = jnp.maximum(evaluations - 1, 0)
        u = jax.lax.dynamic_update_index_in_dim(u, new_u, slot, axis=1)
        v = jax.lax.dynamic_update_index_in_dim(v, new_v, slot, axis=1)
        return (point, new_g, -_inverse_jacobian_product(u, v, new_g), u, v), point


def _inverse_jacobian_product(columns, rows, vector):
    inner = _product("bsn,bn->bs", rows, vector)
    return _product("bs,bsn->bn", inner, columns) - vector


def _empty_slots(z, count):
    """(B, count, N) zeros, divided over devices as z (B, N) is."""
    return jnp.broadcast_to(jnp.zeros_like(z)[:, None], (z.shape[0], count, z.shape[1]))


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
        systems = jax.lax.dynamic_update_index_in_dim(systems, pivot, k, axis=1)
    return systems[..., -1]


def _check_mixing(mixing):
    if not 0 < mixing <= 1:
        raise ValueError(f"mixing must be in (0, 1], not {mixing}")
