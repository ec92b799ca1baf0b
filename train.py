"""Trains a landmark model.

  python train.py --config=configs/tiny.py --workdir=runs/tiny
  python train.py --config=configs/ibug_300w_small.py --workdir=runs/small \\
      --config.data.data_dir=DATA --config.optimizer.learning_rate=1e-3

Build the data set first: python datasets/build.py --help. Run the same command again to resume after an
interruption: it continues from the last checkpoint as if nothing had happened. The working directory gets

  checkpoints/     the latest training states       metrics.jsonl, tensorboard/  the log
  best/            the weights that validated best  config.json, curves.png

To see what the model will be shown, without training:

  python train.py --config=configs/ibug_300w_small.py --contact_sheet=sheet.png
"""

import json
import math
import os
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from tensorboardX import SummaryWriter
from tqdm import tqdm

from ldeq_jax import checkpoints, data, inference, metrics, report, training
from ldeq_jax.config import Config, from_mapping, to_mapping
from ldeq_jax.schema import get_schema

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, e.g. configs/tiny.py. Its fields are set by --config.SECTION.FIELD=VALUE; sections are "
    "model, data, augment, optimizer and train.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, created when missing.")
_CONTACT_SHEET = flags.DEFINE_string(
    "contact_sheet", None, "Draw the first augmented training faces to this PNG and stop."
)


def main(argv: list[str]) -> None:
    """Trains, or draws a contact sheet."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    config = from_mapping(_CONFIG.value)
    source = data.FaceSource(config.data.name, config.data.train_split, config.data.data_dir)
    schema = get_schema(config.data.schema or source.schema)
    config = config.for_schema(schema)
    if _CONTACT_SHEET.value:
        draw_contact_sheet(config, schema, _CONTACT_SHEET.value)
    elif _WORKDIR.value:
        train(config, schema, len(source), Path(_WORKDIR.value))
    else:
        raise app.UsageError("--workdir is needed to train")


def draw_contact_sheet(config: Config, schema, path: str) -> None:
    """Draws one or more training batches, as the model sees them, with their landmarks."""
    size = config.model.image_size
    batches = data.train_iterator(config.data, config.augment, size)
    faces = [next(batches) for _ in range(-(-32 // config.data.batch_size))]
    images = np.concatenate([batch.image for batch in faces])[:32]
    points = np.concatenate([batch.landmarks for batch in faces])[:32] * size
    report.write_image(path, report.contact_sheet(images, points, schema))
    print(f"wrote {path}")


def train(config: Config, schema, num_faces: int, workdir: Path) -> None:
    """Trains from the newest checkpoint in `workdir`, or from scratch."""
    size, total = config.model.image_size, config.train.num_steps
    mesh = training.make_mesh(config.data.batch_size)
    state = training.create_state(config.model, config.optimizer, config.train, mesh)
    step_fn = training.make_train_step(
        config.model, config.optimizer, config.train, schema.eye_corners, mesh
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    logging.info(
        "%s: %d faces of %s, %.2f M parameters, %d steps of %d faces (%.1f epochs) on %d %s device(s)",
        workdir, num_faces, config.data.name, parameters / 1e6, total, config.data.batch_size,
        total * config.data.batch_size / num_faces, jax.device_count(), jax.default_backend(),
    )  # fmt: skip
    workdir.mkdir(parents=True, exist_ok=True)
    with checkpoints.Checkpoints(workdir, config) as saved:
        if saved.latest_step is not None:
            state = saved.restore(state)
            logging.info("resumed from step %d", int(state.step))
        (workdir / "config.json").write_text(json.dumps(to_mapping(config), indent=1))
        start = int(state.step)
        batches = data.train_iterator(
            config.data,
            config.augment,
            size,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
            first_batch=start,
        )
        validation = data.eval_batches(config.data, config.data.eval_split, size)
        log = Log(workdir, start)
        bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, smoothing=0.05)
        pending, clock = None, time.perf_counter()
        try:
            for step in range(start + 1, total + 1):
                state, measured = step_fn(state, training.to_devices(mesh, next(batches)))
                # Step n is under way before the numbers of step n - 1 are asked for.
                if pending is not None:
                    check(step - 1, pending, workdir)
                pending = measured
                bar.update()
                if step % config.train.log_every == 0 or step == total:
                    check(step, measured, workdir)
                    numbers = {f"train/{k}": float(v) for k, v in measured.items() if k != "lr"}
                    elapsed, clock = time.perf_counter() - clock, time.perf_counter()
                    rate = config.data.batch_size * min(config.train.log_every, step - start) / elapsed
                    log.write(step, numbers | {"lr": float(measured["lr"]), "images_per_second": rate})
                    bar.set_postfix_str(
                        f"loss {numbers['train/loss']:.4f}, NME {numbers['train/nme']:.2f} %, "
                        f"{rate:.0f} images/s"
                    )
                last = step == total
                if step % config.train.eval_every == 0 or last:
                    check(step, measured, workdir)
                    result = validate(config, state, validation, schema)
                    log.write(step, {f"eval/{key}": value for key, value in result.items()})
                    bar.write(
                        f"step {step}: validation NME {result['nme']:.3f} %, "
                        f"{result['solver_steps']:.1f} solver steps, residual {result['residual']:.1e}"
                    )
                    saved.save_best(state, result)
                    clock = time.perf_counter()
                if step % config.train.checkpoint_every == 0 or last:
                    check(step, measured, workdir)
                    saved.save(state)
        except KeyboardInterrupt:
            bar.close()
            saved.save(state)
            print(f"\ninterrupted at step {int(state.step)}; the same command continues from there")
            raise SystemExit(130) from None
        finally:
            batches.close()
            log.close()
        bar.close()
    report.training_curves(workdir / "metrics.jsonl", workdir / "curves.png")


def check(step: int, measured: dict, workdir: Path) -> None:
    """Ends the run when the loss of a step is not a number; nothing of it is saved."""
    if not math.isfinite(float(measured["loss"])):
        raise FloatingPointError(
            f"the loss of step {step} is {float(measured['loss'])}. The last checkpoint in "
            f"{workdir / 'checkpoints'} is from before it. Lower optimizer.learning_rate, clip the "
            "gradient, or look at train/grad_norm and train/residual in metrics.jsonl"
        )


def validate(config: Config, state: training.TrainState, batches, schema) -> dict[str, float]:
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


class Log:
    """Numbers of a run, as lines of JSON and for TensorBoard."""

    def __init__(self, workdir: Path, start: int):
        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            # What was logged after the checkpoint that a run resumes from will be logged again.
            lines = path.read_text().splitlines()
            kept = [line for line in lines if line and json.loads(line)["step"] <= start]
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start or None)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Adds one line."""
        self._file.write(json.dumps({"step": step} | numbers) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is left."""
        self._file.close()
        self._board.close()


def use_all_cores() -> None:
    """Makes one CPU device a core, as XLA runs a convolution on one; no effect on GPU and TPU."""
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    use_all_cores()
    app.run(main)
