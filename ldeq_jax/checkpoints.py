"""Checkpoints of a run, written by orbax.

A working directory holds `checkpoints/STEP/`, the latest full training states to resume from, and
`best/STEP/`, the weights that validated best. The latter form, weights and config without optimiser, is
also what a released model looks like; `load_model` reads either.
"""

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from ldeq_jax.config import Config, from_mapping, to_mapping
from ldeq_jax.model import LDEQ
from ldeq_jax.training import TrainState

_WEIGHTS = "weights"


class Checkpoints:
    """Writes and reads the checkpoints of one run. Use as a context manager: leaving waits for writes.

    Args:
        workdir: the run's directory, created when missing.
        config: the run's config, written into every checkpoint.
    """

    def __init__(self, workdir: str | Path, config: Config):
        workdir = Path(workdir).resolve()
        self._config = to_mapping(config)
        self._latest = ocp.CheckpointManager(
            workdir / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=config.train.keep),
        )
        self._best = ocp.CheckpointManager(
            workdir / "best",
            options=ocp.CheckpointManagerOptions(max_to_keep=1),
        )
        self.best_nme = float("inf")
        if (step := self._best.latest_step()) is not None:
            self.best_nme = _read_json(self._best, step)["metrics"]["nme"]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._latest.close()
        self._best.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._latest.latest_step()

    def save(self, state: TrainState) -> None:
        """Writes a full state in the background; a write under way is waited for first."""
        step = int(state.step)
        if step in self._latest.all_steps():
            return
        about = {"config": self._config, "batches": step}
        self._latest.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
            ),
        )

    def save_best(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Writes the weights if `metrics["nme"]` is the lowest so far, replacing the former best."""
        if metrics["nme"] < self.best_nme:
            self.best_nme = metrics["nme"]
            _save_weights(self._best, state, self._config, metrics)

    def restore(self, like: TrainState) -> TrainState:
        """Reads the newest checkpoint onto the devices of `like`.

        Raises:
            ValueError: the run was made with another config, or the checkpoint cannot be read.
        """
        step = self.latest_step
        directory = self._latest.directory / str(step)
        about = _read_json(self._latest, step)
        if changed := _differences(about["config"], json.loads(json.dumps(self._config))):
            raise ValueError(
                f"{directory} was trained with another config:\n  "
                + "\n  ".join(changed)
                + "\nUse another --workdir, or the config it was started with"
            )
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            return self._latest.restore(step, args=args)["state"]
        except Exception as error:  # orbax and its storage layer raise many kinds
            raise ValueError(
                f"{directory} cannot be read ({_first_line(error)}). Delete that folder to resume "
                "from the one before it"
            ) from error


def export_model(directory: str | Path, state: TrainState, config: Config, metrics: dict) -> None:
    """Writes a released model: weights, config and metrics, nothing else."""
    with ocp.CheckpointManager(Path(directory).resolve()) as manager:
        _save_weights(manager, state, to_mapping(config), metrics)


def load_model(directory: str | Path) -> tuple[Config, dict[str, Any], int]:
    """Reads a model: the best of a training run's directory, or a released one.

    Args:
        directory: a run's working directory, or a directory made by `export_model`.

    Returns:
        The config, the variables for `LDEQ.apply` as NumPy arrays, and the step they were taken at.

    Raises:
        FileNotFoundError: there is no model in it.
        ValueError: the model cannot be read: damaged, or of another layout.
    """
    root = Path(directory).resolve()
    root = root / "best" if (root / "best").is_dir() else root
    if not root.is_dir() or (step := _manager(root).latest_step()) is None:
        raise FileNotFoundError(
            f"no model in {directory}: expected STEP/{_WEIGHTS}/ in it or in its folder best/. "
            "Pass the --workdir of a training run that has validated at least once"
        )
    with _manager(root) as manager:
        try:
            config = from_mapping(_read_json(manager, step)["config"])
            args = ocp.args.Composite(**{_WEIGHTS: ocp.args.StandardRestore(_shapes(config))})
            weights = manager.restore(step, args=args)[_WEIGHTS]
        except Exception as error:
            raise ValueError(
                f"{root / str(step)} cannot be read ({_first_line(error)}): it is damaged or "
                "incomplete; copy it again or export it anew"
            ) from error
    return config, jax.device_get(weights), step


def _manager(directory):
    return ocp.CheckpointManager(
        directory, options=ocp.CheckpointManagerOptions(read_only=True, create=False)
    )


def _save_weights(manager, state, config, metrics):
    about = {"config": config, "metrics": metrics}
    manager.save(
        int(state.step),
        args=ocp.args.Composite(
            weights=ocp.args.StandardSave(state.variables()), about=ocp.args.JsonSave(about)
        ),
    )


def _read_json(manager, step):
    return manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]


def _shapes(config):
    """The variables of a model as shapes on one device, whatever devices they were saved from."""
    size = config.model.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), config.model.dtype)
    shapes = jax.eval_shape(LDEQ(config.model).init, jax.random.key(0), image)
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=one), shapes)


def _differences(old, new, path="config"):
    """Lines that tell where two nested mappings differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{path}: {old!r} then, {new!r} now"]
    lines = []
    for key in old | new:
        lines += _differences(old.get(key), new.get(key), f"{path}.{key}")
    return lines


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
