"""Starting a run from a trained model, also one of other landmarks: `start_from`."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.data.faces import LandmarkBatch, eval_batches
from ldeq_jax.face.schema import LandmarkSchema, differences, get_schema
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.model.ldeq import select_landmarks
from ldeq_jax.training.state import TrainState, with_weights

_FACES = 128  # training faces that are looked at to find out which landmarks are alike


def start_from(
    state: TrainState,
    config: Config,
    schema: LandmarkSchema,
    trained: Config,
    variables: dict[str, Any],
) -> tuple[TrainState, str]:
    """A fresh state with the weights of a trained model.

    If that finds other landmarks, it is applied to some training faces, and each landmark of the
    run begins as the one that is found nearest to its labels.

    Args:
        state: of `create_state`.
        config: of the run.
        schema: of the run.
        trained: config of the trained model.
        variables: its weights.

    Returns:
        The state, and what was changed or is new, as the end of a line; "" if nothing.

    Raises:
        UserError: no layer of the model fits the config, or the training faces cannot be read.
    """
    told = ""
    if differences(get_schema(trained.data.schema), schema):
        size = trained.model.image_size
        shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
        batches = eval_batches(config.data, config.data.train_split, size, **shard)
        some = itertools.islice(batches, -(-_FACES // config.data.batch_size))
        numbers = nearest_landmarks(Predictor(trained, variables), some)
        variables = select_landmarks(trained.model, variables, numbers)
        told += f"; {schema.name} begins as its landmarks {_list(numbers, 12)}"
    state, new = with_weights(state, variables)
    return state, told + (f"; new: {_list(new, 4)}" if new else "")


def nearest_landmarks(predictor: Predictor, batches: Iterable[LandmarkBatch]) -> list[int]:
    """For each labelled landmark, the number of the one that a model finds nearest to it.

    Args:
        predictor: of the model.
        batches: of labelled faces, of any landmarks.

    Returns:
        A number of the model's landmarks for each labelled one, by the mean distance over faces.
    """
    faces = predictor.batches(batches)
    apart = faces["landmarks"][:, :, None] - faces["target"][:, None]
    return np.linalg.norm(apart, axis=-1).mean(axis=0).argmin(axis=0).tolist()


def _list(items: Sequence[Any], most: int) -> str:
    return ", ".join(map(str, items[:most])) + f" and {len(items) - most} more" * (
        len(items) > most
    )
