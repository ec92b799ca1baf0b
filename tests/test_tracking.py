"""Laws of following one face: a scene with a bright square, and a model that finds it or dreams."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest
from test_inference import CONFIG

from ldeq_jax.face.boxes import check_boxes
from ldeq_jax.face.crops import box_of_landmarks
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference import doubt
from ldeq_jax.inference import follower as following
from ldeq_jax.inference.follower import Follower
from ldeq_jax.inference.tracks import Recorder, follow, movement
from ldeq_jax.model.rwr import RwRConfig

SIDE = 20
NAN = np.full(4, np.nan)
ROAM = 1.5  # a crop shows so many times its box


def shape(count):
    """Landmarks of a square of side 2 around the origin: its corners, and points on a diagonal."""
    corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    return np.concatenate([corners, np.linspace(0, 0.9, count - 4)[:, None] * [1, 1]])


SHAPE = shape(5)


def seen(points, box=None):
    """What a model says of one face."""
    return Landmarks(points=points, spread=np.ones(len(points)), ok=np.True_, box=box)


class Model:
    """Finds the square in a crop; in a crop without one, imagines a face in its middle."""

    def __init__(self, config, variables, recurrence):
        self.config, self.calls = config, variables.setdefault("calls", [])
        self.variables = variables
        self.shape, self.recurrence = shape(config.model.num_landmarks), recurrence

    def step(self, frame, box, memory=None, interval=None):
        self.calls.append((box, memory, interval))
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        rows, columns = np.nonzero(frame[..., 0] > 128)
        points = np.stack([columns, rows], axis=1)
        points = points[(np.abs(points - centre) <= ROAM * half.max()).all(axis=1)]
        if len(points):
            centre = (points.min(axis=0) + points.max(axis=0)) / 2
            half = np.ptp(points, axis=0) / 2
        return seen(centre + self.shape * half, box), (memory or 0) + 1

    def steps(self, frame, *columns):
        return [self.step(frame, *row) for row in zip(*columns, strict=True)]


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(following, "VideoPredictor", Model)


def tracker(crop="landmarks", **options):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, crop=crop))
    return Follower(config, {}, None, **options)


def scene(*corners, side=SIDE):
    """A black frame with white squares of a number of pixels, by their top-left corners."""
    frame = np.zeros((120, 160, 3), np.uint8)
    for x, y in corners:
        frame[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = 255
    return frame


def square(x, y, side=SIDE):
    """Box of a square."""
    return np.array([x, y, x + side - 1, y + side - 1], np.float64)


def track(frames, boxes, **options):
    return follow({"it": tracker(**options)}, frames, boxes)["it"]


def only_first(box, length):
    return [box, *[None] * (length - 1)]


PATH = [(10 + 3 * t, 20 + 2 * t) for t in range(25)]


def walk():
    return [scene(corner) for corner in PATH]


# Where the face is looked for.


@pytest.mark.parametrize("crop", ["landmarks", "extent", "box", "none"])
def test_a_face_is_followed_from_the_box_of_its_first_frame(crop):
    found = track(walk(), only_first(square(8, 23, 24), 25), crop=crop)
    assert found.landmarks.ok.all() and not len(found.losses)
    expected = np.array([square(*corner) for corner in PATH])
    np.testing.assert_allclose(found.landmarks.points[:, [0, 2]].reshape(-1, 4), expected)
    assert found.landmarks.points.dtype == found.landmarks.spread.dtype == np.float32
    # Each crop is the one that the landmarks of the frame before ask for.
    boxes = [
        box_of_landmarks(landmarks.astype(float), crop) for landmarks in found.landmarks.points
    ]
    np.testing.assert_allclose(found.landmarks.box[1:], boxes[:-1], atol=1e-5)
    np.testing.assert_allclose(found.landmarks.box[0], boxes[0], atol=1e-5)


def test_the_box_of_landmarks_is_their_extent_or_reaches_up_the_forehead():
    landmarks = np.array([[3.0, 10.0], [23.0, 12.0], [7.0, 40.0]])
    for crop in ("landmarks", "extent"):
        np.testing.assert_allclose(box_of_landmarks(landmarks, crop), [3, 10, 23, 40])
    for crop in ("box", "none"):
        np.testing.assert_allclose(box_of_landmarks(landmarks, crop), [3, 1, 23, 40])


def test_the_model_remembers_the_frame_before_and_starts_afresh_where_a_face_is_taken_up():
    face = tracker()
    boxes = [square(*PATH[0]), None, None, NAN, NAN, square(*PATH[5]), None]
    follow({"it": face}, walk()[:7], boxes)
    assert [memory for _, memory, _ in face._predictor.calls] == [None, None, 1, 2, None, None, 1]


def test_both_looks_use_one_copy_of_the_weights():
    face = Follower(CONFIG, {"weights": np.ones(3)}, None)
    ours, theirs = (model.variables["weights"] for model in (face._predictor, face._alone))
    assert isinstance(ours, jax.Array) and ours is theirs


def test_jitter_of_boxes_does_not_reach_a_crop_that_follows():
    boxes = np.array([square(*corner) for corner in PATH])
    boxes += np.random.default_rng(0).uniform(-4, 4, boxes.shape)
    given = track(walk(), boxes)
    np.testing.assert_array_equal(
        given.landmarks.box, track(walk(), only_first(boxes[0], 25)).landmarks.box
    )
    pinned = track(walk(), boxes, crop_at_boxes=True)
    np.testing.assert_array_equal(pinned.landmarks.box, boxes)
    assert given.landmarks.ok.all() and pinned.landmarks.ok.all()


def test_scores_behind_a_box_are_passed_over():
    found = track(walk()[:1], [np.append(square(*PATH[0]), 0.7)], crop_at_boxes=True)
    np.testing.assert_array_equal(found.landmarks.box, [square(*PATH[0])])


def test_a_face_followed_elsewhere_is_taken_up_at_its_box():
    here, there = (20, 20), (100, 70)
    frames = [scene(here, there)] * 6
    found = track(frames, [square(*here)] * 3 + [square(*there)] * 3)
    assert found.landmarks.ok.all()
    np.testing.assert_allclose(found.landmarks.points[:, 0], [here] * 3 + [there] * 3)


# When it is lost.


def test_without_a_box_there_is_no_face_until_there_is_one():
    boxes = [square(*corner) for corner in PATH]
    boxes[:2] = [NAN, NAN]
    boxes[10] = np.array([30, np.nan, 50, 60])
    found = track(walk(), boxes)
    assert np.flatnonzero(~found.landmarks.ok).tolist() == [0, 1, 10]
    assert found.losses.tolist() == [10] and found.trouble[10] == "no box"
    for values in (found.landmarks.points, found.landmarks.spread, found.landmarks.box):
        there = np.isfinite(values).reshape(25, -1)
        assert (there.all(axis=1) == found.landmarks.ok).all() and (
            there.any(axis=1) == found.landmarks.ok
        ).all()
    nothing, state = tracker().step(scene(PATH[0]))
    assert state.box is None and state.trouble == "not found again without a box"
    assert not nothing.ok


@pytest.mark.parametrize("way", [(-6, 0), (8, 0), (0, -5), (0, 6)])
def test_a_face_that_leaves_the_frame_is_lost_and_stays_so(way):
    corners = [(70 + way[0] * t, 50 + way[1] * t) for t in range(22)]
    corners[21] = corners[0]
    found = track([scene(corner) for corner in corners], only_first(square(70, 50), 22))
    middle = np.array(corners) + (SIDE - 1) / 2
    inside = ((middle >= 0) & (middle <= [159, 119])).all(axis=1)
    assert not found.landmarks.ok[-1], "it is back, but who would know"
    # Off the frame nothing of the square is seen, and the model dreams where it was last.
    assert 0 <= np.argmin(found.landmarks.ok) - np.argmin(inside) <= 10
    again = [square(70, 50) if t in (0, 21) else None for t in range(22)]
    assert track([scene(corner) for corner in corners], again).landmarks.ok[-1]


def test_landmarks_of_nothing_are_noticed_within_ten_frames():
    for faces in range(3, 14):
        frames = [scene(PATH[0])] * faces + [scene()] * (24 - faces) + [scene(PATH[0])]
        found = track(frames, only_first(square(*PATH[0]), 25))
        first = np.argmin(found.landmarks.ok)
        assert first == (10 if faces <= 10 else 20)
        assert found.trouble[first] == "another crop shows it elsewhere"
        assert not found.landmarks.ok[first:].any(), "it is back, but who would know"
    # Who has a detector's word for it does not doubt it.
    assert track([scene()] * 25, [square(*PATH[0])] * 25).landmarks.ok.all()


@pytest.mark.parametrize("side", [9, 40, 90])
def test_a_face_is_doubted_for_what_another_crop_shows_in_parts_of_its_size(monkeypatch, side):
    class Doubtful(Model):
        away = 0.0

        def step(self, frame, box, memory=None, interval=None):
            face, memory = super().step(frame, box, memory, interval)
            away = 0 if self.recurrence else self.away * (side - 1)
            return dataclasses.replace(face, points=face.points + [away, 0]), memory

    monkeypatch.setattr(following, "VideoPredictor", Doubtful)
    frames, boxes = [scene((10, 10), side=side)] * 21, only_first(square(10, 10, side), 21)
    for away, lost in ((0.0, False), (0.11, False), (0.13, True)):
        monkeypatch.setattr(Doubtful, "away", away)
        found = follow({"it": Follower(CONFIG, {}, RwRConfig())}, frames, boxes)["it"]
        assert found.losses.tolist() == [10] * lost


@pytest.mark.parametrize(
    ("landmarks", "trouble"),
    [
        (40 + 9.0 * SHAPE, ""),
        (40 + 4.0 * SHAPE, "its landmarks fall together, to 8 x 8 pixels"),
        (40 + SHAPE * [0.4, 9.0], "its landmarks fall together, to 1 x 18 pixels"),
        (np.where(SHAPE == 0, np.nan, 40 + 9.0 * SHAPE), "its landmarks are not finite"),
        (np.array([0, 50]) + 9.0 * SHAPE, ""),
        (np.array([-1, 50]) + 9.0 * SHAPE, "it has left the frame"),
        (np.array([160, 50]) + 9.0 * SHAPE, "it has left the frame"),
        (np.array([50, 120]) + 9.0 * SHAPE, "it has left the frame"),
    ],
)
def test_landmarks_that_are_no_faces(monkeypatch, landmarks, trouble):
    monkeypatch.setattr(Model, "step", lambda *_: (seen(landmarks), 1))
    face, state = tracker(crop_at_boxes=True).step(scene(), None, square(40, 40))
    assert state.trouble == trouble
    assert (state.box is None) == bool(trouble) == (not face.ok)
    assert np.isfinite(face.points).any() == face.ok


@pytest.mark.parametrize(("side", "found"), [(9, True), (8, False), (7, False)])
def test_a_face_of_less_than_eight_pixels_is_none(side, found):
    track_of = track([scene((40, 40), side=side)] * 2, only_first(square(39, 39, 11), 2))
    assert track_of.landmarks.ok.tolist() == [found] * 2
    trouble = "" if found else f"its landmarks fall together, to {side - 1} x {side - 1} pixels"
    assert track_of.trouble[0] == trouble


def test_what_goes_along_with_the_crop_lies_elsewhere_by_a_seventh_of_its_size(monkeypatch):
    # The second crop is moved by a tenth both ways, and larger by a tenth: the move alone would
    # be 0.141 of the size.
    for allowed, lost in ((0.145, True), (0.15, False)):
        monkeypatch.setattr(doubt, "DISAGREEMENT", allowed)
        frames = [scene(PATH[0])] * 10 + [scene()]
        found = track(frames, only_first(square(*PATH[0]), 11))
        assert found.losses.tolist() == [10] * lost


@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_landmarks_that_outgrow_the_frame_are_lost_and_raise_nothing(monkeypatch, shift):
    class Growing(Model):
        def step(self, frame, box, memory=None, interval=None):
            check_boxes([box], frame.shape)  # as the real one does
            centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
            landmarks = np.concatenate([centre + 1.2 * self.shape[:2] * half, [[shift, 30]] * 3])
            return seen(landmarks, box), (memory or 0) + 1

    monkeypatch.setattr(following, "VideoPredictor", Growing)
    found = track([scene()] * 40, only_first(square(20, 20, 40), 40), crop="box")
    assert found.losses.tolist() and found.losses[0] > 1


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.3, 0.4], [20, 20, 20, 40], [0, 0, 1e9, 1e9]])
def test_what_is_no_box_of_a_face_is_refused(box):
    _, state = tracker().step(scene((20, 20)), None, square(20, 20))
    for before in (None, state):
        with pytest.raises(ValueError, match="the box .* (fractions|two corners|times as large)"):
            tracker().step(scene((20, 20)), before, box)


# Frames that cannot be decoded.


def without(frames, start, missed):
    return [*frames[:start], *[None] * missed, *frames[start + missed :]]


@pytest.mark.parametrize("missed", [1, 2, 24])
def test_a_face_goes_on_after_frames_that_cannot_be_decoded(missed):
    frames = [scene((40, 40))] * 40
    boxes = only_first(square(38, 43, 24), 40)
    whole, found = track(frames, boxes), track(without(frames, 5, missed), boxes)
    gap = np.isin(np.arange(40), np.arange(5, 5 + missed))
    np.testing.assert_array_equal(found.landmarks.ok, ~gap)
    assert set(found.trouble[gap]) == {"frame cannot be decoded"} and not len(found.losses)
    for name in ("points", "spread", "box"):
        values, others = (getattr(track.landmarks, name) for track in (found, whole))
        np.testing.assert_array_equal(values[~gap], others[~gap])
        assert np.isnan(values[gap]).all()


def test_after_more_than_a_second_of_them_the_face_is_lost_until_its_next_box():
    frames = without([scene((40, 40))] * 45, 5, 26)
    boxes = only_first(square(40, 40), 45)
    boxes[40] = square(40, 40)
    found = track(frames, boxes)
    assert found.landmarks.ok.tolist() == [t < 5 or t >= 40 for t in range(45)]
    assert found.trouble[31] == "not found again without a box" and found.losses.tolist() == [31]
    # Not in a row, any number may be missed.
    frames = [None if t % 2 else scene((40, 40)) for t in range(80)]
    assert track(frames, only_first(square(40, 40), 80)).landmarks.ok[::2].all()


def test_the_model_remembers_the_last_frame_that_could_be_decoded():
    face, frames = tracker(), [scene((40, 40))] * 8
    follow({"it": face}, without(frames, 3, 2), only_first(square(40, 40), 8))
    # The face is taken up by two looks; another, without memory, follows the gap.
    memories = [memory for _, memory, _ in face._predictor.calls]
    assert memories == [None, None, 1, 2, 3, None, 4, 5]


def test_the_second_is_one_of_the_film_whatever_its_rate():
    frames = without([scene((40, 40))] * 20, 5, 9)
    boxes = only_first(square(40, 40), 20)
    for fps, found in ((10, True), (8, False)):
        tracks = follow({"it": tracker()}, frames, boxes, fps)
        assert tracks["it"].landmarks.ok[14:].all() == found


def test_the_model_hears_how_long_ago_its_last_frame_was():
    face = tracker()
    recorder = Recorder({"it": face})
    times = [3.0, 3.04, 3.08, 3.2, 3.25, 3.5]
    for t, time in enumerate(times):
        frame = None if t in (2, 3) else scene((40, 40))
        recorder.add(frame, square(40, 40) if t == 0 else None, time)
    heard = [interval for _, memory, interval in face._predictor.calls if memory is not None]
    np.testing.assert_allclose(heard, [0.04, 0.21, 0.25])


@pytest.mark.parametrize("box", [None, NAN, square(100, 70)])
def test_a_box_of_a_frame_that_cannot_be_decoded_changes_nothing(box):
    frames, boxes = without([scene((40, 40))] * 6, 3, 1), only_first(square(40, 40), 6)
    boxes[3] = box
    np.testing.assert_array_equal(
        track(frames, boxes).landmarks.ok, [True] * 3 + [False] + [True] * 2
    )


def test_a_face_whose_first_frames_cannot_be_decoded_is_taken_up_in_the_next():
    frames, box = walk(), square(*PATH[0])
    found = track(without(frames, 0, 2), only_first(box, 25))
    expected = track(frames[2:], only_first(box, 23))
    assert found.landmarks.ok.tolist() == [False] * 2 + [True] * 23
    np.testing.assert_array_equal(found.landmarks.box[2:], expected.landmarks.box)
    # A box of its own counts more; without any there is nothing to take up.
    boxes = [box, None, NAN, *[None] * 22]
    assert not track(without(frames, 0, 2), boxes).landmarks.ok.any()
    boxes[2] = square(*PATH[2])
    assert track(without(frames, 0, 2), boxes, crop_at_boxes=True).landmarks.box[2].tolist() == [
        *boxes[2]
    ]
    assert not track(without(frames, 0, 2), [None] * 25).landmarks.ok.any()


def test_landmarks_of_nothing_are_noticed_in_the_first_frame_after_them():
    frames = [scene(PATH[0])] * 4 + [None] + [scene()] * 3
    found = track(frames, only_first(square(*PATH[0]), 8))
    assert found.trouble[5] == "another crop shows it elsewhere" and found.losses.tolist() == [5]


# Tracks.


def test_trackers_do_not_see_each_other_and_lengths_must_agree():
    frames, boxes = walk(), only_first(square(*PATH[0]), 25)
    both = follow({"a": tracker(), "b": tracker("box")}, frames, boxes)
    for name, crop in (("a", "landmarks"), ("b", "box")):
        alone = follow({"it": tracker(crop)}, frames, boxes)["it"]
        np.testing.assert_array_equal(both[name].landmarks.box, alone.landmarks.box)
        assert (both[name].seconds > 0).all()
    for wrong in (boxes[:-1], [*boxes, None]):
        with pytest.raises(ValueError, match="zip"):
            follow({"it": tracker()}, frames, wrong)


def test_movement_is_the_way_over_the_face_size():
    t = np.arange(7)[:, None, None]
    points = 9.0 * SHAPE * [2, 0.5] + t * [3.0, 4.0]
    assert movement(points) == pytest.approx(5 / 18)
    assert movement(7 * points + 100) == pytest.approx(5 / 18)
    gap = np.where(t == 3, np.nan, points)
    gap[4:] += 1000  # nothing is known of the way there
    assert movement(gap) == pytest.approx(5 / 18)
    jump = np.concatenate([points[:3], points[3:] + [0, 3.0]])
    assert movement(jump) == pytest.approx((5 * 5 + np.hypot(3, 7)) / 6 / 18)
    assert np.isnan(movement(points[:1])) and np.isnan(movement(points * np.nan))


# Files.


def film(path, frames, fps=12.5, codec="MJPG"):
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path
