"""Calibration of a model: what the spread of its heatmaps says, on faces that it has not seen."""

import dataclasses
from typing import Any

import numpy as np
from tqdm import tqdm

from ldeq_jax.config import Config
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import train_iterator
from ldeq_jax.errors import UserError
from ldeq_jax.face.confidence import ConfidenceConfig, calibrate, face_size
from ldeq_jax.inference.pictures import Predictor

_EMPTY = 0.3  # share of the crops that show no face
_BATCH = 16


def calibration_of(
    config: Config, variables: dict[str, Any], data: DataConfig, number: int
) -> ConfidenceConfig:
    """Calibrates a model on crops of `data.eval_split`, varied as in its training.

    They are turned, displaced, blurred and covered, so that there are errors of all sizes; three of
    ten show no face.

    Args:
        config: the model's.
        variables: of the model.
        data: faces that the model was not trained on.
        number: of crops.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: the model was trained on that very split, or there are too few crops.
    """
    split = data.eval_split
    if (data.name, split) == (config.data.name, config.data.train_split):
        raise UserError(
            f"{split} is what the model was trained on; calibrate it on faces it has not seen"
        )
    if number < 1:
        raise UserError(f"crops must be 1 or more, not {number}")
    data = dataclasses.replace(data, train_split=split, also=(), batch_size=_BATCH, num_workers=0)
    augment = dataclasses.replace(config.augment, empty_probability=_EMPTY)
    predictor, rows = Predictor(config, variables), []
    batches = train_iterator(data, augment, config.model.image_size)
    for _ in tqdm(range(-(-number // _BATCH)), unit="batch"):
        batch = next(batches)
        found = predictor(batch.image)
        points, spread = np.asarray(found.landmarks), np.asarray(found.spread)
        error = np.linalg.norm(points - batch.landmarks, axis=-1)
        size = face_size(points)[:, None]
        rows.append((batch.mask, spread / size, error / size))
    batches.close()
    mask, spread, error = (np.concatenate(column) for column in zip(*rows, strict=True))
    return calibrate(spread[mask], error[mask], spread[~mask])
