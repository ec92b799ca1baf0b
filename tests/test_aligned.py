"""Smoothers that follow the face: laws of each, and closed forms."""

import numpy as np
import pytest

from ldeq_jax.face import aligned, filters

RNG = np.random.default_rng(0)
FACE = RNG.normal(size=(20, 2)) * [60, 80] + [300, 200]
SMOOTHERS = {
    "aligned": (aligned.aligned, {"penalty": 2.0, "follow": 0.8}),
    "weighted": (aligned.aligned, {"penalty": 2.0, "follow": 0.8, "weighting": True}),
    "product": (aligned.aligned_product, {"penalty": 2.0, "follow": 0.8}),
    "one_euro": (aligned.face_one_euro, {"min_cutoff": 2.0, "beta": 0.0, "follow": 0.8}),
    "kalman": (aligned.face_kalman, {"noise_ratio": 60.0, "follow": 0.8}),
}
EVERY = pytest.mark.parametrize(("function", "settings"), SMOOTHERS.values(), ids=SMOOTHERS.keys())


def similarity(points, growth=1.0, turn=0.0, shift=(0.0, 0.0)):
    factor = growth * np.exp(1j * turn)
    moved = factor * (points[..., 0] + 1j * points[..., 1])
    return np.stack([moved.real, moved.imag], axis=-1) + np.asarray(shift)


def noisy(num_frames, deviation=1.0, seed=1):
    return FACE + deviation * np.random.default_rng(seed).normal(size=(num_frames, *FACE.shape))


def spreads(num_frames, seed=2):
    return np.random.default_rng(seed).uniform(0.5, 3, (num_frames, len(FACE)))


def run(function, settings, track, spread=None):
    spread = spreads(len(track)) if spread is None else spread
    return function(track, 30.0, spread=spread, **settings)


@EVERY
def test_a_face_at_rest_stays(function, settings):
    track = np.repeat(FACE[None], 9, axis=0)
    np.testing.assert_allclose(run(function, settings, track), track, atol=1e-9)


@EVERY
def test_a_similarity_of_the_picture_goes_through(function, settings):
    track = noisy(25)
    change = {"growth": 1.7, "turn": 0.6, "shift": (-40.0, 90.0)}
    expected = similarity(run(function, settings, track), **change)
    np.testing.assert_allclose(
        run(function, settings, similarity(track, **change)), expected, atol=1e-7
    )


@EVERY
def test_it_is_causal(function, settings):
    track, spread = noisy(20), spreads(20)
    whole = run(function, settings, track, spread)
    part = run(function, settings, track[:12], spread[:12])
    np.testing.assert_allclose(whole[:12], part, atol=1e-9)


@EVERY
def test_shared_motion_has_no_lag_where_the_frame_is_trusted(function, settings):
    """A rigid face that moves as it likes is followed exactly if `follow` is 1."""
    motions = RNG.normal(size=(15, 4)) * [0.1, 0.2, 20, 20]
    track = np.stack([similarity(FACE, np.exp(a), b, (c, d)) for a, b, c, d in motions])
    smoothed = run(function, settings | {"follow": 1.0}, track, np.ones(track.shape[:2]))
    np.testing.assert_allclose(smoothed, track, atol=1e-6)


@EVERY
def test_noise_of_single_landmarks_is_reduced(function, settings):
    track = noisy(400)
    error = run(function, settings, track, np.ones(track.shape[:2])) - FACE
    assert np.std(np.diff(error[50:], axis=0)) < 0.6 * np.std(np.diff(track[50:] - FACE, axis=0))


def test_the_variance_that_is_left_is_that_of_an_exponential_average():
    """With many landmarks the similarity hardly follows the noise: weight 1 / (1 + penalty)."""
    face = RNG.normal(size=(400, 2)) * 100
    track = face + np.random.default_rng(3).normal(size=(300, 400, 2))
    smoothed = aligned.aligned(track, 30.0, penalty=3.0, follow=1.0)
    assert np.var(smoothed[50:] - face) == pytest.approx(0.25 / 1.75, rel=0.05)


def test_no_penalty_changes_nothing_and_a_huge_one_holds_the_shape():
    track = noisy(30)
    free = aligned.aligned(track, 30.0, penalty=0.0, follow=0.7)
    np.testing.assert_allclose(free, track)
    held = aligned.aligned(track, 30.0, penalty=1e9, follow=0.7)
    motion = aligned.fit_similarity(FACE, held[-1], np.full(len(FACE), 1 / len(FACE)))
    first = aligned.fit_similarity(FACE, held[0], np.full(len(FACE), 1 / len(FACE)))
    residual = np.exp(-motion[0] - 1j * motion[1]) * (held[-1] - held[-1].mean(0)) @ [1, 1j]
    before = np.exp(-first[0] - 1j * first[1]) * (held[0] - held[0].mean(0)) @ [1, 1j]
    np.testing.assert_allclose(residual, before, atol=1e-4)


def test_weighting_holds_what_is_uncertain():
    track, spread = noisy(200), np.ones((200, len(FACE)))
    spread[:, :10] = 4.0
    smoothed = aligned.aligned(track, 30.0, penalty=2.0, follow=1.0, spread=spread, weighting=True)
    steps = np.diff(smoothed[20:], axis=0)
    assert np.std(steps[:, :10]) < 0.7 * np.std(steps[:, 10:])


def test_a_product_of_equally_sure_experts_is_their_mean():
    track, spread = noisy(30), np.full((30, len(FACE)), 1.7)
    settings = {"penalty": 2.0, "follow": 0.8, "spread": spread}
    np.testing.assert_allclose(
        aligned.aligned_product(track, 30.0, **settings),
        aligned.aligned(track, 30.0, **settings),
        atol=1e-9,
    )


def test_a_product_weighs_by_precision_and_holds_the_face_in_a_bad_frame():
    track, spread = np.repeat(FACE[None], 2, axis=0), np.ones((2, len(FACE)))
    track[1, 0] += 8.0  # one landmark astray, three times as unsure, among many that are not
    spread[1, 0] = 3.0
    settings = {"penalty": 1.0, "follow": 1.0}
    moved = aligned.aligned_product(track, 30.0, spread=spread, **settings)[1, 0] - FACE[0]
    np.testing.assert_allclose(moved, 8.0 * (1 / 9) / (1 / 9 + 1), rtol=0.2)
    shaken, spread = np.stack([FACE, FACE + 10.0]), np.ones((2, len(FACE)))
    spread[1] = 3.0
    held = aligned.aligned_product(shaken, 30.0, spread=spread, penalty=1e9, follow=1.0)
    np.testing.assert_allclose(held[1], FACE + 10 * 2 * (1 / 10), atol=1e-4)


def test_a_similarity_is_fitted_exactly():
    weight = RNG.uniform(1, 2, len(FACE))
    weight /= weight.sum()
    growth, turn, *shift = aligned.fit_similarity(FACE, similarity(FACE, 1.3, -0.4, (5, 6)), weight)
    assert np.exp(growth) == pytest.approx(1.3)
    assert turn == pytest.approx(-0.4)
    np.testing.assert_allclose(
        weight @ FACE + shift, weight @ similarity(FACE, 1.3, -0.4, (5, 6)), atol=1e-9
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": -1.0, "follow": 1.0}, "penalty"),
        ({"penalty": 1.0, "follow": 0.0}, "follow"),
        ({"penalty": 1.0, "follow": 1.0, "weighting": True}, "spread"),
        ({"penalty": 1.0, "follow": 1.0, "spread": np.ones((3, 4))}, "spread"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        aligned.aligned(noisy(3), 30.0, **settings)


def test_a_whole_grid_at_once_gives_what_each_setting_gives():
    track, spread = noisy(12), spreads(12)
    track[5] = np.nan
    for kind in aligned.FILTERS:
        found = list(kind.smooth_all(track, 25.0, scale=2.0, spread=spread))
        assert [parameters for parameters, _ in found] == list(kind.grid)
        for parameters, smoothed in found[::7]:
            expected = filters.smooth(
                track, kind.function, parameters, 25.0, scale=2.0, spread=spread
            )
            np.testing.assert_allclose(smoothed, expected, rtol=1e-12)


def test_smooth_runs_them():
    track = noisy(12)
    track[5] = np.nan
    smoothed = filters.smooth(track, aligned.aligned, {"penalty": 1.0, "follow": 1.0}, 25.0)
    assert np.isnan(smoothed[5]).all() and np.isfinite(smoothed[[4, 6]]).all()
