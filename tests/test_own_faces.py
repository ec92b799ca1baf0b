"""Laws of the builder of labelled faces of your own, `ldeq build faces/NAME`."""

import csv
import json

import build
import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from faces.faces import draw_splits

from ldeq_jax.data.sources import FaceSource
from ldeq_jax.errors import UserError

SIDE = 32
NAMES = [f"{person}_{number}.png" for person in "abcdefghij" for number in (1, 2)]
TOY = {"name": "toy", "num_landmarks": 4, "pairs": [[0, 1]], "eye_corners": [0, 1]}


@pytest.fixture
def root(tmp_path):
    """Pictures of ten people, two of each, and the schema of their landmarks."""
    folder = tmp_path / "in"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in NAMES:
        picture = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / name), picture)
    (folder / "toy.json").write_text(json.dumps(TOY))
    return folder


def points_of(names=NAMES):
    return np.random.default_rng(1).uniform(2, 30, (len(names), 4, 2)).round(3)


def write_arrays(root, names=NAMES, **arrays):
    np.savez(root / "landmarks.npz", names=names, landmarks=points_of(names), **arrays)


def write_table(root, change=lambda rows: rows, names=NAMES):
    header = ["name", *(f"{axis}{k}" for k in range(4) for axis in "xy")]
    rows = [[n, *p.ravel()] for n, p in zip(names, points_of(names), strict=True)]
    with open(root / "landmarks.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(change([header, *rows]))


def run(root, *flags, name="faces/mine"):
    folders = f"--manual_dir={root}", f"--data_dir={root.parent}"
    return build.main([name, *folders, f"--schema={root / 'toy.json'}", *flags])


def read(root):
    """All examples by split and name, pictures as stored."""
    builder = tfds.builder_from_directory(root.parent / "faces/mine/1.0.0")
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: {e["name"].decode(): e for e in builder.as_data_source(split, decoders=decoders)}
        for split in builder.info.splits
    }


def test_arrays_come_back_with_their_schema(root, capsys):
    write_arrays(root)
    assert run(root, "--person=(.*)_") == 0
    assert "people: 8 in train, 1 in validation, 1 in test" in capsys.readouterr().out
    examples = {n: e for split in read(root).values() for n, e in split.items()}
    assert sorted(examples) == NAMES
    for name, points in zip(NAMES, points_of(), strict=True):
        np.testing.assert_allclose(examples[name]["landmarks"], points, atol=1e-5)
        box = [*points.min(axis=0), *points.max(axis=0)]
        np.testing.assert_allclose(examples[name]["box"], box, atol=1e-5)
        assert examples[name]["image"] == (root / "images" / name).read_bytes()
    source = FaceSource("faces/mine", "train", str(root.parent))
    assert source.schema.flip_permutation == (1, 0, 2, 3) and source.schema.name == "toy"
    assert source[0]["image"].shape == (SIDE, SIDE, 3) and source.attribute_names == []


def test_a_table_is_the_same_as_arrays(root):
    write_arrays(root)
    run(root)
    arrays = read(root)
    (root / "landmarks.npz").unlink()
    write_table(root)
    run(root, "--overwrite")
    for split, examples in read(root).items():
        assert examples.keys() == arrays[split].keys()
        for name, example in examples.items():
            np.testing.assert_allclose(example["landmarks"], arrays[split][name]["landmarks"])


def test_a_person_is_in_one_split(root):
    write_arrays(root)
    run(root, "--person=(.*)_", "--validation_share=.3", "--test_share=.2", "--seed=3")
    people = {split: {name[0] for name in examples} for split, examples in read(root).items()}
    assert {split: len(found) for split, found in people.items()} == {
        "train": 5,
        "validation": 3,
        "test": 2,
    }
    assert len(set.union(*people.values())) == 10


def test_splits_of_the_file_are_kept(root, capsys):
    write_arrays(root, splits=["train", "hard"] * 10)
    run(root, "--person=(.*)_")
    assert {split: sorted(examples) for split, examples in read(root).items()} == {
        "train": NAMES[::2],
        "hard": NAMES[1::2],
    }
    assert "in more than one split: 10 (a, b, c, ...)" in capsys.readouterr().out


def test_faces_of_one_picture_are_numbered_and_stay_together(root, capsys):
    names = [NAMES[0], NAMES[0], *NAMES[1:-1]]
    write_table(root, names=names)
    assert run(root, "--validation_share=.5", "--test_share=0") == 0
    examples = read(root)
    (split,) = (s for s in examples if f"{NAMES[0]}#2" in examples[s])
    assert f"{NAMES[0]}#3" in examples[split] and NAMES[0] not in examples[split]
    assert f"without landmarks: 1 ({NAMES[-1]})" in capsys.readouterr().out


def test_people_keep_their_split_when_others_are_added():
    shares = {"validation": 0.1, "test": 0.2}
    people = [f"{n:03}" for n in range(200)]
    few, many = draw_splits(people[:180], shares, seed=0), draw_splits(people, shares, seed=0)
    counts = [list(many.values()).count(split) for split in ("train", "validation", "test")]
    assert counts == [140, 20, 40]
    assert np.mean([few[person] == many[person] for person in few]) > 0.9
    assert draw_splits(people, shares, seed=1) != many
    assert sorted(draw_splits("abc", shares, 0).values()) == ["test", "train", "validation"]
    assert set(draw_splits("abc", {"test": 0.0}, 0).values()) == {"train"}


def with_row(*values):
    """Changes the first values of the second line, or its end."""

    def change(rows):
        return [rows[0], [*values, *rows[1][len(values) :]], *rows[2:]]

    return change


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing picture", with_row("gone_1.png")),
        ("no person in the name", with_row("gone.png")),
        ("not a number", with_row(NAMES[0], "1.2.3")),
        ("NaN or infinite number", with_row(NAMES[0], "nan")),
        ("landmark far outside the picture", with_row(NAMES[0], 2 * SIDE + 1)),
        ("empty box", with_row(NAMES[0], *[3] * 8)),
        ("not a number", lambda rows: [rows[0], rows[1][:-1], *rows[2:]]),
        ("wrong number of values", lambda rows: [rows[0], [*rows[1], 5], *rows[2:]]),
    ],
)
def test_a_bad_face_is_named_and_the_rest_kept(root, capsys, kind, change):
    write_table(root, change)
    assert run(root, "--person=(.*)_") == 0
    out, err = capsys.readouterr()
    assert f"landmarks.csv:2: {kind}: " in err and f"1 left out: {kind}" in out
    assert sorted(name for split in read(root).values() for name in split) == NAMES[1:]


def cut(root):
    write_arrays(root)
    data = (root / "landmarks.npz").read_bytes()
    (root / "landmarks.npz").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: None, "neither .* nor .* exists"),
        (lambda root: [write_arrays(root), write_table(root)], "remove one"),
        (cut, "landmarks.npz: .*; it must hold text `names`"),
        (
            lambda root: np.savez(root / "landmarks.npz", landmarks=points_of()),
            "names.*; it must hold text `names`",
        ),
        (
            lambda root: np.savez(
                root / "landmarks.npz", names=NAMES, landmarks=points_of()[:, 1:]
            ),
            r"landmarks must be numbers \(N, 4, 2\) for toy, not float64 \(20, 3, 2\)",
        ),
        (
            lambda root: np.savez(root / "landmarks.npz", names=NAMES[1:], landmarks=points_of()),
            r"names must be text \(20,\)",
        ),
        (
            lambda root: write_arrays(root, names=np.array(NAMES, object)),
            "Object arrays cannot be loaded",
        ),
        (lambda root: write_arrays(root, splits=["train"] * 3), r"splits must be text \(20,\)"),
        (lambda root: write_arrays(root, splits=["test set"] * 20), "not 'test set'"),
        (lambda root: write_table(root, lambda rows: rows[1:]), "first line must name the columns"),
        (
            lambda root: write_table(root, lambda rows: [[*rows[0][:-1], "z3"], *rows[1:]]),
            "Missing: y3; not known or twice: z3",
        ),
        (
            lambda root: write_table(root, lambda rows: [[*row, row[1]] for row in rows]),
            "Missing: none; not known or twice: x0",
        ),
        (lambda root: (root / "landmarks.csv").write_text(""), "first line must name the columns"),
    ],
)
def test_a_file_of_another_form_is_refused(root, harm, message):
    harm(root)
    with pytest.raises(UserError, match=message):
        run(root)
    assert not (root.parent / "faces").exists()


def test_without_pictures_the_folder_is_named(root):
    write_arrays(root)
    (root / "images").rename(root / "pictures")
    with pytest.raises(UserError, match="no folder .*images"):
        run(root)


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("faces", [], "ldeq build faces/NAME"),
        ("faces/a b", [], "ldeq build faces/NAME"),
        ("faces/mine", ["--person=("], "not a regular expression"),
        ("faces/mine", ["--test_share=1"], "must be 0 or more and below 1"),
        ("faces/mine", ["--test_share=.5", "--validation_share=.5"], "leave nobody to train on"),
        ("faces/mine", ["--color=red"], "unrecognized arguments: --color=red"),
        ("ibug_300w", [], "unrecognized arguments: --schema"),
    ],
)
def test_options_that_make_no_sense_are_refused(root, capsys, name, flags, message):
    write_arrays(root)
    with pytest.raises(SystemExit) as caught:
        run(root, *flags, name=name)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_an_unknown_schema_is_refused(root):
    with pytest.raises(UserError, match="no landmark schema"):
        run(root, "--schema=mine")
