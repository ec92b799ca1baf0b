"""Films written by PyAV have the times and the sound of their source; without PyAV it is said."""

import errno
import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
from commands import complaint
from test_track import frames, model, numbers, squares, track  # noqa: F401  (fixtures)
from test_tracking import film

from ldeq_jax.errors import UserWriteError
from ldeq_jax.inference.track_films import Options
from ldeq_jax.media import files
from ldeq_jax.media.film_writer import open_film
from ldeq_jax.media.video import VideoReader

TIMES = [0.0, 0.04, 0.05, 0.2, 0.5, 0.52, 0.6, 0.9, 1.1, 1.2, 1.5, 1.6]
HERTZ, SAMPLES = 16000, 1000


@pytest.fixture
def av():
    return pytest.importorskip("av", reason="needs the extra [video]")


@pytest.fixture
def spoken(av, tmp_path):
    """A film of uneven times with two seconds of sound."""
    with av.open(str(tmp_path / "spoken.mp4"), "w") as made:
        video = made.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = made.add_stream("aac", rate=HERTZ)
        sound.layout = "mono"
        for image, time in zip(frames(), TIMES, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            made.mux(video.encode(frame))
        made.mux(video.encode())
        for start in range(0, 2 * HERTZ, SAMPLES):
            wave = 9000 * np.sin((start + np.arange(SAMPLES)) / 8)
            part = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            part.sample_rate, part.pts = HERTZ, start
            made.mux(sound.encode(part))
        made.mux(sound.encode())
    return tmp_path / "spoken.mp4"


def sound_of(av, path):
    """Packets of sound, and their times."""
    with av.open(str(path)) as opened:
        packets = [packet for packet in opened.demux(audio=0) if packet.dts is not None]
        return [bytes(p) for p in packets], [float(p.pts * p.time_base) for p in packets]


def times_of(path):
    return VideoReader(path).times()[0]


def test_a_drawn_film_has_every_frame_at_its_time_and_the_sound_as_it_was(
    av,
    model,  # noqa: F811
    spoken,
    capsys,
):
    np.testing.assert_allclose(times_of(spoken), TIMES, atol=1e-3)
    out = track(model, "--codec=h264", spoken)
    np.testing.assert_allclose(times_of(out / "spoken.mp4"), TIMES, atol=1e-3)
    packets, times = sound_of(av, out / "spoken.mp4")
    given, when = sound_of(av, spoken)
    count = len(packets)
    assert packets == given[:count] and times == pytest.approx(when[:count], abs=1e-3)
    assert 1.5 < times[-1] < 1.85, "it ends with the last frame"
    told = capsys.readouterr().out
    assert "no sound" not in told and "left out" not in told
    assert numbers(out / "spoken.npz")["complete"]


def test_the_sound_of_a_part_begins_with_the_part(av, model, spoken):  # noqa: F811
    out = track(model, "--codec=h264", "--start=0.5", "--end=1.15", spoken)
    kept = [time for time in TIMES if 0.5 <= time < 1.15]
    with av.open(str(out / "spoken.mp4")) as opened:
        times = [float(frame.pts * frame.time_base) for frame in opened.decode(video=0)]
    np.testing.assert_allclose(times, np.array(kept) - 0.5, atol=1e-3)
    packets, times = sound_of(av, out / "spoken.mp4")
    given, when = sound_of(av, spoken)
    first = given.index(packets[0])
    assert 0.5 - 0.065 <= when[first] < 0.5 and packets == given[first : first + len(packets)]
    assert times == pytest.approx(np.array(when[first : first + len(packets)]) - 0.5, abs=2e-3)


def test_a_film_without_sound_has_none(av, tmp_path):
    silent = film(tmp_path / "silent.avi", frames())
    with open_film(tmp_path / "new.mp4", 25.0, sound=silent) as writer:
        for image, time in zip(frames(), TIMES, strict=True):
            writer.write(image, time)
    with av.open(str(tmp_path / "new.mp4")) as opened:
        assert not opened.streams.audio and writer.sound == "none"
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_written_is_said_and_leaves_no_file(av, tmp_path):
    with pytest.raises(UserWriteError, match="cannot write .*new.mp4"):
        with open_film(tmp_path / "new.mp4", 25.0) as writer:
            writer.write(np.zeros((121, 161, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_of_the_film_and_leaves_no_file(av, tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "a")
    partial = tmp_path / ".a.partial.mp4"
    with pytest.raises(UserWriteError, match="cannot write .*new.mp4: No space left") as raised:
        with open_film(tmp_path / "new.mp4", 25.0):
            partial.touch()
            raise av.error.OSError(errno.ENOSPC, "No space left on device", str(partial))
    assert "partial" not in str(raised.value) and not list(tmp_path.iterdir())


def test_without_pyav_h264_says_what_to_install(model, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "av", None)
    clip = film(tmp_path / "clip.avi", frames())
    arguments = f"--output={tmp_path / 'out'}", f"--checkpoint={model}", "--codec=h264", str(clip)
    assert "pip install 'ldeq_jax[video]'" in complaint("track", *arguments)
    assert not Options(codec="vp09").with_sound and Options(codec="h264").with_sound
    assert list(itertools.chain(tmp_path.glob("out/*"))) == []
