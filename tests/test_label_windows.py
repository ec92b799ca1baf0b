"""Laws of the windows that films are cut into, and of repeated frames."""

import numpy as np
import pytest

from ldeq_jax.errors import UserError
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.tracker import Face, TrackedFrame
from ldeq_jax.labelling.label_films import Options, chosen
from ldeq_jax.labelling.windows import Cutting, Windows
from ldeq_jax.media.repeats import is_repeat

SHAPE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)


def face(id=0, size=80.0, lost=False):
    points = 10 + size * SHAPE
    landmarks = Landmarks(points=points, spread=np.ones(4), ok=np.True_, confidence=np.float64(0.9))
    return Face(id=id, status="lost" if lost else "tracked", landmarks=landmarks)


def images(count, seed=0):
    """Pictures that all differ."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(count)]


def frames(faces, pictures=None, cuts=()):
    """Frames with the faces of each."""
    pictures = pictures or images(len(faces))
    return [
        TrackedFrame(index=t, time=t / 20, image=picture, faces=tuple(there), cut=t in cuts)
        for t, (there, picture) in enumerate(zip(faces, pictures, strict=True))
    ]


def spans(found):
    return sorted((window.face, window.start, window.stop) for window in found)


def cut(film, **options):
    windows = Windows(Cutting(**{"shortest": 10, "longest": 14} | options))
    return spans(windows.find(film)), windows


@pytest.mark.parametrize("length", range(1, 80, 3))
def test_a_stretch_becomes_windows_that_follow_each_other(length):
    found, windows = cut(frames([[face()]] * length))
    sizes = [stop - start for _, start, stop in found]
    assert all(10 <= size <= 14 for size in sizes)
    assert all(stop <= start for (_, _, stop), (_, start, _) in zip(found, found[1:], strict=False))
    assert sum(sizes) + windows.unused == windows.frames == length
    assert windows.unused < 10  # more would have been a window


def test_a_window_is_known_long_before_a_film_ends():
    windows = Windows(Cutting(shortest=10, longest=14))
    counts = [len(windows.add(frame)) for frame in frames([[face()]] * 60)]
    assert sum(counts[:24]) == 1 and sum(counts) == 3


def test_a_window_has_its_face_in_every_frame():
    there = [[face(0)]] * 12 + [[face(0, lost=True), face(1)]] * 11 + [[]] + [[face(1)]] * 5
    found, windows = cut(frames(there))
    assert found == [(0, 0, 12), (1, 12, 23)]
    assert windows.ends == {"the film ends": 1} and windows.unused == 5


def test_two_faces_have_windows_of_their_own():
    found, _ = cut(frames([[face(0), face(3)]] * 12))
    assert found == [(0, 0, 12), (3, 0, 12)]


def test_boxes_and_times_are_those_of_its_frames():
    there = [[face(size=70 + t)] for t in range(26)]
    windows = list(Windows(Cutting(shortest=10, longest=14)).find(frames(there)))
    for window in windows:
        numbers = np.arange(window.start, window.stop)
        np.testing.assert_allclose(window.times, numbers / 20)
        np.testing.assert_allclose(window.boxes[:, 2], 80 + numbers)
        assert (window.boxes[:, 4] == 0.9).all() and window.fps == pytest.approx(20)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("small", "the face is too small"),
        ("lost", "the face is lost"),
        ("repeat", "a frame repeats the one before"),
        ("undecoded", "a frame cannot be decoded"),
        ("cut", "the scene is cut"),
    ],
)
def test_what_ends_a_window(change, reason):
    there, pictures, at = [[face(0)] for _ in range(18)], images(18), 8
    if change == "small":
        there[at] = [face(0, size=60)]
    if change == "lost":
        there[at] = [face(0, lost=True)]
    if change == "repeat":
        pictures[at] = pictures[at - 1]
    if change == "undecoded":
        pictures[at] = None
    if change == "cut":
        there[at:] = [[face(1)]] * 10
    found, windows = cut(frames(there, pictures, cuts=(at,) if change == "cut" else ()))
    assert windows.ends[reason] == 1
    assert all(not start < at < stop for _, start, stop in found)
    begins = at if change in ("repeat", "cut") else at + 1  # a frame that is itself of use
    assert found == ([(int(change == "cut"), 8, 18)] if begins == at else [])


def test_a_face_that_is_always_too_small_is_told_once():
    found, windows = cut(frames([[face(0, size=30)]] * 20))
    assert not found and windows.ends == {"the face is too small": 1} and windows.unused == 20


def test_lengths_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match="--shortest=20 must be"):
        Cutting(shortest=20, longest=10)


def test_windows_of_a_film_are_chosen_evenly():
    everything = list(range(10))
    assert chosen(everything, Options(per_film=None)) == everything
    assert chosen(everything, Options(per_film=2)) == [2, 7]
    assert chosen(everything, Options(per_film=30)) == everything
    assert chosen([], Options(per_film=3)) == []


# Repeats.


def scene(t, speed=1.0, noise=0.0, seed=0):
    """A pattern that moves, with the noise of a sensor or an encoder."""
    y, x = np.mgrid[:96, :128]
    picture = 128 + 80 * np.sin((x + speed * t) / 7) * np.cos(y / 9)
    picture += noise * np.random.default_rng(seed + t).standard_normal(picture.shape)
    return np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def repeats(pictures):
    found, before = [], None
    for picture in pictures:
        same, before = is_repeat(picture, before)
        found.append(same)
    return found


def test_a_moving_scene_has_no_repeats():
    assert not any(repeats([scene(t, noise=2) for t in range(20)]))


def test_a_still_scene_with_noise_has_no_repeats():
    assert not any(repeats([scene(t, speed=0, noise=2) for t in range(20)]))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_frames_that_are_shown_twice_are_found(noise):
    pictures = [scene(t // 2, seed=t, noise=noise) for t in range(0, 24)]
    # With noise, the first pair has nothing to be compared with.
    assert repeats(pictures)[2:] == [t % 2 == 1 for t in range(2, 24)]


def test_frames_that_are_shown_three_times_are_found():
    pictures = [scene(t // 3, seed=t, noise=0.2) for t in range(30)]
    assert repeats(pictures)[3:] == [t % 3 > 0 for t in range(3, 30)]


def test_every_fifth_frame_of_a_converted_film_is_found():
    order = [t - t // 5 for t in range(30)]
    pictures = [scene(t, seed=n, noise=0.2) for n, t in enumerate(order)]
    expected = [False, *[a == b for a, b in zip(order, order[1:], strict=False)]]
    assert repeats(pictures) == expected and sum(expected) == 5


def test_a_pause_after_motion_is_soon_taken_for_one():
    moving = [scene(3 * t, noise=0.5) for t in range(10)]
    still = [scene(30, noise=0.5, seed=50 + t) for t in range(10)]
    assert not any(repeats([*moving, *still])[13:])
