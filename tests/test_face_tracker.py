"""Laws of tracking several faces: squares in a scene, a detector that sees them, and real films."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_tracking
from test_data import picture
from test_inference import CONFIG, MODEL, random_state
from test_tracking import Model, scene, square

from ldeq_jax.errors import UserError
from ldeq_jax.inference import follower as following
from ldeq_jax.inference.detection import Detections
from ldeq_jax.inference.tracker import FaceTracker, Limits, _assigned
from ldeq_jax.inference.videos import VideoPredictor
from ldeq_jax.media.cuts import is_cut
from ldeq_jax.media.video import Frame, VideoReader
from ldeq_jax.model.rwr import RwRConfig

EXAMPLES = Path(__file__).parents[1] / "examples"
FPS = 10.0


class Detect:
    """Sees the white squares of a scene, the largest first, but for the frames it is blind in."""

    def __init__(self, blind=(), score=0.9):
        self.blind, self.score, self.calls = blind, score, 0

    def __call__(self, image):
        self.calls += 1
        if image[0, 0, 2] in self.blind:
            return Detections(np.zeros((0, 4)), np.zeros(0))
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 128).astype(np.uint8))
        stats = sorted(stats[1:].tolist(), key=lambda row: -row[4])
        boxes = [[x, y, x + w - 1, y + h - 1] for x, y, w, h, _ in stats]
        return Detections(np.reshape(boxes, (-1, 4)).astype(float), np.full(len(boxes), self.score))


@pytest.fixture(autouse=True)
def model(request, monkeypatch):
    if "real" not in request.keywords:
        monkeypatch.setattr(following, "VideoPredictor", Model)


def tracker(detector=None, recurrence="as configured", **limits):
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, crop="landmarks"))
    limits = Limits(**{"cuts": False} | limits)
    return FaceTracker(config, {}, recurrence, detector=detector or Detect(), limits=limits)


def film(*frames):
    """Frames, each with its number in its first pixel, for the detector."""
    made = []
    for t, corners in enumerate(frames):
        image = None if corners is None else scene(*corners)
        if image is not None:
            image[0, 0, 2] = t
        made.append(image)
    return made


def run(frames, them=None, state=None, **limits):
    them = them or tracker(**limits)
    found = []
    for t, image in enumerate(frames, start=state.index if state else 0):
        frame, state = them.step(image, t / FPS, state)
        found.append(frame)
    return found


def statuses(found, number):
    """A letter per frame: d(etected), t(racked), l(ost) or - for a face that is not there."""
    faces = [{face.id: face.status[0] for face in frame.faces} for frame in found]
    return "".join(face.get(number, "-") for face in faces)


def walk(start, way, length):
    return [(start[0] + way[0] * t, start[1] + way[1] * t) for t in range(length)]


# Ids.


def test_faces_keep_their_ids_and_are_detected_every_few_frames():
    one, other = walk((10, 10), (3, 1), 30), walk((130, 90), (-2, 0), 30)
    found = run(film(*zip(one, other, strict=True)), detect_every=4)
    for number in (0, 1):
        assert statuses(found, number) == ("dttt" * 8)[:30]
    for frame, *corners in zip(found, one, other, strict=True):
        got = [face.points[[0, 2]].ravel().tolist() for face in frame.faces]
        assert sorted(got) == sorted(square(*corner).tolist() for corner in corners)
        assert [face.id for face in frame.faces] == [0, 1] and not frame.ended
    # Who was where at first is there at last.
    ways = [found[-1].faces[n].points[0, 0] - found[0].faces[n].points[0, 0] for n in (0, 1)]
    assert sorted(ways) == [-58, 87]


def test_the_detector_rests_between_and_its_scores_are_passed_on():
    them = tracker(Detect(score=0.85), detect_every=5)
    found = run(film(*[[(40, 40)]] * 11), them)
    assert them._detector.calls == 3
    scores = [frame.faces[0].score for frame in found]
    assert np.flatnonzero(~np.isnan(scores)).tolist() == [0, 5, 10] and scores[5] == 0.85


def test_a_fast_face_is_matched_where_its_velocity_takes_it():
    path = walk((5, 20), (5, 0), 25)
    found = run(film(*[[corner] for corner in path]), detect_every=4)
    assert set(statuses(found, 0)) == set("dt") and {
        f.id for frame in found for f in frame.faces
    } == {0}


def test_pairs_are_those_of_the_greatest_total_gain():
    gain = np.array([[0.9, 0.8], [0.8, 0.1], [0.7, 0.7]])
    assert dict(_assigned(gain, gain > 0.3)) == {0: 1, 1: 0}
    assert dict(_assigned(gain, gain > 0.85)) == {0: 0}
    assert not dict(_assigned(gain[:0], gain[:0] > 0))


def test_new_faces_are_found_at_the_next_detection_and_take_new_ids():
    here, there = (20, 20), (100, 60)
    found = run(film(*[[here]] * 7, *[[here, there]] * 9), detect_every=5)
    assert statuses(found, 0) == "dttttdttttdttttd"
    assert statuses(found, 1) == "-" * 10 + "dttttd"


# Lost and found.


def test_a_missed_detection_does_not_end_a_track():
    found = run(film(*[[(40, 40)]] * 30), tracker(Detect(blind=range(5, 21))))
    assert statuses(found, 0) == "d" + "t" * 24 + "dtttt"


def test_a_face_that_is_not_detected_for_long_is_lost_and_found_again_by_its_detection():
    them = tracker(Detect(blind=range(1, 40)), unseen_seconds=2.0)
    found = run(film(*[[(40, 40)]] * 45), them)
    assert statuses(found, 0)[:40] == "d" + "t" * 20 + "l" * 19
    assert found[21].faces[0].trouble == "not detected for more than 2 s"
    assert statuses(found, 0)[40] == "d", "while it is lost, every frame is looked at"
    assert np.isnan(found[30].faces[0].points).all()


@pytest.mark.parametrize(
    ("back", "gap", "same"),
    [((60, 40), 12, True), ((64, 48), 12, True), ((130, 90), 12, False), ((60, 40), 35, False)],
)
def test_a_face_that_comes_back_in_time_and_in_its_place_keeps_its_id(back, gap, same):
    them = tracker(Detect(), keep_seconds=2.0)
    found = run(film(*[[(60, 40)]] * 10, *[[]] * gap, *[[back]] * 6), them)
    # That it is gone is noticed by a second look, in every tenth frame.
    assert statuses(found, 0)[:10] == "dttttdtttt" and statuses(found, 0)[10] == "l"
    assert "elsewhere" in found[10].faces[0].trouble
    assert statuses(found, 0)[10 + gap] == ("d" if same else "l" if gap < 20 else "-")
    ids = {face.id for frame in found[10 + gap :] for face in frame.faces if face.status != "lost"}
    assert ids == ({0} if same else {1})
    if gap > 20:
        ended = [(t, ends) for t, frame in enumerate(found) if (ends := frame.ended)]
        assert ended == [(30, ((0, "lost for more than 2 s: another crop shows it elsewhere"),))]
        assert len(them._detector.__dict__) and statuses(found, 0)[29:31] == "l-"


def test_a_lost_face_may_come_back_where_its_velocity_takes_it():
    path = walk((5, 40), (4, 0), 30)
    frames = film(
        *[[corner] for corner in path[:10]], *[[]] * 15, *[[corner] for corner in path[25:]]
    )
    assert statuses(run(frames), 0) == "dttttdtttt" + "l" * 15 + "dtttt"
    stayed = film(*[[path[0]]] * 10, *[[]] * 15, *[[corner] for corner in path[25:]])
    assert statuses(run(stayed), 0)[25] == "l"


def test_a_face_of_another_size_is_another():
    frames = film(*[[(60, 40)]] * 10, *[[]] * 3)
    large = scene((50, 30), side=45)
    found = run([*frames, *[large] * 4])
    assert {face.id for face in found[-1].faces if face.status != "lost"} == {1}


def test_at_once_when_a_face_is_lost_it_is_searched_in_the_same_frame(monkeypatch):
    # It jumps out of what the crop shows, in a frame in which its landmarks are doubted.
    monkeypatch.setattr(test_tracking, "ROAM", 1.05)
    frames = film(*[[(20, 40)]] * 10, *[[(40, 40)]] * 3)
    them = tracker(Detect(), detect_every=100)
    found = run(frames, them)
    assert statuses(found, 0) == "d" + "t" * 9 + "dtt" and them._detector.calls == 2
    assert found[10].faces[0].points[0].tolist() == [40, 40]


def test_two_that_come_to_be_one_face_are_parted():
    them, image = tracker(detect_every=100), scene((40, 40))
    _, state = them.step(image, 0.0)
    (person,) = state.people
    double = dataclasses.replace(state, people=(person, dataclasses.replace(person, id=7)))
    frame, state = them.step(image, 0.1, double)
    assert [(face.id, face.status) for face in frame.faces] == [(0, "detected"), (7, "lost")]
    assert frame.faces[1].trouble == "its landmarks have moved onto another face"


def test_a_face_that_is_detected_twice_is_one():
    them = tracker(
        lambda _: Detections(square(40, 40) + [[0, 0, 0, 0], [12, 0, 12, 0]], np.full(2, 0.9))
    )
    found = run(film(*[[(40, 40)]] * 3), them)
    assert [[(face.id, face.status[0]) for face in frame.faces] for frame in found] == [
        [(0, "d")],
        [(0, "t")],
        [(0, "t")],
    ]


def test_ids_end_at_a_cut():
    frames = film(*[[(40, 40)]] * 12)
    for image in frames[6:]:
        image[:] = np.where(image > 128, 255, 90)
    found = run(frames, tracker(cuts=True, detect_every=4))
    assert [frame.cut for frame in found] == [t == 6 for t in range(12)]
    assert statuses(found, 0) == "dtttdt------" and statuses(found, 1) == "------dtdttt"
    assert found[6].ended == ((0, "the scene is cut"),)
    assert statuses(run(frames, detect_every=4), 0) == "dtttdtttdttt"


# Which faces.


def test_limits_choose_the_faces():
    image = scene((10, 10), side=12)
    image[40:80, 60:100] = 255
    image[20:50, 120:150] = 255
    sides = [40, 30, 12]

    def kept(**limits):
        (found,) = run([image], **limits)
        return [round(np.ptp(face.points[:, 0])) + 1 for face in found.faces]

    assert kept(min_size=1) == sides and kept(min_size=20) == sides[:2]
    assert kept(max_faces=1) == sides[:1]
    assert not run([image], tracker(Detect(score=0.7)))[0].faces
    assert run([image], tracker(Detect(score=0.7), min_score=0.7))[0].faces


def test_a_known_face_needs_a_lower_score():
    them = tracker(Detect(), detect_every=2)
    frames = film(*[[(40, 40)]] * 6)
    found, state = [], None
    for t, image in enumerate(frames):
        them._detector.score = 0.9 if t == 0 else 0.65
        frame, state = them.step(image, t / FPS, state)
        found.append(frame)
    assert statuses(found, 0) == "dtdtdt"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"detect_every": 0}, "detect_every must be 1 or more, not 0"),
        ({"max_faces": 0}, "max_faces must be 1"),
        ({"min_score": 1.5}, "min_score must be at most 1"),
        ({"keep_seconds": -1}, "keep_seconds must be 0 or more"),
        ({"min_size": float("nan")}, "min_size must be 0"),
    ],
)
def test_limits_are_checked(limits, message):
    with pytest.raises(UserError, match=message):
        Limits(**limits)


def test_a_model_of_whole_pictures_cannot_track():
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, crop="none"))
    with pytest.raises(UserError, match="crops already"):
        FaceTracker(config, {}, detector=Detect())


# Frames and states.


def test_a_face_goes_on_after_frames_that_cannot_be_decoded():
    frames = film(*[[(40, 40)]] * 6, None, None, *[[(40, 40)]] * 5)
    found = run(frames, detect_every=5)
    assert statuses(found, 0) == "dttttdllttdtt"
    assert found[6].faces[0].trouble == "frame cannot be decoded"
    assert found[6].image is None and not any(frame.ended for frame in found)
    assert not run([None, *film([(40, 40)])])[0].faces


def test_looking_ahead_changes_nothing():
    one = [None if 12 < t < 16 else (10 + 3 * t, 10) for t in range(30)]
    corners = [[c for c in (a, (100, 80)) if c] for a in one]
    frames = film(*corners)
    frames[7] = frames[20] = None
    for image in frames[24:]:
        image[:] = np.where(image > 128, 255, 90)
    alone = run(frames, tracker(Detect(blind={3, 4, 5, 10}), cuts=True, detect_every=5))
    detector = Detect(blind={3, 4, 5, 10})
    them, state, ahead = tracker(detector, cuts=True, detect_every=5), None, []
    moments = [Frame(image, t / FPS) for t, image in enumerate(frames)]
    for (image, time), seen in them.look_ahead(iter(moments)):
        frame, state = them.step(image, time, state, seen)
        ahead.append(frame)
    assert len(ahead) == len(alone) == 30 and any(frame.cut for frame in alone)
    assert "l" in statuses(alone, 0) + statuses(alone, 1)
    for frame, other in zip(ahead, alone, strict=True):
        assert (frame.index, frame.time, frame.cut) == (other.index, other.time, other.cut)
        assert frame.ended == other.ended
        for face, same in zip(frame.faces, other.faces, strict=True):
            assert (face.id, face.status, face.trouble) == (same.id, same.status, same.trouble)
            np.testing.assert_array_equal(face.points, same.points)
            np.testing.assert_array_equal(face.score, same.score)


def test_frames_ahead_are_looked_at_where_a_face_is_searched():
    """So the search costs `step` nothing."""
    detector = Detect()
    them = tracker(detector, detect_every=100)
    them._searching = True
    moments = [Frame(image, t / FPS) for t, image in enumerate(film(*[[(40, 40)]] * 6))]
    seen = [seen.detections for _, seen in them.look_ahead(moments)]
    assert detector.calls == 6 and all(len(found.boxes) == 1 for found in seen)


def test_a_state_can_be_kept_and_gone_on_from():
    frames = film(*zip(walk((10, 10), (3, 1), 20), walk((130, 90), (-2, -1), 20), strict=True))
    them, state = tracker(), None
    for t in range(10):
        _, state = them.step(frames[t], t / FPS, state)
    whole = run(frames)
    for _ in range(2):  # a state is not changed by its use
        again = run(frames[10:], them, state)
        for frame, other in zip(again, whole[10:], strict=True):
            assert frame.index == other.index
            for face, known in zip(frame.faces, other.faces, strict=True):
                assert (face.id, face.status) == (known.id, known.status)
                np.testing.assert_array_equal(face.points, known.points)


def test_times_must_grow_and_reach_the_model():
    them = tracker()
    _, state = them.step(scene((40, 40)), 2.0)
    with pytest.raises(ValueError, match="the frame of 2 s must be later than that of 2 s"):
        them.step(scene((40, 40)), 2.0, state)
    them.step(scene((40, 40)), 2.25, state)
    *_, (_, memory, interval) = them._follower._predictor.calls
    assert memory == 1 and interval == 0.25


@pytest.mark.parametrize(("faces", "sizes"), [(1, [1]), (3, [1, 2, 4]), (99, [1, 2, 4, 8])])
def test_every_batch_of_up_to_so_many_faces_can_be_compiled_before(monkeypatch, faces, sizes):
    batches = []
    steps = Model.steps

    def noted(self, frame, *columns):
        batches.append((self.recurrence is None, len(columns[0]), columns[1][0] is None))
        return steps(self, frame, *columns)

    monkeypatch.setattr(Model, "steps", noted)
    tracker().warm_up(faces)
    kinds = [(alone, first) for alone in (False, True) for first in (False, True)]
    assert sorted(batches) == sorted((a, size, first) for a, first in kinds for size in sizes)


# Batches of the real model.


@pytest.mark.real
@pytest.mark.parametrize(("count", "recurrence"), [(3, RwRConfig()), (9, None)])
def test_faces_of_a_batch_are_as_if_each_were_alone(count, recurrence):
    config = dataclasses.replace(
        CONFIG, data=dataclasses.replace(CONFIG.data, crop="landmarks", crop_scale=1.3)
    )
    predictor = VideoPredictor(config, random_state(MODEL).variables(), recurrence)
    boxes = [np.array([20.0, 20, 90, 80]) + 9 * n for n in range(count)]
    nothing = [None] * count
    first = predictor.steps(picture(9), boxes, nothing, nothing)
    second = predictor.steps(picture(8), boxes, [state for _, state in first], [0.1] * count)
    assert len(first) == len(second) == count
    for n, box in enumerate(boxes):
        face, state = predictor.step(picture(9), box)
        np.testing.assert_allclose(first[n][0].points, face.points, atol=1e-3)
        face, _ = predictor.step(picture(8), box, state, 0.1)
        np.testing.assert_allclose(second[n][0].points, face.points, atol=2e-3)
        np.testing.assert_array_equal(second[n][0].box, box)


# Cuts.


def test_cuts_are_between_scenes_and_not_within():
    reader = VideoReader(EXAMPLES / "wflw_v" / "videos" / "intel_head_pose_male.mp4")
    images = [image for image, _ in reader.frames()]
    other = cv2.imread(str(EXAMPLES / "portrait_1.jpg"))[..., ::-1]
    scene, cuts = None, []
    for t, image in enumerate([*images[:20], *[other] * 5, *images[20:]]):
        cut, scene = is_cut(image, scene)
        cuts += [t] * cut
    assert cuts == [20, 25]


def test_what_changes_all_the_time_has_no_cuts():
    generator, scene = np.random.default_rng(0), None
    for t in range(20):
        level = 90 + 40 * (t % 2)
        image = np.clip(generator.normal(level, 5, (90, 160, 3)), 0, 255).astype(np.uint8)
        cut, scene = is_cut(image, scene)
        assert not cut or t < 3
    assert is_cut(image / 255.0, scene)[0] is is_cut(image, scene)[0]


# Real films.


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("speed", "front"), [(3, 0), (3, 1), (12, 0), (12, 1)])
def test_people_who_cross_keep_their_ids(speed, front):
    """A picture of one face passes in front of that of another, which is hidden for a while."""
    faces = [cv2.imread(str(EXAMPLES / f"portrait_{n}.jpg"))[..., ::-1] for n in (1, 2)]
    heads = [cv2.resize(face[60:470, 110:400], (145, 205)) for face in faces]
    them, state, places, lost = FaceTracker.load("faces-68"), None, [], 0
    for t in range(440 // speed):
        image = np.full((360, 640, 3), 150, np.uint8)
        shown = [(heads[0], 20 + speed * t), (heads[1], 460 - speed * t)]
        for head, x in shown if front else shown[::-1]:
            image[80:285, x : x + 145] = head
        frame, state = them.step(image, t / 25, state)
        assert {face.id for face in frame.faces} == {0, 1} and not frame.ended
        lost += sum(face.status == "lost" for face in frame.faces)
        places.append({face.id: face.points[30, 0] for face in frame.faces})
    left = min(places[0], key=places[0].get)
    assert places[-1][left] > 400 and places[-1][1 - left] < 200
    assert 0 < lost < 60 / speed
