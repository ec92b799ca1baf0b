"""States as rows: one flat array (B, N) of a pytree's leaves, and what is computed of each row.

For the other modules of `deq`. The solver works on rows, so that it needs not know what a state
looks like.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Map = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the leaves of a state lie in a row.

    Attributes:
        structure: of the pytree.
        shapes: of each leaf, without the batch axis.
    """

    structure: jax.tree_util.PyTreeDef
    shapes: tuple[tuple[int, ...], ...]

    def ravel(self, state: Any) -> jax.Array:
        """The rows (B, N) of a state, whose leaves have one type."""
        leaves = jax.tree.leaves(state)
        parts = [leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:])) for leaf in leaves]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)

    def unravel(self, rows: jax.Array) -> Any:
        """The state of rows (B, N)."""
        sizes = [math.prod(shape) for shape in self.shapes]
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        parts = jnp.split(rows, ends, axis=1) if ends else [rows]
        leaves = [
            part.reshape(rows.shape[0], *shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)


def check_state(state: Any, name: str = "z0") -> tuple[Any, Layout]:
    """A state in the solver's precision, and its layout.

    The precision is the widest of the leaves' types, at least float32: all leaves get that type.

    Raises:
        ValueError: it has no leaves, or they have no batch axis or differ in its length.
        TypeError: a leaf is no array or is complex.
    """
    leaves, structure = jax.tree.flatten(state)
    if not leaves:
        raise ValueError(f"{name} must have at least one array")
    for leaf in leaves:
        if not hasattr(leaf, "ndim") or not hasattr(leaf, "dtype"):
            kind = type(leaf).__name__
            raise TypeError(f"{name} must be an array (B, ...) or a pytree of them, not {kind}")
        if leaf.ndim == 0:
            raise ValueError(f"{name} must be (B, ...), one row for each sample; it is a scalar")
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise TypeError(f"{name} is complex: {_STACK_PARTS}")
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        shapes = [leaf.shape for leaf in leaves]
        raise ValueError(f"the arrays of {name} must have one batch axis B in common, not {shapes}")
    dtype = functools.reduce(jnp.promote_types, [leaf.dtype for leaf in leaves], jnp.float32)
    state = jax.tree.unflatten(structure, [jnp.asarray(leaf, dtype) for leaf in leaves])
    return state, Layout(structure, tuple(leaf.shape[1:] for leaf in leaves))


def map_rows(f: Map, layout: Layout, theta: Any, rows: jax.Array) -> jax.Array:
    """f of a state given as rows (B, N), as rows of the same type.

    Raises:
        ValueError: f does not keep the structure and the shapes of the state.
        TypeError: f is complex.
    """
    state = layout.unravel(rows)
    value = f(theta, state)
    before, after = (jax.tree.map(jnp.shape, tree) for tree in (state, value))
    if jax.tree.structure(value) != layout.structure or before != after:
        raise ValueError(f"f turns a state of shape {before} into {after}")
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in jax.tree.leaves(value)):
        raise TypeError(f"f is complex: {_STACK_PARTS}")
    return layout.ravel(jax.tree.map(lambda leaf: leaf.astype(rows.dtype), value))


def mix(value: jax.Array, z: jax.Array, mixing: float | jax.Array) -> jax.Array:
    """`mixing * value + (1 - mixing) * z`; `value` itself if `mixing` is the number 1."""
    if isinstance(mixing, int | float) and mixing == 1:
        return value
    return mixing * value + (1 - mixing) * z


def norm(rows: jax.Array) -> jax.Array:
    """(B,) Euclidean norm of each row of (B, N)."""
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=1))


# Under `jax.shard_map` an array is typed by the mesh axes over which it differs between devices,
# and what a loop carries must keep its type.


def mesh_axes(tree: Any) -> frozenset[str]:
    """The axes of the mesh along which any leaf differs between devices."""
    types = [jax.typeof(leaf) for leaf in jax.tree.leaves(tree)]
    # `vma` is what JAX before 0.10.2 calls it.
    axes = [t.vma if hasattr(t, "vma") else t.manual_axis_type.varying for t in types]
    return frozenset().union(*axes)


def varying(tree: Any, axes: frozenset[str]) -> Any:
    """The tree, typed as different on each device along the axes."""

    def cast(leaf):
        missing = tuple(axes - mesh_axes(leaf))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


_STACK_PARTS = "stack its real and imaginary parts on an axis instead"
