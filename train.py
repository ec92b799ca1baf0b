r"""Trains a landmark model.

  python train.py --config=configs/tiny.py --workdir=runs/tiny
  python train.py --config=configs/ibug_300w_small.py --workdir=runs/small \
      --config.data.data_dir=DATA --config.optimizer.learning_rate=1e-3

Build the data set first: python datasets/build.py --help. The configs in configs/ tell what they
cost and reach. The working directory gets

  checkpoints/     the latest training states       metrics.jsonl, tensorboard/  the log
  best/            the weights that validated best  config.json, curves.png

Run the same command again to go on after an interruption: it continues from the last checkpoint as
if nothing had happened. Ctrl-C and SIGTERM save a checkpoint first, and a second one stops at once.
A larger train.num_steps extends a run, also a finished one, where the learning rates up to now do
not depend on the number of steps (optimizer.decay "step" or "none"); else train.start_from begins
a new run with the weights of an old one.

To see what the model will be shown, without training:

  python train.py --config=configs/ibug_300w_small.py --contact_sheet=sheet.png

All devices of a machine are used. On a TPU pod or a cluster, start the same command with
--distributed on every host, with data and --workdir where all of them see them: docs/pods.md.

Exit codes: 0 the run is complete, 143 stopped by SIGTERM (130 by Ctrl-C) and saved, 134 another
host is gone, 1 an error.
"""

import contextlib
import errno
import json
import math
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from ml_collections import config_flags
from tensorboardX import SummaryWriter
from tqdm import tqdm

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import ldeq_jax
from ldeq_jax import hosts, weights
from ldeq_jax.cli.flags import define_path
from ldeq_jax.config import Config, check_field, from_mapping, to_mapping
from ldeq_jax.data import faces as data
from ldeq_jax.data import sources
from ldeq_jax.face import metrics
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.hosts import print_once
from ldeq_jax.inference import pictures as inference
from ldeq_jax.media import files
from ldeq_jax.mesh import make_mesh, to_devices, use_all_cores
from ldeq_jax.report import draw, records
from ldeq_jax.report import plots as report
from ldeq_jax.training import checkpoints
from ldeq_jax.training import step as training
from ldeq_jax.training.state import TrainState, create_state, with_weights

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, e.g. configs/tiny.py. Its fields are set by --config.SECTION.FIELD=VALUE; the "
    "sections are model, data, augment, optimizer and train, see ldeq_jax/config.py.",
)
_WORKDIR = define_path("workdir", None, "Directory of the run, created when missing.")
_CONTACT_SHEET = define_path(
    "contact_sheet", None, "Draw the first augmented training faces to this PNG and stop."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several hosts of a TPU pod, a Slurm or a Kubernetes job, or of those that the "
    "environment variables in docs/pods.md tell of, which imply it.",
)
_HOST_TIMEOUT = flags.DEFINE_integer(
    "host_timeout", 60, "Seconds without a sign of life after which a host counts as lost."
)

# A run whose steps are all skipped would not come to life again: its weights do not change.
SKIPPED_AT_MOST = 10


@hosts.exit_soon_on_error()
def main(argv: list[str]) -> int | None:
    """Trains, or draws a contact sheet; returns the exit code."""
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file it writes
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    if not Path(file).is_file():
        raise FileNotFoundError(f"no config file {file}")
    config = from_mapping(_CONFIG.value)
    if not (_WORKDIR.value or _CONTACT_SHEET.value):
        raise app.UsageError("--workdir is needed to train")
    if not hosts.join(_DISTRIBUTED.value, _HOST_TIMEOUT.value, preemptible=True):
        use_all_cores(config.data.batch_size)
    source = sources.FaceSource(config.data.name, config.data.train_split, config.data.data_dir)
    schema = get_schema(config.data.schema or source.schema)
    config = config.for_schema(schema)
    if not _CONTACT_SHEET.value:
        with checkpoints.only_run_in(_WORKDIR.value):
            return train(config, schema, len(source), Path(_WORKDIR.value))
    draw_contact_sheet(config, schema, Path(_CONTACT_SHEET.value))


def draw_contact_sheet(config: Config, schema: LandmarkSchema, path: Path) -> None:
    """Draws the first 32 training faces, as the model sees them, with their landmarks."""
    size, number = config.model.image_size, 32
    with contextlib.closing(data.train_iterator(config.data, config.augment, size)) as batches:
        faces = [next(batches) for _ in range(math.ceil(number / config.data.batch_size))]
    images = np.concatenate([batch.image for batch in faces])[:number]
    points = np.concatenate([batch.landmarks for batch in faces])[:number] * size
    if hosts.is_first():
        report.write_image(path, draw.contact_sheet(images, points, schema))
    print_once(f"wrote {path}")


def train(config: Config, schema: LandmarkSchema, num_faces: int, workdir: Path) -> int:
    """Trains from the newest checkpoint in `workdir`, or from scratch; returns the exit code."""
    size, every = config.model.image_size, config.train
    mesh = make_mesh(config.data.batch_size)
    shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    validation = data.eval_batches(config.data, config.data.eval_split, size, **shard)
    step_fn = training.make_train_step(
        config.model, config.optimizer, config.train, schema.eye_corners, mesh
    )
    state = create_state(config.model, config.optimizer, config.train, mesh)
    print_once(describe(config, state, num_faces))
    given = None
    if every.start_from and not (workdir / "checkpoints").exists():
        given = weights.load_model(every.start_from)  # or fails before anything is opened
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(checkpoints.Checkpoints(workdir, config))
        state = saved.restore(state)
        start, total = int(state.step), config.train.num_steps
        if start:
            print_once(f"going on after step {start}")
        elif every.start_from:
            _, variables, step = given or weights.load_model(every.start_from)
            state = with_weights(state, variables)
            print_once(f"starting from {every.start_from}, step {step}")
        batches = data.train_iterator(config.data, config.augment, size, first_batch=start, **shard)
        stack.enter_context(contextlib.closing(batches))
        log = stack.enter_context(Log(workdir, start, config))
        stop = stack.enter_context(StopRequest())
        stack.enter_context(hosts.exit_soon_on_error())  # before the others are closed
        bar = stack.enter_context(progress_bar(start, total))
        step, previous = start, None
        for step in range(start + 1, total + 1):
            state, measured = step_fn(state, to_devices(mesh, next(batches)))
            # Step n is under way before the numbers of step n - 1 are asked for.
            if previous is not None:
                read(*previous)
            else:
                read(step, measured)
                clock = step, time.perf_counter()  # by now the step is compiled
            previous = step, measured
            bar.update()
            log_due, eval_due, save_due = (
                step == total or step % interval == 0
                for interval in (every.log_every, every.eval_every, every.checkpoint_every)
            )
            stopping = stop.is_due(step)
            if not (log_due or eval_due or save_due or stopping):
                continue
            numbers, line = read(step, measured), {}
            saved.check()
            if log_due:
                line = {
                    name if name == "lr" else f"train/{name}": numbers[name] for name in numbers
                }
                shown = f"loss {numbers['loss']:.4f}, NME {numbers['nme']:.2f} %"
                if step > clock[0]:
                    faces = (step - clock[0]) * config.data.batch_size
                    line["images_per_second"] = faces / (time.perf_counter() - clock[1])
                    shown += f", {line['images_per_second']:.0f} images/s"
                bar.set_postfix_str(shown)
            if eval_due:
                result = validate(config, state, validation, schema)
                line |= {f"eval/{name}": value for name, value in result.items()}
                bar.clear()
                print_once(
                    f"step {step}: validation NME {result['nme']:.3f} %, "
                    f"{result['solver_steps']:.1f} solver steps, residual {result['residual']:.1e}"
                )
            if line:
                log.write(step, line)
            if eval_due:
                saved.save_best(state, result)
            if save_due or stopping:
                saved.save(state)
            if stopping:
                break
            clock = step, time.perf_counter()  # only steps count, not what came between them
    if stop.received is not None and step < total:
        print_once(
            f"stopped by {stop.received.name} after step {step}, saved; the same command goes on"
        )
        return 128 + stop.received
    if start < total and hosts.is_first():
        report.training_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    return 0


def describe(config: Config, state: TrainState, num_faces: int) -> str:
    """A run in a line."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    steps, batch_size = config.train.num_steps, config.data.batch_size
    return (
        f"{num_faces} faces of {config.data.name}, {parameters / 1e6:.2f} M parameters, {steps} "
        f"steps of {batch_size} faces ({steps * batch_size / num_faces:.1f} epochs) on "
        f"{jax.device_count()} {jax.default_backend()} device(s)"
    )


def progress_bar(start: int, total: int) -> tqdm:
    """A bar of the run's steps, on the first host."""
    return tqdm(
        total=total,
        initial=start,
        unit="step",
        dynamic_ncols=True,
        smoothing=0.05,
        disable=not hosts.is_first(),
    )


def read(step: int, measured: dict[str, jax.Array]) -> dict[str, float]:
    """The numbers of a step, waited for.

    Raises:
        FloatingPointError: too many steps in a row had no finite loss and gradient.
    """
    numbers = {name: float(value) for name, value in jax.device_get(measured).items()}
    if numbers["skipped_in_a_row"] >= SKIPPED_AT_MOST:
        raise FloatingPointError(
            f"step {step} has loss {numbers['loss']} and gradient norm {numbers['grad_norm']}, and "
            f"so it was for {SKIPPED_AT_MOST} steps, which were skipped. Look at train/grad_norm "
            "and train/residual in metrics.jsonl, lower optimizer.learning_rate or "
            "optimizer.clip_at, and start anew"
        )
    return numbers


def validate(config: Config, state: TrainState, batches, schema) -> dict[str, float]:
    """Mean errors of the evaluated weights over the validation split; NME in percent."""
    result = inference.Predictor(config, state.variables()).batches(batches)
    nme = metrics.nme(result["landmarks"], result["target"], schema.eye_corners)
    return {
        "nme": 100 * float(np.mean(nme)),
        "failure_rate": 100 * metrics.failure_rate(nme),
        "auc": metrics.auc(nme),
        "solver_steps": float(np.mean(result["num_steps"])),
        "residual": float(np.mean(result["residual"])),
    }


class StopRequest:
    """Notes SIGINT and SIGTERM, so that a run ends between two steps; a second one ends it at once.

    Several hosts must stop at the same step: there JAX's own service notes SIGTERM for all of them.

    Attributes:
        received: the first of them.
    """

    received: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        kinds = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else ()
        self._former = {kind: signal.signal(kind, self._note) for kind in kinds}
        return self

    def __exit__(self, *_) -> None:
        for kind, handler in self._former.items():
            signal.signal(kind, handler)

    def _note(self, number, _):
        self.received = signal.Signals(number)
        self.__exit__()
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # safe in a handler

    def is_due(self, step: int) -> bool:
        """Whether to stop after `step`; to be asked at every step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None


class Log:
    """Numbers of a run, as lines of JSON and for TensorBoard; written by the first host alone.

    A line holds all numbers of its step. What was logged after the checkpoint that a run goes on
    from is dropped, as it will be logged again.
    """

    def __init__(self, workdir: Path, start: int, config: Config):
        self._file = None
        if not hosts.is_first():
            return
        (workdir / "config.json").write_text(records.to_json(to_mapping(config), indent=1))
        path, kept = workdir / "metrics.jsonl", workdir / "metrics.jsonl.tmp"
        lines = path.read_text().splitlines() if path.exists() else []
        kept.write_text("".join(f"{line}\n" for line in lines if _is_of(line, start)))
        kept.replace(path)
        self._file = path.open("a")
        # Its thread dies of a full disk, and a queue of limited length would then be waited for.
        board = str(workdir / "tensorboard")
        self._board = SummaryWriter(board, purge_step=start + 1, max_queue=0)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # `write` has told, and the board repeats the lines
                self._file.close()
            with contextlib.suppress(OSError):
                self._board.close()

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Adds one line, without the numbers that are not finite: JSON has none."""
        if self._file is None:
            return
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self._file.write(records.to_json({"step": step} | numbers) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)


def _is_of(line, start):
    """Whether a line of the log is of one of the steps up to `start`; a kill may have torn it."""
    try:
        return json.loads(line)["step"] <= start
    except ValueError:
        return False


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does, after a look whether the config's fields exist: ml_collections names none."""
    for place, argument in enumerate(argv):
        if argument.startswith("--config."):
            check_field(argument.removeprefix("--config.").partition("=")[0])
        if argument.startswith("--config=~"):
            argv[place] = f"--config={files.expand(argument.removeprefix('--config='))}"
    return app.parse_flags_with_usage(argv)


def is_told_plainly(error: Exception) -> bool:
    """Whether a `raise` of our own caused it, with a message for the user; all else is a bug."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(ldeq_jax.__file__).parent in Path(frame.filename).parents
    return (ours or frame.filename == __file__) and frame.line.startswith("raise")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    try:
        app.run(main, flags_parser=parse_flags)
    except (FloatingPointError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(
                f"train.py: {_WORKDIR.value}: {error}; make space, then give the command again"
            )
        if not is_told_plainly(error):
            raise
        sys.exit(f"train.py: {error}")
