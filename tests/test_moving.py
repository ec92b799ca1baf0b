"""Clips made from one face: labels move exactly with the pixels."""

import dataclasses

import numpy as np
import pytest

from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.moving import ClipConfig, augment_clip
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import crop_from_landmarks
from ldeq_jax.face.schema import LandmarkSchema, mirror_runs

SIZE = 128
POINTS = np.array([[60.0, 60], [140, 65], [100, 105], [70, 150], [130, 148]])
FIVE = LandmarkSchema(
    name="five",
    num_landmarks=5,
    flip_permutation=mirror_runs(5, [0, 1], [3, 4]),
    eye_corners=(0, 1),
)
CLEAN = ClipConfig(
    num_frames=6,
    noise_probability=0,
    flicker=0,
    blur_probability=0,
    occluder_probability=0,
    jpeg_probability=0,
    bend_probability=1,
)
AUGMENT = AugmentConfig(translate_probability=1, scale_probability=1, rotate_probability=1)


def picture_of_dots(points):
    """A dark picture with a bright dot at each landmark."""
    y, x = np.mgrid[:220, :200]
    light = np.zeros((220, 200))
    for px, py in points:
        light += 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.5**2))
    return np.repeat(np.rint(light).astype(np.uint8)[..., None], 3, axis=2)


def clip(seed, config=CLEAN, augment=AUGMENT, faces=None):
    """From (T, K, 2) landmarks, one picture each; from one still if None."""
    number = config.num_frames
    if faces is None:
        faces = np.repeat(POINTS[None], number, axis=0)
        pictures = [picture_of_dots(POINTS)] * number
    else:
        pictures = [picture_of_dots(points) for points in faces]
    return augment_clip(
        pictures,
        faces,
        np.stack([crop_from_landmarks(points, SIZE, 1.6) for points in faces]),
        np.random.default_rng(seed),
        config=config,
        augment=augment,
        schema=FIVE,
        size=SIZE,
    )


def centroid(picture, point, reach=6):
    """Centre of brightness around a point, or None at the border."""
    x, y = np.round(point).astype(int)
    if min(x, y) < reach or max(x, y) >= SIZE - reach:
        return None
    part = picture[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
    offsets = np.arange(-reach, reach + 1)
    return np.array([(part.sum(0) @ offsets), (part.sum(1) @ offsets)]) / part.sum() + [x, y]


def walking(number=6):
    """A face that walks, grows and opens its mouth: (T, K, 2)."""
    share = np.linspace(0, 1, number)[:, None, None]
    middle = POINTS.mean(axis=0)
    faces = middle + (POINTS - middle) * (1 + 0.2 * share) + share * [-20.0, 12.0]
    faces[:, 3:, 1:] += 15 * share
    return faces


@pytest.mark.parametrize("faces", [None, walking()], ids=["still", "take"])
@pytest.mark.parametrize("seed", range(6))
def test_landmarks_are_where_the_dots_are(seed, faces):
    crops, points, _ = clip(seed, faces=faces)
    seen = 0
    for picture, at in zip(crops, points, strict=True):
        for point in at:
            found = centroid(picture, point)
            if found is not None:
                seen += 1
                np.testing.assert_allclose(found, point, atol=0.25)
    assert seen > 15


@pytest.mark.parametrize("seed", range(3))
def test_without_bending_the_face_moves_rigidly_in_the_frame(seed):
    _, points, frame_from_crop = clip(seed, dataclasses.replace(CLEAN, bend=0))
    in_frame = geometry.transform_points(frame_from_crop, points)
    first = in_frame[0] - in_frame[0].mean(axis=0)
    for face in in_frame:
        z, w = (p @ [1, 1j] for p in (first, face - face.mean(axis=0)))
        factor = np.vdot(z, w) / np.vdot(z, z)
        np.testing.assert_allclose(factor * z, w, atol=1e-8)


def test_at_rest_without_jitter_all_frames_are_the_same():
    still = dataclasses.replace(CLEAN, pan=0, turn=0, zoom=0, jitter=0, bend=0)
    crops, points, matrices = clip(0, still)
    assert (crops == crops[0]).all()
    np.testing.assert_allclose(points, np.repeat(points[:1], 6, axis=0))
    np.testing.assert_allclose(matrices, np.repeat(np.eye(3)[None], 6, axis=0), atol=1e-12)


def test_the_crops_of_a_take_follow_the_face():
    plain = AugmentConfig(flip_probability=0, rotate_probability=0, translate_probability=0)
    still = dataclasses.replace(CLEAN, pan=0, turn=0, zoom=0, jitter=0, bend=0)
    faces = walking()
    _, points, matrices = clip(0, still, plain, faces)
    own = [crop_from_landmarks(face, SIZE, 1.6) for face in faces]
    expected = [geometry.transform_points(*pair) for pair in zip(own, faces, strict=True)]
    np.testing.assert_allclose(points, expected, atol=1e-8)
    # The frames of the clip are those of the take, in pixels of the first crop.
    in_frame = geometry.transform_points(matrices, points)
    np.testing.assert_allclose(in_frame, geometry.transform_points(own[0], faces), atol=1e-8)


def test_jitter_moves_the_crop_and_not_the_face_in_the_frame():
    still = dataclasses.replace(CLEAN, pan=0, turn=0, zoom=0, jitter=0.05, bend=0)
    _, points, matrices = clip(1, still)
    assert np.ptp(points, axis=0).max() > 1
    assert np.ptp(matrices[:, 0, 0]) > 0.01, "the size of the crop varies as well"
    in_frame = geometry.transform_points(matrices, points)
    np.testing.assert_allclose(in_frame, np.repeat(in_frame[:1], 6, axis=0), atol=1e-8)


def test_the_same_seed_gives_the_same_clip_and_another_one_does_not():
    config = ClipConfig(num_frames=4)
    first, again, other = (clip(seed, config) for seed in (7, 7, 8))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != other[0]).any()


def test_noise_is_drawn_anew_in_each_frame():
    config = dataclasses.replace(
        CLEAN, pan=0, turn=0, zoom=0, jitter=0, bend=0, noise=80, noise_probability=1
    )
    crops, _, _ = clip(3, config, AugmentConfig())
    assert (crops[0] != crops[1]).mean() > 0.1


@pytest.mark.parametrize("values", [{"num_frames": 1}, {"num_frames": -2}, {"noise": 500.0}])
def test_impossible_settings_are_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        ClipConfig(**values)


def test_the_schema_decides_what_mirroring_swaps():
    augment = AugmentConfig(flip_probability=1, rotate_probability=0, translate_probability=0)
    still = dataclasses.replace(CLEAN, pan=0, turn=0, zoom=0, jitter=0, bend=0)
    _, mirrored, _ = clip(0, still, augment)
    _, plain, _ = clip(0, still, dataclasses.replace(augment, flip_probability=0))
    expected = plain[0][list(FIVE.flip_permutation)] * [-1, 1] + [SIZE - 1, 0]
    np.testing.assert_allclose(mirrored[0], expected, atol=1e-8)


def test_bad_frames_come_now_and_then_and_leave_the_others_alone():
    often = dataclasses.replace(CLEAN, num_frames=12, bad_probability=0.5, noise=20.0)
    never = dataclasses.replace(often, bad_probability=0.0)
    shares = []
    for seed in range(8):
        bad, good = clip(seed, often)[0], clip(seed, never)[0]
        differs = (bad != good).any(axis=(1, 2, 3))
        shares.append(differs.mean())
        np.testing.assert_array_equal(clip(seed, often)[1], clip(seed, never)[1])
    assert 0 in shares  # half of the clips have none
    assert 0.2 < np.mean([share for share in shares if share]) < 0.8
