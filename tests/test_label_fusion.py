"""Laws of the fusion of what several models find, and of smoothing without delay."""

import dataclasses

import numpy as np
import pytest
import scipy.signal

from ldeq_jax.errors import UserError
from ldeq_jax.face.eyes import from_eyes, to_eyes
from ldeq_jax.labelling.fusion import Found, fuse, habits, plain_mean
from ldeq_jax.labelling.smoothing import STRONGEST, acceleration, smooth, whittaker

K, EYES = 7, (0, 3)
OWN = np.ones(4, bool)


def track(frames=120, seed=0):
    """A face that moves, turns and grows; eyes 60 pixels apart."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(-40, 40, (K, 2))
    shape[list(EYES)] = [[-30, 0], [30, 0]]
    t = np.arange(frames) / frames
    turn = np.exp(0.3j * np.sin(5 * t)) * (1 + 0.2 * t)
    z = (shape @ [1, 1j]) * turn[:, None] + (100 + 40 * t + 50j)[:, None]
    return np.stack([z.real, z.imag], axis=-1)


def members(truth, noise=(0, 0, 0, 0), offsets=0.0, spread=None, seed=1):
    """What members find that err at random, in eye distances, and by an offset."""
    rng = np.random.default_rng(seed)
    eyes = truth[:, list(EYES)]
    face = to_eyes(truth, eyes)
    noise = np.reshape(noise, (-1, 1, 1, 1))
    offsets = np.broadcast_to(offsets, (len(noise), K, 2))[:, None]
    found = face + offsets + noise * rng.standard_normal((len(noise), *face.shape))
    points = from_eyes(found, np.broadcast_to(eyes, (len(noise), *eyes.shape)))
    spread = np.full(points.shape[:3], np.nan) if spread is None else spread
    return Found(points=points, spread=np.broadcast_to(spread, points.shape[:3]))


def fused(found, own=OWN, windows=None):
    return fuse(found, habits(windows or [found], own, EYES), own, EYES)


def error(points, truth):
    """Root-mean-square error in eye distances."""
    eyes = truth[:, list(EYES)]
    difference = to_eyes(points, eyes) - to_eyes(truth, eyes)
    return float(np.sqrt(np.square(difference).sum(axis=-1).mean()))


def test_members_that_agree_are_the_label():
    truth = track()
    found = fused(members(truth))
    np.testing.assert_allclose(found.points, truth, atol=1e-9)
    assert found.disagreement.max() < 1e-9 and found.jitter.max() < 1e-9
    assert found.weights.sum() == pytest.approx(1) and found.away.max() < 1e-9


def test_habits_of_members_are_no_disagreement():
    rng = np.random.default_rng(2)
    offsets = 0.05 * rng.standard_normal((4, K, 2))
    offsets[:, list(EYES)] = 0  # they hold the frame that offsets are measured in
    offsets -= offsets.mean(axis=0)
    truth = track()
    found = fused(members(truth, offsets=offsets))
    np.testing.assert_allclose(found.points, truth, atol=1e-6)
    assert found.disagreement.max() < 1e-6


def test_the_habits_of_members_with_other_landmarks_are_not_in_the_labels():
    offsets = np.zeros((4, K, 2))
    offsets[3] = 0.1
    truth, own = track(), np.array([True, True, True, False])
    found = fused(members(truth, offsets=offsets), own)
    np.testing.assert_allclose(found.points, truth, atol=1e-6)
    other = fused(members(truth, offsets=offsets))  # as one of four
    assert error(other.points, truth) > 0.01


def test_a_label_moves_with_the_picture():
    truth = track()
    found = members(truth, noise=(0.01, 0.02, 0.01, 0.03))
    turned = np.exp(0.7j) * 1.8

    def moved(points):
        z = turned * (points @ [1, 1j]) + (30 - 20j)
        return np.stack([z.real, z.imag], axis=-1)

    one = fused(found)
    other = fused(dataclasses.replace(found, points=moved(found.points)))
    np.testing.assert_allclose(other.points, moved(one.points), atol=1e-8)
    np.testing.assert_allclose(other.disagreement, one.disagreement, atol=1e-8)
    np.testing.assert_allclose(other.jitter, 1.8 * one.jitter, atol=1e-8)


def test_the_order_of_members_does_not_matter():
    found = members(track(), noise=(0.01, 0.02, 0.01, 0.03))
    turned = Found(points=found.points[::-1], spread=found.spread[::-1])
    one, other = fused(found), fused(turned)
    np.testing.assert_allclose(other.points, one.points, atol=1e-10)
    np.testing.assert_allclose(other.weights, one.weights[::-1], atol=1e-10)


def test_the_label_errs_less_than_the_plain_mean_and_every_member():
    truth = track(400)
    found = members(truth, noise=(0.01, 0.01, 0.02, 0.04))
    label = error(fused(found).points, truth)
    assert label < 0.8 * error(plain_mean(found), truth)
    assert all(label < 0.9 * error(points, truth) for points in found.points)


def test_a_member_that_errs_more_has_less_weight():
    found = fused(members(track(600), noise=(0.01, 0.01, 0.01, 0.03)))
    assert found.weights[:3] == pytest.approx(np.full(3, found.weights[0]), rel=0.1)
    assert 2 < found.weights[0] / found.weights[3] < 3  # residuals hold the noise of others too


def test_a_member_that_is_unsure_counts_less_there():
    truth = track(300)
    rng = np.random.default_rng(3)
    unsure = np.where(rng.uniform(size=(300, K)) < 0.1, 8.0, 1.0)
    found = members(truth, noise=np.full(4, 0.01))
    points = found.points.copy()
    points[0] += 60 * 0.07 * rng.standard_normal((300, K, 2)) * (unsure > 1)[..., None]
    spread = np.ones(points.shape[:3])
    spread[0] = unsure
    told = fused(Found(points=points, spread=spread))
    untold = fused(Found(points=points, spread=np.full(points.shape[:3], np.nan)))
    where = unsure > 1
    away = [np.linalg.norm(f.points - truth, axis=-1)[where].mean() for f in (told, untold)]
    assert away[0] < 0.8 * away[1]


def test_an_outlier_hardly_moves_the_label_but_is_disagreement():
    truth = track()
    found = members(truth, noise=np.full(4, 0.01))
    points = found.points.copy()
    points[2, 40] += 60  # an eye distance
    wild = fused(Found(points=points, spread=found.spread))
    calm = fused(found)
    assert np.linalg.norm(wild.points[40] - calm.points[40], axis=-1).max() < 3
    assert np.linalg.norm(points.mean(axis=0)[40] - calm.points[40], axis=-1).min() > 10
    assert wild.disagreement[40].min() > 20 > 10 * calm.disagreement[40].max() / 2
    assert wild.away[2, 40] > 0.8


def test_disagreement_is_the_distance_of_the_members():
    noise = 0.02
    found = fused(members(track(500), noise=np.full(4, noise)))
    expected = 100 * noise * np.sqrt(2 * (1 - 1 / 4))
    assert found.disagreement.mean() == pytest.approx(expected, rel=0.1)


def test_jitter_is_the_noise_of_a_member():
    truth = track(600)
    found = fused(members(truth, noise=np.full(4, 0.02)))
    sizes = np.linalg.norm(truth[:, EYES[1]] - truth[:, EYES[0]], axis=-1)
    inner = [k for k in range(K) if k not in EYES]  # these hold the frame of the others
    np.testing.assert_allclose(found.jitter[:, inner].mean(axis=1) / sizes, 0.02, rtol=0.3)
    assert (found.jitter / sizes[:, None])[:, inner].mean() == pytest.approx(0.02, rel=0.1)


def test_a_member_that_drifts_is_no_jitter():
    offsets = np.zeros((4, K, 2))
    offsets[1, 4], offsets[2, 4] = 0.05, -0.05
    truth = track()
    drift = np.linspace(0, 1, len(truth))[:, None, None]
    still = to_eyes(truth, truth[:, list(EYES)])
    face = still + offsets[:, None] * drift
    eyes = np.broadcast_to(truth[:, list(EYES)], (4, len(truth), 2, 2))
    found = fused(Found(points=from_eyes(face, eyes), spread=np.ones((4, len(truth), K))))
    assert found.disagreement[:, 4].max() > 1 and found.jitter.max() < 0.05


def test_each_window_has_the_same_say_in_the_habits():
    truth = track()
    offsets = np.zeros((4, K, 2))
    offsets[0, 5] = 0.04
    some = members(truth, offsets=offsets)
    short, long = members(truth[:20]), members(track(900))
    known = habits([some, some, short], OWN, EYES)
    assert known.offsets[0, 5, 0] == pytest.approx(0.03, abs=1e-6)
    assert habits([some, short, long], OWN, EYES).offsets[0, 5] == pytest.approx([0, 0], abs=1e-6)


def test_landmarks_that_are_missing_are_refused():
    found = members(track())
    points = found.points.copy()
    points[1, 3] = np.nan
    known = habits([found], OWN, EYES)
    with pytest.raises(UserError, match="missing in some frames"):
        fuse(Found(points=points, spread=found.spread), known, OWN, EYES)


# Smoothing.


def test_a_steady_motion_is_kept_exactly():
    t = np.arange(60.0)[:, None, None]
    points = np.array([[[3, 4], [50, 60]]]) + t * np.array([[[0.7, -0.3], [0, 2]]])
    smoothed = smooth(points, np.full((60, 2), 1.5))
    np.testing.assert_allclose(smoothed.points, points, atol=1e-6)
    assert smoothed.strength == pytest.approx([STRONGEST] * 2)


def test_time_reversed_gives_the_result_reversed():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((90, 3, 2)).cumsum(axis=0)
    jitter = rng.uniform(0.1, 2, (90, 3))
    one, other = smooth(points, jitter), smooth(points[::-1], jitter[::-1])
    np.testing.assert_allclose(other.points[::-1], one.points, atol=1e-7)


def smoother(strength, count):
    """The matrix of the smoother."""
    return whittaker(np.eye(count), np.full(count, strength))


@pytest.mark.parametrize("strength", [0.3, 10.0, 100.0])
def test_noise_is_reduced_as_the_smoother_says(strength):
    count = 150
    matrix = smoother(strength, count)
    noise = np.random.default_rng(1).standard_normal((count, 400))
    np.testing.assert_allclose(whittaker(noise, np.full(count, strength)), matrix @ noise)
    expected = np.square(matrix).sum(axis=1).mean()
    found = np.square(matrix @ noise).mean()
    assert found == pytest.approx(expected, rel=0.03) and expected < 0.9
    np.testing.assert_allclose(matrix.sum(axis=1), 1)  # a face that is still stays where it is


def test_a_still_face_with_noise_gets_steadier_by_the_predicted_factor():
    count, noise = 150, 0.4
    rng = np.random.default_rng(2)
    points = rng.uniform(0, 90, (1, 200, 2)) + noise * rng.standard_normal((count, 200, 2))
    found = smooth(points, np.full((count, 200), noise))
    still = found.strength > 0.99 * STRONGEST  # where noise is not mistaken for motion
    assert still.mean() > 0.4
    matrix = smoother(STRONGEST, count)
    predicted = np.square(np.diff(matrix, axis=0)).sum(axis=1).mean() / 2
    steps = np.square(np.diff(found.points[:, still], axis=0)).mean() / (2 * noise**2)
    assert steps == pytest.approx(predicted, rel=0.1) and predicted < 0.02


@pytest.mark.parametrize(("period", "strength"), [(11, STRONGEST), (20, 100.0)])
def test_half_of_what_repeats_within_eleven_frames_is_left(period, strength):
    wave = np.sin(2 * np.pi * np.arange(440) / period)[:, None]
    left = whittaker(wave, np.full(440, strength))
    assert np.ptp(left[150:250]) / np.ptp(wave) == pytest.approx(0.5, abs=0.02)


def test_a_blink_is_kept_and_the_noise_of_others_is_not():
    count, rng = 150, np.random.default_rng(3)
    points = 0.1 * rng.standard_normal((count, 2, 2))
    truth = np.zeros_like(points)
    truth[70:78, 0, 1] = 6 * scipy.signal.windows.hann(8)
    found = smooth(points + truth, np.full((count, 2), 0.1))
    assert found.points[72:76, 0, 1].max() > 0.9 * truth.max()
    assert found.strength[0] < 0.3 < 5 < found.strength[1]


def test_where_members_agree_nothing_is_smoothed():
    points = np.random.default_rng(4).standard_normal((40, 2, 2))
    np.testing.assert_array_equal(smooth(points, np.zeros((40, 2))).points, points)
    np.testing.assert_array_equal(smooth(points, np.ones((40, 2)), strongest=0).points, points)


def test_frames_of_more_noise_are_smoothed_more():
    rng = np.random.default_rng(5)
    jitter = np.where(np.arange(120) < 60, 0.05, 1.0)[:, None].repeat(30, axis=1)
    points = jitter[..., None] * rng.standard_normal((120, 30, 2))
    found = smooth(points, jitter).points
    steps = np.square(np.diff(found, axis=0)).mean(axis=(1, 2))
    before = np.square(np.diff(points, axis=0)).mean(axis=(1, 2))
    assert (steps / before)[65:].mean() < 0.3 * (steps / before)[:55].mean()


def test_acceleration_is_what_noise_does_not_explain():
    rng = np.random.default_rng(6)
    motion = np.cumsum(np.cumsum(0.3 * rng.standard_normal((4000, 1, 2)), axis=0), axis=0)
    noisy = motion + 0.2 * rng.standard_normal(motion.shape)
    assert acceleration(noisy, np.full((4000, 1), 0.04)) == pytest.approx([0.09], rel=0.15)
