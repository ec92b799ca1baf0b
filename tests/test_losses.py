"""Laws of the landmark losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.model import losses

pytestmark = pytest.mark.usefixtures("x64")
NAMES = ["l1", "l2"]


def points(seed, shape=(4, 6, 2)):
    """Random normalised landmarks."""
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 1, shape))


def test_closed_forms():
    predicted, target = jnp.array([[0.3, -0.5]]), jnp.array([[0.1, 0.0]])
    np.testing.assert_allclose(losses.l1(predicted, target), [[0.2, 0.5]], rtol=1e-12)
    np.testing.assert_allclose(losses.l2(predicted, target), [[0.04, 0.25]], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_even_zero_for_equal_and_grow_with_the_error(name):
    loss = getattr(losses, name)
    errors, zeros = jnp.linspace(0, 0.5, 400), jnp.zeros(400)
    values = loss(errors, zeros)
    assert values[0] == 0 and (jnp.diff(values) > 0).all()
    np.testing.assert_array_equal(values, loss(zeros, errors))


@pytest.mark.parametrize("name", NAMES)
def test_landmark_loss_is_the_mean_of_the_elementwise_loss(name):
    predicted, target = points(0), points(1)
    expected = getattr(losses, name)(predicted, target).mean(axis=(1, 2))
    found = losses.landmark_loss(name, predicted, target)
    assert found.shape == (4,)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_masked_out_leaves_the_others_alone_even_when_nan(name):
    predicted, target = points(0), points(1)
    mask = jnp.array([True, False, True, True])

    def total(predicted, target, mask=None):
        return losses.landmark_loss(name, predicted, target, mask).sum()

    kept = jnp.array([0, 2, 3])
    expected = jax.grad(total)(predicted[kept], target[kept])
    poisoned = predicted.at[1].set(jnp.nan), target.at[1, 3].set(jnp.inf)
    gradient = jax.grad(total)(*poisoned, mask)
    np.testing.assert_allclose(gradient[kept], expected, rtol=1e-12)
    assert (gradient[1] == 0).all()
    assert losses.landmark_loss(name, *poisoned, mask)[1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_landmarks_masked_out_do_not_count_in_the_mean(name):
    predicted, target = points(0), points(1)
    mask = jnp.ones((4, 6), bool).at[:, 2:4].set(False)
    kept = jnp.array([0, 1, 4, 5])
    np.testing.assert_allclose(
        losses.landmark_loss(name, predicted.at[:, 2].set(jnp.nan), target, mask),
        losses.landmark_loss(name, predicted[:, kept], target[:, kept]),
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_unmasked_nan_is_not_hidden(name):
    predicted = points(0).at[1, 0, 0].set(jnp.nan)
    assert jnp.isnan(losses.landmark_loss(name, predicted, points(1))).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_finite_where_prediction_and_target_agree(name):
    target = points(1)
    gradient = jax.grad(lambda p: losses.landmark_loss(name, p, target).sum())(target)
    assert jnp.isfinite(gradient).all()


def test_spread_costs_what_it_exceeds_its_target_by():
    spread = jnp.array([[0.01, 0.05, 0.09], [0.0, 0.02, 0.03]])
    np.testing.assert_allclose(losses.spread_loss(spread, 0.03), [0.08 / 3, 0], atol=1e-12)
    gradient = jax.grad(lambda s: losses.spread_loss(s, 0.03 + 1e-9).sum())(spread)
    np.testing.assert_allclose(gradient, np.array([[0, 1, 1], [0, 0, 0]]) / 3, rtol=1e-12)


def test_spread_that_grows_with_the_error_costs_nothing_where_it_tells_the_error():
    error = jnp.array([[0.0, 0.01, 0.05]])
    wanted = jnp.sqrt(0.02**2 + (3 * error) ** 2)
    loss = lambda spread, error: losses.spread_loss(spread, 0.02, error, 3.0)  # noqa: E731
    np.testing.assert_allclose(loss(wanted, error), [0], atol=1e-6)
    # Too broad and too sharp by one factor cost the same, a square of its logarithm.
    np.testing.assert_allclose(loss(2 * wanted, error), [np.log(2) ** 2], rtol=1e-3)
    np.testing.assert_allclose(loss(wanted / 2, error), [np.log(2) ** 2], rtol=1e-3)
    # Landmarks are not made worse to fit their spread.
    assert not jax.grad(lambda e: loss(2 * wanted, e).sum())(error).any()


def test_landmark_loss_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="one shape"):
        losses.landmark_loss("l1", points(0), points(1, (4, 5, 2)))
    with pytest.raises(ValueError, match="mask of shape"):
        losses.landmark_loss("l1", points(0), points(1), jnp.ones((3,), bool))
    with pytest.raises(ValueError, match="'huber' is not one of"):
        losses.landmark_loss("huber", points(0), points(1))
