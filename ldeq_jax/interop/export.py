"""A model as files that need nothing of this package: StableHLO or ONNX, with a manifest.

`interop.programs` has the functions that are exported, with their state in and out. The manifest
says in JSON what they take and give, how a crop is made, what the landmarks are, and how a face is
detected, so that any language can use them.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from ldeq_jax import __version__, zoo
from ldeq_jax.config import Config
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import get_schema
from ldeq_jax.inference import detection, doubt
from ldeq_jax.interop import programs
from ldeq_jax.media.files import write_whole
from ldeq_jax.model import convolution
from ldeq_jax.model.ldeq import IMAGE_DEVIATION, IMAGE_MEAN
from ldeq_jax.report.records import to_json
from ldeq_jax.weights import load_model

Program = Callable[..., Any]
PLATFORMS = ("cpu", "cuda", "tpu")
_DETECTOR = "face_detector.onnx"

_MEANINGS = {
    "image": "crop of the face, RGB 0..255",
    "frame_from_crop": "from crop pixels to frame pixels, of this frame's crop",
    "interval": "seconds since the last frame",
    "strength": "how firmly the last frame is held, a factor of the model's time constants: 1 as "
    "the model is set, 0 not at all",
    "reset": "whether the frame does not follow the last one",
    "mask": "whether there is a face",
    "landmarks": "x and y of each landmark in crop pixels",
    "spread": "standard deviation of each landmark's heatmap in crop pixels",
    "confidence": "probability that there is a face",
    "probability": "that the landmark lies within 5 % of the eye distance of where it belongs",
    "deviation": "standard deviation of the error of each coordinate in crop pixels",
    "ok": "whether landmarks were found",
    "heatmaps": "state for the next frame",
    "motion": "state for the next frame: of the face, per second: logarithm of its scale, rotation "
    "in radians, shift in heatmap pixels (4 crop pixels each), x and y",
    "valid": "state for the next frame: False before the first frame, with zeros in the rest",
    "previous_heatmaps": "heatmaps, as the last frame gave them",
    "previous_motion": "motion, as the last frame gave it",
    "previous_frame_from_crop": "frame_from_crop of the last frame",
}
_CROP_RULES: dict[Crop, str] = {
    "landmarks": "zoom = size / (scale * longer side of the box)",
    "extent": "zoom = size / (scale * longer side of the box)",
    "box": "the corners of the box are rounded to whole pixels; its centre is x1 + (x2 - x1 + 1) "
    "// 2, likewise y; zoom = size / (scale * longer side)",
    "none": "the box is the whole picture, x1 y1 x2 y2 = 0 0 width height, and scale is 1; zoom = "
    "size / longer side",
}


def export_onnx(model: str, output: Path) -> list[Path]:
    """Writes first.onnx and next.onnx, loop-free and in float32, and their manifest.

    Args:
        model: a name or folder, as for `weights.load_model`.
        output: folder to write into.

    Returns:
        The files.

    Raises:
        UserError: the model cannot be read, or needs an operation that is not known.
        ModuleNotFoundError: onnx is not installed.
    """
    from ldeq_jax.interop.onnx_graph import to_onnx

    config, variables, step = load_model(model)
    single = dataclasses.replace(config.model, dtype="float32")
    config = dataclasses.replace(config, model=single)
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), variables)
    matrix, seconds = ((3, 3), np.float32), ((), np.float32)
    heatmaps = (single.heatmap_size, single.heatmap_size, single.num_landmarks), np.float32
    image = (single.image_size, single.image_size, 3), np.uint8
    inputs: dict[str, dict[str, Any]] = {
        "first": {"image": image},
        "next": {
            "image": image,
            "frame_from_crop": matrix,
            "interval": seconds,
            "strength": seconds,
            "previous_heatmaps": heatmaps,
            "previous_motion": ((4,), np.float32),
            "previous_frame_from_crop": matrix,
        },
    }
    functions: dict[str, Program] = {"first": programs.first, "next": programs.following}
    described, files = {}, {}
    for name, function in functions.items():
        with convolution.plain():
            graph = to_onnx(functools.partial(function, config, variables), inputs[name], name)
        files[f"{name}.onnx"] = graph.SerializeToString()
        described[name] = {
            "file": f"{name}.onnx",
            "inputs": [_tensor(value) for value in graph.graph.input],
            "outputs": [_tensor(value) for value in graph.graph.output],
        }
    described["first"]["use"] = "a frame that follows none: a still, a new face, after a cut"
    described["next"]["use"] = (
        f"a frame that follows another by at most {config.rwr.longest_gap:g} seconds"
    )
    return _write(output, files, _manifest("onnx", model, step, config, described))


def export_stablehlo(model: str, output: Path) -> list[Path]:
    """Writes still.stablehlo and next.stablehlo, for `jax.export.deserialize`, and their manifest.

    Each file has a program for CPUs, for CUDA and for TPUs, for batches of any size.

    Args:
        model: a name or folder, as for `weights.load_model`.
        output: folder to write into.

    Returns:
        The files.

    Raises:
        UserError: the model cannot be read.
        ModuleNotFoundError: flatbuffers is not installed, which `jax.export` needs.
    """
    import flatbuffers  # noqa: F401

    config, variables, step = load_model(model)
    (rows,) = jax.export.symbolic_shape("B")
    size, small = config.model.image_size, config.model.heatmap_size

    def array(*sides, dtype=np.float32):
        return jax.ShapeDtypeStruct((rows, *sides), dtype)

    image = array(size, size, 3, dtype=np.uint8)
    precision = np.promote_types(config.model.dtype, np.float32)
    state = {
        "heatmaps": array(small, small, config.model.num_landmarks, dtype=precision),
        "frame_from_crop": array(3, 3, dtype=precision),
        "motion": array(4, dtype=precision),
        "valid": array(dtype=np.bool_),
    }
    inputs: dict[str, dict[str, Any]] = {
        "still": {"image": image},
        "next": {
            "image": image,
            "state": state,
            "frame_from_crop": array(3, 3),
            "interval": array(),
            "reset": array(dtype=np.bool_),
            "mask": array(dtype=np.bool_),
        },
    }
    functions: dict[str, Program] = {"still": programs.still, "next": programs.video_step}
    described, files = {}, {}
    for name, function in functions.items():
        jitted = jax.jit(functools.partial(function, config, variables))
        program = jax.export.export(jitted, platforms=PLATFORMS)(*inputs[name].values())
        files[f"{name}.stablehlo"] = bytes(program.serialize())
        results = jax.tree.unflatten(program.out_tree, program.out_avals)
        parts = (
            {"outputs": results}
            if name == "still"
            else dict(zip(("outputs", "state"), results, strict=True))
        )
        described[name] = {
            "file": f"{name}.stablehlo",
            "inputs": [_array(key, value) for key, value in inputs[name].items()],
        } | {part: [_array(*item) for item in arrays.items()] for part, arrays in parts.items()}
    described["still"]["use"] = "stills, each by itself"
    described["next"]["use"] = (
        "the frames of a film; it gives the outputs and the state for the next frame. Rows whose "
        f"state is not valid, that are reset, or come more than {config.rwr.longest_gap:g} seconds "
        "after the last frame are solved as stills"
    )
    return _write(output, files, _manifest("stablehlo", model, step, config, described))


def _write(output, files, manifest):
    """Writes all files, the manifest last, and returns their paths."""
    if "detector" in manifest:
        files[_DETECTOR] = detection.FILE.read_bytes()
        files["face_detector_LICENSE"] = (detection.FILE.parent / "LICENSE").read_bytes()
    files["manifest.json"] = (to_json(manifest, indent=1) + "\n").encode()
    for name, data in files.items():
        write_whole(output / name, data)
    return [output / name for name in files]


def _manifest(kind, model, step, config: Config, described) -> dict[str, Any]:
    known = zoo.MODELS.get(model)
    terms = "those of whoever trained it, and of its training data; not known to this program"
    crop, size = config.data.crop, config.model.image_size
    manifest = {
        "format": kind,
        "made_by": f"ldeq_jax {__version__}",
        "model": {
            "name": model if known else Path(model).resolve().name,
            "step": step,
            "licence": known.terms if known else terms,
        },
        "programs": described,
        "coordinates": "x to the right, y down, (0, 0) is the centre of the top left pixel, of "
        "frames and of crops. B is the number of faces; state and results of each depend on that "
        "face alone",
        "image": {
            "size": size,
            "type": "uint8",
            "channels": "RGB",
            "layout": "NHWC",
            "normalisation": "within the program: x / 255, less the mean, over the deviation",
            "mean": IMAGE_MEAN,
            "deviation": IMAGE_DEVIATION,
        },
        "crop": {
            "kind": crop,
            "size": size,
            "scale": config.data.crop_scale if crop != "none" else 1.0,
            "forehead": 0.0 if crop in ("landmarks", "extent") else 0.3,
            "rule": "the box x1 y1 x2 y2 is the extent of the landmarks of the last frame, or of "
            "the detector in a first frame, y1 less forehead * (y2 - y1). frame_from_crop = [[1 / "
            "zoom, 0, cx - size / 2 / zoom], [0, 1 / zoom, cy - size / 2 / zoom], [0, 0, 1]] with "
            f"the centre cx cy of the box. {_CROP_RULES[crop]}. Crops are sampled bilinearly; "
            "where zoom is below 1, the frame is smoothed first by a triangle that falls to 0 at "
            "1 / zoom pixels, in x and y. Beyond the frame it is black. A face found at the "
            "detector's box is looked at again, as a first frame, at the extent of its landmarks",
        },
        "recurrence": {
            "longest_gap": config.rwr.longest_gap,
            "rule": "above that many seconds, a frame follows none",
        },
        "lost": {
            "least_confidence": doubt.UNLIKELY,
            "least_extent": doubt.COLLAPSED,
            "rule": "a face is lost if its confidence is below the least, or the longer side of "
            "its landmarks' extent below least_extent of that of the box of its crop. The next "
            "frame then follows none, and needs a detected box",
        },
        "schema": dataclasses.asdict(get_schema(config.data.schema)),
    }
    if crop != "none":
        manifest["detector"] = {
            "name": "YuNet",
            "file": _DETECTOR,
            "licence": "MIT, see face_detector_LICENSE",
            "longer_side": detection.DETECTOR_SIDE,
            "least_score": detection.SURE_SCORE,
            "most_overlap": detection.MOST_OVERLAP,
            "box_scale": float(detection.BOX_SCALE),
            "box_down": detection.BOX_DOWN,
            "rule": "the picture is reduced to the longer side; of OpenCV's FaceDetectorYN, x y w "
            "h of a face, the extent of the landmarks has its centre at x + w / 2, y + h / 2 + "
            "box_down * sqrt(w * h), and the sides box_scale * w, box_scale * h",
            "without_opencv": "input: float32 (1, 3, 640, 640), BGR 0..255, the picture in its top "
            "left corner, 0 elsewhere. For the strides s of 8, 16 and 32, and row r and column c "
            "of k = r * 640 / s + c: the score is sqrt(cls_s[k] * obj_s[k]), both clipped to 0..1; "
            "the centre ((c + bbox_s[k][0]) * s, (r + bbox_s[k][1]) * s); w, h exp(bbox_s[k][2]) "
            "* s and exp(bbox_s[k][3]) * s; x and y the centre less half of them. Of boxes whose "
            "intersection over union is above most_overlap, that of the best score counts",
        }
    return manifest


def _tensor(value):
    """An input or output of an ONNX graph, described."""
    from onnx import helper

    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    return _described(value.name, shape, kind)


def _array(name, array):
    """An argument or result of a StableHLO program, described; a dict by its arrays."""
    if isinstance(array, dict):
        return {"name": name, "arrays": [_array(*item) for item in array.items()]}
    shape = [side if isinstance(side, int) else str(side) for side in array.shape]
    return _described(name, shape, array.dtype)


def _described(name, shape, dtype):
    about = _MEANINGS[name]
    return {"name": name, "shape": shape, "type": np.dtype(dtype).name, "meaning": about}
