"""Speed against PyTorch on a CPU, iterations against accuracy, and time to the first landmark.

    pip install -e '.[bench]'
    JAX_PLATFORMS=cpu python -m benchmarks.speed --data_dir=DATA

prints all tables; --tables=video,train prints only these. PyTorch runs the same layers
(benchmarks/torch_reference.py) with channels last in memory, the same evaluations of the map and
all cores. The two are timed alternately, and ratios are medians over rounds. The tables "input" and
"iterations" need data sets in --data_dir, as built by ldeq build: ibug_300w and
moving_faces/easy.
"""

import argparse
import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import torch

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from benchmarks import torch_reference
from benchmarks.torch_input import torch_batches
from ldeq_jax.config import Config, OptimizerConfig, TrainConfig
from ldeq_jax.data import sources, videos
from ldeq_jax.data.config import DataConfig
from ldeq_jax.data.faces import LandmarkBatch, train_iterator
from ldeq_jax.deq.solver import SolverConfig
from ldeq_jax.evaluation import runner
from ldeq_jax.face import video_metrics
from ldeq_jax.face.schema import get_schema
from ldeq_jax.mesh import make_mesh, replicated, to_devices, use_all_cores
from ldeq_jax.model import rwr
from ldeq_jax.model.ldeq import ModelConfig
from ldeq_jax.report.tables import markdown_table
from ldeq_jax.training.state import create_state
from ldeq_jax.training.step import make_train_step
from ldeq_jax.weights import load_model

ROOT = Path(__file__).parents[1]
CHECKPOINT = "faces-68"
PICARD = SolverConfig(method="picard", max_steps=5, tol=0.0, best_iterate=False)
ADJOINT = dataclasses.replace(PICARD, final_evaluation=False)
PAPER = ModelConfig(forward=PICARD, backward=ADJOINT)


def small() -> ModelConfig:
    """The pretrained models' sizes, with a solver of as many steps as the paper's."""
    return dataclasses.replace(load_model(CHECKPOINT)[0].model, forward=PICARD, backward=ADJOINT)


def video(rounds: int) -> str:
    """(a) Frames per second of recurrence as released: two evaluations of the map per frame."""
    rows = []
    for name, model, clips, frames in (("small", small(), 16, 8), ("paper", PAPER, 2, 3)):
        shape = (clips, frames, model.image_size, model.image_size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        ways = {"PyTorch, loop over frames": torch_video(model), "ours, scan": our_video(model)}
        rows += compare(ways, (images,), clips * frames, rounds, {"model": name}, "frames/s")
    return markdown_table(rows)


def our_video(model: ModelConfig) -> Callable:
    """Runs all clips as one program, divided over the devices."""
    mesh = make_mesh(jax.device_count())
    network = jax.device_put(random_variables(model), replicated(mesh))
    config = rwr.RwRConfig(budget=1, first_budget=1, penalty=0.0, align="none")
    scan = jax.jit(functools.partial(rwr.scan, model))

    def run(images):
        state = jax.device_get(rwr.initial_state(model, len(images)))
        images, state = to_devices(mesh, (images, state))
        return np.asarray(scan(network, config, images, state)[0].landmarks)

    return run


def torch_video(model: ModelConfig) -> Callable:
    """Runs all clips at once, frame after frame, with the state of the frame before."""
    network = torch_reference.Landmarks(model).eval().to(memory_format=torch.channels_last)

    def run(images):
        state, found = None, []
        with torch.inference_mode():
            for t in range(images.shape[1]):
                image = torch_reference.normalise(images[:, t])
                landmarks, state = network.step(image, state, evaluations=2)
                found.append(landmarks.numpy())
        return np.stack(found, axis=1)

    return run


def train(rounds: int) -> str:
    """(b) Faces per second of a training step: Adam, L1, five iterations and one evaluation."""
    rows = []
    # Sharding the state helps if updating the weights takes a good part of the time.
    for name, base, size, sharded in (("small", small(), 16, False), ("paper", PAPER, 2, True)):
        for gradient in ("one_step", "implicit"):
            model = dataclasses.replace(base, gradient=gradient, dtype="float32")
            rng = np.random.default_rng(0)
            image = rng.integers(0, 256, (size, model.image_size, model.image_size, 3), np.uint8)
            points = rng.random((size, model.num_landmarks, 2), np.float32)
            ways = {"PyTorch": torch_train(model), "ours": our_train(model, size, sharded)}
            about = {"model": name, "gradient": gradient}
            rows += compare(ways, (image, points), size, rounds, about, "faces/s")
    return markdown_table(rows)


def our_train(model: ModelConfig, size: int, sharded: bool) -> Callable:
    """The step of ldeq train: its batch, and if `sharded` its state, divided over the devices."""
    optimizer = OptimizerConfig()
    settings = TrainConfig(shard_params=sharded)
    mesh = make_mesh(size)
    step = make_train_step(model, optimizer, settings, (0, 1), mesh)
    state = create_state(model, optimizer, settings, mesh)

    def run(image, points):
        nonlocal state
        batch = LandmarkBatch(
            image=image,
            landmarks=points,
            mask=np.ones(len(image), bool),
            frame_from_crop=np.tile(np.eye(3, dtype=np.float32), (len(image), 1, 1)),
            index=np.arange(len(image), dtype=np.int32),
        )
        state, measured = step(state, to_devices(mesh, batch))
        return float(measured["loss"])

    return run


def torch_train(model: ModelConfig) -> Callable:
    """The same in PyTorch; the implicit gradient is a loop over vector-Jacobian products."""
    network = torch_reference.Landmarks(model).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def run(image, points):
        landmarks = network.fixed_point(
            torch_reference.normalise(image),
            steps=model.forward.max_steps,
            adjoint_steps=model.backward.max_steps if model.gradient == "implicit" else 0,
        )
        loss = (landmarks - torch.from_numpy(points)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return run


def input_pipeline(rounds: int, data_dir: str) -> str:
    """(c) Augmented faces per second and core of the input pipeline, on 300-W."""
    config = Config(
        data=DataConfig(
            name="ibug_300w", data_dir=data_dir, crop="landmarks", crop_scale=1.3, batch_size=32
        )
    )
    size, batches, rows = 128, 40, []  # many batches: each side has prefetched some
    for workers in (0, os.cpu_count()):
        faces = dataclasses.replace(config.data, num_workers=workers)
        ours = train_iterator(faces, config.augment, size)
        theirs = torch_batches(faces, config.augment, size)
        ways = {"PyTorch DataLoader, albumentations": theirs, "ours, grain": ours}
        ways = {
            name: lambda iterator=iterator: [next(iterator) for _ in range(batches)]
            for name, iterator in ways.items()
        }
        number = batches * faces.batch_size / os.cpu_count()
        about = {"worker processes": workers}
        rows += compare(ways, (), number, min(rounds, 3), about, "faces/s and core")
        ours.close()
    return markdown_table(rows)


def iterations(data_dir: str) -> str:
    """(d) Evaluations of the map and error on video: solving from zeros against a warm start."""
    config, variables, _ = load_model(CHECKPOINT)
    faces = dataclasses.replace(
        config.data, name="moving_faces/easy", data_dir=data_dir, crop="extent", batch_size=8
    )
    source = sources.VideoSource(faces.name, "test_common[:8]", data_dir)
    schema, rows = get_schema(source.schema), []
    ways = [(method, budget) for method in ("picard", "anderson") for budget in (1, 2, 3, 5)]
    for method, budget in [*ways, ("warm start", 0), ("warm start", 1)]:
        warm = method == "warm start"
        forward = dataclasses.replace(
            PICARD,
            method="picard" if warm else method,
            max_steps=PICARD.max_steps if warm else budget,
            best_iterate=method == "anderson",
        )
        changed = dataclasses.replace(
            config, model=dataclasses.replace(config.model, forward=forward)
        )
        how = rwr.RwRConfig(budget=budget, penalty=0.0, align="none") if warm else None
        chunks = videos.video_chunks(source, faces, config.model.image_size)
        errors, evaluations = [], []
        for index, found in runner.run_methods(changed, variables, {"method": how}, chunks):
            label, track = source.annotation(index), found["method"]
            length = len(label["mask"])
            triple = track.points[None, :length], label["landmarks"][None], label["mask"][None]
            errors.append(video_metrics.video_nme(*triple, eye_corners=schema.eye_corners)[0])
            evaluations.append(track.info.num_evaluations[:length].mean())
        rows.append(
            {
                "solver": f"{method}, {budget} step(s)",
                "evaluations per frame": float(np.mean(evaluations)),
                "NME (%)": f"{100 * np.mean(errors):.3f}",
            }
        )
    return markdown_table(rows)


def startup(rounds: int) -> str:
    """(e) Seconds that `ldeq predict` takes on a portrait, start to end, by state of the cache."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ldeq_jax", "predict", f"--checkpoint={CHECKPOINT}"]
        command += [f"--output={folder}/out.png", "examples/portrait_1.jpg"]
        cached = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

        def seconds(environment):
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
            return time.perf_counter() - start

        imports = [sys.executable, "-c", "import ldeq_jax"]
        start = time.perf_counter()
        subprocess.run(imports, cwd=ROOT, check=True)
        rows.append({"state": "import ldeq_jax alone", "seconds": time.perf_counter() - start})
        rows.append({"state": "no compilation cache", "seconds": seconds(dict(os.environ))})
        rows.append({"state": "first run, filling the cache", "seconds": seconds(cached)})
        again = [seconds(cached) for _ in range(rounds)]
        rows.append({"state": "later runs", "seconds": float(np.median(again))})
    return markdown_table(rows)


def random_variables(model: ModelConfig):
    """Random weights, without training."""
    optimizer, settings = OptimizerConfig(), TrainConfig()
    mesh = make_mesh(1, jax.devices()[:1])
    return jax.device_get(create_state(model, optimizer, settings, mesh).variables())


def compare(
    ways: dict[str, Callable], arguments: tuple, number: float, rounds: int, about: dict, unit: str
) -> list[dict]:
    """Times the ways in turn: rows with the speed of each and its ratio to the first."""
    for way in ways.values():
        way(*arguments)  # compiles, and warms caches
    seconds = np.array([[timed(way, arguments) for way in ways.values()] for _ in range(rounds)])
    return [
        about
        | {
            "way": name,
            unit: float(number / np.median(column)),
            "ratio": f"{np.median(seconds[:, 0] / column):.2f}",
        }
        for name, column in zip(ways, seconds.T, strict=True)
    ]


def timed(way: Callable, arguments: tuple) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    way(*arguments)
    return time.perf_counter() - start


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["video", "train", "input", "iterations", "startup"]
    parser.add_argument("--tables", default=",".join(names), help="tables to print")
    parser.add_argument("--data_dir", default="", help="folder of the data sets")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each (default: 7)")
    options = parser.parse_args()
    use_all_cores()
    torch.set_num_threads(os.cpu_count())
    tables = {
        "video": lambda: video(options.rounds),
        "train": lambda: train(options.rounds),
        "input": lambda: input_pipeline(options.rounds, options.data_dir),
        "iterations": lambda: iterations(options.data_dir),
        "startup": lambda: startup(options.rounds),
    }
    for name in options.tables.split(","):
        print(f"## {name}\n\n{tables[name]()}", flush=True)


if __name__ == "__main__":
    main()
