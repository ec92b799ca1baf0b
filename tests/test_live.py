"""`ldeq live`: the newest frame is shown and sent, the keys work, and what cannot go on says so."""

# ruff: noqa: F811 (fixtures of other files are arguments here)

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import complaint
from test_track import ONE, frames, model, numbers, squares, track  # noqa: F401  (fixtures)
from test_tracking import film
from test_video_files import camera, numbered  # noqa: F401  (a fixture)

from ldeq_jax.cli.main import main
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.inference import live
from ldeq_jax.media import window
from ldeq_jax.media.feed import Feed
from ldeq_jax.media.video import CameraStoppedError, VideoReader

EXAMPLES = Path(__file__).parents[1] / "examples"


class Screen:
    """A window that notes what it is shown, and in which keys are pressed."""

    def __init__(self, keys=""):
        self.keys, self.shown, self.closed = list(keys), [], False

    def __call__(self, title):
        self.title = title
        return self

    def show(self, picture):
        self.shown.append(picture)
        return self.keys.pop(0) if self.keys else ""

    def close(self):
        self.closed = True


@pytest.fixture
def screen(monkeypatch):
    """Stands for the window of OpenCV; needs no display."""
    made = Screen()
    monkeypatch.setattr(window, "why_no_window", lambda: "")
    monkeypatch.setattr(window, "Window", made)
    return made


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setattr(window, "why_no_window", lambda: "no display")


@pytest.fixture
def clip(tmp_path):
    return film(tmp_path / "clip.avi", frames(), fps=50)


def watch(model, *arguments, code=0):
    assert main(["live", f"--checkpoint={model}", "--no_cuts", *map(str, arguments)]) == code


# What is shown and sent.


def test_a_film_plays_as_if_it_were_a_camera(model, clip, screen, capsys):
    watch(model, "--stdout", clip)
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    came = [line["frame"] for line in lines]
    assert came == sorted(set(came)) and came[-1] == 11, "the last is never left out"
    assert len(screen.shown) == len(lines) and screen.closed and "clip.avi" in screen.title
    assert f"{len(lines)} of 12 frames that came" in told.err
    for line, picture in zip(lines, screen.shown, strict=True):
        assert line["time"] == pytest.approx(line["frame"] / 50, abs=1e-3)
        blue = (picture[..., 2] > 200) & (picture[..., 0] < 120)
        assert blue.any() == any(face["face"] == 0 for face in line["faces"])


def test_lines_are_those_of_the_table(model, clip, no_screen, capsys):
    out = track(model, "--json", "--no_overlay", clip)
    table = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    capsys.readouterr()
    watch(model, "--stdout", "--detect_every=1", clip)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in said:
        assert line.keys() == table[line["frame"]].keys()
        for face in line["faces"]:
            assert face.keys() == table[-1]["faces"][0].keys()
            if face["face"] == 0:
                np.testing.assert_allclose(face["landmarks"][0], ONE[line["frame"]], atol=0.6)


def test_each_line_is_a_datagram(model, clip, no_screen, capsys):
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        watch(model, f"--udp=127.0.0.1:{receiver.getsockname()[1]}", clip)
        got = []
        while not got or got[-1]["frame"] < 11:
            got.append(json.loads(receiver.recv(1 << 16)))
    assert len(got[-1]["faces"]) == 2 and capsys.readouterr().out == ""


def test_nobody_needs_to_listen_and_what_is_too_long_is_said_once(capsys):
    with live.udp("127.0.0.1:9") as send:
        send("{}")
        send("{}")
        assert capsys.readouterr().err == ""
        send("x" * 70000)
        send("x" * 70000)
    assert capsys.readouterr().err.count("cannot send to 127.0.0.1:9") == 1


class Tracker:
    """Notes that it was asked."""

    def __init__(self, name, asked):
        self.name, self.asked = name, asked

    def step(self, image, time, state):
        self.asked.append((self.name, state))
        face = type("Face", (), {"id": 0, "status": "tracked", "points": POINTS})
        face.box, face.score = np.zeros(4), 0.5
        face.landmarks = type("L", (), {"spread": [1.0], "confidence": None})
        return type("Frame", (), {"time": time, "faces": [face], "ended": ()}), len(self.asked)


POINTS = 24 * np.stack([np.cos(2.4 * np.arange(68)), np.sin(2.4 * np.arange(68))], axis=1) + 75


def test_keys_switch_recurrence_mesh_and_ids_and_quit():
    asked = []
    trackers = {True: Tracker("rwr", asked), False: Tracker("alone", asked)}
    images = [np.zeros((120, 160, 3), np.uint8)] * 400
    reader = VideoReader(lambda: zip(images, np.arange(400) / 50, strict=True), name="film")
    screen, switches = Screen(["r", "", "R", "m", "i", "x", "q"]), live.Switches()
    watched = live.watch(reader, trackers, IBUG_68, switches=switches, screen=screen)
    assert [name for name, _ in asked] == ["rwr", "alone", "alone"] + ["rwr"] * 4
    assert [state for _, state in asked] == [None, 1, 2, 3, 4, 5, 6], "the faces stay known"
    assert watched.frames == 7 and switches == live.Switches(mesh=False, ids=False)
    # In the middle of the picture, where no line of text is.
    lit = [np.count_nonzero(picture[25:100].max(axis=2) > 60) for picture in screen.shown]
    assert lit[3] > lit[4] + 50 and lit[4] > lit[5] + 5 and lit[5] == lit[6] > 0


@pytest.mark.parametrize("key", [window.CLOSED, "Q"])
def test_a_window_that_is_closed_ends(model, tmp_path, screen, key):
    screen.keys = ["", key]
    watch(model, film(tmp_path / "long.avi", frames() * 20, fps=50))
    assert len(screen.shown) == 2 and screen.closed


# The newest frame.


def test_the_newest_frame_is_taken_and_older_ones_are_dropped():
    made, asked = threading.Semaphore(0), threading.Event()

    class Camera:
        live, name = True, "camera:3"

        def frames(self):
            for t in range(6):
                made.acquire()
                yield None, t / 10
                if t in (0, 3, 5):
                    asked.set()
                    if t != 5:
                        asked.clear()

    camera = Camera()
    with Feed(camera) as feed:
        made.release()
        assert feed.next().number == 0
        made.release(3)
        while made._value or feed._newest is None or feed._newest.number < 3:
            time.sleep(0.001)
        assert feed.next()[:3] == (3, None, 0.3)
        made.release(2)
        asked.wait(10)
        assert feed.next().number in (4, 5)


def test_a_film_keeps_its_times():
    times = [0.0, 0.05, 0.07, 0.2]
    reader = VideoReader(lambda: ((frames()[3], t) for t in times), name="film")
    begin = time.monotonic()
    with Feed(reader) as feed:
        came = list(iter(feed.next, None))
    assert came[-1].number == 3 and [one.time for one in came] == [times[n] for n, *_ in came]
    assert all(one.arrived - begin >= one.time - 0.001 for one in came), "none is early"


def test_what_the_reading_raises_is_raised_where_it_is_asked():
    def decode():
        yield from ((frames()[3], t / 100) for t in range(40))
        raise OSError(5, "input/output error")

    with Feed(VideoReader(decode, name="film")) as feed:
        with pytest.raises(OSError, match="input/output"):
            while feed.next():
                pass


# What cannot begin, or go on.


def test_a_camera_that_is_unplugged_ends_with_a_line(model, camera, no_screen, capsys):
    camera([*numbered(3), None, None, None])
    watch(model, "--stdout", "camera:3", code=3)
    told = capsys.readouterr()
    assert "camera:3 sends no more frames: check that it is connected" in told.err
    assert [json.loads(line)["frame"] for line in told.out.splitlines()][-1] == 2


def test_a_camera_that_hangs_ends_with_a_line():
    class Hanging:
        live, name = True, "camera:3"

        def frames(self):
            yield None, 0.0
            threading.Event().wait(5)

    with Feed(Hanging(), patience=0.05) as feed:
        feed.next()
        with pytest.raises(CameraStoppedError, match="camera:3 has sent no frame for 0.05 sec"):
            feed.next()
        feed._thread.join = lambda _: None  # it would be waited for


def test_of_a_camera_that_is_unplugged_the_tables_are_kept(model, tmp_path, camera, capsys):
    camera([*numbered(3), None, None, None])
    output = f"--output={tmp_path / 'out'}"
    assert main(["track", output, f"--checkpoint={model}", "--no_overlay", "camera:3"]) == 3
    assert "camera:3 sends no more frames" in capsys.readouterr().err
    found = numbers(tmp_path / "out" / "camera_3.npz")
    assert found["frame"].tolist() == [0, 1, 2] and not found["complete"]


def test_without_a_display_the_ways_out_are_named(model, clip, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    told = complaint("live", f"--checkpoint={model}", clip)
    assert re.search(r"no window \(.*\): .* --stdout or --udp=HOST:PORT, or .* ldeq track", told)
    told = complaint("live", f"--checkpoint={model}", "--no_window", clip)
    assert "no window (--no_window is given)" in told
    watch(model, "--stdout", clip)
    assert "there is no window: " in capsys.readouterr().err


def test_why_there_is_no_window_is_said(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:      NONE\n")
    assert "opencv-python-headless" in window.why_no_window()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:      QT5\n")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", "")
    assert "DISPLAY is not set" in window.why_no_window()
    monkeypatch.setenv("DISPLAY", ":4711")
    for code, reason in (("import sys; sys.exit('no such display')", "no such display"), ("", "")):
        monkeypatch.setattr(window, "_TRIAL", code)
        assert window.why_no_window() == reason
    monkeypatch.setattr(window, "_TRIAL", "import os; os._exit(6)")
    assert window.why_no_window() == "OpenCV ends with 6"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--udp=9000"], "--udp=9000 must be HOST:PORT"),
        (["--udp=host:0"], "must be HOST:PORT"),
        (["--udp=no.such.host.invalid:9"], "the host is not found"),
        (["--stdout", "--checkpoint=nothing"], "no folder nothing"),
        (["--stdout", "{folder}"], "has 2 films: name one of them"),
        (["--stdout", "camera:77"], "camera:77 cannot be opened"),
    ],
)
def test_mistakes_are_reported_in_one_line(model, clip, no_screen, arguments, message):
    film(clip.with_name("other.avi"), frames()[:2])
    given = [argument.format(folder=clip.parent) for argument in arguments]
    given += [] if not given[-1].startswith("--") else [clip]
    told = complaint("live", f"--checkpoint={model}", *given)
    assert re.search(message, told), told


def test_who_has_read_enough_ends_it_quietly(model, clip, no_screen, monkeypatch, capfd):
    def closed(line):
        raise BrokenPipeError

    monkeypatch.setattr(live, "print_line", closed)
    with open(os.devnull, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        watch(model, "--stdout", clip)
    assert capfd.readouterr().err.endswith("compiling\nldeq live: no frame was worked on\n")


@pytest.mark.slow
@pytest.mark.real
def test_a_real_window_shows_a_real_film():
    if shutil.which("Xvfb") is None or "GUI:                           NONE" in (
        cv2.getBuildInformation()
    ):
        pytest.skip("needs Xvfb, and a build of OpenCV with windows")
    with subprocess.Popen(["Xvfb", "-displayfd", "1"], stdout=subprocess.PIPE, text=True) as server:
        try:
            display = {"DISPLAY": f":{server.stdout.readline().strip()}"}
            clip = EXAMPLES / "wflw_v" / "videos" / "intel_head_pose_male.mp4"
            done = subprocess.run(
                [sys.executable, "-m", "ldeq_jax", "live", "--max_faces=1", str(clip)],
                env=os.environ | display,
                capture_output=True,
                text=True,
                timeout=300,
            )
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ of 62 frames that came", done.stderr) and "no window" not in done.stderr
