"""`ldeq label` with the pretrained models, on the film that is shipped."""

import csv
from pathlib import Path

import numpy as np
import pytest
from commands import ldeq

from ldeq_jax.face.schema import IBUG_68, IBUG_IN_WFLW
from ldeq_jax.face.video_metrics import label_jitter
from ldeq_jax.labelling.work import read_findings

FILM = Path(__file__).parents[1] / "examples" / "wflw_v"


@pytest.mark.slow
def test_the_labels_of_the_shipped_film_are_near_others_and_steadier_than_each_member(tmp_path):
    out = tmp_path / "set"
    ldeq(
        *("label", f"--output={out}", "--shortest=40", "--longest=62", "--codec=mp4v"),
        *("--members=faces-68-tiny,faces-68-tiny:mirrored,faces-68-tiny:wider", FILM),
    )
    with (out / "labels.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    id, frames = row["id"], int(row["frames"])
    assert row["decision"] == "keep" and 40 <= frames <= 62 and float(row["disagreement"]) < 3
    labels = np.load(out / f"landmarks/{id}.npy")
    [theirs] = [np.load(path) for path in (FILM / "landmarks").glob("*.npy")]
    start = int(row["start_frame"])
    target = theirs[start : start + frames, list(IBUG_IN_WFLW)]
    left, right = IBUG_68.eye_corners
    eyes = np.linalg.norm(target[:, left] - target[:, right], axis=-1).mean()
    assert np.linalg.norm(labels - target, axis=-1).mean() < 0.06 * eyes  # two ways of labelling

    found = read_findings(out / f"work/{id}.npz", frames)
    assert found is not None and found.ok.all()
    mask = np.ones((1, frames), bool)
    jitter = [label_jitter(points[None], mask)[0] for points in found.points]
    assert label_jitter(labels[None], mask)[0] < 0.75 * min(jitter)
