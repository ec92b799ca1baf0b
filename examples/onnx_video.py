"""The landmarks of a face in a film, by onnxruntime, NumPy and OpenCV alone.

    ldeq export faces-68 --format=onnx --output=exported
    python examples/onnx_video.py exported film.mp4 --output=film.csv --drawn=drawn.mp4

The first command needs ldeq_jax; the second runs where neither it nor JAX is installed. It shows
how the files of an export are used: detect a face, look at it, follow it by its own landmarks.
"""

import argparse
import csv
import itertools
import json
import pathlib

import cv2
import numpy as np


class Face:
    """Follows the largest face of a film; `points` is None while there is none."""

    def __init__(self, folder, strength=1.0):
        import onnxruntime

        self.about = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.first, self.next = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("first", "next")
        )
        found = self.about["detector"]
        file, score, overlap = (
            str(folder / found["file"]),
            found["least_score"],
            found["most_overlap"],
        )
        self.detector = cv2.FaceDetectorYN.create(file, "", (1, 1), score, overlap)
        self.strength = np.float32([strength])
        self.points, self.time = None, 0.0

    def step(self, frame, time):
        """Finds the face in the next frame (H, W, 3) BGR, at a time in seconds."""
        interval, self.time = time - self.time, time
        if self.points is not None and interval <= self.about["recurrence"]["longest_gap"]:
            self.look(frame, extent(self.points), interval)
        elif (box := self.detect(frame)) is not None:
            self.look(frame, box)
            if self.points is not None:  # its own landmarks say better where it is
                self.look(frame, extent(self.points))
        else:
            self.points = None

    def look(self, frame, box, interval=None):
        """Finds the landmarks of the face at a box, near those of the last frame if any."""
        image, frame_from_crop = self.crop(frame, box)
        inputs = {"image": image[None]}
        if interval is None:
            session = self.first
        else:
            session = self.next
            inputs |= self.state | {
                "frame_from_crop": frame_from_crop[None],
                "interval": np.float32([interval]),
                "strength": self.strength,
            }
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, inputs), strict=True))
        state = {name: found[name] for name in ("heatmaps", "motion")}
        state["frame_from_crop"] = frame_from_crop[None]
        self.state = {f"previous_{name}": value for name, value in state.items()}
        points = found["landmarks"][0] @ frame_from_crop[:2, :2].T + frame_from_crop[:2, 2]
        self.confidence = float(found.get("confidence", [1])[0])
        least, sides = self.about["lost"], np.ptp(points, axis=0)
        seen = self.confidence >= least["least_confidence"]
        seen &= sides.max() >= least["least_extent"] * (box[2:] - box[:2]).max()
        self.points = points if seen else None

    def crop(self, frame, box):
        """The RGB crop at a box, and the matrix from its pixels to those of the frame."""
        rule = self.about["crop"]
        x1, y1, x2, y2 = box
        y1 -= rule["forehead"] * (y2 - y1)
        size, step = rule["size"], rule["scale"] * max(x2 - x1, y2 - y1) / rule["size"]
        frame_from_crop = np.float32(
            [
                [step, 0, (x1 + x2) / 2 - step * size / 2],
                [0, step, (y1 + y2) / 2 - step * size / 2],
                [0, 0, 1],
            ]
        )
        if step > 1:
            reach = int(np.ceil(step)) - 1
            taps = 1 - np.abs(np.arange(-reach, reach + 1)) / step
            taps /= taps.sum()
            frame = cv2.sepFilter2D(frame, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_CONSTANT)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        image = cv2.warpAffine(frame, frame_from_crop[:2], (size, size), flags=flags)
        return np.rint(image[..., ::-1]).astype(np.uint8), frame_from_crop

    def detect(self, frame):
        """The box x1 y1 x2 y2 of the largest face of a frame; None if there is none."""
        rule = self.about["detector"]
        zoom = min(1.0, rule["longer_side"] / max(frame.shape[:2]))
        small = cv2.resize(frame, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        self.detector.setInputSize(small.shape[1::-1])
        _, faces = self.detector.detect(small)
        if faces is None:
            return None
        x, y, w, h = max(faces, key=lambda face: face[2] * face[3])[:4] / zoom
        centre = np.array([x + w / 2, y + h / 2 + rule["box_down"] * np.sqrt(w * h)])
        half = rule["box_scale"] * np.array([w, h]) / 2
        return np.concatenate([centre - half, centre + half])


def extent(points):
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="what `ldeq export` has written")
    parser.add_argument("film")
    parser.add_argument("--output", default="landmarks.csv", help="table of a row per frame")
    parser.add_argument("--drawn", help="the film with its landmarks")
    parser.add_argument("--strength", type=float, default=1.0, help="0 holds nothing (1)")
    options = parser.parse_args(argv)
    if not (options.folder / "first.onnx").exists():
        parser.error(f"{options.folder} is not what `ldeq export --format=onnx` writes")
    if not options.strength >= 0:
        parser.error("--strength must be 0 or more")
    for path in filter(None, (options.output, options.drawn)):
        if not pathlib.Path(path).absolute().parent.is_dir():
            parser.error(f"there is no folder to write {path} to")
    film = cv2.VideoCapture(options.film)
    if not film.isOpened():
        parser.error(f"{options.film} is no film that OpenCV can read")
    face, drawn = Face(options.folder, options.strength), None
    with open(options.output, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        count = face.about["schema"]["num_landmarks"]
        names = [f"{axis}{k}" for k in range(count) for axis in "xy"]
        table.writerow(["frame", "time", "confidence", *names])
        for index in itertools.count():
            good, frame = film.read()
            if not good:
                break
            time = film.get(cv2.CAP_PROP_POS_MSEC) / 1000
            face.step(frame, time)
            points = [] if face.points is None else face.points
            values = [face.confidence, *points.ravel()] if len(points) else [""] * (1 + 2 * count)
            table.writerow([index, time, *values])
            if options.drawn:
                size, rate = frame.shape[1::-1], film.get(cv2.CAP_PROP_FPS)
                code = cv2.VideoWriter.fourcc(*"mp4v")
                drawn = drawn or cv2.VideoWriter(options.drawn, code, rate, size)
                if not drawn.isOpened():
                    parser.error(f"OpenCV cannot write {options.drawn}: is it an .mp4?")
                for x, y in points:
                    cv2.circle(frame, (round(16 * x), round(16 * y)), 24, (0, 255, 0), -1, 16, 4)
                drawn.write(frame)
    if drawn:
        drawn.release()


if __name__ == "__main__":
    main()
