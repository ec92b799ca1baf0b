"""Evaluation on stills: errors of a model on the faces of a split, at one solver budget or several.

`face_results` writes what is measured here.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from tqdm import tqdm

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.faces import eval_batches
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.evaluation.face_results import Arrays, FaceResults
from ldeq_jax.evaluation.labels import check_schema
from ldeq_jax.face import geometry, metrics
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.inference.pictures import Predictor

_BATCHES_AT_ONCE = 8  # in memory, for every budget to run on


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
        "report.html",
        "faces.csv",
        "cumulative_error.png",
        "faces.png",
        "reliability.png",
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
        """Measures the model as configured and at each of the budgets; the same on every host."""
        trained, budgets = self.config.model.forward.max_steps, self.options.budgets
        labels = [self.source.annotation(index) for index in range(len(self.source))]
        # Compiled for the longest budget; shorter ones need no compilation of their own.
        predictor = Predictor(self.config, self.variables, max_steps=max([trained, *budgets]))
        measured = measure(predictor, labels, self.schema, [trained, *budgets])
        return FaceResults(
            source=self.source,
            labels=labels,
            measured=measured[trained],
            by_budget={budget: measured[budget] for budget in budgets},
            schema=self.schema,
            image_size=self.config.model.image_size,
            confidence=self.config.confidence,
        )


def measure(
    predictor: Predictor,
    labels: Sequence[dict[str, Any]],
    schema: LandmarkSchema,
    budgets: Iterable[int],
) -> dict[int, Arrays]:
    """Runs the model over the split of its config at several budgets and measures each face.

    Every picture is decoded once.

    Args:
        predictor: the model.
        labels: annotation of every face of the split.
        schema: of the landmarks.
        budgets: numbers of solver steps allowed.

    Returns:
        For each budget the arrays of `Predictor.batches`, with nme (N,) as fractions. Faces without
        a size are not among the N.
    """
    config = predictor.config
    size = config.model.image_size
    shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    batches = iter(eval_batches(config.data, config.data.eval_split, size, **shard))
    parts: dict[int, list[Arrays]] = {budget: [] for budget in budgets}
    with tqdm(total=len(labels), unit="face", disable=not hosts.is_first()) as bar:
        while group := list(itertools.islice(batches, _BATCHES_AT_ONCE)):
            for budget, found in parts.items():
                found.append(predictor.batches(group, budget=budget))
            bar.update(min(len(group) * config.data.batch_size, len(labels) - bar.n))
    return {
        budget: _with_nme(
            {key: np.concatenate([part[key] for part in found]) for key in found[0]},
            size,
            labels,
            schema,
        )
        for budget, found in parts.items()
    }


def _with_nme(
    found: Arrays, size: int, labels: Sequence[dict[str, Any]], schema: LandmarkSchema
) -> Arrays:
    """The arrays of `Predictor.batches` and nme."""
    # In pixels of the picture, as the labels are, so that the crop does not matter.
    predicted = geometry.transform_points(found["frame_from_crop"], size * found["landmarks"])
    target = np.array([labels[index]["landmarks"] for index in found["index"]])
    return found | {"nme": metrics.nme(predicted, target, schema.eye_corners)}
