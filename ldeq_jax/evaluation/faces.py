"""Evaluation on stills: errors of a model on the faces of a split, at one solver budget or several.

`face_results` writes what is measured here.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from tqdm import tqdm

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.faces import eval_batches
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.evaluation.face_results import FaceResults
from ldeq_jax.evaluation.labels import check_schema
from ldeq_jax.face import geometry, metrics
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.inference.pictures import Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """What is measured on stills in addition to the errors of the model as configured.

    Attributes:
        budgets: numbers of solver steps to measure and plot, ascending.
    """

    budgets: Sequence[int] = ()


class FaceEvaluator:
    """Measures a model on the faces of `config.data.eval_split`.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        options: what to measure in addition.

    Raises:
        UserFileNotFoundError: the data set has not been built.
        UserError: there is no such split, or the labels mean something else than the predictions.
    """

    written: ClassVar[tuple[str, ...]] = (
        "metrics.json",
        "table.md",
        "faces.csv",
        "cumulative_error.png",
        "faces.png",
        "budgets.png",
    )

    def __init__(self, config: Config, variables: dict[str, Any], options: FaceOptions):
        data = config.data
        self.schema = get_schema(data.schema)
        self.source = FaceSource(data.name, data.eval_split, data.data_dir)
        check_schema(self.schema, self.source)
        self.config, self.variables, self.options = config, variables, options

    def description(self) -> str:
        """What is measured, for the line that is printed first."""
        return f"{len(self.source)} faces of {self.source.where}"

    def measure(self) -> FaceResults:
        """Measures the model, and once more at each of the budgets; the same on every host."""
        trained, budgets = self.config.model.forward.max_steps, self.options.budgets
        labels = [self.source.annotation(index) for index in range(len(self.source))]
        # Compiled for the longest budget; shorter ones need no compilation of their own.
        predictor = Predictor(self.config, self.variables, max_steps=max([trained, *budgets]))
        measured = measure(predictor, labels, self.schema, trained, progress=True)
        by_budget = {}
        for budget in tqdm(budgets, unit="budget", disable=not (budgets and hosts.is_first())):
            by_budget[budget] = (
                measured
                if budget == trained
                else measure(predictor, labels, self.schema, budget, progress=False)
            )
        return FaceResults(
            source=self.source,
            labels=labels,
            measured=measured,
            by_budget=by_budget,
            schema=self.schema,
            image_size=self.config.model.image_size,
        )


def measure(
    predictor: Predictor,
    labels: Sequence[dict[str, Any]],
    schema: LandmarkSchema,
    budget: int,
    progress: bool,
) -> dict[str, np.ndarray]:
    """Runs the model over the split of its config and measures each face.

    Args:
        predictor: the model.
        labels: annotation of every face of the split.
        schema: of the landmarks.
        budget: solver steps allowed.
        progress: show a progress bar, on the first host.

    Returns:
        The arrays of `Predictor.batches`, with nme (N,) as fractions. Faces without a size are not
        among the N.
    """
    config = predictor.config
    size = config.model.image_size
    shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    batches = eval_batches(config.data, config.data.eval_split, size, **shard)
    progress = progress and hosts.is_first()
    total = math.ceil(len(labels) / config.data.batch_size) if progress else None
    found = predictor.batches(batches, total, budget)
    # In pixels of the picture, as the labels are, so that the crop does not matter.
    predicted = geometry.transform_points(found["frame_from_crop"], size * found["landmarks"])
    target = np.array([labels[index]["landmarks"] for index in found["index"]])
    return found | {"nme": metrics.nme(predicted, target, schema.eye_corners)}
