"""Laws of the acting stills: smooth performances, exact labels, refusals."""

import dataclasses

import build
import numpy as np
import pytest
import sample_faces
import tensorflow_datasets as tfds
from moving_faces import acting, actor, camera, clip, difficulty, light
from scipy.spatial.transform import Rotation

from ldeq_jax.head.shape import Pose, load_head

HEAD = load_head()
SPEAKING = difficulty.SPEAKING
FRAMES = SPEAKING.num_frames
TIMES = np.arange(FRAMES)
NO_MOTION = acting.HeadMotion(
    yaw=0, pitch=0, roll=0, move=(10, 25), rest=10, speech=0, gestures=0, blinks=(0, 0)
)


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn_still(yaw=0.0, **expression):
    """A textured picture, and the 68 points of the mean face in it."""
    rotation = Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    pose = Pose(rotation, 9.0, np.array([160.0, 150.0]))
    vertices = HEAD.vertices(np.zeros(len(HEAD.identity)), HEAD.weights(**expression))
    y, x = np.mgrid[:320, :320]
    waves = 120 + 50 * np.sin(x / 9)[..., None] * np.cos(y / 7)[..., None] * [1, 0.8, 0.6]
    return waves.astype(np.uint8), pose.project(vertices)[HEAD.landmarks, :2]


def performance(motion=SPEAKING.head, seed=0, frames=FRAMES):
    return acting.random_performance(rng(seed), motion, frames)


def filmed(motion, seed=0):
    still, points = drawn_still()
    matrix = camera.canvas_from_still(points)
    canvas = light.linear(camera.paint_canvas(still, matrix))
    on_canvas = camera.transform_points(matrix, points)
    return actor.Actor.of(canvas, on_canvas, performance(motion, seed)), on_canvas


def gaps(landmarks, upper, lower):
    return np.linalg.norm(landmarks[:, lower] - landmarks[:, upper], axis=-1)


def test_an_actor_at_rest_is_the_still():
    calm, points = filmed(NO_MOTION)
    for time in (0.0, 31.5):
        np.testing.assert_allclose(calm.landmarks(np.array([time]))[0], points, atol=1e-9)
    view = camera.similarity(0.9, 0.2, camera.CANVAS_MIDDLE, camera.MIDDLE)
    flat = camera.Flat(calm.canvas, points)
    np.testing.assert_allclose(calm.seen(5.0, view), flat.seen(5.0, view), atol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_a_performance_is_smooth_and_bounded(seed):
    """Acceleration is the same on ever finer steps; flicker would grow as their inverse square."""
    one = performance(seed=seed)
    still = HEAD.weights(jawOpen=0.2)
    steps = []
    for step in (1 / 16, 1 / 64):
        times = np.arange(0, FRAMES - 1, step)
        values = np.concatenate([one.turn(times), one.expression(HEAD, still, times)], axis=1)
        steps.append(np.abs(np.diff(values, n=2, axis=0)).max() / step**2)
        yaw, pitch, roll = np.degrees(np.abs(one.turn(times)).max(axis=0))[[1, 0, 2]]
        head = SPEAKING.head
        assert 0 < yaw <= head.yaw and 0 < pitch <= head.pitch and 0 < roll <= head.roll
    assert steps[1] < 1.2 * steps[0]


def test_speech_has_the_deviations_of_speech():
    motion = dataclasses.replace(NO_MOTION, speech=1.0)
    times = np.arange(2000.0)
    values = [
        performance(motion, seed).expression(HEAD, HEAD.weights(), times).std(axis=0)
        for seed in range(20)
    ]
    found = dict(zip(HEAD.expression_names, np.mean(values, axis=0), strict=True))
    for name in ("jawForward", "mouthPucker", "mouthLowerDown_L", "mouthPress_R"):
        expected = acting.SPEECH[name.partition("_")[0]]
        assert abs(found[name] / expected - 1) < 0.15, name
    assert found["browInnerUp_L"] == found["eyeBlink_R"] == 0
    wild = performance(dataclasses.replace(NO_MOTION, speech=9.0, gestures=1.0))
    opened = wild.expression(HEAD, HEAD.weights(), times)[:, HEAD.expression_names.index("jawOpen")]
    assert 0.3 < opened.max() <= acting.LARGEST["jawOpen"]


def test_opening_and_closing_alternate():
    motion = dataclasses.replace(NO_MOTION, speech=1.0)
    values = performance(motion).expression(HEAD, HEAD.weights(), np.arange(2000.0))
    named = dict(zip(HEAD.expression_names, values.T, strict=True))
    assert np.corrcoef(named["jawOpen"], named["mouthLowerDown_L"])[0, 1] > 0.3
    assert np.corrcoef(named["jawOpen"], named["mouthPress_L"])[0, 1] < 0
    np.testing.assert_array_equal(named["mouthPress_L"], named["mouthPress_R"])


@pytest.mark.parametrize("count", [1, 3])
def test_blinks_are_full_and_counted(count):
    motion = dataclasses.replace(NO_MOTION, blinks=(count, count))
    times = np.arange(0, FRAMES, 1 / 8)
    for seed in range(5):
        blinks = performance(motion, seed).blinks(times)[:, 0]
        closed = blinks > 0.99
        assert blinks.min() == 0 and np.isclose(blinks.max(), 1)
        assert (np.diff(closed.astype(int)) == 1).sum() == count
        assert blinks[0] < 0.99 and blinks[-1] < 0.1


def test_mouth_and_eyes_open_and_close():
    speaker, points = filmed(SPEAKING.head, seed=2)
    seen = speaker.landmarks(TIMES)
    side = np.ptp(points, axis=0).max()
    assert np.ptp(gaps(seen, 62, 66)) > 0.08 * side
    eyes = gaps(seen, 37, 41)
    assert eyes.min() < 0.3 * np.median(eyes)
    # The head turns: the nose moves against the corners of the eyes.
    middle = seen[:, [36, 45]].mean(axis=1)
    assert np.ptp(seen[:, 30, 0] - middle[:, 0]) > 0.05 * side


def test_an_opened_mouth_is_painted_inside():
    speaker, _ = filmed(dataclasses.replace(NO_MOTION, speech=3.0))
    bright = dataclasses.replace(speaker, canvas=np.full_like(speaker.canvas, 0.5))
    seen = speaker.landmarks(TIMES)
    widest = int(gaps(seen, 62, 66).argmax())
    view = camera.similarity(1.0, 0.0, camera.CANVAS_MIDDLE, camera.MIDDLE)
    shown = bright.seen(widest, view)
    at = camera.transform_points(view, seen[widest])
    x, y = np.round(0.25 * at[62] + 0.75 * at[66]).astype(int)
    assert shown[y, x].max() < 0.2
    x, y = np.round(at[30]).astype(int)
    np.testing.assert_allclose(shown[y, x], 0.5, atol=1e-6)


def test_seeds_reproduce_clips():
    still, points = drawn_still()
    bare = dataclasses.replace(SPEAKING, occluders=(1.0,), num_frames=20)
    one, same, other = (clip.make_clip(still, points, bare, rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.frames, same.frames)
    np.testing.assert_array_equal(one.landmarks, same.landmarks)
    assert not np.array_equal(one.landmarks, other.landmarks)
    inside = (one.landmarks > 0) & (one.landmarks < difficulty.FRAME_SIZE - 1)
    assert inside.all()


@pytest.mark.parametrize(
    ("yaw", "noise", "reason"), [(40, 0, "turned by"), (0, 9, r"error 0\.\d+, at most")]
)
def test_a_face_that_cannot_act_is_refused(yaw, noise, reason):
    still, points = drawn_still(yaw)
    points = points + rng().normal(0, noise, points.shape)
    with pytest.raises(actor.NoActorError, match=reason):
        clip.make_clip(still, points, SPEAKING, rng())


def run(name, root, data_dir, *flags):
    return build.main([name, f"--manual_dir={root}", f"--data_dir={data_dir}", *flags])


@pytest.mark.slow
def test_the_builder_makes_speaking_clips(tmp_path):
    sample_faces.main([f"--output={tmp_path / 'in'}", "--train=1", "--test=1", "--size=160"])
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    stills = tmp_path / "ibug_300w/1.0.0"
    assert run("moving_faces/speaking", stills, tmp_path, "--max_examples_per_split=1") == 0
    made = tfds.builder_from_directory(tmp_path / "moving_faces/speaking/1.1.0")
    (example,) = made.as_data_source("train")
    assert example["landmarks"].shape == (FRAMES, 68, 2)
    assert not example["attributes"][:2].any()


def test_other_landmarks_are_refused(tmp_path, capsys):
    sample_faces.main([f"--output={tmp_path / 'in'}", "--train=1", "--test=1", "--size=160"])
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    stills = tmp_path / "ibug_300w/1.0.0"
    metadata = stills / "metadata.json"
    metadata.write_text(metadata.read_text().replace("ibug_68", "cofw_29"))
    assert run("moving_faces/speaking", stills, tmp_path) == 1
    out = capsys.readouterr().out
    assert "they are cofw_29, a head is fitted to ibug_68; build easy or hard instead" in out
    assert not (tmp_path / "moving_faces").exists()
