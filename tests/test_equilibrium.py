"""States that are pytrees, methods of one's own, and derivatives in both modes."""

import dataclasses
import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_solver import fixed_point

from ldeq_jax import deq
from ldeq_jax.deq import Method, SolverConfig, jacobian_penalty, spectral_radius

METHODS = ("picard", "anderson", "broyden")
GRADIENTS = ("implicit", "one_step", "phantom", "unrolled")
SHAPES = {"a": (2, 3), "b": (), "c": (4,)}
SIZE = 11
pytestmark = pytest.mark.usefixtures("x64")


def config(method="picard", **changes):
    return SolverConfig(**({"method": method, "max_steps": 400, "tol": 1e-13} | changes))


def contraction(seed=0, radius=0.7, size=SIZE):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((size, size))
    matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
    return jnp.asarray(matrix), jnp.asarray(rng.standard_normal(size))


def affine(theta, z):
    return z @ theta[0].T + theta[1]


def tanh_map(theta, z):
    return jnp.tanh(z @ theta[0].T) + theta[1]


def join(state):
    """(B, N) of the state, its arrays side by side."""
    return jnp.concatenate([state[n].reshape(len(state[n]), -1) for n in sorted(state)], axis=1)


def split(rows):
    parts = jnp.split(rows, [6, 7], axis=1)
    named = zip(sorted(SHAPES), parts, strict=True)
    return {name: part.reshape(len(rows), *SHAPES[name]) for name, part in named}


def as_tree(f):
    """The same map of a pytree."""
    return lambda theta, state: split(f(theta, join(state)))


def theta_of(rows=3, **changes):
    matrix, _ = contraction(**changes)
    return matrix, jnp.asarray(np.random.default_rng(5).standard_normal((rows, SIZE)))


# Pytrees.


@pytest.mark.parametrize("method", METHODS)
def test_a_pytree_is_solved_as_its_arrays_side_by_side(method):
    theta = theta_of()
    forward = config(method, max_steps=30, tol=1e-6)
    budget = jnp.array([2, 30, 0])
    options = {"forward": forward, "budget": budget, "trace": True}
    z, info = fixed_point(tanh_map, theta, jnp.ones((3, SIZE)), **options)
    tree, tree_info = fixed_point(as_tree(tanh_map), theta, split(jnp.ones((3, SIZE))), **options)
    assert {name: leaf.shape for name, leaf in tree.items()} == {
        name: (3, *shape) for name, shape in SHAPES.items()
    }
    np.testing.assert_allclose(join(tree), z, rtol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-14), tree_info, info
    )


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("differentiation", ["vjp", "jvp"])
def test_gradients_through_a_pytree(gradient, differentiation):
    theta = theta_of()
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((3, SIZE)))
    options = {"gradient": gradient, "differentiation": differentiation}
    options |= {"forward": config("anderson", max_steps=60)}

    def loss(theta, f, z0, flat):
        z, _ = fixed_point(f, theta, z0, **options)
        return jnp.sum(weights * flat(z) ** 2)

    z0 = jnp.zeros((3, SIZE))
    expected = jax.grad(loss)(theta, tanh_map, z0, lambda z: z)
    found = jax.grad(loss)(theta, as_tree(tanh_map), split(z0), join)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), found, expected
    )


def test_vmap_over_pytrees():
    theta = theta_of()
    starts = jnp.asarray(np.random.default_rng(2).standard_normal((4, 3, SIZE)))
    few = config("anderson", max_steps=3, tol=0.0)
    solve = lambda z0: fixed_point(as_tree(tanh_map), theta, z0, forward=few)[0]  # noqa: E731
    together = jax.vmap(solve)(jax.vmap(split)(starts))
    for one, start in enumerate(starts):
        alone = solve(split(start))
        jax.tree.map(
            lambda a, b, one=one: np.testing.assert_allclose(a[one], b, rtol=1e-9), together, alone
        )


@pytest.mark.parametrize("differentiation", ["vjp", "jvp"])
def test_shards_of_pytrees(differentiation):
    """Arrays that all devices share may lie beside divided ones."""
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, shared = jax.sharding.PartitionSpec("rows"), jax.sharding.PartitionSpec()
    matrix, injection = theta_of(rows=4)
    options = {"forward": config("anderson", max_steps=40), "differentiation": differentiation}

    def loss(matrix, injection):
        z0 = split(jnp.zeros(injection.shape))
        z0["a"] = jnp.zeros_like(z0["a"]) + 0 * injection[:, :1, None]
        z, _ = fixed_point(as_tree(tanh_map), (matrix, injection), z0, **options)
        return jnp.sum(join(z) ** 2)

    sharded = jax.shard_map(
        lambda *a: jax.lax.psum(loss(*a), "rows"),
        mesh=mesh,
        in_specs=(shared, rows),
        out_specs=shared,
    )
    ours = jax.jit(jax.grad(sharded, argnums=(0, 1)))(matrix, injection)
    whole = jax.grad(loss, argnums=(0, 1))(matrix, injection)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), ours, whole)


def test_a_state_of_several_types_is_solved_in_the_widest():
    z0 = {"half": jnp.zeros((2, 3), jnp.bfloat16), "double": jnp.zeros((2, 1))}
    seen = []

    def f(theta, z):
        seen.append({name: leaf.dtype for name, leaf in z.items()})
        return {"half": (0.5 * z["half"] + 1).astype(jnp.bfloat16), "double": 0.5 * z["double"] + 1}

    z, info = fixed_point(f, None, z0, forward=config(max_steps=60))
    assert {leaf.dtype for leaf in jax.tree.leaves((z, info.residual))} == {jnp.dtype("float64")}
    assert all(types == {"half": jnp.float64, "double": jnp.float64} for types in seen)
    single, _ = fixed_point(
        lambda _, z: jax.tree.map(lambda a: 0.5 * a + 1, z),
        None,
        [jnp.zeros((2, 3), jnp.bfloat16), jnp.zeros((2,), jnp.int32)],
        forward=config(max_steps=60),
    )
    assert {leaf.dtype for leaf in single} == {jnp.dtype("float32")}


def test_states_that_are_no_batch_are_refused():
    half = lambda _, z: jax.tree.map(lambda a: 0.5 * a, z)  # noqa: E731
    for wrong, error, words in (
        ({}, ValueError, "at least one array"),
        ((jnp.ones((2, 3)), jnp.ones((3, 3))), ValueError, "one batch axis"),
        ((jnp.ones((2, 3)), 1.0), TypeError, "pytree of them, not float"),
    ):
        with pytest.raises(error, match=words):
            deq.fixed_point(half, None, wrong, forward=config())
    with pytest.raises(ValueError, match=r"\{'a': \(2, 3\)\} into \(2, 3\)"):
        deq.fixed_point(lambda _, z: z["a"], None, {"a": jnp.ones((2, 3))}, forward=config())


def test_diagnostics_of_a_pytree():
    matrix, _ = contraction(radius=0.6)
    theta = matrix, jnp.zeros((2, SIZE))
    z, key = jnp.ones((2, SIZE)), jax.random.key(0)
    for measure in (jacobian_penalty, spectral_radius):
        flat = measure(affine, theta, z, key)
        np.testing.assert_allclose(measure(as_tree(affine), theta, split(z), key), flat, rtol=1e-9)


# Methods of one's own.


@dataclasses.dataclass(frozen=True)
class Heavy(Method):
    """Plain iteration with momentum."""

    momentum: float = 0.3

    def start(self, z0, max_steps):
        return z0, jnp.zeros_like(z0)

    def propose(self, memory, evaluations):
        return memory[0]

    def learn(self, memory, evaluations, point, value):
        step = value - point + self.momentum * memory[1]
        return (point + step, step), point + step


def test_a_method_of_ones_own():
    matrix, vector = contraction()
    theta = matrix, vector[None]
    exact = np.linalg.solve(np.eye(SIZE) - matrix, vector)
    forward = config(Heavy(0.2))
    assert forward == config(Heavy(0.2)) != config(Heavy(0.1))
    assert hash(forward) == hash(config(Heavy(0.2))) and forward.start_evaluations == 0
    z, info = fixed_point(affine, theta, jnp.zeros((2, SIZE)), forward=forward)
    assert info.converged.all()
    np.testing.assert_allclose(z, np.broadcast_to(exact, z.shape), rtol=1e-9)
    gradient = jax.grad(
        lambda t: fixed_point(affine, (matrix, t), jnp.zeros((1, SIZE)), forward=forward)[0].sum()
    )(vector[None])
    np.testing.assert_allclose(
        gradient[0], np.linalg.inv(np.eye(SIZE) - matrix).sum(axis=0), rtol=1e-8
    )


def test_the_example_of_the_docstring_converges():
    names = {"dataclasses": dataclasses, "Method": Method, "SolverConfig": SolverConfig}
    example = doctest.DocTestParser().get_doctest(Method.__doc__, names, "Method", None, 0)
    assert not doctest.DocTestRunner().run(example, clear_globs=False).failed
    _, info = fixed_point(
        lambda t, z: 0.5 * z + t, 1.0, jnp.zeros((2, 3)), forward=example.globs["solver"]
    )
    assert info.converged.all()


def test_methods_that_cannot_be_compiled_are_refused():
    class Listed(Heavy):
        __hash__ = None

    with pytest.raises(TypeError, match="unhashable"):
        config(Listed())
    with pytest.raises(ValueError, match="or a Method"):
        config(Heavy)


# Forward mode.


@pytest.mark.parametrize("method", METHODS)
def test_tangents_of_an_affine_map_have_their_closed_form(method):
    matrix, vector = contraction(radius=0.9)
    d_matrix, d_vector = contraction(seed=3)
    solve = lambda m, v: fixed_point(  # noqa: E731
        affine,
        (m, v[None]),
        jnp.zeros((1, SIZE)),
        forward=config(method),
        differentiation="jvp",
    )[0][0]
    z, tangent = jax.jvp(solve, (matrix, vector), (d_matrix, d_vector))
    inverse = np.linalg.inv(np.eye(SIZE) - matrix)
    np.testing.assert_allclose(z, inverse @ vector, rtol=1e-8)
    np.testing.assert_allclose(tangent, inverse @ (d_matrix @ z + d_vector), rtol=1e-7)
    np.testing.assert_allclose(jax.jacfwd(solve, 1)(matrix, vector), inverse, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(jax.jacrev(solve, 1)(matrix, vector), inverse, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("final_evaluation", [True, False])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_both_rules_give_one_derivative(gradient, final_evaluation):
    theta = theta_of()
    forward = config(max_steps=300, final_evaluation=final_evaluation)
    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), theta)
    weights = jnp.asarray(rng.standard_normal((3, SIZE)))

    def loss(theta, differentiation):
        options = {"gradient": gradient, "differentiation": differentiation}
        z, _ = fixed_point(tanh_map, theta, jnp.zeros((3, SIZE)), forward=forward, **options)
        return jnp.sum(weights * z)

    reverse, transposed = (jax.grad(loss)(theta, rule) for rule in ("vjp", "jvp"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), transposed, reverse
    )
    _, tangent = jax.jvp(lambda t: loss(t, "jvp"), (theta,), (direction,))
    along = jax.tree.map(lambda a, b: jnp.sum(a * b), reverse, direction)
    np.testing.assert_allclose(tangent, sum(along), rtol=1e-8)


def test_tangents_equal_finite_differences():
    theta = theta_of()
    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), theta)

    def solve(step, **options):
        moved = jax.tree.map(lambda a, d: a + step * d, theta, direction)
        return fixed_point(
            tanh_map, moved, jnp.zeros((3, SIZE)), forward=config("anderson"), **options
        )[0]

    _, tangent = jax.jvp(lambda s: solve(s, differentiation="jvp"), (0.0,), (1.0,))
    difference = (solve(1e-5) - solve(-1e-5)) / 2e-5
    np.testing.assert_allclose(tangent, difference, rtol=1e-6, atol=1e-8)


def test_hessian_vector_products_are_those_of_unrolling():
    theta = theta_of(radius=0.5)
    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), theta)

    def gradient(theta, **options):
        def loss(theta):
            z, _ = fixed_point(tanh_map, theta, jnp.zeros((3, SIZE)), **options)
            return jnp.sum(jnp.sin(z))

        return jax.grad(loss)(theta)

    def forward_over_reverse(**options):
        return jax.jvp(lambda t: gradient(t, **options), (theta,), (direction,))[1]

    def reverse_over_reverse(**options):
        def along(theta):
            parts = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient(theta, **options), direction)
            return sum(jax.tree.leaves(parts))

        return jax.grad(along)(theta)

    expected = forward_over_reverse(forward=config(max_steps=80, tol=0.0), gradient="unrolled")
    options = {"forward": config(max_steps=120), "differentiation": "jvp"}
    for product in (forward_over_reverse, reverse_over_reverse):
        found = jax.jit(lambda product=product: product(**options))()
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), found, expected
        )


def test_the_one_step_tangent_sees_the_solution_move():
    """Second derivatives of "one_step" are those of its first."""

    def first(theta):
        solve = lambda t: fixed_point(  # noqa: E731
            lambda t, z: jnp.tanh(0.5 * t * z) + t,
            t,
            jnp.full((1, 1), 0.3),
            forward=config(max_steps=80),
            gradient="one_step",
            differentiation="jvp",
        )[0].sum()
        return jax.jvp(solve, (theta,), (1.0,))[1]

    _, second = jax.jvp(first, (1.0,), (1.0,))
    difference = (first(1.0 + 1e-5) - first(1.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(second, difference, rtol=1e-6)


def test_tangents_of_rows_do_not_see_each_other():
    matrix, _ = contraction(radius=0.95)
    injection = jnp.asarray(np.random.default_rng(1).standard_normal((3, SIZE)))
    loose = config("anderson", tol=1e-4)

    def tangent(injection):
        solve = lambda x: fixed_point(  # noqa: E731
            tanh_map, (matrix, x), jnp.zeros(x.shape), forward=loose, differentiation="jvp"
        )[0]
        return jax.jvp(solve, (injection,), (jnp.ones_like(injection),))[1]

    together = tangent(injection)
    for row in range(3):
        np.testing.assert_allclose(together[row], tangent(injection[row : row + 1])[0], rtol=1e-9)


def test_without_the_rule_forward_mode_raises():
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(
            lambda v: fixed_point(lambda t, z: 0.5 * z + t, v, jnp.zeros((1, 2)), forward=config())[
                0
            ],
            (1.0,),
            (1.0,),
        )
    with pytest.raises(ValueError, match="differentiation"):
        fixed_point(affine, None, jnp.zeros((1, 2)), forward=config(), differentiation="backwards")
