"""Laws of the video builders: labels and frames come out in step; what is broken is named."""

import io
import pickle
import re

import build
import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
import videos
from etils import epath
from problems import Problem

WIDTH, HEIGHT, FRAMES = 64, 48, 8
SIZE = (WIDTH, HEIGHT)
EXAMPLE = build.HERE.parent / "examples/wflw_v"
DEFAULT = "wflw_v/wflw_98/1.1.0"


def write_video(path, frames=FRAMES, fps=12.5, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), fps, (WIDTH, HEIGHT)
    )
    picture = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for t in range(frames):
        writer.write(np.roll(picture, t, axis=1))
    writer.release()


def save(path, array, **flags):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, **flags)


def write_labels(root, name, rng, frames=FRAMES, landmarks=98, scores=1):
    points = rng.uniform(2, 40, (frames, landmarks, 2)).astype(np.float32)
    low, high = points.min(axis=1), points.max(axis=1)
    boxes = np.concatenate([low, high, rng.uniform(0, 1, (frames, scores))], axis=1)
    save(root / f"landmarks/{name}.npy", points)
    save(root / f"bboxes/{name}.npy", boxes.astype(np.float64))
    return points, boxes


def write_layout(root, easy=("a", "b"), hard=("c",), landmarks=98):
    """Videos of 8, 9, 10 ... frames; returns (landmarks, boxes) by name."""
    rng = np.random.default_rng(0)
    labels = {}
    for index, name in enumerate(dict.fromkeys((*easy, *hard))):
        write_video(root / f"videos/{name}.mp4", FRAMES + index, seed=index)
        labels[name] = write_labels(root, name, rng, FRAMES + index, landmarks)
    (root / "easy_video_IDs.txt").write_text("\n".join(easy) + "\n")
    (root / "hard_video_IDs.txt").write_text("\n".join(hard) + "\n")
    return labels


def run(root, data_dir, *flags, name="wflw_v"):
    return build.main([name, f"--manual_dir={root}", f"--data_dir={data_dir}", *flags])


def read(data_dir, split, path=DEFAULT):
    source = tfds.builder_from_directory(data_dir / path).as_data_source(split)
    return {example["name"].decode(): example for example in source}


def splits(data_dir, path=DEFAULT):
    infos = tfds.builder_from_directory(data_dir / path).info.splits
    return {split: info.num_examples for split, info in infos.items()}


def decoded(data):
    """Number of frames of a video in memory."""
    stream = io.BytesIO(data)
    capture = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, [])
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def test_round_trip(tmp_path):
    labels = write_layout(tmp_path / "in")
    save(tmp_path / "in/masks/b.npy", np.arange(FRAMES + 1) % 3 > 0)
    assert run(tmp_path / "in", tmp_path) == 0
    easy, hard = read(tmp_path, "easy"), read(tmp_path, "hard")
    assert set(easy) == {"a", "b"} and set(hard) == {"c"}
    for name, example in {**easy, **hard}.items():
        points, boxes = labels[name]
        np.testing.assert_array_equal(example["landmarks"], points)
        np.testing.assert_array_equal(example["boxes"], boxes[:, :4].astype(np.float32))
        assert example["video"] == (tmp_path / f"in/videos/{name}.mp4").read_bytes()
        assert decoded(example["video"]) == len(points) == len(example["mask"])
        assert example["fps"] == 12.5
        assert example["attributes"].tolist() == [name != "c", name == "c"]
        expected = np.arange(len(points)) % 3 > 0 if name == "b" else np.ones(len(points), bool)
        np.testing.assert_array_equal(example["mask"], expected)


@pytest.mark.parametrize(("config", "landmarks"), [("ibug_68", 68), ("fgnet_68", 68)])
def test_other_layouts_carry_their_schema(tmp_path, config, landmarks):
    labels = write_layout(tmp_path / "in", easy=("a",), hard=(), landmarks=landmarks)
    assert run(tmp_path / "in", tmp_path, name=f"wflw_v/{config}") == 0
    path = f"wflw_v/{config}/1.1.0"
    assert tfds.builder_from_directory(tmp_path / path).info.metadata["schema"] == config
    np.testing.assert_array_equal(read(tmp_path, "easy", path)["a"]["landmarks"], labels["a"][0])
    folder = epath.Path(tmp_path / "wflw_v")
    assert tfds.core.dataset_builder.load_default_config_name(folder) == "wflw_98"


def test_metadata(tmp_path):
    write_layout(tmp_path / "in")
    run(tmp_path / "in", tmp_path)
    metadata = tfds.builder_from_directory(tmp_path / DEFAULT).info.metadata
    assert metadata["schema"] == "wflw_98"
    assert metadata["attribute_names"] == ["easy", "hard"]
    stored = {split: read(tmp_path, split) for split in ("easy", "hard")}
    assert metadata["videos"] == {
        split: [[name, len(video["mask"])] for name, video in videos.items()]
        for split, videos in stored.items()
    }


def test_missing_videos_are_counted_and_the_coverage_printed(tmp_path, capsys):
    write_layout(tmp_path / "in", easy=("a", "b", "gone", "half"), hard=("c",))
    (tmp_path / "in/videos/gone.mp4").unlink()
    (tmp_path / "in/landmarks/gone.npy").unlink()
    (tmp_path / "in/bboxes/half.npy").unlink()
    save(tmp_path / "in/masks/a.npy", np.arange(FRAMES) > 2)
    assert run(tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    assert "easy       2 of 4 videos, 17 frames, 14 of them count\n" in out
    assert "2 left out: missing files" in out
    assert "hard       1 of 1 videos, 12 frames, 12 of them count\n" in out
    where = tmp_path / "in/easy_video_IDs.txt"
    assert f"{where}:3: missing files: no videos/gone.mp4, no landmarks/gone.npy\n" in err
    assert f"{where}:4: missing files: no bboxes/half.npy\n" in err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_any_encoding_name_files_of_any_case(tmp_path, encoding):
    root = tmp_path / "in"
    write_layout(root, easy=("a",), hard=())
    (root / "easy_video_IDs.txt").write_bytes("a\r\n".encode(encoding))
    (root / "videos/a.mp4").rename(root / "videos/a.MP4")
    (root / "bboxes/a.npy").rename(root / "bboxes/A.npy")
    assert run(root, tmp_path) == 0
    assert splits(tmp_path) == {"easy": 1}


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(3000))


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def without_frames(path):
    """Header and index stay, the pictures themselves are wiped out."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    path.write_bytes(data)


def replace(array, **flags):
    return lambda path: save(path, array, **flags)


def change(function):
    return lambda path: save(path, function(np.load(path)))


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


LENGTHS = "frames and labels differ in number"
SHAPE = "wrong number of landmarks"
BOXES = "wrong shape of boxes"
MASK = "wrong shape of mask"


@pytest.mark.parametrize(
    ("file", "harm", "kind", "detail"),
    [
        ("videos/a.mp4", garbage, "unreadable video", "download it again"),
        (
            "videos/a.mp4",
            empty,
            "unreadable video",
            "is empty: its download or copy was not complete",
        ),
        ("videos/a.mp4", cut, "unreadable video", "not fully downloaded"),
        ("videos/a.mp4", without_frames, "unreadable video", "no frame that can be decoded"),
        ("landmarks/a.npy", change(lambda a: a[:-1]), LENGTHS, "videos 8, landmarks 7, bboxes 8"),
        ("bboxes/a.npy", change(lambda a: a[:-2]), LENGTHS, "videos 8, landmarks 8, bboxes 6"),
        ("masks/a.npy", replace(np.ones(5, bool)), LENGTHS, "bboxes 8, masks 5"),
        ("landmarks/a.npy", replace(np.ones((8, 97, 2))), SHAPE, "(8, 97, 2)"),
        ("landmarks/a.npy", replace(np.ones((8, 98, 3))), SHAPE, "(8, 98, 3)"),
        ("landmarks/a.npy", replace(np.ones((8, 196))), SHAPE, "(8, 196)"),
        ("bboxes/a.npy", replace(np.ones((8, 3))), BOXES, "(8, 3)"),
        ("bboxes/a.npy", replace(np.ones(8)), BOXES, "(8,)"),
        ("masks/a.npy", replace(np.ones(8, int)), MASK, "int64"),
        ("masks/a.npy", replace(np.ones((8, 1), bool)), MASK, "(8, 1)"),
        ("landmarks/a.npy", garbage, "unreadable array", ""),
        ("landmarks/a.npy", empty, "unreadable array", ""),
        ("landmarks/a.npy", cut, "unreadable array", ""),
        ("landmarks/a.npy", archive, "unreadable array", "an archive"),
        ("bboxes/a.npy", replace(np.ones((8, 4), complex)), "unreadable array", "complex"),
        ("bboxes/a.npy", replace(np.full((8, 4), "1")), "unreadable array", "<U1"),
        ("masks/a.npy", replace(np.zeros(8, bool)), "no frame that counts", "8 x left out by"),
        ("landmarks/a.npy", change(lambda a: a * np.nan), "no frame that counts", "8 x landmark"),
        ("bboxes/a.npy", change(lambda a: a * 0), "no frame that counts", "8 x box"),
    ],
)
def test_bad_file_is_named_and_the_rest_kept(tmp_path, capsys, file, harm, kind, detail):
    write_layout(tmp_path / "in", hard=())
    harm(tmp_path / "in" / file)
    assert run(tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    (line,) = (line for line in err.splitlines() if line.startswith("left out: "))
    # Lengths belong to three files, so to the video; that nothing counts is the landmarks' matter.
    blamed = {LENGTHS: "videos/a.mp4", "no frame that counts": "landmarks/a.npy"}.get(kind, file)
    assert line.startswith(f"left out: {tmp_path / 'in' / blamed}: {kind}: ")
    assert detail in line
    assert f"1 left out: {kind}\n" in out
    assert splits(tmp_path) == {"easy": 1}


class Lying:
    """A capture that says something else of one property. (OpenCV's own cannot be subclassed.)"""

    def __init__(self, capture, property, value):
        self.capture, self.lie = capture, {property: value}

    def __getattr__(self, name):
        return getattr(self.capture, name)

    def get(self, property):
        return self.lie.get(property, self.capture.get(property))


def lie(monkeypatch, property, value):
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: Lying(real(*args), property, value))


def test_what_the_header_says_of_the_number_of_frames_does_not_count(tmp_path, capsys, monkeypatch):
    write_layout(tmp_path / "in")
    write_video(tmp_path / "in/videos/a.mp4", FRAMES - 3)
    lie(monkeypatch, cv2.CAP_PROP_FRAME_COUNT, FRAMES)
    assert run(tmp_path / "in", tmp_path) == 0
    err = capsys.readouterr().err
    assert "videos 5, landmarks 8, bboxes 8; download" in err and err.count("left out") == 1


def damage(path, t):
    """Four wrong bytes where frame t begins."""
    data = bytearray(path.read_bytes())
    place = [found.start() for found in re.finditer(b"\x00\x00\x01\xb6", data)][t]
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)


def test_a_frame_that_cannot_be_decoded_does_not_count(tmp_path, capsys):
    labels = write_layout(tmp_path / "in", hard=())
    damage(tmp_path / "in/videos/a.mp4", 3)
    assert run(tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    assert "17 frames, 16 of them count" in out
    assert "1 warning: frame cannot be decoded, does not count (1 frames)" in out
    assert f"{tmp_path / 'in/videos/a.mp4'}: frame cannot be decoded" in err
    example = read(tmp_path, "easy")["a"]
    assert example["mask"].tolist() == [t != 3 for t in range(FRAMES)]
    np.testing.assert_array_equal(example["landmarks"], labels["a"][0])


def test_pixels_that_are_not_square_are_reported(tmp_path, capsys):
    write_layout(tmp_path / "in", easy=("a",), hard=())
    wide = build.HERE.parent / "tests/videos/wide_pixels.mp4"
    (tmp_path / "in/videos/a.mp4").write_bytes(wide.read_bytes())
    for path in ("landmarks/a.npy", "bboxes/a.npy"):
        change(lambda a: a[:5])(tmp_path / "in" / path)
    assert run(tmp_path / "in", tmp_path) == 0
    out = capsys.readouterr().out
    assert "1 warning: pixels are not square; labels are read as pixels of the stored frames" in out
    assert "5 of them count" in out
    assert videos.read_video(wide).size == (48, 72) and videos.read_video(wide).aspect == 2


@pytest.mark.parametrize("fps", [0.0, -1.0, np.nan, np.inf])
def test_a_video_needs_a_frame_rate(tmp_path, monkeypatch, fps):
    write_video(tmp_path / "a.mp4")
    lie(monkeypatch, cv2.CAP_PROP_FPS, fps)
    with pytest.raises(Problem, match=r"a\.mp4: video without frame rate: .*ffmpeg -r 25"):
        videos.read_video(tmp_path / "a.mp4")


def test_reading_a_video_counts_what_it_decodes_to(tmp_path):
    write_video(tmp_path / "a.mp4")
    video = videos.read_video(tmp_path / "a.mp4")
    assert video.readable.tolist() == [True] * FRAMES
    assert (video.size, video.aspect, video.fps) == (SIZE, 1, 12.5)


class Spell:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_arrays_that_hold_code_are_never_run(tmp_path, capsys):
    write_layout(tmp_path / "in")
    path, trace = tmp_path / "in/landmarks/a.npy", tmp_path / "trace"
    for write in (
        lambda: np.save(path, np.array([Spell(trace)]), allow_pickle=True),
        lambda: path.write_bytes(pickle.dumps(Spell(trace))),
    ):
        write()
        assert run(tmp_path / "in", tmp_path, "--overwrite") == 0
        assert f"{path}: unreadable array: " in capsys.readouterr().err
        assert not trace.exists()
    assert splits(tmp_path) == {"easy": 1, "hard": 1}


@pytest.mark.parametrize("landmarks", [98, 68])
def test_landmarks_of_another_schema_name_the_configs_that_fit(tmp_path, capsys, landmarks):
    write_layout(tmp_path / "in", landmarks=landmarks)
    name = {98: "wflw_v/ibug_68", 68: "wflw_v"}[landmarks]
    assert run(tmp_path / "in", tmp_path, name=name) == 1
    fitting = {98: "wflw_v/wflw_98", 68: "wflw_v/ibug_68 or wflw_v/fgnet_68"}[landmarks]
    assert f"build {fitting} instead" in capsys.readouterr().err
    assert not (tmp_path / "wflw_v").exists()


def spoil(array, t, values):
    array[t] = values


@pytest.mark.parametrize(
    ("file", "harm", "kind"),
    [
        ("landmarks", lambda a: spoil(a, (3, 5, 0), np.nan), "landmark NaN or infinite"),
        ("landmarks", lambda a: spoil(a, (3, 5, 1), -np.inf), "landmark NaN or infinite"),
        ("landmarks", lambda a: spoil(a, (3, 5, 0), 2 * WIDTH + 1), "landmark far outside"),
        ("landmarks", lambda a: spoil(a, (3, 5, 1), -HEIGHT - 1), "landmark far outside"),
        ("bboxes", lambda a: spoil(a, (3, 2), a[3, 0]), "box empty, outside the frame or NaN"),
        ("bboxes", lambda a: spoil(a, (3, 1), np.nan), "box empty, outside the frame or NaN"),
        ("bboxes", lambda a: spoil(a, (3, 2), np.inf), "box empty, outside the frame or NaN"),
        ("bboxes", lambda a: spoil(a, (3, [0, 2]), (-30, -1)), "box empty, outside the frame"),
        ("bboxes", lambda a: spoil(a, (3, [1, 3]), (HEIGHT, 90)), "box empty, outside the frame"),
    ],
)
def test_a_bad_frame_is_masked_and_counted(tmp_path, capsys, file, harm, kind):
    labels = write_layout(tmp_path / "in", hard=())
    path = tmp_path / f"in/{file}/a.npy"
    array = np.load(path)
    harm(array)
    np.save(path, array)
    assert run(tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    assert f"1 warning: {kind}" in out and "(1 frames)" in out and "16 of them count" in out
    assert f"warning: {tmp_path / 'in/videos/a.mp4'}: {kind}" in err
    example, (points, boxes) = read(tmp_path, "easy")["a"], labels["a"]
    good = np.arange(FRAMES) != 3
    np.testing.assert_array_equal(example["mask"], good)
    np.testing.assert_array_equal(example["landmarks"][good], points[good])
    np.testing.assert_array_equal(example["boxes"][good], boxes[good, :4].astype(np.float32))
    assert np.isnan(example["boxes"][3]).all() == (file == "bboxes")
    assert np.isnan(example["landmarks"][3]).all() == (kind == "landmark NaN or infinite")


def test_labels_a_little_outside_count():
    landmarks = np.full((1, 4, 2), 5.0)
    landmarks[0, :2] = [[-WIDTH, -HEIGHT], [2 * WIDTH, 2 * HEIGHT]]
    boxes = np.array([[-20.0, -20, 0, 0]])  # one pixel of it is in the frame
    assert videos.check_labels(landmarks, boxes, np.ones(1, bool), SIZE).mask.all()


def test_checking_labels_twice_changes_nothing():
    rng = np.random.default_rng(0)
    landmarks, boxes = rng.uniform(-40, 110, (50, 3, 2)), rng.uniform(-20, 40, (50, 5))
    boxes[:, 2:] += 30
    landmarks[::7, 1, 0], boxes[::5, 2] = np.nan, np.inf
    mask = rng.uniform(size=50) < 0.7
    once = videos.check_labels(landmarks, boxes, mask, SIZE)
    twice = videos.check_labels(once.landmarks, once.boxes, once.mask, SIZE)
    assert 0 < once.mask.sum() < mask.sum()
    assert twice.oddities == once.oddities
    for field in ("landmarks", "boxes", "mask"):
        np.testing.assert_array_equal(getattr(twice, field), getattr(once, field))
    assert not (once.mask & ~mask).any()
    assert np.isfinite(once.landmarks[once.mask]).all() and np.isfinite(once.boxes[once.mask]).all()


def test_an_id_listed_twice_is_kept_once(tmp_path, capsys):
    write_layout(tmp_path / "in", easy=("a", "b"))
    path = tmp_path / "in/easy_video_IDs.txt"
    path.write_text("a\n\n  b  \na\r\n")
    assert run(tmp_path / "in", tmp_path) == 0
    out, err = capsys.readouterr()
    assert f"{path}:4: twice in one list: a is already in {path}:1" in err
    assert "2 of 3 videos, 17 frames" in out and "1 left out: twice in one list" in out
    assert splits(tmp_path)["easy"] == 2


def test_an_id_in_both_lists_is_in_both_splits_and_says_so(tmp_path, capsys):
    write_layout(tmp_path / "in", easy=("a", "b"), hard=("b", "c"))
    assert run(tmp_path / "in", tmp_path) == 0
    assert "in both lists, so in both splits: 1 videos (b)" in capsys.readouterr().out
    easy, hard = read(tmp_path, "easy"), read(tmp_path, "hard")
    assert easy["b"]["attributes"].tolist() == hard["b"]["attributes"].tolist() == [True, True]
    assert easy["a"]["attributes"].tolist() == [True, False]


@pytest.mark.parametrize(("harm", "word"), [(empty, "is empty"), (None, "No such file")])
def test_one_list_is_enough(tmp_path, capsys, harm, word):
    write_layout(tmp_path / "in")
    path = tmp_path / "in/easy_video_IDs.txt"
    harm(path) if harm else path.unlink()
    assert run(tmp_path / "in", tmp_path) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("easy is not built"))
    assert str(path) in line and word in line
    assert splits(tmp_path) == {"hard": 1}


def test_without_a_list_nothing_is_built(tmp_path, capsys):
    write_layout(tmp_path / "in")
    for path in (tmp_path / "in").glob("*.txt"):
        path.unlink()
    assert run(tmp_path / "in", tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert "easy is not built" in out and "hard is not built" in out
    assert "easy_video_IDs.txt, hard_video_IDs.txt    one ID per line" in err
    assert [f.name for f in (tmp_path / "out").iterdir()] == [".building.lock"]


def test_a_build_can_stop_early(tmp_path, capsys):
    write_layout(tmp_path / "in", easy=("a", "b", "c"), hard=("d",))
    garbage(tmp_path / "in/videos/a.mp4")
    assert run(tmp_path / "in", tmp_path, "--max_examples_per_split=1") == 0
    out = capsys.readouterr().out
    assert "easy       1 of 3 videos, 9 frames, 9 of them count\n" in out
    assert "1 left out: unreadable video" in out and "stopped after 1 kept per split" in out
    assert splits(tmp_path) == {"easy": 1, "hard": 1} and set(read(tmp_path, "easy")) == {"b"}
    assert run(tmp_path / "in", tmp_path, "--overwrite") == 0
    assert splits(tmp_path) == {"easy": 2, "hard": 1}


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_a_build_stops_at_one_or_more(tmp_path, number):
    write_layout(tmp_path / "in")
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "in", tmp_path / "out", f"--max_examples_per_split={number}")
    assert caught.value.code == 2


def test_the_example_clip_builds(tmp_path, capsys):
    assert run(EXAMPLE, tmp_path) == 0
    out = capsys.readouterr().out
    assert "easy       1 of 1 videos, 62 frames, 62 of them count\n" in out
    assert f"hard is not built: {EXAMPLE / 'hard_video_IDs.txt'} is empty" in out
    (example,) = read(tmp_path, "easy").values()
    assert example["landmarks"].shape == (62, 98, 2) and example["fps"] == 12.5
    # The boxes are WFLW's kind: the landmarks' extent but for the forehead, tracker's jitter apart.
    low, high = example["landmarks"].min(axis=1), example["landmarks"].max(axis=1)
    extent = np.concatenate([low, high], axis=1)
    np.testing.assert_allclose(example["boxes"][:, [0, 2, 3]], extent[:, [0, 2, 3]], atol=4)
    assert (example["boxes"][:, 1] < extent[:, 1] - 10).all()
