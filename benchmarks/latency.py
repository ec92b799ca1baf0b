r"""How long a frame takes by the number of faces in it: `FaceTracker.step`, MediaPipe and PFLD.

    pip install --target=MEDIAPIPE mediapipe==0.10.21
    pip install onnxruntime
    python -m benchmarks.latency --mediapipe=MEDIAPIPE --pfld=PFLD_GhostOne_112_1_opt_sim.onnx

The film is 1280x720: portraits of `examples/` that move on a grey ground. Each frame is handed over
as an array, and the time until its landmarks are there is taken. All run on the CPU and one after
another, in rounds, so that what else the machine does meets all of them alike. A line for each
method and number of faces: the median of the milliseconds, the 90th percentile, the mean number of
faces found.

- ours: `FaceTracker.step`, with recurrence and, to compare, with each frame alone; YuNet every 5
  frames.
- PFLD: YuNet every 5 frames, or in every one while a face is missing, and in each frame the network
  on each face, in the box around its last landmarks. It has no ids, no smoothing and no test
  whether a face is still there.
- MediaPipe: FaceMesh (468 points) in its video mode, which detects when a face is missing. It needs
  older NumPy, so it runs in a process of its own, from the folder that it was installed to.

Without --mediapipe or --pfld their lines are missing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import numpy as np

from ldeq_jax.cli.options import count, names
from ldeq_jax.inference.detection import YuNet
from ldeq_jax.inference.tracker import FaceTracker
from ldeq_jax.media.pictures import read_picture
from ldeq_jax.report.tables import markdown_table

EXAMPLES = Path(__file__).parents[1] / "examples"
WIDTH, HEIGHT, WARM = 1280, 720, 15  # pixels; frames that are not counted
GRID = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (4, 2)}  # of the faces, columns and rows
# Runs in MediaPipe's own process: reads a line for each pass, prints milliseconds and faces.
MEDIAPIPE = """
import sys, time
import mediapipe, numpy
for line in sys.stdin:
    file, faces = line.split()
    images = numpy.load(file, mmap_mode="r")
    options = dict(static_image_mode=False, max_num_faces=int(faces), refine_landmarks=False)
    with mediapipe.solutions.face_mesh.FaceMesh(**options) as mesh:
        for image in images:
            image = numpy.ascontiguousarray(image)
            begin = time.perf_counter()
            found = mesh.process(image).multi_face_landmarks
            print(1000 * (time.perf_counter() - begin), len(found or ()))
    print("end", flush=True)
"""

# From a film to the milliseconds and the number of faces of each frame.
Method = Callable[[np.ndarray, int], list[tuple[float, int]]]


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--checkpoint", default="faces-68", help="our model (faces-68)")
    add("--mediapipe", type=Path, help="folder that MediaPipe is installed to")
    add("--pfld", type=Path, help="ONNX file of a PFLD network")
    add("--faces", type=names, default=["1", "2", "4", "8"], help="numbers of faces (1,2,4,8)")
    add("--frames", type=count, default=100, help="of the film (100)")
    add("--rounds", type=count, default=3, help="how often all are measured (3)")
    options = parser.parse_args()

    ours = FaceTracker.load(options.checkpoint)
    alone = FaceTracker.load(options.checkpoint, None)
    methods: dict[str, Method] = {
        f"{options.checkpoint}, RwR": tracked_by(ours),
        f"{options.checkpoint}, each frame alone": tracked_by(alone),
    }
    if options.pfld:
        methods[f"YuNet and {options.pfld.stem}"] = _pfld(options.pfld)
    if options.mediapipe:
        methods["MediaPipe FaceMesh"] = _mediapipe(options.mediapipe)
    rows = []
    for faces in map(int, options.faces):
        images = film(faces, options.frames + WARM)
        found: dict[str, list[tuple[float, int]]] = {}
        for _ in range(options.rounds):
            for name, method in methods.items():
                found.setdefault(name, []).extend(method(images, faces)[WARM:])
        for name, frames in found.items():
            milliseconds, seen = np.array(frames).T
            rows.append(
                {
                    "faces": faces,
                    "method": name,
                    "median (ms)": float(np.median(milliseconds)),
                    "90 % (ms)": float(np.percentile(milliseconds, 90)),
                    "faces found": float(seen.mean()),
                }
            )
            print(rows[-1], flush=True)
    print("\n" + markdown_table(rows), end="")


def film(faces: int, length: int) -> np.ndarray:
    """(T, 720, 1280, 3) uint8 RGB: a number of portraits, each of which moves a little."""
    heads = [read_picture(EXAMPLES / f"portrait_{n}.jpg") for n in (1, 2)]
    columns, rows = GRID[faces]
    side = min(WIDTH // columns, HEIGHT // rows) - 24  # room to move
    images = np.full((length, HEIGHT, WIDTH, 3), 128, np.uint8)
    for number in range(faces):
        head = cv2.resize(heads[number % 2], (side, side), interpolation=cv2.INTER_AREA)
        left = WIDTH // columns * (number % columns) + (WIDTH // columns - side) // 2
        top = HEIGHT // rows * (number // columns) + (HEIGHT // rows - side) // 2
        for t, image in enumerate(images):
            x = left + round(8 * np.sin(0.2 * t + number))
            y = top + round(8 * np.cos(0.15 * t + number))
            image[y : y + side, x : x + side] = head
    return images


def tracked_by(tracker: FaceTracker) -> Method:
    """Our tracker as a method."""

    def run(images, faces):
        tracker.warm_up(faces)
        state, found = None, []
        for t, image in enumerate(images):
            begin = time.perf_counter()
            frame, state = tracker.step(image, t / 25, state)
            seen = sum(face.status != "lost" for face in frame.faces)
            found.append((1000 * (time.perf_counter() - begin), seen))
        return found

    return run


def _pfld(file: Path) -> Method:
    from benchmarks.peers import load

    network, _ = load(str(file))
    detector = YuNet()

    def run(images, faces):
        boxes, found = [], []
        for t, image in enumerate(images):
            begin = time.perf_counter()
            if t % 5 == 0 or len(boxes) < faces:
                boxes = list(detector(image).above(0.8).boxes.reshape(-1, 2, 2))
            points = [network(image, box) for box in boxes]
            boxes = [np.stack([face.min(axis=0), face.max(axis=0)]) for face in points]
            found.append((1000 * (time.perf_counter() - begin), len(points)))
        return found

    return run


def _mediapipe(folder: Path) -> Method:
    process = subprocess.Popen(
        [sys.executable, "-c", MEDIAPIPE],
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run(images, faces):
        assert process.stdin is not None and process.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "film.npy"
            np.save(file, images)
            print(file, faces, file=process.stdin, flush=True)
            lines = list(iter(process.stdout.readline, "end\n"))
        return [(float(line.split()[0]), int(line.split()[1])) for line in lines]

    return run


if __name__ == "__main__":
    main()
