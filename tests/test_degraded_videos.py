"""Laws of videos made harder: labels stay, faults have their stated size, chance is seeded."""

import dataclasses
import zlib

import build
import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from degraded_videos import film
from degraded_videos.degradation import EASY, HARD
from moving_faces.light import linear
from moving_faces.paths import random_wander
from moving_faces.sensor import compress
from test_video_builders import damage, read, run, save

from ldeq_jax.media.video import VideoReader

SIZE = (208, 176)
FRAMES = 12
NONE = dataclasses.replace(
    HARD,
    resolution=(1e6, 1e6),
    shakes=0.0,
    flicker=0.0,
    photons=(1e9, 1e9),
    read_noise=0.0,
    jpeg_quality=(100, 100),
    occluders=0.0,
)
CLEAN_PATH, HARD_PATH = "wflw_v/ibug_68/1.1.0", "degraded_videos/hard/1.0.0"


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(frames=FRAMES, size=SIZE, seed=0):
    """T frames of a soft texture that moves by a pixel a frame, and points that move with it."""
    width, height = size
    texture = rng(seed).uniform(0, 255, (height, width + frames, 3)).astype(np.float32)
    texture = 128 + 6 * (cv2.GaussianBlur(texture, (0, 0), 4) - 127.5)
    texture = np.clip(texture, 30, 220).astype(np.uint8)
    pictures = [texture[:, t : t + width] for t in range(frames)]
    points = rng(seed).uniform([40, 20], [170, 150], (68, 2)).astype(np.float32)
    points[:2] = [[40, 20], [170, 150]]  # a face of 130 pixels
    return pictures, points - np.arange(frames)[:, None, None] * np.float32([1, 0])


def degraded(degradation, seed=0, frames=FRAMES, size=SIZE):
    pictures, points = scene(frames, size)
    return np.stack(list(film.degrade(pictures, points, size, degradation, rng(seed))))


def decode(data):
    return [image for image, _ in VideoReader(data).frames()]


def psnr(frames, clean):
    error = np.square(frames.astype(float) - clean).mean()
    return 10 * np.log10(255**2 / error)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """A folder of three labelled videos, in the layout of WFLW-V."""
    root = tmp_path_factory.mktemp("layout")
    for number, name in enumerate("abc"):
        pictures, points = scene(FRAMES + number, seed=number)
        (root / "videos").mkdir(exist_ok=True)
        (root / f"videos/{name}.mp4").write_bytes(compress(pictures, 12.5))
        save(root / f"landmarks/{name}.npy", points)
        corners = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        save(root / f"bboxes/{name}.npy", corners + rng(number).normal(0, 2, corners.shape))
    save(root / "masks/b.npy", np.arange(FRAMES + 1) != 4)
    (root / "easy_video_IDs.txt").write_text("a\nb\n")
    (root / "hard_video_IDs.txt").write_text("c\n")
    return root


@pytest.fixture(scope="module")
def data(layout, tmp_path_factory):
    """The folder of the videos as they are and made harder."""
    folder = tmp_path_factory.mktemp("data")
    assert run(layout, folder, name="wflw_v/ibug_68") == 0
    assert run(folder / CLEAN_PATH, folder, name="degraded_videos/hard") == 0
    return folder


def test_all_but_the_pictures_is_the_source_bit_for_bit(data):
    for split in ("easy", "hard"):
        clean, hard = read(data, split, CLEAN_PATH), read(data, split, HARD_PATH)
        assert list(clean) == list(hard)  # in its order, so that parts of splits agree
        for name, video in clean.items():
            assert set(video) == set(hard[name])
            for field in set(video) - {"video"}:
                np.testing.assert_array_equal(hard[name][field], video[field], err_msg=field)
            assert hard[name]["video"] != video["video"]
    clean, hard = (
        tfds.builder_from_directory(data / path).info.metadata for path in (CLEAN_PATH, HARD_PATH)
    )
    for field in ("schema", "attribute_names", "videos"):
        assert hard[field] == clean[field]
    assert hard["source"] == CLEAN_PATH


def test_a_video_is_made_of_its_own_frames_and_its_name(data):
    """So it is the same whatever else is built."""
    for name, video in read(data, "easy", HARD_PATH).items():
        source = read(data, "easy", CLEAN_PATH)[name]
        frames = decode(source["video"])
        stream = rng([0, zlib.crc32(name.encode())])
        frames = film.degrade(frames, source["landmarks"], SIZE, HARD, stream)
        assert video["video"] == compress(frames, 12.5)


def test_one_video_alone_is_the_same(data, layout, tmp_path):
    alone = tmp_path / "in"
    alone.mkdir()
    for folder in ("videos", "landmarks", "bboxes", "masks"):
        (alone / folder).symlink_to(layout / folder)
    (alone / "easy_video_IDs.txt").write_text("b\n")
    assert run(alone, tmp_path, name="wflw_v/ibug_68") == 0
    assert run(tmp_path / CLEAN_PATH, tmp_path, name="degraded_videos/hard") == 0
    (video,) = read(tmp_path, "easy", HARD_PATH).values()
    assert video["video"] == read(data, "easy", HARD_PATH)["b"]["video"]


def test_without_faults_a_video_stays_as_it_is():
    clean, _ = scene()
    assert psnr(degraded(NONE), np.stack(clean)) > 45  # JPEG's rounding


@pytest.mark.parametrize("seed", range(4))
def test_hard_is_harder_than_easy(seed):
    clean = np.stack(scene()[0])
    easy, hard = (psnr(degraded(which, seed), clean) for which in (EASY, HARD))
    assert 22 < easy < 42 and 12 < hard < easy - 3


def test_seeds_reproduce():
    one, same, other = (degraded(HARD, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5


@pytest.mark.parametrize("resolution", [1e6, 40])
def test_pictures_do_not_move(resolution):
    """Neither a coarse sensor nor shake: the mean of a picture and its mirror image stays so."""
    coarse = dataclasses.replace(NONE, resolution=(resolution, resolution), shakes=30.0)
    pictures, points = scene()
    there, mirrored = (
        list(film.degrade(frames, points, SIZE, coarse, rng()))
        for frames in (pictures, [frame[::-1, ::-1] for frame in pictures])
    )
    shift = [
        cv2.phaseCorrelate(a.mean(axis=2), b[::-1, ::-1].mean(axis=2))[0]
        for a, b in zip(there, mirrored, strict=True)
    ]
    np.testing.assert_allclose(shift, 0, atol=0.05)
    assert psnr(np.stack(there), np.stack(pictures)) < 40


def test_shake_has_the_length_of_the_way():
    """A line that moves across itself smears to a box as wide as its way; along itself it stays."""
    light = np.zeros((60, 80, 3), np.float32)
    light[:, 36:44] = np.hanning(10)[1:-1, None]
    x = np.arange(80)

    def spread(way):
        row = film.shaken(light, np.array(way))[30, :, 0]
        middle = row @ x / row.sum()
        return middle, row @ (x - middle) ** 2 / row.sum()

    middle, still = spread([0.0, 0.0])
    for way, expected in (([12.0, 0.0], 12.0), ([0.0, 12.0], 0.0), ([6.0, 8.0], 6.0)):
        at, variance = spread(way)
        np.testing.assert_allclose(at, middle, atol=1e-3)
        np.testing.assert_allclose(variance - still, expected**2 / 12, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("resolution", [1e6, 65])
def test_shakes_are_as_long_as_stated_in_faces(resolution):
    shaky = dataclasses.replace(NONE, shakes=20.0, resolution=(resolution, resolution))
    pictures, _ = scene()
    ways = 130 * film.shakes(rng(1).spawn(4)[0], FRAMES, shaky)
    t = np.hypot(*ways.T).argmax()
    shaken = np.sqrt(film.shaken(linear(pictures[t]), ways[t])) * 255
    assert psnr(degraded(shaky, 1)[t], shaken) > 35 > psnr(pictures[t], shaken)


def test_shakes_come_in_bursts_as_often_and_as_long_as_stated():
    ways = np.hypot(*film.shakes(rng(), 20000, HARD).T)
    # A burst has 8 frames on average, 3 times in 100; bursts may overlap.
    assert abs((ways > 1e-9).mean() - (1 - np.exp(-0.24))) < 0.03
    apart = dataclasses.replace(HARD, shakes=0.1)
    strongest = np.hypot(*film.shakes(rng(), 20000, apart).T).max()
    assert 0.1 < strongest <= HARD.shake_length[1]
    assert not film.shakes(rng(), 500, dataclasses.replace(HARD, shakes=0.0)).any()


def test_light_flickers_from_row_to_row_and_within_its_bound():
    lamp = random_wander(rng(), HARD.flicker, film.FLICKER_PERIOD)
    factors = np.stack([film.flicker(lamp, t, 100) for t in range(200)])
    assert factors.shape == (200, 100, 1, 1)
    assert np.abs(np.log(factors)).max() <= HARD.flicker + 1e-6
    assert np.log(factors[:, 50]).std() > HARD.flicker / 4
    assert (np.ptp(factors, axis=1) > 1e-3).all()
    flickering = dataclasses.replace(NONE, flicker=HARD.flicker)
    grey = [np.full((176, 208, 3), 128, np.uint8)] * 40
    frames = np.stack(list(film.degrade(grey, scene(40)[1], SIZE, flickering, rng())))
    change = np.log(np.square(frames[:, 88].mean(axis=(1, 2)) / 128))
    assert HARD.flicker / 4 < change.std() and np.abs(change).max() < HARD.flicker + 0.02
    # The next frame begins soon after the last row of this one.
    np.testing.assert_allclose(
        film.flicker(lamp, 1, 100)[0], np.exp(lamp(np.array([1.0])))[0, 0], rtol=1e-6
    )


def test_noise_is_independent_from_frame_to_frame():
    noisy = dataclasses.replace(NONE, photons=(150, 150))
    still = [np.full((176, 208, 3), 128, np.uint8)] * 3
    frames = np.stack(list(film.degrade(still, scene(3)[1], SIZE, noisy, rng())))
    weights = np.array([0.299, 0.587, 0.114])  # JPEG halves the resolution of colour alone
    frames = frames @ weights - 128
    expected = 127.5 / np.sqrt(150) * np.linalg.norm(weights)
    np.testing.assert_allclose(frames.std(axis=(1, 2)), expected, rtol=0.05)
    assert abs(np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1]) < 0.02


def test_objects_cover_the_face_for_a_while_whatever_the_resolution():
    pictures, _ = scene(60)
    covered = []
    for resolution in (1e6, 65):
        there, away = (
            dataclasses.replace(NONE, occluders=count, resolution=(resolution, resolution))
            for count in (3.0, 0.0)
        )
        change = degraded(there, 1, 60).astype(int) - degraded(away, 1, 60)
        covered.append(np.abs(change).max(axis=3)[:, 20:150, 40:130] > 12)
    fine, coarse = covered
    share = fine.mean(axis=(1, 2))
    assert share.max() > 0.1 and np.median(share) < 0.05
    assert (fine & coarse).sum() > 0.8 * (fine | coarse).sum()


def test_a_face_of_other_size_suffers_alike():
    """Twice the size: the sensor has the same pixels along the face, so the result is as coarse."""
    pictures, points = scene()
    double = [
        cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for frame in pictures
    ]
    at = dataclasses.replace(HARD, resolution=(65, 65))
    one = np.stack(list(film.degrade(pictures, points, SIZE, at, rng())))
    two = list(film.degrade(double, 2 * points + 0.5, (416, 352), at, rng()))
    two = np.stack([cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA) for frame in two])
    assert psnr(two, one) > psnr(one, np.stack(pictures)) + 3


def test_frames_without_labels_are_made_harder_too():
    pictures, points = scene()
    points[3:6] = np.nan
    frames = list(film.degrade(pictures, points, SIZE, HARD, rng()))
    assert len(frames) == FRAMES
    with pytest.raises(ValueError, match="no frame has landmarks"):
        list(film.degrade(pictures, points * np.nan, SIZE, HARD, rng()))
    with pytest.raises(ValueError, match="longer|shorter"):
        list(film.degrade(pictures[:-1], points, SIZE, HARD, rng()))


def test_a_frame_that_cannot_be_decoded_keeps_its_place(layout, tmp_path):
    root = tmp_path / "in"
    for folder in ("landmarks", "bboxes", "videos"):
        (root / folder).mkdir(parents=True)
        for path in (layout / folder).glob("a.*"):
            (root / folder / path.name).write_bytes(path.read_bytes())
    (root / "easy_video_IDs.txt").write_text("a\n")
    damage(root / "videos/a.mp4", 3)
    assert run(root, tmp_path, name="wflw_v/ibug_68") == 0
    assert run(tmp_path / CLEAN_PATH, tmp_path, name="degraded_videos/easy") == 0
    video = read(tmp_path, "easy", "degraded_videos/easy/1.0.0")["a"]
    assert video["mask"].tolist() == [t != 3 for t in range(FRAMES)]
    assert len(decode(video["video"])) == FRAMES


def test_any_labelled_videos_can_be_made_harder(tmp_path):
    """Also in frames of odd sides, of which the codec drops a row or a column."""
    root, size = tmp_path / "in", (209, 177)
    pictures, points = scene(size=size)
    (root / "videos").mkdir(parents=True)
    (root / "videos/a.mp4").write_bytes(compress(pictures))
    save(root / "landmarks/a.npy", np.concatenate([points, points[:, :30]], axis=1))
    save(root / "bboxes/a.npy", np.tile([40.0, 20, 170, 150], (FRAMES, 1)))
    (root / "hard_video_IDs.txt").write_text("a\n")
    assert run(root, tmp_path) == 0
    assert run(tmp_path / "wflw_v/wflw_98/1.1.0", tmp_path, name="degraded_videos/hard") == 0
    again = tmp_path / HARD_PATH  # of which the harder ones are labelled videos as well
    assert run(again, tmp_path / "twice", name="degraded_videos/easy") == 0
    path = tmp_path / "twice/degraded_videos/easy/1.0.0"
    assert tfds.builder_from_directory(path).info.metadata["schema"] == "wflw_98"


def test_what_is_no_data_set_of_videos_is_explained(tmp_path, capsys, layout, data):
    assert run(layout, tmp_path, name="degraded_videos/hard") == 1
    assert "build the videos first" in capsys.readouterr().out
    folder = (data / CLEAN_PATH).parent
    assert run(folder, tmp_path, name="degraded_videos/hard") == 1
    out = capsys.readouterr().out
    assert f"{folder}: not a data set that ldeq build wrote: try {data / CLEAN_PATH}\n" in out
    assert not (tmp_path / "degraded_videos").exists()


def test_an_unknown_config_is_refused(tmp_path, capsys, data):
    with pytest.raises(SystemExit) as caught:
        run(data / CLEAN_PATH, tmp_path, name="degraded_videos/harder")
    assert caught.value.code == 2
    message = "degraded_videos has no config 'harder'; its configs: easy, hard"
    assert message in capsys.readouterr().err
    assert build.load_builder("degraded_videos").builder_configs.keys() == {"easy", "hard"}
