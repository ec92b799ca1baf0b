"""Fusion of heatmaps as a product of experts."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from test_rwr import MODEL, noisy_clip, scan, variables  # noqa: F401

from ldeq_jax.deq.objective import minimise_objective
from ldeq_jax.errors import UserError
from ldeq_jax.model import heatmap, rwr

pytestmark = pytest.mark.usefixtures("x64")
SIZE = 64


def gaussian(x, y, deviation):
    """(SIZE, SIZE, 1) with its maximum 1 at a place in pixels."""
    columns, rows = jnp.meshgrid(jnp.arange(SIZE), jnp.arange(SIZE))
    return jnp.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * deviation**2))[..., None]


def place(z):
    return SIZE * heatmap.soft_argmax(z)[0][..., 0, :]


@pytest.mark.parametrize("penalty", [0.3, 1.0, 4.0])
def test_two_gaussians_give_the_mean_weighted_by_precision(penalty):
    now, before = gaussian(30, 28, 2.0), gaussian(34, 36, 4.0)
    precision = np.array([1 / 2.0**2, penalty / 4.0**2])
    expected = precision @ np.array([[30.0, 28], [34, 36]]) / precision.sum()
    fused = heatmap.fuse(now, before, penalty)
    np.testing.assert_allclose(place(fused), expected, atol=2e-3)
    deviation = np.sqrt((1 + penalty) / precision.sum())
    assert SIZE * heatmap.soft_argmax(fused)[1][0] == pytest.approx(deviation, rel=2e-3)


def test_an_ambiguous_landmark_is_held_and_a_sharp_one_moves():
    before = gaussian(20, 32, 2.0)
    sharp, broad = gaussian(30, 32, 1.0), gaussian(30, 32, 6.0)
    moved = [float(place(heatmap.fuse(now, before, 1.0))[0]) - 20 for now in (sharp, broad)]
    assert moved[0] > 7.5 and moved[1] < 1.5
    even = [float(place((now + before) / 2)[0]) - 20 for now in (sharp, broad)]
    assert even[0] < even[1], "the arithmetic mean weighs by mass, and does the opposite"


def test_no_penalty_is_the_frame_and_a_huge_one_the_past():
    now, before = gaussian(30, 28, 2.0), 0.4 * gaussian(34, 36, 3.0)
    np.testing.assert_array_equal(heatmap.fuse(now, before, 0.0), now)
    np.testing.assert_allclose(heatmap.fuse(now, before, 1e9), before / 0.4, atol=1e-6)


def test_it_minimises_the_objective_of_logarithms():
    """For a map that ignores its state; up to the division by the maximum."""
    now, before = (
        gaussian(30, 28, 5.0)[None, 20:40, 20:40],
        gaussian(33, 31, 7.0)[None, 20:40, 20:40],
    )
    best = minimise_objective(
        lambda theta, u: jnp.broadcast_to(theta, u.shape),
        jnp.log(now),
        jnp.zeros_like(now),
        jnp.log(before),
        2.0,
    )
    best = jnp.exp(best - best.max())
    np.testing.assert_allclose(heatmap.fuse(now, before, 2.0), best, atol=1e-8)


def test_on_video_no_penalty_makes_both_fusions_equal(variables):  # noqa: F811
    images = jnp.asarray(noisy_clip())
    state = rwr.initial_state(MODEL, 2)
    configs = [
        rwr.RwRConfig(penalty=0.0, align="crop", fusion=f) for f in ("arithmetic", "geometric")
    ]
    first, second = (scan(MODEL, variables, config, images, state)[0] for config in configs)
    np.testing.assert_allclose(first.landmarks, second.landmarks, atol=1e-12)


def test_on_video_it_keeps_the_state_normalised_and_finite(variables):  # noqa: F811
    config = rwr.RwRConfig(penalty=2.0, align="face", fusion="geometric")
    prediction, state = scan(
        MODEL, variables, config, jnp.asarray(noisy_clip()), rwr.initial_state(MODEL, 2)
    )
    assert bool(jnp.isfinite(prediction.landmarks).all())
    np.testing.assert_allclose(state.heatmaps.max(axis=(1, 2)), 1.0)
    plain = dataclasses.replace(config, penalty=0.0)
    alone, _ = scan(MODEL, variables, plain, jnp.asarray(noisy_clip()), rwr.initial_state(MODEL, 2))
    steps = [float(jnp.abs(jnp.diff(p.landmarks, axis=1)).mean()) for p in (prediction, alone)]
    assert steps[0] < steps[1]


def test_its_gradient_is_that_of_finite_differences():
    now, before = gaussian(30, 28, 6.0)[20:36, 20:36], gaussian(28, 30, 8.0)[20:36, 20:36]

    def loss(z):
        points, spread = heatmap.soft_argmax(1e6 * heatmap.fuse(z, before, 1.5))
        return jnp.sum(jnp.sin(9 * points)) + jnp.sum(spread)  # whatever the scale

    check_grads(loss, (now * 0.9,), order=1, modes=["rev", "fwd"])


def test_an_unknown_fusion_is_named():
    with pytest.raises(UserError, match="fusion must be one of"):
        rwr.RwRConfig(fusion="harmonic")
