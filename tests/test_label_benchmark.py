"""The benchmark of labels: its table says what is true of members that are made up."""

import re

import numpy as np

from benchmarks.labelling import report
from ldeq_jax.evaluation.labels import Labels
from ldeq_jax.face.schema import IBUG_68
from ldeq_jax.labelling.members import Ensemble


class Named:
    """A member that is never asked."""

    schema = IBUG_68

    def __init__(self, name):
        self.name = self.mark = name


def video(seed, frames=80):
    """A face that drifts, members of which the last errs more, and a tracker that is late."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(20, 90, (68, 2))
    shape[list(IBUG_68.eye_corners)] = [[30, 40], [80, 40]]
    drift = np.stack([np.sin(np.arange(frames) / 9), np.cos(np.arange(frames) / 11)], axis=-1)
    truth = shape + 10 * drift[:, None]
    worse = 1 + 3 * (np.arange(frames) > 60)[:, None, None]  # all err more at the end
    noise = np.array([0.3, 0.3, 0.6])[:, None, None, None] * worse
    points = truth + noise * rng.standard_normal((3, *truth.shape))
    return {
        "points": points,
        "spread": np.full(points.shape[:3], np.nan),
        "tracked": np.concatenate([truth[:1], truth[:-1]]),
        "landmarks": truth,
        "mask": np.ones(frames, bool),
    }


def test_the_table_ranks_methods_and_finds_the_frames_that_err():
    members = tuple(Named(name) for name in ("one", "two", "worse"))
    ensemble = Ensemble(members=members, schema=IBUG_68, indices=(None,) * 3)
    text = report([video(1), video(2)], ensemble, Labels(schema=IBUG_68), 10.0)
    rows = {
        cells[1].strip(): [float(cell) for cell in cells[2:4]]
        for line in text.splitlines()
        if len(cells := line.split("|")) > 4 and re.match(r"\s*\d", cells[2])
    }
    assert list(rows)[:3] == ["one", "two", "worse"]
    for column in (0, 1):
        best = rows["ensemble, smoothed"][column]
        assert best < rows["ensemble"][column] < rows["one"][column] < rows["worse"][column]
    assert rows["tracker (recurrence)"][1] < rows["one"][1]  # late, but without noise
    ranks = re.search(r"error: ([\d.]+) over landmarks and frames, ([\d.]+) over frames", text)
    assert ranks and 0.3 < float(ranks[1]) < float(ranks[2])
    all_, calm, others = map(float, re.findall(r"([\d.]+) %", text.split("NME of all")[1])[:3])
    assert calm < all_ < others
