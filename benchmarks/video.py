"""Recurrence on video: one program for a batch of clips against a Python loop over frames.

    JAX_PLATFORMS=cpu python benchmarks/video.py --checkpoint=faces-68

All ways run the same clips of random pixels, with a budget of 0 (one evaluation of the map per
frame), and are timed in turn. On a CPU every core is a device.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.mesh import make_mesh, replicated, to_devices, use_all_cores
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import normalise_image
from ldeq_jax.report.tables import markdown_table
from ldeq_jax.weights import load_model

FRAMES = 16
CLIPS = 16
REPEATS = 5


def main() -> None:
    """Prints a table: frames per second, and the ratio to those of the loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    arguments = parser.parse_args()
    use_all_cores()
    config, variables, _ = load_model(arguments.checkpoint)
    ways = {"loop over step, one clip": loop(config.model, variables)}
    for devices in dict.fromkeys((1, jax.device_count())):
        for batch in (1, 4, 16):
            if batch >= devices:
                name = f"scan, {batch} clip(s), {devices} device(s)"
                ways[name] = batched(config.model, variables, batch, devices)
    size = config.model.image_size
    clips = np.random.default_rng(0).integers(0, 256, (CLIPS, FRAMES, size, size, 3), np.uint8)
    for run in ways.values():  # compiles
        run(clips)
    seconds = np.array([[timed(run, clips) for run in ways.values()] for _ in range(REPEATS)])
    speeds = CLIPS * FRAMES / np.median(seconds, axis=0)
    ratios = np.median(seconds[:, :1] / seconds, axis=0)
    rows = [
        {"way": name, "frames/s": float(speed), "times the loop": float(ratio)}
        for name, speed, ratio in zip(ways, speeds, ratios, strict=True)
    ]
    print(f"{CLIPS} clips of {FRAMES} frames of {size} px, {jax.default_backend()}\n")
    print(markdown_table(rows))


def loop(model, variables):
    """Runs the clips one after another, each as a Python loop over a jitted step."""
    settings = rwr.RwRConfig(budget=0)
    variables = jax.device_put(variables)

    @jax.jit
    def step(variables, image, state):
        return rwr.step(model, variables, settings, normalise_image(image), state)

    def run(clips):
        for clip in clips:
            state = rwr.initial_state(model, 1)
            for frame in clip:
                prediction, state = step(variables, frame[None], state)
                # In a live video every frame's landmarks are read before the next frame.
                np.asarray(prediction.landmarks)

    return run


def batched(model, variables, batch, devices):
    """Runs batches of clips, each as one program over all frames, divided over devices."""
    settings = rwr.RwRConfig(budget=0)
    mesh = make_mesh(batch, jax.devices()[:devices])
    variables = jax.device_put(variables, replicated(mesh))

    @jax.jit
    def scan(variables, images, state):
        return rwr.scan(model, variables, settings, images, state)[0].landmarks

    def run(clips):
        for start in range(0, len(clips), batch):
            state = to_devices(mesh, jax.device_get(rwr.initial_state(model, batch)))
            np.asarray(scan(variables, to_devices(mesh, clips[start : start + batch]), state))

    return run


def timed(run, clips) -> float:
    """Wall time of one pass over the clips."""
    start = time.perf_counter()
    run(clips)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
