"""Laws of the conventional smoothers."""

import numpy as np
import pytest

from ldeq_jax.face import filters
from ldeq_jax.face.filters import FILTERS, smooth

FPS = 30.0
SETTINGS = [
    pytest.param(each, parameters, id=f"{each.name}-{i}")
    for each in FILTERS
    for i, parameters in enumerate(each.grid)
]
every_setting = pytest.mark.parametrize(("each", "parameters"), SETTINGS)
every_filter = pytest.mark.parametrize("each", FILTERS, ids=lambda each: each.name)
STEADY = pytest.mark.parametrize("weight", [0.9, 0.5, 0.2])


@pytest.fixture
def track():
    """A wandering face of four landmarks, 40 frames."""
    return np.cumsum(np.random.default_rng(1).normal(0, 3, (40, 4, 2)), axis=0) + [200.0, 90.0]


def line(frames, slope=0.7):
    return 5.0 + slope * np.arange(frames)[:, None, None] * [[1.0, -2.0]]


def middle(each):
    return each.grid[len(each.grid) // 2]


@every_setting
def test_a_still_track_stays(each, parameters):
    still = np.tile(np.random.default_rng(0).uniform(0, 900, (1, 5, 2)), (30, 1, 1))
    found = each.function(still, FPS, **parameters)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, still, rtol=1e-12)


@every_setting
def test_a_shifted_track_is_smoothed_alike(each, parameters, track):
    found = each.function(track + [1000.0, -300.0], FPS, **parameters)
    np.testing.assert_allclose(
        found, each.function(track, FPS, **parameters) + [1000.0, -300.0], atol=1e-9
    )


@every_setting
def test_a_sum_of_tracks_is_smoothed_term_by_term(each, parameters, track):
    other = track[::-1] ** 2 / 100
    found = each.function(2 * track - other, FPS, **parameters)
    terms = 2 * each.function(track, FPS, **parameters) - each.function(other, FPS, **parameters)
    linear = np.allclose(found, terms, rtol=0, atol=1e-8)
    assert linear == (parameters.get("beta", 0) == 0)


@every_setting
def test_each_coordinate_is_smoothed_for_itself(each, parameters, track):
    found = each.function(track, FPS, **parameters)
    assert found.shape == track.shape
    alone = each.function(track[:, 2, 1], FPS, **parameters)
    np.testing.assert_allclose(found[:, 2, 1], alone, rtol=1e-12)


@every_setting
def test_causal_filters_do_not_see_the_future(each, parameters, track):
    changed = track.copy()
    changed[20:] += 50
    before = each.function(track, FPS, **parameters)
    after = each.function(changed, FPS, **parameters)
    assert (before[:20] == after[:20]).all() == each.causal
    assert (before[20] != after[20]).all()


@every_setting
def test_causal_filters_start_at_the_first_input(each, parameters, track):
    found = each.function(track, FPS, **parameters)
    assert (found[0] == track[0]).all() == each.causal
    np.testing.assert_allclose(each.function(track[:1], FPS, **parameters), track[:1], rtol=1e-12)


@every_filter
def test_grids_go_from_nearly_no_smoothing_to_strong(each):
    noise = np.random.default_rng(2).normal(size=(3000, 2))

    def flicker(parameters):
        return np.diff(each.function(noise, FPS, **parameters), axis=0).std() / np.sqrt(2)

    remaining = [flicker(parameters) for parameters in each.grid]
    assert 0.45 < remaining[0] < 1
    assert remaining[-1] < 0.2
    if each.name != "one_euro":  # a grid of two parameters has no one order
        assert (np.diff(remaining) < 0).all()
    assert each.function is getattr(filters, each.name)


@STEADY
def test_the_exponential_average_is_its_recursion(weight, track):
    expected = [track[0]]
    for point in track[1:]:
        expected.append(weight * point + (1 - weight) * expected[-1])
    found = filters.exponential(track, FPS, weight=weight)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@STEADY
def test_the_exponential_average_lags_by_its_closed_form(weight):
    track = line(200)
    lag = track - filters.exponential(track, FPS, weight=weight)
    np.testing.assert_allclose(lag[-1, 0], (1 - weight) / weight * 0.7 * np.array([1, -2]))


@STEADY
def test_the_exponential_average_leaves_its_share_of_noise(weight):
    noise = np.random.default_rng(3).normal(size=(200_000, 2))
    found = filters.exponential(noise, FPS, weight=weight)
    assert found.var() == pytest.approx(weight / (2 - weight), rel=0.02)


@pytest.mark.parametrize("width", [2, 3, 8])
def test_the_moving_average_is_a_mean_of_the_last_frames(width, track):
    expected = [track[max(0, t - width + 1) : t + 1].mean(axis=0) for t in range(40)]
    found = filters.moving_average(track, FPS, width=width)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    lag = line(40) - filters.moving_average(line(40), FPS, width=width)
    np.testing.assert_allclose(lag[-1, 0], (width - 1) / 2 * 0.7 * np.array([1, -2]))
    noise = np.random.default_rng(3).normal(size=(100_000, 2))
    found = filters.moving_average(noise, FPS, width=width)
    assert found.var() == pytest.approx(1 / width, rel=0.03)


def test_some_settings_change_nothing(track):
    for function, parameters in [
        (filters.exponential, {"weight": 1}),
        (filters.moving_average, {"width": 1}),
        (filters.savitzky_golay, {"width": 1, "order": 0}),
        (filters.savitzky_golay, {"width": 7, "order": 6}),
    ]:
        np.testing.assert_allclose(function(track, FPS, **parameters), track, rtol=1e-10)


@pytest.mark.parametrize(
    ("each", "parameters"), [setting for setting in SETTINGS if not setting.values[0].causal]
)
def test_filters_that_see_the_whole_clip_keep_a_steady_motion(each, parameters):
    track = line(101)
    found = each.function(track, FPS, **parameters)
    np.testing.assert_allclose(found[30:-30], track[30:-30], atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_savitzky_golay_keeps_polynomials_to_the_ends(order):
    track = np.polynomial.Polynomial([4.0, -0.3, 0.05, 0.002][: order + 1])(np.arange(30.0))
    found = filters.savitzky_golay(track, FPS, width=9, order=order)
    np.testing.assert_allclose(found, track, rtol=1e-9)


@every_filter
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 6])
def test_clips_shorter_than_a_window_still_work(each, frames, track):
    found = each.function(track[:frames], FPS, **each.grid[-1])
    assert found.shape == (frames, 4, 2)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 6])
def test_savitzky_golay_fits_one_polynomial_to_a_short_clip(frames, track):
    times, track = np.arange(frames), track[:frames, 0]
    order = min(2, frames - 1)
    coefficients = np.polynomial.polynomial.polyfit(times, track, order)
    expected = np.polynomial.polynomial.polyval(times, coefficients).T
    found = filters.savitzky_golay(track, FPS, width=7, order=2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("fps", [25, 60])
@pytest.mark.parametrize("noise_ratio", [3, 40, 500])
def test_the_kalman_filter_is_the_textbook_one_once_settled(fps, noise_ratio):
    rng = np.random.default_rng(5)
    track = np.cumsum(rng.normal(size=1500))
    # The recursion with its covariance, in seconds, with a measurement deviation of 0.5.
    motion, step = np.array([[1, 1 / fps], [0, 1]]), 1 / fps
    process = (0.5 * noise_ratio) ** 2 * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
    state, covariance = np.array([track[0], 0.0]), np.diag([0.25, 1e4])
    expected = []
    for position in track:
        state, covariance = motion @ state, motion @ covariance @ motion.T + process
        gain = covariance[:, 0] / (covariance[0, 0] + 0.25)
        state = state + gain * (position - state[0])
        covariance = covariance - np.outer(gain, covariance[0])
        expected.append(state[0])
    found = filters.kalman(track, fps, noise_ratio=noise_ratio)
    np.testing.assert_allclose(found[-100:], expected[-100:], atol=1e-5)


@pytest.mark.parametrize("noise_ratio", [10, 60, 500])
def test_the_kalman_filter_catches_up_with_a_steady_motion(noise_ratio):
    lag = np.abs(line(600) - filters.kalman(line(600), FPS, noise_ratio=noise_ratio))
    assert lag[1:4].max() > 0.02
    np.testing.assert_allclose(lag[-1], 0, atol=1e-6)


def test_the_kalman_filter_is_best_for_the_noise_it_is_told():
    rng = np.random.default_rng(6)
    velocity = np.cumsum(rng.normal(0, 30 / np.sqrt(FPS), (3000, 20)), axis=0)
    truth = np.cumsum(velocity, axis=0) / FPS
    measured = truth + rng.normal(0, 1, truth.shape)
    grid = [3, 10, 30, 90, 270]
    errors = [np.std(filters.kalman(measured, FPS, noise_ratio=r) - truth) for r in grid]
    assert grid[int(np.argmin(errors))] == 30


@pytest.mark.parametrize("min_cutoff", [0.5, 3.0])
@pytest.mark.parametrize("fps", [25, 60])
def test_one_euro_without_beta_is_an_exponential_average(min_cutoff, fps, track):
    weight = 1 - 1 / (1 + 2 * np.pi * min_cutoff / fps)
    found = filters.one_euro(track, fps, min_cutoff=min_cutoff, beta=0)
    np.testing.assert_allclose(found, filters.exponential(track, fps, weight=weight), rtol=1e-12)


@pytest.mark.parametrize("fps", [25, 60])
def test_one_euro_lags_less_the_faster_a_point_moves(fps):
    speeds = np.array([0.0, 1.0, -4.0, 20.0])
    track = np.arange(20 * fps)[:, None] / fps * speeds
    found = filters.one_euro(track, fps, min_cutoff=0.5, beta=2)
    # Behind a steady motion by the time constant of its cutoff, in seconds, at any frame rate.
    lag = speeds / (2 * np.pi * (0.5 + 2 * np.abs(speeds)))
    np.testing.assert_allclose((track - found)[-1], lag, rtol=1e-6)


def test_one_euro_smooths_its_speed_at_its_own_cutoff():
    jump = np.where(np.arange(60) < 10, 0.0, 1.0)
    quick, slow = (
        filters.one_euro(jump, FPS, min_cutoff=1, beta=1, derivative_cutoff=cutoff)
        for cutoff in (10, 0.1)
    )
    still = filters.one_euro(jump, FPS, min_cutoff=1, beta=0)
    assert quick[10] > slow[10] > still[10]


@pytest.mark.parametrize(
    ("function", "parameters", "at_twice_the_rate"),
    [
        (filters.one_euro, {"min_cutoff": 1.0, "beta": 0.5}, {}),
        (filters.one_euro, {"min_cutoff": 0.5, "beta": 3.0}, {}),
        # Twice the measurements, each with twice the variance, say as much about the motion.
        (filters.kalman, {"noise_ratio": 10}, {"noise_ratio": 10 / np.sqrt(2)}),
    ],
)
def test_a_motion_is_smoothed_alike_at_any_frame_rate(function, parameters, at_twice_the_rate):
    seconds = np.arange(1200) / 240
    motion = np.sin(4 * seconds) + 0.1 * np.sin(40 * seconds)
    once = function(motion[::2], 120, **parameters)
    twice = function(motion, 240, **parameters | at_twice_the_rate)[::2]
    effect = np.std(once - motion[::2])
    assert effect > 0.03
    assert np.std(twice - once) < 0.05 * effect


@every_filter
def test_scale_is_the_unit_of_length(each, track):
    found = smooth(7.5 * track, each.function, middle(each), FPS, scale=7.5 * 40)
    expected = smooth(track, each.function, middle(each), FPS, scale=40)
    np.testing.assert_allclose(found, 7.5 * expected, rtol=1e-10)
    parameters = {"min_cutoff": 1.0, "beta": 10.0} if each.name == "one_euro" else middle(each)
    in_pixels = smooth(track, each.function, parameters, FPS)
    in_faces = smooth(track, each.function, parameters, FPS, scale=40)
    assert np.allclose(in_pixels, in_faces, rtol=1e-10) == (each.name != "one_euro")


@every_filter
def test_a_lost_face_starts_the_filter_anew(each, track):
    valid = np.ones(40, bool)
    valid[[0, 9, 10, 30, 32]] = False
    runs = [slice(1, 9), slice(11, 30), slice(31, 32), slice(33, 40)]
    expected = np.full(track.shape, np.nan)
    for run in runs:
        expected[run] = each.function(track[run], FPS, **middle(each))
    for filling in (0, np.nan, 1e9):
        track[~valid] = filling
        found = smooth(track, each.function, middle(each), FPS, valid=valid)
        np.testing.assert_array_equal(found, expected)
    track[11:30] += 500
    changed = smooth(track, each.function, middle(each), FPS, valid=valid)
    others = np.r_[1:9, 31:32, 33:40]
    np.testing.assert_array_equal(changed[others], expected[others])


def test_frames_that_are_not_finite_are_left_out_unless_said_to_be_valid(track):
    track[5, 2, 0] = np.nan
    track[20, 0, 1] = np.inf
    finite = ~np.isin(np.arange(40), [5, 20])
    parameters = {"weight": 0.5}
    found = smooth(track, filters.exponential, parameters, FPS)
    assert (np.isfinite(found).all(axis=(1, 2)) == finite).all()
    np.testing.assert_array_equal(
        found, smooth(track, filters.exponential, parameters, FPS, valid=finite)
    )
    with pytest.raises(ValueError, match="frame 5 holds"):
        smooth(track, filters.exponential, parameters, FPS, valid=np.ones(40, bool))


@every_filter
def test_no_valid_frame_gives_nothing(each, track):
    assert np.isnan(smooth(track, each.function, middle(each), FPS, valid=np.zeros(40))).all()
    assert smooth(track[:0], each.function, middle(each), FPS).shape == (0, 4, 2)


def test_the_input_is_left_alone(track):
    kept = track.copy()
    for each in FILTERS:
        smooth(track, each.function, middle(each), FPS)
    np.testing.assert_array_equal(track, kept)


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        (filters.exponential, {"weight": 0}, "weight must be above 0"),
        (filters.exponential, {"weight": 1.1}, "weight must be above 0"),
        (filters.moving_average, {"width": 0}, "whole number"),
        (filters.moving_average, {"width": 2.5}, "whole number"),
        (filters.one_euro, {"min_cutoff": 0, "beta": 1}, "min_cutoff must be positive"),
        (filters.one_euro, {"min_cutoff": 1, "beta": -1}, "beta must be 0 or more"),
        (
            filters.one_euro,
            {"min_cutoff": 1, "beta": 1, "derivative_cutoff": -1},
            "derivative_cutoff must be positive",
        ),
        (filters.kalman, {"noise_ratio": 0}, "noise_ratio must be positive"),
        (filters.kalman, {"noise_ratio": np.nan}, "noise_ratio must be positive"),
        (filters.savitzky_golay, {"width": 4}, "width must be odd"),
        (filters.savitzky_golay, {"width": 5, "order": 5}, "below the width"),
        (filters.savitzky_golay, {"width": 5, "order": -1}, "at least 0"),
        (filters.gaussian, {"sigma": 0}, "sigma must be positive"),
    ],
)
def test_parameters_out_of_range_are_refused(function, parameters, message, track):
    with pytest.raises(ValueError, match=message):
        function(track, FPS, **parameters)


def test_smooth_refuses_what_it_cannot_filter(track):
    with pytest.raises(ValueError, match="one entry for each frame"):
        smooth(track, filters.exponential, {"weight": 0.5}, FPS, valid=np.ones(39, bool))
    with pytest.raises(ValueError, match="fps must be positive"):
        smooth(track, filters.exponential, {"weight": 0.5}, 0)
    with pytest.raises(ValueError, match="scale must be positive"):
        smooth(track, filters.exponential, {"weight": 0.5}, FPS, scale=-1)
    with pytest.raises(TypeError, match="wieght"):
        smooth(track, filters.exponential, {"wieght": 0.5}, FPS)
