"""Filters one frame after another are those of whole tracks, and are applied to each face apart."""

import dataclasses

import numpy as np
import pytest
from test_face_tracker import FPS, model, run, tracker, walk  # noqa: F401  (a fixture)
from test_face_tracker import film as faces_of

from ldeq_jax.cli.track import SMOOTHS
from ldeq_jax.face import filters
from ldeq_jax.face.online import SETTINGS, Online
from ldeq_jax.inference.smoothing import Alone, Filtered

CAUSAL = {one.name: one for one in filters.FILTERS if one.causal}
EVERY = [(name, strength) for name in SETTINGS for strength in SETTINGS[name]]


def online(points, interval, them):
    state, made = None, []
    for t, frame in enumerate(points):
        step = interval if np.isscalar(interval) else interval[t]
        smoothed, state = them.step(frame, step, state)
        made.append(smoothed)
    return np.array(made)


def test_every_causal_filter_has_settings_and_can_be_chosen():
    assert set(SETTINGS) == set(CAUSAL) and SMOOTHS == ("rwr", "none", *SETTINGS)


@pytest.mark.parametrize(("name", "strength"), EVERY)
def test_at_a_constant_rate_the_track_is_that_of_the_filter(name, strength):
    points = np.cumsum(np.random.default_rng(3).normal(size=(40, 5, 2)), axis=0)
    parameters = SETTINGS[name][strength]
    expected = CAUSAL[name].function(points, 25.0, **parameters)
    np.testing.assert_allclose(online(points, 0.04, Online(name, parameters)), expected, atol=1e-9)


@pytest.mark.parametrize("name", SETTINGS)
def test_stronger_is_steadier(name):
    noise = np.random.default_rng(4).normal(scale=0.01, size=(400, 3, 2))
    spread = [
        online(noise, 0.04, Online(name, SETTINGS[name][strength]))[50:].std()
        for strength in ("light", "normal", "strong")
    ]
    assert noise.std() > spread[0] > spread[1] > spread[2]


@pytest.mark.parametrize("name", ["one_euro", "kalman"])
def test_seconds_count_not_frames(name):
    """Where every other frame is missing, a filter in seconds ends at nearly the same place."""
    them, t = Online(name, SETTINGS[name]["strong"]), np.arange(0, 2, 0.01)
    jump = np.where(t < 1, 0.0, 0.2)[:, None]
    dense, sparse = online(jump, 0.01, them)[::2], online(jump[::2], 0.02, them)
    assert np.abs(dense - sparse).max() < 0.03 < np.abs(dense - jump[::2]).max()
    times = np.cumsum(np.random.default_rng(5).uniform(0.01, 0.08, 200))
    moving = 0.3 * times[:, None]
    if name == "kalman":  # it does not lag behind a steady motion, at any rate
        made = online(moving, np.diff(times, prepend=0), them)
        np.testing.assert_allclose(made[150:], moving[150:], atol=1e-3)


# Of the faces of a film.


def test_each_face_is_filtered_by_itself_in_its_own_size_and_anew_when_it_was_lost():
    one, other = walk((10, 10), (1, 0), 30), walk((130, 90), (0, -1), 30)
    frames = faces_of(*[[a, b] for a, b in zip(one, other, strict=True)])
    found = run([*frames[:12], None, *frames[13:]])
    them, runs = Filtered(Online("exponential", {"weight": 0.5})), None
    made = []
    for frame in found:
        frame, runs = them.step(frame, runs)
        made.append(frame)
    for number in (0, 1):
        track = np.array([frame.faces[number].points for frame in found])
        smoothed = np.array([frame.faces[number].points for frame in made])
        expected = filters.smooth(track, filters.exponential, {"weight": 0.5}, FPS)
        np.testing.assert_allclose(smoothed, expected, atol=1e-9)
        assert np.isnan(smoothed[12]).all(), "a frame that cannot be decoded"
        np.testing.assert_allclose(smoothed[13], track[13], rtol=1e-12)
        assert (made[20].faces[number].box == [*smoothed[20].min(0), *smoothed[20].max(0)]).all()


def test_one_euro_is_the_same_at_any_resolution():
    frames = faces_of(*[[corner] for corner in walk((10, 10), (2, 1), 20)])
    found = run(frames)
    them = Filtered(Online("one_euro", SETTINGS["one_euro"]["normal"]))

    def smoothed(zoom):
        runs, points = None, []
        for frame in found:
            (face,) = frame.faces
            landmarks = dataclasses.replace(face.landmarks, points=zoom * face.points)
            face = dataclasses.replace(face, landmarks=landmarks)
            frame, runs = them.step(dataclasses.replace(frame, faces=(face,)), runs)
            points.append(frame.faces[0].points)
        return np.array(points)

    np.testing.assert_allclose(smoothed(4.0), 4 * smoothed(1.0), rtol=1e-9)


def test_alone_each_face_is_solved_without_memory_around_its_own_landmarks():
    path = walk((10, 10), (2, 1), 14)
    frames = faces_of(*[[corner] for corner in path[:6]], [], *[[corner] for corner in path[7:]])
    found, states = run(frames), None
    them = Alone(tracker().config, {})
    for t, frame in enumerate(found):
        points, states = them.step(frame, states)
        assert set(points) == {face.id for face in frame.faces if face.status != "lost"}
        if t != 6 and points:
            np.testing.assert_allclose(points[0][0], path[t], atol=0.6)
    assert them._follower._predictor.recurrence is None
