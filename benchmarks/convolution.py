"""The convolution's input gradient inside a loop, as in the adjoint solve: JAX's own rule and ours.

    JAX_PLATFORMS=cpu python benchmarks/convolution.py

Five passes through the transpose of one 3x3 convolution, as a `fori_loop`; the two are timed in
turn and their ratio is taken pair by pair.
"""

import time

import jax
import numpy as np

from ldeq_jax.convolution import _direct, convolve


def passes(rule):
    """Five transposed convolutions, compiled."""

    @jax.jit
    def run(x, kernel):
        def step(_, y):
            return jax.vjp(lambda x: rule(x, kernel), x)[1](y)[0]

        return jax.lax.fori_loop(0, 5, step, x)

    return run


def seconds(run, *arguments) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    return time.perf_counter() - start


def main() -> None:
    """Prints the median times and their ratio."""
    x = jax.random.normal(jax.random.key(0), (16, 32, 32, 32))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 32, 32)) / 20
    rules = [passes(_direct), passes(convolve)]
    for run in rules:
        run(x, kernel)
    pairs = np.array([[seconds(run, x, kernel) for run in rules] for _ in range(9)])
    jax_rule, ours = 1e3 * np.median(pairs, axis=0)
    ratio = np.median(pairs[:, 0] / pairs[:, 1])
    print(f"JAX's rule {jax_rule:.1f} ms, ours {ours:.1f} ms, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
