"""Convolutions of one layer on a CPU: XLA's own against those of `model.convolution`.

    JAX_PLATFORMS=cpu python benchmarks/convolution.py

Layers of the paper's size with one image, and one layer of the small model with 16. It measures
the value, in a loop as in the equilibrium or once as in the stem; the gradient of the kernel; and
the gradient of the input, in a loop as in the adjoint solve. The two are timed alternately; a ratio
is the median over pairs.
"""

import functools
import time

import jax
import numpy as np

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.model.convolution import _direct, convolve
from ldeq_jax.report.tables import markdown_table

# name: (input shape, output channels, kernel size, stride)
ITERATED = {
    "residual, 64 x 64": ((1, 64, 64, 264), 264, 5, 1),
    "residual, 32 x 32": ((1, 32, 32, 288), 288, 5, 1),
    "skip, 64 x 64": ((1, 64, 64, 264), 264, 3, 1),
    "small model, skip": ((16, 32, 32, 32), 32, 3, 1),
}
STEM = {
    "stem, second": ((1, 128, 128, 66), 132, 3, 1),
    "stem, first": ((1, 256, 256, 3), 66, 7, 2),
}
LAYERS = ITERATED | STEM
PAIRS = 9


def value(rule, x, kernel, g):
    """The convolution, once"""
    return rule(x, kernel)


def values(rule, x, kernel, g):
    """Five convolutions, one after another in a loop"""
    return jax.lax.fori_loop(0, 5, lambda _, x: rule(x, kernel), x)


def kernel_gradient(rule, x, kernel, g):
    """The gradient of the kernel, once"""
    return jax.vjp(functools.partial(rule, x), kernel)[1](g)[0]


def input_gradients(rule, x, kernel, g):
    """Five gradients of the input, one after another in a loop"""

    def step(_, y):
        return jax.vjp(lambda x: rule(x, kernel), x)[1](y)[0]

    return jax.lax.fori_loop(0, 5, step, g)


def seconds(run, *arguments) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    return time.perf_counter() - start


def compare(name: str, what) -> dict[str, str]:
    """Times XLA's own convolution and ours alternately, on one layer."""
    shape, features, size, stride = LAYERS[name]
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((size, size, shape[-1], features), np.float32) / 100
    x = rng.standard_normal(shape, np.float32)
    g = np.asarray(convolve(x, kernel, stride))
    rules = [functools.partial(rule, stride=stride) for rule in (_direct, convolve)]
    runs = [jax.jit(functools.partial(what, rule)) for rule in rules]
    for run in runs:
        jax.block_until_ready(run(x, kernel, g))
    pairs = 1e3 * np.array([[seconds(run, x, kernel, g) for run in runs] for _ in range(PAIRS)])
    plain, ours = np.median(pairs, axis=0)
    ratio = np.median(pairs[:, 0] / pairs[:, 1])
    return {"layer": name, "XLA (ms)": f"{plain:.1f}", "ours (ms)": f"{ours:.1f}"} | {
        "ratio": f"{ratio:.2f}"
    }


def main() -> None:
    """Prints the tables."""
    # XLA's own input gradient of a wide layer in a loop takes seconds, so it has one row.
    for what, layers in (
        (values, ITERATED),
        (value, STEM),
        (kernel_gradient, LAYERS),
        (input_gradients, ["small model, skip"]),
    ):
        print(f"{what.__doc__}:\n\n{markdown_table([compare(name, what) for name in layers])}")


if __name__ == "__main__":
    main()
