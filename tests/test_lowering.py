"""Training and video lower for GPUs and TPUs, and ask them for nothing that only a CPU has."""

import re

import jax
import jax.numpy as jnp
import pytest

from ldeq_jax import config
from ldeq_jax.data.faces import LandmarkBatch
from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.mesh import make_mesh
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import ModelConfig, variable_shapes
from ldeq_jax.training.optimizer import make_optimizer
from ldeq_jax.training.state import TrainState
from ldeq_jax.training.step import make_train_step

ROWS, FRAMES, LANDMARKS, SIZE = 4, 2, 5, 16


def model(dtype):
    solver = SolverConfig(method="anderson", max_steps=3)
    return ModelConfig(
        num_landmarks=LANDMARKS,
        image_size=SIZE,
        injection_width=8,
        base_width=8,
        width_increment=8,
        depth=1,
        residual_kernel=3,
        groups=4,
        dtype=dtype,
        forward=solver,
        backward=solver,
    )


def shape(dtype, *sides):
    return jax.ShapeDtypeStruct(sides, dtype)


def train_step(model):
    """The step over two devices, with what it takes."""
    optimizer = config.OptimizerConfig(ema_decay=0.9, clip="norm")
    train = config.TrainConfig(jacobian_weight=0.1, spread_weight=0.1)
    variables = variable_shapes(model)
    opt_state = jax.eval_shape(make_optimizer(optimizer, 10).init, variables["params"])
    state = TrainState(shape(jnp.int32), **variables, opt_state=opt_state, ema=variables["params"])
    batch = LandmarkBatch(
        image=shape(jnp.uint8, ROWS, SIZE, SIZE, 3),
        landmarks=shape(jnp.float32, ROWS, LANDMARKS, 2),
        mask=shape(bool, ROWS),
        frame_from_crop=shape(jnp.float32, ROWS, 3, 3),
        index=shape(jnp.int32, ROWS),
    )
    mesh = make_mesh(ROWS)
    assert mesh.size == 2
    return make_train_step(model, optimizer, train, (0, 1), mesh), (state, batch)


def video_scan(model):
    """Recurrence over frames, with what it takes."""

    def scan(variables, settings, images, state, frame_from_crop, reset, mask):
        moved = {"frame_from_crop": frame_from_crop, "reset": reset, "mask": mask}
        return rwr.scan(model, variables, settings, images, state, **moved)

    return jax.jit(scan), (
        variable_shapes(model),
        rwr.RwRConfig(budget=1, weighting="spread"),
        shape(jnp.uint8, ROWS, FRAMES, SIZE, SIZE, 3),
        jax.eval_shape(lambda: rwr.initial_state(model, ROWS)),
        shape(jnp.float32, ROWS, FRAMES, 3, 3),
        shape(bool, ROWS, FRAMES),
        shape(bool, ROWS, FRAMES),
    )


def convolutions(text):
    """Element types of all convolutions of a module."""
    return set(re.findall(r"stablehlo\.convolution\(.*-> tensor<[\dx]*x(\w+)>", text))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("program", [train_step, video_scan])
def test_a_step_lowers_for_gpu_and_tpu(dtype, program):
    function, arguments = program(model(dtype))
    exported = jax.export.export(function, platforms=["cuda", "tpu"])(*arguments)
    assert not exported.ordered_effects and not exported.unordered_effects
    text = exported.mlir_module()
    # Neither a callback into Python nor a library, such as one for LU decompositions, which no
    # compiler divides over devices.
    assert not re.findall(r"custom_call @([\w.]+)", text)
    assert convolutions(text) == {"float32": {"f32"}, "bfloat16": {"bf16"}}[dtype]
