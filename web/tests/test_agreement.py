"""What the page finds is what this package finds: in node on the same pixels, in the browser."""

import csv
import io
import json
import subprocess

import cv2
import numpy as np
import pytest
from conftest import HEAD, PEOPLE, ROOT

from ldeq_jax import FaceTracker, Predictor
from ldeq_jax.inference.smoothing import Alone
from ldeq_jax.inference.track_films import STRENGTHS, Options, recurrence_of
from ldeq_jax.media.pictures import read_picture
from ldeq_jax.media.video import VideoReader
from ldeq_jax.weights import load_model


def tracked(film, model, *, show="rwr", strength="normal"):
    """The frames of a film as `ldeq track` finds them, and what each frame alone gives by ids."""
    config, variables, _ = load_model(model)
    options = Options(strength=strength, smooth="none" if show == "alone" else "rwr")
    tracker = FaceTracker(config, variables, recurrence_of(config.rwr, options))
    alone, states, frames = Alone(config, variables), None, []
    for frame in tracker.track(film):
        points = None
        if show == "both":
            points, states = alone.step(frame, states)
        frames.append((frame, points))
    return frames


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def points_of(row):
    return np.array([[float(row[f"{axis}{k}"]) for axis in "xy"] for k in range(68)])


def compare(name, frames, text, *, mean, each):
    """Same frames, times, ids and states; landmarks that lie within some pixels.

    The mean of a face does, and each landmark that is more likely right than wrong. Where the model
    is in doubt, as of a jaw behind hair, a rounding of the pixels moves a landmark by more.
    """
    rows, away, sure = iter(rows_of(text)), [], []
    for frame, _ in frames:
        for face in frame.faces:
            row = next(rows)
            found = int(row["frame"]), int(row["face"]), row["status"]
            assert found == (frame.index, face.id, face.status)
            assert float(row["time"]) == pytest.approx(frame.time, abs=2e-3)
            if face.status == "lost":
                continue
            away.append(np.linalg.norm(points_of(row) - face.points, axis=1))
            sure.append(face.landmarks.probability > 0.5)
            confidence = float(face.landmarks.confidence)
            assert float(row["confidence"]) == pytest.approx(confidence, abs=0.02)
        if not frame.faces:
            assert next(rows)["status"] == "none"
    assert next(rows, None) is None
    away, sure = np.array(away), np.array(sure)
    print(
        f"\n{name}: {len(away)} faces, {np.mean(away):.4f} pixels in the mean, "
        f"{np.max(away.mean(axis=1)):.3f} in the worst face, farthest {np.max(away[sure]):.3f} of "
        f"the {np.mean(sure):.0%} landmarks that are rather right, {np.max(away):.3f} of all"
    )
    assert np.max(away.mean(axis=1)) < mean and np.max(away[sure]) < each


@pytest.mark.parametrize(
    ("film", "model", "show", "strength"),
    [
        (HEAD, "faces-68-tiny", "rwr", "normal"),
        (HEAD, "faces-68-tiny", "alone", "normal"),
        (HEAD, "faces-68", "both", "strong"),
        (PEOPLE, "faces-68-tiny", "rwr", "light"),
        (PEOPLE, "faces-68", "rwr", "normal"),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_the_same_pixels_give_the_same_landmarks(film, model, show, strength, tmp_path):
    images, times = zip(*((f.image, f.time) for f in VideoReader(film).frames()), strict=True)
    height, width = images[0].shape[:2]
    about = {"width": width, "height": height, "times": times}
    (tmp_path / "frames.json").write_text(json.dumps(about))
    (tmp_path / "frames.rgb").write_bytes(np.stack(images).tobytes())
    program = ROOT / "web" / "tests" / "track_frames.mjs"
    subprocess.run(["node", program, tmp_path, model, show, str(STRENGTHS[strength])], check=True)
    frames = tracked(film, model, show=show, strength=strength)
    name = f"node, {film.stem}, {model}, {show}, {strength}"
    compare(name, frames, (tmp_path / "found.csv").read_bytes().decode(), mean=0.1, each=0.25)
    if show == "both":
        found = json.loads((tmp_path / "alone.json").read_text())
        away = [
            np.linalg.norm(np.reshape(points, (-1, 2)) - alone[face.id], axis=1).max()
            for (frame, alone), faces in zip(frames, found, strict=True)
            for face, points in zip(frame.faces, faces, strict=True)
            if face.id in alone
        ]
        assert len(away) > 50 and max(away) < 0.2


@pytest.mark.parametrize(
    ("film", "model", "show"),
    [
        (HEAD, "faces-68-tiny", "rwr"),
        (HEAD, "faces-68-tiny", "alone"),
        (HEAD, "faces-68", "rwr"),
        (PEOPLE, "faces-68-tiny", "both"),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_a_film_in_the_browser_has_the_landmarks_of_ldeq_track(film, model, show, watched, address):
    page = watched(address)
    text = page.film(film, model=model, show=show)
    assert page.page.inner_text("#skipped") == "0"
    frames = tracked(film, model, show=show)
    # The two decoders give colours that differ by one level of 255 in the mean.
    each = 0.5 if film == HEAD else 1
    compare(f"browser, {film.stem}, {model}, {show}", frames, text, mean=0.5, each=each)


def test_a_picture_has_the_landmarks_of_ldeq_predict(watched, address):
    file = ROOT / "examples" / "portrait_1.jpg"
    page = watched(address)
    (row,) = rows_of(page.film(file, model="faces-68-tiny"))
    found, _ = Predictor.load("faces-68-tiny").detect(read_picture(file))
    away = np.linalg.norm(points_of(row) - found.points[0], axis=1)
    print(f"\nbrowser, {file.stem}: {away.mean():.3f} pixels, farthest {away.max():.3f}")
    assert away.max() < 0.5


def test_a_film_that_lies_on_its_side_is_turned(watched, address, tmp_path):
    av = pytest.importorskip("av")
    turned = tmp_path / "turned.mp4"
    frames = [frame.image for frame in VideoReader(HEAD).frames()][:6]
    with av.open(str(turned), "w") as film:
        stream = film.add_stream("libx264", rate=12, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 270, 480, "yuv420p"
        for image in frames:
            lying = np.ascontiguousarray(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))
            film.mux(stream.encode(av.VideoFrame.from_ndarray(lying, format="rgb24")))
        film.mux(stream.encode())
    data = bytearray(turned.read_bytes())
    # The matrix of the track's header says: turn by 90 degrees to the left.
    place = data.index(b"tkhd") + 4 + 40
    numbers = [0, -0x10000, 0, 0x10000, 0, 0, 0, 270 << 16, 0x40000000]
    data[place : place + 36] = np.array(numbers, ">i4").tobytes()
    turned.write_bytes(data)
    assert next(VideoReader(turned).frames()).image.shape == (270, 480, 3)
    page = watched(address)
    text = page.film(turned, model="faces-68-tiny", show="rwr")
    compare("browser, turned", tracked(turned, "faces-68-tiny"), text, mean=0.5, each=0.5)
