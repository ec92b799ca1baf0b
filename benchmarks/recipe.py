r"""What each part of the recipe of `faces-68` brings on stills: trains variants and measures them.

    python -m benchmarks.recipe --data_dir=DATA --start=runs/small --output=OUT

Each variant goes on from --start, a model of the config `ibug_300w_small`, for --steps steps, with
the fields of BASE and of VARIANTS. `ldeq train` trains it in OUT/NAME-SEED, so an interrupted
command continues when it is given again; --lanes trainings run side by side, each on its own cores
where the system can divide them. DATA holds ibug_300w, wflw and, from `benchmarks.turned_stills`
and `benchmarks.align_labels`,

  faces/rotated  300-W's faces, heads turned by up to 45 degrees
  faces/turned   frames of YouTube Faces, labels by a network, without their offsets
  faces/wild     the 240 faces of the list "train" of WFLW, labels without their offsets

OUT/table.md has the NME in percent of the distance of the outer eye corners, means over seeds with
half their range: 300-W's validation faces and every second of its common test set; the 110 faces of
the list "test" of WFLW, also without each landmark's constant offset and its turned ones; each with
exact boxes and with boxes 5 % off. OUT/results.jsonl has a line per run.
"""

import argparse
import concurrent.futures
import itertools
import json
import os
import queue
import subprocess
import sys
import time
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import numpy as np

from benchmarks import peers
from benchmarks.ablation import training_parser
from ldeq_jax.report.records import to_json

BASE = (
    "data.batch_size=16",
    "data.crop=landmarks",
    "optimizer.learning_rate=5e-4",
    "optimizer.warmup_steps=20",
    "optimizer.ema_decay=.98",
    "train.eval_every=100000",
    "train.checkpoint_every=50",
    "train.keep=1",
)
EXACT_BOXES = ("augment.translate=0", "augment.scale=0")
# Those of faces_68_base.
HARDER = (
    "augment.translate=.09",
    "augment.scale=.2",
    "augment.rotate=40",
    "augment.blur=.02",
    "augment.occlude=.5",
    "augment.occlude_probability=.4",
    "augment.brightness_probability=.4",
    "augment.contrast=.4",
    "augment.contrast_probability=.4",
    "augment.color_probability=.4",
    "augment.grayscale_probability=.1",
    "augment.jpeg_quality=15",
    "augment.jpeg_probability=.3",
)
EVERYTHING = (*HARDER, "data.also=faces/rotated:train:.1,faces/turned:train:.1,faces/wild:train:.2")
TAUGHT = ("train.teacher=faces-68",)
VARIANTS: dict[str, tuple[str, ...]] = {
    "300-W alone": (),
    "everything": EVERYTHING,
    "everything and taught": (*EVERYTHING, *TAUGHT),
    "WFLW's faces": ("data.also=faces/wild:train:.25",),
    "turned stills": ("data.also=faces/rotated:train:.25",),
    "YouTube Faces": ("data.also=faces/turned:train:.25",),
    "harder augmentation": HARDER,
    "exact boxes": EXACT_BOXES,
    "taught": TAUGHT,
    "twice the steps": ("steps*2",),
    "everything in twice the steps": (*EVERYTHING, "steps*2"),
}
SETS = {
    "validation": "ibug_300w:train[95%:]",
    "test": "ibug_300w:test_common",
    "WFLW": "wflw/official:test",
}
WITHOUT, TURNED = "nme without offsets", "pose"


def main() -> None:
    """Trains and measures."""
    options = _parser().parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    runs = list(itertools.product(options.seeds, options.variants))
    train_all([(name, seed) for seed, name in runs], options)

    results = options.output / "results.jsonl"
    lines = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    done = {(line["variant"], line["seed"]) for line in lines}
    faces = {label: peers.read_faces(given, str(options.data_dir)) for label, given in SETS.items()}
    faces["test"] = faces["test"][::2]
    known = peers.read_faces("wflw/official:train", str(options.data_dir))[::3]
    for variant, seed in [("before", -1), *((name, seed) for seed, name in runs)]:
        folder = options.start if seed < 0 else folder_of(options.output, variant, seed)
        if (variant, seed) in done or not (seed < 0 or is_complete(folder)):
            continue
        model, _ = peers.load(str(folder))
        line = {"variant": variant, "seed": seed, **measure(model, faces, known)}
        with results.open("a") as file:
            file.write(to_json(line) + "\n")
        lines.append(line)
        print(to_json(line), flush=True)
    text = table(lines)
    (options.output / "table.md").write_text(text)
    print(text)


def folder_of(output: Path, variant: str, seed: int) -> Path:
    """Where a run is trained."""
    return output / f"{variant.replace(',', '').replace(' ', '_')}-{seed}"


def is_complete(folder: Path) -> bool:
    """Whether a run has come to its end: it draws its curves last."""
    return (folder / "curves.png").exists()


def train_all(runs: list[tuple[str, int]], options: argparse.Namespace) -> None:
    """Trains the runs that are not complete, several at a time, until the time is up."""
    end = time.monotonic() + options.train_seconds
    free: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for cores in shares_of_cores(options.lanes):
        free.put(cores)

    def train(run: tuple[str, int]) -> None:
        folder, left = folder_of(options.output, *run), end - time.monotonic()
        if is_complete(folder) or left <= 0:
            return
        cores, start = free.get(), time.monotonic()
        with folder.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(command(*run, options), stdout=log, stderr=log)
            if cores:
                os.sched_setaffinity(process.pid, cores)
            try:
                code = str(process.wait(timeout=end - start if np.isfinite(end) else None))
            except subprocess.TimeoutExpired:
                process.terminate()
                code = f"time is up, {process.wait()}"
        free.put(cores)
        print(f"{folder.name}: {code}, {time.monotonic() - start:.0f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.lanes) as pool:
        list(pool.map(train, runs))


def shares_of_cores(lanes: int) -> list[set[int]]:
    """The cores of each lane; empty where the system cannot divide them, or there are too few."""
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(lanes)]
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[lane::lanes]) for lane in range(lanes)]


def command(variant: str, seed: int, options: argparse.Namespace) -> list[str]:
    """That which trains a run."""
    fields = [*BASE, *VARIANTS[variant]]
    steps = options.steps * (2 if "steps*2" in fields else 1)
    fields = [field for field in fields if field != "steps*2"]
    fields += [
        f"data.data_dir={options.data_dir}",
        f"data.seed={seed}",
        f"train.start_from={options.start}",
        f"train.num_steps={steps}",
    ]
    train = [sys.executable, "-m", "ldeq_jax", "train", "--config=ibug_300w_small"]
    train.append(f"--workdir={folder_of(options.output, variant, seed)}")
    return [*train, *(f"--config.{field}" for field in fields)]


def measure(model: peers.Model, faces: dict[str, list], known: list) -> dict[str, list[float]]:
    """Errors in percent, with exact boxes and with those that are off."""
    offsets, found = peers.offsets_of(model, known), {}
    for label, chosen in faces.items():
        kinds = peers.boxes_of(chosen, None).values()
        errors = [peers.measure(model, chosen, boxes, offsets) for boxes in kinds]
        found[label] = [error["nme"] for error in errors]
        if label == "WFLW":
            found["WFLW, without offsets"] = [error[WITHOUT] for error in errors]
            found["WFLW, turned"] = [error[TURNED] for error in errors]
    return found


def table(lines: list[dict]) -> str:
    """A row per variant: means over its seeds, with half the range where there are several."""
    columns = [key for key in lines[0] if key not in ("variant", "seed")]
    head = ["variant", "runs"] + [f"{c}, {b}" for c in columns for b in ("exact boxes", "5 % off")]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for variant in dict.fromkeys(line["variant"] for line in lines):
        of = [line for line in lines if line["variant"] == variant]
        values = np.array([[value for c in columns for value in line[c]] for line in of])
        half = np.ptp(values, axis=0) / 2
        cells = [
            f"{mean:.2f}" + (f" ± {spread:.2f}" if len(of) > 1 else "")
            for mean, spread in zip(values.mean(axis=0), half, strict=True)
        ]
        rows.append([variant, str(len(of)), *cells])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _parser() -> argparse.ArgumentParser:
    parser = training_parser(__doc__, VARIANTS, 300)
    parser.add_argument(
        "--start", type=Path, required=True, help="the model that all variants go on from"
    )
    return parser


if __name__ == "__main__":
    main()
