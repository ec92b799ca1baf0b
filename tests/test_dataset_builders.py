"""Laws of the data set builders: what goes in comes out; what is broken is named and left out."""

import errno
import os
import re
import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path

import build
import cv2
import filelock
import numpy as np
import pytest
import sample_faces
import tensorflow_datasets as tfds
from etils import epath
from ibug_300w import ibug_300w
from PIL import Image

from ldeq_jax.errors import UserError

WIDTH, HEIGHT = 40, 32
SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")
RECT_LIST = "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{}.txt"
SUBSET_LIST = "WFLW_annotations/list_98pt_test/list_98pt_test_{}.txt"


def random_points(rng, count):
    return rng.uniform(2, 30, (count, 2)).round(3)


def write_picture(path, rng, side=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (*side, 3), dtype=np.uint8))


def write_300w_face(root, name, rng):
    """Returns the 1-based points as written."""
    points = random_points(rng, 68) + 1
    write_picture(root / name, rng)
    rows = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points)
    text = f"version: 1\nn_points: 68\n{{\n{rows}}}\n"
    (root / name).with_suffix(".pts").write_text(text)
    return points


def write_300w(root, seed=0, ibug=True):
    """Two faces in every folder; returns 1-based points by name."""
    rng = np.random.default_rng(seed)
    folders = ["afw", "helen/trainset", "helen/testset", "lfpw/trainset", "lfpw/testset"]
    folders += ["ibug"] * ibug
    names = [f"{folder}/{name}" for folder in folders for name in ("a_1.jpg", "b c.png")]
    return {name: write_300w_face(root, name, rng) for name in names}


def coordinates(points):
    return " ".join(f"{v:.6f}" for v in points.ravel())


def write_wflw(root, seed=0):
    """Three training faces in two pictures, six test faces in three; returns (name, face) pairs."""
    rng = np.random.default_rng(seed)
    faces = {"train": [], "test": []}
    files = {file: [] for file in ("train", "test", *SUBSETS)}
    for split, pictures in (("train", "AAB"), ("test", "CCDDDE")):
        for line, picture in enumerate(pictures, start=1):
            picture_path = f"0--Parade/{picture}.jpg"
            points = random_points(rng, 98)
            box = np.concatenate([rng.integers(0, 9, 2), rng.integers(10, 30, 2)])
            attributes = rng.integers(0, 2, 6)
            name = picture_path + (f"#{line}" if pictures.count(picture) > 1 else "")
            faces[split].append((name, picture_path, points, box, attributes))
            words = [coordinates(points), *map(str, box), *map(str, attributes), picture_path]
            files[split].append(" ".join(words))
            for subset, member in zip(SUBSETS, attributes, strict=True):
                if split == "test" and member:
                    files[subset].append(f"{coordinates(points)} {picture_path}")
            if not (root / "WFLW_images" / picture_path).exists():
                write_picture(root / "WFLW_images" / picture_path, rng)
    for file, lines in files.items():
        path = root / (RECT_LIST if file in faces else SUBSET_LIST).format(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return faces


def run(name, root, data_dir, *flags):
    return build.main([name, f"--manual_dir={root}", f"--data_dir={data_dir}", *flags])


def read(data_dir, path, split):
    """Examples of a split by name, pictures as stored."""
    source = tfds.builder_from_directory(data_dir / path).as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return {example["name"].decode(): example for example in source}


def splits(data_dir, path):
    infos = tfds.builder_from_directory(data_dir / path).info.splits
    return {split: info.num_examples for split, info in infos.items()}


def assert_same_examples(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for key, value in one[name].items():
            np.testing.assert_array_equal(value, other[name][key])


IBUG = "ibug_300w/1.0.0"
OFFICIAL = "wflw/official/1.0.0"
PRECROPPED = "wflw/precropped/1.0.0"


def test_300w_round_trip_shifts_points_to_zero_based(tmp_path):
    points = write_300w(tmp_path / "in")
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    examples = read(tmp_path, IBUG, "train") | read(tmp_path, IBUG, "test_full")
    assert examples.keys() == points.keys()
    for name, example in examples.items():
        np.testing.assert_allclose(example["landmarks"], points[name] - 1, atol=1e-5)
        low, high = points[name].min(axis=0) - 1, points[name].max(axis=0) - 1
        np.testing.assert_allclose(example["box"], [*low, *high], atol=1e-5)
        assert example["image"] == (tmp_path / "in" / name).read_bytes()
        sources = dict(zip(("afw", "helen", "lfpw", "ibug"), example["attributes"], strict=True))
        assert [s for s, here in sources.items() if here] == [name.split("/")[0]]
    metadata = tfds.builder_from_directory(tmp_path / IBUG).info.metadata
    assert metadata["schema"] == "ibug_68"
    assert metadata["attribute_names"] == ["afw", "helen", "lfpw", "ibug"]


def test_300w_splits_are_unions_of_folders(tmp_path):
    write_300w(tmp_path / "in")
    run("ibug_300w", tmp_path / "in", tmp_path)
    members = {split: set(read(tmp_path, IBUG, split)) for split in splits(tmp_path, IBUG)}
    folders = {split: {name.rsplit("/", 1)[0] for name in m} for split, m in members.items()}
    assert folders == {
        "train": {"afw", "helen/trainset", "lfpw/trainset"},
        "test_common": {"helen/testset", "lfpw/testset"},
        "test_helen": {"helen/testset"},
        "test_lfpw": {"lfpw/testset"},
        "test_challenging": {"ibug"},
        "test_full": {"helen/testset", "lfpw/testset", "ibug"},
    }
    assert members["test_full"] == members["test_common"] | members["test_challenging"]


def test_300w_without_ibug_says_what_is_missing(tmp_path, capsys):
    write_300w(tmp_path / "in", ibug=False)
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    assert set(splits(tmp_path, IBUG)) == {"train", "test_common", "test_helen", "test_lfpw"}
    assert "test_challenging and test_full are left out" in capsys.readouterr().out


def test_wflw_official_round_trip(tmp_path):
    faces = write_wflw(tmp_path / "in")
    assert run("wflw", tmp_path / "in", tmp_path) == 0
    for split, written in faces.items():
        examples = read(tmp_path, OFFICIAL, split)
        assert len(examples) == len(written)
        for name, picture, points, box, attributes in written:
            example = examples[name]
            np.testing.assert_allclose(example["landmarks"], points, atol=1e-5)
            np.testing.assert_array_equal(example["box"], box)
            np.testing.assert_array_equal(example["attributes"], attributes.astype(bool))
            assert example["image"] == (tmp_path / "in/WFLW_images" / picture).read_bytes()
    assert tfds.builder_from_directory(tmp_path / OFFICIAL).info.metadata["schema"] == "wflw_98"


def test_wflw_subsets_are_the_test_faces_with_that_attribute(tmp_path):
    write_wflw(tmp_path / "in")
    run("wflw", tmp_path / "in", tmp_path)
    test = read(tmp_path, OFFICIAL, "test")
    for index, subset in enumerate(SUBSETS):
        expected = {name: e for name, e in test.items() if e["attributes"][index]}
        assert expected
        assert_same_examples(read(tmp_path, OFFICIAL, f"test_{subset}"), expected)


def test_wflw_files_name_their_default_config(tmp_path):
    write_precropped(tmp_path / "in")
    run("wflw/precropped", tmp_path / "in", tmp_path)
    folder = epath.Path(tmp_path / "wflw")
    assert tfds.core.dataset_builder.load_default_config_name(folder) == "official"


def test_wflw_subset_face_missing_from_test_list_is_left_out(tmp_path, capsys):
    write_wflw(tmp_path / "in")
    path = tmp_path / "in" / SUBSET_LIST.format("blur")
    lines = path.read_text().splitlines()
    words = lines[0].split()
    path.write_text("\n".join(lines + [" ".join(["1.5", *words[1:]])]))
    assert run("wflw", tmp_path / "in", tmp_path) == 0
    assert f"{path}:{len(lines) + 1}: face is not in the test list" in capsys.readouterr().err
    assert splits(tmp_path, OFFICIAL)["test_blur"] == len(lines)


def test_face_listed_twice_in_a_subset_is_kept_once(tmp_path, capsys):
    write_wflw(tmp_path / "in")
    path = tmp_path / "in" / SUBSET_LIST.format("blur")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines + lines[:1]))
    assert run("wflw", tmp_path / "in", tmp_path) == 0
    assert "1 left out: twice in one split" in capsys.readouterr().out
    assert splits(tmp_path, OFFICIAL)["test_blur"] == len(lines)


def write_precropped(root, seed=0):
    """Two training and four test crops of two sizes; returns name -> (points, size, attributes)."""
    rng = np.random.default_rng(seed)
    faces, files = {}, {f: [] for f in ("train", "test", *(f"test_{s}" for s in SUBSETS))}
    for split, count in (("train", 2), ("test", 4)):
        for index in range(count):
            size = np.array([(WIDTH, HEIGHT), (64, 64)][index % 2])
            points = rng.uniform(0, 1, (98, 2)).round(6)
            attributes = np.arange(6) % count == index if split == "test" else np.zeros(6, bool)
            write_picture(root / split / f"{index}.png", rng, size[::-1])
            line = f"{index}.png {coordinates(points)}"
            files[split].append(line)
            for subset, member in zip(SUBSETS, attributes, strict=True):
                if member:
                    files[f"test_{subset}"].append(line)
            faces[f"{split}/{index}.png"] = points, size, attributes
    for file, lines in files.items():
        (root / f"{file}.txt").write_text("\n".join(lines))
    return faces


def test_wflw_precropped_scales_to_pixels_and_takes_attributes_from_lists(tmp_path):
    faces = write_precropped(tmp_path / "in")
    assert run("wflw/precropped", tmp_path / "in", tmp_path) == 0
    examples = read(tmp_path, PRECROPPED, "train") | read(tmp_path, PRECROPPED, "test")
    assert examples.keys() == faces.keys()
    for name, (points, size, attributes) in faces.items():
        np.testing.assert_allclose(examples[name]["landmarks"], points * size, atol=1e-4)
        np.testing.assert_array_equal(examples[name]["box"], [0, 0, *size])
        np.testing.assert_array_equal(examples[name]["attributes"], attributes)
    for index, subset in enumerate(SUBSETS):
        expected = {name: e for name, e in examples.items() if e["attributes"][index]}
        assert_same_examples(read(tmp_path, PRECROPPED, f"test_{subset}"), expected)


def replace_word(index, word):
    def change(line):
        words = line.split()
        words[index] = word
        return " ".join(words)

    return change


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("wrong number of values", lambda line: line.split(maxsplit=1)[1]),  # 195 coordinates
        ("not a number", replace_word(7, "1.2.3")),
        ("NaN or infinite number", replace_word(7, "nan")),
        ("landmark far outside the picture", replace_word(6, str(2 * WIDTH + 1))),
        ("landmark far outside the picture", replace_word(7, str(-HEIGHT - 1))),
        ("empty box", replace_word(198, "-5")),
        ("attribute is not 0 or 1", replace_word(200, "2")),
        ("missing picture", replace_word(206, "0--Parade/gone.jpg")),
    ],
)
def test_wflw_bad_line_is_named_and_the_rest_kept(tmp_path, capsys, kind, change):
    faces = write_wflw(tmp_path / "in")
    path = tmp_path / "in" / RECT_LIST.format("train")
    lines = path.read_text().splitlines()
    lines[1] = change(lines[1])
    path.write_text("\n".join(lines))
    assert run("wflw", tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    assert f"{path}:2: {kind}: " in err
    assert f"1 left out: {kind}" in out
    assert splits(tmp_path, OFFICIAL)["train"] == len(faces["train"]) - 1


def test_wflw_landmark_a_little_outside_is_kept_and_counted(tmp_path, capsys):
    write_wflw(tmp_path / "in")
    path = tmp_path / "in" / RECT_LIST.format("train")
    lines = path.read_text().splitlines()
    lines[0] = replace_word(0, "-0.4")(lines[0])  # still within the first pixel
    lines[1] = replace_word(0, str(WIDTH + 9.25))(lines[1])
    path.write_text("\n".join(lines))
    run("wflw", tmp_path / "in", tmp_path)
    assert "1 warning: landmark outside the picture" in capsys.readouterr().out
    kept = read(tmp_path, OFFICIAL, "train")["0--Parade/A.jpg#2"]
    assert kept["landmarks"][0, 0] == WIDTH + 9.25


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def change_line(number, line):
    def change(path):
        lines = path.read_text().splitlines()
        lines[number - 1 : number] = [line] if line else []
        path.write_text("\n".join(lines))

    return change


@pytest.mark.parametrize(
    ("file", "harm", "where", "kind"),
    [
        ("afw/a_1.jpg", cut, ".pts", "unreadable or truncated picture"),
        ("afw/b c.png", cut, ".pts", "unreadable or truncated picture"),
        ("afw/a_1.jpg", Path.unlink, ".pts", "missing picture"),
        ("afw/a_1.pts", Path.unlink, ".pts", "picture without landmarks"),
        ("afw/a_1.pts", change_line(20, None), ".pts:70", "wrong number of landmarks"),
        ("afw/a_1.pts", change_line(20, "3 4 5"), ".pts:20", "wrong number of values"),
        ("afw/a_1.pts", change_line(20, "3 NaN"), ".pts:20", "NaN or infinite number"),
        ("afw/a_1.pts", change_line(20, "3 x"), ".pts:20", "not a number"),
        ("afw/a_1.pts", change_line(72, None), ".pts", "not a .pts file"),
    ],
)
def test_300w_bad_file_is_named_and_the_rest_kept(tmp_path, capsys, file, harm, where, kind):
    write_300w(tmp_path / "in")
    path = tmp_path / "in" / file
    harm(path)
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    assert f"{path.with_suffix(where)}: {kind}: " in err
    assert f"1 left out: {kind}" in out
    assert splits(tmp_path, IBUG)["train"] == 5


def test_problem_of_a_face_in_several_splits_is_printed_once(tmp_path, capsys):
    write_300w(tmp_path / "in")
    cut(tmp_path / "in/ibug/a_1.jpg")
    run("ibug_300w", tmp_path / "in", tmp_path)
    out, err = capsys.readouterr()
    assert err.count("unreadable or truncated") == 1
    assert out.count("truncated") == 2  # counted in test_challenging and in test_full


def test_pictures_readers_disagree_about_are_stored_as_plain_rgb(tmp_path):
    write_300w(tmp_path / "in")
    rgba = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "in/afw/b c.png")
    turned = Image.fromarray(rgba[..., :3])
    turned.getexif()[0x0112] = 6  # "turn by 90 degrees to view", which some readers do
    turned.save(tmp_path / "in/ibug/b c.png", exif=turned.getexif())
    run("ibug_300w", tmp_path / "in", tmp_path)
    for split, name in (("train", "afw/b c.png"), ("test_challenging", "ibug/b c.png")):
        stored = np.frombuffer(read(tmp_path, IBUG, split)[name]["image"], np.uint8)
        for flag in (cv2.IMREAD_COLOR_RGB, cv2.IMREAD_UNCHANGED):
            image = cv2.imdecode(stored, flag)
            image = image if flag == cv2.IMREAD_COLOR_RGB else image[..., ::-1]
            np.testing.assert_array_equal(image, rgba[..., :3])


def test_grey_of_16_bits_is_not_stored_as_white(tmp_path):
    write_300w(tmp_path / "in")
    grey = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in/afw/b c.png"), grey.astype(np.uint16) * 257)
    run("ibug_300w", tmp_path / "in", tmp_path)
    stored = np.frombuffer(read(tmp_path, IBUG, "train")["afw/b c.png"]["image"], np.uint8)
    for flag in (cv2.IMREAD_COLOR_RGB, cv2.IMREAD_UNCHANGED):
        np.testing.assert_array_equal(cv2.imdecode(stored, flag), np.dstack([grey] * 3))


@pytest.mark.parametrize(
    ("mode", "options", "why"),
    [
        ("I", {}, "is a picture of 32-bit integers"),
        ("F", {}, "is a picture of floating-point numbers"),
        ("L", {"save_all": True, "append_images": [Image.new("L", (WIDTH, HEIGHT))]}, "holds 2"),
    ],
)
def test_pictures_that_do_not_say_what_they_show_are_left_out(tmp_path, capsys, mode, options, why):
    write_300w(tmp_path / "in")
    path = tmp_path / "in/afw/b c.png"
    Image.new(mode, (WIDTH, HEIGHT), 90).save(path, "TIFF", **options)
    run("ibug_300w", tmp_path / "in", tmp_path)
    err = capsys.readouterr().err
    assert f"b c.pts: unreadable or truncated picture: {path} {why}" in err
    assert splits(tmp_path, IBUG)["train"] == 5


@pytest.mark.parametrize(
    ("picture", "points"),
    [
        ("a_1.JPG", "a_1.PTS"),
        ("a_1.Jpg", "a_1.pts"),
        ("a_1.jPeG", "a_1.Pts"),
        ("A_1.jpg", "a_1.pts"),
        ("Zo\u00eb.jpg", "Zoe\u0308.pts"),
    ],
)
def test_300w_partners_are_found_in_any_case_and_form(tmp_path, picture, points):
    root = tmp_path / "in"
    landmarks = write_300w(root)["afw/a_1.jpg"] - 1
    (root / "afw/a_1.jpg").rename(root / "afw" / picture)
    (root / "afw/a_1.pts").rename(root / "afw" / points)
    run("ibug_300w", root, tmp_path)
    examples = read(tmp_path, IBUG, "train")
    assert len(examples) == 6
    np.testing.assert_allclose(examples[f"afw/{picture}"]["landmarks"], landmarks, atol=1e-4)


def test_300w_names_that_differ_in_case_are_two_faces(tmp_path):
    root = tmp_path / "in"
    rng = np.random.default_rng(1)
    points = write_300w(root) | {"afw/A_1.jpg": write_300w_face(root, "afw/A_1.jpg", rng)}
    run("ibug_300w", root, tmp_path)
    examples = read(tmp_path, IBUG, "train")
    for name in ("afw/a_1.jpg", "afw/A_1.jpg"):
        np.testing.assert_allclose(examples[name]["landmarks"], points[name] - 1, atol=1e-4)


def test_names_that_are_no_text_are_left_out(tmp_path, capsys):
    write_300w(tmp_path / "in")
    for suffix in (".jpg", ".pts"):
        name = tmp_path / "in/afw" / os.fsdecode(b"\xff" + suffix.encode())
        (tmp_path / "in/afw/a_1").with_suffix(suffix).rename(name)
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    assert r"'afw/\udcff.jpg': name is not UTF-8: rename the file" in capsys.readouterr().err
    assert splits(tmp_path, IBUG)["train"] == 5


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_labels_in_any_encoding(tmp_path, encoding, end):
    root = tmp_path / "in"
    landmarks = write_300w_face(root, "afw/a.jpg", np.random.default_rng(0))
    path = root / "afw/a.pts"
    path.write_bytes(path.read_text().replace("\n", end).encode(encoding))
    np.testing.assert_allclose(ibug_300w.read_points(path), landmarks - 1, atol=1e-4)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_in_any_encoding_lose_no_face(tmp_path, encoding):
    faces = write_wflw(tmp_path / "in")
    path = tmp_path / "in" / RECT_LIST.format("train")
    path.write_bytes(path.read_text().encode(encoding))
    run("wflw", tmp_path / "in", tmp_path)
    examples = read(tmp_path, OFFICIAL, "train")
    assert set(examples) == {name for name, *_ in faces["train"]}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lists_find_pictures_in_either_unicode_form(tmp_path, form):
    root = tmp_path / "in"
    write_wflw(root)
    on_disk = root / "WFLW_images/0--Parade" / unicodedata.normalize(form, "\u00c5.JPG")
    (root / "WFLW_images/0--Parade/B.jpg").rename(on_disk)
    path = root / RECT_LIST.format("train")
    for written in ("NFC", "NFD"):
        text = path.read_text().replace("B.jpg", unicodedata.normalize(written, "\u00c5.jpg"))
        path.write_text(text)
        run("wflw", root, tmp_path / written)
        assert splits(tmp_path / written, OFFICIAL)["train"] == 3
        path.write_text(text.replace(unicodedata.normalize(written, "\u00c5.jpg"), "B.jpg"))


@pytest.mark.parametrize("name", ["ibug_300w", "wflw", "wflw/precropped"])
def test_nothing_usable_fails_and_leaves_no_data(tmp_path, capsys, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.txt").write_text("not a face\n")
    assert run(name, tmp_path / "in", tmp_path / "out") == 1
    assert "nothing usable" in capsys.readouterr().err
    assert [f.name for f in (tmp_path / "out").iterdir()] == [".building.lock"]


@pytest.mark.parametrize("name", ["ibug_300w", "wflw/x", "nobody"])
def test_command_line_that_makes_no_sense_exits_with_2(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as caught:
        run(name, tmp_path / "empty", tmp_path / "out")
    assert caught.value.code == 2


def test_help_tells_the_layout_of_every_builder(capsys):
    with pytest.raises(SystemExit):
        build.main(["--help"])
    out = capsys.readouterr().out
    for folder in build.HERE.iterdir():
        if (folder / f"{folder.name}.py").exists():
            assert f"\n{folder.name}" in out
            for line in build.load_builder(folder.name).MANUAL_DOWNLOAD_INSTRUCTIONS.splitlines():
                assert line in out


def test_second_run_changes_nothing_and_says_so(tmp_path, capsys):
    write_300w(tmp_path / "in")
    run("ibug_300w", tmp_path / "in", tmp_path)
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "ibug_300w").rglob("*")}
    capsys.readouterr()
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    assert "already built" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "ibug_300w").rglob("*")} == before


def test_overwrite_replaces_but_a_failing_one_keeps_the_old(tmp_path):
    write_300w(tmp_path / "in")
    run("ibug_300w", tmp_path / "in", tmp_path)
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2/readme.txt").write_text("not a face\n")
    assert run("ibug_300w", tmp_path / "in2", tmp_path, "--overwrite") == 1
    assert splits(tmp_path, IBUG)["train"] == 6
    write_300w(tmp_path / "in3", seed=1, ibug=False)
    assert run("ibug_300w", tmp_path / "in3", tmp_path, "--overwrite") == 0
    assert "test_full" not in splits(tmp_path, IBUG)


KILLED_BUILD = """
import os, signal, sys
sys.path.insert(0, {datasets!r})
import build
module = __import__("ibug_300w.ibug_300w").ibug_300w
if {when!r} == "reading":
    calls = iter(range(5))
    read = module.read_picture
    def dying(*args):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(*args)
    module.read_picture = dying
else:
    build._move_into_place = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
build.main(["ibug_300w", "--manual_dir={root}", "--data_dir={out}"])
"""


@pytest.mark.parametrize("when", ["reading", "moving"])
def test_killed_build_looks_unfinished_and_can_be_run_again(tmp_path, when):
    write_300w(tmp_path / "in")
    run("ibug_300w", tmp_path / "in", tmp_path / "whole")
    code = KILLED_BUILD.format(
        datasets=str(build.HERE), when=when, root=tmp_path / "in", out=tmp_path / "killed"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "killed/ibug_300w").exists()
    assert run("ibug_300w", tmp_path / "in", tmp_path / "killed") == 0
    left = {f.name for f in (tmp_path / "killed").iterdir()}
    assert left == {"ibug_300w", ".building.lock"}
    assert splits(tmp_path / "killed", IBUG) == splits(tmp_path / "whole", IBUG)
    for split in splits(tmp_path / "whole", IBUG):
        assert_same_examples(
            read(tmp_path / "killed", IBUG, split), read(tmp_path / "whole", IBUG, split)
        )


# Folders ------------------------------------------------------------------------------------------


def test_a_build_waits_for_another_into_the_same_folder(tmp_path, capsys):
    write_300w(tmp_path / "in")
    (tmp_path / "out").mkdir()
    held, ended = threading.Event(), []

    def hold():
        with filelock.FileLock(tmp_path / "out" / ".building.lock"):
            held.set()
            time.sleep(0.5)
            ended.append(True)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(10)
    assert run("ibug_300w", tmp_path / "in", tmp_path / "out") == 0
    assert ended
    other.join()
    assert f"another build is writing to {tmp_path / 'out'}: waiting" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["file", "file/data", "/proc/data"])
def test_a_folder_that_cannot_be_written_to_is_told_in_a_line(tmp_path, capsys, folder):
    write_300w(tmp_path / "in")
    (tmp_path / "file").write_text("precious")
    words = rf"^cannot write to --data_dir={tmp_path / folder} \(.*"
    with pytest.raises(UserError, match=words):
        run("ibug_300w", tmp_path / "in", tmp_path / folder)
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(SystemExit):
        sample_faces.main([f"--output={tmp_path / folder}"])
    assert f"cannot write to --output={tmp_path / folder} (" in capsys.readouterr().err


def test_what_is_built_needs_no_right_to_write(tmp_path, monkeypatch):
    write_300w(tmp_path / "in")
    run("ibug_300w", tmp_path / "in", tmp_path)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0
    with pytest.raises(UserError, match="cannot write to --data_dir"):
        run("ibug_300w", tmp_path / "in", tmp_path, "--overwrite")


def test_a_file_system_without_locks_is_built_into(tmp_path, monkeypatch):
    write_300w(tmp_path / "in")

    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert run("ibug_300w", tmp_path / "in", tmp_path) == 0


def test_the_home_directory_is_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert sample_faces.main(["--output=~/in", "--train=1", "--test=1", "--size=64"]) == 0
    assert run("ibug_300w", "~/in", "~/out") == 0
    assert {f.name for f in tmp_path.iterdir()} == {"in", "out"}
    with pytest.raises(SystemExit):
        run("ibug_300w", "~/in", "~nobody-of-that-name/out")


# Without this project -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", build.builder_names())
def test_every_feature_is_described(tmp_path, name):
    builder_class = build.load_builder(name)
    if hasattr(builder_class, "with_options"):
        builder_class = builder_class.with_options("mine", ["--schema=ibug_68"])
    for config in builder_class.builder_configs or [None]:
        info = builder_class(data_dir=tmp_path, config=config).info
        docs = {key: feature.doc.desc for key, feature in info.features.items()}
        assert all(docs.values()), f"{name}/{config}: {docs}"
        assert "pixels" in docs["landmarks"] and "x, y" in docs["landmarks"]


def test_the_lines_of_the_readme_read_a_data_set_without_this_project(tmp_path):
    write_300w(tmp_path / "in")
    run("ibug_300w", tmp_path / "in", tmp_path / "DATA")
    run("wflw_v", build.HERE.parent / "examples" / "wflw_v", tmp_path / "DATA")
    text = (build.HERE / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        program += "\nimport sys\nassert not {'tensorflow', 'ldeq_jax', 'jax'} & set(sys.modules)\n"
        told = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stderr
        if "fps" in told.stdout or "image" in told.stdout:
            assert "ibug_68" in told.stdout and "pixels" in told.stdout
            assert "6 " in told.stdout.splitlines()[-3] and "(32, 40, 3)" in told.stdout
        else:
            assert told.stdout.count("True (") == 62


def test_drawn_faces_build_and_come_back_exactly(tmp_path):
    for folder in ("one", "two"):
        flags = [f"--output={tmp_path / folder}", "--train=2", "--test=1", "--size=96"]
        assert sample_faces.main(flags) == 0
    files = sorted(f.relative_to(tmp_path / "one") for f in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert run("ibug_300w", tmp_path / "one", tmp_path) == 0
    assert splits(tmp_path, IBUG) == {"train": 2, "test_common": 1, "test_lfpw": 1}
    for index in range(2):
        _, landmarks = sample_faces.draw_face(np.random.default_rng([0, 0, index]), 96)
        example = read(tmp_path, IBUG, "train")[f"lfpw/trainset/sample_{index:04d}.jpg"]
        np.testing.assert_allclose(example["landmarks"], landmarks, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_drawn_eyes_are_white_and_dark_where_the_landmarks_say(seed):
    image, landmarks = sample_faces.draw_face(np.random.default_rng(seed), 200)
    grey = image.mean(axis=2)
    for first in (36, 42):
        mask = np.zeros(grey.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(landmarks[first : first + 6]).astype(np.int32)], 1)
        inside = grey[mask > 0]
        assert inside.max() - inside.min() > 80
    assert (landmarks > 0).all() and (landmarks < 199).all()
    assert landmarks[36, 0] < landmarks[45, 0] and landmarks[27, 1] < landmarks[8, 1]


def test_drawing_fewer_faces_leaves_no_old_ones(tmp_path):
    for count in (2, 1):
        sample_faces.main([f"--output={tmp_path}", f"--train={count}", "--test=1", "--size=64"])
    assert len(list((tmp_path / "lfpw/trainset").iterdir())) == 2


@pytest.mark.parametrize("name", ["trainset/image_0001.png", "testset/sample_photo.jpg"])
def test_drawing_never_deletes_files_of_others(tmp_path, name):
    photo = tmp_path / "lfpw" / name
    drawn = tmp_path / "lfpw/trainset/sample_0000.jpg"
    for file in (photo, drawn):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"mine")
    with pytest.raises(SystemExit):
        sample_faces.main([f"--output={tmp_path}", "--train=1", "--test=1"])
    assert photo.read_bytes() == drawn.read_bytes() == b"mine"
