"""Laws of video files: every frame in its place and at its time, whatever the file."""

import itertools
import os
import pathlib
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from ldeq_jax.errors import UserError
from ldeq_jax.media import writer
from ldeq_jax.media.video import CameraStoppedError, VideoReader
from ldeq_jax.media.writer import Pace, constant_rate, open_writer, write_video

ROOT = pathlib.Path(__file__).parents[1]
DRAWN = ROOT / "tests" / "videos"
CLIP = ROOT / "examples/wflw_v/videos/intel_head_pose_male.mp4"
SIZE = (64, 48)


def numbered(count):
    """Frames that tell their number by their green."""
    return [np.full((SIZE[1], SIZE[0], 3), [200, 40 + 12 * t, 40], np.uint8) for t in range(count)]


def number(image):
    return round((image[..., 1].mean() - 40) / 12)


def numbers(reader):
    return [None if image is None else number(image) for image, _ in reader.frames()]


def film(path, count=12, fps=12.5, codec="mp4v"):
    """A file that OpenCV writes."""
    code = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, SIZE)
    for frame in numbered(count):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def damaged(path, *places):
    """The bytes of a file with four wrong ones at each place."""
    data = bytearray(path.read_bytes())
    for place in places:
        data[place : place + 4] = b"\xff" * 4
    return bytes(data)


def vops(data):
    """Where the frames of an MPEG-4 file begin."""
    return [found.start() for found in re.finditer(b"\x00\x00\x01\xb6", data)]


class Lying:
    """A capture that says something else of some properties."""

    def __init__(self, capture, said):
        self.capture, self.said = capture, said

    def __getattr__(self, name):
        return getattr(self.capture, name)

    def get(self, key):
        return self.said.get(key, self.capture.get(key))


@pytest.fixture
def lie(monkeypatch):
    def lie(said):
        real = cv2.VideoCapture
        monkeypatch.setattr(cv2, "VideoCapture", lambda *args: Lying(real(*args), said))

    return lie


# Frames.


@pytest.mark.parametrize("of", [str, pathlib.Path, lambda path: path.read_bytes()])
def test_frames_come_in_order_and_in_red_green_and_blue_as_often_as_wanted(tmp_path, of):
    reader = VideoReader(of(film(tmp_path / "a.mp4")), threads=1)
    assert (reader.width, reader.height) == SIZE and reader.aspect == 1
    assert reader.fps == reader.header_fps == 12.5 and reader.header_frames == 12
    for _ in range(2):
        frames = list(reader.frames())
        means = [image.mean(axis=(0, 1)) for image, _ in frames]
        np.testing.assert_allclose(means, [f[0, 0] for f in numbered(12)], atol=4)
        np.testing.assert_allclose([time for _, time in frames], np.arange(12) / 12.5)
        assert frames[0].image.dtype == np.uint8 and frames[0].image.shape == (48, 64, 3)
    times, readable = reader.times()
    np.testing.assert_array_equal(times, [time for _, time in frames])
    assert readable.tolist() == [True] * 12


@pytest.mark.parametrize("lost", [[5], [3, 8], [6, 7], [1]])
def test_a_frame_that_cannot_be_decoded_is_one_of_none_and_the_film_goes_on(tmp_path, lost):
    path = film(tmp_path / "a.mp4")
    places = vops(path.read_bytes())
    reader = VideoReader(damaged(path, *(places[t] for t in lost)))
    assert numbers(reader) == [None if t in lost else t for t in range(12)]
    times, readable = reader.times()
    np.testing.assert_allclose(times, np.arange(12) / 12.5)
    assert np.flatnonzero(~readable).tolist() == lost


@pytest.mark.parametrize(
    ("places", "lost"), [([386], [5]), ([386, 464], [5, 10]), ([739], [22]), ([713], [23])]
)
def test_a_frame_is_missed_where_it_is_shown_not_where_it_is_stored(places, lost):
    whole = VideoReader(DRAWN / "reordered.mp4")
    reader = VideoReader(damaged(DRAWN / "reordered.mp4", *places))
    times, readable = reader.times()
    assert np.flatnonzero(~readable).tolist() == lost
    np.testing.assert_allclose(times, whole.times()[0], atol=1e-9)
    for t, (seen, true) in enumerate(zip(reader.frames(), whole.frames(), strict=True)):
        if lost == [22]:  # on which no other frame builds
            assert (seen.image is None) == (t == 22)
            assert seen.image is None or (seen.image == true.image).all()


def test_four_bytes_of_the_example_cost_one_frame():
    place = CLIP.read_bytes().index(b"mdat") + 40_000
    one_lost = 0
    for step in range(0, 4000, 500):
        _, readable = VideoReader(damaged(CLIP, place + step)).times()
        assert len(readable) == 62
        one_lost += (~readable).sum()
    assert VideoReader(CLIP).times()[1].all()
    assert one_lost <= 8


def test_where_a_film_ends_its_header_does_not_say(tmp_path):
    path = film(tmp_path / "a.avi", codec="MJPG")
    data = path.read_bytes()
    starts = [found.start() for found in re.finditer(b"00dc", data)]
    reader = VideoReader(data[: starts[8]])
    found = numbers(reader)
    assert found == list(range(len(found))) and len(found) in (7, 8)
    assert reader.header_frames == 12
    assert len(VideoReader(DRAWN / "variable_rate.webm").times()[0]) == 12
    assert VideoReader(DRAWN / "variable_rate.webm").header_frames == 21


def test_the_index_of_an_mp4_shows_that_a_film_is_cut_short():
    whole = CLIP.read_bytes()
    assert VideoReader(whole).listed_frames == VideoReader(CLIP).listed_frames == 62
    half = VideoReader(whole[: len(whole) // 2])
    assert len(half.times()[0]) < half.listed_frames == 62
    for estimated in ("variable_rate.webm",):
        assert VideoReader(DRAWN / estimated).listed_frames == 0


def test_of_a_film_that_is_cut_short_nothing_else_is_printed(tmp_path):
    """FFmpeg would print a line for each packet that is missing, and with them hide ours."""
    half = tmp_path / "half.mp4"
    half.write_bytes(CLIP.read_bytes()[: CLIP.stat().st_size // 2])
    code = "import sys; from ldeq_jax.media.video import VideoReader as R; R(sys.argv[1]).times()"
    env = {name: value for name, value in os.environ.items() if "LOGLEVEL" not in name}
    command = [sys.executable, "-c", code, str(half)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "" == done.stdout


def test_frames_of_another_size_are_brought_to_that_of_the_first():
    images = [np.full(shape, 90, np.uint8) for shape in ((48, 64, 3), (96, 128, 3), (20, 90, 3))]
    reader = VideoReader(lambda: zip(images, (0, 0.1, 0.2), strict=True))
    assert [image.shape for image, _ in reader.frames()] == [(48, 64, 3)] * 3


def test_frames_can_come_from_elsewhere():
    times = [0.0, 0.1, 0.4, 0.4]
    images = numbered(4)
    images[2] = None
    reader = VideoReader(lambda: zip(images, times, strict=True), name="a.gif")
    assert (reader.width, reader.height, reader.name) == (*SIZE, "a.gif")
    assert numbers(reader) == [0, 1, None, 3]
    found, readable = reader.times()
    np.testing.assert_allclose(found, [0, 0.1, 0.4, 0.4 + 1 / reader.fps])
    assert reader.fps == pytest.approx(10) and readable.tolist() == [True, True, False, True]
    assert VideoReader(lambda: [(None, 0.0), (images[0], 0.1)]).width == SIZE[0]
    for nothing in ([], [(None, 0.0)]):
        with pytest.raises(ValueError, match=r"a\.gif has no frame"):
            VideoReader(lambda found=nothing: iter(found), name="a.gif")


# Cameras, and how often a file is decoded.


class Camera:
    """A capture of a camera: a frame at each read, until it is unplugged."""

    def __init__(self, frames, said=None):
        self.frames, self.said, self.now = list(frames), said or {}, None
        self.released = False

    def isOpened(self):
        return bool(self.frames)

    def get(self, key):
        return self.said.get(key, -1.0)

    def grab(self):
        self.now = self.frames.pop(0) if self.frames else None
        return self.now is not None

    def retrieve(self):
        return True, np.ascontiguousarray(self.now[..., ::-1])

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch):
    """Puts a camera in the place of number 3."""

    def put(frames, **said):
        made = Camera(frames, **said)
        monkeypatch.setattr(cv2, "VideoCapture", lambda *args: {(3,): made}[args])
        return made

    return put


def test_a_camera_is_read_as_a_file_is_but_once(camera):
    made = camera([numbered(1)[0], None, *numbered(5)[1:]], said={cv2.CAP_PROP_FPS: 15.0})
    reader = VideoReader("camera:3")
    assert (reader.width, reader.height, reader.fps, reader.live) == (*SIZE, 15, True)
    assert reader.header_frames == reader.listed_frames == 0
    with pytest.raises(ValueError, match="camera:3 is a camera: it has no end"):
        reader.times()
    stream = reader.frames()
    first = next(stream)
    assert len(made.frames) == 5, "no frame is taken before it is asked for"
    frames = [first, *itertools.islice(stream, 4)]
    assert [number(image) for image, _ in frames] == [0, 1, 2, 3, 4]
    with pytest.raises(CameraStoppedError, match="camera:3 sends no more frames: check that it"):
        next(stream)
    times = [time for _, time in frames]
    assert times[0] == 0 and (np.diff(times) > 0).all() and times[-1] < 10
    assert made.released
    with pytest.raises(ValueError, match="camera:3 is a camera: its frames can be read once"):
        next(reader.frames())


def test_a_camera_that_cannot_be_read_is_named(camera):
    camera([])
    with pytest.raises(UserError, match="camera:3 cannot be opened: check that the camera is"):
        VideoReader("camera:3")
    dead = camera([None] * 9)
    with pytest.raises(UserError, match="camera:3 has no frame .* the camera sends none"):
        VideoReader("camera:3")
    assert dead.released and len(dead.frames) > 3


def test_a_file_may_have_the_name_of_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(pathlib.Path("a.mp4")).rename("camera:3")
    for source in ("./camera:3", pathlib.Path("camera:3")):
        assert not VideoReader(source).live


@pytest.fixture
def captures(monkeypatch):
    """All captures that are opened, with the number of frames that each decodes."""
    made, real = [], cv2.VideoCapture

    class Counting:
        def __init__(self, *args):
            self.capture, self.decoded, self.released = real(*args), 0, False
            made.append(self)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def grab(self):
            done = self.capture.grab()
            self.decoded += done
            return done

        def release(self):
            self.released = True
            self.capture.release()

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    return made


def test_a_file_is_opened_and_decoded_once_for_one_reading(tmp_path, captures):
    reader = VideoReader(film(tmp_path / "a.mp4"))
    assert numbers(reader) == list(range(12))
    assert [capture.decoded for capture in captures] == [12] and captures[0].released
    assert numbers(reader) == list(range(12))
    assert [capture.decoded for capture in captures] == [12, 12]


def test_what_is_not_read_is_closed(tmp_path, captures):
    path = film(tmp_path / "a.mp4")
    for leave in (VideoReader.close, VideoReader.times, lambda reader: next(reader.frames())):
        reader = VideoReader(path)
        leave(reader)
        assert all(capture.released for capture in captures)
        reader.close()
        assert numbers(reader) == list(range(12))


# Times.


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_each_frame_has_its_own_time(kind):
    times, _ = VideoReader(DRAWN / f"variable_rate.{kind}").times()
    true = [t / 12.5 for t in range(24) if t % 6 < 3]
    np.testing.assert_allclose(times, true, atol=1e-3)


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e6, np.nan])
def test_without_a_rate_or_times_there_are_25_frames_a_second(tmp_path, lie, fps):
    path = film(tmp_path / "a.mp4")
    lie({cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_POS_MSEC: 0.0, cv2.CAP_PROP_FRAME_COUNT: -1e18})
    reader = VideoReader(path)
    assert (reader.header_fps, reader.header_frames, reader.fps) == (0, 0, 25)
    np.testing.assert_allclose(reader.times()[0], np.arange(12) / 25)


def test_times_without_sense_become_those_of_the_rate(tmp_path, lie):
    lie({cv2.CAP_PROP_POS_MSEC: np.nan})
    times, _ = VideoReader(film(tmp_path / "a.mp4")).times()
    np.testing.assert_allclose(times, np.arange(12) / 12.5)


# Pixels that are not square.


def disc(image):
    """Width and height of what is white."""
    white = image.min(axis=-1) > 190
    return np.ptp(np.flatnonzero(white.any(axis=0))), np.ptp(np.flatnonzero(white.any(axis=1)))


@pytest.mark.parametrize(
    ("name", "size", "aspect"),
    [("wide_pixels", (96, 72), 2), ("wide_pixels_turned", (72, 96), 0.5)],
)
def test_pixels_are_made_square_unless_they_are_wanted_as_stored(name, size, aspect):
    reader = VideoReader(DRAWN / f"{name}.mp4")
    assert (reader.width, reader.height) == size and reader.aspect == aspect
    images = [image for image, _ in reader.frames()]
    assert len(images) == 5 and {image.shape for image in images} == {(size[1], size[0], 3)}
    width, height = disc(images[0])
    assert abs(width - 40) <= 3 and abs(height - 40) <= 3
    stored = VideoReader(DRAWN / f"{name}.mp4", square_pixels=False)
    (first, _), *_ = stored.frames()
    assert first.shape[1::-1] == (stored.width, stored.height)
    width, height = disc(first)
    assert width / height == pytest.approx(1 / aspect, rel=0.15)


@pytest.mark.parametrize("said", [(0, 1), (1, 0), (1, 1000), (-1, 1)])
def test_an_aspect_that_cannot_be_is_passed_over(tmp_path, lie, said):
    path = film(tmp_path / "a.mp4")
    lie({cv2.CAP_PROP_SAR_NUM: said[0], cv2.CAP_PROP_SAR_DEN: said[1]})
    reader = VideoReader(path)
    assert (reader.width, reader.height) == SIZE and reader.aspect == 1


# What is no video.


def test_what_is_no_video_is_named(tmp_path):
    whole = film(tmp_path / "whole.mp4").read_bytes()
    start = whole.index(b"mdat") + 4
    wiped = whole[:start] + bytes(whole.index(b"moov") - 4 - start)
    wiped += whole[whole.index(b"moov") - 4 :]
    wave = b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0"
    wave += b"data\0\x10\0\0" + bytes(4096)
    files = {
        "empty.mp4": (b"", "is empty"),
        "page.mp4": (b"\n<!DOCTYPE html>\n<html>", "an HTML page.*download"),
        "words.mp4": ("caf\xe9".encode() * 99, "is a text, not a video"),
        "begun.mp4": (whole[: len(whole) * 2 // 3], "not finished or not fully downloaded.*moov"),
        "cut.mp4": (whole[: whole.index(b"stsz")], "not finished or not fully downloaded.*moov"),
        "wiped.mp4": (wiped, r"no frame that can be decoded.*ffmpeg"),
        "pointer.mp4": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
        "noise.mp4": (np.random.default_rng(0).bytes(3000), "no video that OpenCV knows"),
        "tone.wav": (wave, "sound recording"),
    }
    for name, (data, said) in files.items():
        (tmp_path / name).write_bytes(data)
        for source in (tmp_path / name, data):
            with pytest.raises(ValueError, match=f"{re.escape(name)} .*{said}"):
                VideoReader(source, name=str(tmp_path / name))
    for name in ("cover.mp3", "cover.m4a"):
        with pytest.raises(ValueError, match=f"{name} is a sound recording with a cover picture"):
            VideoReader(DRAWN / name)
    with pytest.raises(ValueError, match=r"sound.m4a is a sound recording: it holds no video"):
        VideoReader(DRAWN / "sound.m4a")
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        VideoReader(tmp_path / "none.mp4")


def test_files_of_any_name_are_read_and_written(tmp_path):
    """In a process of its own, as some names crashed it."""
    code = """
import os, numpy as np
from ldeq_jax.media.video import VideoReader
from ldeq_jax.media.writer import write_video
pictures = [np.full((48, 64, 3), 20 * t, np.uint8) for t in range(3)]
for name in (b"caf\\xe9", b"12:30:05", b"-x", b"a%03d", b"a#b?c", b"file:a"):
    for path in (name + b".mp4", name + b"/" + name + b".mp4"):
        path = os.fsdecode(path)
        try:
            if "/" in path:
                os.mkdir(os.path.dirname(path))
        except OSError:
            continue  # not a name on this file system
        write_video(path, pictures, 25, codec="mp4v")
        assert len(VideoReader(path).times()[0]) == 3, path
        (only,) = [n for n in os.listdir(os.path.dirname(path) or ".") if n.startswith(".")] or [0]
        assert not only
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


# Writing.


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "made" / "a.mp4"
    write_video(path, iter(numbered(3)), 12.5, shown=[1, 0, 3], codec="mp4v")
    reader = VideoReader(path)
    assert numbers(reader) == [0, 2, 2, 2] and reader.fps == 12.5
    assert os.listdir(path.parent) == ["a.mp4"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("fps", [239.50131, 29.97002997, 333.3333, 12.3456789, 700.12345, 0.5])
def test_any_rate_can_be_written(tmp_path, fps):
    write_video(tmp_path / "a.mp4", numbered(3), fps, codec="mp4v")
    assert VideoReader(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=2e-4)


def test_after_an_error_the_former_file_is_still_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("older")

    def torn():
        yield from numbered(2)
        raise KeyboardInterrupt

    other = np.zeros((96, 64, 3), np.uint8)
    for pictures, error, said in (
        (torn(), KeyboardInterrupt, "^$"),
        ([*numbered(2), other], OSError, r"a\.mp4: only 2 of 3 frames"),
        ([], ValueError, "without a picture"),
    ):
        with pytest.raises(error, match=said):
            write_video(path, pictures, 25, codec="mp4v")
        assert os.listdir(tmp_path) == ["a.mp4"] and path.read_text() == "older"
    with pytest.raises(ValueError, match="fps must be greater than 0, got nan"):
        write_video(path, numbered(1), float("nan"))


def test_a_writer_holds_nothing_and_leaves_nothing_after_an_error(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(RuntimeError), open_writer(path, 25, codec="mp4v") as file:
        file.write(numbered(1)[0])
        raise RuntimeError
    assert not os.listdir(tmp_path)
    with open_writer(path, 25, codec="mp4v") as file:
        for picture in numbered(3):
            file.write(picture)
        assert file.count == 3 and not path.exists()
    assert numbers(VideoReader(path)) == [0, 1, 2] and os.listdir(tmp_path) == ["a.mp4"]


# A constant rate for any times.


def shown_at(times, rate, shown):
    """The frame that each moment of the written video shows, and when it is shown."""
    frames = np.repeat(np.arange(len(times)), shown)
    return frames, np.arange(len(frames)) / rate


@pytest.mark.parametrize("fps", [12.5, 29.97002997, 23.976, 239.50131, 1, 60])
@pytest.mark.parametrize("digits", [12, 3])
def test_a_constant_rate_stays_whatever_times_are_rounded_to(fps, digits):
    times = np.round(np.arange(500) / fps, digits)
    rate, shown = constant_rate(times, fps)
    assert rate == pytest.approx(fps, rel=1e-5) and shown.tolist() == [1] * 500


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fps", [5.0, 12.5, 1000.0])
def test_other_times_are_kept_to_half_a_frame(seed, fps):
    rng = np.random.default_rng(seed)
    times = 7 + np.cumsum(rng.choice([0.033, 0.04, 0.1, 0.6], 80))
    rate, shown = constant_rate(times, fps)
    assert 25 <= rate <= 60
    frames, moments = shown_at(times, rate, shown)
    since = times - times[0]
    later = np.append(since[1:], since[-1] + 1)
    assert (moments >= since[frames] - 0.51 / rate).all()
    assert (moments <= later[frames] + 0.51 / rate).all()
    step = np.median(np.diff(times))
    assert len(frames) / rate == pytest.approx(since[-1] + step, abs=1.01 / rate)


def test_a_rate_is_chosen_that_keeps_quick_frames_but_no_more_than_60():
    drawn = np.array([t / 12.5 for t in range(24) if t % 6 < 3])
    rate, shown = constant_rate(drawn, 7.14)
    assert rate == 12.5 and shown.tolist() == [1, 1, 4] * 3 + [1, 1, 1]
    slow_motion = np.concatenate([np.arange(90) / 30, 3 + np.arange(40) / 240])
    assert constant_rate(slow_motion, 42)[0] == 60
    assert constant_rate(np.arange(9) / 240, 30)[0] == 240  # not in slow motion throughout
    assert constant_rate([3.0], 25.0) == (25, [1])


def test_a_pause_is_at_most_a_minute_and_times_must_grow():
    _, shown = constant_rate([0, 0.04, 0.08, 4000.0], 25)
    assert shown.tolist() == [1, 1, 60 * 25, 1]
    for wrong in ([], [0, 0.1, 0.1], [0, np.nan]):
        with pytest.raises(ValueError, match="must grow"):
            constant_rate(wrong, 25)


@pytest.mark.parametrize("seed", range(8))
def test_while_frames_arrive_they_are_shown_as_if_all_times_were_known(seed):
    rng = np.random.default_rng(seed)
    steps = [[0.04], [0.04, 0.08, 0.6], [0.04, 0.0401], [0.033, 0.04], [0.08], [0.04, 90.0]]
    times = 3 + np.cumsum(rng.choice(steps[seed % 6], 60))
    pace, shown = Pace(25.0), []
    for time in times:
        shown.append(pace.add(time))
    shown.append(pace.end())
    rate, known = constant_rate(times, 25.0)
    kept = None not in shown
    quick = np.diff(np.round((times - times[0]) * 25)).min() < 1
    assert kept == (not quick and np.median(np.diff(times)) * 25 <= 1.5)
    assert not kept or (pace.rate, shown[0], shown[1:]) == (rate, 0, known.tolist())


def test_one_frame_is_shown_once():
    pace = Pace(25.0)
    assert (pace.add(7.0), pace.end()) == (0, 1)


def test_rates_fit_the_time_base_of_mpeg_4():
    for fps in itertools.chain(np.geomspace(0.001, 5000, 999), (65.5351, 655.351)):
        rate = writer._writable(fps)
        base = next(10**d for d in range(5) if abs(round(rate * 10**d) / 10**d - rate) < 1e-9)
        assert round(rate * base) <= 65535
        if 0.5 < fps < 1000:
            assert rate == pytest.approx(fps, rel=2e-3)
