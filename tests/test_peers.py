"""Laws of the comparison with other models: the face's own frame, boxes, offsets."""

import numpy as np
import pytest

from benchmarks import peers
from ldeq_jax.face.eyes import from_eyes, to_eyes
from ldeq_jax.face.schema import IBUG_68

CORNERS = list(IBUG_68.eye_corners)


def face(seed=0):
    """68 points whose eye corners are apart."""
    points = np.random.default_rng(seed).uniform(50, 150, (68, 2))
    points[CORNERS] = [[60, 80], [140, 90]]
    return {"image": np.zeros((200, 200, 3), np.uint8), "landmarks": points, "subsets": []}


def turned(points, angle=0.4, zoom=1.7, shift=(5, -9)):
    z = points @ [1, 1j] * zoom * np.exp(1j * angle)
    return np.stack([z.real, z.imag], axis=-1) + shift


def test_the_frame_of_the_eyes_turns_with_the_face():
    points = face()["landmarks"]
    eyes = points[CORNERS]
    own = to_eyes(points, eyes)
    np.testing.assert_allclose(own[CORNERS], [[0, 0], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(from_eyes(own, eyes), points, atol=1e-9)
    np.testing.assert_allclose(to_eyes(turned(points), turned(eyes)), own, atol=1e-12)


def test_a_constant_offset_of_each_landmark_is_found_and_removed():
    habits = 0.03 * np.random.default_rng(1).standard_normal((68, 2))
    faces = [face(seed) for seed in range(3)]
    by_extent = {tuple(peers.extent_of(f).ravel()): f["landmarks"] for f in faces}

    def model(picture, extent):  # knows the labels, and has habits
        points = by_extent[tuple(extent.ravel())]
        eyes = points[CORNERS]
        return from_eyes(to_eyes(points, eyes) + habits, eyes)

    np.testing.assert_allclose(peers.offsets_of(model, faces), habits, atol=1e-9)
    boxes = peers.boxes_of(faces, None)["labels"]
    found = peers.measure(model, faces, boxes, habits)
    assert found["nme"] == pytest.approx(100 * np.linalg.norm(habits, axis=1).mean())
    assert found["nme without offsets"] == pytest.approx(0, abs=1e-6)


def test_a_face_that_is_not_detected_counts_for_nobody():
    faces = [face(seed) for seed in range(3)]
    boxes = peers.boxes_of(faces, None)["labels"]
    boxes[1] = None

    def model(picture, extent):
        return np.full((68, 2), 100.0)

    found = peers.measure(model, faces, boxes, None)
    assert (found["faces"], found["missed"]) == (2, 1)


def test_the_detected_face_that_overlaps_most_is_taken():
    extent = np.array([[10.0, 10], [50, 50]])
    found = np.stack([extent + 100, extent + 5, extent + 10])
    np.testing.assert_array_equal(peers._nearest(found, extent), extent + 5)
    assert peers._nearest(found[:1], extent) is None
    assert peers._nearest(found[:0], extent) is None


def test_boxes_with_errors_have_the_stated_size():
    extent = peers.extent_of(face())
    rng = np.random.default_rng(0)
    moved = np.stack([peers._moved(extent, rng) for _ in range(4000)])
    side = (extent[1] - extent[0]).max()
    shift = (moved.mean(axis=1) - extent.mean(axis=0)) / side
    np.testing.assert_allclose(shift.std(axis=0), peers.JITTER, rtol=0.06)
    zoom = np.log((moved[:, 1] - moved[:, 0]) / (extent[1] - extent[0]))
    np.testing.assert_allclose(zoom.std(axis=0), peers.JITTER, rtol=0.06)
