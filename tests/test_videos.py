"""Videos of a data set: each frame comes once and in order, for any batch and chunk size."""

import collections
import itertools
import json
import re
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from videos import VideoBuilder

from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.sources import FaceSource, VideoSource
from ldeq_jax.data.videos import VideoBatch, video_chunks
from ldeq_jax.errors import UserError
from ldeq_jax.face import crops, geometry

HEIGHT, WIDTH, SIZE, POINTS = 72, 96, 32, 7
LENGTHS = {"a": 5, "b": 12, "c": 9, "d": 1, "e": 12, "f": 7, "g": 3}
EASY = {"a", "b", "c"}


def clip(path, length):
    """An mp4 file: x is red, y is blue and the number of the frame is green."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (WIDTH, HEIGHT))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for t in range(length):
        writer.write(np.stack([2 * y, np.full_like(x, 15 * t + 30), 2 * x], axis=-1).astype("u1"))
    writer.release()
    return path.read_bytes()


def labels(name, length):
    """Landmarks and boxes of a face that moves; some are lost."""
    rng = np.random.default_rng(ord(name))
    middle = [WIDTH / 2, HEIGHT / 2] + rng.uniform(-2, 2, (length, 1, 2)).cumsum(axis=0)
    landmarks = (middle + rng.uniform(-15, 15, (length, POINTS, 2))).astype(np.float32)
    boxes = np.concatenate([landmarks.min(axis=1) - [0, 9], landmarks.max(axis=1)], axis=-1)
    if name == "b":
        boxes[[0, 1, 5]] = np.nan
        landmarks[[1, 4]] = np.nan
    if name == "e":
        boxes[7, 2:] = boxes[7, :2]
        landmarks[9:] = landmarks[9:, :1]
    return landmarks, boxes.astype(np.float32)


class ToyVideos(VideoBuilder):
    """Such clips in the layout that the real builders write."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES = {
        "video": tfds.features.Tensor(shape=(), dtype=np.object_),
        "landmarks": tfds.features.Tensor(shape=(None, POINTS, 2), dtype=np.float32),
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "mask": tfds.features.Tensor(shape=(None,), dtype=np.bool_),
        "fps": tfds.features.Tensor(shape=(), dtype=np.float32),
        "attributes": tfds.features.Tensor(shape=(2,), dtype=np.bool_),
        "name": tfds.features.Text(),
    }

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(self.FEATURES),
            metadata=tfds.core.MetadataDict(schema="own_7", attribute_names=["easy", "hard"]),
        )

    def _split_generators(self, dl_manager):
        splits = {
            "test": LENGTHS,
            "cut": {"h": 6},
            "damaged": {"k": 6},
            "short": {"i": 6},
            "uneven": {"j": 6},
        }
        return {split: self._generate_examples(split, splits[split]) for split in splits}

    def _generate_examples(self, split, lengths):
        for name, length in lengths.items():
            video = clip(self.pkg_dir_path / f"{name}.mp4", length)
            landmarks, boxes = labels(name, length + 2 if split == "short" else length)
            if split == "cut":
                video = video[: len(video) // 2]
            if split == "damaged":  # frame 2
                place = [found.start() for found in re.finditer(b"\x00\x00\x01\xb6", video)][2]
                video = video[:place] + b"\xff" * 4 + video[place + 4 :]
            example = {
                "video": video,
                "landmarks": landmarks,
                "boxes": boxes[1:] if split == "uneven" else boxes,
                "mask": np.isfinite(landmarks).all(axis=(1, 2)),
                "fps": 12.5,
                "attributes": [name in EASY, name not in EASY],
                "name": name,
            }
            yield name, {field: example[field] for field in self.FEATURES}


class ToyStills(tfds.core.GeneratorBasedBuilder):
    """No videos."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES = {"name": tfds.features.Text()}
    _info = ToyVideos._info

    def _split_generators(self, dl_manager):
        return {"test": iter([("a", {"name": "a"})])}

    def _generate_examples(self):
        """Not used."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    for builder in (ToyVideos, ToyStills):
        builder.pkg_dir_path = folder  # TFDS looks for a README and tags next to the builder
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def source(data_dir):
    return VideoSource("toy_videos", "test", str(data_dir))


@pytest.fixture(scope="module")
def older_dir(data_dir, tmp_path_factory):
    """The same videos as they were built before the metadata listed them."""
    folder = shutil.copytree(data_dir, tmp_path_factory.mktemp("older") / "tfds")
    (file,) = folder.glob("toy_videos/*/metadata.json")
    about = json.loads(file.read_text())
    assert about.pop("videos")
    file.write_text(json.dumps(about))
    return folder


@pytest.fixture
def loaded(monkeypatch):
    """How often each video is loaded, by its name, and how many videos are decoded."""
    counts, example = collections.Counter(), VideoSource._example

    def counting(self, index):
        found = example(self, index)
        counts[found["name"].decode()] += 1
        return found

    monkeypatch.setattr(VideoSource, "_example", counting)
    return counts


@pytest.fixture(scope="module")
def films(data_dir):
    """The decoded frames of each clip, by its name."""
    found = {}
    for name in LENGTHS:
        capture = cv2.VideoCapture(str(data_dir / f"{name}.mp4"))
        frames = []
        while (answer := capture.read())[0]:
            frames.append(np.ascontiguousarray(answer[1][..., ::-1]))
        capture.release()
        found[name] = frames
    return found


def settings(data_dir, **fields):
    return DataConfig(name="toy_videos", data_dir=str(data_dir), **({"batch_size": 3} | fields))


def chunks_of(config, split, image_size=SIZE, **options):
    source = VideoSource(config.name, split, config.data_dir)
    return video_chunks(source, config, image_size, **options)


def expected(source, films, index, crop_of):
    """Image, frame_from_crop, mask and reset of each frame of a video; crop_of may give None."""
    video = source.annotation(index)
    known, rows = False, []
    for t, frame in enumerate(films[video["name"]]):
        crop_from_frame = crop_of(frame, video["boxes"][t], video["landmarks"][t])
        if crop_from_frame is None:
            rows.append((np.zeros((SIZE, SIZE, 3), np.uint8), np.eye(3), False, False))
        else:
            image = geometry.warp(frame, crop_from_frame, SIZE)
            rows.append((image, np.linalg.inv(crop_from_frame), True, not known))
        known = crop_from_frame is not None
    return rows


def by_box(frame, box, landmarks):
    usable = np.isfinite(box).all() and (box[2:] > box[:2]).all()
    return crops.crop_from_box(box, SIZE) if usable else None


def assert_holds(chunks, source, films, crop_of, chunk_frames):
    """The chunks hold each frame of each video of the source once, in order, and nothing else."""
    seen = []
    for _, group in itertools.groupby(chunks, lambda chunk: chunk.group):
        group = list(group)
        assert [chunk.start for chunk in group] == [chunk_frames * i for i in range(len(group))]
        assert [chunk.last for chunk in group] == [False] * (len(group) - 1) + [True]
        images, matrices, masks, resets = (
            np.concatenate([getattr(chunk, field) for chunk in group], axis=1)
            for field in ("image", "frame_from_crop", "mask", "reset")
        )
        for row, index in enumerate(group[0].index):
            assert all(chunk.index[row] == index for chunk in group)
            length = 0
            if index >= 0:
                seen.append(int(index))
                rows = expected(source, films, index, crop_of)
                length = len(rows)
                for t, (image, matrix, mask, reset) in enumerate(rows):
                    np.testing.assert_array_equal(images[row, t], image)
                    np.testing.assert_allclose(matrices[row, t], matrix, rtol=1e-6, atol=1e-6)
                    assert (masks[row, t], resets[row, t]) == (mask, reset)
            assert not masks[row, length:].any() and not resets[row, length:].any()
            assert not images[row, length:].any()
            assert (matrices[row, length:] == np.eye(3)).all()
    assert sorted(seen) == list(range(len(source)))


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for field, a, b in zip(one._fields, one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=field)


# Source ---------------------------------------------------------------------------------------


def test_the_source_yields_what_was_written(source):
    assert (len(source), source.schema) == (7, "own_7")
    assert source.attribute_names == ["easy", "hard"]
    names = set()
    for index in range(len(source)):
        video = source.annotation(index)
        name = video["name"]
        names.add(name)
        landmarks, boxes = labels(name, LENGTHS[name])
        np.testing.assert_array_equal(video["landmarks"], landmarks)
        np.testing.assert_array_equal(video["boxes"], boxes)
        np.testing.assert_array_equal(video["mask"], np.isfinite(landmarks).all(axis=(1, 2)))
        np.testing.assert_array_equal(video["attributes"], [name in EASY, name not in EASY])
        assert video["fps"] == 12.5 and "video" not in video
    assert names == LENGTHS.keys()


def test_frames_are_the_drawn_ones_in_order_and_rgb(source, films):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for index in range(len(source)):
        name = source.annotation(index)["name"]
        frames = list(source.frames(index))
        assert len(frames) == LENGTHS[name]
        np.testing.assert_array_equal(frames, films[name])
        for t, frame in enumerate(frames):
            drawn = np.stack([2 * x, np.full_like(x, 15 * t + 30), 2 * y], axis=-1)
            assert frame.dtype == np.uint8 and np.abs(frame - drawn).mean() < 4


def test_several_videos_are_read_side_by_side(source, films):
    together = zip(*(source.frames(index) for index in range(len(source))), strict=False)
    for index, frame in enumerate(next(together)):
        np.testing.assert_array_equal(frame, films[source.annotation(index)["name"]][0])


PARTS = ["test", "test[2:5]", "cut+test[:2]+test[6:]", "short+test[-1:]"]


@pytest.mark.parametrize("split", PARTS)
def test_names_and_lengths_are_known_without_loading_a_video(data_dir, loaded, split):
    source = VideoSource("toy_videos", split, str(data_dir))
    names, lengths = source.names, source.lengths
    assert len(names) == len(lengths) == len(source) and not loaded
    found = [source.annotation(index) for index in range(len(source))]
    assert names == [video["name"] for video in found]
    assert lengths.tolist() == [len(video["mask"]) for video in found]


@pytest.mark.parametrize("split", PARTS)
def test_older_data_sets_are_read_once_for_them(data_dir, older_dir, loaded, split):
    source, older = (VideoSource("toy_videos", split, str(f)) for f in (data_dir, older_dir))
    assert older.names == source.names and older.lengths.tolist() == source.lengths.tolist()
    for index in range(len(older)):
        older.annotation(index)
    assert loaded == dict.fromkeys(source.names, 1)


def test_a_list_that_does_not_fit_the_videos_is_refused(data_dir, tmp_path):
    folder = shutil.copytree(data_dir, tmp_path / "tfds")
    (file,) = folder.glob("toy_videos/*/metadata.json")
    about = json.loads(file.read_text())
    listed = about["videos"]["test"]
    for wrong in (listed[1:], None, [1] * 7, {"a": 1}):
        file.write_text(json.dumps(about | {"videos": about["videos"] | {"test": wrong}}))
        with pytest.raises(UserError, match="does not list the videos of .*test: build it again"):
            VideoSource("toy_videos", "test", str(folder))
    longer = [[name, length + (name == "c")] for name, length in listed]
    file.write_text(json.dumps(about | {"videos": about["videos"] | {"test": longer}}))
    source = VideoSource("toy_videos", "test", str(folder))
    with pytest.raises(UserError, match="differ in .*'mask': 9, 'metadata': 10"):
        source.annotation(source.names.index("c"))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "cut",
            "video 0 of toy_videos:cut, h is a video that was not finished .*build the data set",
        ),
        ("short", "video 0 of toy_videos:short, i: only 6 of 8 labelled frames"),
        ("uneven", "video 0 of toy_videos:uneven, j: .*'boxes': 5, 'mask': 6"),
    ],
)
def test_bad_videos_are_named(data_dir, split, message):
    with pytest.raises(ValueError, match=message):
        list(VideoSource("toy_videos", split, str(data_dir)).frames(0))
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            list(chunks_of(settings(data_dir), split, chunk_frames=3))


def test_a_frame_that_cannot_be_decoded_is_a_lost_face(data_dir):
    frames = list(VideoSource("toy_videos", "damaged", str(data_dir)).frames(0))
    assert [frame is None for frame in frames] == [t == 2 for t in range(6)]
    config = settings(data_dir, crop="none", batch_size=1)
    (chunk,) = chunks_of(config, "damaged", chunk_frames=6)
    assert chunk.mask[0].tolist() == [t != 2 for t in range(6)]
    assert chunk.reset[0].tolist() == [t in (0, 3) for t in range(6)]
    assert not chunk.image[0, 2].any() and chunk.image[0, 3].any()


def test_an_error_does_not_turn_into_an_end(data_dir):
    chunks = iter(chunks_of(settings(data_dir), "short", chunk_frames=5))
    assert next(chunks).mask[0].all()
    for _ in range(2):
        with pytest.raises(ValueError, match="only 6 of 8"):
            next(chunks)


def test_stills_are_no_videos_and_videos_no_stills(data_dir):
    with pytest.raises(ValueError, match="toy_stills holds faces, not videos.*FaceSource"):
        VideoSource("toy_stills", "test", str(data_dir))
    with pytest.raises(ValueError, match="toy_videos holds videos, not faces.*VideoSource"):
        FaceSource("toy_videos", "test", str(data_dir))
    with pytest.raises(ValueError, match="'valid'.*Videos in its splits: {'test': 7"):
        VideoSource("toy_videos", "valid", str(data_dir))


# Chunks ---------------------------------------------------------------------------------------


def test_a_chunk_is_what_it_promises(data_dir):
    chunk = next(iter(chunks_of(settings(data_dir), "test", chunk_frames=5)))
    assert isinstance(chunk, VideoBatch)
    shapes = [(array.dtype.name, array.shape) for array in chunk[:6]]
    assert shapes == [
        ("uint8", (3, 5, SIZE, SIZE, 3)),
        ("float32", (3, 5, 3, 3)),
        ("bool", (3, 5)),
        ("bool", (3, 5)),
        ("float32", (3, 5)),
        ("int32", (3,)),
    ]
    assert chunk[6:] == (0, 0, False)
    np.testing.assert_allclose(chunk.interval[chunk.mask], 1 / 12.5)


@pytest.mark.parametrize(
    ("batch_size", "chunk_frames"), [(1, 1), (1, 4), (3, 5), (2, 12), (7, 100), (16, 3)]
)
def test_every_frame_comes_once_however_it_is_cut(
    data_dir, source, films, batch_size, chunk_frames
):
    config = settings(data_dir, batch_size=batch_size)
    chunks = list(chunks_of(config, "test", chunk_frames=chunk_frames))
    assert_holds(chunks, source, films, by_box, chunk_frames)
    assert {chunk.image.shape[:2] for chunk in chunks} == {(batch_size, chunk_frames)}


def test_each_video_is_loaded_once_for_its_frames_and_its_annotation(data_dir, loaded):
    source = VideoSource("toy_videos", "test", str(data_dir))
    for chunk in video_chunks(source, settings(data_dir), SIZE, chunk_frames=4):
        for index in chunk.index[chunk.index >= 0]:
            assert source.annotation(int(index))["name"] == source.names[index]
    assert loaded == dict.fromkeys(LENGTHS, 1)


def test_videos_come_longest_first_and_are_padded_little(data_dir, source):
    chunks = list(chunks_of(settings(data_dir), "test", chunk_frames=4))
    groups = {chunk.group: chunk.index for chunk in chunks}
    order = [int(index) for group in sorted(groups) for index in groups[group]]
    names = [source.annotation(index)["name"] for index in order[:7]]
    lengths = [LENGTHS[name] for name in names]
    assert lengths == sorted(lengths, reverse=True) and order[7:] == [-1, -1]
    assert order[0] < order[1]  # both of 12 frames
    assert [chunk.group for chunk in chunks] == [0, 0, 0, 1, 1, 2]


def test_lost_faces_are_masked_and_followed_by_a_reset(data_dir, source):
    chunks = list(chunks_of(settings(data_dir, batch_size=7), "test", chunk_frames=2))
    mask, reset = (
        np.concatenate([getattr(chunk, field) for chunk in chunks], axis=1)
        for field in ("mask", "reset")
    )
    names = [source.annotation(index)["name"] for index in chunks[0].index]
    wanted = {"b": ([0, 1, 5], [2, 6]), "e": ([7], [0, 8]), "c": ([9, 10, 11], [0])}
    for name, (lost, resets) in wanted.items():
        row = names.index(name)
        np.testing.assert_array_equal(np.flatnonzero(~mask[row]), lost)
        np.testing.assert_array_equal(np.flatnonzero(reset[row]), resets)


@pytest.mark.parametrize("crop", ["box", "extent", "landmarks", "none"])
def test_each_rule_crops_by_what_it_says(data_dir, source, films, crop):
    def crop_of(frame, box, landmarks):
        if crop == "none":
            return crops.crop_whole(WIDTH, HEIGHT, SIZE)
        if crop == "box":
            usable = np.isfinite(box).all() and (box[2:] > box[:2]).all()
            return crops.crop_from_box(box, SIZE, 1.5) if usable else None
        points = box.reshape(2, 2) if crop == "extent" else landmarks
        usable = np.isfinite(points).all() and np.ptp(points, axis=0).any()
        return crops.crop_from_landmarks(points, SIZE, 1.5) if usable else None

    config = settings(data_dir, crop=crop, crop_scale=1.5)
    chunks = list(chunks_of(config, "test", chunk_frames=6))
    assert_holds(chunks, source, films, crop_of, 6)
    shown = sum(int(chunk.mask.sum()) for chunk in chunks)
    lost = {"box": 4, "extent": 4, "landmarks": 5, "none": 0}
    assert shown == sum(LENGTHS.values()) - lost[crop]


def test_shards_partition_the_batches(data_dir):
    def load(**shard):
        config = settings(data_dir, batch_size=4)
        return list(chunks_of(config, "test", chunk_frames=5, **shard))

    parts = zip(*(load(shard_index=s, shard_count=2) for s in range(2)), strict=True)
    woven = []
    for pair in parts:
        assert pair[0][6:] == pair[1][6:]
        arrays = (
            np.stack(rows, axis=1) for rows in zip(*(chunk[:6] for chunk in pair), strict=True)
        )
        woven.append(VideoBatch(*(a.reshape(4, *a.shape[2:]) for a in arrays), *pair[0][6:]))
    assert_same(woven, load())


def test_more_shards_than_videos_still_yield_equal_chunks(data_dir):
    counts = []
    for shard in range(4):
        config = settings(data_dir, batch_size=4)
        shards = {"shard_index": shard, "shard_count": 4}
        chunks = list(chunks_of(config, "test[:2]", chunk_frames=4, **shards))
        counts.append((len(chunks), max(chunk.index[0] for chunk in chunks) >= 0))
    assert len({count for count, _ in counts}) == 1
    assert [real for _, real in counts] == [True, True, False, False]


def test_workers_change_only_the_order(data_dir):
    def load(**fields):
        return list(chunks_of(settings(data_dir, **fields), "test", chunk_frames=4))

    plain = load(batch_size=2)
    assert_same(load(batch_size=2, num_workers=1), plain)
    # Two workers take turns, and the other goes on when one is through.
    queues = [[chunk for chunk in plain if chunk.group % 2 == w] for w in range(2)]
    assert len(queues[0]) != len(queues[1])
    turns = [chunk for turn in itertools.zip_longest(*queues) for chunk in turn if chunk]
    assert_same(load(batch_size=2, num_workers=2), turns)


@pytest.mark.slow
def test_a_worker_without_a_group_does_no_harm(data_dir):
    plain, other = (
        list(chunks_of(settings(data_dir, batch_size=7, num_workers=n), "test")) for n in (0, 2)
    )
    assert_same(other, plain)


def test_each_loop_starts_again_and_finds_the_same(data_dir):
    chunks = chunks_of(settings(data_dir), "test", chunk_frames=4)
    assert_same(list(chunks), list(chunks))


def test_resuming_changes_nothing(data_dir):
    chunks = chunks_of(settings(data_dir), "test", chunk_frames=4)
    whole = list(chunks)
    for taken in (0, 1, 3, 5, len(whole)):
        iterator = iter(chunks)
        assert_same(list(itertools.islice(iterator, taken)), whole[:taken])
        state = json.loads(json.dumps(iterator.get_state()))
        iterator.close()
        resumed = iter(chunks)
        resumed.set_state(state)
        assert_same(list(resumed), whole[taken:])


def test_no_more_is_decoded_than_a_few_chunks_ahead(data_dir, monkeypatch):
    decoded, frames = [], VideoSource.frames

    def counted(self, index):
        for frame in frames(self, index):
            decoded.append(index)
            yield frame

    monkeypatch.setattr(VideoSource, "frames", counted)
    config, before = settings(data_dir, batch_size=2), set(threading.enumerate())
    iterator = iter(chunks_of(config, "test", chunk_frames=2))
    next(iterator)
    deadline = time.monotonic() + 5
    while len(decoded) < 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(decoded) == 3 * 2 * 2  # three chunks: in hand, waiting, and made
    (thread,) = set(threading.enumerate()) - before
    iterator.close()
    assert not thread.is_alive()


def test_bad_settings_are_refused(data_dir):
    config = settings(data_dir)
    for wrong in ({"chunk_frames": 0}, {"image_size": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be 1 or more"):
            chunks_of(config, "test", **wrong)
    with pytest.raises(ValueError, match="must divide"):
        chunks_of(config, "test", shard_count=2)
    with pytest.raises(FileNotFoundError, match="ldeq build wflw_v --manual_dir"):
        VideoSource("wflw_v", "easy", str(data_dir))
