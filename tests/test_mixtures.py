"""Training on several data sets: shares, order, resuming, landmarks of another schema."""

import itertools

import build
import cv2
import numpy as np
import pytest

from ldeq_jax.data.augment import AugmentConfig
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import eval_batches, train_iterator
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import IBUG_IN_WFLW

SIZE = 16
NUMBERS = {"ibug_68": 68, "wflw_98": 98, "fgnet_68": 68}
COLOURS = {"ibug_68": 40, "wflw_98": 120, "fgnet_68": 200}
SAME = AugmentConfig(
    translate_probability=0,
    rotate_probability=0,
    flip_probability=0,
    blur_probability=0,
    occlude_probability=0,
)


def labels(number, count):
    """Landmarks that tell their own number: on a line, in order."""
    x = np.linspace(10, 90, count)
    return np.stack([x, 50 + 10 * np.sin(x + number)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set of each schema, whose pictures have a colour of their own."""
    root = tmp_path_factory.mktemp("mixture")
    for schema, count in NUMBERS.items():
        folder = root / schema
        (folder / "images").mkdir(parents=True)
        names = [f"{number}.png" for number in range(5)]
        for name in names:
            picture = np.full((100, 100, 3), COLOURS[schema], np.uint8)
            cv2.imwrite(str(folder / "images" / name), picture)
        landmarks = np.stack([labels(number, count) for number in range(5)])
        np.savez(folder / "landmarks.npz", names=names, landmarks=landmarks, splits=["train"] * 5)
        flags = [f"--manual_dir={folder}", f"--data_dir={root}", f"--schema={schema}"]
        assert build.main([f"faces/{schema}", *flags]) == 0
    return root


def config(data, *also, **settings):
    return DataConfig(
        name="faces/ibug_68",
        data_dir=str(data),
        also=also,
        **{"batch_size": 10, "crop": "none", **settings},
    )


def take(settings, count, **options):
    return list(itertools.islice(train_iterator(settings, SAME, SIZE, **options), count))


def sources(batches):
    """The colour of each row."""
    return np.concatenate([batch.image for batch in batches])[:, SIZE // 2, SIZE // 2, 0]


def test_rows_come_in_their_shares(data):
    found = sources(take(config(data, "faces/wflw_98:train:.3"), 20))
    assert (found == COLOURS["wflw_98"]).mean() == pytest.approx(0.3, abs=0.01)
    assert (found == COLOURS["ibug_68"]).mean() == pytest.approx(0.7, abs=0.01)


def test_an_epoch_of_each_data_set_holds_each_face_once(data):
    batches = take(config(data, "faces/wflw_98:train:.5"), 1)
    index = np.concatenate([batch.index for batch in batches])
    assert sorted(index.tolist()) == sorted([*range(5), *range(5)])


def test_landmarks_of_wflw_become_those_of_ibug(data):
    (batch,) = take(config(data, "faces/wflw_98:train:.5"), 1)
    rows = batch.image[:, SIZE // 2, SIZE // 2, 0] == COLOURS["wflw_98"]
    found = 100 * batch.landmarks[rows]  # the crop is the whole picture, of 100 pixels
    found = found[np.argsort(found[:, 0, 1])]
    expected = np.stack([labels(number, 98)[list(IBUG_IN_WFLW)] for number in range(5)])
    np.testing.assert_allclose(found, expected[np.argsort(expected[:, 0, 1])], atol=1e-4)


def test_a_data_set_of_wflw_alone_serves_a_model_of_ibug(data):
    settings = config(data, schema="ibug_68")
    settings = settings.__class__(**{**vars(settings), "name": "faces/wflw_98"})
    (batch,) = eval_batches(settings, "train", SIZE)
    assert batch.landmarks.shape == (10, 68, 2)
    assert take(settings, 1)[0].landmarks.shape == (10, 68, 2)


def test_a_mixture_can_be_resumed_and_sharded(data):
    settings = config(data, "faces/wflw_98:train:.3")
    whole = take(settings, 6)
    for one, other in zip(whole[4:], take(settings, 2, first_batch=4), strict=True):
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
    shards = [take(settings, 6, shard_index=s, shard_count=2) for s in range(2)]
    for batch, *parts in zip(whole, *shards, strict=True):
        for s, part in enumerate(parts):
            np.testing.assert_array_equal(batch.landmarks[s::2], part.landmarks)


def test_landmarks_of_another_meaning_are_refused(data):
    with pytest.raises(UserError, match=r"fgnet_68 has other landmarks than faces/ibug_68"):
        take(config(data, "faces/fgnet_68:train:.3"), 1)


@pytest.mark.parametrize(
    "entry",
    ["faces/mine", "faces/mine:train", "faces/mine:train:2", ":train:.2", "mine::.1", "a:b:c"],
)
def test_an_entry_of_another_form_is_named(entry):
    with pytest.raises(UserError, match="NAME:SPLIT:SHARE.*got"):
        DataConfig(name="mine", also=(entry,))


def test_shares_must_leave_something():
    with pytest.raises(UserError, match="leave nothing of mine"):
        DataConfig(name="mine", also=("a:train:.5", "b:train:.5"))
