"""Recurrence over frames and the minimum of its objective, for maps of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ldeq_jax.deq import SolverConfig, minimise_objective, recurrence

B, N = 3, 5
SOLVER = SolverConfig(method="picard", max_steps=80, tol=1e-13)
pytestmark = pytest.mark.usefixtures("x64")


def affine(theta, z):
    return z @ theta[0].T + theta[1]


def tanh_map(theta, z):
    return jnp.tanh(z @ theta[0].T) + theta[1]


def as_tree(f):
    def mapped(theta, z):
        value = f(theta, jnp.concatenate([z["a"], z["b"].reshape(-1, 3)], axis=1))
        return split(value)

    return mapped


def split(rows):
    return {"a": rows[:, :2], "b": rows[:, 2:].reshape(-1, 3, 1)}


@pytest.fixture
def matrix():
    matrix = np.random.default_rng(0).standard_normal((N, N))
    return jnp.asarray(0.5 * matrix / np.linalg.norm(matrix, 2))


def frames(count=4, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((count, B, N)))


def run(f, matrix, injections, start=None, **options):
    """z (T, B, N) and info (T, B) of all frames."""

    @jax.jit
    def scan(state, injections):
        def frame(state, injection):
            named = {"forward": SOLVER} | options
            info, state = recurrence.step(f, (matrix, injection), state, **named)
            return state, (state.z, info)

        return jax.lax.scan(frame, state, injections)[1]

    if start is None:
        start = recurrence.initial_state(jnp.zeros((B, N)))
    return scan(start, injections)


def solved_alone(matrix, injections):
    return np.linalg.solve(np.eye(N) - matrix, np.asarray(injections)[..., None])[..., 0]


def test_without_penalty_every_frame_is_solved_alone(matrix):
    z, info = run(affine, matrix, frames(), budget=80, penalty=0.0)
    np.testing.assert_allclose(z, solved_alone(matrix, frames()), rtol=1e-9)
    assert info.ok.all() and np.isnan(info.distance[0]).all()
    assert np.isfinite(info.distance[1:]).all()


def test_one_evaluation_and_the_penalty_are_the_closed_form(matrix):
    z, info = run(affine, matrix, frames(), budget=0, penalty=0.25)
    expected = solved_alone(matrix, frames()[0])
    np.testing.assert_allclose(z[0], expected, rtol=1e-9)
    for t in range(1, 4):
        expected = (affine((matrix, frames()[t]), expected) + 0.25 * expected) / 1.25
        np.testing.assert_allclose(z[t], expected, rtol=1e-9)
    assert (info.num_steps[1:] == 0).all() and (info.num_evaluations[1:] == 1).all()


def test_a_cold_start_with_a_penalty(matrix):
    z, _ = run(affine, matrix, frames(2), budget=0, penalty=0.25, warm_start=False)
    expected = (frames(2)[1] + 0.25 * z[0]) / 1.25  # f(0) is the injection
    np.testing.assert_allclose(z[1], expected, rtol=1e-9)


def test_a_pytree_is_its_arrays_side_by_side(matrix):
    weights = jnp.asarray([0.1, 0.2, 0.3, 0.4, 0.5])
    start = recurrence.initial_state(split(jnp.zeros((B, N))))
    options = {"budget": 2, "first_budget": 3}
    z, info = run(tanh_map, matrix, frames(), penalty=weights, **options)
    penalty = {"a": weights[:2], "b": weights[2:].reshape(3, 1)}
    tree, tree_info = run(as_tree(tanh_map), matrix, frames(), start, penalty=penalty, **options)
    np.testing.assert_allclose(tree["a"], z[..., :2], rtol=1e-12)
    np.testing.assert_allclose(tree["b"][..., 0], z[..., 2:], rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), tree_info, info)
    one, _ = run(as_tree(tanh_map), matrix, frames(), start, penalty=0.3, **options)
    expected, _ = run(tanh_map, matrix, frames(), penalty=lambda z: 0.3 + 0 * z, **options)
    np.testing.assert_allclose(one["a"], expected[..., :2], rtol=1e-12)


def test_the_state_moves_with_the_scene(matrix):
    """A scene that turns by one place per frame: the aligned state is already the answer."""
    circulant = jnp.asarray(sum(c * np.roll(np.eye(N), k, 1) for k, c in ((1, 0.3), (2, -0.2))))
    scene = frames(1)[0]
    turning = jnp.stack([jnp.roll(scene, t, axis=1) for t in range(5)])

    def align(z_prev, memory, z):
        return jnp.roll(z_prev, 1, axis=1), memory + 1

    state = recurrence.initial_state(jnp.zeros((B, N)), memory=jnp.zeros((B, 1)))
    z, info = run(affine, circulant, turning, state, penalty=9.0, align=align)
    np.testing.assert_allclose(z, solved_alone(circulant, turning), rtol=1e-9)
    assert (info.distance[1:] < 1e-9).all() and (info.residual[1:] < 1e-9).all()
    lagging, _ = run(affine, circulant, turning, penalty=9.0)
    assert np.abs(lagging - z)[1:].max() > 0.1


def test_the_second_answer_of_align_counts_and_its_memory_is_kept(matrix):
    seen = []

    def align(z_prev, memory, z):
        seen.append(z is None)
        return (z_prev, memory) if z is None else (jnp.ones_like(z_prev), memory + 2.0)

    state = recurrence.RecurrentState(
        z=jnp.zeros((B, N)), memory=jnp.ones((B, 2)), valid=jnp.array([True, True, False])
    )
    theta = matrix, frames(1)[0]
    _, after = recurrence.step(affine, theta, state, forward=SOLVER, penalty=1e9, align=align)
    assert seen == [True, False]
    np.testing.assert_allclose(after.z[:2], 1, rtol=1e-6)
    np.testing.assert_array_equal(after.memory, [[3, 3], [3, 3], [0, 0]])
    np.testing.assert_allclose(after.z[2], solved_alone(matrix, frames(1)[0])[2], rtol=1e-9)


def test_frames_without_a_past_are_solved_alone(matrix):
    """Reset, masked out, or broken by a number that is not finite: the others go on."""
    injections = frames().at[1, 2].set(jnp.nan)
    state, found = recurrence.initial_state(jnp.zeros((B, N))), []
    for t in range(4):
        info, state = recurrence.step(
            affine,
            (matrix, injections[t]),
            state,
            forward=SOLVER,
            penalty=2.0,
            reset=jnp.array([t == 2, False, False]),
            mask=jnp.array([True, t != 1, True]),
        )
        found.append(state.z)
        assert info.ok.tolist() == [True, t != 1, t != 1]
        assert info.num_evaluations[1] == 0 or t != 1
    alone = solved_alone(matrix, frames())
    np.testing.assert_allclose(found[2], alone[2], rtol=1e-9)
    np.testing.assert_array_equal(found[1][1:], 0)
    assert np.abs(found[3] - alone[3]).max(axis=1).min() > 1e-3


def test_a_penalty_of_too_many_axes_is_refused(matrix):
    with pytest.raises(ValueError, match=r"\(1, 3, 5\)"):
        run(affine, matrix, frames(), penalty=jnp.ones((1, B, N)))


# The minimum of the objective.


def objective(f, theta, z, z_prev, penalty):
    misfit = jnp.sum((f(theta, z) - z) ** 2, axis=1)
    return misfit + jnp.sum(penalty * (z - z_prev) ** 2, axis=1)


@pytest.mark.parametrize("penalty", [0.0, 0.3, 4.0])
def test_the_minimiser_is_that_of_a_library(penalty, matrix):
    theta = 2 * matrix, frames(1)[0]
    z_prev = frames(1, seed=7)[0]
    found = jax.jit(minimise_objective, static_argnums=0)(tanh_map, theta, z_prev, z_prev, penalty)

    solver = optax.lbfgs()
    total = lambda z: objective(tanh_map, theta, z, z_prev, penalty).sum()  # noqa: E731
    value_and_grad = optax.value_and_grad_from_state(total)

    def body(carry, _):
        z, memory = carry
        value, grad = value_and_grad(z, state=memory)
        update, memory = solver.update(grad, memory, z, value=value, grad=grad, value_fn=total)
        return (z + update, memory), None

    (expected, _), _ = jax.lax.scan(body, (z_prev, solver.init(z_prev)), length=100)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_minimiser_of_a_row_is_its_own_and_that_of_a_pytree_the_same(matrix):
    theta = 2 * matrix, frames(1)[0]
    z_prev = frames(1, seed=7)[0]
    together = minimise_objective(tanh_map, theta, z_prev, z_prev, 0.3)
    alone = minimise_objective(tanh_map, (theta[0], theta[1][:1]), z_prev[:1], z_prev[:1], 0.3)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-9)
    tree = minimise_objective(as_tree(tanh_map), theta, split(z_prev), split(z_prev), 0.3)
    np.testing.assert_allclose(tree["a"], together[:, :2], rtol=1e-9)


def test_a_step_that_raises_the_objective_is_not_taken():
    """Gauss-Newton without damping overshoots here."""
    f = lambda theta, z: z + jnp.arctan(theta * z)  # noqa: E731
    start = jnp.array([[2.0], [30.0], [0.1]])
    values = []
    for steps in range(12):
        z = minimise_objective(f, 1.0, start, jnp.zeros((3, 1)), 0.0, num_steps=steps)
        values.append(np.asarray(objective(f, 1.0, z, jnp.zeros((3, 1)), 0.0)))
    assert all((b <= a).all() for a, b in zip(values, values[1:], strict=False))
    assert values[-1].max() < 1e-3
