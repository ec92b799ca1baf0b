"""Writes unit/golden.json: what OpenCV and this package say, for the tests of the page's code.

    python web/tests/make_golden.py

It needs onnxruntime: `make onnx`.
"""

import csv
import io
import json
import pathlib

import cv2
import numpy as np
import onnxruntime

from ldeq_jax.face.crops import crop_from_landmarks
from ldeq_jax.face.geometry import inverse, warp
from ldeq_jax.inference import detection, track_tables
from ldeq_jax.media.cuts import is_cut
from ldeq_jax.media.video import VideoReader

HERE = pathlib.Path(__file__).parent
FILM = HERE.parents[1] / "examples" / "intel_three_people_walking.mp4"
SIZE, SCALE = 12, 1.3
BOXES = {
    "enlarged": [20.3, 11.2, 27.1, 18.9],
    "reduced": [10.5, 8.25, 30.5, 27.0],
    "passing from one halving to the next": [10.2, 3.4, 43.9, 36.1],
    "halved, partly outside": [-20.0, -12.5, 40.0, 45.5],
}


def picture(width, height):
    """A picture that the tests make by the same formula."""
    y, x, c = np.mgrid[:height, :width, :3]
    return ((7 * x + 13 * y + 29 * c + 5 * (x * y % 17)) % 256).astype(np.uint8)


def crops(image):
    """The crop of each box."""
    for name, box in BOXES.items():
        crop = crop_from_landmarks(np.reshape(box, (2, 2)), SIZE, SCALE)
        matrix = inverse(crop)
        yield {
            "name": name,
            "box": box,
            "frame_from_crop": matrix.ravel().tolist(),
            "pixels": warp(image, crop, SIZE).ravel().tolist(),
        }


def detections():
    """Faces in a frame: YuNet's numbers where they count, and what OpenCV makes of them."""
    frame = [f.image for f in VideoReader(FILM).frames()][30]
    network = onnxruntime.InferenceSession(detection.FILE)
    height, width = frame.shape[:2]
    data = np.zeros((1, 3, 640, 640), np.float32)
    data[0, :, :height, :width] = frame[..., ::-1].transpose(2, 0, 1)
    names = [output.name for output in network.get_outputs()]
    found = dict(zip(names, network.run(None, {"input": data}), strict=True))
    sparse = {}
    for stride in (8, 16, 32):
        numbers = {kind: found[f"{kind}_{stride}"][0] for kind in ("cls", "obj", "bbox")}
        score = np.sqrt(np.clip(numbers["cls"] * numbers["obj"], 0, 1))[:, 0]
        sparse[stride] = {
            int(k): [float(v) for kind in numbers for v in numbers[kind][k]]
            for k in np.flatnonzero(score > 0.3)
        }
    opencv = cv2.FaceDetectorYN.create(
        str(detection.FILE), "", (640, 640), detection.LEAST_SCORE, detection.MOST_OVERLAP
    )
    padded = np.ascontiguousarray(data[0].transpose(1, 2, 0).astype(np.uint8))
    _, rows = opencv.detect(padded)
    extents = detection._extents(rows)
    return {
        "numbers": sparse,
        "faces": rows[:, [0, 1, 2, 3, 14]].tolist(),
        "extents": extents.tolist(),
    }


def table():
    """The head of a table, and a row, of two landmarks."""
    row = np.zeros((), track_tables.Tables([pathlib.Path("t.npz")], 2, {})._row)
    row["frame"], row["time"], row["face"], row["status"] = 3, 0.24, 1, 3
    row["box"], row["score"], row["confidence"] = (1.5, 2.25, 10, 20), 0.9, 0.75
    row["landmarks"] = [(1.5, 20), (10, 2.25)]
    row["spread"], row["probability"] = (0.5, 1.25), (1, 0.125)
    text = io.StringIO()
    csv.writer(text).writerows([track_tables._header(2), track_tables._cells(row)])
    return text.getvalue().split("\r\n")[:2]


def cuts():
    """How much a picture changes."""
    first, second = picture(70, 50), picture(70, 50)[::-1]
    _, scene = is_cut(first, None)
    cut, scene = is_cut(second, scene)
    return {"cut": cut, "change": scene.change}


def main():
    """Writes the file."""
    image = picture(70, 50)
    golden = {
        "crop_rule": {"size": SIZE, "scale": SCALE},
        "crops": list(crops(image)),
        "reduced": cv2.resize(image, (20, 14), interpolation=cv2.INTER_AREA).ravel().tolist(),
        "detector": detections(),
        "table": table(),
        "cuts": cuts(),
    }
    (HERE / "unit" / "golden.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
