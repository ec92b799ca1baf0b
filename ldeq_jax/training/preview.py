"""A picture of the faces that a model will be trained on."""

import contextlib
import math
from pathlib import Path

import numpy as np

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.faces import train_iterator
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.face.schema import get_schema
from ldeq_jax.media import pictures
from ldeq_jax.report import draw

_NUMBER = 32


def draw_contact_sheet(config: Config, path: str | Path) -> None:
    """Draws the first 32 training faces or frames of clips as in training, with their landmarks.

    Args:
        config: of the run; its number of landmarks and schema may be open.
        path: PNG file to write; by the first host alone.

    Raises:
        UserError: the data set cannot be read, see `data.faces.train_iterator`.
    """
    faces = FaceSource(config.data.name, config.data.train_split, config.data.data_dir)
    schema = get_schema(config.data.schema or faces.schema)
    config = config.for_schema(schema)
    size = config.model.image_size
    batches = train_iterator(config.data, config.augment, size, clip=config.clip)
    with contextlib.closing(batches):
        shown = [next(batches) for _ in range(math.ceil(_NUMBER / config.data.batch_size))]
    images = np.concatenate([batch.image for batch in shown]).reshape(-1, size, size, 3)
    points = np.concatenate([batch.landmarks for batch in shown])
    images, points = images[:_NUMBER], points.reshape(-1, *points.shape[-2:])[:_NUMBER] * size
    if hosts.is_first():
        pictures.write_picture(path, draw.contact_sheet(list(images), list(points), schema))
    hosts.print_once(f"wrote {path}")
