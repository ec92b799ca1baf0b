r"""How good the labels of `ldeq label` are: on films whose landmarks are known otherwise.

    ldeq build wflw_v/fgnet_68 --manual_dir=TALKING_FACE --data_dir=DATA
    ldeq build moving_faces/speaking --manual_dir=DATA/ibug_300w/1.0.0 --data_dir=DATA
    python -m benchmarks.labelling --data_dir=DATA --output=OUT --points=FGNET_TO_IBUG.json \
        --videos=wflw_v/fgnet_68:easy --videos=wflw_v/fgnet_68:hard
    python -m benchmarks.labelling --data_dir=DATA --output=OUT \
        --videos=moving_faces/speaking:test_common

Every video is one window. The faces are followed, the members find the landmarks, and these are
fused and smoothed, all as by `ldeq label`; then they are compared with the true landmarks, without
the constant offset of each landmark, of each method by itself: how a collection of labels places a
landmark is no error. With --points, a JSON file of our landmark to that of the labels, only these
are compared.

OUT/table.md has the NME in percent of the eye distance and the NMF of each member, of the plain
mean, of the ensemble before and after smoothing, and of the tracker's recurrence; where all
landmarks are compared, how much mouth and eyes move against the truth, and how late; how
disagreement goes with error, by rank, over landmarks and frames, over frames, and over videos; the
error that is left when the tenth of all frames is dropped in which the members disagree most; and
what the jitter of the true labels adds to any flicker. What the members find is kept in OUT, so a
second call is fast.
"""

import argparse
from pathlib import Path

from ldeq_jax.errors import UserError, show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import numpy as np
import scipy.stats
from tqdm import tqdm

from ldeq_jax.cli.label import MEMBERS
from ldeq_jax.cli.options import names
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.evaluation.labels import Labels, mean_offset, read_points
from ldeq_jax.face.fidelity import response, signals
from ldeq_jax.face.schema import get_schema
from ldeq_jax.face.video_metrics import label_jitter, nmf, video_nme
from ldeq_jax.inference.detection import overlaps
from ldeq_jax.inference.tracker import FaceTracker
from ldeq_jax.labelling.fusion import Found, fuse, habits, plain_mean
from ldeq_jax.labelling.members import AT_ONCE, Ensemble, load_ensemble
from ldeq_jax.labelling.smoothing import STRONGEST, smooth
from ldeq_jax.report.tables import markdown_table

_FPS = 25.0  # for `fidelity.response`, which looks for lags in seconds


def main() -> None:
    """Measures, and writes a table."""
    options = _parser().parse_args()
    ensemble = load_ensemble(options.members)
    tracker = FaceTracker.load(options.tracker)
    videos = []
    for text in options.videos:
        name, split = text.split(":", 1)
        source = VideoSource(name, split, options.data_dir)
        count = min(len(source), options.most or len(source))
        for index in tqdm(range(count), desc=text, unit="video", leave=False):
            path = options.output / f"{name.replace('/', '_')}_{split}_{source.names[index]}.npz"
            videos.append(_video(source, index, path, ensemble, tracker))
    theirs = get_schema(source.schema)
    points = None
    if options.points:
        points = read_points(options.points, ensemble.schema, theirs)
    elif theirs != ensemble.schema:
        raise UserError(f"the labels are {theirs.name}: name the landmarks to compare, --points")
    text = report(videos, ensemble, Labels(schema=theirs, points=points), options.strongest)
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")


def report(videos: list[dict], ensemble: Ensemble, labels: Labels, strongest: float) -> str:
    """The table of all methods, and how disagreement goes with error.

    Args:
        videos: as `_video` gives them.
        ensemble: the members.
        labels: which landmarks are compared.
        strongest: smoothing at most.
    """
    own, corners = ensemble.own, ensemble.schema.eye_corners
    found = [Found(points=v["points"], spread=v["spread"]) for v in videos]
    known = habits(found, own, corners)
    fused = [fuse(window, known, own, corners) for window in found]
    smoothed = [smooth(window.points, window.jitter, strongest).points for window in fused]
    methods = {
        **{
            member.name: [window.points[m] for window in found]
            for m, member in enumerate(ensemble.members)
        },
        "plain mean": [plain_mean(window) for window in found],
        "ensemble": [window.points for window in fused],
        "ensemble, smoothed": smoothed,
        "tracker (recurrence)": [video["tracked"] for video in videos],
    }
    rows = []
    for name, tracks in methods.items():
        relative = _without(tracks, videos, labels)
        pairs = list(zip(tracks, videos, strict=True))
        scores = np.array([_scores(track, video, relative) for track, video in pairs])
        row = {"method": name, "NME (%)": 100 * scores[:, 0].mean(), "NMF": scores[:, 1].mean()}
        rows.append(row | _motion(pairs, relative))
    relative = _without(smoothed, videos, labels)
    errors = [_errors(t, v, relative) for t, v in zip(smoothed, videos, strict=True)]
    chosen = list(labels.points) if labels.points else slice(None)
    doubts = [window.disagreement[:, chosen] for window in fused]
    jitter = np.nanmean(
        [
            label_jitter(v["landmarks"][None], v["mask"][None], landmarks=labels.counted)[0]
            for v in videos
        ]
    )
    own_jitter = np.nanmean(
        [label_jitter(t[None], np.ones((1, len(t)), bool))[0] for t in smoothed]
    )
    frames = np.concatenate([error.mean(axis=1) for error in errors])
    doubt = np.concatenate([value.mean(axis=1) for value in doubts])
    calm = doubt <= np.quantile(doubt, 0.9)
    lines = [
        f"{len(videos)} videos, {len(frames)} frames",
        "rank correlation of disagreement and error: "
        f"{_rank(np.concatenate(doubts), np.concatenate(errors)):.2f} over landmarks and frames, "
        f"{_rank(doubt, frames):.2f} over frames, "
        f"{_rank([d.mean() for d in doubts], [e.mean() for e in errors]):.2f} over videos",
        f"NME of all frames {100 * frames.mean():.3f} %, of the nine tenths of them in which the "
        f"members agree most {100 * frames[calm].mean():.3f} %, of the others "
        f"{100 * frames[~calm].mean():.3f} %",
        f"NMF of jitter alone: true labels {jitter:.1f}, ours {own_jitter:.1f}",
    ]
    return markdown_table(rows, digits=3) + "\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def _without(tracks, videos, labels):
    """The labels with the constant offsets of a method."""
    return mean_offset(list(zip(tracks, videos, strict=True)), labels)


def _scores(track, video, labels):
    arranged = labels.arranged(track, video["landmarks"])
    values = arranged[None], video["landmarks"][None], video["mask"][None]
    counted = {"landmarks": labels.counted}
    error = video_nme(*values, eye_corners=labels.schema.eye_corners, **counted)
    return error[0], nmf(*values, **counted)[0]


def _motion(pairs, labels):
    """Mean amplitude of mouth and eyes against the labels, and their lag in frames."""
    found = {}
    for name in ("mouth", "eyes"):
        responses = []
        for track, video in pairs if labels.points is None else []:
            target, times = video["landmarks"], np.arange(len(track)) / _FPS
            truth = signals(target, labels.schema)
            seen = signals(labels.arranged(track, target), labels.schema, reference=target)
            responses.append(response(seen[name], truth[name], times, video["mask"]))
        moving = [one for one in responses if one.motion > 0]
        if moving:
            found[f"{name}, amplitude"] = float(np.mean([one.amplitude for one in moving]))
            found[f"{name}, lag (frames)"] = _FPS * float(np.mean([one.lag for one in moving]))
    return found


def _errors(track, video, labels):
    """(T, L) errors in eye distances, in the order in which landmarks are compared."""
    target = video["landmarks"]
    away = np.linalg.norm(labels.arranged(track, target) - target, axis=-1)
    left, right = labels.schema.eye_corners
    away /= np.linalg.norm(target[:, left] - target[:, right], axis=-1)[:, None]
    return away if labels.points is None else away[:, list(labels.points.values())]


def _rank(first, second):
    return float(scipy.stats.spearmanr(np.ravel(first), np.ravel(second)).statistic)


def _video(
    source: VideoSource, index: int, path: Path, ensemble: Ensemble, tracker: FaceTracker
) -> dict:
    """What the members and the tracker find in a video, and its labels, of the tracked frames."""
    marks = list(ensemble.marks)
    if path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            if arrays["marks"].tolist() == marks:
                return dict(arrays)
    parts, tracked, rows, batch, boxes, state = [], [], [], [], [], None
    annotation = source.annotation(index)
    for t, image in enumerate(source.frames(index)):
        frame, state = tracker.step(image, t / annotation["fps"], state)
        target = annotation["landmarks"][t]
        extent = np.concatenate([target.min(axis=0), target.max(axis=0)])
        there = [face for face in frame.faces if face.status != "lost"]
        if not there or not annotation["mask"][t]:
            continue
        face = max(there, key=lambda face: overlaps(face.box[None], extent[None])[0, 0])
        rows.append(t)
        tracked.append(face.points)
        batch.append(image)
        boxes.append(face.box)
        if len(batch) == AT_ONCE:
            parts.append(ensemble.find(batch, np.array(boxes)))
            batch, boxes = [], []
    if batch:
        parts.append(ensemble.find(batch, np.array(boxes)))
    video = {
        "points": np.concatenate([part.points for part in parts], axis=1),
        "spread": np.concatenate([part.spread for part in parts], axis=1),
        "tracked": np.array(tracked),
        "landmarks": annotation["landmarks"][rows].astype(np.float64),
        "mask": np.ones(len(rows), bool),
        "marks": np.array(marks),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **video)
    return video


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--videos", action="append", required=True, help="NAME:SPLIT, again for more of one schema")
    add("--data_dir", required=True, help="folder of the data sets")
    add("--output", type=Path, required=True, help="folder of the results")
    add("--members", type=names, default=names(MEMBERS), help="as of ldeq label")
    add("--tracker", default="faces-68", help="follows the face (faces-68)")
    add("--points", help="JSON, our landmark to that of the labels")
    add("--most", type=int, help="videos of each split at most")
    add("--strongest", type=float, default=STRONGEST, help="as of ldeq label")
    return parser


if __name__ == "__main__":
    main()
