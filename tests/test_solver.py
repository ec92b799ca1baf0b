"""Laws of the fixed-point solver: closed forms, row independence, gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.deq import equilibrium
from ldeq_jax.deq.diagnostics import jacobian_penalty, spectral_radius
from ldeq_jax.deq.methods import _solve_systems
from ldeq_jax.deq.solver import SolverConfig, solve

METHODS = ("picard", "anderson", "broyden")
# One program is compiled sooner than each operation by itself.
fixed_point = jax.jit(
    equilibrium.fixed_point,
    static_argnames=(
        *("f", "forward", "backward", "gradient", "differentiation", "trace"),
        *("phantom_steps", "phantom_mixing"),
    ),
)
pytestmark = pytest.mark.usefixtures("x64")


def config(method="picard", **changes):
    """A solver that goes on until float64 has no more digits to give."""
    return SolverConfig(**({"method": method, "max_steps": 400, "tol": 1e-13} | changes))


def contraction(rng, size, radius):
    """A random matrix of the given spectral radius, and a vector."""
    matrix = rng.standard_normal((size, size))
    matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
    return jnp.asarray(matrix), jnp.asarray(rng.standard_normal(size))


def affine(theta, z):
    matrix, vector = theta
    return z @ matrix.T + vector[None]


def tanh_map(theta, z):
    matrix, vector = theta
    return jnp.tanh(z @ matrix.T) + vector[None]


def row_affine(theta, z):
    """Every row has a matrix of its own."""
    matrices, vector = theta
    return jnp.einsum("bij,bj->bi", matrices, z) + vector[None]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("method", METHODS)
def test_affine_map_has_its_closed_form(method, rng):
    matrix, vector = contraction(rng, 12, 0.8)
    z, info = fixed_point(affine, (matrix, vector), jnp.zeros((3, 12)), forward=config(method))
    exact = np.linalg.solve(np.eye(12) - matrix, vector)
    np.testing.assert_allclose(z, np.broadcast_to(exact, (3, 12)), rtol=1e-9)
    assert info.converged.all() and not info.diverged.any()
    assert (info.residual < 1e-13).all()


@pytest.mark.parametrize("size", [1, 2, 6, 20])
def test_small_systems_are_solved(size, rng):
    factors = rng.standard_normal((5, size, size + 2))
    matrices = jnp.asarray(factors @ factors.transpose(0, 2, 1))
    vectors = jnp.asarray(rng.standard_normal((5, size)))
    expected = np.linalg.solve(matrices, vectors[..., None])[..., 0]
    np.testing.assert_allclose(_solve_systems(matrices, vectors), expected, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_states_of_any_rank(method, rng):
    scale = jnp.asarray(rng.uniform(-0.5, 0.5, (4, 3, 2)))
    z, _ = fixed_point(
        lambda s, z: s[None] * z + 1, scale, jnp.zeros((2, 4, 3, 2)), forward=config(method)
    )
    np.testing.assert_allclose(z, np.broadcast_to(1 / (1 - scale), z.shape), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", ["rel", "abs"])
def test_a_row_gets_what_it_would_get_alone(method, stop, rng):
    radii = (0.05, 0.3, 0.6, 0.9)
    matrices = jnp.stack([contraction(rng, 8, radius)[0] for radius in radii])
    vector = jnp.asarray(rng.standard_normal(8))
    forward = config(method, tol=1e-6, stop=stop)
    z, info = fixed_point(row_affine, (matrices, vector), jnp.zeros((4, 8)), forward=forward)
    for row in range(4):
        alone, alone_info = fixed_point(
            row_affine, (matrices[row : row + 1], vector), jnp.zeros((1, 8)), forward=forward
        )
        np.testing.assert_allclose(z[row], alone[0], rtol=1e-12, atol=1e-13)
        assert info.num_steps[row] == alone_info.num_steps[0]
    assert len(set(np.asarray(info.num_steps).tolist())) > 1


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_stops_as_one_on_its_mean_residual_if_wanted(method, rng):
    matrices = jnp.stack([contraction(rng, 8, radius)[0] for radius in (0.05, 0.3, 0.8, 0.99)])
    theta = matrices, jnp.asarray(rng.standard_normal(8))
    start = jnp.zeros((4, 8))
    budget = jnp.array([40, 40, 40, 0])  # the last row is padding

    def solve(theta, start, budget, **changes):
        forward = config(method, max_steps=40, best_iterate=False, **changes)
        return fixed_point(row_affine, theta, start, forward=forward, budget=budget, trace=True)

    _, every = solve(theta, start, budget, tol=0.0)
    mean = np.asarray(every.trace)[:3].mean(axis=0)
    expected = 1 + np.argmax(mean < 1e-4)
    z, info = solve(theta, start, budget, tol=1e-4, batch_mean_stop=True)
    assert info.num_steps.tolist() == [expected] * 3 + [0] and 1 < expected < 40
    # A row is told to have converged, or not, by its own residual all the same.
    np.testing.assert_array_equal(info.converged, info.residual < 1e-4)
    shorter, _ = solve(theta, start, jnp.minimum(budget, expected), tol=0.0)
    np.testing.assert_allclose(z, shorter, rtol=1e-12)
    # A batch of one stops by itself.
    alone = (matrices[2:3], theta[1]), start[:1], budget[:1]
    for one, other in zip(
        solve(*alone, tol=1e-4, batch_mean_stop=True), solve(*alone, tol=1e-4), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("method", METHODS)
def test_stop_rules_bound_the_residual_they_name(method, rng):
    theta = contraction(rng, 8, 0.7)
    for stop in ("rel", "abs"):
        forward = config(method, tol=1e-5, stop=stop, final_evaluation=False)
        z, info = fixed_point(affine, theta, jnp.ones((1, 8)), forward=forward)
        assert info.converged.all() and info.residual[0] < 1e-5
        if method != "picard":  # Picard returns f(z) of the state it measured
            value = affine(theta, z)
            residual = np.linalg.norm(value - z)
            residual /= 1e-5 + np.linalg.norm(value) if stop == "rel" else 1
            np.testing.assert_allclose(info.residual[0], residual, rtol=1e-6)


def test_picard_is_plain_iteration_and_traces_its_residuals(rng):
    theta = contraction(rng, 6, 0.9)
    z, residuals = jnp.ones((1, 6)), []
    for _ in range(5):
        value = affine(theta, z)
        residuals.append(np.linalg.norm(value - z))
        z = value
    forward = config(max_steps=7, tol=0.0, stop="abs", final_evaluation=False)
    solved, info = fixed_point(
        affine, theta, jnp.ones((1, 6)), forward=forward, budget=5, trace=True
    )
    np.testing.assert_allclose(solved, z, rtol=1e-12)
    np.testing.assert_allclose(info.trace[0, :5], residuals, rtol=1e-12)
    assert np.isnan(info.trace[0, 5:]).all() and info.num_steps[0] == 5
    assert not info.converged[0]


def test_damping_tames_an_oscillation():
    def swing(theta, z):
        return -1.5 * z + theta

    z0, theta = jnp.zeros((1, 1)), jnp.float64(5.0)
    _, plain = fixed_point(swing, theta, z0, forward=config())
    damped, info = fixed_point(swing, theta, z0, forward=config(mixing=0.5))
    assert not plain.converged[0] and info.converged[0]
    np.testing.assert_allclose(damped, 2.0, rtol=1e-9)


def test_anderson_with_full_history_is_a_krylov_method(rng):
    """On an affine map in n dimensions n + 1 pairs span everything, so one more step is exact."""
    theta = contraction(rng, 5, 0.95)
    forward = config("anderson", max_steps=6, tol=0.0, ridge=0.0, history_size=6)
    z, _ = fixed_point(affine, theta, jnp.zeros((1, 5)), forward=forward)
    np.testing.assert_allclose(z[0], np.linalg.solve(np.eye(5) - theta[0], theta[1]), rtol=1e-6)


def test_anderson_without_history_is_picard(rng):
    theta = contraction(rng, 5, 0.8)
    z0 = jnp.ones((2, 5))
    anderson = config("anderson", max_steps=4, tol=0.0, history_size=1, best_iterate=False)
    # Two starting evaluations make Anderson's first iterate f(f(z0)).
    picard = config("picard", max_steps=5, tol=0.0, best_iterate=False)
    a, _ = fixed_point(affine, theta, z0, forward=anderson)
    p, _ = fixed_point(affine, theta, z0, forward=picard)
    np.testing.assert_allclose(a, p, rtol=1e-12)


def test_broyden_in_one_dimension_is_the_secant_method():
    f = lambda theta, z: jnp.cos(theta * z)  # noqa: E731
    points = [0.2]
    points.append(np.cos(points[0]))
    for _ in range(3):
        a, b = points[-2:]
        ga, gb = np.cos(a) - a, np.cos(b) - b
        points.append(b - gb * (b - a) / (gb - ga))
    forward = config("broyden", max_steps=4, tol=0.0, final_evaluation=False)
    z, _ = fixed_point(f, jnp.float64(1.0), jnp.full((1, 1), 0.2), forward=forward)
    np.testing.assert_allclose(z[0, 0], points[4], rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_budget_is_traced_and_may_differ_by_row(method, rng):
    theta = contraction(rng, 6, 0.9)
    traces = 0

    @jax.jit
    def solve(theta, z0, budget):
        nonlocal traces
        traces += 1
        forward = config(method, max_steps=20, tol=0.0)
        return fixed_point(affine, theta, z0, forward=forward, budget=budget)

    for budget in (1, 4, 9):
        z, info = solve(theta, jnp.zeros((2, 6)), budget)
        short = config(method, max_steps=budget, tol=0.0)
        expected, _ = fixed_point(affine, theta, jnp.zeros((2, 6)), forward=short)
        np.testing.assert_allclose(z, expected, rtol=1e-9)
        assert (info.num_steps == budget).all()
    assert traces == 1

    z, info = solve(theta, jnp.zeros((2, 6)), jnp.array([3, 50]))
    assert info.num_steps.tolist() == [3, 20]
    np.testing.assert_allclose(z[0], solve(theta, jnp.zeros((2, 6)), 3)[0][0], rtol=1e-9)


def test_no_budget_returns_the_initial_state(rng):
    theta = contraction(rng, 3, 0.5)
    z0 = jnp.asarray(rng.standard_normal((2, 3)))
    for method in METHODS:
        forward = config(method, final_evaluation=False)
        z, info = fixed_point(affine, theta, z0, forward=forward, budget=0)
        np.testing.assert_array_equal(z, z0)
        assert not info.converged.any() and (info.num_steps == 0).all()


def test_best_iterate_is_the_one_of_lowest_residual():
    # The state counts the evaluations in its second number; the first moves by 5, 1, 5, 5, ...
    def staged(theta, z):
        count = z[:, 1:]
        return jnp.concatenate([z[:, :1] + jnp.where(count == 1, 1.0, 5.0), count + 1], axis=1)

    options = {"max_steps": 4, "tol": 0.0, "stop": "abs", "final_evaluation": False}
    best, best_info = fixed_point(staged, None, jnp.zeros((1, 2)), forward=config(**options))
    last, last_info = fixed_point(
        staged, None, jnp.zeros((1, 2)), forward=config(**options, best_iterate=False)
    )
    assert best.tolist() == [[6, 2]] and last.tolist() == [[16, 4]]
    np.testing.assert_allclose(best_info.residual[0], np.hypot(1, 1))
    np.testing.assert_allclose(last_info.residual[0], np.hypot(5, 1))


def test_the_final_evaluation_is_one_more_map(rng):
    theta = contraction(rng, 5, 0.9)
    z0 = jnp.zeros((2, 5))
    for method in METHODS:
        without = config(method, max_steps=3, tol=0.0, final_evaluation=False)
        z, _ = fixed_point(affine, theta, z0, forward=without)
        more, _ = fixed_point(
            affine, theta, z0, forward=dataclasses.replace(without, final_evaluation=True)
        )
        np.testing.assert_allclose(more, affine(theta, z), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_that_turns_nan_keeps_its_best_and_spares_the_others(method):
    def breaks(limit, z):
        new = 0.9 * z + 1
        return jnp.where(z > limit[:, None], jnp.nan, new)

    forward = config(method, tol=1e-6, final_evaluation=False)
    z0 = jnp.zeros((2, 1))
    z, info = fixed_point(breaks, jnp.array([2.5, 1e9]), z0, forward=forward)
    assert info.diverged.tolist() == [True, False]
    assert info.converged.tolist() == [False, True]
    assert np.isfinite(z).all()
    np.testing.assert_allclose(z[1, 0], 10.0, rtol=1e-4)
    assert 0 <= z[0, 0] <= 3.5


def test_a_row_that_grows_without_bound_is_stopped(rng):
    matrix = jnp.diag(jnp.array([3.0, 0.1]))
    forward = config(max_steps=300, stop="abs", divergence_ratio=1e3, final_evaluation=False)
    z, info = fixed_point(affine, (matrix, jnp.ones(2)), jnp.zeros((1, 2)), forward=forward)
    assert info.diverged[0] and info.num_steps[0] < 10 and np.abs(z).max() < 10


@pytest.mark.parametrize("method", METHODS)
def test_implicit_gradient_equals_finite_differences_and_unrolling(method, rng):
    matrix, vector = contraction(rng, 6, 0.6)
    weights = jnp.asarray(rng.standard_normal((2, 6)))
    z0 = jnp.zeros((2, 6))

    def loss(theta, **options):
        z, _ = fixed_point(tanh_map, theta, z0, **options)
        return jnp.sum(weights * z**2)

    implicit = jax.grad(loss)((matrix, vector), forward=config(method), backward=config(method))
    unrolled = jax.grad(loss)(
        (matrix, vector), forward=config(max_steps=200, tol=0.0), gradient="unrolled"
    )
    for a, b in zip(implicit, unrolled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)

    step = 1e-5
    for direction in ((0, (1, 2)), (0, (4, 0)), (1, (3,))):
        which, at = direction
        ends = []
        for sign in (1, -1):
            theta = [matrix, vector]
            theta[which] = theta[which].at[at].add(sign * step)
            ends.append(loss(tuple(theta), forward=config()))
        np.testing.assert_allclose(
            implicit[which][at], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8
        )


def test_implicit_gradient_of_an_affine_map_has_its_closed_form(rng):
    matrix, vector = contraction(rng, 7, 0.9)
    weights = jnp.asarray(rng.standard_normal(7))

    def loss(theta):
        return weights @ fixed_point(affine, theta, jnp.zeros((1, 7)), forward=config())[0][0]

    matrix_gradient, vector_gradient = jax.grad(loss)((matrix, vector))
    inverse = np.linalg.inv(np.eye(7) - matrix)
    adjoint = inverse.T @ weights
    np.testing.assert_allclose(vector_gradient, adjoint, rtol=1e-8)
    np.testing.assert_allclose(matrix_gradient, np.outer(adjoint, inverse @ vector), rtol=1e-8)


def test_one_step_gradient_is_that_of_one_evaluation(rng):
    theta = contraction(rng, 5, 0.8)
    forward = config()
    z0 = jnp.zeros((1, 5))
    solved, _ = fixed_point(tanh_map, theta, z0, forward=forward)
    one = jax.grad(
        lambda t: fixed_point(tanh_map, t, z0, forward=forward, gradient="one_step")[0].sum()
    )(theta)
    direct = jax.grad(lambda t: tanh_map(t, solved).sum())(theta)
    for a, b in zip(one, direct, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_phantom_gradient_tends_to_the_implicit_one(rng):
    theta = contraction(rng, 5, 0.6)
    z0 = jnp.zeros((1, 5))

    def gradient(**options):
        solve = lambda t: fixed_point(tanh_map, t, z0, forward=config(), **options)[0].sum()  # noqa: E731
        return np.concatenate([np.ravel(g) for g in jax.grad(solve)(theta)])

    exact = gradient()
    errors = [
        np.linalg.norm(gradient(gradient="phantom", phantom_steps=k) - exact)
        for k in (1, 5, 20, 80)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6 * np.linalg.norm(exact)


def test_only_unrolling_sees_the_initial_state(rng):
    theta = contraction(rng, 4, 0.9)
    z0 = jnp.ones((1, 4))
    few = config(max_steps=3, tol=0.0, final_evaluation=False)
    for gradient in ("implicit", "one_step", "phantom"):
        g = jax.grad(
            lambda z, how=gradient: fixed_point(affine, theta, z, forward=few, gradient=how)[
                0
            ].sum()
        )(z0)
        np.testing.assert_array_equal(g, 0)
    g = jax.grad(
        lambda z: fixed_point(affine, theta, z, forward=few, gradient="unrolled")[0].sum()
    )(z0)
    cubed = np.linalg.matrix_power(np.asarray(theta[0]), 3)
    np.testing.assert_allclose(g[0], cubed.sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("gradient", ["implicit", "one_step", "phantom", "unrolled"])
def test_every_gradient_gives_the_same_forward_solution(gradient, rng):
    theta = contraction(rng, 5, 0.5)
    z, info = jax.jit(
        lambda t: fixed_point(tanh_map, t, jnp.zeros((2, 5)), forward=config(), gradient=gradient)
    )(theta)
    np.testing.assert_allclose(z, tanh_map(theta, z), rtol=1e-10)
    assert info.converged.all()


def test_jacobian_penalty_is_exact_for_a_diagonal_and_unbiased_otherwise(rng):
    diagonal = jnp.asarray(rng.standard_normal(6))
    z = jnp.ones((2, 6))
    key = jax.random.key(0)
    exact = jacobian_penalty(affine, (jnp.diag(diagonal), diagonal), z, key)
    np.testing.assert_allclose(exact, np.full(2, np.sum(np.square(diagonal))), rtol=1e-12)
    matrix = jnp.asarray(rng.standard_normal((6, 6)))
    estimate = jacobian_penalty(affine, (matrix, diagonal), z, key, num_samples=4000)
    np.testing.assert_allclose(estimate, np.full(2, np.sum(np.square(matrix))), rtol=0.05)


def test_spectral_radius_of_real_and_complex_spectra(rng):
    z, key = jnp.ones((3, 4)), jax.random.key(1)
    real, vector = contraction(rng, 4, 0.7)
    turn = 0.8 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    complex_pair = jnp.asarray(np.block([[turn, np.zeros((2, 2))], [np.zeros((2, 2)), 0.1 * turn]]))
    for matrix, radius in ((real, 0.7), (complex_pair, 0.8), (0 * real, 0.0)):
        estimate = spectral_radius(affine, (matrix, vector), z, key, num_iters=400)
        np.testing.assert_allclose(estimate, np.full(3, radius), rtol=0.02, atol=1e-12)


@pytest.mark.parametrize("ratio", [1e3, np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_a_row_at_rest_has_not_diverged(method, ratio, rng):
    """Residuals of 0, and the rounding that follows them, are no growth."""
    vector = jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)
    forward = SolverConfig(method=method, max_steps=30, tol=0.0, divergence_ratio=ratio)
    z, info = fixed_point(lambda b, z: 0.5 * z + b, vector, jnp.zeros_like(vector), forward=forward)
    assert not info.diverged.any() and (info.num_steps == 30).all()
    np.testing.assert_allclose(z, 2 * vector, rtol=1e-6)


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_no_budget_costs_the_final_evaluation_alone(method, final):
    calls = []

    @jax.jit
    def solve(z0, budget):
        def counted(theta, z):
            jax.debug.callback(lambda: calls.append(1))
            return 0.5 * z + 1

        forward = config(method, max_steps=3, tol=0.0, final_evaluation=final)
        return fixed_point(counted, None, z0, forward=forward, budget=budget)

    for budget, evaluations in ((0, 0), (2, 2 + config(method).start_evaluations)):
        calls.clear()
        jax.block_until_ready(solve(jnp.zeros((2, 1)), budget))
        jax.effects_barrier()
        assert len(calls) == evaluations + final


@pytest.mark.parametrize("stop", ["rel", "abs"])
@pytest.mark.parametrize("gradient", ["implicit", "phantom", "unrolled"])
@pytest.mark.parametrize("method", METHODS)
def test_the_residual_is_that_of_the_state_before_the_final_evaluation(method, gradient, stop, rng):
    theta = contraction(rng, 6, 0.9)
    options = {"max_steps": 3, "tol": 0.5, "stop": stop}
    before, _ = fixed_point(
        affine, theta, jnp.ones((2, 6)), forward=config(method, **options, final_evaluation=False)
    )
    _, info = fixed_point(
        affine, theta, jnp.ones((2, 6)), forward=config(method, **options), gradient=gradient
    )
    value = affine(theta, before)
    residual = np.linalg.norm(value - before, axis=1)
    residual /= 1e-5 + np.linalg.norm(value, axis=1) if stop == "rel" else 1
    np.testing.assert_allclose(info.residual, residual, rtol=1e-9)
    np.testing.assert_array_equal(info.converged, residual < 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_iterates_are_those_of_the_scaled_map(method, rng):
    """`c f(z / c)` from `c z0`: in float32 from tiny to huge."""
    matrix, vector = (a.astype(jnp.float32) for a in contraction(rng, 64, 0.8))
    forward = SolverConfig(method=method, max_steps=8, tol=0.0, best_iterate=False)

    def solve(c):
        scaled = lambda theta, z: c * tanh_map(theta, z / c)  # noqa: E731
        z0 = jnp.full((2, 64), 0.1 * c, jnp.float32)
        return fixed_point(scaled, (matrix, vector), z0, forward=forward)

    expected, _ = solve(1.0)
    for c in (2.0**-12, 2.0**14):  # powers of two, so that nothing is rounded otherwise
        z, info = solve(c)
        assert not info.diverged.any()
        np.testing.assert_allclose(z / c, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ridge_scale", ["trace", "absolute"])
def test_anderson_survives_a_singular_system(ridge_scale):
    """All residuals of this map are multiples of one vector, and large."""
    forward = SolverConfig(method="anderson", max_steps=30, tol=1e-6, ridge_scale=ridge_scale)

    def solve(theta):
        return fixed_point(
            lambda t, z: t * z + 1000, theta, jnp.zeros((3, 2), jnp.float32), forward=forward
        )

    z, info = solve(jnp.float32(0.5))
    assert info.converged.all() and not info.diverged.any()
    np.testing.assert_allclose(z, 2000.0, rtol=1e-5)
    gradient = jax.grad(lambda theta: solve(theta)[0][0, 0])(jnp.float32(0.5))
    np.testing.assert_allclose(gradient, 1000 / (1 - 0.5) ** 2, rtol=1e-3)


def test_anderson_is_faster_than_plain_iteration_where_that_is_slow(rng):
    basis = np.linalg.qr(rng.standard_normal((128, 128)))[0]
    matrix = jnp.asarray(basis * np.linspace(-0.95, 0.95, 128) @ basis.T, jnp.float32)
    theta = matrix, jnp.asarray(rng.standard_normal(128), jnp.float32)
    steps = {
        method: fixed_point(
            affine,
            theta,
            jnp.zeros((4, 128), jnp.float32),
            forward=SolverConfig(method=method, max_steps=300, tol=1e-6),
        )[1].num_steps.max()
        for method in ("picard", "anderson")
    }
    assert steps["anderson"] < steps["picard"] / 2 < 150


def test_an_absolute_ridge_is_not_relative_to_the_residuals(rng):
    theta = contraction(rng, 6, 0.9)
    z0 = jnp.zeros((1, 6))
    options = {"max_steps": 5, "tol": 0.0, "best_iterate": False, "ridge": 0.1}
    first = affine(theta, z0) - z0
    second = affine(theta, z0 + first) - z0 - first
    residuals = np.stack([first[0], second[0]])
    gram = residuals @ residuals.T
    values = np.stack([first[0], affine(theta, first)[0]])
    for ridge_scale, unit in (("absolute", 1.0), ("trace", np.trace(gram))):
        weights = np.linalg.solve(gram + 0.1 * unit * np.eye(2), np.ones(2))
        expected = weights / weights.sum() @ values
        forward = config("anderson", **options, ridge_scale=ridge_scale, final_evaluation=False)
        z, _ = fixed_point(affine, theta, z0, forward=forward, budget=1)
        np.testing.assert_allclose(z[0], expected, rtol=1e-9)


def test_anderson_without_history_is_damped_iteration(rng):
    theta = contraction(rng, 5, 0.8)
    anderson = config(
        "anderson", max_steps=3, tol=0.0, history_size=1, mixing=0.3, best_iterate=False
    )
    z = affine(theta, jnp.ones((2, 5)))  # the second point is f(z0), undamped
    for _ in range(3):
        z = 0.3 * affine(theta, z) + 0.7 * z
    solved, _ = fixed_point(
        affine,
        theta,
        jnp.ones((2, 5)),
        forward=dataclasses.replace(anderson, final_evaluation=False),
    )
    np.testing.assert_allclose(solved, z, rtol=1e-12)


def test_phantom_gradient_of_an_affine_map_has_its_closed_form():
    slope = 0.8

    def loss(theta, **options):
        return fixed_point(
            lambda t, z: slope * z + t,
            theta,
            jnp.zeros((1, 1)),
            forward=config(),
            gradient="phantom",
            **options,
        )[0].sum()

    def closed_form(steps, mixing):
        return (1 - (mixing * slope + 1 - mixing) ** steps) / (1 - slope)

    options = {"phantom_steps": 3, "phantom_mixing": 0.25}
    np.testing.assert_allclose(jax.grad(loss)(1.0, **options), closed_form(3, 0.25), rtol=1e-9)
    np.testing.assert_allclose(jax.grad(loss)(1.0), closed_form(5, 0.5), rtol=1e-9)


@pytest.mark.parametrize("gradient", ["implicit", "one_step", "phantom", "unrolled"])
def test_second_derivatives_are_those_of_the_gradient_or_raise(gradient):
    forward = config(max_steps=80)

    def loss(theta):
        z0 = jnp.full((1, 1), 0.3)
        f = lambda t, z: jnp.tanh(0.5 * t * z) + t  # noqa: E731
        return fixed_point(f, theta, z0, forward=forward, gradient=gradient)[0].sum()

    first = jax.grad(loss)
    difference = (first(1.0 + 1e-5) - first(1.0 - 1e-5)) / 2e-5
    _, second = jax.jvp(first, (1.0,), (1.0,))
    np.testing.assert_allclose(second, difference, rtol=1e-6)
    if gradient == "unrolled":
        np.testing.assert_allclose(jax.grad(first)(1.0), difference, rtol=1e-6)
    else:
        with pytest.raises(ValueError, match="while_loop"):
            jax.grad(first)(1.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_unrolled_gradient_of_a_diverged_row_is_that_of_its_sound_steps(method):
    """Beyond a limit the map is not finite, and its state multiplies theta."""

    def breaks(theta, z):
        limit = jnp.array([3.5, 1e9])[:, None]
        return jnp.where(z > limit, jnp.nan, theta * z + 1)

    forward = config(method, max_steps=12, tol=0.0, final_evaluation=False)

    def solve(theta, **options):
        return fixed_point(breaks, theta, jnp.zeros((2, 1)), forward=forward, **options)

    z, info = solve(0.9, gradient="unrolled")
    plain, plain_info = solve(0.9)
    assert info.diverged.tolist() == [True, False]
    np.testing.assert_array_equal(z, plain)
    jax.tree.map(np.testing.assert_array_equal, info, plain_info)
    for row in range(2):
        value = lambda theta, row=row: solve(theta, gradient="unrolled")[0][row, 0]  # noqa: E731
        difference = (value(0.9 + 1e-6) - value(0.9 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(value)(0.9), difference, rtol=1e-4, atol=1e-6)


def test_the_unrolled_gradient_of_a_state_at_rest_is_finite():
    forward = config(max_steps=4, tol=0.0)
    loss = lambda t: fixed_point(  # noqa: E731
        lambda t, z: t * z, t, jnp.zeros((2, 3)), forward=forward, gradient="unrolled"
    )[0].sum()
    assert jax.grad(loss)(0.5) == 0


@pytest.mark.parametrize("method", METHODS)
def test_batches_without_rows_or_numbers(method):
    for shape in ((0, 3), (0,), (2, 0), (2,)):
        z, info = fixed_point(
            lambda t, z: 0.5 * z + t, 1.0, jnp.zeros(shape), forward=config(method)
        )
        assert z.shape == shape and info.residual.shape == shape[:1]
    np.testing.assert_allclose(z, 2.0, rtol=1e-9)


def test_states_that_are_no_real_arrays_are_refused():
    half = lambda _, z: 0.5 * z  # noqa: E731
    for wrong, error, words in (
        ([1.0, 2.0], TypeError, "must be an array"),
        (jnp.float64(1.0), ValueError, "scalar"),
        (jnp.ones((2, 3), complex), TypeError, "complex"),
    ):
        with pytest.raises(error, match=words):
            equilibrium.fixed_point(half, None, wrong, forward=config())
    with pytest.raises(TypeError, match="complex"):
        fixed_point(lambda _, z: z * 1j, None, jnp.ones((2, 3)), forward=config())
    z, _ = fixed_point(half, None, np.ones((2, 3), np.int32), forward=config())
    np.testing.assert_allclose(z, 0, atol=1e-12)


@pytest.mark.parametrize("gradient", ["implicit", "one_step", "phantom", "unrolled"])
@pytest.mark.parametrize("method", METHODS)
def test_shards_are_solved_as_the_whole(method, gradient, rng):
    """Under `shard_map` with its check on: rows are divided, parameters are shared."""
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, shared = jax.sharding.PartitionSpec("rows"), jax.sharding.PartitionSpec()
    matrix, _ = contraction(rng, 4, 0.6)
    injection = jnp.asarray(rng.standard_normal((4, 4)))
    forward = config(method, max_steps=20, tol=1e-9)

    def solve(matrix, injection):
        f = lambda theta, z: jnp.tanh(z @ theta[0].T) + theta[1]  # noqa: E731
        z0 = jnp.zeros(injection.shape)
        return fixed_point(f, (matrix, injection), z0, forward=forward, gradient=gradient)

    def loss(matrix, injection):
        return jnp.sum(solve(matrix, injection)[0] ** 2)

    def sharded(matrix, injection):
        return jax.lax.psum(loss(matrix, injection), "rows")

    in_specs = shared, rows
    z = jax.jit(
        jax.shard_map(lambda *a: solve(*a)[0], mesh=mesh, in_specs=in_specs, out_specs=rows)
    )(matrix, injection)
    np.testing.assert_allclose(z, solve(matrix, injection)[0], rtol=1e-9)
    sharded = jax.shard_map(sharded, mesh=mesh, in_specs=in_specs, out_specs=shared)
    ours = jax.jit(jax.grad(sharded, argnums=(0, 1)))(matrix, injection)
    whole = jax.grad(loss, argnums=(0, 1))(matrix, injection)
    for a, b in zip(ours, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_low_precision_maps_are_solved_in_float32():
    def half(theta, z):
        return (0.5 * z.astype(jnp.bfloat16) + theta).astype(jnp.bfloat16)

    for dtype in (jnp.float32, jnp.bfloat16):
        for method in METHODS:
            z0 = jnp.zeros((2, 3), dtype)
            z, info = fixed_point(
                half, jnp.bfloat16(1.0), z0, forward=SolverConfig(method=method, max_steps=30)
            )
            assert z.dtype == info.residual.dtype == jnp.float32
            np.testing.assert_allclose(z, 2.0, rtol=0.01)


def test_wrong_settings_are_refused():
    for wrong in (
        {"method": "newton"},
        {"stop": "both"},
        {"max_steps": 0},
        {"history_size": 0},
        {"mixing": 0.0},
        {"tol": -1.0},
        {"tol": float("nan")},
        {"max_steps": 2.5},
        {"ridge": -1.0},
        {"ridge": float("inf")},
        {"divergence_ratio": float("nan")},
        {"ridge_scale": "norm"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SolverConfig(**wrong)
    with pytest.raises(ValueError, match="gradient"):
        fixed_point(affine, None, jnp.zeros((1, 2)), forward=config(), gradient="exact")
    with pytest.raises(ValueError, match="phantom_mixing"):
        fixed_point(affine, None, jnp.zeros((1, 2)), forward=config(), phantom_mixing=2)
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        fixed_point(lambda _, z: z[:, :1], None, jnp.zeros((1, 2)), forward=config())


@pytest.mark.parametrize("method", METHODS)
def test_rows_divided_over_an_explicit_mesh(method, rng):
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    theta = contraction(rng, 4, 0.6)
    forward = config(method, max_steps=40, tol=1e-11)
    solve = jax.jit(lambda theta, z: fixed_point(tanh_map, theta, z, forward=forward)[0])
    z = solve(theta, jax.device_put(jnp.zeros((2, 4)), rows))
    np.testing.assert_allclose(z, solve(theta, jnp.zeros((2, 4))), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_solve_laid_out_is_that_of_the_loop(method, rng):
    matrix, vector = contraction(rng, 12, 0.8)
    settings = config(method, max_steps=9, tol=1e-2)
    z0, budget = jnp.asarray(rng.standard_normal((3, 12))), jnp.array([9, 4, 0])

    def run(loop):
        f = functools.partial(tanh_map, (matrix, vector))
        return jax.jit(lambda z: solve(f, z, settings, budget, loop=loop))

    assert not {"while", "scan"} & set(str(jax.make_jaxpr(run(False))(z0)).split())
    for looped, laid_out in zip(
        jax.tree.leaves(run(True)(z0)), jax.tree.leaves(run(False)(z0)), strict=True
    ):
        np.testing.assert_allclose(laid_out, looped, rtol=1e-9)
