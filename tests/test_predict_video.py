"""Predicting on a video file: what is written is what the tracker says, whole or not at all."""

import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import signal
import time
import weakref

import cv2
import numpy as np
import PIL.Image
import pytest
from commands import complaint, ldeq
from test_data import picture
from test_inference import CONFIG, MODEL, random_state
from test_tracking import Model, film, scene, square

from ldeq_jax import weights
from ldeq_jax.cli.main import main
from ldeq_jax.data.config import DataConfig
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference import follower, video_file
from ldeq_jax.inference.detection import Detections
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.inference.tracks import Track
from ldeq_jax.media import pictures
from ldeq_jax.media.video import VideoReader
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.report import overlay
from ldeq_jax.report.draw import PREDICTED_RGB

PATH = np.array([(40, 30), (43, 32), (46, 34), (49, 36), (52, 38)])
SIDE = 40
BOX = "--box=38,31,80,70"
WIDE = pathlib.Path(__file__).parent / "videos" / "wide_pixels.mp4"
CORNERS = slice(0, 4)  # the landmarks at the corners of the square


class Steady(Model):
    """Finds the square; with recurrence, a bit lower."""

    made, intervals = [], []

    def __init__(self, config, variables, recurrence):
        super().__init__(config, variables, recurrence)
        self.made.append(recurrence)

    def step(self, frame, box, memory=None, interval=None):
        self.intervals.append(interval)
        seen, memory = super().step(frame, box, memory, interval)
        return dataclasses.replace(seen, points=seen.points + [0, bool(self.recurrence)]), memory


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directory of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("model") / "released"
    faces = DataConfig(name="none", crop="landmarks", crop_scale=1.3, schema="ibug_68")
    config = dataclasses.replace(
        CONFIG, model=dataclasses.replace(MODEL, num_landmarks=68), data=faces
    )
    weights.export_model(folder, 3, random_state(config.model).variables(), config, {"nme": 1.0})
    return folder


@pytest.fixture
def steady(monkeypatch):
    """In its place one that finds the square; how each of its kind was made."""
    monkeypatch.setattr(follower, "VideoPredictor", Steady)
    monkeypatch.setattr(Steady, "made", [])
    monkeypatch.setattr(Steady, "intervals", [])
    return Steady.made


@pytest.fixture
def clip(tmp_path):
    """A film of a square that moves."""
    return film(tmp_path / "clip.avi", [scene(corner, side=SIDE) for corner in PATH])


@pytest.fixture
def boxes(tmp_path):
    """A file with the boxes of the square, not quite right."""
    noise = np.random.default_rng(0).uniform(-3, 3, (5, 4))
    rows = [[*(square(*corner, SIDE) + by), 0.9] for corner, by in zip(PATH, noise, strict=True)]
    np.save(tmp_path / "boxes.npy", rows)
    return tmp_path / "boxes.npy"


def predict(model, clip, *options):
    """The numbers that a prediction writes."""
    output = clip.with_name("out.mp4")
    arguments = f"--checkpoint={model}", f"--output={output}", "--codec=mp4v"
    ldeq("predict", *arguments, *options, clip)
    with np.load(output.with_suffix(".npz")) as numbers:
        return dict(numbers)


def decoded(path):
    return [image for image, _ in VideoReader(path).frames()]


def at_square(corner):
    x1, y1, x2, y2 = square(*corner, SIDE)
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


# What is found.


def test_one_picture_shown_again_and_again_has_the_landmarks_of_the_picture(
    model, tmp_path, monkeypatch
):
    # What this model finds is no face, but has to pass for one.
    monkeypatch.setattr(follower, "why_not_a_face", lambda *_: "")
    box = [100.0, 40.0, 160.0, 99.0]
    clip = film(tmp_path / "clip.avi", [picture(9)] * 3)
    np.save(tmp_path / "boxes.npy", [box] * 3)
    found = predict(model, clip, f"--boxes={tmp_path / 'boxes.npy'}", "--still", "--crop_at_boxes")
    still = Predictor.load(model).faces(decoded(clip)[0], [box])
    for t in range(3):
        np.testing.assert_allclose(found["landmarks"][t], still.points[0], atol=1e-3)
        np.testing.assert_allclose(found["spread"][t], still.spread[0], atol=1e-3)
    np.testing.assert_array_equal(found["box"], [box] * 3)


@pytest.mark.parametrize("given", ["box", "boxes", "crop_at_boxes"])
def test_landmarks_move_with_the_scene(model, clip, boxes, steady, given):
    options = {"box": [BOX], "boxes": [f"--boxes={boxes}"]}
    options["crop_at_boxes"] = [*options["boxes"], "--crop_at_boxes"]
    found = predict(model, clip, "--still", *options[given])
    corners = np.array([at_square(corner) for corner in PATH])
    np.testing.assert_allclose(found["landmarks"][:, CORNERS], corners, atol=0.6)
    assert found["landmarks"].shape == (5, 68, 2) and found["landmarks"].dtype == np.float32
    assert found["spread"].tolist() == np.ones((5, 68)).tolist()
    assert found["ok"].tolist() == [True] * 5
    assert found["fps"] == 12.5 and found["schema"] == "ibug_68"
    rows = np.load(boxes)[:, :4]
    np.testing.assert_array_equal((found["box"] == rows).all(axis=1), given == "crop_at_boxes")


def test_without_a_box_the_largest_face_is_followed_from_where_one_is_detected(
    model, clip, steady, monkeypatch, capsys
):
    looked = []

    class Late:
        def __call__(self, image):
            looked.append(image.shape)
            at = [square(*corner, SIDE) for corner in ([0, 0], PATH[min(len(looked), 5) - 1])]
            scores = {1: [0.7, 0.7], 2: [0.9, 0.7]}.get(len(looked), [0.7, 0.9])
            return Detections(np.array(at), np.array(scores))

    monkeypatch.setattr(video_file, "YuNet", Late)
    # In frame 0 none is sure enough, and what is detected in frame 1 is no face.
    monkeypatch.setattr(
        follower, "why_not_a_face", lambda points, box, *_: "none" if box[0] < 5 else ""
    )
    monkeypatch.setattr(
        follower,
        "box_of_landmarks",
        lambda points, _: square(0, 0, SIDE) if points.min() < 5 else square(*PATH[3], SIDE),
    )
    found = predict(model, clip, "--compare")
    assert found["ok"].tolist() == found["alone_ok"].tolist() == [False] * 2 + [True] * 3
    assert len(looked) == 3, "once it is followed, nothing is detected"
    assert "largest of those detected in frame 2, box [46.0, 34.0" in capsys.readouterr().out


def test_the_flags_of_rwr_reach_it(model, clip, steady):
    predict(model, clip, BOX, "--penalty=3", "--follow=0.6", "--budget=1", "--align=crop")
    wanted = RwRConfig(penalty=3.0, follow=0.6, budget=1, align="crop")
    assert steady == [wanted, None]  # the other is for the second look
    steady.clear()
    predict(model, clip, BOX, "--hold_seconds=0.1", "--follow_seconds=0", "--fusion=geometric")
    assert steady[0] == RwRConfig(hold_seconds=0.1, follow_seconds=0.0, fusion="geometric")
    steady.clear()
    predict(model, clip, BOX, "--compare")
    assert steady == [None, None, RwRConfig(), None]


def test_the_model_hears_the_times_of_the_frames(model, clip, steady):
    predict(model, clip, BOX)
    # The first frame is looked at twice, follows none, and is not looked at again.
    np.testing.assert_allclose(Steady.intervals[2:], 1 / 12.5, rtol=1e-3)


def test_rwr_is_as_the_model_is_configured_unless_a_flag_says_otherwise(
    model, clip, steady, tmp_path
):
    config, variables, _ = weights.load_model(model)
    released = RwRConfig(budget=1, first_budget=1, penalty=0.0, align="none")
    config = dataclasses.replace(config, rwr=released)
    weights.export_model(
        tmp_path / "own", 3, random_state(config.model).variables(), config, {"nme": 1.0}
    )
    predict(tmp_path / "own", clip, BOX)
    predict(tmp_path / "own", clip, BOX, "--penalty=2", "--budget=0")
    predict(tmp_path / "own", clip, BOX, "--hold_seconds=0.1")  # in place of the stored penalty
    changed = dataclasses.replace(released, penalty=2.0, budget=0)
    seconds = dataclasses.replace(released, penalty=None, hold_seconds=0.1)
    assert steady == [released, None, changed, None, seconds, None]


def test_both_methods_are_compared_as_if_each_had_run_by_itself(model, clip, boxes, steady, capsys):
    both = predict(model, clip, f"--boxes={boxes}", "--compare")
    text = capsys.readouterr().out
    for method, prefix, option in (("each frame alone", "alone_", ["--still"]), ("RwR", "", [])):
        alone = predict(model, clip, f"--boxes={boxes}", *option)
        for name in ("landmarks", "spread", "box", "ok"):
            np.testing.assert_array_equal(both[prefix + name], alone[name])
        spread, moved = re.search(rf"\| {method} +\| 5 of 5 +\| +(\S+) \| +(\S+) \|", text).groups()
        assert float(spread) == 1
        np.testing.assert_allclose(float(moved), 100 * np.hypot(3, 2) / (SIDE - 1), atol=0.4)
        assert {"alone_landmarks"} & set(alone) == set()
    np.testing.assert_allclose(
        both["landmarks"] - both["alone_landmarks"], [[[0, 1]] * 68] * 5, atol=1e-4
    )


def test_movement_is_compared_where_both_methods_have_the_face():
    way = np.array([0.0, 3, 6, 9, 100, 103])
    landmarks = np.array([[-1, -1], [1, 1]]) * 15 + way[:, None, None] * [1, 0]

    def track(lost):
        there = np.isin(np.arange(6), lost, invert=True)[:, None, None]
        points = np.where(there, landmarks, np.nan)
        trouble = np.where(there[:, 0, 0], "", "gone")
        face = Landmarks(points=points, spread=points[..., 0], ok=trouble == "")
        return Track(landmarks=face, trouble=trouble, seconds=np.ones(6))

    table = video_file.summary({"a": track([]), "b": track([4])})
    assert re.findall(r"of 6 +\|[^|]+\| +(\S+) \|", table) == ["10.00", "10.00"]


def test_a_lost_face_is_reported_once_and_not_drawn(model, clip, boxes, steady, capsys):
    rows = np.load(boxes)
    rows[[1, 3]] = np.nan
    np.save(boxes, rows)
    found = predict(model, clip, f"--boxes={boxes}")
    assert found["ok"].tolist() == [True, False, True, False, True]
    for name in ("landmarks", "spread", "box"):
        there = np.isfinite(found[name]).reshape(5, -1)
        assert (there.all(axis=1) == found["ok"]).all() and (there.any(axis=1) == found["ok"]).all()
    text = capsys.readouterr().out
    assert re.findall("frame .*lost.*", text) == [
        "frame 1: RwR has lost the face: no box; it is found again at its next box"
    ]
    assert re.search(r"\| 3 of 5 .*\| +nan \|", text), "no two frames with it follow each other"
    drawn = [blue(frame) > 100 for frame in decoded(clip.with_name("out.mp4"))]
    assert drawn == [True, False, True, False, True]


def blue(frame):
    """Number of pixels in about the colour of the drawing."""
    return int((np.abs(frame.astype(int) - PREDICTED_RGB).max(axis=-1) < 60).sum())


def test_a_face_lost_for_good_is_reported(model, tmp_path, steady, capsys):
    clip = film(tmp_path / "clip.avi", [scene((60, 50), side=n) for n in (40, 40, 40, 6, 40, 40)])
    found = predict(model, clip, "--box=60,50,99,89")
    assert found["ok"].tolist() == [True, True, True, False, False, False]
    (told,) = re.findall("frame .*lost.*", capsys.readouterr().out)
    assert re.fullmatch(
        r"frame 3: RwR has lost the face: its landmarks fall together, to \d x \d pixels; "
        "ldeq track finds faces again, and so does --boxes, its box in every frame",
        told,
    )


# What is written.


def test_the_drawing_shows_the_landmarks_of_each_frame(model, clip, steady):
    found = predict(model, clip, BOX, "--still_frame=2")
    drawn = decoded(clip.with_name("out.mp4"))
    still = cv2.imread(str(clip.with_name("out_frame.png")))[..., ::-1]
    assert len(drawn) == 5 and drawn[2].shape == still.shape
    np.testing.assert_allclose(drawn[2].mean(axis=(0, 1)), still.mean(axis=(0, 1)), atol=3)
    # All of the frame is shown, four times as large, below its caption.
    top = still.shape[0] - 4 * 120
    for x, y in np.round((found["landmarks"][2] + 0.5) * 4 - 0.5).astype(int) + [0, top]:
        np.testing.assert_allclose(still[y, x], PREDICTED_RGB, atol=2)
    assert VideoReader(clip.with_name("out.mp4")).fps == 12.5


@pytest.mark.parametrize("options", [[], ["--compare"]])
def test_an_interrupted_run_leaves_what_was_there(model, clip, steady, monkeypatch, options):
    kept = {"clip.avi": clip.read_bytes(), "out.mp4": b"older", "out.npz": b"older"}
    for name in ("out.mp4", "out.npz"):
        clip.with_name(name).write_bytes(b"older")
    draw, drawn = overlay.side_by_side, []

    def interrupted(*arguments, **options):
        drawn.append(1)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(*arguments, **options)

    def torn(path, **_):
        path.write_text("half")
        raise KeyboardInterrupt

    output = f"--output={clip.with_name('out.mp4')}"
    arguments = f"--checkpoint={model}", output, BOX, "--codec=mp4v", "--overwrite", clip, *options
    with monkeypatch.context() as patch:
        patch.setattr(overlay, "side_by_side", interrupted)
        assert main(["predict", *map(str, arguments)]) == 130
    assert len(drawn) == 3
    left = {path.name: path.read_bytes() for path in clip.parent.iterdir()}
    if options:
        assert left.pop("out.npz") != kept.pop("out.npz"), "the numbers are whole before drawing"
    assert left == kept
    kept["out.npz"] = b"older"
    clip.with_name("out.npz").write_bytes(b"older")
    monkeypatch.setattr(np, "savez_compressed", torn)
    assert main(["predict", *map(str, arguments)]) == 130
    assert {path.name: path.read_bytes() for path in clip.parent.iterdir()} == kept


def test_sigterm_ends_it_like_an_interrupt(model, clip, steady, monkeypatch, capsys):
    former = signal.getsignal(signal.SIGTERM)

    def stopped(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        raise AssertionError("it goes on")

    monkeypatch.setattr(overlay, "side_by_side", stopped)
    arguments = f"--checkpoint={model}", f"--output={clip.with_name('out.mp4')}", BOX, clip
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, arguments), "--codec=mp4v"])
    assert ended.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1].endswith(": stopped by SIGTERM")
    assert {path.name for path in clip.parent.iterdir()} == {"clip.avi"}
    assert signal.getsignal(signal.SIGTERM) is former


class Refused:
    """A writer that fails after some frames."""

    def __init__(self, after):
        self.after = after

    def isOpened(self):
        return self.after < 0

    def open(self, *_):
        self.after -= 1
        return self.after < 0

    def write(self, _):
        self.after -= 1
        if self.after == -4:
            raise cv2.error("full")

    def release(self):
        pass


@pytest.mark.parametrize("options", [[], ["--compare"]])
@pytest.mark.parametrize("after", [0, 9])
def test_numbers_stay_when_a_drawing_fails(
    model, clip, steady, monkeypatch, capsys, after, options
):
    monkeypatch.setattr(cv2, "VideoWriter", Writer(after))
    output = clip.with_name("out.mp4")
    options = [f"--checkpoint={model}", f"--output={output}", BOX, "--still_frame=1", *options]
    message = complaint("predict", *options, clip)
    reason = "full" if after == 0 else f"cannot write {output}: use a name"
    assert message.startswith(f"{output} is not written: {reason}"), message
    assert message.count("is not written") == 1
    assert "| 5 of 5" in capsys.readouterr().out
    with np.load(output.with_suffix(".npz")) as numbers:
        assert numbers["ok"].all() and len(numbers["landmarks"]) == 5
    names = {"clip.avi", "out.npz", "out_frame.png"}
    assert {path.name for path in clip.parent.iterdir()} == names


class Writer:
    """In place of `cv2.VideoWriter`."""

    fourcc = cv2.VideoWriter.fourcc

    def __init__(self, after):
        self.after = after

    def __call__(self):
        return Refused(self.after)


def test_times_are_written_and_kept_by_the_drawing(model, clip, steady, monkeypatch):
    times = np.array([0, 0.04, 0.08, 0.32, 0.36])
    read = VideoReader.frames

    def late(self):
        for frame, moment in zip(read(self), times, strict=True):
            yield frame._replace(time=moment)

    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "frames", late)
        found = predict(model, clip, BOX)
    np.testing.assert_array_equal(found["time"], times)
    drawn = VideoReader(clip.with_name("out.mp4"))
    assert drawn.fps == 25 and len(drawn.times()[0]) == 10
    drawings = np.array(decoded(clip.with_name("out.mp4")), float)
    moved = [np.abs(np.diff(pair, axis=0)).mean() for pair in itertools.pairwise(drawings)]
    assert np.flatnonzero(np.array(moved) > 1).tolist() == [0, 1, 7, 8]


def test_a_frame_that_cannot_be_decoded_is_one_without_a_face(model, tmp_path, steady, capsys):
    path = film(tmp_path / "clip.mp4", [scene(corner, side=SIDE) for corner in PATH], codec="mp4v")
    data = bytearray(path.read_bytes())
    place = [found.start() for found in re.finditer(b"\x00\x00\x01\xb6", data)][2]
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    found = predict(model, path, BOX)
    assert found["ok"].tolist() == [True, True, False, True, True]
    assert np.isnan(found["landmarks"][2]).all() and np.isfinite(found["landmarks"][3:]).all()
    np.testing.assert_allclose(found["time"], np.arange(5) / 12.5)
    out = capsys.readouterr().out
    assert f"{path}: 1 of 5 frames cannot be decoded" in out and "lost the face" not in out
    drawn = decoded(path.with_name("out.mp4"))
    assert len(drawn) == 5 and blue(drawn[2]) < 100 < blue(drawn[3])


def test_pixels_that_are_not_square_are_made_so(model, tmp_path, steady, capsys, monkeypatch):
    monkeypatch.setattr(follower, "why_not_a_face", lambda *_: "")
    clip = shutil.copy(WIDE, tmp_path)
    found = predict(model, pathlib.Path(clip), "--box=28,16,68,56")
    assert found["ok"].all()
    out = capsys.readouterr().out
    assert "frames of 96 x 72 pixels" in out and "not square (2 : 1)" in out
    height, width = decoded(tmp_path / "out.mp4")[0].shape[:2]
    assert width / height > 1.2


@pytest.mark.parametrize(
    ("options", "readings"),
    [
        ([BOX], 1),
        (["--boxes={boxes}", "--still_frame=3"], 1),
        ([BOX, "--compare"], 2),
        (["--boxes={boxes}", "--compare", "--still_frame=3"], 2),
        ([BOX, "uneven"], 2),
    ],
)
def test_a_video_is_decoded_once_or_twice(
    model, clip, boxes, steady, monkeypatch, options, readings
):
    opened, real = [], cv2.VideoCapture

    class Counting:
        """Counts the frames of one opened file; they can be quicker than its header says."""

        def __init__(self, stream, *rest):
            self.capture, self.decoded = real(stream, *rest), 0
            if stream.name == str(clip):
                opened.append(self)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def grab(self):
            done = self.capture.grab()
            self.decoded += done
            return done

        def get(self, key):
            quick = "uneven" in options and key == cv2.CAP_PROP_POS_MSEC
            return self.capture.get(key) / (3 if quick else 1)

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    given = [option.format(boxes=boxes) for option in options if option != "uneven"]
    predict(model, clip, *given)
    assert [capture.decoded for capture in opened] == [5] * readings
    assert clip.with_name("out.mp4").exists()


def test_memory_does_not_grow_with_a_film(model, tmp_path, steady, monkeypatch):
    """Images are let go: no more than a few exist at any time."""
    images, alive = [], []

    class Image(np.ndarray):
        pass

    def frames(path):
        for t in range(40):
            image = scene((40, 30), side=SIDE).view(Image)
            images.append(weakref.ref(image))
            alive.append(sum(image() is not None for image in images))
            yield image, t / 10

    monkeypatch.setattr(pictures, "animation_frames", frames)
    clip = tmp_path / "clip.gif"
    first, second = PIL.Image.new("L", (9, 9)), PIL.Image.new("L", (9, 9), 200)
    first.save(clip, save_all=True, append_images=[second])
    found = predict(model, clip, "--box=40,30,79,69")
    assert len(found["ok"]) == 40 and found["ok"].all()
    assert len(alive) == 72, "the first 32 are looked at once more, for the rate"
    assert max(alive[32:]) <= 4


# What goes wrong.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "clip.avi: no face is detected in any of its 5 frames; give .* --box=x1"),
        ([BOX, "--boxes={boxes}"], "give --box or --boxes, not both"),
        ([BOX, BOX], "a video needs --box"),
        (["--box=1,2,3"], r"must be x1,y1,x2,y2, not '1,2,3' \(by --box\)"),
        (["--box=160,2,300,40"], "lie in the picture of 160 x 120"),
        (["--boxes={short}"], r"short.npy must hold x1 y1 x2 y2 in 5 rows.*clip.avi.*\(4, 5\)"),
        (["--boxes={flat}"], r"flat.npy must hold x1 y1 x2 y2 in 5 rows.*\(5, 3\)"),
        (["--boxes={outside}"], r"\(row 2 of .*outside.npy, counted from 0\) .*160 x 120"),
        (["--boxes={clip}"], "clip.avi is no .npy file of numbers"),
        (["--boxes={texts}"], "texts.npy is no .npy file of numbers"),
        (["--boxes={none}"], r"no face was found \(RwR\): in frame 0, no box"),
        (["--boxes=nowhere.npy"], "nowhere.npy"),
        ([BOX, "--crop_at_boxes"], "--crop_at_boxes needs --boxes"),
        ([BOX, "--output=drawn.png"], "drawn.png must end in .mp4"),
        ([BOX, "--output={link}"], "is the video itself"),
        ([BOX, "--still", "--compare"], "--still solves frames without RwR"),
        ([BOX, "--still", "--penalty=1"], "--still solves frames without RwR"),
        ([BOX, "--follow=0"], r"follow must be in \(0, 1\]"),
        ([BOX, "--budget=5"], "--budget can be at most 4"),
        ([BOX, "--still_frame=5"], "--still_frame=5: .*clip.avi has 5 frames"),
    ],
)
def test_mistakes_are_reported_in_one_line(model, clip, boxes, steady, tmp_path, options, message):
    rows = np.load(boxes)
    wrong = {"short": rows[:4], "flat": rows[:, :3], "none": rows * np.nan, "texts": ["a", "b"]}
    wrong["outside"] = rows.copy()
    wrong["outside"][2, [0, 2]] += 200
    names = {"clip": clip, "boxes": boxes, "link": tmp_path / "link.mp4"}
    for name, array in wrong.items():
        names[name] = tmp_path / f"{name}.npy"
        np.save(names[name], array)
    names["link"].symlink_to(clip)
    output = f"--output={tmp_path / 'new' / 'out.mp4'}"
    options = [option.format(**names) for option in options]
    found = complaint("predict", f"--checkpoint={model}", output, *options, clip)
    assert re.match(rf".*{message}", found), found
    assert "\n" not in found
    assert not list((tmp_path / "new").glob("*"))


def test_what_is_neither_picture_nor_video_is_reported(model, tmp_path):
    path = tmp_path / "clip.mp4"
    arguments = f"--checkpoint={model}", f"--output={tmp_path / 'out.mp4'}", BOX, path
    assert f"no picture {path}, nor a video" in complaint("predict", *arguments)
    path.write_text("no video")
    assert f"{path} is text, neither a picture nor a video" in complaint("predict", *arguments)


def test_a_video_cut_short_ends_where_it_is_cut(model, clip, steady, capsys):
    noise = np.random.default_rng(0).integers(0, 100, (9, 120, 160, 3), np.uint8)
    noise[:, 30:70, 40:80] = 255
    whole = film(clip, noise).read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    length = len(predict(model, clip, "--box=40,30,79,69")["ok"])
    assert 0 < length < 9 and f"{length} of {length}" in capsys.readouterr().out
    assert len(decoded(clip.with_name("out.mp4"))) == length


def test_a_setting_is_either_in_seconds_or_per_frame(capsys):
    for flags in (["--penalty=1", "--hold_seconds=1"], ["--follow_seconds=0", "--follow=1"]):
        with pytest.raises(SystemExit):
            main(["predict", "--output=out.mp4", *flags, "clip.mp4"])
        assert "not allowed with argument" in capsys.readouterr().err


def test_a_picture_takes_no_flags_of_videos(model, tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), picture(9))
    arguments = f"--checkpoint={model}", f"--output={tmp_path / 'out.png'}", BOX
    for flag in ("--compare", "--boxes=a.npy", "--penalty=1"):
        found = complaint("predict", *arguments, flag, path)
        assert f"{flag.partition('=')[0]} is for videos; {path} is none" in found
