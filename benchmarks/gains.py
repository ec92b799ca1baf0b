"""Recurrence against filters that follow the face, on the same frames, for `benchmarks.why`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.degraded import Clips
from ldeq_jax.config import Config
from ldeq_jax.face import aligned, video_metrics
from ldeq_jax.face.intervals import paired_bootstrap
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import get_schema
from ldeq_jax.inference.videos import alone_config, compiled_programs, landmarks_in_frame
from ldeq_jax.mesh import make_mesh, replicated, to_devices
from ldeq_jax.model import rwr
from ldeq_jax.model.rwr_config import Fusion, RwRConfig

PENALTIES, FOLLOWS, BUDGETS = (2.0, 8.0), (0.5, 0.8), (0, 1)
FUSIONS: tuple[Fusion, ...] = ("arithmetic", "geometric")
SLACK = 1.005  # a setting may have this much of the error of the frames alone on the tuning clips
ALONE, FILTER = "frames alone", "filter"


class Scores(NamedTuple):
    """Measures of V clips.

    Attributes:
        nme: (V,) percent of the eye distance.
        nmf: (V,) normalised mean flicker.
        num_evaluations: (V,) evaluations of the map per frame.
    """

    nme: np.ndarray
    nmf: np.ndarray
    num_evaluations: np.ndarray

    def every_other(self, first: int) -> "Scores":
        """Those of clips 0, 2, 4, ... or 1, 3, 5, ..."""
        return Scores(*(field[first::2] for field in self))


class Tracker:
    """A model on clips.

    Args:
        config: the model's.
        variables: of the model.
        rows: number of clips.
    """

    def __init__(self, config: Config, variables: dict[str, Any], rows: int):
        self.model, self.recurrence = config.model, config.rwr
        self.schema = get_schema(config.data.schema)
        self.mesh = make_mesh(rows)
        self.variables = jax.device_put(variables, replicated(self.mesh))
        self._start = jax.device_get(rwr.initial_state(config.model, rows))
        _, self._scan = compiled_programs(config.model)

    def __call__(self, clips: Clips, recurrence: RwRConfig) -> tuple[list[Landmarks], rwr.RwRState]:
        """Landmarks of each clip in frame pixels, and the state after the last frame."""
        faces = np.ones(clips.image.shape[:2], bool)
        reset = faces.copy()
        if recurrence.penalty != 0 or recurrence.align != "none":  # else each frame by itself
            reset[:, 1:] = False
        matrices = clips.frame_from_crop.astype(np.float32)
        arrays = clips.image, self._start, matrices, reset, faces, clips.intervals()
        found, state = self._scan(self.variables, recurrence, *to_devices(self.mesh, arrays))
        size = self.model.image_size
        tracks = landmarks_in_frame(jax.device_get(found), clips.frame_from_crop, size)
        return [tracks[i] for i in range(len(clips.videos))], state

    def score(self, clips: Clips, tracks: Sequence[Landmarks]) -> Scores:
        """Measures of landmarks in frame pixels."""
        points, labels, mask = (
            np.stack(of)
            for of in (
                [track.points for track in tracks],
                [video["landmarks"] for video in clips.videos],
                [video["mask"] for video in clips.videos],
            )
        )
        eyes = self.schema.eye_corners
        return Scores(
            nme=100 * video_metrics.video_nme(points, labels, mask, eye_corners=eyes),
            nmf=video_metrics.nmf(points, labels, mask),
            num_evaluations=np.array([track.info.num_evaluations.mean() for track in tracks]),
        )

    def filter(self, clips: Clips, tracks: Sequence[Landmarks]) -> dict[str, Scores]:
        """Measures of tracks smoothed by every filter that follows the face, by setting."""
        smoothed: dict[str, list[Landmarks]] = {}
        for track, video in zip(tracks, clips.videos, strict=True):
            scale = float(np.sqrt(np.prod(np.ptp(track.points[0], axis=0))))
            for kind in aligned.FILTERS:
                for values, points in kind.smooth_all(
                    track.points, video["fps"], scale=scale, spread=track.spread
                ):
                    settings = ", ".join(f"{name} {value:g}" for name, value in values.items())
                    of = smoothed.setdefault(f"{kind.name}, {settings}", [])
                    of.append(dataclasses.replace(track, points=points))
        return {setting: self.score(clips, of) for setting, of in smoothed.items()}


def gain(tracker: Tracker, clips: Clips) -> tuple[dict[str, dict], dict[Fusion, RwRConfig]]:
    """The best filter that follows the face, and recurrence by either fusion.

    Settings are chosen on every other clip, and measured on the rest.

    Args:
        tracker: the model.
        clips: frames.

    Returns:
        By method what `row` says; and the chosen settings of recurrence.
    """
    tracks, _ = tracker(clips, alone_config(tracker.model))
    alone = tracker.score(clips, tracks)
    setting, best = chosen(tracker.filter(clips, tracks), alone)
    rows, configs = {ALONE: row("", alone, best), FILTER: row(setting, best, best)}, {}
    for fusion in FUSIONS:
        tried, scores = {}, {}
        for penalty, follow, budget in itertools.product(PENALTIES, FOLLOWS, BUDGETS):
            setting = f"penalty {penalty:g}, follow {follow:g}, budget {budget}"
            tried[setting] = RwRConfig(fusion=fusion, penalty=penalty, follow=follow, budget=budget)
            scores[setting] = tracker.score(clips, tracker(clips, tried[setting])[0])
        setting, measured = chosen(scores, alone)
        rows[f"recurrence, {fusion}"] = row(setting, measured, best)
        configs[fusion] = tried[setting]
    return rows, configs


def parts(tracker: Tracker, clips: Clips, configs: Mapping[Fusion, RwRConfig]) -> dict[str, dict]:
    """What fusion and warm start each give; with two evaluations where a name says no other.

    Args:
        tracker: the model.
        clips: frames.
        configs: settings of recurrence by fusion; all but what a row names stays the same.

    Returns:
        By part what `row` says, against the best filter of frames solved with two evaluations.
    """
    tracks, _ = tracker(clips, alone_config(tracker.model, first_budget=1))
    alone, warm = tracker.score(clips, tracks), RwRConfig(penalty=0.0)
    setting, best = chosen(tracker.filter(clips, tracks), alone)
    runs = {"warm start": dataclasses.replace(warm, budget=1)}
    for fusion, config in configs.items():
        runs[f"{fusion} fusion"] = dataclasses.replace(config, budget=1, warm_start=False)
        runs[f"{fusion} fusion and warm start"] = dataclasses.replace(config, budget=1)
    runs["frames alone, 6 evaluations"] = alone_config(tracker.model, first_budget=5)
    runs["warm start, 6 evaluations"] = dataclasses.replace(warm, budget=5)
    runs["warm start, 1 evaluation"] = dataclasses.replace(warm, budget=0)
    for fusion, config in configs.items():
        once = dataclasses.replace(config, budget=0)
        runs[f"{fusion} fusion and warm start, 1 evaluation"] = once
    measured = {name: tracker.score(clips, tracker(clips, of)[0]) for name, of in runs.items()}
    rows = {ALONE: row("", alone, best), FILTER: row(setting, best, best)}
    return rows | {name: row("", of, best) for name, of in measured.items()}


def chosen(scores: Mapping[str, Scores], alone: Scores) -> tuple[str, Scores]:
    """The setting of least flicker among those whose error is near that of the frames alone.

    If there is none, the one of least error. Only clips 0, 2, 4, ... count.
    """
    limit = SLACK * alone.every_other(0).nme.mean()

    def rank(setting):
        tuning = scores[setting].every_other(0)
        error = tuning.nme.mean()
        return (True, error) if error > limit else (False, tuning.nmf.mean())

    setting = min(scores, key=rank)
    return setting, scores[setting]


def row(setting: str, measured: Scores, reference: Scores) -> dict[str, Any]:
    """Means over clips 1, 3, 5, ..., and the change of the flicker against a reference.

    Returns:
        setting, nme (percent), nmf, evaluations (per frame); change: percent, and the ends of its
        95 % interval.
    """
    measured, reference = measured.every_other(1), reference.every_other(1)
    change = paired_bootstrap(reference.nmf, measured.nmf).relative
    return {
        "setting": setting,
        "nme": float(measured.nme.mean()),
        "nmf": float(measured.nmf.mean()),
        "change": [100 * value for value in change],
        "evaluations": float(measured.num_evaluations.mean()),
    }
