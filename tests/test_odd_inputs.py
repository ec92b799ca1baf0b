"""Odd films and pictures are tracked, or refused with a reason; nothing else ends it."""

# ruff: noqa: F811 (fixtures of other files are arguments here)

import collections
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from commands import complaint
from PIL import Image
from test_face_tracker import film as faces_of
from test_face_tracker import run, statuses, walk
from test_face_tracker import tracker as stub_tracker
from test_track import ONE, SIDE, frames, model, numbers, squares, track  # noqa: F401  (fixtures)
from test_tracking import Model, film, scene, seen, square

from ldeq_jax.inference import follower, track_films
from ldeq_jax.inference.detection import YuNet
from ldeq_jax.inference.self_test import drawn_face
from ldeq_jax.inference.tracker import FaceTracker
from ldeq_jax.media.pictures import read_picture
from ldeq_jax.media.video import VideoReader

EXAMPLES = Path(__file__).parents[1] / "examples"
CLIPS = {
    "male": EXAMPLES / "wflw_v" / "videos" / "intel_head_pose_male.mp4",
    "three": EXAMPLES / "intel_three_people_walking.mp4",
}


# Faces.


def test_a_film_may_have_no_face(model, tmp_path, capsys):
    out = track(model, film(tmp_path / "empty.avi", [scene()] * 7))
    found = numbers(out / "empty.npz")
    assert found["status"].tolist() == ["none"] * 7 and found["complete"]
    assert np.isnan(found["landmarks"]).all() and found["face"].tolist() == [-1] * 7
    assert len(list(VideoReader(out / "empty.mp4").frames())) == 7
    assert "7 frames, 0 of them with a face: no face is detected" in capsys.readouterr().out


@pytest.mark.parametrize("way", [(4, 0), (-4, 0), (0, 4), (0, -4)])
def test_a_face_may_leave_over_any_border_and_come_back_with_its_id(way):
    there = walk((80, 50), way, 25)
    frames = faces_of(*[[corner] for corner in [*there, *there[::-1]]])
    found = run(frames, detect_every=1)
    path = statuses(found, 0)
    assert path[:4] == path[-4:] == "dddd" and "l" in path[15:35], path
    assert {face.id for frame in found for face in frame.faces} == {0}
    # Where a part of it is seen, the landmarks are those of that part.
    for frame, corner in zip(found, there, strict=False):
        if frame.faces[0].status == "detected":
            x1, y1, x2, y2 = square(*corner)
            part = [max(x1, 0), max(y1, 0), min(x2, 159), min(y2, 119)]
            np.testing.assert_allclose(frame.faces[0].box, part, atol=0.6)


@pytest.mark.slow
def test_a_drawn_face_is_tracked_too(monkeypatch):
    monkeypatch.undo()  # the real model and detector
    them, state, nose = FaceTracker.load("faces-68"), None, []
    for t in range(25):
        image = np.roll(np.pad(drawn_face(), ((40, 40), (40, 160), (0, 0)), "edge"), 4 * t, axis=1)
        frame, state = them.step(image, t / 25, state)
        assert [(face.id, face.status != "lost") for face in frame.faces] == [(0, True)]
        nose.append(frame.faces[0].points[30, 0])
    np.testing.assert_allclose(np.diff(nose), 4, atol=2)


@pytest.mark.slow
@pytest.mark.parametrize("front", ["male", "three"])
def test_people_of_two_films_who_cross_keep_their_ids(monkeypatch, front):
    """The head of one film passes in front of that of another, which is hidden for a while."""
    monkeypatch.undo()
    boxes = {"male": (204, 30, 292, 150), "three": (190, 50, 264, 145)}
    heads = {}
    for name, path in CLIPS.items():
        x1, y1, x2, y2 = boxes[name]
        images = [image for image, _ in VideoReader(path).frames()][: 41 if name == "male" else 20]
        heads[name] = [cv2.resize(image[y1:y2, x1:x2], (130, 170)) for image in images]
    them, state, places = FaceTracker.load("faces-68"), None, []
    for t in range(80):
        canvas = np.full((300, 640, 3), 150, np.uint8)
        at = {"male": 20 + 5 * t, "three": 470 - 5 * t}
        for name in sorted(heads, key=lambda name: name == front):
            turn = t % (2 * len(heads[name]) - 1)  # forth and back, so without a jump
            image = heads[name][min(turn, 2 * len(heads[name]) - 2 - turn)]
            canvas[60:230, at[name] : at[name] + 130] = image
        frame, state = them.step(canvas, t / 25, state)
        assert {face.id for face in frame.faces} == {0, 1} and not frame.ended, t
        places.append({face.id: face.points[30, 0] for face in frame.faces})
    left = min(places[0], key=places[0].get)
    assert places[-1][left] > 400 and places[-1][1 - left] < 200


# Pictures.


class InItsBox(Model):
    """Finds a face in every box, without a look at the picture."""

    def step(self, frame, box, memory=None, interval=None):
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        return seen(centre + self.shape * half, box), (memory or 0) + 1


def test_a_frame_may_have_one_pixel_or_48_million(monkeypatch):
    monkeypatch.setattr(follower, "VideoPredictor", InItsBox)
    them = stub_tracker(YuNet(), cuts=True)
    frame, _ = them.step(np.full((1, 1, 3), 9, np.uint8), 0.0)
    assert not frame.faces
    face = cv2.resize(read_picture(EXAMPLES / "portrait_1.jpg"), (5200, 5200))
    large = np.full((6000, 8000, 3), 128, np.uint8)
    large[500:5700, 2000:7200] = face
    frame, _ = them.step(large, 0.0)
    assert [one.status for one in frame.faces] == ["detected"]


def test_pictures_in_a_row_may_be_of_any_kind(model, tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    upright = Image.fromarray(frames()[3])
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter, clockwise
    upright.save(folder / "0.png")
    upright.convert("L").save(folder / "1.png")
    upright.convert("RGBA").save(folder / "2.png")
    Image.fromarray(frames()[3][..., 0].astype(np.uint16) * 257).save(folder / "3.png")
    upright.convert("P").save(folder / "4.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "5.png", exif=turned)
    upright.convert("CMYK").save(folder / "6.tif")
    upright.convert("1").save(folder / "7.png")
    found = numbers(track(model, "--no_overlay", folder) / "shots.npz")
    assert found["frame"].tolist() == list(range(8)) and set(found["face"]) == {0}
    for box in found["box"]:
        np.testing.assert_allclose(box, square(*ONE[3], SIDE), atol=0.6)


# Where it is written, and what ends it.


def test_a_folder_that_cannot_be_written_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(track_films.os, "access", lambda *_: False)
    clip = film(tmp_path / "clip.avi", frames())
    told = complaint("track", f"--output={tmp_path / 'out'}", f"--checkpoint={model}", clip)
    assert told == f"cannot write to the folder {tmp_path / 'out'}"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_tables_are_kept(tmp_path, number, code):
    images = [image for image, _ in VideoReader(CLIPS["male"]).frames()]
    clip = film(tmp_path / "long.avi", images * 60)
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "ldeq_jax", "track", f"--output={out}", "--no_overlay", str(clip)],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        begin = time.monotonic()
        while (
            not any(out.glob(".*.partial.csv"))
            or max(path.stat().st_size for path in out.glob(".*.partial.csv")) < 20000
        ):
            assert process.poll() is None and time.monotonic() - begin < 300
            time.sleep(0.05)
        process.send_signal(number)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == code, told
    found = numbers(out / "long.npz")
    assert not found["complete"] and 0 < len(found["frame"]) < 62 * 60
    assert sorted(path.name for path in out.iterdir()) == ["long.csv", "long.npz"]


@pytest.mark.slow
def test_an_hour_takes_as_much_memory_as_a_minute(model, tmp_path, monkeypatch):
    """At most 5 MB more, though 45,000 frames of 58 kB are 2.6 GB, and their rows 40 MB.

    NumPy takes 16 MB at the end to compress any number of rows.
    """
    images, used = [scene(corner, side=SIDE) for corner in ONE], []

    def decode():
        for t in range(45_000):
            if t in (750, 44_999):
                used.append(psutil.Process().memory_full_info().uss)
            yield images[min(t % 22, 22 - t % 22)], t / 12.5

    class Forgetful(Model):
        """Does not note what it was asked."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.calls = collections.deque(maxlen=1)

    monkeypatch.setattr(follower, "VideoPredictor", Forgetful)
    monkeypatch.setattr(track_films.Film, "open", lambda self: VideoReader(decode, name="hour"))
    out = track(model, "--no_overlay", film(tmp_path / "hour.avi", images))
    used.append(psutil.Process().memory_full_info().uss)
    grown = np.diff(used) / 2**20
    assert grown[0] < 5 and grown.sum() < 40, grown
    with np.load(out / "hour.npz") as found:
        assert found["complete"] and found["frame"][-1] == 44_999
        assert len(found["face"]) == 45_000 and set(found["face"]) == {0}
