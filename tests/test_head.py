"""Laws of the fitted head: known faces are found again, pictures and landmarks move together."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ldeq_jax.head import fit as fitting
from ldeq_jax.head.paint import inverse_map
from ldeq_jax.head.shape import EYE, MOUTH, SKIN, Pose, load_head
from ldeq_jax.head.sheet import LARGEST_TURN, make_sheet

HEAD = load_head()
SIZE = (320, 320)
STILL = np.zeros(3)
CALM = HEAD.weights()


def rng(seed=0):
    return np.random.default_rng(seed)


def face(seed=0, yaw=0.0, pitch=0.0, roll=0.0, **expression):
    """A random face: its coefficients, weights, pose and 68 points in a picture of SIZE."""
    identity = rng(seed).normal(0, 0.7, len(HEAD.identity))
    weights = HEAD.weights(**expression)
    rotation = Rotation.from_euler("YXZ", [yaw, pitch, roll], degrees=True).as_matrix()
    pose = Pose(rotation, 9.0, np.array([150.0, 165.0]))
    seen = pose.project(HEAD.vertices(identity, weights))
    points = seen[HEAD.landmarks, :2]
    # On the side that is turned away, the outline lies inside the jaw.
    for k in (*range(6), *range(11, 17)):
        strip = seen[HEAD.outline[k], :2]
        points[k] = strip[strip[:, 0].argmin() if k < 8 else strip[:, 0].argmax()]
    return identity, weights, pose, points


def sheet_of(points, size=SIZE):
    return make_sheet(HEAD, fitting.fit_head(HEAD, points), points, size)


@pytest.fixture(scope="module")
def smile():
    points = face(1, yaw=-8, pitch=4, mouthSmile=0.5, jawOpen=0.1)[3]
    return points, sheet_of(points)


def test_the_model_is_a_face():
    points = HEAD.neutral[HEAD.landmarks]
    assert points.shape == (68, 3)
    mirrored = points[[16 - k for k in range(17)]] * [-1, 1, 1]
    np.testing.assert_allclose(points[:17], mirrored, atol=0.01)
    assert points[30, 2] == points[:, 2].max()  # the tip of the nose is in front
    opened = HEAD.vertices(np.zeros(len(HEAD.identity)), HEAD.weights(jawOpen=1))[HEAD.landmarks]
    assert opened[8, 1] < points[8, 1] - 1 and abs(opened[27, 1] - points[27, 1]) < 0.02
    both = HEAD.weights(eyeBlink=0.5)
    np.testing.assert_array_equal(both, HEAD.weights(eyeBlink_L=0.5, eyeBlink_R=0.5))
    assert np.count_nonzero(both) == 2
    with pytest.raises(KeyError, match="wink"):
        HEAD.weights(wink=1)


def test_a_pose_projects():
    pose = Pose(np.eye(3), 2.0, np.array([10.0, 20.0]))
    np.testing.assert_array_equal(pose.project(np.array([[1.0, 3, 5]])), [[12, 14, 10]])
    left = Pose(Rotation.from_euler("y", 90, degrees=True).as_matrix(), 1.0, np.zeros(2))
    np.testing.assert_allclose(left.project(np.array([[0.0, 0, 5]])), [[5, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(0, 0, 0), (25, 0, 0), (-20, 8, 5), (10, -15, -20)]
)
def test_a_known_face_is_found_again(yaw, pitch, roll):
    identity, weights, pose, points = face(3, yaw, pitch, roll, jawOpen=0.3, browInnerUp=0.5)
    found = fitting.fit_head(HEAD, points)
    assert found.error < 0.015
    turn = Rotation.from_matrix(found.pose.rotation @ pose.rotation.T).magnitude()
    assert np.degrees(turn) < 5
    assert abs(found.pose.scale / pose.scale - 1) < 0.08
    shape = HEAD.vertices(found.identity, found.expression) @ found.pose.rotation.T
    true = HEAD.vertices(identity, weights) @ pose.rotation.T
    shape, true = (values - values.mean(axis=0) for values in (shape, true))
    face_width = np.ptp(true[:, 0])
    assert np.linalg.norm(shape - true, axis=1).mean() < 0.04 * face_width
    assert ((found.expression >= 0) & (found.expression <= 1)).all()


def test_a_fit_follows_the_picture():
    points = face(5, yaw=12)[3]
    turn = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    moved = 1.7 * points @ turn[:2, :2].T + [30, -10]
    one, other = (fitting.fit_head(HEAD, at) for at in (points, moved))
    np.testing.assert_allclose(other.expression, one.expression, atol=0.02)
    np.testing.assert_allclose(other.identity, one.identity, atol=0.1)
    assert abs(other.pose.scale / one.pose.scale - 1.7) < 0.02
    assert abs(other.error - one.error) < 1e-3


def test_what_is_no_face_fits_badly():
    points = face()[3]
    assert fitting.fit_head(HEAD, points + rng().normal(0, 8, points.shape)).error > 0.045


@pytest.mark.parametrize("points", [np.zeros((67, 2)), np.full((68, 2), np.nan), np.zeros((68, 2))])
def test_what_cannot_be_fitted_is_refused(points):
    with pytest.raises(ValueError, match="68 finite points|coincide"):
        fitting.fit_head(HEAD, points)


def test_a_map_is_affine_within_a_triangle_and_the_last_is_in_front():
    target = np.array([[0.0, 0], [60, 0], [0, 60], [60, 60]])
    source = np.array([[5.0, 1], [35, 1], [5, 61], [35, 61]])
    triangles = np.array([[0, 1, 2], [1, 3, 2], [0, 1, 2]])
    values, numbers = inverse_map(source, target, triangles, (61, 61))
    y, x = np.mgrid[:61, :61]
    np.testing.assert_allclose(values[..., 0], 5 + x / 2, atol=1e-4)
    np.testing.assert_allclose(values[..., 1], 1 + y, atol=1e-4)
    assert set(np.unique(numbers)) == {1, 2} and numbers[5, 5] == 2 and numbers[50, 50] == 1
    outside, none = inverse_map(source, target + 100, triangles, (50, 50))
    assert (none == -1).all() and (outside == 0).all()


def test_a_shrunken_triangle_shows_nothing_from_afar():
    source = np.array([[0.0, 0], [100, 0], [50, 200]])
    target = np.array([[0.0, 10.05], [100, 10.05], [50, 10.06]])
    values, numbers = inverse_map(source, target, np.array([[0, 1, 2]]), (101, 20))
    assert (numbers >= 0).any()
    assert values.min() >= -1 and values[..., 1].max() <= 201


def test_without_motion_nothing_changes(smile):
    points, sheet = smile
    still = sheet.moved(STILL, CALM)
    np.testing.assert_allclose(still, sheet.points, atol=1e-9)
    np.testing.assert_allclose(still[sheet.landmarks], points, atol=1e-9)
    values, numbers = inverse_map(sheet.points, still, sheet.triangles, SIZE)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    assert numbers.min() >= 0  # the whole picture is covered
    np.testing.assert_allclose(values, np.stack([x, y], axis=-1), atol=2e-3)


@pytest.mark.parametrize("turn", [(0, 0.4, 0), (0, -0.4, 0), (0.2, 0, 0), (-0.1, 0.3, 0.1)])
def test_a_turn_is_that_of_the_relief(smile, turn):
    points, sheet = smile
    moved = sheet.moved(np.array(turn), CALM)[: len(sheet.depth)]
    away = np.concatenate([sheet.points[: len(sheet.depth)], -sheet.depth[:, None]], axis=1)
    pivot = sheet.pivot * [1, 1, -1]
    expected = Rotation.from_rotvec(turn).apply(away - pivot) + pivot
    np.testing.assert_allclose(moved, expected[:, :2], atol=1e-9)


def test_turns_have_the_stated_signs(smile):
    points, sheet = smile

    def nose(*turn):
        return (sheet.moved(np.array(turn), CALM)[sheet.landmarks[30]] - points[30]).round(1)

    assert nose(0, 0.3, 0)[0] < -10 and nose(0, -0.3, 0)[0] > 10  # to the left, to the right
    assert nose(0.3, 0, 0)[1] > 10 and nose(-0.3, 0, 0)[1] < -10  # down, up


@pytest.mark.parametrize("yaw", [0, 20])
def test_no_skin_is_hidden_by_the_largest_turn(yaw):
    sheet = sheet_of(face(2, yaw=yaw)[3])
    skin = sheet.triangles[(sheet.kind == SKIN) & (sheet.triangles < len(sheet.depth)).all(axis=1)]

    def areas(points):
        one, other = (points[skin[:, k]] - points[skin[:, 0]] for k in (1, 2))
        return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]

    before = areas(sheet.points)
    for turn in LARGEST_TURN * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]):
        assert (before * areas(sheet.moved(turn, CALM)) > 0).mean() > 0.99


def test_the_surroundings_follow_and_fade(smile):
    points, sheet = smile
    moved = sheet.moved(np.array([0, 0.4, 0]), CALM) - sheet.points
    count = len(sheet.depth)
    side = np.ptp(points, axis=0).max()
    distance = np.linalg.norm(sheet.points[count:] - points.mean(axis=0), axis=1)
    far = np.abs(moved[count:][distance > 1.6 * side])
    assert far.max() < 1e-9 and np.abs(moved[count:]).max() < np.abs(moved[:count]).max()


def test_a_blink_closes_the_eyes_and_nothing_else(smile):
    points, sheet = smile
    closed = sheet.moved(STILL, HEAD.weights(eyeBlink=1))[sheet.landmarks]
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        open_gap = np.linalg.norm(points[lower] - points[upper])
        assert np.linalg.norm(closed[lower] - closed[upper]) < 0.25 * open_gap
    np.testing.assert_allclose(closed[48:], points[48:], atol=0.3)


def test_lids_close_over_the_eyes(smile):
    _, sheet = smile

    def eye_pixels(blink):
        moved = sheet.moved(STILL, HEAD.weights(eyeBlink=blink))
        _, numbers = inverse_map(sheet.points, moved, sheet.triangles, SIZE)
        return (sheet.kind[numbers] == EYE).sum()

    assert eye_pixels(1.3) < 0.1 * eye_pixels(0)


def test_eyes_that_are_closed_stay_so():
    points = face(4, eyeBlink=0.9)[3]
    for lids in ([36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47]):
        points[lids, 1] = points[lids, 1].mean()
    sheet = sheet_of(points)
    moved = sheet.moved(STILL, HEAD.weights(eyeBlink=1))[sheet.landmarks]
    np.testing.assert_allclose(moved[36:48], points[36:48], atol=0.5)


def test_markers_on_the_picture_move_to_the_landmarks(smile):
    """Not in eyes and mouth, where the picture breaks and markers too."""
    points, sheet = smile
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    expression = HEAD.weights(jawOpen=0.3, mouthSmile=0.4, browInnerUp=0.4, eyeBlink=0.5)
    moved = sheet.moved(np.array([0.05, 0.2, 0.1]), expression)
    values, _ = inverse_map(sheet.points, moved, sheet.triangles, SIZE)
    errors = []
    for k in (*range(36), 39, 42, *range(49, 54), *range(55, 60)):
        marker = np.exp(-((x - points[k, 0]) ** 2 + (y - points[k, 1]) ** 2) / (2 * 0.8**2))
        seen = cv2.remap(marker, values, None, cv2.INTER_LINEAR)
        found = np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum()
        errors.append(np.linalg.norm(found - moved[sheet.landmarks[k]]))
    assert np.mean(errors) < 0.15 and np.max(errors) < 0.3


def test_the_picture_at_a_landmark_is_that_of_the_still(smile):
    points, sheet = smile
    moved = sheet.moved(np.array([0.1, 0.35, 0.1]), HEAD.weights(mouthSmile=0.4, browDown=0.4))
    grid, numbers = inverse_map(sheet.points, moved, sheet.triangles, SIZE)
    at = moved[sheet.landmarks].astype(np.float32)
    shown = cv2.remap(grid, at[:, None], None, cv2.INTER_LINEAR)[:, 0]
    errors = np.linalg.norm(shown - points, axis=1)
    assert np.mean(errors) < 0.1 and np.mean(errors < 0.5) > 0.95
    assert {MOUTH, EYE, SKIN} == set(sheet.kind[np.unique(numbers)])


def test_an_open_mouth_shows_its_inside(smile):
    _, sheet = smile

    def mouth_pixels(**expression):
        moved = sheet.moved(STILL, HEAD.weights(**expression))
        values = np.concatenate([sheet.points, sheet.rims.T], axis=1)
        seen, numbers = inverse_map(values, moved, sheet.triangles, SIZE)
        inside = sheet.kind[numbers] == MOUTH
        return inside.sum(), seen[inside][:, 2]

    count, _ = mouth_pixels()
    wide, across = mouth_pixels(jawOpen=0.6)
    assert wide > count + 200
    assert across.min() >= -1 and across.max() <= 2
    assert np.ptp(np.clip(across, 0, 1)) > 0.8


def test_a_hidden_landmark_is_a_point_too():
    points = face(2, yaw=35)[3]
    sheet = sheet_of(points)
    np.testing.assert_allclose(sheet.points[sheet.landmarks], points, atol=1e-9)
