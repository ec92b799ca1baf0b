"""Distillation: the landmarks that a trained model finds in the crops of a run."""

from collections.abc import Callable

import jax

from ldeq_jax.config import Config
from ldeq_jax.errors import UserError
from ldeq_jax.face.schema import LandmarkSchema, differences, get_schema
from ldeq_jax.mesh import batch_sharding, replicated
from ldeq_jax.model.ldeq import LDEQ, normalise_image
from ldeq_jax.weights import load_model


def load_teacher(
    config: Config, schema: LandmarkSchema, mesh: jax.sharding.Mesh
) -> Callable[[jax.Array], jax.Array]:
    """The model `train.teacher`, on all devices of a mesh.

    Args:
        config: of the run.
        schema: of the run.
        mesh: devices.

    Returns:
        A function from (B, ..., H, W, 3) uint8 crops to (B, ..., K, 2) landmarks, normalised; both
        are divided over the mesh. Each crop is solved alone, with the teacher's largest budget.

    Raises:
        UserError: the model cannot be read, or has other landmarks or crops of another size.
    """
    name = config.train.teacher
    trained, variables, _ = load_model(name)
    if what := differences(get_schema(trained.data.schema), schema):
        raise UserError(f"train.teacher: {name} finds other landmarks: {', '.join(what)}")
    size, own = trained.model.image_size, config.model.image_size
    if size != own:
        raise UserError(
            f"train.teacher: {name} sees crops of {size} pixels, the run has model.image_size={own}"
        )
    everywhere, rows = replicated(mesh), batch_sharding(mesh)
    variables = jax.device_put(variables, everywhere)
    network, model = LDEQ(trained.model), trained.model

    def teach(variables, image):
        crops = normalise_image(image.reshape(-1, *image.shape[-3:])).astype(model.dtype)
        found = network.apply(variables, crops).landmarks
        return found.reshape(*image.shape[:-3], *found.shape[1:])

    compiled = jax.jit(teach, in_shardings=(everywhere, rows), out_shardings=rows)
    return lambda image: compiled(variables, image)
