"""Crops land where their matrices say."""

import pathlib

import cv2
import numpy as np
import pytest

from ldeq_jax import geometry

GOLDEN = np.load(pathlib.Path(__file__).parent / "goldens" / "crop.npz")


def ramp(height, width):
    """A float picture whose two channels are each pixel's own x and y."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], axis=-1)


def test_box_rule_matches_the_released_crops():
    for box, expected in zip(GOLDEN["boxes"], GOLDEN["crop_from_frame"], strict=True):
        np.testing.assert_allclose(geometry.crop_from_box(box, 256)[:2], expected, atol=1e-9)


def test_points_match_the_released_ones_both_ways():
    matrices = np.stack([geometry.crop_from_box(box, 256) for box in GOLDEN["boxes"]])
    frame, crop = GOLDEN["points_frame"], GOLDEN["points_crop"]
    np.testing.assert_allclose(geometry.transform_points(matrices, frame), crop, atol=1e-9)
    back = geometry.transform_points(geometry.inverse(matrices), crop)
    np.testing.assert_allclose(back, frame, atol=1e-9)


def test_halves_of_a_pixel_round_up():
    whole, half = [11, 21, 61, 91], [10.5, 20.5, 60.5, 90.5]
    np.testing.assert_array_equal(
        geometry.crop_from_box(half, 256), geometry.crop_from_box(whole, 256)
    )


@pytest.mark.parametrize("size", [64, 128])
def test_the_box_crop_scales_with_its_size(size):
    box = GOLDEN["boxes"][0]
    scaled = np.diag([size / 256, size / 256, 1]) @ geometry.crop_from_box(box, 256)
    np.testing.assert_allclose(geometry.crop_from_box(box, size), scaled, atol=1e-9)


def test_landmark_crop_is_centred_and_square():
    points = np.array([[10.0, 40.0], [50.0, 20.0], [45.0, 22.0]])
    matrix = geometry.crop_from_landmarks(points, 128, scale=2.0)
    moved = geometry.transform_points(matrix, points)
    np.testing.assert_allclose((moved.min(axis=0) + moved.max(axis=0)) / 2, [64, 64])
    np.testing.assert_allclose(np.ptp(moved, axis=0), [64, 32])  # 40 and 20 of a side of 80


def test_whole_picture():
    np.testing.assert_array_equal(geometry.crop_whole(256, 256, 256), np.eye(3))
    np.testing.assert_array_equal(geometry.crop_whole(256, 256, 128), np.diag([0.5, 0.5, 1]))
    corners = geometry.transform_points(geometry.crop_whole(200, 100, 50), [[0, 0], [200, 100]])
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


@pytest.mark.parametrize("zoom", [1.3, 0.6, 0.4, 0.15])
@pytest.mark.parametrize("offset", [(-60, -35), (15, 8), (-170, 20)])
def test_every_crop_pixel_shows_its_own_place(zoom, offset):
    height, width, size = 151, 203, 64
    matrix = np.diag([zoom, zoom, 1.0])
    matrix[:2, 2] = np.multiply(offset, zoom)
    crop = geometry.warp(ramp(height, width) + 1, matrix, size)
    grid = ramp(size, size).reshape(-1, 2)
    place = geometry.transform_points(geometry.inverse(matrix), grid).reshape(size, size, 2)
    margin = 1 / zoom + 1  # pixels at the very edge are mixed with the black beyond
    low, high = place.min(axis=-1), (place - [width - 1, height - 1]).max(axis=-1)
    inside = (low >= margin) & (high <= -margin)
    outside = (low < -margin) | (high > margin)
    assert inside.sum() > 20
    np.testing.assert_allclose(crop[inside], place[inside] + 1, atol=0.05 / zoom)
    np.testing.assert_array_equal(crop[outside], 0)


def test_shrinking_does_not_alias():
    checkers = np.uint8(255 * (np.indices((400, 400)).sum(axis=0) % 2))
    crop = geometry.warp(checkers, np.diag([0.25, 0.25, 1.0]), 100)
    assert np.abs(crop[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_a_crop_beyond_the_frame_is_black():
    matrix = geometry.crop_from_box([5000, 5000, 5900, 5900], 32)
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
        geometry.crop_from_box(box, 256)


def test_bad_landmarks_sizes_and_matrices_are_refused():
    with pytest.raises(ValueError, match="one point"):
        geometry.crop_from_landmarks(np.ones((5, 2)), 256)
    with pytest.raises(ValueError, match="finite"):
        geometry.crop_from_landmarks([[0, 1], [np.nan, 3]], 256)
    with pytest.raises(ValueError, match="size must be positive"):
        geometry.crop_from_box([0, 0, 9, 9], 0)
    with pytest.raises(ValueError, match="scale must be positive"):
        geometry.crop_from_box([0, 0, 9, 9], 64, scale=-1)
    with pytest.raises(ValueError, match="width must be positive"):
        geometry.crop_whole(0, 5, 64)
    with pytest.raises(ValueError, match="invertible"):
        geometry.inverse(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="invertible"):
        geometry.warp(np.zeros((4, 4)), np.full((3, 3), np.nan), 4)
