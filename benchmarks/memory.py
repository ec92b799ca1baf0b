"""Memory of a training step against the solver's iteration budget, for each gradient.

    python benchmarks/memory.py --output=docs/images/memory.png

Compiles the step and asks XLA how much temporary memory the program needs. Nothing is executed, so
the figure does not depend on the machine's load. The implicit, one-step and phantom gradients
linearise the map where the solver stopped, and need the same memory at any budget. The memory of
back-propagation through the iterations grows. With `remat` the map's inner activations are computed
again instead of kept.
"""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib
from absl import app, flags

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax import config
from ldeq_jax.data.faces import LandmarkBatch
from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.mesh import make_mesh
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.report import tables
from ldeq_jax.training.state import create_state
from ldeq_jax.training.step import make_train_step

_OUTPUT = flags.DEFINE_string("output", None, "File of the plot; no plot if unset.")
_BATCH = flags.DEFINE_integer("batch_size", 8, "Faces per step.")
_BUDGETS = flags.DEFINE_multi_integer("budget", [4, 8, 16, 32, 64], "Solver budgets to compile.")
_METHOD = flags.DEFINE_enum("method", "picard", ["picard", "anderson"], "Solver, both ways.")

MODEL = ModelConfig(
    num_landmarks=68,
    image_size=128,
    injection_width=32,
    base_width=32,
    width_increment=16,
    residual_kernel=3,
    stem_norm="group",
)


GRADIENTS = {  # label: gradient, remat
    "implicit": ("implicit", False),
    "implicit, remat": ("implicit", True),
    "one-step": ("one_step", False),
    "phantom": ("phantom", False),
    "unrolled": ("unrolled", False),
    "unrolled, remat": ("unrolled", True),
}


def step_memory(gradient: str, remat: bool, budget: int, method: str, batch_size: int) -> int:
    """Temporary bytes of one compiled training step."""
    solver = SolverConfig(method=method, max_steps=budget, tol=0.0)
    model = dataclasses.replace(
        MODEL, gradient=gradient, remat=remat, forward=solver, backward=solver
    )
    optimizer, train = config.OptimizerConfig(), config.TrainConfig()
    mesh = make_mesh(batch_size)
    step = make_train_step(model, optimizer, train, (36, 45), mesh)
    state = jax.eval_shape(lambda: create_state(model, optimizer, train, mesh))
    size = model.image_size
    batch = LandmarkBatch(
        image=jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.uint8),
        landmarks=jax.ShapeDtypeStruct((batch_size, model.num_landmarks, 2), jnp.float32),
        mask=jax.ShapeDtypeStruct((batch_size,), bool),
        frame_from_crop=jax.ShapeDtypeStruct((batch_size, 3, 3), jnp.float32),
        index=jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    )
    return step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes


def main(argv: list[str]) -> None:
    """Prints the table and draws the plot."""
    budgets = sorted(_BUDGETS.value)
    megabytes = {
        label: [step_memory(*how, b, _METHOD.value, _BATCH.value) / 2**20 for b in budgets]
        for label, how in GRADIENTS.items()
    }
    rows = [
        {"gradient": label}
        | {f"budget {b} (MiB)": value for b, value in zip(budgets, values, strict=True)}
        | {f"{budgets[-1]} / {budgets[0]}": values[-1] / values[0]}
        for label, values in megabytes.items()
    ]
    print(tables.markdown_table(rows, digits=3))
    if _OUTPUT.value:
        plot(budgets, megabytes, _OUTPUT.value)


def plot(budgets: list[int], megabytes: dict[str, list[float]], path: str) -> None:
    """One line per gradient, both axes logarithmic."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for label, marker in zip(megabytes, "oPsv^D", strict=True):
        axes.plot(budgets, megabytes[label], marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(budgets, [str(b) for b in budgets])
    axes.set_xlabel("Solver budget (iterations)")
    axes.set_ylabel("Temporary memory of a step (MiB)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    app.run(main)
