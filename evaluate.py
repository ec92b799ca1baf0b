"""Evaluates a model on a split of a data set: NME, FR10 and AUC10, in all and for every subset.

  python evaluate.py --checkpoint=runs/small --output=runs/small/eval
  python evaluate.py --checkpoint=runs/small --dataset=ibug_300w --split=test_helen \\
      --output=helen --budgets=1,2,3,5,10

The data set, its split and the crop are those of the training unless flags say otherwise. Errors
are measured in pixels of the original picture and given in percent of the distance between the
outer eye corners. A subset holds the faces with one attribute of the data set. Faces whose labels
or box have no size are left out, and counted. The output directory gets

  metrics.json  all numbers, and how they came about   faces.csv   one line a face
  table.md      the numbers, also printed              faces.png   best, median and worst faces
  cumulative_error.png  share of faces below each error
  budgets.png   with --budgets: error and residual for each number of solver steps allowed

in place of those of an earlier evaluation. Files of these names that are of something else are not
replaced without --overwrite.

A solver or a budget other than the trained one is tried with --solver, --max_steps and --tol.

On a data set of videos it compares ways to keep landmarks steady: each frame alone, conventional
filters over grids of their parameters, and recurrence (RwR) over a grid of budgets and penalties:

  python evaluate.py --checkpoint=runs/small --dataset=moving_faces/hard --crop=extent \\
      --tuning_split="test_common[:40%]" --split="test_common[40%:]" --output=runs/small/video

For each method the setting of least flicker whose NME is no higher than that of the frames alone
is chosen on the tuning videos, and measured on the others, also by attribute. A video counts where
the frames alone can be measured; frames whose labels have no size are left out. The output
directory gets table.md, metrics.json, settings.csv (every setting on both splits), videos.csv (each
video), trade_off.png (error against flicker), flicker/ (over time, of --show) and, with --overlays,
overlays/ (videos with landmarks, side by side). docs/video.md tells more.

On several hosts start the same command on each, like train.py's, see docs/pods.md: they divide the
faces or videos, and the first of them writes the results.
"""

import csv
import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
from absl import app, flags, logging
from tqdm import tqdm

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax import hosts, mesh, weights
from ldeq_jax.cli.flags import define_path
from ldeq_jax.config import Config
from ldeq_jax.data import faces as data
from ldeq_jax.data import sources
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.deq import solver
from ldeq_jax.evaluation import compare as video_comparison
from ldeq_jax.evaluation import videos as video_evaluation
from ldeq_jax.face import geometry, metrics
from ldeq_jax.face.crops import Crop
from ldeq_jax.face.schema import KNOWN_SCHEMAS, LandmarkSchema, differences, get_schema
from ldeq_jax.hosts import print_once
from ldeq_jax.inference import pictures as inference
from ldeq_jax.media import files
from ldeq_jax.model import rwr
from ldeq_jax.report import plots as report
from ldeq_jax.report import records
from ldeq_jax.report.tables import markdown_table

_CHECKPOINT = define_path(
    "checkpoint",
    None,
    "A training run's --workdir, whose best model is taken, or a released model.",
)
_OUTPUT = define_path("output", None, "Directory of the results, created when missing.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace files of the names above in --output even if they are not of an earlier evaluation.",
)
_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Data set as built, e.g. ibug_300w or wflw/precropped. The model's own if unset.",
)
_SPLIT = flags.DEFINE_string(
    "split",
    None,
    'Split or part of one, e.g. test, "test[:100]", "a+b". The model\'s own if unset.',
)
_DATA_DIR = define_path(
    "data_dir", None, "Folder of the data sets; if unset, $TFDS_DATA_DIR or ~/tensorflow_datasets."
)
_CROP = flags.DEFINE_enum(
    "crop",
    None,
    list(get_args(Crop)),
    "Crop around the face box, the landmarks, or the box taken as the extent of the landmarks, "
    "or not at all. As trained if unset.",
)
_CROP_SCALE = flags.DEFINE_float(
    "crop_scale",
    None,
    "Side of the crop in units of the box or landmark extent. As trained if unset.",
)
_SOLVER = flags.DEFINE_enum(
    "solver", None, list(get_args(solver.MethodName)), "Forward solver. As trained if unset."
)
_MAX_STEPS = flags.DEFINE_integer(
    "max_steps", None, "Most solver steps for a face. As trained if unset.", lower_bound=1
)
_TOL = flags.DEFINE_float(
    "tol",
    None,
    "A face's solver stops below this residual; 0 takes every step. As trained if unset.",
    lower_bound=0,
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16"],
    "Precision of the convolutions; weights, norms, solver and readout are in float32 either way. "
    "As trained if unset.",
)
_BUDGETS = flags.DEFINE_list(
    "budgets",
    [],
    "Numbers of solver steps, e.g. 1,2,3,5,10, to evaluate and plot besides. Videos: of RwR in a "
    "frame that follows another, to try; 0 (one evaluation) and 1 if unset.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    32,
    "Faces or videos at once: a matter of speed and memory, not of results.",
    lower_bound=1,
)
_TUNING_SPLIT = flags.DEFINE_string(
    "tuning_split", None, "Videos: those that settings are chosen on, other ones than --split."
)
_PENALTIES = flags.DEFINE_list(
    "penalties", ["0.25", "0.5", "1", "2", "4", "8"], "Videos: temporal penalties of RwR to try."
)
_FOLLOWS = flags.DEFINE_list(
    "follows", ["0.5", "0.65", "0.8", "1"], "Videos: shares of the face's motion to believe."
)
_ALIGNS = flags.DEFINE_list(
    "aligns", ["none", "crop", "face"], "Videos: how RwR moves the state of the last frame."
)
_WEIGHTING = flags.DEFINE_enum(
    "weighting",
    None,
    list(get_args(rwr.Weighting)),
    "Videos: penalty of each landmark. As the model's config says if unset.",
)
_SLACK = flags.DEFINE_float(
    "slack",
    0,
    "Videos: percent by which a chosen setting's NME may exceed the frames' alone.",
    lower_bound=0,
)
_POINTS = define_path(
    "points",
    None,
    "Videos: JSON file with the labelled landmark that each predicted one is compared with, as "
    '{"36": 27, ...}, for labels of another schema. Only these count.',
)
_REMOVE_OFFSET = flags.DEFINE_bool(
    "remove_offset", False, "Videos: take the mean offset of each landmark from its label away."
)
_SHOW = flags.DEFINE_list(
    "show", [], "Videos: names of those to plot and draw; the first if unset."
)
_OVERLAYS = flags.DEFINE_bool("overlays", False, "Videos: draw the shown ones with landmarks.")
_CHUNK_FRAMES = flags.DEFINE_integer(
    "chunk_frames", 32, "Videos: frames on the device at once.", lower_bound=1
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", None, "Processes that load data. As trained if unset.", lower_bound=0
)
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several hosts, as in train.py.")
_HOST_TIMEOUT = flags.DEFINE_integer(
    "host_timeout", 60, "Seconds without a sign of life after which a host counts as lost."
)
_OF_FACES = (
    "metrics.json",
    "table.md",
    "faces.csv",
    "cumulative_error.png",
    "faces.png",
    "budgets.png",
)
_OF_VIDEOS = (
    "metrics.json",
    "table.md",
    "settings.csv",
    "videos.csv",
    "trade_off.png",
    "flicker",
    "overlays",
)


@hosts.exit_on_sigterm()
@hosts.exit_soon_on_error()
def main(argv: list[str]) -> None:
    """Evaluates; what the user can mend is told in a line."""
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file it reads
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    if wrong := [budget for budget in _BUDGETS.value if not budget.isdecimal()]:
        raise app.UsageError(f"--budgets needs whole numbers such as 1,2,3,5,10, not {wrong[0]!r}")
    budgets = sorted({int(budget) for budget in _BUDGETS.value})
    penalties, follows = numbers(_PENALTIES), numbers(_FOLLOWS)
    try:
        if not hosts.join(_DISTRIBUTED.value, _HOST_TIMEOUT.value, preemptible=False):
            mesh.use_all_cores()
        config, variables, step = weights.load_model(_CHECKPOINT.value)
        config = with_flags(config)
        written = sorted({*_OF_FACES, *_OF_VIDEOS})
        about = {"checkpoint": _CHECKPOINT.value, "step": step, files.RECORD: written}
        output = Path(_OUTPUT.value)
        kind = sources.kind_of(config.data.name, config.data.data_dir)
        results = _OF_VIDEOS if kind == "videos" else _OF_FACES
        files.check_outputs([output / name for name in results], _OVERWRITE.value)
        if kind == "videos":
            grid = video_evaluation.recurrence_grid(
                budgets=budgets or [0, 1],
                penalties=penalties,
                follows=follows,
                aligns=_ALIGNS.value,
                base=config.rwr,
            )
            evaluate_videos(config, variables, grid, about, output)
            return
        source = sources.FaceSource(config.data.name, config.data.eval_split, config.data.data_dir)
        check_schema(config, source)
        evaluate(config, variables, source, budgets, about, output)
    except (OSError, ValueError) as error:
        sys.exit(f"evaluate.py: {error}")


def numbers(flag: flags.FlagHolder) -> list[float]:
    """The numbers that a flag lists."""
    try:
        return [float(text) for text in flag.value]
    except ValueError as error:
        usual = ",".join(flag.default)
        raise app.UsageError(f"--{flag.name} needs numbers such as {usual}: {error}") from error


def with_flags(config: Config) -> Config:
    """The config of the model with what the flags change."""
    # The batch is a multiple of the devices, so that none of them runs on filled-up rows.
    batch_size = -(-_BATCH_SIZE.value // jax.device_count()) * jax.device_count()
    forward = changed(
        config.model.forward, method=_SOLVER.value, max_steps=_MAX_STEPS.value, tol=_TOL.value
    )
    faces = changed(
        config.data,
        name=_DATASET.value,
        data_dir=_DATA_DIR.value,
        eval_split=_SPLIT.value,
        crop=_CROP.value,
        crop_scale=_CROP_SCALE.value,
        batch_size=batch_size,
        num_workers=_NUM_WORKERS.value,
    )
    model = changed(config.model, forward=forward, dtype=_DTYPE.value)
    recurrence = changed(config.rwr, weighting=_WEIGHTING.value)
    return changed(config, model=model, data=faces, rwr=recurrence)


def changed(fields, **values):
    """A dataclass with the values that are not None."""
    return dataclasses.replace(fields, **{k: v for k, v in values.items() if v is not None})


def check_schema(config: Config, source: sources.ExampleSource) -> None:
    """Refuses labels whose landmarks mean something else than the model's."""
    ours, theirs = get_schema(config.data.schema), source.schema
    if theirs in [schema.name for schema in KNOWN_SCHEMAS]:
        theirs = get_schema(theirs)
    if isinstance(theirs, LandmarkSchema):
        name, apart = theirs.name, differences(ours, theirs)
    else:  # the data set names it, and nothing describes it
        numbers = ours.num_landmarks, source.num_landmarks
        name, apart = theirs, ["{} against {} landmarks".format(*numbers)] * (len({*numbers}) > 1)
    if ours.name != name or apart:
        raise ValueError(
            f"{_CHECKPOINT.value} predicts the landmarks {ours.name} "
            f"({ours.num_landmarks} points), but {source.where} is labelled with {name}"
            f"{' of another meaning: ' * bool(apart)}{', '.join(apart)}; choose a --dataset "
            "labelled like the model's, or another --checkpoint"
        )


def evaluate_videos(
    config: Config,
    variables: dict[str, Any],
    grid: dict[str, dict[str, rwr.RwRConfig]],
    about: dict[str, Any],
    output: Path,
) -> None:
    """Compares methods on videos, as the flags say.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        grid: settings of recurrence to try.
        about: checkpoint and step, for the record.
        output: directory of the results.
    """
    tuning_split, most = _TUNING_SPLIT.value, config.model.forward.max_steps
    if tuning_split is None:
        raise ValueError(
            "videos need --tuning_split, on which the settings of every method are chosen, such as "
            '--tuning_split="easy[:30%]" --split="easy[30%:]"'
        )
    if any(setting.budget > most for family in grid.values() for setting in family.values()):
        raise ValueError(f"--budgets cannot exceed the solver's {most} steps: raise --max_steps")
    source = VideoSource(config.data.name, tuning_split, config.data.data_dir)
    schema = get_schema(config.data.schema)
    if _POINTS.value is None:
        check_schema(config, source)
        labels = video_evaluation.Labels(schema=schema)
    else:
        labelled = get_schema(source.schema)
        points = read_points(_POINTS.value, schema, labelled)
        labels = video_evaluation.Labels(schema=labelled, points=points)
    comparison = video_evaluation.Comparison(
        recurrences=grid,
        remove_offset=_REMOVE_OFFSET.value,
        slack=_SLACK.value / 100,
        shown=_SHOW.value,
        overlays=_OVERLAYS.value,
        chunk_frames=_CHUNK_FRAMES.value,
    )
    about |= {
        "dataset": config.data.name,
        "schema": labels.schema.name,
        "crop": {"rule": config.data.crop, "scale": config.data.crop_scale},
        "solver": dataclasses.asdict(config.model.forward),
        "dtype": config.model.dtype,
        "command": shlex.join(["python", *sys.argv]),
    }
    print_once(
        f"{config.data.name}, tuning on {tuning_split}, reporting {config.data.eval_split}; crop "
        f"{config.data.crop} x {config.data.crop_scale}, model of step {about['step']}, on "
        f"{jax.device_count()} {jax.default_backend()} device(s)"
    )
    video_comparison.evaluate(
        config, variables, schema, labels, tuning_split, comparison, about, output
    )


def read_points(path: str, ours: LandmarkSchema, theirs: LandmarkSchema) -> dict[int, int]:
    """Index of a predicted landmark to that of the labelled one, from a JSON file.

    Raises:
        ValueError: the file holds something else, or an index that there is not.
    """
    try:
        entries = dict(json.loads(files.read_text(path)))
        points = {int(key): value for key, value in entries.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path} must hold JSON such as {{"36": 27}}: {error}') from error
    for schema, indices in ((ours, list(points)), (theirs, list(points.values()))):
        known = range(schema.num_landmarks)
        if wrong := [index for index in indices if type(index) is not int or index not in known]:
            raise ValueError(f"{path}: {schema.name} has landmarks 0 to {known[-1]}, no {wrong[0]}")
    if not points or len(set(points.values())) < len(entries):
        raise ValueError(f"{path} must name one labelled landmark or more, each for one predicted")
    return points


def evaluate(
    config: Config,
    variables: dict[str, Any],
    source: sources.FaceSource,
    budgets: Sequence[int],
    about: dict[str, Any],
    output: Path,
) -> None:
    """Runs the model on all hosts; on the first, prints the table and writes the results.

    Args:
        config: the model's, with data and solver as wanted.
        variables: of the model.
        source: the faces of `config.data.eval_split`.
        budgets: solver budgets to compare, in ascending order.
        about: checkpoint and step, for the record.
        output: directory of the results.
    """
    forward, schema = config.model.forward, get_schema(config.data.schema)
    print_once(
        f"{len(source)} faces of {source.where}, crop {config.data.crop} x "
        f"{config.data.crop_scale}, model of step {about['step']}, {forward.method} for at most "
        f"{forward.max_steps} steps or to {forward.tol:g}, on {jax.device_count()} "
        f"{jax.default_backend()} device(s)"
    )
    if hosts.is_first():
        output.mkdir(parents=True, exist_ok=True)
        for sometimes in ("budgets.png", "faces.png"):
            (output / sometimes).unlink(missing_ok=True)  # an earlier evaluation's
    labels = [source.annotation(index) for index in range(len(source))]
    # Compiled for the longest budget, as shorter ones need no compilation of their own.
    longest = max([forward.max_steps, *budgets])
    predictor = inference.Predictor(config, variables, max_steps=longest)
    result = run(predictor, labels, schema, forward.max_steps, progress=True)
    subsets = subsets_of([labels[index] for index in result["index"]], source.attribute_names)
    numbers = {name: summary(result, members) for name, members in subsets.items()}
    tables = [subset_table(numbers)]
    by_budget = {}
    for budget in tqdm(budgets, unit="budget", disable=not (budgets and hosts.is_first())):
        known = budget == forward.max_steps
        this = result if known else run(predictor, labels, schema, budget, progress=False)
        by_budget[budget] = {name: summary(this, members) for name, members in subsets.items()}
    if not hosts.is_first():
        return
    left_out = [labels[i]["name"] for i in np.setdiff1d(np.arange(len(labels)), result["index"])]
    if budgets:
        tables.append(budget_table(by_budget))

    record = {
        **about,
        "dataset": config.data.name,
        "split": config.data.eval_split,
        "schema": schema.name,
        "num_faces": len(result["index"]),
        "left_out": left_out,
        "crop": {"rule": config.data.crop, "scale": config.data.crop_scale},
        "solver": dataclasses.asdict(forward),
        "dtype": config.model.dtype,
        "subsets": numbers,
        "budgets": by_budget,
        "command": shlex.join(["python", *sys.argv]),
    }
    (output / "metrics.json").write_text(records.to_json(record, indent=1) + "\n")
    (output / "table.md").write_text("\n".join(tables))
    if budgets:
        plots = [
            {name: [row[name][key] for row in by_budget.values()] for name in subsets}
            for key in ("nme", "residual")
        ]
        report.budget_plot(budgets, *plots, output / "budgets.png")
    write_faces(output / "faces.csv", labels, source.attribute_names, result)
    curves = {name: result["nme"][members] for name, members in subsets.items()}
    report.cumulative_error_plot(curves, output / "cumulative_error.png")
    if np.isfinite(result["nme"]).any():
        crops = Crops(source, result, config.model.image_size)
        points = [Crops.SIZE * result[key] for key in ("landmarks", "target")]
        report.face_gallery(crops, *points, result["nme"], schema, output / "faces.png")
    print("\n" + "\n".join(tables))
    if left_out:
        some = ", ".join(left_out[:5]) + ", ..." * (len(left_out) > 5)
        print(f"{len(left_out)} faces left out whose labels or box have no size: {some}")
    if lost := int(np.sum(~np.isfinite(result["nme"]))):
        print(f"{lost} faces got no finite landmarks: failures in FR10 and AUC10, no mean NME")
    print(f"wrote {output}/: {', '.join(sorted(path.name for path in output.iterdir()))}")


def subsets_of(labels: Sequence[dict], attribute_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Masks (N,) of all faces and of those with each attribute that some but not all have."""
    flags_of_faces = np.array([label["attributes"] for label in labels], bool)
    members = dict(zip(attribute_names, flags_of_faces.T, strict=True))
    parts = {name: mask for name, mask in members.items() if mask.any() and not mask.all()}
    return {"all": np.ones(len(labels), bool)} | parts


def run(
    predictor: inference.Predictor,
    labels: Sequence[dict],
    schema: LandmarkSchema,
    budget: int,
    progress: bool,
) -> dict[str, np.ndarray]:
    """Result of `Predictor.batches` over the evaluation split, with nme (N,) as fractions.

    Faces without a size are not among the N.
    """
    config = predictor.config
    size = config.model.image_size
    shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    batches = data.eval_batches(config.data, config.data.eval_split, size, **shard)
    progress = progress and hosts.is_first()
    total = math.ceil(len(labels) / config.data.batch_size) if progress else None
    result = predictor.batches(batches, total, budget)
    # In pixels of the picture, where the labels were made, whatever the crop does to them.
    predicted = geometry.transform_points(result["frame_from_crop"], size * result["landmarks"])
    target = np.array([labels[index]["landmarks"] for index in result["index"]])
    return result | {"nme": metrics.nme(predicted, target, schema.eye_corners)}


def summary(result: dict[str, np.ndarray], members: np.ndarray) -> dict[str, float]:
    """Numbers over the faces of a subset; all but num_steps, residual and auc10 in percent."""
    nme = result["nme"][members]
    means = {key: float(np.mean(result[key][members])) for key in ("num_steps", "residual")}
    shares = {key: 100 * float(np.mean(result[key][members])) for key in ("converged", "diverged")}
    return {
        "faces": len(nme),
        "nme": 100 * float(np.mean(nme)),
        "fr10": 100 * metrics.failure_rate(nme),
        "auc10": metrics.auc(nme),
        **means,
        **shares,
    }


def subset_table(numbers: dict[str, dict[str, float]]) -> str:
    """Markdown table with a row for each subset."""
    rows = [
        {"faces of": name, "number": row["faces"], **cells(row)} for name, row in numbers.items()
    ]
    return markdown_table(rows, digits=3)


def budget_table(by_budget: dict[int, dict[str, dict[str, float]]]) -> str:
    """Markdown table with a row for each budget, over all faces."""
    rows = [{"steps allowed": budget, **cells(row["all"])} for budget, row in by_budget.items()]
    return markdown_table(rows, digits=3)


def cells(row: dict[str, float]) -> dict[str, Any]:
    """Columns that all tables share."""
    return {
        "NME (%)": row["nme"],
        "FR10 (%)": row["fr10"],
        "AUC10": row["auc10"],
        "steps": row["num_steps"],
        "residual": f"{row['residual']:.1e}",
        "converged (%)": f"{row['converged']:.1f}",
    }


def write_faces(path: Path, labels: Sequence[dict], attribute_names, result) -> None:
    """Writes a line for each face; its error in percent, what is true or false as 1 or 0."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = ["index", "name", *attribute_names, "nme", "num_steps", "residual"]
        writer.writerow([*head, "converged", "diverged"])
        for row, index in enumerate(result["index"]):
            writer.writerow(
                [
                    index,
                    labels[index]["name"],
                    *np.asarray(labels[index]["attributes"], int),
                    f"{100 * result['nme'][row]:.4f}",
                    result["num_steps"][row],
                    f"{result['residual'][row]:.3e}",
                    int(result["converged"][row]),
                    int(result["diverged"][row]),
                ]
            )


class Crops:
    """Crops of evaluated faces by row, read when asked for and sharper than the model's."""

    SIZE = 256

    def __init__(self, source: sources.FaceSource, result: dict[str, np.ndarray], image_size: int):
        zoom = np.diag([self.SIZE / image_size, self.SIZE / image_size, 1])
        self._source, self._indices = source, result["index"]
        self._view_from_frame = zoom @ geometry.inverse(result["frame_from_crop"])

    def __getitem__(self, row: int) -> np.ndarray:
        picture = self._source[int(self._indices[row])]["image"]
        return geometry.warp(picture, self._view_from_frame[row], self.SIZE)


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "output"])
    app.run(main)
