r"""What each part of training on clips is worth: trains variants and measures them on video.

    python -m benchmarks.ablation --data_dir=DATA --output=OUT --seeds=0,1,2 \
        --stills=ibug_300w,test_common \
        --video='moving_faces/hard,test_common[:40%],test_common[40%:],extent' \
        --video='wflw_v/fgnet_68,easy[:50%]+hard[:50%],easy[50%:]+hard[50%:],landmarks,POINTS.json'

Each variant is the config `ibug_300w_moving` with the fields of BASE and of VARIANTS, trained
by `ldeq train` in OUT/NAME-SEED, so an interrupted ablation continues when the command is given
again. Seeds are those of the data's order and augmentation, so runs of one variant share a program.
--lanes trainings run side by side. Each video set is NAME,TUNING,REPORTED,CROP and, for labels of
another schema, a file of points; the constant offset of each landmark is then removed. Settings of
recurrence and of filters are chosen on the tuning videos: the least flicker at an NME at most .5 %
above that of the frames alone. OUT/results.jsonl gets a line per run; OUT/table.md has NME (%), NMF
and amplitude of mouth opening against the labels, means over seeds with their range.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ldeq_jax.cli.options import budgets, names, natural, numbers, path
from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from absl import logging

from ldeq_jax.config import Config
from ldeq_jax.data.faces import eval_batches
from ldeq_jax.evaluation.measured import mean_of_known
from ldeq_jax.evaluation.settings import ALONE, recurrence_grid
from ldeq_jax.evaluation.videos import VideoEvaluator, VideoOptions
from ldeq_jax.face import metrics
from ldeq_jax.face.schema import get_schema
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.report.records import to_json
from ldeq_jax.weights import load_model

BASE = (
    "clip.num_frames=4",
    "clip.pan=.06",
    "clip.turn=3",
    "clip.zoom=.03",
    "clip.bend=.02",
    "clip.bend_probability=.5",
    "clip.bad_probability=0",
    "train.carry=1",
    "train.flicker_weight=2",
    "optimizer.learning_rate=5e-4",
    "optimizer.warmup_steps=200",
)
ALONE_IN_TRAINING = "train.carry=0"
LOG = ("train.flicker_loss=log", "train.flicker_weight=.01")
HALF_LOG = ("train.carry=.5", *LOG)
BENT = ("clip.bend=.04", "clip.bend_probability=.8")
TAKES = ("clip.takes=moving_faces/takes",)
LONG = ("train.num_steps=4000", "optimizer.learning_rate=1e-3")
VARIANTS: dict[str, tuple[str, ...]] = {
    "carry": (),
    "stills": ("clip.num_frames=0", "train.flicker_weight=0"),
    "noise": (ALONE_IN_TRAINING, "train.flicker_weight=0"),
    "alone_priced": (ALONE_IN_TRAINING,),
    "carry_log": LOG,
    "half_log": HALF_LOG,
    "half": ("train.carry=.5",),
    "carry_free": ("train.flicker_weight=0",),
    "alone_log": (ALONE_IN_TRAINING, *LOG),
    "price_1": ("train.flicker_weight=1",),
    "price_4": ("train.flicker_weight=4",),
    "rigid": ("clip.bend=0",),
    "stopped": ("train.carry_gradient=false",),
    "frames_8": ("clip.num_frames=8",),
    "frames_2": ("clip.num_frames=2",),
    "arithmetic": ("rwr.fusion=arithmetic",),
    "long_half_log": (*HALF_LOG, *LONG),
    "long_carry_log": (*LOG, *LONG),
    "long_bent": (*HALF_LOG, *BENT, *LONG),
    "bent": BENT,
    "carry_log_takes": (*LOG, *TAKES),
    "carry_free_takes": ("train.flicker_weight=0", *TAKES),
    "noise_takes": (ALONE_IN_TRAINING, "train.flicker_weight=0", *TAKES),
}


class VideoSet(NamedTuple):
    """Labelled videos: on some, settings are chosen; on others, they are measured."""

    name: str
    tuning: str
    reported: str
    crop: str
    points: str = ""


def main() -> None:
    """Trains and measures."""
    options = _parser().parse_args()
    logging.set_verbosity(logging.ERROR)
    options.output.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for name, seed in ordered(options.variants, options.seeds)]
    if not options.measure_only:
        train_all(runs, options)
    if options.train_only:
        return
    path = options.output / f"results{options.part}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(line["variant"], line["seed"]) for line in lines}
    part, parts = map(int, options.part.split("_")) if options.part else (0, 1)
    for variant, seed in [("faces-68", -1), *runs][part::parts]:
        folder = options.output / f"{variant}-{seed}"
        if (variant, seed) in done or not (seed < 0 or is_complete(folder)):
            continue
        config, variables, _ = load_model("faces-68" if seed < 0 else folder)
        line = {"variant": variant, "seed": seed} | measure(config, variables, options)
        with path.open("a") as file:
            file.write(to_json(line) + "\n")
        lines.append(line)
        print(to_json(line), flush=True)
    text = table(lines)
    (options.output / "table.md").write_text(text)
    print(text)


def ordered(variants: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Runs, all variants of one seed before the next seed."""
    return [(name, seed) for seed in seeds for name in variants]


def is_complete(folder: Path) -> bool:
    """Whether a run has come to its end: it draws its curves last."""
    return (folder / "curves.png").exists()


def train_all(runs: list[tuple[str, int]], options: argparse.Namespace) -> None:
    """Trains the runs that are not complete, several at a time, until the time is up."""
    end = time.monotonic() + options.train_seconds

    def train(run: tuple[str, int]) -> None:
        name, seed = run
        fields = dict(text.split("=", 1) for text in (*BASE, *VARIANTS[name]))
        rows = options.crops // max(int(fields["clip.num_frames"]), 1)
        folder = options.output / f"{name}-{seed}"
        left = end - time.monotonic()
        if is_complete(folder) or left <= 0:
            return
        values = (
            f"data.data_dir={options.data_dir}",
            f"data.num_workers={options.workers}",
            f"train.num_steps={options.steps}",
            f"data.seed={seed}",
            f"data.batch_size={rows}",
            *BASE,
            *VARIANTS[name],
            *options.set,
        )
        command = [sys.executable, "-m", "ldeq_jax.cli.main", "train", "--config=ibug_300w_moving"]
        command += [f"--workdir={folder}", *(f"--config.{value}" for value in values)]
        start = time.monotonic()
        with (options.output / f"{name}-{seed}.log").open("w") as log:
            try:
                code = subprocess.run(
                    command, stdout=log, stderr=log, timeout=left, env=os.environ, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = "time is up"
        print(f"{name}-{seed}: {code}, {time.monotonic() - start:.0f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(options.lanes) as pool:
        list(pool.map(train, runs))


def measure(config: Config, variables: dict[str, Any], options: argparse.Namespace) -> dict:
    """Errors on stills and on every set of videos, in percent, and NMF."""
    result: dict[str, Any] = {}
    if options.stills:
        name, split = options.stills.split(",")
        data = dataclasses.replace(
            config.data, name=name, data_dir=str(options.data_dir), batch_size=64, num_workers=0
        )
        predictor = Predictor(config.with_values({"data.num_workers": 0}), variables)
        found = predictor.batches(eval_batches(data, split, config.model.image_size))
        corners = get_schema(config.data.schema).eye_corners
        nme = metrics.nme(found["landmarks"], found["target"], corners)
        result["stills"] = 100 * float(np.mean(nme))
    for given in options.video:
        video = VideoSet(*given.split(","))
        result[video.name] = measure_videos(config, variables, video, options)
    return result


def measure_videos(
    config: Config, variables: dict[str, Any], video: VideoSet, options: argparse.Namespace
) -> dict[str, Any]:
    """NME and NMF of frames alone, of the best causal filter and of recurrence on one set."""
    config = config.with_values(
        {
            "data.name": video.name,
            "data.data_dir": str(options.data_dir),
            "data.crop": video.crop,
            "data.eval_split": video.reported,
            "data.batch_size": options.rows,
            "data.num_workers": 0,
        }
    )
    grid = recurrence_grid(
        budgets=options.budgets,
        penalties=options.penalties,
        follows=options.follows,
        aligns=["face"],
        fusions=options.fusions,
        base=config.rwr,
    )
    results = VideoEvaluator(
        config,
        variables,
        VideoOptions(
            recurrences=grid,
            tuning_split=video.tuning,
            points=video.points or None,
            remove_offset=bool(video.points),
            chunk_frames=options.chunk_frames,
        ),
    ).measure()
    choice, scores = results.choice, results.reported.scores
    found = {"alone": ALONE, "filter": choice.best_causal_filter}
    found |= {s.method: s for s in choice.settings if s in grid and grid[s].align == "face"}
    return {
        kind: [
            100 * float(np.mean(scores[setting].nme)),
            float(np.mean(scores[setting].nmf)),
            float(mean_of_known(scores[setting].amplitude[:, 0])),
            f"{setting.method}, {setting.values}",
        ]
        for kind, setting in found.items()
    }


def table(lines: list[dict]) -> str:
    """A row per variant: means over its seeds, with the range where there are several."""
    if not lines:
        return "no run is complete\n"
    sets = [name for name in lines[0] if name not in ("variant", "seed", "stills")]
    kinds = list(lines[0][sets[0]]) if sets else []
    head = [
        "variant",
        "seeds",
        "stills NME",
        *(f"{name}: {kind}" for name in sets for kind in kinds),
    ]
    rows = [head, ["---"] * len(head)]
    for variant in dict.fromkeys(line["variant"] for line in lines):
        of = [line for line in lines if line["variant"] == variant]

        def cell(stored: list[float | None], digits: int) -> str:
            values = [np.nan if value is None else value for value in stored]
            text = f"{np.mean(values):.{digits}f}"
            spread = (max(values) - min(values)) / 2
            return text if len(values) == 1 else f"{text} ± {spread:.{digits}f}"

        row = [variant, str(len(of))]
        row.append(cell([line.get("stills", np.nan) for line in of], 3))
        for name in sets:
            for kind in kinds:
                pairs = [line[name][kind] for line in of]
                row.append(
                    " / ".join(
                        cell([pair[i] for pair in pairs], digits)
                        for i, digits in enumerate((3, 1, 2))
                    )
                )
        rows.append(row)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _seeds(text: str) -> list[int]:
    return [natural(part) for part in names(text)]


def training_parser(
    description: str | None, variants: Iterable[str], steps: int
) -> argparse.ArgumentParser:
    """A parser of the options that benchmarks have which train variants."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data_dir", type=path, required=True, help="folder of the data sets")
    add("--output", type=Path, required=True, help="folder of runs and results")
    add("--variants", type=names, default=list(variants), help="names of VARIANTS (all)")
    add("--seeds", type=_seeds, default=[0], help="one run of each variant per seed (0)")
    add("--steps", type=int, default=steps, help=f"steps of each run ({steps})")
    add("--lanes", type=int, default=1, help="trainings at a time (1)")
    add("--train_seconds", type=float, default=float("inf"), help="no training after that time")
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = training_parser(__doc__, VARIANTS, 1200)
    add = parser.add_argument
    add("--crops", type=int, default=64, help="crops of each step: clips times frames (64)")
    add("--set", action="append", default=[], help="a field for all runs: optimizer.b1=.8")
    add("--workers", type=int, default=2, help="processes that load data for each of them (2)")
    add("--stills", default="", help="data set and split of stills: ibug_300w,test_common")
    add("--video", action="append", default=[], help="NAME,TUNING,REPORTED,CROP[,POINTS]")
    add("--fusions", type=names, default="arithmetic,geometric", help="fusions to measure (both)")
    add("--budgets", type=budgets, default=[0, 1], help="solver steps of a frame (0,1)")
    add("--penalties", type=numbers, default="0.5,1,2,4,8", help="penalties (%(default)s)")
    add("--follows", type=numbers, default="0.8,1", help="gains of the motion (%(default)s)")
    add("--rows", type=int, default=8, help="videos at once (8)")
    add("--chunk_frames", type=int, default=30, help="frames on the device at once (30)")
    add("--train_only", action="store_true", help="measure nothing")
    add("--measure_only", action="store_true", help="train nothing")
    add("--part", default="", help="measure a part of the runs: 0_4 is the first of four")
    return parser


if __name__ == "__main__":
    main()
