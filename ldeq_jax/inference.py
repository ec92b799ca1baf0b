"""Predicting: a trained model on crops, on whole pictures with face boxes, and on a data set."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from ldeq_jax import geometry
from ldeq_jax.checkpoints import load_model
from ldeq_jax.config import Config
from ldeq_jax.data import LandmarkBatch
from ldeq_jax.model import LDEQ, ModelConfig, Prediction, normalise_image
from ldeq_jax.solver import SolveInfo
from ldeq_jax.training import make_mesh, replicated, to_devices

_FACES_AT_ONCE = 8  # bounds memory, and the number of batch shapes that are ever compiled


class Faces(NamedTuple):
    """What the model says of the N faces of a picture. NumPy arrays.

    Attributes:
        landmarks: (N, K, 2) x then y, picture pixels.
        spread: (N, K) standard deviation of each heatmap in picture pixels: its uncertainty.
        info: SolveInfo, every field (N,).
    """

    landmarks: np.ndarray
    spread: np.ndarray
    info: SolveInfo


class Predictor:
    """A trained model on the devices at hand, compiled once per batch shape and process.

    Attributes:
        config: the config it was trained with.

    Args:
        config: that config, its number of landmarks filled in.
        variables: variables of `LDEQ.apply`.
        max_steps: largest solver budget; the trained one when None.
    """

    def __init__(self, config: Config, variables: dict[str, Any], max_steps: int | None = None):
        if max_steps is not None:
            forward = dataclasses.replace(config.model.forward, max_steps=max_steps)
            model = dataclasses.replace(config.model, forward=forward)
            config = dataclasses.replace(config, model=model)
        self.config = config
        self._variables = variables
        self._predict = _compiled(config.model)

    @classmethod
    def from_checkpoint(cls, directory: str | Path, max_steps: int | None = None) -> "Predictor":
        """Loads a training run's best model, or a released one; see `checkpoints.load_model`."""
        config, variables, _ = load_model(directory)
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
        steps = self.config.model.forward.max_steps
        return self._predict(self._variables, image, jnp.int32(steps if budget is None else budget))

    def faces(self, picture: np.ndarray, boxes: np.ndarray, budget: int | None = None) -> Faces:
        """Finds the landmarks of the faces of one picture.

        Args:
            picture: (H, W, 3) RGB: uint8 in 0..255 or floating in [0, 1].
            boxes: (N, 4) x1 y1 x2 y2 of each face in picture pixels. The crop is taken around them
                as in training: by WFLW's rule, or, for a model trained on crops around the
                landmarks, as if the box were their extent (brows to chin, ear to ear).
            budget: solver iterations.

        Returns:
            Faces, in the order of the boxes.

        Raises:
            TypeError: the picture is neither uint8 nor floating.
            ValueError: it has another shape or range, or a box has no area.
        """
        check_images(picture[None])
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        size, num_landmarks = self.config.model.image_size, self.config.model.num_landmarks
        crops = np.array([crop_around(self.config, box) for box in boxes]).reshape(-1, 3, 3)
        none = np.zeros(0)
        landmarks, spread = [np.zeros((0, num_landmarks, 2))], [np.zeros((0, num_landmarks))]
        infos = [SolveInfo(none.astype(np.int32), none, none.astype(bool), none.astype(bool))]
        for start in range(0, len(crops), _FACES_AT_ONCE):
            part = crops[start : start + _FACES_AT_ONCE]
            prediction = self(np.stack([geometry.warp(picture, c, size) for c in part]), budget)
            frame_from_crop = geometry.inverse(part)
            zoom = np.sqrt(np.abs(np.linalg.det(frame_from_crop)))[:, None]
            points = size * np.asarray(prediction.landmarks)
            landmarks.append(geometry.transform_points(frame_from_crop, points))
            spread.append(size * np.asarray(prediction.spread) * zoom)
            infos.append(jax.device_get(prediction.info))
        info = jax.tree.map(lambda *parts: np.concatenate(parts), *infos)
        return Faces(np.concatenate(landmarks), np.concatenate(spread), info)

    def batches(
        self, batches: Iterable[LandmarkBatch], total: int | None = None, budget: int | None = None
    ) -> dict[str, np.ndarray]:
        """Runs over a split, divided over all devices.

        Args:
            batches: as `data.eval_batches` makes them.
            total: number of batches, for the progress bar; None shows no bar.
            budget: solver iterations.

        Returns:
            Arrays with one row a face, in the order of the split: index, landmarks and target
            (N, K, 2) normalised crop coordinates, spread (N, K), num_steps, residual, converged,
            diverged, frame_from_crop (N, 3, 3).
        """
        mesh = make_mesh(jax.device_count())
        variables = jax.device_put(self._variables, replicated(mesh))
        steps = self.config.model.forward.max_steps if budget is None else budget
        rows, pending = [], []
        for batch in tqdm(batches, total=total, unit="batch", disable=total is None):
            batch = _padded(batch, jax.local_device_count())
            # Rows that do not count take no steps, and have no say where a batch stops as one.
            budgets = np.where(batch.mask, np.int32(steps), 0)
            batch, budgets = to_devices(mesh, (batch, budgets))
            pending.append((batch, self._predict(variables, batch.image, budgets)))
            # The result of one batch is fetched while the next is computed.
            if len(pending) > 1:
                rows.append(_rows(*pending.pop(0)))
        rows += [_rows(*last) for last in pending]
        result = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
        order = np.argsort(result["index"])  # hosts have read every other face
        return {key: value[order] for key, value in result.items()}


def crop_around(config: Config, box: np.ndarray) -> np.ndarray:
    """The crop of a face that has no labels, as near to those of the training as a box allows.

    Args:
        config: the model's.
        box: (4,) x1 y1 x2 y2: the extent of the landmarks for a model trained on crops around
            them, else a box as WFLW has it.

    Returns:
        (3, 3) float64 ``crop_from_frame``.

    Raises:
        ValueError: the box is not finite or has no area.
    """
    size, scale = config.model.image_size, config.data.crop_scale
    if config.data.crop in ("landmarks", "extent"):
        return geometry.crop_from_landmarks(box.reshape(2, 2), size, scale)
    return geometry.crop_from_box(box, size, scale)


def use_all_cores(batch_size: int = 0) -> None:
    """Makes one CPU device a core, as XLA runs a convolution on one; no effect on GPU and TPU.

    Call it before anything is computed.

    Args:
        batch_size: rows that the devices must divide; if not all cores do, fewer are used. 0 for
            any number.
    """
    every = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = max(n for n in range(1, every + 1) if batch_size % n == 0)
    jax.config.update("jax_num_cpu_devices", count)


def check_images(image: np.ndarray) -> None:
    """Refuses what is no batch of RGB images, before it turns into wrong landmarks.

    Raises:
        TypeError: another type than uint8 or floating.
        ValueError: another shape, or floating values outside [0, 1].
    """
    if image.ndim != 4 or image.shape[-1] != 3:
        raise ValueError(f"images must be (B, H, W, 3), not {image.shape}")
    if image.dtype == np.uint8:
        return
    if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"images must be uint8 (0..255) or floating (0..1), not {image.dtype}")
    low, high = float(np.min(image)), float(np.max(image))
    if not (0 <= low and high <= 1):
        raise ValueError(
            f"floating images must lie in [0, 1], these span [{low:g}, {high:g}]: pass uint8 for "
            "0..255, and do not normalise them, the model does"
        )


@functools.cache
def _compiled(model: ModelConfig):
    """The jitted prediction of a model; a predictor made anew, as for a validation, shares it."""
    network = LDEQ(model)

    def predict(variables, image, budget):
        return network.apply(variables, normalise_image(image).astype(model.dtype), budget=budget)

    return jax.jit(predict)


def _padded(batch, multiple):
    """The batch with rows that do not count, until the devices divide it; no row sees another."""
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
    if jax.process_count() > 1:  # each host has its own rows alone
        rows = multihost_utils.process_allgather(rows, tiled=True)
    rows = jax.device_get(rows)
    real = rows.pop("mask")
    return {key: value[real] for key, value in rows.items()}
