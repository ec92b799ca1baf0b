r"""Members that are ONNX models of others, described by a JSON file.

    {"model": "pfld.onnx", "schema": "wflw_98", "side": 112, "scale": 1.2, "channels": "bgr"}

Needed are the network's file, from the folder of the JSON file; what its landmarks are, a name or a
.json file (`face.schema`); and the side of its square input. docs/wflw_v.md has the other fields.
The network sees one crop at a time, black where the frame ends. onnxruntime is needed: pip install
'ldeq_jax[ensemble]'.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import get_schema
from ldeq_jax.labelling.variants import unmirrored, varied
from ldeq_jax.media.files import expand, read_text
from ldeq_jax.report.records import to_json

_NEEDED = ("model", "schema", "side")
_USUAL: dict[str, Any] = {
    "scale": 1.2,
    "channels": "rgb",
    "layout": "nchw",
    "mean": 0.0,
    "deviation": 255.0,
    "output": None,
    "unit": "crop",
    "points": None,
}
_CHOICES = {"channels": ("rgb", "bgr"), "layout": ("nchw", "nhwc"), "unit": ("crop", "pixels")}


class OnnxMember:
    """A network in an ONNX file, each frame by itself.

    Args:
        name: as the user gave it.
        path: the JSON file that describes it.
        variants: of its crops.

    Raises:
        UserError: the description or the network cannot be read, or do not fit each other.
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, name: str, path: Path, variants: tuple[str, ...]):
        self.name, self._path, self._variants = name, path, variants
        self._about = read_description(path)
        schema = self._about["schema"]
        beside = path.parent / schema
        self.schema = get_schema(str(beside) if beside.suffix == ".json" else schema)
        file = path.parent / expand(self._about["model"])
        if not file.is_file():
            raise UserError(f'{path}: there is no file {file}; correct its "model"')
        digest = hashlib.sha256(file.read_bytes() + to_json(self._about).encode()).hexdigest()
        self.mark = f"{name} {digest[:16]}"
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has many, without a common class
            reason = str(error).splitlines()[0]
            raise UserError(f"{file} is no ONNX model that can be run ({reason})") from error
        self._input = self._session.get_inputs()[0].name
        outputs = [output.name for output in self._session.get_outputs()]
        self._output = self._about["output"] or outputs[0]
        if self._output not in outputs:
            raise UserError(
                f"{path}: {file} has no output {self._output!r}; it has {', '.join(outputs)}"
            )

    def find(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> Landmarks:
        """See `members.Member.find`."""
        found = [self._find(frame, box) for frame, box in zip(frames, boxes, strict=True)]
        points = unmirrored(np.stack(found), 1, self._variants, self.schema)
        ok = np.isfinite(points).all(axis=(1, 2))
        return Landmarks(points=points, spread=np.full(points.shape[:2], np.nan), ok=ok)

    def _find(self, frame, box):
        crop_from_frame = self._crop(box)
        side, about = self._about["side"], self._about
        crop = cv2.warpAffine(frame, crop_from_frame[:2], (side, side))
        crop = crop[..., ::-1] if about["channels"] == "bgr" else crop
        given = (crop.astype(np.float32) - np.float32(about["mean"])) / np.float32(
            about["deviation"]
        )
        given = given if about["layout"] == "nhwc" else given.transpose(2, 0, 1)
        try:
            (found,) = self._session.run(
                [self._output], {self._input: np.ascontiguousarray(given[None], np.float32)}
            )
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self._path}: the network cannot be run ({reason}); check side and layout"
            ) from error
        count, chosen = self.schema.num_landmarks, about["points"]
        if found.size % 2 or (chosen is None and found.size != 2 * count):
            raise UserError(
                f"{self._path}: {self.schema.name} has {count} landmarks, the output "
                f"{self._output} of shape {list(found.shape)} has other ones; name those of the "
                'schema in "points", or another schema or output'
            )
        points = found.reshape(-1, 2).astype(np.float64)
        points = points if chosen is None else points[chosen]
        if about["unit"] == "crop":
            points = points * side - 0.5  # from the outer corner to pixel centres
        return geometry.transform_points(geometry.inverse(crop_from_frame), points)

    def _crop(self, box):
        low, high = box[:2], box[2:]
        side = self._about["side"]
        zoom = side / (self._about["scale"] * ((high - low).max() + 1))
        matrix = np.diag([zoom, zoom, 1.0])
        matrix[:2, 2] = (side - 1) / 2 - zoom * (low + high) / 2
        return varied(matrix, side, self._variants, (side - 1) / 2)


def read_description(path: Path) -> dict[str, Any]:
    """The fields of a description, all of them.

    Raises:
        UserError: the file cannot be read, or a field is missing, unknown or of no use.
    """
    try:
        given = json.loads(read_text(path))
        if not isinstance(given, dict):
            raise ValueError(f"it holds a {type(given).__name__}")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} does not describe an ONNX model ({error}): it must hold "
            '{"model": "file.onnx", "schema": "wflw_98", "side": 112}'
        ) from error
    missing = [name for name in _NEEDED if name not in given]
    unknown = [name for name in given if name not in (*_NEEDED, *_USUAL)]
    if missing or unknown:
        fault = f"lacks {missing[0]!r}" if missing else f"has an unknown field {unknown[0]!r}"
        raise UserError(f"{path} {fault}; there are {', '.join((*_NEEDED, *_USUAL))}")
    about = {**_USUAL, **given}
    for name, choices in _CHOICES.items():
        if about[name] not in choices:
            raise UserError(f"{path}: {name!r} must be one of {', '.join(choices)}")
    whole = isinstance(about["side"], int) and about["side"] >= 8
    if not whole or not isinstance(about["scale"], int | float) or not about["scale"] > 0:
        raise UserError(f"{path}: 'side' must be a number of pixels, 'scale' above 0")
    for name in ("mean", "deviation"):
        numbers = np.asarray(about[name])
        if numbers.dtype.kind not in "if" or numbers.shape not in ((), (3,)):
            raise UserError(f"{path}: {name!r} must be a number, or one for each of 3 channels")
    schema = get_schema(about["schema"]) if not str(about["schema"]).endswith(".json") else None
    chosen = about["points"]
    if schema is not None and chosen is not None and len(chosen) != schema.num_landmarks:
        raise UserError(
            f"{path}: 'points' names {len(chosen)} landmarks, {schema.name} has "
            f"{schema.num_landmarks}"
        )
    return about
