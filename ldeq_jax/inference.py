"""Predicting: a trained model on crops, on whole pictures with face boxes, and on a data set."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ldeq_jax import geometry
from ldeq_jax.checkpoints import load_model
from ldeq_jax.config import Config
from ldeq_jax.data import LandmarkBatch
from ldeq_jax.model import LDEQ, Prediction, normalise_image
from ldeq_jax.training import make_mesh, replicated, to_devices


class Predictor:
    """A trained model on the devices at hand, compiled once per batch shape.

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
        network = LDEQ(config.model)

        def predict(variables, image, budget):
            image = normalise_image(image).astype(config.model.dtype)
            return network.apply(variables, image, budget=budget)

        self._predict = jax.jit(predict)

    @classmethod
    def from_checkpoint(cls, directory: str | Path, max_steps: int | None = None) -> "Predictor":
        """Loads a training run's best model, or a released one; see `checkpoints.load_model`."""
        config, variables, _ = load_model(directory)
        return cls(config, variables, max_steps)

    def __call__(self, image: np.ndarray, budget: int | None = None) -> Prediction:
        """Finds the landmarks of crops.

        Args:
            image: (B, H, W, 3) RGB crops of the model's size: uint8 in 0..255 or floating in [0, 1].
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

    def faces(
        self, picture: np.ndarray, boxes: np.ndarray, budget: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the landmarks of the faces of one picture.

        Args:
            picture: (H, W, 3) uint8 RGB.
            boxes: (N, 4) x1 y1 x2 y2 of each face in picture pixels. The crop is taken around them as
                in training: by WFLW's rule, or, for a model trained on crops around the landmarks,
                as if the box were the extent of the landmarks (brows to chin, ear to ear).
            budget: solver iterations.

        Returns:
            Landmarks (N, K, 2) in picture pixels, and their spread (N, K) in picture pixels.
        """
        size = self.config.model.image_size
        data = self.config.data
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if data.crop == "landmarks":
            crops = [
                geometry.crop_from_landmarks(box.reshape(2, 2), size, data.crop_scale)
                for box in boxes
            ]
        else:
            crops = [geometry.crop_from_box(box, size, data.crop_scale) for box in boxes]
        images = np.stack([geometry.warp(picture, crop, size) for crop in crops])
        prediction = jax.device_get(self(images, budget))
        inverses = np.stack([geometry.inverse(crop) for crop in crops])
        landmarks = geometry.transform_points(inverses, prediction.landmarks * size)
        return landmarks, prediction.spread * size * inverses[:, :1, 0]

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
        rows: list[dict[str, np.ndarray]] = []
        mesh = make_mesh(self.config.data.batch_size)
        variables = jax.device_put(self._variables, replicated(mesh))
        steps = jnp.int32(self.config.model.forward.max_steps if budget is None else budget)
        # The result of one batch is fetched while the next is computed.
        previous = None
        for batch in tqdm(batches, total=total, unit="batch", disable=total is None):
            prediction = self._predict(variables, to_devices(mesh, batch.image), steps)
            if previous is not None:
                rows.append(_rows(*previous))
            previous = batch, prediction
        rows.append(_rows(*previous))
        return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


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


def _rows(batch, prediction):
    real = batch.mask
    info = prediction.info
    # The state is large and not needed here: it stays on the device.
    fetched = jax.device_get(
        {
            "landmarks": prediction.landmarks,
            "spread": prediction.spread,
            "num_steps": info.num_steps,
            "residual": info.residual,
            "converged": info.converged,
            "diverged": info.diverged,
        }
    )
    given = {
        "index": batch.index,
        "target": batch.landmarks,
        "frame_from_crop": batch.frame_from_crop,
    }
    return {key: value[real] for key, value in (fetched | given).items()}
