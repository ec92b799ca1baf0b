"""The pictures of known failures: landmarks go where the picture goes."""

import numpy as np
import pytest

from benchmarks.failures import blurred, box_around, covered, cut, turned

# A face of 40 pixels, whose right eye corner is marked.
POINTS = np.random.default_rng(0).uniform(20, 60, (68, 2)).round()
POINTS[36] = 25, 47


def marked():
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[47, 25] = 255
    return picture


@pytest.mark.parametrize("change", [turned(180), turned(90), cut(-0.4)])
def test_landmarks_move_with_the_picture(change):
    picture, points = change(marked(), POINTS)
    y, x = np.argwhere(picture[..., 0] > 100).mean(axis=0)
    np.testing.assert_allclose(points[36], [x, y], atol=0.6)
    assert not np.allclose(points, POINTS)


def test_covers_and_blur_leave_landmarks_alone_and_hide_the_eye():
    for change in (covered, blurred(0.5)):
        picture, points = change(marked(), POINTS)
        np.testing.assert_array_equal(points, POINTS)
        assert picture[47, 25, 0] < 100


def test_a_box_is_off_by_a_part_of_the_face():
    extent = np.concatenate([POINTS.min(axis=0), POINTS.max(axis=0)])
    shift = (box_around(POINTS, 0.3)[0] - extent).reshape(2, 2)
    np.testing.assert_allclose(np.linalg.norm(shift, axis=1), 0.3 * np.ptp(POINTS, axis=0).max())
