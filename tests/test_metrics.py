"""Laws of the error measures, and agreement with the released model's evaluation."""

import pathlib

import numpy as np
import pytest

from ldeq_jax.face import metrics

EYES = (60, 72)
GOLDENS = pathlib.Path(__file__).parent / "goldens" / "metrics.npz"


@pytest.fixture(scope="module")
def goldens():
    """60 whole faces, the NME of 400, and their mean NME, FR10 and AUC10."""
    with np.load(GOLDENS) as stored:
        return dict(stored)


@pytest.fixture
def faces():
    """Five predicted and reference faces of 98 points."""
    rng = np.random.default_rng(3)
    target = rng.uniform(0, 200, (5, 98, 2))
    return target + rng.normal(0, 4, target.shape), target


def test_nme_agrees_with_the_released_evaluation(goldens):
    errors = metrics.nme(goldens["predicted"], goldens["target"], EYES)
    np.testing.assert_allclose(errors, goldens["nme"][:60], rtol=0, atol=1e-9)


def test_failure_rate_and_auc_agree_with_the_released_evaluation(goldens):
    errors = goldens["nme"]
    found = [errors.mean(), metrics.failure_rate(errors), metrics.auc(errors)]
    np.testing.assert_allclose(found, goldens["nme_fr10_auc10"], rtol=0, atol=1e-9)


def test_nme_of_a_shift_is_its_length_in_interocular_distances(faces):
    _, target = faces
    target[:, EYES[0]], target[:, EYES[1]] = (10, 10), (60, 10)
    errors = metrics.nme(target + [3.0, 4.0], target, EYES)
    np.testing.assert_allclose(errors, 5 / 50, rtol=1e-12)


def test_nme_of_equal_sets_is_zero(faces):
    _, target = faces
    assert (metrics.nme(target, target, EYES) == 0).all()


def test_nme_is_invariant_to_similarities(faces):
    predicted, target = faces
    angle, scale = 0.7, 3.1
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = [points @ turn.T + [12.0, -40.0] for points in (predicted, target)]
    np.testing.assert_allclose(
        metrics.nme(*moved, EYES), metrics.nme(predicted, target, EYES), rtol=1e-10
    )


def test_nme_is_invariant_to_the_order_of_landmarks_and_follows_that_of_faces(faces):
    predicted, target = faces
    rng = np.random.default_rng(5)
    order = rng.permutation(98)
    eyes = tuple(int(np.flatnonzero(order == eye)[0]) for eye in EYES)
    errors = metrics.nme(predicted, target, EYES)
    np.testing.assert_allclose(
        metrics.nme(predicted[:, order], target[:, order], eyes), errors, rtol=1e-12
    )
    rows = rng.permutation(5)
    np.testing.assert_array_equal(metrics.nme(predicted[rows], target[rows], EYES), errors[rows])


def test_masked_landmarks_do_not_count(faces):
    predicted, target = faces
    mask = np.ones(target.shape[:2], bool)
    mask[:, 5:30] = False
    kept = np.r_[0:5, 30:98]
    expected = metrics.nme(
        predicted[:, kept], target[:, kept], tuple(int(np.searchsorted(kept, e)) for e in EYES)
    )
    predicted[:, 5:30] = np.nan
    np.testing.assert_allclose(metrics.nme(predicted, target, EYES, mask), expected, rtol=1e-12)


def test_padding_faces_give_nan_and_leave_the_others_alone(faces):
    predicted, target = faces
    expected = metrics.nme(predicted, target, EYES)
    predicted[2], target[2] = 0, 0
    mask = np.ones(target.shape[:2], bool)
    mask[2] = False
    errors = metrics.nme(predicted, target, EYES, mask)
    assert np.isnan(errors[2])
    np.testing.assert_array_equal(np.delete(errors, 2), np.delete(expected, 2))


def test_nan_coordinates_give_nan_for_their_face_alone(faces):
    predicted, target = faces
    predicted[1, 7, 0] = np.nan
    assert np.isnan(metrics.nme(predicted, target, EYES)).tolist() == [0, 1, 0, 0, 0]


def test_nme_refuses_what_it_cannot_measure(faces):
    predicted, target = faces
    with pytest.raises(ValueError, match="one shape"):
        metrics.nme(predicted[:, :68], target, EYES)
    with pytest.raises(ValueError, match="one shape"):
        metrics.nme(predicted[:1], target, EYES)
    with pytest.raises(ValueError, match="mask of shape"):
        metrics.nme(predicted, target, EYES, np.ones(5, bool))
    target[3, EYES[0]] = target[3, EYES[1]]
    with pytest.raises(ValueError, match="face 3 coincide"):
        metrics.nme(predicted, target, EYES)


def test_errors_of_zero_are_perfect():
    assert metrics.auc(np.zeros(7)) == pytest.approx(1.0, abs=1e-12)
    assert metrics.failure_rate(np.zeros(7)) == 0


def test_errors_beyond_the_threshold_are_worth_nothing():
    assert metrics.auc(np.full(7, 0.11)) == 0
    assert metrics.failure_rate(np.full(7, 0.11)) == 1


@pytest.mark.parametrize("largest", [0.05, 0.1, 0.2])
def test_uniform_errors_have_the_closed_form(largest):
    errors = (np.arange(20_000) + 0.5) / 20_000 * largest
    within = min(largest, 0.1)
    area = (within**2 / 2 / largest + (0.1 - within)) / 0.1
    assert metrics.auc(errors) == pytest.approx(area, abs=1e-4)
    assert metrics.failure_rate(errors) == pytest.approx(1 - within / largest, abs=1e-4)


def test_one_error_earns_the_share_of_the_interval_above_it():
    assert metrics.auc([0.03]) == pytest.approx(0.7, abs=1e-3)
    assert metrics.auc([0.03], threshold=0.08) == pytest.approx(5 / 8, abs=1e-3)


def test_the_curve_rises_and_counts_errors_at_the_threshold():
    errors = np.random.default_rng(7).gamma(3, 0.02, 200)
    thresholds = np.linspace(0, 0.3, 50)
    curve = metrics.cumulative_error(errors, thresholds)
    assert (np.diff(curve) >= 0).all()
    np.testing.assert_allclose(
        curve, [np.mean(errors <= threshold) for threshold in thresholds], rtol=1e-12
    )
    assert metrics.cumulative_error([0.1, 0.2], [0.1]).tolist() == [0.5]
    assert metrics.failure_rate([0.1, 0.2]) == 0.5


def test_larger_errors_never_score_better():
    errors = np.random.default_rng(8).gamma(3, 0.02, 200)
    assert metrics.auc(errors + 0.01) < metrics.auc(errors)
    assert metrics.failure_rate(errors + 0.01) > metrics.failure_rate(errors)


def test_nan_errors_are_failures_and_masked_ones_are_absent():
    errors = np.array([0.02, 0.04, np.nan, 0.3])
    assert metrics.failure_rate(errors) == 0.5
    mask = np.array([True, True, False, True])
    assert metrics.failure_rate(errors, mask=mask) == metrics.failure_rate(errors[mask])
    assert metrics.auc(errors, mask=mask) == metrics.auc(errors[mask])
    assert metrics.auc(errors) == pytest.approx(metrics.auc(errors[mask]) * 3 / 4, rel=1e-12)


def test_no_face_has_no_rate():
    assert np.isnan(metrics.failure_rate([]))
    assert np.isnan(metrics.auc([0.1, 0.2], mask=[False, False]))


def test_the_curve_refuses_a_mask_of_another_shape():
    with pytest.raises(ValueError, match="one shape"):
        metrics.failure_rate([0.1, 0.2], mask=[True])
