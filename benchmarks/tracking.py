"""What a detector in the loop costs: landmarks of `FaceTracker` against those of known boxes.

    python benchmarks/tracking.py FOLDER --schema=fgnet_68 --points=FGNET_TO_IBUG.json
    python benchmarks/tracking.py examples/wflw_v --points=OURS_TO_WFLW.json

FOLDER has films of one face each in WFLW-V's layout: videos/ID.mp4, landmarks/ID.npy, and
bboxes/ID.npy with the extent of the labels. The same model sees each film with every crop at the
labels' box; followed from the first of these boxes; and with no box, where the face is detected
every so many frames. A line per method: how many frames have the face, the number of ids, the NME
(without the mean difference between labels and predictions, of each method) and the NMF.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.evaluation.labels import Labels, mean_offset, read_points
from ldeq_jax.face.schema import get_schema
from ldeq_jax.face.video_metrics import nmf, video_nme
from ldeq_jax.inference.follower import Follower
from ldeq_jax.inference.pictures import on_device
from ldeq_jax.inference.tracker import FaceTracker, Limits
from ldeq_jax.inference.tracks import follow
from ldeq_jax.media.video import VideoReader
from ldeq_jax.report.tables import markdown_table
from ldeq_jax.weights import load_model


def tracked(tracker: FaceTracker, reader: VideoReader) -> tuple[np.ndarray, int]:
    """(T, K, 2) landmarks of the first face of a film, NaN where it is lost, and number of ids."""
    points, ids = [], set()
    for frame in tracker.track(reader):
        ids |= {face.id for face in frame.faces}
        first = [face.points for face in frame.faces if face.id == 0]
        points.append(
            first[0] if first else np.full((tracker.config.model.num_landmarks, 2), np.nan)
        )
    return np.array(points), len(ids)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="films and labels")
    parser.add_argument("--checkpoint", default="faces-68", help="model (faces-68)")
    parser.add_argument("--schema", default="wflw_98", help="of the labels (wflw_98)")
    parser.add_argument("--points", required=True, help="JSON, our landmark to that of the labels")
    parser.add_argument("--every", default="1,5,10,25", help="frames between detections")
    options = parser.parse_args()

    config, variables, _ = load_model(options.checkpoint)
    variables = on_device(variables)
    theirs = get_schema(options.schema)
    points = read_points(options.points, get_schema(config.data.schema), theirs)
    pinned = Follower(config, variables, config.rwr, crop_at_boxes=True)
    freely = Follower(config, variables, config.rwr)
    trackers = {
        f"detected every {every} frames": FaceTracker(
            config, variables, limits=Limits(detect_every=int(every))
        )
        for every in json.loads(f"[{options.every}]")
    }
    found: dict[str, list[tuple[np.ndarray, int]]] = {}
    targets = []
    for path in sorted((options.folder / "videos").glob("*.mp4")):
        reader = VideoReader(path)
        boxes = np.load(options.folder / "bboxes" / f"{path.stem}.npy")[:, :4]
        targets.append(np.load(options.folder / "landmarks" / f"{path.stem}.npy"))
        images = [image for image, _ in reader.frames()]
        for name, follower, given in (
            ("every crop at the labels' box", pinned, list(boxes)),
            ("followed from the first box", freely, [boxes[0], *[None] * (len(boxes) - 1)]),
        ):
            track = follow({"it": follower}, images, given, reader.fps)["it"]
            found.setdefault(name, []).append((track.landmarks.points, 1))
        for name, tracker in trackers.items():
            found.setdefault(name, []).append(tracked(tracker, reader))
        print(path.stem, {name: films[-1][1] for name, films in found.items()}, flush=True)

    rows = []
    for name, films in found.items():
        masks = [np.isfinite(track).all(axis=(1, 2)) for track, _ in films]
        annotated = [
            (track, {"landmarks": target, "mask": mask})
            for (track, _), target, mask in zip(films, targets, masks, strict=True)
        ]
        labels = mean_offset(annotated, Labels(schema=theirs, points=points))
        scores = []
        for track, video in annotated:
            arranged = labels.arranged(track, video["landmarks"])
            values = arranged[None], video["landmarks"][None], video["mask"][None]
            counted = {"landmarks": labels.counted}
            error = video_nme(*values, eye_corners=theirs.eye_corners, **counted)
            scores.append([error[0], nmf(*values, **counted)[0]])
        nme, flicker = np.nanmean(scores, axis=0)
        rows.append(
            {
                "method": name,
                "frames with the face": f"{sum(map(np.sum, masks))} of {sum(map(len, masks))}",
                "ids": sum(ids for _, ids in films),
                "NME (%)": 100 * nme,
                "NMF": flicker,
            }
        )
    print("\n" + markdown_table(rows), end="")


if __name__ == "__main__":
    main()
