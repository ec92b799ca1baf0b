"""The one result type: fields go together, whatever is taken of them."""

from typing import NamedTuple

import numpy as np
import pytest

from ldeq_jax.face.landmarks import Landmarks


class Info(NamedTuple):
    steps: np.ndarray
    nothing: None = None


def faces(*axes):
    """Some faces, numbered in every field."""
    numbers = np.arange(np.prod(axes, dtype=int)).reshape(axes)
    points = np.broadcast_to(numbers[..., None, None], (*axes, 5, 2)).astype(float)
    return Landmarks(
        points=points,
        spread=points[..., 0] + 0.5,
        ok=numbers % 3 > 0,
        box=np.broadcast_to(numbers[..., None], (*axes, 4)).astype(float),
        info=Info(numbers),
    )


@pytest.mark.parametrize("key", [0, -1, slice(1, 3), [3, 1], np.array([True, False] * 2)])
def test_all_fields_are_indexed_together(key):
    found, numbers = faces(4)[key], np.arange(4)[key]
    np.testing.assert_array_equal(found.points[..., 0, 0], numbers)
    np.testing.assert_array_equal(found.spread[..., 0], numbers + 0.5)
    np.testing.assert_array_equal(found.box[..., 0], numbers)
    np.testing.assert_array_equal(found.ok, numbers % 3 > 0)
    np.testing.assert_array_equal(found.info.steps, numbers)
    assert found.info.nothing is None and found.confidence is None
    assert found.points.shape == (*numbers.shape, 5, 2)


def test_those_that_were_found():
    found = faces(7)
    assert len(found) == 7 and len(found[found.ok]) == 4
    assert found[found.ok].info.steps.tolist() == [1, 2, 4, 5]


def test_frames_stacked_are_a_film_and_give_the_frames_back():
    frames = [faces(3)[t] for t in range(3)]
    film = Landmarks.stack(frames)
    np.testing.assert_array_equal(film.points, faces(3).points)
    for t, frame in enumerate(frames):
        for name in ("points", "spread", "ok", "box"):
            np.testing.assert_array_equal(getattr(film[t], name), getattr(frame, name))
    assert film.info.steps.tolist() == [0, 1, 2] and film.info.nothing is None
    assert Landmarks.stack([film, film]).points.shape == (2, 3, 5, 2)


def test_a_face_that_was_not_found_is_nan_and_not_ok():
    absent = Landmarks.absent(5)
    assert absent.points.shape == (5, 2) and absent.spread.shape == (5,)
    assert not absent.ok and np.isnan(absent.points).all() and np.isnan(absent.box).all()
    both = Landmarks.stack([absent, Landmarks.absent(5)])
    assert both.ok.tolist() == [False, False]
    with pytest.raises(TypeError):
        len(absent)


@pytest.mark.parametrize("wrong", ["spread", "ok", "box", "confidence"])
def test_fields_of_different_faces_are_refused(wrong):
    four = faces(4)
    fields = {name: getattr(four, name) for name in ("points", "spread", "ok", "box")}
    fields[wrong] = np.zeros((3, 5))[:, : {"spread": 5, "box": 4}.get(wrong, 1)]
    fields[wrong] = fields[wrong][:, 0] if wrong in ("ok", "confidence") else fields[wrong]
    with pytest.raises(ValueError, match=f"different leading axes: .*'{wrong}': \\(3,\\)"):
        Landmarks(**fields)
