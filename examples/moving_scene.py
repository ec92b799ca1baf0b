"""Optical flow of a moving scene by recurrence over frames, with `ldeq_jax.deq` alone.

    python examples/moving_scene.py --output=flow.png

Nothing is trained here: any map that has a fixed point will do. The map is an iteration of Horn and
Schunck (1981), whose fixed point is the flow between two frames: smooth, and in agreement with the
changes of brightness. Frame by frame it needs many evaluations, and noise in the frames makes the
flow flicker. Recurrence starts at the last frame's flow, moved along by itself, and adds a penalty
on leaving it. A table compares errors at equal numbers of evaluations per frame.
"""

import argparse
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from ldeq_jax.deq import SolverConfig, recurrence

NOISE = 0.03  # of the frames, whose values lie in [0, 1]
SMOOTHNESS = 0.15
# x, y in pixels per frame: of the background and of two objects.
VELOCITIES = ((0.3, -0.1), (-0.7, 0.3), (0.5, 0.7))


def render(rng, num_frames, size):
    """A panning background and two moving objects: frames (T, H, W) and their flow (T, H, W, 2)."""
    textures = [
        0.2 + 0.6 * cv2.resize(rng.random((size // 4, size // 4), np.float32), (2 * size,) * 2)
        for _ in VELOCITIES
    ]
    masks = np.zeros((len(VELOCITIES), 2 * size, 2 * size), np.float32)
    masks[0] = 1
    middle = size
    cv2.circle(masks[1], (middle + size // 5, middle - size // 6), size // 5, 1.0, -1)
    corner = middle - size // 3, middle - size // 5
    cv2.rectangle(masks[2], corner, (corner[0] + size // 3, corner[1] + size // 4), 1.0, -1)
    frames, flows = [], []
    for t in range(num_frames + 1):
        frame, flow = np.zeros((size, size), np.float32), np.zeros((size, size, 2), np.float32)
        for texture, mask, velocity in zip(textures, masks, VELOCITIES, strict=True):
            x, y = (t * v - size / 2 for v in velocity)
            motion = np.float32([[1, 0, x], [0, 1, y]])
            texture, mask = (cv2.warpAffine(a, motion, (size, size)) for a in (texture, mask))
            frame = (1 - mask) * frame + mask * texture
            flow[mask > 0.5] = velocity
        frames.append(frame + NOISE * rng.standard_normal(frame.shape, np.float32))
        flows.append(flow)
    return np.stack(frames), np.stack(flows[:-1])


def derivatives(before, after):
    """(B, H, W) changes of brightness along x, y and t: the theta of `flow_map`."""
    mean, change = (before + after) / 2, after - before
    padded = jnp.pad(mean, ((0, 0), (1, 1), (1, 1)), mode="edge")
    along_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    along_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return along_x, along_y, change


def flow_map(theta, z):
    """One step of Horn and Schunck's iteration of a flow (B, H, W, 2)."""
    along_x, along_y, change = theta
    padded = jnp.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :, :-2] + padded[:, :, 2:], padded[:, :, 1:-1]
    mean = (rows[0][:, 1:-1] + rows[1][:, :-2] + rows[1][:, 2:]) / 6
    mean += (rows[0][:, :-2] + rows[0][:, 2:]) / 12
    misfit = along_x * mean[..., 0] + along_y * mean[..., 1] + change
    misfit /= SMOOTHNESS**2 + along_x**2 + along_y**2
    return mean - misfit[..., None] * jnp.stack([along_x, along_y], axis=-1)


def move_flow(z_prev, memory, z):
    """The last flow where it has moved to by now: the flow carries itself."""

    def sample(flow):
        y, x = jnp.mgrid[: flow.shape[0], : flow.shape[1]]
        at = [y - flow[..., 1], x - flow[..., 0]]
        one = functools.partial(jax.scipy.ndimage.map_coordinates, order=1, mode="nearest")
        return jnp.stack([one(flow[..., i], at) for i in range(2)], axis=-1)

    return jax.vmap(sample)(z_prev), memory


@functools.partial(jax.jit, static_argnames=("warm", "solver"))
def solve(frames, budget, penalty, warm, solver):
    """Flows (T, B, H, W, 2) of frames (T + 1, B, H, W)."""

    def step(state, pair):
        _, state = recurrence.step(
            flow_map,
            derivatives(*pair),
            state,
            forward=solver,
            budget=budget,
            first_budget=budget,
            penalty=penalty,
            align=move_flow,
            warm_start=warm,
        )
        return state, state.z

    start = recurrence.initial_state(jnp.zeros((*frames.shape[1:], 2)))
    return jax.lax.scan(step, start, (frames[:-1], frames[1:]))[1]


def measure(found, flows, skip):
    """Mean length of the error in pixels, and of its change from frame to frame, after a start."""
    error = (np.asarray(found) - flows)[skip:]
    length = lambda a: float(np.mean(np.linalg.norm(a, axis=-1)))  # noqa: E731
    return length(error), length(np.diff(error, axis=0))


def colours(flow):
    """(H, W, 3) BGR: the direction as hue, the length as saturation."""
    length, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1], angleInDegrees=True)
    hsv = np.stack([angle / 2, 255 * np.minimum(length / 0.9, 1), np.full_like(angle, 255)], -1)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)


def run(num_frames, size, budget, output=None):
    """Prints a table and writes a picture of the last frame; returns (error, flicker) by way."""
    scenes = [render(np.random.default_rng(seed), num_frames, size) for seed in range(3)]
    frames, flows = (np.stack(arrays, axis=1) for arrays in zip(*scenes, strict=True))
    solver = SolverConfig(method="picard", max_steps=20 * budget, tol=0.0, best_iterate=False)
    ways = {
        "each frame alone": (budget, 0.0, False),
        f"each frame alone, {20 * budget} iterations": (20 * budget, 0.0, False),
        "warm start": (budget, 0.0, True),
        "warm start and penalty": (budget, 1.0, True),
    }
    print(f"{'way':36s} {'evaluations':>11s} {'error (px)':>11s} {'flicker (px)':>13s}")
    measured, rows = {}, []
    for name, (steps, penalty, warm) in ways.items():
        found = np.asarray(solve(frames, steps, penalty, warm, solver))
        measured[name] = measure(found, flows, skip=num_frames // 4)
        print(f"{name:36s} {steps + 1:11d} {measured[name][0]:11.3f} {measured[name][1]:13.3f}")
        rows.append(colours(found[-1, 0]))
    if output:
        grey = (255 * frames[-2, 0].clip(0, 1)).astype(np.uint8)
        pictures = [cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), colours(flows[-1, 0]), *rows]
        names = ["frame", "true flow", "alone", "alone, long", "warm start", "and penalty"]
        tiles = [cv2.resize(p, (240, 240), interpolation=cv2.INTER_NEAREST) for p in pictures]
        for tile, name in zip(tiles, names, strict=True):
            tile[:26] = 255
            cv2.putText(tile, name, (8, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 0, 1, cv2.LINE_AA)
        if not cv2.imwrite(output, np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])):
            raise SystemExit(f"cannot write {output}")
    return measured


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=24, help="frames of a scene (default: 24)")
    parser.add_argument("--size", type=int, default=96, help="side of a frame (default: 96)")
    parser.add_argument("--budget", type=int, default=10, help="iterations per frame (default: 10)")
    parser.add_argument("--output", default="moving_scene.png", help="picture to write")
    options = parser.parse_args(argv)
    run(options.frames, options.size, options.budget, options.output)


if __name__ == "__main__":
    main()
