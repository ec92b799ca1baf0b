"""The training loop: steps, log, validation and checkpoints, from start or last checkpoint to end.

What a step computes is `training.step`; this module decides when things happen. It holds no
settings of its own: everything comes from the config.
"""

import contextlib
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.faces import LandmarkBatch, eval_batches, train_iterator
from ldeq_jax.data.sources import FaceSource
from ldeq_jax.errors import UserError
from ldeq_jax.face import metrics
from ldeq_jax.face.schema import LandmarkSchema, get_schema
from ldeq_jax.inference.pictures import Predictor
from ldeq_jax.media.files import expand
from ldeq_jax.mesh import make_mesh, to_devices
from ldeq_jax.report.training_plots import training_curves
from ldeq_jax.training.checkpoints import Checkpoints, only_run_in
from ldeq_jax.training.log import Log
from ldeq_jax.training.start import start_from
from ldeq_jax.training.state import TrainState, create_state
from ldeq_jax.training.step import make_train_step
from ldeq_jax.training.stop import StopRequest
from ldeq_jax.training.teacher import load_teacher
from ldeq_jax.weights import load_model

# After that many skipped steps in a row a run cannot recover: its weights no longer change.
MAX_SKIPPED = 10


class DivergedError(UserError, FloatingPointError):
    """Too many steps in a row had no finite loss and gradient."""


def train(config: Config, workdir: str | Path) -> signal.Signals | None:
    """Trains from the newest checkpoint in `workdir`, or from the start.

    The directory gets checkpoints/, best/, metrics.jsonl, tensorboard/, config.json and, in the
    end, curves.png. On several hosts, call it on each with the same arguments.

    Args:
        config: of the run; its number of landmarks and schema may be open.
        workdir: the run's directory, created when missing; one that all hosts see.

    Returns:
        None when the run is complete, or the signal that stopped it after a step; then it is saved,
        and the same call continues it.

    Raises:
        UserError: the data, the config, the model to start from or the directory do not fit, or
            the run diverged; the message says what to do.
    """
    workdir = expand(workdir)
    faces = FaceSource(config.data.name, config.data.train_split, config.data.data_dir)
    schema = get_schema(config.data.schema or faces.schema)
    config = config.for_schema(schema)
    with only_run_in(workdir), contextlib.ExitStack() as stack:
        return _train(config, schema, len(faces), workdir, stack)


def _train(config, schema, num_faces, workdir, stack):
    """Trains; what is opened on the way is closed by the stack."""
    settings, size, total = config.train, config.model.image_size, config.train.num_steps
    mesh = make_mesh(config.data.batch_size)
    shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    validation = eval_batches(config.data, config.data.eval_split, size, **shard)
    step_fn = make_train_step(
        config.model,
        config.optimizer,
        settings,
        schema.eye_corners,
        mesh,
        recurrence=config.rwr if config.clip.num_frames else None,
    )
    state = create_state(config.model, config.optimizer, settings, mesh)
    hosts.print_once(describe(config, state, num_faces))
    given = None
    if settings.start_from and not (workdir / "checkpoints").exists():
        given = load_model(settings.start_from)  # or fails before anything is opened
    teacher = load_teacher(config, schema, mesh) if settings.teacher else None

    saved = stack.enter_context(Checkpoints(workdir, config))
    state = saved.restore(state)
    start = int(state.step)
    if start >= total:
        hosts.print_once(f"complete at step {start}: a larger train.num_steps extends the run")
    elif start:
        hosts.print_once(f"continuing after step {start}")
    elif settings.start_from:
        trained, variables, last = given or load_model(settings.start_from)
        state, told = start_from(state, config, schema, trained, variables)
        hosts.print_once(f"starting from {settings.start_from}, step {last}{told}")
    batches = train_iterator(
        config.data, config.augment, size, clip=config.clip, first_batch=start, **shard
    )
    stack.enter_context(contextlib.closing(batches))
    log = stack.enter_context(Log(workdir, start, config))
    stop = stack.enter_context(StopRequest())
    stack.enter_context(hosts.exit_soon_on_error())  # before the others are closed
    bar = stack.enter_context(progress_bar(start, total))

    step, previous = start, None
    for step in range(start + 1, total + 1):
        batch = to_devices(mesh, next(batches))
        if teacher is not None:
            batch = batch._replace(taught=teacher(batch.image))
        state, measured = step_fn(state, batch)
        # Step n is dispatched before the metrics of step n - 1 are read.
        if previous is not None:
            read_metrics(*previous)
        else:
            read_metrics(step, measured)
            clock = step, time.perf_counter()  # by now the step is compiled
        previous = step, measured
        bar.update()
        log_due, eval_due, save_due = (
            step == total or step % interval == 0
            for interval in (settings.log_every, settings.eval_every, settings.checkpoint_every)
        )
        stopping = stop.is_due(step)
        if not (log_due or eval_due or save_due or stopping):
            continue
        numbers, line = read_metrics(step, measured), {}
        saved.check()
        if log_due:
            line = {name if name == "lr" else f"train/{name}": numbers[name] for name in numbers}
            shown = f"loss {numbers['loss']:.4f}, NME {numbers['nme']:.2f} %"
            if step > clock[0]:
                images = (step - clock[0]) * config.data.batch_size * max(config.clip.num_frames, 1)
                line["images_per_second"] = images / (time.perf_counter() - clock[1])
                shown += f", {line['images_per_second']:.0f} images/s"
            bar.set_postfix_str(shown)
        if eval_due:
            result = validate(config, state, validation, schema)
            line |= {f"eval/{name}": value for name, value in result.items()}
            bar.clear()
            hosts.print_once(
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
        clock = step, time.perf_counter()  # only steps are timed, not what came between them
    stack.close()  # waits for the writes
    if stop.received is not None and step < total:
        hosts.print_once(
            f"stopped by {stop.received.name} after step {step}, saved; the same command continues"
        )
        return stop.received
    if start < total and hosts.is_first():
        training_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    return None


def describe(config: Config, state: TrainState, num_faces: int) -> str:
    """Data, size, length and devices of a run, in one line."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    steps, batch_size = config.train.num_steps, config.data.batch_size
    others = "".join(f", {part.share:.0%} of {part.dataset}" for part in config.data.parts()[1:])
    own = steps * batch_size * config.data.parts()[0].share
    return (
        f"{num_faces} faces of {config.data.name}{others}, {parameters / 1e6:.2f} M parameters, "
        f"{steps} steps of {batch_size} faces ({own / num_faces:.1f} epochs) on "
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


def read_metrics(step: int, measured: dict[str, jax.Array]) -> dict[str, float]:
    """The metrics of a step as numbers; waits until they are computed.

    Raises:
        DivergedError: the last steps had no finite loss and gradient.
    """
    numbers = {name: float(value) for name, value in jax.device_get(measured).items()}
    if numbers["skipped_in_a_row"] >= MAX_SKIPPED:
        raise DivergedError(
            f"step {step} has loss {numbers['loss']} and gradient norm {numbers['grad_norm']}, and "
            f"the same was true for {MAX_SKIPPED} steps, which were skipped. Look at "
            "train/grad_norm and train/residual in metrics.jsonl, lower optimizer.learning_rate or "
            "optimizer.clip_at, and start again with another --workdir"
        )
    return numbers


def validate(
    config: Config, state: TrainState, batches: Iterable[LandmarkBatch], schema: LandmarkSchema
) -> dict[str, float]:
    """Mean errors of the averaged weights over the validation split; NME in percent."""
    result = Predictor(config, state.variables()).batches(batches)
    nme = metrics.nme(result["landmarks"], result["target"], schema.eye_corners)
    return {
        "nme": 100 * float(np.mean(nme)),
        "failure_rate": 100 * metrics.failure_rate(nme),
        "auc": metrics.auc(nme),
        "solver_steps": float(np.mean(result["num_steps"])),
        "residual": float(np.mean(result["residual"])),
    }
