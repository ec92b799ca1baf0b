"""Faces from disk to batches: points stay on their pixels, order and chance are reproducible."""

import dataclasses
import io
import itertools
import json
import pathlib
import shutil

import cv2
import grain
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from ldeq_jax.data.augment import AugmentConfig, augment_face, random_motion, vary_pixels
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import LandmarkBatch, eval_batches, train_iterator
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.face import crops, geometry
from ldeq_jax.face.schema import IBUG_68, LandmarkSchema

HEIGHT, WIDTH, SIZE = 220, 240, 64
SHAPES = json.loads((pathlib.Path(__file__).parent / "goldens" / "mean_shapes.json").read_text())
NOTHING = {f"{change}_probability": 0.0 for change in ("translate", "rotate", "flip", "blur")}
NOTHING |= {"occlude_probability": 0.0}
STILL = AugmentConfig(**NOTHING)


def picture(number):
    """A picture that tells where each pixel is: red is x, green is y, blue its number."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x, y, np.full_like(x, number)], axis=-1).astype(np.uint8)


def face(number):
    """Landmarks and box of a face somewhere inside the picture."""
    rng = np.random.default_rng(number)
    points = 60 * np.array(SHAPES["ibug_68"]) + [WIDTH / 2, HEIGHT / 3]
    points = (points + rng.uniform(-15, 15, 2) + rng.normal(0, 1, (68, 2))).astype(np.float32)
    return points, np.concatenate([points.min(axis=0), points.max(axis=0)])


class ToyFaces(tfds.core.GeneratorBasedBuilder):
    """Such pictures in the layout that the real builders write."""

    VERSION = tfds.core.Version("1.9.0")
    SPLITS = {"train": range(11), "test": range(20, 27), "broken": range(30, 32)}

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "landmarks": tfds.features.Tensor(shape=(68, 2), dtype=np.float32),
                    "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "attributes": tfds.features.Tensor(shape=(2,), dtype=np.bool_),
                    "name": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(schema="ibug_68", attribute_names=["odd", "late"]),
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(numbers) for name, numbers in self.SPLITS.items()}

    def _generate_examples(self, numbers):
        for number in numbers:
            points, box = face(number)
            if number == 30:
                points[5] = np.nan
            if number == 31:
                box[2] = box[0]
            yield (
                number,
                {
                    "image": io.BytesIO(cv2.imencode(".png", picture(number)[..., ::-1])[1]),
                    "landmarks": points,
                    "box": box,
                    "attributes": np.array([number % 2, number > 5], bool),
                    "name": f"toy/{number}",
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    ToyFaces.pkg_dir_path = folder  # TFDS looks for a README and tags next to the builder
    tfds.disable_progress_bar()
    ToyFaces(data_dir=folder, file_format="array_record").download_and_prepare()
    (folder / "toy_faces" / "1.9.0").rename(folder / "toy_faces" / "1.10.0")
    (folder / "toy_faces" / "1.9.0").mkdir()  # older, and of no use
    return str(folder)


@pytest.fixture
def config(data_dir):
    return DataConfig(name="toy_faces", data_dir=data_dir, batch_size=4)


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for name, a, b in zip(one._fields, one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def assert_points_on_pixels(crop, points, frame_from_crop, landmarks, permutation):
    """Reads off the colours of a crop where each pixel and each landmark comes from."""
    size = len(crop)
    y, x = np.mgrid[:size, :size]
    grid = np.stack([x, y], axis=-1).reshape(-1, 2)
    place = geometry.transform_points(frame_from_crop, grid).reshape(size, size, 2)
    inside = (place > 3).all(axis=-1) & (place < [WIDTH - 4, HEIGHT - 4]).all(axis=-1)
    outside = (place < -3).any(axis=-1) | (place > [WIDTH + 2, HEIGHT + 2]).any(axis=-1)
    assert inside.mean() > 0.5
    # 0.6 of a crop pixel, for colours are whole numbers, or of a frame pixel if that is larger.
    atol = 0.6 * max(1, np.sqrt(abs(np.linalg.det(frame_from_crop))))
    np.testing.assert_allclose(crop[inside][:, :2], place[inside], atol=atol)
    assert not crop[outside].any()
    shown = ((points > 1) & (points < size - 2)).all(axis=-1)
    assert shown.sum() > 30
    at = points[shown].astype(np.float32)
    colors = cv2.remap(crop.astype(np.float32), at[:, 0], at[:, 1], cv2.INTER_LINEAR)
    expected = landmarks[list(permutation)][shown]
    np.testing.assert_allclose(colors.reshape(-1, 3)[:, :2], expected, atol=atol)


# Data set -------------------------------------------------------------------------------------


def test_the_source_yields_what_was_written(data_dir):
    source = FaceSource("toy_faces", "train", data_dir)
    assert len(source) == 11
    assert source.schema == "ibug_68"
    assert source.attribute_names == ["odd", "late"]
    names = set()
    for index in range(len(source)):
        item = source[index]
        number = int(item["name"].partition("/")[2])
        names.add(item["name"])
        points, box = face(number)
        np.testing.assert_array_equal(item["image"], picture(number))
        np.testing.assert_array_equal(item["landmarks"], points)
        np.testing.assert_array_equal(item["box"], box)
        np.testing.assert_array_equal(item["attributes"], [number % 2, number > 5])
        assert source.annotation(index).keys() == item.keys() - {"image"}
    assert names == {f"toy/{number}" for number in range(11)}


def test_parts_and_sums_of_splits(data_dir):
    assert len(FaceSource("toy_faces", "train[:3]+test", data_dir)) == 3 + 7


def test_the_data_dir_may_come_from_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert len(FaceSource("toy_faces", "test")) == 7


def test_the_default_config_is_found(data_dir, tmp_path):
    (tmp_path / "wflw" / ".config").mkdir(parents=True)
    about = tmp_path / "wflw" / ".config" / "metadata.json"
    about.write_text(json.dumps({"default_config_name": "original"}))
    (tmp_path / "wflw" / "original").symlink_to(f"{data_dir}/toy_faces")
    for name in ("wflw", "wflw/original"):
        assert len(FaceSource(name, "test", str(tmp_path))) == 7


def test_a_data_set_not_built_tells_how(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ldeq build wflw/precropped --manual_dir"):
        FaceSource("wflw/precropped", "train", str(tmp_path))


@pytest.mark.parametrize("split", ["valid", "train+valid", "train[:0]"])
def test_a_split_that_is_not_there_or_empty(data_dir, split):
    with pytest.raises(ValueError, match="'train': 11, 'test': 7") as caught:
        FaceSource("toy_faces", split, data_dir)
    reason = "no faces" if "0" in split else "Unknown split 'valid'"
    assert repr(split) in str(caught.value) and reason in str(caught.value)


def test_bad_faces_are_named(config, data_dir):
    source = FaceSource("toy_faces", "broken", data_dir)
    order = [index for index in range(2) if _name_or_error(source, index) == "toy/31"]
    with pytest.raises(ValueError, match="toy/30: landmarks that are not finite"):
        source[1 - order[0]]
    with pytest.raises(ValueError, match="toy/30: landmarks that are not finite"):
        take(eval_batches(config, "broken", SIZE), 1)
    only = dataclasses.replace(config, train_split=f"broken[{order[0]}:{order[0] + 1}]")
    with pytest.raises(ValueError, match="toy/31: the face box .* has no area"):
        take(train_iterator(only, None, SIZE), 1)
    with pytest.raises(ValueError, match="of any face of toy_faces:broken.*: their eye corners"):
        take(eval_batches(only, only.train_split, SIZE), 1)


@pytest.mark.parametrize("crop", ["box", "landmarks", "none"])
def test_evaluation_masks_faces_without_a_size(config, monkeypatch, crop):
    annotation = FaceSource._face

    def degenerate(self, index):
        face, data = annotation(self, index)
        number = int(face["name"].removeprefix("toy/"))
        if number in (20, 24):
            if crop == "box":
                face["box"] = face["box"][[0, 1, 0, 3]]
            else:
                face["landmarks"] = np.zeros_like(face["landmarks"])
        if number == 25:
            face["landmarks"] = face["landmarks"].copy()
            face["landmarks"][45] = face["landmarks"][36]
        return face, data

    config = dataclasses.replace(config, crop=crop)
    plain = {int(i): b for b in eval_batches(config, "test", SIZE) for i in b.index}
    assert set(plain) == {-1, *range(7)}
    monkeypatch.setattr(FaceSource, "_face", degenerate)
    source = FaceSource("toy_faces", "test", config.data_dir)
    lost = [i for i in range(7) if source.annotation(i)["name"][4:] in ("20", "24", "25")]
    batches = list(eval_batches(config, "test", SIZE))
    indices = np.concatenate([batch.index for batch in batches])
    np.testing.assert_array_equal(indices, [-1 if i in lost or i > 6 else i for i in range(8)])
    np.testing.assert_array_equal(np.concatenate([b.mask for b in batches]), indices >= 0)
    for batch in batches:
        assert np.ptp(batch.landmarks, axis=1).min() > 0.1


def _name_or_error(source, index):
    try:
        return source.annotation(index)["name"]
    except ValueError as error:
        return str(error)


# Augmentation ---------------------------------------------------------------------------------


MOTIONS = ("translate", "scale", "rotate", "flip")


@pytest.mark.parametrize("motions", [(), *((motion,) for motion in MOTIONS), MOTIONS], ids=str)
def test_points_follow_pixels(motions):
    config = AugmentConfig(**NOTHING | {f"{motion}_probability": 1.0 for motion in motions})
    for seed in range(6):
        landmarks, box = face(seed)
        plain = crops.crop_from_box(box, SIZE)
        crop, points, varied = augment_face(
            picture(seed),
            landmarks,
            plain,
            np.random.default_rng(seed),
            config=config,
            schema=IBUG_68,
            size=SIZE,
        )
        assert (np.abs(varied - plain).max() > 1e-3) == bool(motions)
        assert (np.linalg.det(varied) < 0) == ("flip" in motions)
        permutation = IBUG_68.flip_permutation if "flip" in motions else range(68)
        assert_points_on_pixels(crop, points, geometry.inverse(varied), landmarks, permutation)


def test_mirroring_is_exact_and_its_own_inverse():
    config = AugmentConfig(**{**NOTHING, "flip_probability": 1.0})
    motion, mirrored = random_motion(config, SIZE, np.random.default_rng(0))
    assert mirrored
    np.testing.assert_array_equal(motion @ motion, np.eye(3))
    landmarks, box = face(0)
    plain = crops.crop_from_box(box, SIZE)
    fields = {"rng": np.random.default_rng(0), "schema": IBUG_68, "size": SIZE}
    crop, points, _ = augment_face(picture(0), landmarks, plain, config=config, **fields)
    unchanged, before, _ = augment_face(picture(0), landmarks, plain, config=STILL, **fields)
    np.testing.assert_array_equal(crop, unchanged[:, ::-1])
    back, twice, _ = augment_face(crop, points, np.eye(3), config=config, **fields)
    np.testing.assert_array_equal(back, unchanged)
    np.testing.assert_allclose(twice, before, atol=1e-9)


def test_motion_keeps_to_its_limits():
    config = AugmentConfig(scale_probability=1.0)
    rng = np.random.default_rng(0)
    draws = [random_motion(config, 256, rng) for _ in range(400)]
    motions = np.stack([motion for motion, _ in draws])
    mirrored = np.array([flip for _, flip in draws])
    assert abs(mirrored.mean() - 0.5) < 0.1
    np.testing.assert_array_equal(np.linalg.det(motions) < 0, mirrored)
    zoom = np.sqrt(np.abs(np.linalg.det(motions)))
    assert 1 / 1.2 - 1e-9 <= zoom.min() < 0.85 and 1.18 < zoom.max() <= 1.2 + 1e-9
    angle = np.rad2deg(np.arctan2(motions[:, 1, 0], motions[:, 1, 1]))
    assert 28 < np.abs(angle).max() <= 30
    middle = np.array([[127.5, 127.5]])
    shift = (geometry.transform_points(motions, middle)[:, 0] - middle) / zoom[:, None]
    assert 35 < np.linalg.norm(shift, axis=-1).max() <= 30 * np.sqrt(2)
    still = (shift == 0).all(axis=-1) | (np.abs(shift) < 1e-9).all(axis=-1)
    assert abs(still.mean() - 0.5) < 0.1


def changed(crop, seed=0, **change):
    return vary_pixels(crop, AugmentConfig(**NOTHING | change), np.random.default_rng(seed))


def test_each_change_of_pixels_does_what_it_says():
    rng = np.random.default_rng(0)
    crop = cv2.GaussianBlur(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), (0, 0), 1.0)
    before, mean, spread = crop.copy(), crop.mean(axis=(0, 1)), crop.std(axis=(0, 1))
    np.testing.assert_array_equal(changed(crop), crop)

    bright = changed(crop, brightness_probability=1.0).astype(int) - crop
    assert bright.std() < 0.01 and 1 < abs(bright.mean()) < 0.2 * 255

    contrast = changed(crop, contrast_probability=1.0)
    gain = contrast.std(axis=(0, 1)) / spread
    assert np.ptp(gain) < 0.02 and 0.01 < abs(gain.mean() - 1) < 0.3

    gains = changed(crop, color_probability=1.0).mean(axis=(0, 1)) / mean
    assert np.ptp(gains) > 0.01 and (np.abs(gains - 1) < 0.21).all()

    gray = changed(crop, grayscale_probability=1.0)
    assert not np.ptp(gray, axis=-1).any() and gray.std() > 1

    blurred = changed(crop, blur_probability=1.0)
    assert (blurred.std(axis=(0, 1)) < 0.95 * spread).all()
    np.testing.assert_allclose(blurred.mean(axis=(0, 1)), mean, atol=1)

    # On grey, for JPEG spoils fine colours at any quality; this seed draws a middling one.
    noisy = changed(gray, 8, jpeg_probability=1.0).astype(int)
    finest = changed(gray, 8, jpeg_probability=1.0, jpeg_quality=95).astype(int)
    assert 0.1 < 2 * np.abs(finest - gray).mean() < np.abs(noisy - gray).mean() < 10
    blue = np.zeros_like(crop) + np.uint8([0, 0, 255])
    np.testing.assert_allclose(changed(blue, jpeg_probability=1.0), blue, atol=3)

    np.testing.assert_array_equal(crop, before)


def test_the_rectangle_is_of_one_color_and_no_larger_than_said():
    crop = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    covered = np.zeros((SIZE, SIZE), int)
    for seed in range(200):
        hidden = (changed(crop, seed, occlude_probability=1.0) != crop).any(axis=-1)
        covered += hidden
        if hidden.any():
            rows, columns = (np.flatnonzero(hidden.any(axis=axis)) for axis in (1, 0))
            assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 0.4 * SIZE
            block = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            color = changed(crop, seed, occlude_probability=1.0)[block]
            assert (color == color[0, 0]).all()
    edges = covered[0], covered[-1], covered[:, 0], covered[:, -1]
    assert all(edge.any() for edge in edges)


@pytest.mark.parametrize("wrong", [{"flip_probability": 1.5}, {"rotate": -1}, {"blur": 5.0}])
def test_augmentation_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=f"AugmentConfig.{next(iter(wrong))} must lie in"):
        AugmentConfig(**wrong)


# Pipeline -------------------------------------------------------------------------------------


def test_a_batch_is_what_it_promises(config):
    batch = next(train_iterator(config, AugmentConfig(), SIZE))
    assert isinstance(batch, LandmarkBatch)
    assert batch.taught is None  # no teacher
    shapes = [(array.dtype.name, array.shape) for array in batch[:-1]]
    assert shapes == [
        ("uint8", (4, SIZE, SIZE, 3)),
        ("float32", (4, 68, 2)),
        ("bool", (4,)),
        ("float32", (4, 3, 3)),
        ("int32", (4,)),
    ]
    assert batch.mask.all()


@pytest.mark.parametrize("crop", ["box", "extent", "landmarks", "none"])
def test_batches_keep_points_on_pixels(data_dir, crop):
    config = DataConfig(
        name="toy_faces", data_dir=data_dir, batch_size=11, crop=crop, crop_scale=1.5
    )
    source = FaceSource("toy_faces", "train", data_dir)
    flips = AugmentConfig(**{**NOTHING, "flip_probability": 0.5, "rotate_probability": 0.5})
    for augment in (None, flips):
        batch = next(train_iterator(config, augment, 128))
        mirrored = np.linalg.det(batch.frame_from_crop) < 0
        assert mirrored.any() == (augment is not None) and not mirrored.all()
        for row in range(11):
            item = source[batch.index[row]]
            permutation = IBUG_68.flip_permutation if mirrored[row] else range(68)
            assert_points_on_pixels(
                batch.image[row],
                batch.landmarks[row] * 128,
                batch.frame_from_crop[row],
                item["landmarks"],
                permutation,
            )


@pytest.mark.parametrize("crop", ["box", "none"])
def test_rows_without_a_face_are_masked(data_dir, crop):
    config = DataConfig(name="toy_faces", data_dir=data_dir, batch_size=11, crop=crop)
    empty = AugmentConfig(**{**NOTHING, "empty_probability": 0.5})
    batch, same = (next(train_iterator(config, empty, SIZE)) for _ in range(2))
    assert 1 <= batch.mask.sum() <= 10
    np.testing.assert_array_equal(batch.image, same.image)
    plain = next(train_iterator(config, None, SIZE))
    faces = {index: image for index, image in zip(plain.index, plain.image, strict=True)}
    for index, image, mask in zip(batch.index, batch.image, batch.mask, strict=True):
        assert (image == faces[index]).all() == mask


def test_a_schema_of_ones_own_takes_the_place_of_the_data_sets(data_dir):
    own = LandmarkSchema(
        name="own", num_landmarks=68, flip_permutation=tuple(range(68)), eye_corners=(1, 1)
    )
    config = DataConfig(name="toy_faces", data_dir=data_dir, batch_size=4, schema=own)
    flip = AugmentConfig(**{**NOTHING, "flip_probability": 1.0})
    plain, mirrored = (next(train_iterator(config, augment, SIZE)) for augment in (None, flip))
    expected = plain.landmarks * [-1, 1] + [(SIZE - 1) / SIZE, 0]
    np.testing.assert_allclose(mirrored.landmarks, expected, atol=1e-6)
    wrong = DataConfig(name="toy_faces", data_dir=data_dir, schema="wflw_98")
    with pytest.raises(ValueError, match="do not fit wflw_98"):
        next(train_iterator(wrong, None, SIZE))


def test_a_data_set_may_describe_its_schema(config, tmp_path):
    source = FaceSource("toy_faces", "test", config.data_dir)
    assert (source.schema, source.num_landmarks) == ("ibug_68", 68)
    shutil.copytree(pathlib.Path(config.data_dir) / "toy_faces", tmp_path / "toy_faces")
    own = dataclasses.replace(IBUG_68, name="own", eye_corners=(39, 42))
    (metadata,) = tmp_path.glob("toy_faces/*/metadata.json")
    about = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(about | {"schema": dataclasses.asdict(own)}))
    assert FaceSource("toy_faces", "test", str(tmp_path)).schema == own
    elsewhere = dataclasses.replace(config, data_dir=str(tmp_path))
    assert len(list(eval_batches(elsewhere, "test", SIZE))) == 2
    metadata.write_text(json.dumps(about | {"schema": {"name": "own"}}))
    with pytest.raises(ValueError, match="describes no landmark schema"):
        FaceSource("toy_faces", "test", str(tmp_path))


def test_every_epoch_shows_each_face_once_in_a_new_order(config):
    batches = take(train_iterator(config, AugmentConfig(), SIZE), 11)  # four epochs of eleven
    epochs = np.concatenate([batch.index for batch in batches]).reshape(4, 11)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(11), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    images = np.concatenate([batch.image for batch in batches])
    assert len({image.tobytes() for image in images}) > 35  # a few are left unchanged by chance


def test_the_seed_decides(config, data_dir):
    other = DataConfig(name="toy_faces", data_dir=data_dir, batch_size=4, seed=1)
    first = take(train_iterator(config, AugmentConfig(), SIZE), 3)
    assert_same(first, take(train_iterator(config, AugmentConfig(), SIZE), 3))
    assert (first[0].image != next(train_iterator(other, AugmentConfig(), SIZE)).image).any()


def test_workers_and_resuming_change_nothing(config, data_dir):
    expected = take(train_iterator(config, AugmentConfig(), SIZE), 6)
    workers = DataConfig(name="toy_faces", data_dir=data_dir, batch_size=4, num_workers=2)
    for settings in (config, workers):
        iterator = train_iterator(settings, AugmentConfig(), SIZE)
        assert_same(take(iterator, 3), expected[:3])
        state = json.loads(json.dumps(iterator.get_state()))
        iterator.set_state(state)
        assert_same(take(iterator, 1), expected[3:4])
        iterator.close()
        resumed = train_iterator(settings, AugmentConfig(), SIZE)
        resumed.set_state(state)
        assert_same(take(resumed, 3), expected[3:])
        resumed.close()
    assert_same(take(train_iterator(config, AugmentConfig(), SIZE, first_batch=4), 2), expected[4:])


def test_an_error_in_a_worker_names_the_face(data_dir):
    config = DataConfig(name="toy_faces", data_dir=data_dir, batch_size=2, num_workers=1)
    with pytest.raises(ValueError, match="toy/3[01]"):
        take(eval_batches(config, "broken", SIZE), 1)


@pytest.mark.parametrize("evaluate", [False, True])
def test_shards_partition_the_batches(config, evaluate):
    def load(**shard):
        if evaluate:
            return list(eval_batches(config, "train", SIZE, **shard))
        return take(train_iterator(config, AugmentConfig(), SIZE, **shard), 5)

    whole, parts = load(), [load(shard_index=s, shard_count=2) for s in range(2)]

    def weave(one, other):
        return np.stack([one, other], axis=1).reshape(4, *one.shape[1:])

    woven = [jax.tree.map(weave, one, other) for one, other in zip(*parts, strict=True)]
    assert_same(woven, whole)


def test_evaluation_goes_in_order_and_pads_the_last_batch(config):
    batches = list(eval_batches(config, "train", SIZE))
    indices = np.concatenate([batch.index for batch in batches])
    np.testing.assert_array_equal(indices, [*range(11), -1])
    np.testing.assert_array_equal(np.concatenate([b.mask for b in batches]), indices >= 0)
    last = batches[-1]
    assert np.ptp(last.landmarks[-1], axis=0).min() > 0.1  # padding is a face: nothing divides by 0
    np.testing.assert_array_equal(last.image[-1], batches[0].image[0])
    assert_same(batches, list(eval_batches(config, "train", SIZE)))


def test_more_shards_than_faces_still_yield_equal_batches(config):
    counts = [
        [batch.mask.sum() for batch in eval_batches(config, "test[:2]", SIZE, **shard)]
        for shard in ({"shard_index": s, "shard_count": 4} for s in range(4))
    ]
    assert counts == [[1], [1], [0], [0]]


def test_bad_settings_are_refused(config, data_dir):
    with pytest.raises(ValueError, match="must divide"):
        train_iterator(config, None, SIZE, shard_count=3)
    with pytest.raises(ValueError, match="shard 2 of 2"):
        eval_batches(config, "test", SIZE, shard_index=2, shard_count=2)
    for wrong in ({"crop": "face"}, {"batch_size": 0}, {"num_workers": -1}, {"crop_scale": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DataConfig(name="toy_faces", data_dir=data_dir, **wrong)


def test_the_iterator_is_grains(config):
    assert isinstance(train_iterator(config, None, SIZE), grain.DatasetIterator)
