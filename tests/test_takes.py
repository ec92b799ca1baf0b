"""Takes of the training faces: which are made, and clips for training that are cut from them."""

import itertools

import build
import numpy as np
import pytest
import sample_faces
from moving_faces.difficulty import TAKES

from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import train_iterator
from ldeq_jax.data.moving import ClipConfig
from ldeq_jax.data.sources import FaceSource, VideoSource
from ldeq_jax.data.takes import FASTEST, Takes
from ldeq_jax.errors import UserError, UserFileNotFoundError
from ldeq_jax.face import geometry

SIZE = 64
RIGID = {"bend": 0, "occluder_probability": 0, "noise_probability": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two stills to train on, of which one has a take, and one to test on."""
    root = tmp_path_factory.mktemp("takes")
    sample_faces.main([f"--output={root / 'in'}", "--train=2", "--test=1", "--size=160"])

    def run(name, source, *flags):
        assert build.main([name, f"--manual_dir={source}", f"--data_dir={root}", *flags]) == 0

    run("ibug_300w", root / "in")
    run("moving_faces/takes", root / "ibug_300w/1.0.0", "--max_examples_per_split=1")
    return root


def batches(data, first_batch=0, **settings):
    """Endless clips of the two faces."""
    config = DataConfig(
        name="ibug_300w", data_dir=str(data), batch_size=2, crop="landmarks", crop_scale=1.3
    )
    clip = ClipConfig(takes="moving_faces/takes", **{"num_frames": 4, **RIGID, **settings})
    return train_iterator(config, AugmentConfig(), SIZE, clip=clip, first_batch=first_batch)


def batch(data, **settings):
    """One clip of each of the two faces, by their names."""
    found = next(batches(data, **settings))
    source = FaceSource("ibug_300w", "train", str(data))
    names = [source.annotation(index)["name"] for index in found.index]
    in_frame = geometry.transform_points(
        found.frame_from_crop.astype(float), found.landmarks * float(SIZE)
    )
    return dict(zip(names, in_frame, strict=True)), found


def change_of_shape(faces):
    """How far (T, K, 2) points are from a similarity of the first frame, parts of the face."""
    z = (faces - faces.mean(axis=1, keepdims=True)) @ [1, 1j]
    factor = (z @ z[0].conj()) / np.vdot(z[0], z[0])
    return np.abs(z - factor[:, None] * z[0]).max() / np.abs(z[0]).max()


def taken(data):
    """The name of the face with a take."""
    return VideoSource("moving_faces/takes", "train", str(data)).names[0]


def test_only_training_faces_get_takes(data):
    source = VideoSource("moving_faces/takes", "train", str(data))
    assert source.lengths.tolist() == [TAKES.num_frames]
    assert source.schema == "ibug_68"
    with pytest.raises(UserError, match="test"):
        VideoSource("moving_faces/takes", "test", str(data))


def test_a_cut_is_a_part_of_its_take_forwards_or_backwards(data):
    takes, name = Takes("moving_faces/takes", "train[:90%]", str(data), 4), taken(data)
    assert name in takes
    whole = takes.source.annotation(0)["landmarks"]
    pictures, speeds = list(takes.source.frames(0)), set()
    for seed in range(12):
        frames, landmarks, _ = takes.cut(name, np.random.default_rng(seed))
        numbers = [int(np.abs(whole - points).sum(axis=(1, 2)).argmin()) for points in landmarks]
        np.testing.assert_array_equal(landmarks, whole[numbers])
        np.testing.assert_array_equal(frames, [pictures[number] for number in numbers])
        (speed,) = set(np.diff(numbers))
        speeds.add(int(speed))
    assert speeds == {way * speed for way in (1, -1) for speed in range(1, FASTEST + 1)}


def test_clips_of_takes_change_their_shape_and_those_of_stills_do_not(data):
    own, (other,) = taken(data), set(batch(data)[0]) - {taken(data)}
    acting = batch(data, take_probability=1.0)[0]
    assert change_of_shape(acting[own]) > 0.01
    assert change_of_shape(acting[other]) < 1e-4, "no take was made of it"
    at_rest = batch(data, take_probability=0.0)[0]
    assert max(map(change_of_shape, at_rest.values())) < 1e-4


@pytest.mark.parametrize("share", [0.0, 0.5], ids=["stills", "takes"])
def test_the_same_seed_makes_the_same_clips_from_any_batch_on(data, share):
    whole = list(itertools.islice(batches(data, take_probability=share), 5))
    resumed = itertools.islice(batches(data, first_batch=3, take_probability=share), 2)
    for one, same in zip(whole[3:], resumed, strict=True):
        for a, b in zip(one, same, strict=True):
            np.testing.assert_array_equal(a, b)


def test_takes_that_are_missing_or_too_short_are_named(data, tmp_path):
    with pytest.raises(UserFileNotFoundError, match="ldeq build moving_faces/takes"):
        Takes("moving_faces/takes", "train", str(tmp_path), 4)
    with pytest.raises(UserError, match="num_frames is 13.*have 12 frames"):
        batch(data, num_frames=13)
