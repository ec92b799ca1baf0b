"""What benchmarks/why.py counts and measures, on maps whose equilibria are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import degraded, gains
from benchmarks.equilibria import count_distinct, iterate, starts, survival

SIZE, LANDMARKS = 16, 5


def heatmaps(seed):
    """(2, SIZE, SIZE, LANDMARKS) a Gaussian per landmark, at random places."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1)
    places = rng.uniform(6, 10, (2, 1, 1, LANDMARKS, 2))
    return jnp.asarray(np.exp(-((grid[:, :, None] - places) ** 2).sum(axis=-1) / 2), jnp.float32)


def found_from_everywhere(f, theta):
    """(S, 2, LANDMARKS, 2) where all starts end, and the residuals (S, N, 2) on the way."""
    named = starts(jnp.zeros_like(theta), heatmaps(1), heatmaps(2), seed=3)
    solved = [iterate(f, theta, z0, 30) for z0 in named.values()]
    return np.stack([s[2][-1] for s in solved]), np.stack([s[1] for s in solved])


def test_a_contraction_has_one_equilibrium_and_its_rate():
    def f(theta, z):
        return theta + 0.3 * jnp.flip(z, axis=1)

    points, residual = found_from_everywhere(f, heatmaps(0))
    assert [count_distinct(points[:, row], 1e-4) for row in (0, 1)] == [1, 1]
    np.testing.assert_allclose(residual[0, 3:8] / residual[0, 2:7], 0.3, rtol=0.05)


def test_a_map_that_prefers_the_nearer_of_two_states_has_two():
    first, second = heatmaps(0), heatmaps(1)

    def f(theta, z):
        nearer = jnp.sum(z * (first - second), axis=(1, 2, 3), keepdims=True) >= 0
        return jnp.where(nearer, first, second)

    points, residual = found_from_everywhere(f, first)
    assert [count_distinct(points[:, row], 1e-4) for row in (0, 1)] == [2, 2]
    assert residual[:, -1].max() == 0


def test_near_neighbours_in_a_chain_are_one():
    points = np.zeros((4, 1, 2))
    points[:, 0, 0] = [0, 0.9, 1.8, 3]
    assert count_distinct(points, 1.0) == 2
    assert count_distinct(points[:0], 1.0) == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_survives_one_evaluation_is_the_share_of_the_state_in_it(share):
    z = heatmaps(0)
    moves = np.random.default_rng(0).normal(size=(LANDMARKS, 2))

    def f(theta, z):
        return (1 - share) * theta + share * z

    np.testing.assert_allclose(survival(f, z, z, moves), share, atol=0.02)


def test_degradation_is_seeded_and_as_strong_as_asked():
    clip = np.full((4, 64, 64, 3), 128, np.uint8)

    def worse(degrade, seed=0):
        return degrade(clip, np.random.default_rng(seed))

    np.testing.assert_array_equal(worse(degraded.noise(0)), clip)
    assert worse(degraded.noise(10)).std() == pytest.approx(10, rel=0.05)
    covered = worse(degraded.cover(0.1))
    assert (covered != clip).any(axis=-1).mean() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(covered, worse(degraded.cover(0.1)))
    assert (covered != worse(degraded.cover(0.1), 1)).any()


def test_the_setting_of_least_flicker_at_a_bearable_error_is_chosen_on_tuning_clips():
    def scores(nme, nmf):
        return gains.Scores(np.array(nme), np.array(nmf), np.ones(4))

    alone = scores([3.0, 9, 3, 9], [100.0, 9, 100, 9])
    tried = {
        "steady": scores([3.0, 9, 3.02, 9], [50.0, 99, 50, 99]),
        "wrong": scores([3.0, 1, 3.1, 1], [10.0, 1, 10, 1]),
        "nervous": scores([2.0, 1, 2, 1], [80.0, 1, 80, 1]),
    }
    setting, measured = gains.chosen(tried, alone)
    assert setting == "steady"
    row = gains.row(setting, measured, alone)
    assert (row["nme"], row["nmf"]) == (9, 99), "tuning clips do not count"
    assert row["change"][0] == pytest.approx(1000)
    assert gains.chosen({"wrong": tried["wrong"]}, alone)[0] == "wrong"
