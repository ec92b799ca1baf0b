"""Confidence: the calibration finds what made the data, and its probabilities are frequencies."""

import dataclasses

import numpy as np
import pytest

from ldeq_jax.errors import UserError
from ldeq_jax.face.confidence import (
    ConfidenceConfig,
    calibrate,
    calibration_error,
    face_size,
    reliability,
    with_confidence,
)
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.doubt import UNLIKELY, why_unlikely

ERRORS, POWER, SCATTER = (0.2, 0.5, 1.0, 0.3), 1.4, 0.4
MADE = ConfidenceConfig(
    errors=ERRORS, power=POWER, scatter=SCATTER, face_spread=0.3, face_scatter=0.1
)


def drawn(number, seed=0):
    """Relative spreads, and errors as the model says that they are distributed."""
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(-2.5, 0.5, (number, 4)))
    error = np.array(ERRORS) * spread**POWER * np.exp(SCATTER * rng.logistic(size=spread.shape))
    return spread, error


def empty(number):
    return np.exp(np.random.default_rng(9).normal(-0.8, 0.2, (number, 4)))


def test_the_calibration_finds_what_made_the_errors():
    found = calibrate(*drawn(4000), empty(200))
    np.testing.assert_allclose(found.errors, ERRORS, rtol=0.12)
    assert found.power == pytest.approx(POWER, rel=0.03)
    assert found.scatter == pytest.approx(SCATTER, rel=0.03)


def faces(number, seed=0):
    spread, error = drawn(number, seed)
    points = np.tile([[0.0, 0], [100, 0], [0, 80], [100, 80]], (number, 1, 1))
    size = face_size(points)[:, None]
    found = Landmarks(points=points, spread=spread * size, ok=np.ones(number, bool))
    return found, error * size


def test_landmarks_are_near_as_often_as_it_says_and_their_median_is_that_of_the_deviation():
    found, error = faces(5000)
    sure = with_confidence(found, MADE, (0, 1))
    near = error < 0.05 * 100
    assert 0.2 < near.mean() < 0.9
    assert calibration_error(sure.probability, near) < 0.01
    # A pair of normal numbers of deviation 1 is shorter than 1.1774 in half of the cases.
    assert (error < 1.17741 * sure.deviation).mean() == pytest.approx(0.5, abs=0.01)


def test_confidence_does_not_depend_on_the_size_of_the_picture():
    found, _ = faces(50)
    larger = dataclasses.replace(found, points=3 * found.points + 7, spread=3 * found.spread)
    one, other = (with_confidence(f, MADE, (0, 1)) for f in (found, larger))
    np.testing.assert_allclose(one.probability, other.probability, rtol=1e-6)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-6)
    np.testing.assert_allclose(3 * one.deviation, other.deviation, rtol=1e-6)


def test_faces_are_told_from_crops_without_one():
    spread, error = drawn(300)
    config = calibrate(spread, error, empty(300))
    found, _ = faces(300, seed=3)
    blank = dataclasses.replace(found, spread=empty(300) * face_size(found.points)[:, None])
    of_faces, of_blank = (with_confidence(f, config, (0, 1)).confidence for f in (found, blank))
    assert np.mean(of_faces > 0.5) > 0.97 and np.mean(of_blank < 0.5) > 0.97


def test_a_model_without_calibration_says_nothing():
    found, _ = faces(3)
    same = with_confidence(found, ConfidenceConfig(), (0, 1))
    assert same is found and same.confidence is None


def test_a_face_that_was_not_found_has_no_confidence_and_can_be_stacked():
    found, _ = faces(2)
    sure = with_confidence(found, MADE, (0, 1))
    film = Landmarks.stack([Landmarks.absent(4), sure[0]])
    assert np.isnan(film.confidence[0]) and np.isnan(film.deviation[0]).all()
    assert film.confidence[1] == sure.confidence[0]
    nowhere = with_confidence(Landmarks.absent(4), MADE, (0, 1))
    assert np.isnan(nowhere.confidence) and np.isnan(nowhere.probability).all()


def test_reliability_counts_every_row_once_and_is_exact_for_exact_probabilities():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 20_000)
    happened = rng.uniform(0, 1, 20_000) < probability
    bins = reliability(probability, happened)
    assert bins[:, 2].sum() == pytest.approx(1)
    assert calibration_error(probability, happened) < 0.02
    assert calibration_error(np.ones(10), np.zeros(10, bool)) == 1
    assert calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0)


def test_too_little_data_and_numbers_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="10 faces"):
        calibrate(*drawn(5), empty(20))
    with pytest.raises(UserError, match="scatter must be positive"):
        ConfidenceConfig(scatter=0.0)
    with pytest.raises(UserError, match="errors must be positive"):
        ConfidenceConfig(errors=(0.1, -1.0))


def test_only_what_a_calibrated_model_believes_in_is_a_face():
    assert why_unlikely(None) == "" == why_unlikely(np.array(UNLIKELY))
    assert "confidence 0.03" in why_unlikely(np.array(0.03))
