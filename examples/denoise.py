"""A multiscale deep equilibrium model that removes noise from pictures, with `ldeq_jax.deq` alone.

    python examples/denoise.py

Pictures of ellipses and bars are drawn on the spot. The state has two scales, as a dict of arrays:
the equilibrium of a small convolutional map is where the scales agree with each other and with the
noisy picture. The same network is trained three times, about 15 seconds each on two cores: as one
evaluation of the map, as an equilibrium with the cheap one-step gradient, and as an equilibrium
with the implicit gradient.
"""

import argparse
import functools

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ldeq_jax.deq import SolverConfig, fixed_point

NOISE = 0.4
WIDTH = 12  # channels of the fine scale; the coarse one has twice as many
EQUILIBRIUM = SolverConfig(method="anderson", max_steps=8, tol=1e-3)


def draw(rng, count, size):
    """(count, size, size, 1) clean pictures in [-1, 1]."""
    pictures = np.zeros((count, size, size), np.float32)
    for picture in pictures:
        picture[:] = rng.uniform(-1, 1)
        for _ in range(4):
            centre, axes = rng.integers(0, size, 2), rng.integers(2, size // 2, 2)
            angle, grey = rng.uniform(0, 180), rng.uniform(-1, 1)
            cv2.ellipse(picture, centre.tolist(), axes.tolist(), angle, 0, 360, grey, -1)
            end = rng.integers(0, size, 2)
            cv2.line(picture, centre.tolist(), end.tolist(), rng.uniform(-1, 1), 2)
    return pictures[..., None]


class Conv(nn.Module):
    """A 3 x 3 convolution as one matrix product: on a CPU, XLA's own is slow within loops."""

    features: int

    @nn.compact
    def __call__(self, x):
        h, w = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifts = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        dense = nn.Dense(self.features, kernel_init=nn.initializers.normal(0.05))
        return dense(jnp.concatenate(shifts, axis=-1))


class Cell(nn.Module):
    """The map: one step of both scales, given what the noisy picture injects."""

    @nn.compact
    def __call__(self, z, injected):
        b, h, w, _ = z["fine"].shape
        halved = z["fine"].reshape(b, h // 2, 2, w // 2, 2, -1).mean(axis=(2, 4))
        doubled = z["coarse"].repeat(2, axis=1).repeat(2, axis=2)
        fine = Conv(WIDTH, name="fine")(jnp.concatenate([z["fine"], doubled], axis=-1))
        coarse = Conv(2 * WIDTH, name="coarse")(jnp.concatenate([z["coarse"], halved], axis=-1))
        return {"fine": nn.tanh(fine + injected["fine"]), "coarse": nn.tanh(coarse)}


INJECT, CELL, READ = Conv(WIDTH), Cell(), Conv(1)


def initial_params(key, noisy):
    z, injected = zeros(noisy), {"fine": zeros(noisy)["fine"]}
    keys = jax.random.split(key, 3)
    return {
        "inject": INJECT.init(keys[0], noisy),
        "cell": CELL.init(keys[1], z, injected),
        "read": READ.init(keys[2], z["fine"]),
    }


def zeros(noisy):
    b, h, w, _ = noisy.shape
    return {
        "fine": jnp.zeros((b, h, w, WIDTH)),
        "coarse": jnp.zeros((b, h // 2, w // 2, 2 * WIDTH)),
    }


def denoise(params, noisy, kind):
    """The clean picture, as the noisy one less what the equilibrium says is noise."""
    f = lambda theta, z: CELL.apply(theta[0], z, theta[1])  # noqa: E731
    theta = params["cell"], {"fine": INJECT.apply(params["inject"], noisy)}
    if kind == "one evaluation":
        z, steps = f(theta, zeros(noisy)), jnp.zeros(len(noisy))
    else:
        gradient = "one_step" if kind == "equilibrium, one-step gradient" else "implicit"
        z, info = fixed_point(f, theta, zeros(noisy), forward=EQUILIBRIUM, gradient=gradient)
        steps = info.num_steps
    return noisy - READ.apply(params["read"], z["fine"]), steps


def train(kind, num_steps, size, batch=8):
    """Trained parameters, and those before."""
    rng = np.random.default_rng(0)
    start = initial_params(jax.random.key(0), jnp.zeros((1, size, size, 1)))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, num_steps))

    @jax.jit
    def update(params, memory, clean, noisy):
        loss = lambda params: jnp.mean((denoise(params, noisy, kind)[0] - clean) ** 2)  # noqa: E731
        updates, memory = optimizer.update(jax.grad(loss)(params), memory)
        return optax.apply_updates(params, updates), memory

    params, memory = start, optimizer.init(start)
    for _ in range(num_steps):
        clean = draw(rng, batch, size)
        noisy = clean + NOISE * rng.standard_normal(clean.shape, np.float32)
        params, memory = update(params, memory, clean, noisy)
    return start, params


def run(num_steps, size):
    """Root-mean-square error on pictures not trained on, before and after, by kind of network."""
    rng = np.random.default_rng(1)
    clean = draw(rng, 64, size)
    noisy = clean + NOISE * rng.standard_normal(clean.shape, np.float32)
    print(f"noisy pictures: error {np.sqrt(np.mean((noisy - clean) ** 2)):.3f}\n")
    print(f"{'network':34s} {'untrained':>9s} {'trained':>9s} {'solver steps':>13s}")
    errors = {}
    for kind in (
        "one evaluation",
        "equilibrium, one-step gradient",
        "equilibrium, implicit gradient",
    ):
        apply = jax.jit(functools.partial(denoise, kind=kind))
        found = [apply(params, noisy) for params in train(kind, num_steps, size)]
        before, after = (float(np.sqrt(np.mean((clean - picture) ** 2))) for picture, _ in found)
        print(f"{kind:34s} {before:9.3f} {after:9.3f} {float(found[1][1].mean()):13.1f}")
        errors[kind] = before, after
    return errors


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="training steps (default: 300)")
    parser.add_argument("--size", type=int, default=32, help="side of a picture in pixels, even")
    options = parser.parse_args(argv)
    run(options.steps, options.size)


if __name__ == "__main__":
    main()
