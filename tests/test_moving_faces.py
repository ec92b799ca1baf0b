"""Laws of filmed stills: labels and pixels agree, motion is smooth, chance is seeded."""

import dataclasses
import hashlib
import io
import zlib

import build
import cv2
import numpy as np
import pytest
import sample_faces
import tensorflow_datasets as tfds
from moving_faces import camera, clip, difficulty, light, occluder, paths, sensor
from moving_faces.moving_faces import SEED, MovingFaces
from PIL import Image

EASY, HARD = difficulty.EASY, difficulty.HARD
SIZE, FRAMES = difficulty.FRAME_SIZE, HARD.num_frames
TIMES = np.arange(FRAMES)
FINE = np.arange(0, FRAMES - 1, 1 / 16)
CALM = dataclasses.replace(HARD, gain=0, colour=0, gamma=0, shade=0, occluders=(1.0,))


def rng(seed=0):
    return np.random.default_rng(seed)


def grid_points(spacing=46.0, seed=0):
    """(25, 2) points on a shaken grid of 200 pixels, in a still of 440."""
    x, y = np.meshgrid(np.arange(5) * spacing, np.arange(5) * spacing)
    return np.stack([x, y], axis=-1).reshape(-1, 2) + 128 + rng(seed).uniform(-6, 6, (25, 2))


def blob_still(points, sigma=3.0):
    """Bright Gaussian blobs on dark grey."""
    y, x = np.mgrid[:440, :440]
    distance = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    blobs = np.exp(-distance / (2 * sigma**2)).sum(axis=0)
    return np.round(30 + 200 * blobs).astype(np.uint8)[..., None].repeat(3, axis=2)


def centroids(frame, around, radius=11):
    """(K, 2) centres of what is brighter than the background near each point."""
    grey = frame.astype(float).mean(axis=2)
    grey = np.square(np.maximum(0, grey - np.median(grey)))  # in light, where blur is a mean
    grey[grey < 0.02 * grey.max()] = 0
    y, x = np.mgrid[:SIZE, :SIZE]
    found = []
    for px, py in around:
        weight = grey * ((x - px) ** 2 + (y - py) ** 2 < radius**2)
        found.append([(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()])
    return np.array(found)


def decode(data):
    stream = io.BytesIO(data)
    capture = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, [])
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    capture.release()
    return np.stack(frames)


def still_camera(pan=(0.0, 0.0), face=camera.LARGEST_FACE):
    """Stands still, or moves by `pan` pixels a frame."""
    return camera.Camera(
        pan=lambda times: times[:, None] * np.array(pan),
        turn=lambda times: np.zeros((len(times), 1)),
        face=lambda times: np.full((len(times), 1), face),
        tremor=lambda times: np.zeros((len(times), 3)),
    )


def test_a_camera_that_stands_still_reproduces_the_still():
    still = rng().integers(0, 256, (camera.CANVAS_SIZE, camera.CANVAS_SIZE, 3), dtype=np.uint8)
    side = camera.LARGEST_FACE * SIZE
    landmarks = camera.CANVAS_MIDDLE + np.array([[-side / 2, 0], [side / 2, 0]])
    matrix = camera.canvas_from_still(landmarks)
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-12)
    canvas = camera.paint_canvas(still, np.eye(3))
    np.testing.assert_array_equal(canvas, still)
    flat = camera.Flat(light.linear(canvas), landmarks)
    seen = camera.open_shutter(flat, still_camera(), 7, 0.5)
    frame = sensor.record(seen, rng(), photons=np.inf, read_noise=0.0)
    first = (camera.CANVAS_SIZE - SIZE) // 2
    np.testing.assert_array_equal(frame, still[first : first + SIZE, first : first + SIZE])


@pytest.fixture(scope="module")
def blob_clip():
    points = grid_points()
    return clip.make_clip(blob_still(points), points, CALM, rng(1))


def test_markers_are_where_the_labels_say(blob_clip):
    errors = [
        np.linalg.norm(centroids(frame, points) - points, axis=1)
        for frame, points in zip(blob_clip.frames, blob_clip.landmarks, strict=True)
    ]
    assert np.max(errors) < 0.3 and np.mean(errors) < 0.1


def test_markers_are_where_the_labels_say_after_compression(blob_clip):
    frames = decode(sensor.compress(blob_clip.frames))
    assert len(frames) == FRAMES
    for frame, points in zip(frames, blob_clip.landmarks, strict=True):
        errors = np.linalg.norm(centroids(frame, points) - points, axis=1)
        assert errors.max() < 0.5


def test_labels_go_through_the_camera_exactly(blob_clip):
    """Camera motions are similarities: two landmarks fix where all others are."""
    points = grid_points()
    complex_still, complex_clip = points @ [1, 1j], blob_clip.landmarks @ np.array([1, 1j])
    zoom = (complex_clip[:, 1] - complex_clip[:, 0]) / (complex_still[1] - complex_still[0])
    expected = complex_clip[:, :1] + zoom[:, None] * (complex_still - complex_still[0])
    np.testing.assert_allclose(complex_clip, expected, atol=1e-9)


def test_seeds_reproduce():
    points = grid_points()
    still = blob_still(points)
    one, same, other = (clip.make_clip(still, points, HARD, rng(s)) for s in (3, 3, 4))
    for field, value, again, different in zip(clip.Clip._fields, one, same, other, strict=True):
        np.testing.assert_array_equal(value, again, err_msg=field)
        assert not np.array_equal(value, different) or field == "occluded"
    assert sensor.compress(one.frames) == sensor.compress(same.frames)


def random_moves(seed, duration=(8, 25), rest=15.0):
    return paths.random_moves(rng(seed), FRAMES, [-1, 5], [1, 6], duration, rest, channels=2)


@pytest.mark.parametrize("seed", range(5))
def test_moves_are_smooth_bounded_and_rest(seed):
    moves = random_moves(seed)
    step = FINE[1] - FINE[0]
    values = moves(FINE)
    assert (values >= [-1, 5]).all() and (values <= [1, 6]).all()
    sizes = np.abs(np.diff(moves.poses, axis=0))
    speed = (1.875 * sizes / moves.durations[:, None]).max()
    jerk = (60 * sizes / moves.durations[:, None] ** 3).max()
    assert np.abs(np.diff(values, axis=0)).max() / step <= speed * (1 + 1e-9)
    assert np.abs(np.diff(values, n=3, axis=0)).max() / step**3 <= jerk * (1 + 1e-6)
    # One move at a time, and each ends at its pose.
    ends = moves.starts + moves.durations
    assert (ends[:-1] <= moves.starts[1:] + 1e-9).all()
    np.testing.assert_allclose(moves(ends), moves.poses[1:], atol=1e-12)
    np.testing.assert_allclose(moves(moves.starts), moves.poses[:-1], atol=1e-12)
    assert moves.starts[0] <= 0 and ends[-1] >= FRAMES
    resting = (np.diff(values, axis=0) == 0).all(axis=1)
    assert 0 < resting.mean() < 0.9


def test_without_rests_something_always_moves():
    values = random_moves(0, rest=0.0)(FINE)
    assert (np.abs(np.diff(values, axis=0)).sum(axis=1) > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_wandering_is_smooth_and_bounded(seed):
    wander = paths.random_wander(rng(seed), 2.0, period=(10, 30), channels=3)
    values, step = wander(FINE), FINE[1] - FINE[0]
    assert np.abs(values).max() <= 2.0
    curvature = np.abs(np.diff(values, n=2, axis=0)).max() / step**2
    assert curvature <= 2.0 * (2 * np.pi / 10) ** 2
    assert values.std(axis=0).min() > 0.2


def random_cameras(which, count=20):
    points = camera.transform_points(camera.canvas_from_still(grid_points()), grid_points())
    flat = camera.Flat(np.empty(0), points)
    return points, [camera.random_camera(rng(seed), which, flat) for seed in range(count)]


@pytest.mark.parametrize("which", [EASY, HARD, dataclasses.replace(HARD, pan=0.8, turn=90)])
def test_the_face_stays_in_the_frame_and_has_its_size(which):
    points, cameras = random_cameras(which)
    times = np.arange(-0.5, FRAMES - 0.5, 0.1)
    low, high = which.face
    for one in cameras:
        matrices = one(times)
        seen = camera.transform_points(matrices, points)
        assert seen.min() > camera.MARGIN - 0.5
        assert seen.max() < SIZE - 1 - camera.MARGIN + 0.5
        zoom = np.sqrt(np.linalg.det(matrices[:, :2, :2])) * camera.LARGEST_FACE
        assert (zoom >= low - 1e-9).all() and (zoom <= high + 1e-9).all()
        assert one.pan_scale > 0


def test_what_fits_is_not_held_back():
    _, cameras = random_cameras(dataclasses.replace(EASY, pan=0.02))
    assert all(one.pan_scale == 1 for one in cameras)


def test_labels_have_no_more_jerk_than_the_moves():
    pure_pan = dataclasses.replace(HARD, turn=0.0, face=(0.5, 0.5), tremor=0.0)
    points, cameras = random_cameras(pure_pan)
    bound = 60 * 2 * HARD.pan * SIZE / HARD.move[0] ** 3
    for one in cameras:
        labels = camera.transform_points(one(TIMES), points)
        assert 0 < np.abs(np.diff(labels, n=3, axis=0)).max() <= bound


@pytest.mark.parametrize("which", [EASY, HARD])
def test_labels_do_not_flicker(which):
    """Acceleration is the same on ever finer steps; flicker would grow as their inverse square."""
    points, cameras = random_cameras(which, 5)
    for one in cameras:
        acceleration = []
        for step in (1 / 8, 1 / 64):
            labels = camera.transform_points(one(np.arange(0, FRAMES - 1, step)), points)
            acceleration.append(np.abs(np.diff(labels, n=2, axis=0)).max() / step**2)
        assert acceleration[1] < 1.2 * acceleration[0]


def test_hard_is_faster_than_easy():
    speeds = []
    for which in (EASY, HARD):
        points, cameras = random_cameras(which)
        labels = np.stack([camera.transform_points(one(TIMES), points) for one in cameras])
        speeds.append(np.linalg.norm(np.diff(labels, axis=1), axis=-1).mean())
    assert speeds[1] > 3 * speeds[0] > 0


def test_moments_lie_evenly_around_the_frame():
    for way, count in ((0.0, 1), (0.4, 1), (1.5, 3), (8.0, 9)):
        times = camera.moments(12, 0.6, way)
        assert len(times) == count and times[count // 2] == 12
        np.testing.assert_allclose(times + times[::-1], 24)
        np.testing.assert_allclose(np.diff(times), 0.6 / count)


@pytest.mark.parametrize("exposure", [0.0, 0.5, 1.0])
def test_blur_has_the_length_of_the_way(exposure):
    """A line that moves across itself smears to a box as wide as its way; along itself it stays."""
    canvas = np.zeros((camera.CANVAS_SIZE, camera.CANVAS_SIZE, 3), np.float32)
    canvas[:, 340:351] = np.hanning(13)[1:-1, None]
    x = np.arange(SIZE)
    flat = camera.Flat(canvas, camera.CANVAS_MIDDLE[None])

    def spread(pan):
        film = camera.open_shutter(flat, still_camera(pan), 1, exposure)
        row = film[SIZE // 2, :, 0] / film[SIZE // 2, :, 0].sum()
        return row @ x**2 - (row @ x) ** 2

    way = 16 * exposure
    np.testing.assert_allclose(spread((16, 0)) - spread((0, 0)), way**2 / 12, rtol=0.02, atol=1e-3)
    np.testing.assert_allclose(spread((0, 16)), spread((0, 0)), rtol=1e-4)


def test_beyond_the_still_there_is_no_black_and_no_jump():
    still = np.full((90, 120, 3), 200, np.uint8)
    matrix = camera.similarity(2.0, 0.0, np.array([60.0, 45]), camera.CANVAS_MIDDLE)
    canvas = camera.paint_canvas(still, matrix).astype(int)
    inside = camera.transform_points(matrix, np.array([[1.0, 1], [118, 88]])).astype(int)
    (left, top), (right, bottom) = inside
    assert (canvas[top:bottom, left:right] == 200).all()
    assert canvas.min() >= 0.8 * 200 and canvas[0, 0, 0] < 190
    assert np.abs(np.diff(canvas, axis=0)).max() < 10
    assert np.abs(np.diff(canvas, axis=1)).max() < 10


def test_neutral_light_changes_nothing():
    neutral = light.random_light(rng(), CALM)
    np.testing.assert_array_equal(neutral(5.0), np.ones(3, np.float32))
    assert neutral.tone(5.0) == 1


@pytest.mark.parametrize("which", [EASY, HARD])
def test_light_drifts_smoothly_within_its_bounds(which):
    for seed in range(5):
        source = light.random_light(rng(seed), which)
        logs = np.log(np.stack([source(t)[::16, ::16] for t in range(FRAMES)]))
        brightest = which.gain + which.colour
        assert logs.max() <= brightest + 1e-5
        assert logs.min() >= -brightest + np.log1p(-which.shade) - 1e-5
        tones = np.log([source.tone(t) for t in range(FRAMES)])
        assert np.abs(tones).max() <= which.gamma
        # Nothing has a period below 30 frames; the shadow's edge crosses its softness in several.
        assert np.abs(np.diff(tones, n=2)).max() <= which.gamma * (2 * np.pi / 30) ** 2
        no_shadow = dataclasses.replace(source, shade=0.0)
        gains = np.log(np.stack([no_shadow(t) for t in range(FRAMES)]))
        bound = brightest * (2 * np.pi / 30) ** 2
        assert np.abs(np.diff(gains, n=2, axis=0)).max() <= bound + 1e-5
        assert np.abs(np.diff(logs, axis=0)).max() < brightest * 2 * np.pi / 30 + which.shade


def test_the_shadow_falls_on_one_side():
    source = dataclasses.replace(
        light.random_light(rng(), CALM),
        shade=0.6,
        direction=np.array([1.0, 0.0]),
        edge=paths.Wander(0.0, np.ones((1, 1)), np.zeros((1, 1))),
    )
    falls = source(0)[..., 0]
    assert falls[:, 0].min() > 0.99 and falls[:, -1].max() < 0.41
    np.testing.assert_allclose(falls[:, SIZE // 2 - 1 : SIZE // 2 + 1].mean(), 0.7, atol=1e-3)
    assert (np.diff(falls, axis=1) <= 0).all()


def test_pixels_survive_a_noiseless_sensor():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    out = sensor.record(light.linear(pixels), rng(), photons=np.inf, read_noise=0.0)
    np.testing.assert_array_equal(out, pixels)
    darker = sensor.record(light.linear(pixels), rng(), photons=np.inf, read_noise=0.0, tone=1.5)
    assert (darker <= pixels).all() and darker[8, 0, 0] < pixels[8, 0, 0]


@pytest.mark.parametrize(("level", "photons", "read"), [(0.3, 500, 0.0), (0.1, np.inf, 0.02)])
def test_noise_has_the_stated_variance_and_is_drawn_anew(level, photons, read):
    flat = np.full((200, 200, 3), level, np.float32)
    source = rng()
    one, two = (
        np.square(sensor.record(flat, source, photons=photons, read_noise=read) / 255.0) - level
        for _ in range(2)
    )
    expected = level / photons + read**2
    np.testing.assert_allclose([one.var(), two.var()], expected, rtol=0.05)
    assert abs(one.mean()) < 0.05 * np.sqrt(expected)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(one[..., :-1, 0].ravel(), one[..., 1:, 0].ravel())[0, 1]) < 0.02


def test_compression_keeps_frames_colours_and_time():
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    frames[..., 0] = 200
    frames[3, :, :, 2] = 150
    data = sensor.compress(frames)
    np.testing.assert_allclose(decode(data), frames, atol=12)
    np.testing.assert_allclose(sensor.jpeg(frames[3], 50), frames[3], atol=12)
    stream = io.BytesIO(data)
    capture = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, [])
    assert capture.get(cv2.CAP_PROP_FPS) == difficulty.FPS
    capture.release()


def test_boxes_err_as_stated():
    corners = np.array([[10.0, 20], [110, 70]])  # 100 wide, 50 high
    landmarks = np.broadcast_to(corners, (40000, 2, 2))
    extent = corners.ravel()
    np.testing.assert_array_equal(clip.tracked_boxes(rng(), landmarks, 0.0)[9], extent)
    boxes = clip.tracked_boxes(rng(), landmarks, 0.03)
    low, high = boxes[:, :2], boxes[:, 2:]
    errors = np.concatenate(
        [((low + high) / 2 - [60, 45]) / 100, (high - low) / [100, 50] - 1], axis=1
    )
    np.testing.assert_allclose(errors.std(axis=0), 0.03, rtol=0.05)
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=0.003)
    np.testing.assert_allclose(errors[:, 2], errors[:, 3], atol=1e-12)  # one size, both sides
    for column in errors.T:
        for lag, expected in ((1, 0.8), (3, 0.8**3)):
            assert abs(np.corrcoef(column[lag:], column[:-lag])[0, 1] - expected) < 0.03
    assert abs(np.corrcoef(errors[:, 0], errors[:, 1])[0, 1]) < 0.05
    starts = [clip.tracked_boxes(rng(s), landmarks[:1], 0.03)[0, 0] for s in range(2000)]
    # x1 is off by the middle's error and half the width's: both 0.03 of 100.
    np.testing.assert_allclose(np.std(starts), 3 * np.sqrt(1.25), rtol=0.06)


def test_covering_follows_opacity():
    under = rng().uniform(size=(4, 4, 3)).astype(np.float32)
    sprite = np.zeros((4, 4, 4), np.float32)
    sprite[0] = [0.1, 0.2, 0.3, 1.0]
    sprite[1] = [0.05, 0.1, 0.15, 0.5]
    out = occluder.cover(under, sprite)
    np.testing.assert_allclose(out[0], np.broadcast_to([0.1, 0.2, 0.3], (4, 3)))
    np.testing.assert_allclose(out[1], 0.5 * under[1] + [0.05, 0.1, 0.15], rtol=1e-6)
    np.testing.assert_array_equal(out[2:], under[2:])


@pytest.mark.parametrize("seed", range(6))
def test_an_occluder_comes_crosses_the_face_and_goes(seed):
    face = np.broadcast_to([127.5, 127.5, 140.0], (FRAMES, 3))
    thing = occluder.random_occluder(rng(seed), face)
    colour, opacity = thing.sprite[..., :3], thing.sprite[..., 3:]
    assert opacity.min() >= 0 and opacity.max() <= 1 + 1e-6
    assert colour.min() >= 0 and (colour <= opacity + 1e-5).all()
    begin, end = thing.position.starts[0], (thing.position.starts + thing.position.durations)[1]
    for time in (begin - 1, end + 1):
        sprite = thing.seen(time, 0.5)
        assert sprite is None or sprite[..., 3].max() < 1e-3
    middle = thing.position.starts[1]
    sprite = thing.seen(middle, 0.5)
    y, x = np.nonzero(sprite[..., 3] > 0.5)
    assert (np.hypot(x - 127.5, y - 127.5) < 70).any()


def test_a_clip_is_lit_by_its_light():
    points = grid_points()
    still = np.full_like(blob_still(points), 120)
    calm = dataclasses.replace(CALM, photons=(1e9, 1e9), read_noise=0.0, jpeg_quality=None)
    lit = dataclasses.replace(calm, gain=0.5, colour=0.2)
    one, other = (clip.make_clip(still, points, which, rng(4)).frames for which in (calm, lit))
    assert (one[:, 128, 128] == 120).all()
    # The light has the second of the clip's streams to itself.
    source = light.random_light(rng(4).spawn(5)[1], lit)
    expected = light.linear(np.full(3, 120)) * np.stack([source(t) for t in range(FRAMES)])
    seen = light.linear(other[:, 128, 128])
    assert np.ptp(seen) > 0.02
    np.testing.assert_allclose(seen, expected, atol=0.005)


def test_occluders_hide_what_they_say_and_nothing_else():
    points = grid_points()
    still = blob_still(points)
    bare = dataclasses.replace(HARD, jpeg_quality=None, occluders=(1.0,))
    without = clip.make_clip(still, points, bare, rng(2))
    hidden = clip.make_clip(still, points, dataclasses.replace(bare, occluders=(0, 1.0)), rng(2))
    np.testing.assert_array_equal(hidden.landmarks, without.landmarks)
    np.testing.assert_array_equal(hidden.boxes, without.boxes)
    assert not without.occluded.any() and 0.02 < hidden.occluded.mean() < 0.9
    change = np.abs(hidden.frames.astype(int) - without.frames).mean(axis=-1)
    assert (change == 0).mean() > 0.3  # the rest of the picture, noise and all, is the same
    x, y = np.moveaxis(np.round(hidden.landmarks).astype(int), -1, 0)
    changed = change[np.arange(FRAMES)[:, None], y, x] > 10
    assert changed[hidden.occluded].mean() > 0.95
    # Half covered is not occluded, but changes pixels; not often.
    assert changed[~hidden.occluded].mean() < 0.1


# The builder


def run(name, root, data_dir, *flags):
    return build.main([name, f"--manual_dir={root}", f"--data_dir={data_dir}", *flags])


def read(data_dir, path, split):
    source = tfds.builder_from_directory(data_dir / path).as_data_source(split)
    return {example["name"].decode(): example for example in source}


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    """Drawn faces, built: four to train, one to test."""
    root = tmp_path_factory.mktemp("stills")
    sample_faces.main([f"--output={root / 'in'}", "--train=4", "--test=1", "--size=160"])
    assert run("ibug_300w", root / "in", root) == 0
    return root / "ibug_300w/1.0.0"


@pytest.fixture
def two_clips(monkeypatch):
    """At most two clips a split."""
    for config in MovingFaces.BUILDER_CONFIGS:
        monkeypatch.setattr(config, "clips", 2)


def test_builder_films_the_faces_that_names_choose(tmp_path, capsys, stills, two_clips):
    assert run("moving_faces/hard", stills, tmp_path) == 0
    out = capsys.readouterr().out
    assert "train             2 of 4 videos, 120 frames" in out
    assert "at most 2 clips per split" in out
    path = "moving_faces/hard/1.1.0"
    info = tfds.builder_from_directory(tmp_path / path).info
    assert info.metadata["schema"] == "ibug_68" and info.metadata["source"] == "ibug_300w/1.0.0"
    assert info.metadata["attribute_names"] == ["easy", "hard", "occluded"]
    assert {s: i.num_examples for s, i in info.splits.items()} == {
        "train": 2,
        "test_common": 1,
        "test_lfpw": 1,
    }
    encoded = {"image": tfds.decode.SkipDecoding()}
    source = tfds.builder_from_directory(stills).as_data_source("train", decoders=encoded)
    faces = {face["name"].decode(): face for face in source}
    made = read(tmp_path, path, "train")
    chosen = sorted(faces, key=lambda name: hashlib.sha256(name.encode()).digest())[:2]
    assert set(made) == set(chosen) != set(sorted(faces)[:2])
    for name, example in made.items():
        picture = np.frombuffer(faces[name]["image"], np.uint8)
        expected = clip.make_clip(
            cv2.imdecode(picture, cv2.IMREAD_COLOR_RGB),
            faces[name]["landmarks"],
            HARD,
            rng([SEED, zlib.crc32(name.encode())]),
        )
        np.testing.assert_array_equal(example["landmarks"], expected.landmarks.astype(np.float32))
        np.testing.assert_array_equal(example["boxes"], expected.boxes.astype(np.float32))
        assert example["video"] == sensor.compress(expected.frames)
        assert example["mask"].all() and example["mask"].shape == (FRAMES,)
        assert example["fps"] == difficulty.FPS
        assert example["attributes"].tolist() == [False, True, expected.occluded.any()]
    same = read(tmp_path, path, "test_common"), read(tmp_path, path, "test_lfpw")
    (one,), (other,) = (split.values() for split in same)
    assert one["video"] == other["video"]


def write_precropped(root, rng, points, side=128):
    """One WFLW face in a square picture; points in [0, 1]."""
    root.mkdir(parents=True)
    (root / "train").mkdir()
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "train/0.png")
    coordinates = " ".join(f"{v:.6f}" for v in points.ravel())
    (root / "train.txt").write_text(f"0.png {coordinates}\n")


def test_schema_and_number_of_landmarks_are_those_of_the_stills(tmp_path):
    write_precropped(tmp_path / "in", rng(), rng().uniform(0.2, 0.8, (98, 2)))
    assert run("wflw/precropped", tmp_path / "in", tmp_path) == 0
    stills = tmp_path / "wflw/precropped/1.0.0"
    assert run("moving_faces/easy", stills, tmp_path, "--max_examples_per_split=1") == 0
    path = "moving_faces/easy/1.1.0"
    metadata = tfds.builder_from_directory(tmp_path / path).info.metadata
    assert metadata["schema"] == "wflw_98"
    (example,) = read(tmp_path, path, "train").values()
    assert example["landmarks"].shape == (FRAMES, 98, 2)
    assert example["attributes"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("low", "high", "side", "kind"),
    [(0.2, 1.02, 128, "face not completely in the picture"), (0.2, 0.8, 48, "face too small")],
)
def test_stills_that_cannot_be_filmed_are_named(tmp_path, capsys, low, high, side, kind):
    points = rng().uniform(low, high, (98, 2))
    points[0], points[1] = low, high
    write_precropped(tmp_path / "in", rng(), points, side)
    run("wflw/precropped", tmp_path / "in", tmp_path)
    assert run("moving_faces/easy", tmp_path / "wflw/precropped/1.0.0", tmp_path) == 1
    out, err = capsys.readouterr()
    assert f"left out: train, train/0.png: {kind}: " in err and f"1 left out: {kind}" in out
    assert not (tmp_path / "moving_faces").exists()


def test_what_is_no_data_set_of_stills_is_explained(tmp_path, capsys, stills):
    assert run("moving_faces/easy", stills.parent, tmp_path) == 1
    out = capsys.readouterr().out
    assert f"{stills.parent}: not a data set that ldeq build wrote: try {stills}\n" in out
    example = build.HERE.parent / "examples/wflw_v"
    assert run("moving_faces/easy", example, tmp_path) == 1
    assert "build the stills first" in capsys.readouterr().out
    assert run("wflw_v", example, tmp_path) == 0
    assert run("moving_faces/easy", tmp_path / "wflw_v/wflw_98/1.1.0", tmp_path) == 1
    assert "not a data set of labelled stills: it has no image" in capsys.readouterr().out
