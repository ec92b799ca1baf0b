"""Following the face of the shipped clip with a committed model, measured against its labels."""

import pathlib

import cv2
import numpy as np
import pytest

from ldeq_jax import weights
from ldeq_jax.face import metrics, video_metrics
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.inference.follower import Follower
from ldeq_jax.inference.tracker import FaceTracker
from ldeq_jax.inference.tracks import follow

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
NAME = "intel_head_pose_male"
# The label, of WFLW's 98 points, of each of the model's 68: jaw, brows, nose, eyes, mouth.
LABELS = [
    *range(0, 33, 2),
    *range(33, 38),
    *range(42, 47),
    *range(51, 60),
    *(60, 61, 63, 64, 65, 67),
    *(68, 69, 71, 72, 73, 75),
    *range(76, 96),
]


@pytest.fixture(scope="module")
def frames():
    capture = cv2.VideoCapture(str(ROOT / "examples" / "wflw_v" / "videos" / f"{NAME}.mp4"))
    read = []
    while (frame := capture.read()[1]) is not None:
        read.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return read


@pytest.fixture(scope="module")
def labels():
    return np.load(ROOT / "examples" / "wflw_v" / "landmarks" / f"{NAME}.npy")[:, LABELS]


@pytest.fixture(scope="module")
def box():
    """Of the first frame, with its score."""
    return np.load(ROOT / "examples" / "wflw_v" / "bboxes" / f"{NAME}.npy")[0]


@pytest.fixture(scope="module")
def trackers():
    config, variables, _ = weights.load_model("faces-68")
    return {
        "alone": Follower(config, variables, None),
        "RwR": Follower(config, variables, config.rwr),
    }


@pytest.fixture(scope="module")
def tracks(trackers, frames, box):
    return follow(trackers, frames, [box, *[None] * (len(frames) - 1)])


def eyes(labels):
    first, last = IBUG_68.eye_corners
    return np.linalg.norm(labels[:, first] - labels[:, last], axis=1)


def test_the_face_is_followed_close_to_its_labels_and_steadier_with_recurrence(tracks, labels):
    flicker = {}
    for name, track in tracks.items():
        assert track.landmarks.ok.all() and len(track.landmarks.ok) == len(labels) == 62
        nme = metrics.nme(track.landmarks.points, labels, IBUG_68.eye_corners)
        assert nme.mean() < 0.036 and nme.max() < 0.045
        (flicker[name],) = video_metrics.nmf(
            track.landmarks.points[None], labels[None], track.landmarks.ok[None]
        )
    assert flicker["RwR"] < 75 and flicker["RwR"] < 0.8 * flicker["alone"] < 0.8 * 100


@pytest.mark.parametrize(("start", "missed"), [(0, 2), (20, 1), (20, 5)])
def test_the_face_goes_on_after_frames_that_cannot_be_decoded(
    trackers, tracks, frames, labels, box, start, missed
):
    gap = slice(start, start + missed)
    some = frames[: gap.stop + 8]
    some[gap] = [None] * missed
    found = follow(trackers, some, [box, *[None] * (len(some) - 1)])
    for name, track in found.items():
        assert np.flatnonzero(~track.landmarks.ok).tolist() == list(range(*gap.indices(99)))
        assert not len(track.losses) and set(track.trouble[gap]) == {"frame cannot be decoded"}
        away = (
            track.landmarks.points[gap.stop :] - tracks[name].landmarks.points[gap.stop : len(some)]
        )
        away = np.linalg.norm(away, axis=-1).mean(axis=1) / eyes(labels[gap.stop : len(some)])
        assert away.max() < 0.015 and away[-1] < 0.01
        np.testing.assert_array_equal(
            track.landmarks.points[: gap.start], tracks[name].landmarks.points[: gap.start]
        )


@pytest.mark.parametrize("missed", [0, 1])
def test_a_cut_to_a_scene_without_a_face_is_found_out(trackers, frames, box, missed):
    scene = np.random.default_rng(0).integers(0, 256, frames[0].shape, np.uint8)
    some = [*frames[:5], *[None] * missed, *[scene] * 6]
    found = follow(trackers, some, [box, *[None] * (len(some) - 1)])
    for name, track in found.items():  # by the model's confidence
        # In the first frame of the scene; with the face of the last one in mind, in the second.
        (loss,) = track.losses
        assert loss - 5 - missed in ({0, 1} if name == "RwR" else {0})
        assert "does not look like a face" in track.trouble[loss]


def test_three_people_keep_their_ids_and_are_found_in_every_frame():
    tracker, seen = FaceTracker.load("faces-68"), []
    for frame in tracker.track(ROOT / "examples" / "intel_three_people_walking.mp4"):
        assert [face.id for face in frame.faces] == [0, 1, 2]
        assert all(face.landmarks.ok for face in frame.faces) and not frame.ended
        seen.append([face.points[30] for face in frame.faces])  # tips of the noses
    assert len(seen) == 41
    steps = np.linalg.norm(np.diff(np.array(seen), axis=0), axis=-1)
    assert steps.max() < 12, "nobody takes the place of another, 100 pixels away"


def test_a_detector_in_the_loop_gives_the_landmarks_of_known_boxes(frames, box):
    config, variables, _ = weights.load_model("faces-68")
    known = follow({"it": Follower(config, variables, config.rwr)}, frames, [box] + [None] * 61)
    state, points = None, []
    tracker = FaceTracker(config, variables)
    for t, image in enumerate(frames):
        frame, state = tracker.step(image, t / 12.5, state)
        points.append(frame.faces[0].points)
    away = np.linalg.norm(np.array(points) - known["it"].landmarks.points, axis=-1)
    assert away.mean() < 0.005 * 65  # of the face's size, in pixels
