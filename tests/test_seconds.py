"""Time constants: video at any frame rate, with dropped frames, and with long gaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from test_rwr import (  # noqa: F401
    FRAMES,
    MODEL,
    K,
    blobs,
    carried,
    follow_face,
    noisy_clip,
    predict_motion,
    run,
    soft_argmax,
    state_of,
    stills,
    variables,
)

from ldeq_jax.config import from_mapping
from ldeq_jax.errors import UserError
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.model.rwr_config import motion_gain, penalties

pytestmark = pytest.mark.usefixtures("x64")


def every(interval, rows=2):
    return np.full((rows, FRAMES), interval)


@pytest.mark.parametrize("interval", [0.02, 0.1])
def test_at_a_constant_rate_seconds_are_numbers_per_frame(variables, interval):  # noqa: F811
    seconds = RwRConfig(hold_seconds=0.05, follow_seconds=0.03)
    per_frame = RwRConfig(penalty=0.05 / interval, follow=interval / (interval + 0.03))
    found, expected = (
        run(variables, config, noisy_clip(), interval=every(interval))
        for config in (seconds, per_frame)
    )
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-12)
    slower = run(variables, seconds, noisy_clip(), interval=every(2 * interval))
    assert np.abs(slower.landmarks - found.landmarks).max() > 1e-4


def test_each_landmark_may_be_held_for_its_own_time_and_each_video_has_its_own_rate():
    config = RwRConfig(hold_seconds=tuple(np.linspace(0, 0.1, K)))
    z = blobs([[[9, 9]] * K] * 2)
    found = penalties(config, jnp.array([0.02, 0.1]), z)
    np.testing.assert_allclose(found[:, 0, 0], [np.linspace(0, 5, K), np.linspace(0, 1, K)])


def test_without_times_a_second_has_25_frames(variables):  # noqa: F811
    clip = noisy_clip()
    found = run(variables, RwRConfig(), clip)
    known = run(variables, RwRConfig(), clip, interval=every(1 / 25))
    np.testing.assert_allclose(found.landmarks, known.landmarks, atol=1e-12)
    interval = jnp.full(1, 1 / 25)
    assert penalties(RwRConfig(), interval, blobs([[[9, 9]]])).squeeze() == pytest.approx(1.0)
    assert motion_gain(RwRConfig(), interval).squeeze() == pytest.approx(0.8)


@pytest.mark.parametrize(("longest", "gap"), [(1.0, 1.01), (np.inf, 1e9)])
def test_a_frame_after_a_long_gap_is_a_still(variables, longest, gap):  # noqa: F811
    clip, interval = noisy_clip(), every(0.04)
    interval[:, 3] = gap
    config = RwRConfig(budget=60, longest_gap=longest)
    found = run(variables, config, clip, interval=interval).landmarks
    expected = stills(variables, clip)
    np.testing.assert_allclose(found[:, 3], expected[:, 3], atol=1e-7)
    assert np.abs(found[:, 4] - expected[:, 4]).max() > 1e-5, "the next one follows again"


def test_the_first_interval_and_one_of_zero_do_no_harm(variables):  # noqa: F811
    clip, interval = noisy_clip(), every(0.04)
    expected = run(variables, RwRConfig(), clip, interval=interval).landmarks
    interval[:, 0] = 77
    np.testing.assert_array_equal(
        run(variables, RwRConfig(), clip, interval=interval).landmarks, expected
    )
    held = run(variables, RwRConfig(hold_seconds=1.0), clip, interval=every(0.0)).landmarks
    assert np.isfinite(held).all()


def test_seconds_and_times_are_traced():
    counted = jax.jit(lambda config, interval: (config, motion_gain(config, interval)))
    for seconds in (0.01, 0.5):
        counted(RwRConfig(hold_seconds=seconds, follow_seconds=seconds), jnp.full(2, seconds))
    assert counted._cache_size() == 1


# What the face and its expression do.


def test_two_intervals_without_a_frame_are_one_of_both():
    points = np.random.default_rng(1).uniform(9, 15, (1, 12, 2))
    state = state_of(points, [[0.3, -0.5, 6.0, -4.0]])
    rest = jnp.eye(3)[None]
    once, left = predict_motion(state.heatmaps, state.motion, rest, jnp.full(1, 0.08))
    first, between = predict_motion(state.heatmaps, state.motion, rest, jnp.full(1, 0.04))
    moved = blobs(carried(np.asarray(first), points), 1.2)
    second, after = predict_motion(moved, between, rest, jnp.full(1, 0.04))
    np.testing.assert_allclose(after, left, atol=1e-12)
    np.testing.assert_allclose(second[0] @ first[0], once[0], atol=5e-3)


@pytest.mark.parametrize("intervals", [[1], [2], [4], [1, 2, 1, 1, 3]])
def test_a_steady_motion_has_no_lag_whatever_frames_are_dropped(intervals):
    base, velocity = np.random.default_rng(1).uniform(8, 12, (1, 12, 2)), np.array([6.0, 2.5])
    state, lag, now = state_of(base, size=40), [], 0.0
    config = RwRConfig(follow_seconds=0.01)
    while now < 2:
        interval = intervals[len(lag) % len(intervals)] / 25
        now += interval
        gain = motion_gain(config, jnp.full(1, interval))
        seen = base + now * velocity
        found, moving = follow_face(state, seen, gain, interval)
        points = carried(np.asarray(found), 40 * np.asarray(soft_argmax(state.heatmaps)[0]))
        state = state_of(points, moving, size=40)
        lag.append(np.abs(points - seen).max() / np.abs(velocity).max())
    assert max(lag[-5:]) < 0.01, "seconds, of intervals from .04 to .16"


def smoothed(config, signal, interval):
    """What two equal heatmaps, fused in either way, make of a landmark's place in its face."""
    penalty = float(penalties(config, jnp.full(1, interval), blobs([[[9, 9]]])).squeeze())
    place, found = signal[0], []
    for now in signal:
        place = (now + penalty * place) / (1 + penalty)
        found.append(place)
    return np.array(found)


@pytest.mark.parametrize("correlated", [0.3, 1.0])
def test_an_expression_is_damped_alike_at_three_rates(correlated):
    """An expression that comes and goes at random, correlated for so many seconds."""
    keep = np.exp(-0.04 / correlated)
    noise = np.random.default_rng(0).normal(size=30_000)
    signal = scipy.signal.lfilter([np.sqrt(1 - keep**2)], [1, -keep], noise)

    def spread_of_slopes(config):
        rates = ((signal[::step], step / 25) for step in (1, 2, 4))
        slopes = [np.polyfit(x, smoothed(config, x, interval), 1)[0] for x, interval in rates]
        return np.ptp(slopes)

    assert spread_of_slopes(RwRConfig()) < 0.03
    assert spread_of_slopes(RwRConfig(penalty=1.0)) > 0.08


def test_a_steady_change_lags_by_the_seconds_to_hold():
    for interval in (0.02, 0.1):
        truth = np.arange(0, 2, interval)
        found = smoothed(RwRConfig(hold_seconds=0.06), truth, interval)
        assert truth[-1] - found[-1] == pytest.approx(0.06, rel=1e-3)


# Configs.


def test_a_config_stored_before_there_were_seconds_is_per_frame():
    config = from_mapping({"rwr": {"penalty": 2.0, "follow": 0.7, "budget": 1}}).rwr
    assert config == RwRConfig(penalty=2.0, follow=0.7, budget=1)
    z, interval = blobs([[[9, 9]]]), jnp.full(1, 0.3)
    assert float(penalties(config, interval, z).squeeze()) == 2.0
    assert motion_gain(config, interval) == 0.7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hold_seconds": -0.1}, "hold_seconds must not be negative"),
        ({"hold_seconds": (0.1, float("nan"))}, "hold_seconds must not be negative"),
        ({"follow_seconds": -1.0}, "follow_seconds must not be negative"),
        ({"longest_gap": float("nan")}, "longest_gap must not be negative"),
    ],
)
def test_seconds_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        RwRConfig(**fields)


def test_seconds_of_another_number_of_landmarks(variables):  # noqa: F811
    with pytest.raises(UserError, match=f"hold_seconds must be one number or {K}, one per landm"):
        run(variables, RwRConfig(hold_seconds=(0.1, 0.2)), noisy_clip())
