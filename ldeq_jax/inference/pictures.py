"""A trained model on pictures: `Predictor`, for crops, faces in a picture, or a whole data set.

Faces are detected, or their boxes are given. Files are read and written by
`inference.picture_file`.
"""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from ldeq_jax.config import Config
from ldeq_jax.deq.solver import SolveInfo
from ldeq_jax.face import geometry
from ldeq_jax.face.boxes import check_boxes
from ldeq_jax.face.confidence import with_confidence
from ldeq_jax.face.crops import box_of_landmarks, crop_around
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import get_schema
from ldeq_jax.inference.detection import SURE_SCORE, Detector, YuNet, boxes_for
from ldeq_jax.inference.doubt import why_not_a_face
from ldeq_jax.media.pictures import check_images, check_picture
from ldeq_jax.mesh import make_mesh, replicated, to_devices
from ldeq_jax.model.ldeq import LDEQ, ModelConfig, Prediction, normalise_image
from ldeq_jax.weights import load_model

if TYPE_CHECKING:  # it brings grain along, which takes long and only training needs
    from ldeq_jax.data.faces import LandmarkBatch

_FACES_AT_ONCE = 8  # bounds memory


class Predictor:
    """A trained model on the available devices, compiled once per batch shape and process.

    Attributes:
        config: the config it was trained with.

    Args:
        config: that config, its number of landmarks filled in.
        variables: variables of `LDEQ.apply`; NumPy arrays are copied to the default device, once.
        max_steps: largest solver budget; the trained one when None.
    """

    def __init__(self, config: Config, variables: dict[str, Any], max_steps: int | None = None):
        if max_steps is not None:
            forward = dataclasses.replace(config.model.forward, max_steps=max_steps)
            model = dataclasses.replace(config.model, forward=forward)
            config = dataclasses.replace(config, model=model)
        self.config = config
        self._variables = on_device(variables)
        self._predict = _compiled(config.model)

    @classmethod
    def load(cls, name_or_folder: str | Path, max_steps: int | None = None) -> "Predictor":
        """Loads a model.

        Args:
            name_or_folder: a pretrained model by its name, such as "faces-68" (`zoo.MODELS` lists
                them), a training run's working directory, or an exported model's folder.
            max_steps: largest solver budget; the trained one when None.

        Raises:
            UserError: there is no such model, or it cannot be read; see `weights.load_model`.
        """
        config, variables, _ = load_model(name_or_folder)
        return cls(config, variables, max_steps)

    def __call__(self, image: np.ndarray, budget: int | None = None) -> Prediction:
        """Finds the landmarks of crops.

        Args:
            image: (B, H, W, 3) RGB crops of the model's size: uint8 in 0..255 or floating in
                [0, 1].
            budget: solver iterations, at most the largest budget; changing it does not recompile.

        Returns:
            Prediction; its landmarks are normalised crop coordinates.

        Raises:
            TypeError: the images are neither uint8 nor floating.
            ValueError: another shape, or floating values outside [0, 1].
        """
        check_images(image)
        return self._run(image, np.full(len(image), self._steps(budget)))

    def faces(
        self, picture: np.ndarray, boxes: np.ndarray | None, budget: int | None = None
    ) -> Landmarks:
        """Finds the landmarks of the faces of one picture.

        Args:
            picture: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1].
            boxes: (N, 4) x1 y1 x2 y2 of each face in picture pixels; further columns, as detectors
                write them, are ignored. The crop is taken around them as in training: by WFLW's
                rule, or, for a model trained on crops around the landmarks, as if the box were
                their extent (brows to chin, ear to ear). None takes the whole picture as one crop,
                for models trained on pictures that are crops already (`crop="none"`).
            budget: solver iterations.

        Returns:
            Landmarks (N,) in picture pixels, in the order of the boxes; `info` is a SolveInfo. With
            None for boxes, N is 1 and the box is that of the whole picture.

        Raises:
            TypeError: the picture is neither uint8 nor floating.
            ValueError: it has another shape or range.
            UserError: `face.boxes.check_boxes` refuses a box, or boxes are missing for a model that
                needs them.
        """
        check_picture(picture)
        height, width = picture.shape[:2]
        given = [None] if boxes is None else list(check_boxes(boxes, picture.shape))
        data, model = self.config.data, self.config.model
        size, num_landmarks = model.image_size, model.num_landmarks
        matrices = [
            crop_around(data.crop, data.crop_scale, size, shape=picture.shape, box=box)
            for box in given
        ]
        crops = np.array(matrices).reshape(-1, 3, 3)
        none: Any = np.zeros(0)
        landmarks, spread = [np.zeros((0, num_landmarks, 2))], [np.zeros((0, num_landmarks))]
        infos = [SolveInfo(none.astype(np.int32), none, none.astype(bool), none.astype(bool))]
        for start in range(0, len(crops), _FACES_AT_ONCE):
            part = crops[start : start + _FACES_AT_ONCE]
            images = np.stack([geometry.warp(picture, crop, size) for crop in part])
            points, widths, info = self._predict_rows(images, self._steps(budget))
            frame_from_crop = geometry.inverse(part)
            zoom = np.sqrt(np.abs(np.linalg.det(frame_from_crop)))[:, None]
            landmarks.append(geometry.transform_points(frame_from_crop, size * points))
            spread.append(size * widths * zoom)
            infos.append(info)
        points = np.concatenate(landmarks)
        whole = [0.0, 0.0, width - 1.0, height - 1.0]
        found = Landmarks(
            points=points,
            spread=np.concatenate(spread),
            ok=np.isfinite(points).all(axis=(1, 2)),
            box=np.array([whole if box is None else box for box in given]).reshape(-1, 4),
            info=jax.tree.map(lambda *parts: np.concatenate(parts), *infos),
        )
        return calibrated(found, self.config)

    def detect(
        self, picture: np.ndarray, detector: Detector | None = None, budget: int | None = None
    ) -> tuple[Landmarks, np.ndarray]:
        """Detects the faces of one picture and finds their landmarks.

        The boxes of a detector are not quite those of training, so the landmarks are found a second
        time, around those of the first.

        Args:
            picture: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1].
            detector: `YuNet` when None, with a score of 0.8 or more, or else the best below.
            budget: solver iterations.

        Returns:
            Landmarks (N,) as of `faces`, the largest face first, N = 0 where none is detected; and
            (N,) the detector's scores.

        Raises:
            TypeError: the picture is neither uint8 nor floating.
            ValueError: it has another shape or range.
        """
        found = (detector or YuNet())(picture)
        if detector is None and len(found.scores):
            found = found.above(min(SURE_SCORE, found.scores.max()))
        crop = self.config.data.crop
        faces = self.faces(picture, boxes_for(found, crop), budget)
        closer = np.array(faces.box)
        for number, (points, box) in enumerate(zip(faces.points, closer, strict=True)):
            if not why_not_a_face(points, box, picture.shape, crop):
                closer[number] = box_of_landmarks(points, crop)
        return self.faces(picture, closer, budget), found.scores

    def batches(
        self,
        batches: "Iterable[LandmarkBatch]",
        total: int | None = None,
        budget: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs over a split, sharded over all devices.

        Args:
            batches: as `data.faces.eval_batches` makes them.
            total: number of batches, for the progress bar; None shows no bar.
            budget: solver iterations.

        Returns:
            Arrays with one row per face, in the order of the split: index, landmarks and target
            (N, K, 2) normalised crop coordinates, spread (N, K), num_steps, residual, converged,
            diverged, frame_from_crop (N, 3, 3).
        """
        mesh, steps = make_mesh(jax.device_count()), self._steps(budget)
        rows, pending = [], []
        for batch in tqdm(batches, total=total, unit="batch", disable=total is None):
            batch = _padded(batch, jax.local_device_count())
            # Padding takes no steps, and is excluded from the mean stopping test.
            budgets = np.where(batch.mask, steps, 0)
            batch, budgets = to_devices(mesh, (batch, budgets))
            pending.append((batch, self._predict(self._replicated, batch.image, budgets)))
            # The result of one batch is fetched while the next is computed.
            if len(pending) > 1:
                rows.append(_rows(*pending.pop(0)))
        rows += [_rows(*last) for last in pending]
        result = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
        order = np.argsort(result["index"])  # each host reads some of the faces
        return {key: value[order] for key, value in result.items()}

    @functools.cached_property
    def _replicated(self):
        """The weights on all devices; the default device keeps the copy that it has."""
        return jax.device_put(self._variables, replicated(make_mesh(jax.device_count())))

    def _predict_rows(self, images, steps):
        """Landmarks, spread and info of up to 8 crops, padded to 1, 2, 4 or 8 rows."""
        real = np.arange(1 << (len(images) - 1).bit_length()) < len(images)
        rows = np.where(real, np.arange(len(real)), 0)
        found = self._run(images[rows], np.where(real, steps, 0))
        found = jax.device_get((found.landmarks, found.spread, found.info))
        return jax.tree.map(lambda rows: rows[real], found)

    def _steps(self, budget):
        return np.int32(self.config.model.forward.max_steps if budget is None else budget)

    def _run(self, images, budgets):
        return self._predict(self._variables, *jax.device_put((images, budgets)))


def calibrated(found: Landmarks, config: Config) -> Landmarks:
    """Landmarks with the confidence that the model's calibration gives them, if it has one."""
    if not config.confidence.errors:
        return found
    return with_confidence(found, config.confidence, get_schema(config.data.schema).eye_corners)


def on_device(variables: dict[str, Any]) -> dict[str, Any]:
    """A model's variables on the default device; arrays that are on a device already stay there.

    A jitted function copies NumPy arrays to the device at every call.
    """
    # device_put refuses arrays that are sharded over several hosts.
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else jax.device_put(a), variables)


@functools.cache
def _compiled(model: ModelConfig):
    """The jitted prediction of a model, which all predictors of that model share."""
    network = LDEQ(model)

    def predict(variables, image, budget):
        return network.apply(variables, normalise_image(image).astype(model.dtype), budget=budget)

    return jax.jit(predict)


def _padded(batch, multiple):
    """The batch with masked rows added until `multiple` divides it."""
    missing = -len(batch.mask) % multiple
    padded = jax.tree.map(lambda a: np.concatenate([a, a[:1].repeat(missing, axis=0)]), batch)
    return padded._replace(mask=np.append(batch.mask, np.zeros(missing, bool)))


def _rows(batch, prediction):
    info = prediction.info
    # The state is large and not needed here: it stays on the devices.
    rows = {
        "index": batch.index,
        "mask": batch.mask,
        "target": batch.landmarks,
        "frame_from_crop": batch.frame_from_crop,
        "landmarks": prediction.landmarks,
        "spread": prediction.spread,
        "num_steps": info.num_steps,
        "residual": info.residual,
        "converged": info.converged,
        "diverged": info.diverged,
    }
    if jax.process_count() > 1:  # each host has only its own rows
        rows = multihost_utils.process_allgather(rows, tiled=True)
    rows = jax.device_get(rows)
    real = rows.pop("mask")
    return {key: value[real] for key, value in rows.items()}
