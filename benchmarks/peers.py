r"""Our models and other people's on the same faces, with the same boxes.

    pip install onnxruntime dlib-bin face_recognition_models
    ldeq build ibug_300w --manual_dir=IBUG_FOLDERS --data_dir=DATA
    ldeq build wflw --manual_dir=WFLW_FOLDER --data_dir=DATA
    python -m benchmarks.peers --data_dir=DATA --faces=ibug_300w:test_common,wflw/official:test \
        --models=faces-68,dlib,PFLD_GhostOne_112_1_opt_sim.onnx --detector=YUNET.onnx --output=OUT

A model is one of ours by name or folder, `dlib` (its shape predictor for 68 points), or a PFLD
network, an ONNX file with 98 landmarks of WFLW. All are compared on the 68 points of iBUG, which
are a part of WFLW's. Boxes are the extents of the labels; those with errors, normally distributed,
of 5 % of their side in place and size; and, with --detector, those that OpenCV's YuNet finds. A
face that it does not find counts for no model; the table says how many there are.

Each collection of labels has habits, which a model learns: WFLW's lids and lips are not where
iBUG's are. So there is an NME without the constant offset of each landmark too, measured on the
faces of --offsets, one split for each of --faces, in the face's own frame. What a network was
trained on is its authors' business: dlib's saw all of 300-W, the test faces among it.

OUT/table.md has NME in percent of the distance of the outer eye corners and of the geometric mean
of the extent's sides, failures (NME above 10 %), subsets by attribute, milliseconds for one face on
this machine, crop included, and the size of the weights. OUT/peers.json has all of it by number.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldeq_jax.errors import UserError, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import jax
import numpy as np

from ldeq_jax.cli.options import names
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.face import metrics
from ldeq_jax.face.eyes import from_eyes, to_eyes
from ldeq_jax.face.schema import IBUG_68, IBUG_IN_WFLW, indices_of
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.report.records import to_json
from ldeq_jax.weights import load_model

JITTER, SEED, FAILURE = 0.05, 0, 0.1
# Where dlib's own detector sees a face, of 162 training faces of 300-W: the middle lies higher than
# that of the landmarks' extent by this part of its larger side, and that is the square's side.
DLIB_RISE = 0.079
# From YuNet's box to the extent of the landmarks, with s the root of its area: both sides times the
# first, and down by the second times s. Fitted to the extents of 110 faces of WFLW.
YUNET_ZOOM, YUNET_FALL = np.exp(-0.1), 0.134
DETECTED_SIDE, DETECTED_SCORE = 640, 0.6

# From an RGB picture and the extent of a face, (2, 2) low and high corner, to its (68, 2) points.
Model = Callable[[np.ndarray, np.ndarray], np.ndarray]


def main() -> None:
    """Measures all models on all faces."""
    options = _parser().parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    detector = options.detector and Detector(options.detector)
    models = {Path(name).stem: load(name) for name in options.models}
    results: dict[str, Any] = {}
    for given, other in itertools.zip_longest(options.faces, options.offsets, fillvalue=""):
        faces = read_faces(given, str(options.data_dir))
        known = read_faces(other, str(options.data_dir)) if other else []
        offsets = {label: offsets_of(model, known) for label, (model, _) in models.items()}
        for kind, boxes in boxes_of(faces, detector).items():
            results.setdefault(given, {})[kind] = {
                label: measure(model, faces, boxes, offsets[label])
                for label, (model, _) in models.items()
            }
    cost = {label: milliseconds(model) for label, (model, _) in models.items()}
    sizes = {label: size for label, (_, size) in models.items()}
    everything = {"results": results, "milliseconds": cost, "megabytes": sizes}
    (options.output / "peers.json").write_text(to_json(everything, indent=1))
    text = table(results, cost, sizes)
    (options.output / "table.md").write_text(text)
    print(text)


def load(name: str) -> tuple[Model, float]:
    """A model by its name or file, and the size of its weights in megabytes."""
    if name == "dlib":
        return _dlib()
    if name.endswith(".onnx"):
        return _pfld(Path(name))
    config, variables, _ = load_model(name)
    if config.model.num_landmarks != 68:
        raise UserError(f"{name} does not predict the 68 points of iBUG")
    predictor = Predictor(config, variables)

    def ours(picture, extent):
        return predictor.faces(picture, extent.reshape(1, 4)).points[0]

    return ours, sum(leaf.nbytes for leaf in jax.tree.leaves(variables)) / 1e6


def _pfld(file: Path) -> tuple[Model, float]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def pfld(picture, extent):
        low, high = extent
        side = 1.2 * ((high - low).max() + 1)
        origin = (low + high + 1) / 2 - side / 2
        zoom = 112 / side
        matrix = np.array([[zoom, 0, 0], [0, zoom, 0]])
        matrix[:, 2] = (0.5 - origin) * zoom - 0.5
        crop = cv2.warpAffine(picture, matrix, (112, 112))[..., ::-1]
        given = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / 255
        found = session.run(None, {"input": given})[0].reshape(98, 2)
        return (found * side + origin)[list(IBUG_IN_WFLW)]

    return pfld, file.stat().st_size / 1e6


def _dlib() -> tuple[Model, float]:
    import dlib

    file = _dlib_weights()
    predictor = dlib.shape_predictor(str(file))

    def points(picture, extent):
        low, high = extent
        side = (high - low).max()
        (x, y) = (low + high) / 2 - [0, DLIB_RISE * side]
        corners = np.round([x - side / 2, y - side / 2, x + side / 2, y + side / 2]).astype(int)
        found = predictor(picture, dlib.rectangle(*map(int, corners)))
        return np.array([(point.x, point.y) for point in found.parts()], float)

    return points, file.stat().st_size / 1e6


def _dlib_weights() -> Path:
    """The file in `face_recognition_models`, whose own code needs an old setuptools."""
    import importlib.util

    found = importlib.util.find_spec("face_recognition_models")
    if found is None or found.origin is None:
        raise UserError("dlib needs its weights: pip install face_recognition_models")
    return Path(found.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"


class Detector:
    """OpenCV's YuNet, its boxes turned into extents of landmarks."""

    def __init__(self, file: Path):
        self._net = cv2.FaceDetectorYN.create(str(file), "", (320, 320), DETECTED_SCORE)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(N, 2, 2) low and high corners of the faces in an RGB picture."""
        scale = min(1, DETECTED_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._net.setInputSize(small.shape[1::-1])
        _, found = self._net.detect(np.ascontiguousarray(small[..., ::-1]))
        if found is None:
            return np.zeros((0, 2, 2))
        place, size = found[:, :2] / scale, found[:, 2:4] / scale
        middle, half = place + size / 2, YUNET_ZOOM * size / 2
        middle[:, 1] += YUNET_FALL * np.sqrt(size.prod(axis=1))
        return np.stack([middle - half, middle + half], axis=1)


def read_faces(given: str, data_dir: str) -> list[dict[str, Any]]:
    """The faces of NAME:SPLIT with 68 landmarks; "subsets" are the names of their attributes."""
    name, split = given.split(":", 1)
    source = FaceSource(name, split, data_dir)
    points, faces = indices_of(source.schema, IBUG_68), []
    if points is None and source.schema != IBUG_68.name:
        raise UserError(f"{name} has no landmarks of iBUG: {source.schema}")
    for index in range(len(source)):
        face = source[index]
        if points is not None:
            face["landmarks"] = face["landmarks"][points]
        named = zip(source.attribute_names, face["attributes"], strict=True)
        face["subsets"] = [attribute for attribute, holds in named if holds]
        faces.append(face)
    return faces


def boxes_of(faces: list[dict[str, Any]], detector: Detector | None) -> dict[str, list]:
    """For each kind of box, the (2, 2) extent of each face, or None where it is not found."""
    extents = [extent_of(face) for face in faces]
    rng = np.random.default_rng(SEED)
    boxes = {"labels": extents, f"labels, {JITTER:.0%} off": [_moved(e, rng) for e in extents]}
    if detector:
        pairs = zip(faces, extents, strict=True)
        boxes["detector"] = [_nearest(detector(face["image"]), extent) for face, extent in pairs]
    return boxes


def extent_of(face: dict[str, Any]) -> np.ndarray:
    """(2, 2) low and high corner of a face's labels."""
    return np.stack([face["landmarks"].min(axis=0), face["landmarks"].max(axis=0)]).astype(float)


def _moved(extent, rng):
    side = (extent[1] - extent[0]).max()
    shift = JITTER * side * rng.standard_normal(2)
    half = (extent[1] - extent[0]) / 2 * np.exp(JITTER * rng.standard_normal())
    middle = extent.mean(axis=0) + shift
    return np.stack([middle - half, middle + half])


def _nearest(found, extent):
    """The detected face that overlaps an extent most, if by more than .3 of their union."""
    low, high = np.maximum(found[:, 0], extent[0]), np.minimum(found[:, 1], extent[1])
    common = np.maximum(high - low, 0).prod(axis=1)
    areas = (found[:, 1] - found[:, 0]).prod(axis=1) + (extent[1] - extent[0]).prod()
    overlap = common / (areas - common)
    return found[overlap.argmax()] if len(found) and overlap.max() > 0.3 else None


def offsets_of(model: Model, faces: list[dict[str, Any]]) -> np.ndarray | None:
    """(68, 2) median of a model's points minus the labels, in the frame of the eyes' corners."""
    if not faces:
        return None
    differences = []
    for face in faces:
        eyes = face["landmarks"][list(IBUG_68.eye_corners)]
        found = model(face["image"], extent_of(face))
        differences.append(to_eyes(found, eyes) - to_eyes(face["landmarks"], eyes))
    return np.median(differences, axis=0)


def measure(
    model: Model, faces: list[dict[str, Any]], boxes: list, offsets: np.ndarray | None
) -> dict[str, Any]:
    """Errors of a model, in percent."""
    seen = [(face, box) for face, box in zip(faces, boxes, strict=True) if box is not None]
    predicted = np.stack([model(face["image"], box) for face, box in seen])
    target = np.stack([face["landmarks"] for face, _ in seen]).astype(float)
    nme = metrics.nme(predicted, target, IBUG_68.eye_corners)
    sides = np.sqrt(np.ptp(target, axis=1).prod(axis=1))
    by_size = np.linalg.norm(predicted - target, axis=-1).mean(axis=1) / sides
    found = {"nme": 100 * float(nme.mean()), "nme by size": 100 * float(by_size.mean())}
    if offsets is not None:
        eyes = target[:, list(IBUG_68.eye_corners)]
        pairs = zip(predicted, eyes, strict=True)
        moved = np.stack([from_eyes(to_eyes(p, e) - offsets, e) for p, e in pairs])
        without = metrics.nme(moved, target, IBUG_68.eye_corners)
        found["nme without offsets"] = 100 * float(without.mean())
    subsets = sorted({name for face, _ in seen for name in face["subsets"]})
    chosen = {name: [name in face["subsets"] for face, _ in seen] for name in subsets}
    return {
        "faces": len(seen),
        "missed": len(faces) - len(seen),
        **found,
        "failures": 100 * metrics.failure_rate(nme, FAILURE),
        **{name: 100 * float(nme[mask].mean()) for name, mask in chosen.items()},
    }


def milliseconds(model: Model, number: int = 60) -> float:
    """Median time of one face in a picture of 256 pixels, whose pixels do not matter."""
    picture = np.full((256, 256, 3), 128, np.uint8)
    extent, times = np.array([[60.0, 70], [190, 200]]), []
    for _ in range(number):
        start = time.perf_counter()
        model(picture, extent)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def table(results: dict, cost: dict[str, float], sizes: dict[str, float]) -> str:
    """One table per set of faces, a row per model and kind of box."""
    parts = []
    for faces, kinds in results.items():
        first = next(iter(next(iter(kinds.values())).values()))
        subsets = [key for key in first if key not in ("faces", "missed")]
        head = ["model", "boxes", "faces", *(s if s != "nme" else "NME" for s in subsets)]
        head += ["ms a face", "MB"]
        rows = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
        for kind, by_model in kinds.items():
            for label, found in by_model.items():
                numbers = [f"{found[key]:.2f}" for key in subsets]
                rows.append([label, kind, str(found["faces"]), *numbers])
                rows[-1] += [f"{cost[label]:.1f}", f"{sizes[label]:.1f}"]
        lines = "".join("| " + " | ".join(row) + " |\n" for row in rows)
        parts.append(f"{faces}, errors in percent\n\n{lines}")
    return "\n".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, help="folder of the data sets")
    add("--faces", type=names, required=True, help="NAME:SPLIT,... of data sets of faces")
    add("--offsets", type=names, default=[], help="NAME:SPLIT,... whose labels give offsets")
    add("--models", type=names, required=True, help="models, see above")
    add("--detector", type=Path, help="ONNX file of YuNet; without it no detected boxes")
    add("--output", type=Path, required=True, help="folder of the results")
    return parser


if __name__ == "__main__":
    main()
