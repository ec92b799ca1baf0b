"""Crops land where their matrices say."""

import pathlib

import cv2
import numpy as np
import pytest

from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_from_box, crop_from_landmarks, crop_whole

GOLDEN = np.load(pathlib.Path(__file__).parent / "goldens" / "crop.npz")


def ramp(height, width):
    """A float picture whose two channels are each pixel's own x and y."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], axis=-1)


def test_box_rule_matches_the_released_crops():
    for box, expected in zip(GOLDEN["boxes"], GOLDEN["crop_from_frame"], strict=True):
        np.testing.assert_allclose(crop_from_box(box, 256)[:2], expected, atol=1e-9)


def test_points_match_the_released_ones_both_ways():
    matrices = np.stack([crop_from_box(box, 256) for box in GOLDEN["boxes"]])
    frame, crop = GOLDEN["points_frame"], GOLDEN["points_crop"]
    np.testing.assert_allclose(geometry.transform_points(matrices, frame), crop, atol=1e-9)
    back = geometry.transform_points(geometry.inverse(matrices), crop)
    np.testing.assert_allclose(back, frame, atol=1e-9)


def test_halves_of_a_pixel_round_up():
    whole, half = [11, 21, 61, 91], [10.5, 20.5, 60.5, 90.5]
    np.testing.assert_array_equal(crop_from_box(half, 256), crop_from_box(whole, 256))


@pytest.mark.parametrize("size", [64, 128])
def test_the_box_crop_scales_with_its_size(size):
    box = GOLDEN["boxes"][0]
    scaled = np.diag([size / 256, size / 256, 1]) @ crop_from_box(box, 256)
    np.testing.assert_allclose(crop_from_box(box, size), scaled, atol=1e-9)


def test_landmark_crop_is_centred_and_square():
    points = np.array([[10.0, 40.0], [50.0, 20.0], [45.0, 22.0]])
    matrix = crop_from_landmarks(points, 128, scale=2.0)
    moved = geometry.transform_points(matrix, points)
    np.testing.assert_allclose((moved.min(axis=0) + moved.max(axis=0)) / 2, [64, 64])
    np.testing.assert_allclose(np.ptp(moved, axis=0), [64, 32])  # 40 and 20 of a side of 80


def test_whole_picture():
    np.testing.assert_array_equal(crop_whole(256, 256, 256), np.eye(3))
    np.testing.assert_array_equal(crop_whole(256, 256, 128), np.diag([0.5, 0.5, 1]))
    corners = geometry.transform_points(crop_whole(200, 100, 50), [[0, 0], [200, 100]])
    np.testing.assert_allclose(corners, [[0, 12.5], [50, 37.5]])


def test_points_broadcast_against_matrices():
    rng = np.random.default_rng(0)
    matrices = np.tile(np.eye(3), (4, 5, 1, 1))
    matrices[..., :2, :] = rng.normal(size=(4, 5, 2, 3))
    points = rng.normal(size=(5, 7, 2))
    expected = np.einsum("tbij,bkj->tbki", matrices[..., :2, :2], points)
    expected += matrices[..., None, :2, 2]
    np.testing.assert_allclose(geometry.transform_points(matrices, points), expected, atol=1e-12)


@pytest.mark.parametrize("zoom", [2.0, 1.0, 0.7, 0.5, 0.3, 0.11])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_a_bright_dot_lands_where_its_point_does(zoom, angle):
    frame_size, size, dot = 400, 96, np.array([181.3, 222.8])
    y, x = np.mgrid[:frame_size, :frame_size]
    # Wide enough to be sampled well in the crop, whatever the zoom.
    picture = np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / (2 * (2 / zoom) ** 2))
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    matrix[:2, 2] = [51.6, 44.9] - matrix[:2, :2] @ dot
    crop = geometry.warp((255 * picture).astype(np.float32), matrix, size)
    weights = crop / crop.sum()
    centroid = [(weights * np.arange(size)).sum(), (weights * np.arange(size)[:, None]).sum()]
    np.testing.assert_allclose(centroid, [51.6, 44.9], atol=0.05)


@pytest.mark.parametrize("zoom", [1.3, 0.6, 0.4, 0.29, 0.15])
@pytest.mark.parametrize("offset", [(-60, -35), (15, 8), (-170, 20)])
def test_every_crop_pixel_shows_its_own_place(zoom, offset):
    height, width, size = 151, 203, 64
    matrix = np.diag([zoom, zoom, 1.0])
    matrix[:2, 2] = np.multiply(offset, zoom)
    crop = geometry.warp(ramp(height, width) + 1, matrix, size)
    grid = ramp(size, size).reshape(-1, 2)
    place = geometry.transform_points(geometry.inverse(matrix), grid).reshape(size, size, 2)
    margin = 1.5 / zoom + 1  # pixels at the very edge are mixed with the black beyond
    low, high = place.min(axis=-1), (place - [width - 1, height - 1]).max(axis=-1)
    inside = (low >= margin) & (high <= -margin)
    outside = (low < -margin) | (high > margin)
    assert inside.sum() > 20
    np.testing.assert_allclose(crop[inside], place[inside] + 1, atol=0.02)
    np.testing.assert_array_equal(crop[outside], 0)


# The steps, in frame pixels per crop pixel, at which one rule for smoothing passes over to another.
STEPS = [1, 2, 3, 4, 6, 8, 12]


def around(step, angle=0.0, centre=(203.3, 196.8), size=24):
    """crop_from_frame that turns and shrinks around a point of the frame."""
    c, s = np.cos(angle) / step, np.sin(angle) / step
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    matrix[:2, 2] = size / 2 - matrix[:2, :2] @ centre
    return matrix


def noise(dtype=np.float32):
    return np.random.default_rng(0).integers(0, 256, (400, 410)).astype(dtype)


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("step", STEPS)
def test_a_little_zoom_or_shift_changes_the_crop_little(step, angle):
    smaller, larger = (
        geometry.warp(noise(), around(step * (1 + by), angle), 24) for by in (-1e-6, 1e-6)
    )
    np.testing.assert_allclose(smaller, larger, atol=0.1)
    shifts = [around(step, angle, (203.3 + by, 196.8)) for by in np.linspace(0, 2 * step, 200)]
    crops = np.array([geometry.warp(noise(), matrix, 24) for matrix in shifts])
    # The tent is `step` wide on either side, but no step is narrower than a pixel.
    assert np.abs(np.diff(crops, axis=0)).max() <= 255 * 2 * step / 199 / step * 1.5


def test_the_crop_follows_the_zoom_without_jumps():
    steps = 0.9 * 1.004 ** np.arange(650)  # to 12
    crops = np.array([geometry.warp(noise(), around(step), 24) for step in steps])
    changes = np.abs(np.diff(crops, axis=0)).mean(axis=(1, 2))
    # From each to the next by less than twice what is usual there.
    usual = np.array([np.median(changes[max(i - 20, 0) : i + 21]) for i in range(len(changes))])
    assert (changes < 2 * usual).all()


@pytest.mark.parametrize("step", [2, 3])
def test_a_crop_pixel_gathers_what_lies_within_one_of_it(step):
    taps = np.maximum(1 - np.abs(np.arange(-2, 3)) / step, 0)
    taps /= taps.sum()
    rows = sum(tap * noise()[72 + i : 72 + i + 24 * step : step] for i, tap in enumerate(taps))
    expected = sum(tap * rows[:, 92 + i : 92 + i + 24 * step : step] for i, tap in enumerate(taps))
    matrix = np.array([[1 / step, 0, -94 / step], [0, 1 / step, -74 / step], [0, 0, 1]])
    np.testing.assert_allclose(geometry.warp(noise(), matrix, 24), expected, atol=0.01)


def test_without_shrinking_pixels_are_left_alone():
    picture = noise(np.uint8)
    crop = geometry.warp(picture, np.array([[1.0, 0, -17], [0, 1, -30], [0, 0, 1]]), 64)
    np.testing.assert_array_equal(crop, picture[30:94, 17:81])
    enlarged = geometry.warp(noise(), around(0.5, 0, (100, 100), 64), 64)
    np.testing.assert_array_equal(enlarged[::2, ::2], noise()[84:116, 84:116])


@pytest.mark.parametrize("step", [1.02, 1.7, 2.9, 3.7, 5.3, 7.9])
def test_shrinking_keeps_what_is_even_and_damps_what_is_fine(step):
    even = geometry.warp(np.full((400, 410, 3), 255, np.uint8), around(step), 24)
    np.testing.assert_array_equal(even, 255)
    for fine in (np.indices((400, 410))[1], np.indices((400, 410)).sum(axis=0)):
        stripes = np.uint8(254 * (fine % 2))
        crop = geometry.warp(stripes, around(step, 0.2), 24).astype(int)
        limit = 127 if step < 2 else 16
        assert np.abs(crop - 127).max() <= limit


@pytest.mark.parametrize("step", STEPS)
def test_beyond_the_frame_it_is_black_and_so_smoothed(step):
    padded = np.pad(noise(), 64)
    for centre in ((3.3, 10.8), (408.0, 396.0)):
        expected = geometry.warp(padded, around(step, 0.3, np.add(centre, 64)), 24)
        crop = geometry.warp(noise(), around(step, 0.3, centre), 24)
        seen = geometry.transform_points(
            geometry.inverse(around(step, 0.3, centre)), ramp(24, 24).reshape(-1, 2)
        )
        inside = ((seen > -60) & (seen < [469, 459])).all(axis=1).reshape(24, 24)
        np.testing.assert_allclose(crop[inside], expected[inside], atol=0.02)


@pytest.mark.parametrize("step", STEPS)
def test_a_larger_crop_holds_the_smaller(step):
    larger = geometry.warp(noise(), around(step, 0.3, size=56), 56)
    np.testing.assert_allclose(
        geometry.warp(noise(), around(step, 0.3), 24), larger[16:40, 16:40], atol=0.02
    )


def test_a_crop_of_far_more_than_the_frame_takes_no_memory():
    crop = geometry.warp(noise(), crop_from_box([0, 0, 1e9, 1e9], 24), 24)
    assert crop.max() < 1e-6


def test_a_crop_beyond_the_frame_is_black():
    matrix = crop_from_box([5000, 5000, 5900, 5900], 32)
    assert not geometry.warp(np.full((50, 60, 3), 200, np.uint8), matrix, 32).any()


def test_the_frame_is_left_as_it_was():
    picture = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    before = picture.copy()
    identity = geometry.warp(picture[:80], np.eye(3), 80)
    np.testing.assert_array_equal(identity, picture[:80])
    geometry.warp(picture, np.diag([0.3, 0.3, 1.0]), 32)
    np.testing.assert_array_equal(picture, before)
    assert cv2.warpAffine(picture, np.eye(3)[:2], (80, 80)).dtype == identity.dtype


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [5, 9, 8, 5], [1, 2, np.nan, 4], [1, 2, np.inf, 4], [1, 2, 3]]
)
def test_bad_boxes_are_refused(box):
    with pytest.raises(ValueError, match="box"):
        crop_from_box(box, 256)


def test_bad_landmarks_sizes_and_matrices_are_refused():
    with pytest.raises(ValueError, match="one point"):
        crop_from_landmarks(np.ones((5, 2)), 256)
    with pytest.raises(ValueError, match="finite"):
        crop_from_landmarks([[0, 1], [np.nan, 3]], 256)
    with pytest.raises(ValueError, match="size must be positive"):
        crop_from_box([0, 0, 9, 9], 0)
    with pytest.raises(ValueError, match="scale must be positive"):
        crop_from_box([0, 0, 9, 9], 64, scale=-1)
    with pytest.raises(ValueError, match="width must be positive"):
        crop_whole(0, 5, 64)
    with pytest.raises(ValueError, match="invertible"):
        geometry.inverse(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="invertible"):
        geometry.warp(np.zeros((4, 4)), np.full((3, 3), np.nan), 4)
