"""Crops without a face: where they are cut, and what they do in training."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.empty import FREE, without_face
from ldeq_jax.errors import UserError
from ldeq_jax.model.losses import EMPTY_SPREAD, empty_loss


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 240, 3)).astype(np.uint8)
    landmarks = np.array([100.0, 90.0]) + rng.uniform(-40, 40, (68, 2))
    return image, landmarks


def covered(landmarks, face):
    """The part of the extent of landmarks that lies in that of the face."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    overlap = np.minimum(high, face.max(axis=0)) - np.maximum(low, face.min(axis=0))
    return np.prod(np.maximum(overlap, 0)) / np.prod(high - low)


def test_no_crop_shows_the_face_as_it_was(picture):
    image, landmarks = picture
    elsewhere = 0
    for seed in range(60):
        made, points = without_face(image, landmarks, np.random.default_rng(seed))
        assert made.shape == image.shape and made.dtype == np.uint8
        if made is image:
            elsewhere += 1
            assert covered(points, landmarks) < FREE
        else:
            np.testing.assert_array_equal(points, landmarks)
            low, high = landmarks.min(axis=0).astype(int), landmarks.max(axis=0).astype(int)
            face = np.s_[low[1] : high[1], low[0] : high[0]]
            assert (made[face] != image[face]).mean() > 0.4
    assert 15 < elsewhere < 45


def test_a_crop_of_the_whole_picture_never_keeps_the_picture(picture):
    image, landmarks = picture
    for seed in range(20):
        made, _ = without_face(image, landmarks, np.random.default_rng(seed), elsewhere=False)
        assert made is not image


def test_the_picture_itself_is_left_as_it_was(picture):
    image, landmarks = picture
    before = image.copy()
    for seed in range(20):
        without_face(image, landmarks, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, before)


def test_shuffled_tiles_have_the_pixels_of_the_picture(picture):
    image, landmarks = picture
    for seed in range(60):
        rng = np.random.default_rng(seed)
        if not 0.5 <= rng.random() <= 0.75:
            continue
        made, _ = without_face(image, landmarks, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.sort(made, axis=None), np.sort(image, axis=None))


def test_a_face_as_large_as_its_picture_is_shuffled_or_replaced(picture):
    image, _ = picture
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(0, 1, (68, 2)) * [239, 199]
    for seed in range(20):
        made, _ = without_face(image, landmarks, np.random.default_rng(seed))
        assert made is not image


def test_the_loss_is_least_at_broad_heatmaps_and_grows_on_either_side():
    at = [float(empty_loss(jnp.full((1, 3), EMPTY_SPREAD * f))[0]) for f in (0.1, 0.5, 1, 2)]
    assert at[2] < 1e-9
    np.testing.assert_allclose(at[1], np.log(2) ** 2, rtol=1e-3)
    assert at[0] > at[1] and at[3] > at[2]


def test_the_share_of_rows_without_a_face_must_be_one():
    with pytest.raises(UserError, match="empty_probability"):
        AugmentConfig(empty_probability=1.5)
