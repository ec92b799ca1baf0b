"""How recurrence damps expressions at full, half and a quarter of a film's frame rate.

    JAX_PLATFORMS=cpu python -m benchmarks.frame_rates --dataset=wflw_v --split=easy --data_dir=DATA

Every frame, every second and every fourth frame of each video is given to the model. The opening of
mouth and eyes (`face.fidelity.signals`) with recurrence is regressed on the opening in the same
frames solved alone: a slope of 1 damps nothing. With settings in seconds all rates should have one
slope.
"""

import argparse
from collections.abc import Iterable, Iterator

import numpy as np

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.data.sources import VideoSource
from ldeq_jax.data.videos import VideoBatch, video_chunks
from ldeq_jax.evaluation.runner import run_methods
from ldeq_jax.face.fidelity import signals
from ldeq_jax.face.schema import get_schema
from ldeq_jax.mesh import use_all_cores
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.report.tables import markdown_table
from ldeq_jax.weights import load_model

STEPS = (1, 2, 4)
CHUNK = 32  # frames, a multiple of every step


def main() -> None:
    """Prints a table of slopes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="faces-68", metavar="MODEL")
    parser.add_argument("--dataset", required=True, help="of videos, as built")
    parser.add_argument("--split", required=True)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--crop", default="extent", help="as of ldeq evaluate")
    parser.add_argument("--fusion", default="geometric", help="arithmetic or geometric")
    parser.add_argument("--hold_seconds", type=float, default=0.04)
    parser.add_argument("--batch_size", type=int, default=8)
    options = parser.parse_args()
    use_all_cores()
    config, variables, _ = load_model(options.checkpoint)
    config = config.with_values({"data.crop": options.crop, "data.batch_size": options.batch_size})
    seconds = RwRConfig(hold_seconds=options.hold_seconds, fusion=options.fusion)
    penalty = 25 * options.hold_seconds
    per_frame = RwRConfig(penalty=penalty, follow=0.8, fusion=options.fusion)
    methods = {
        "alone": None,
        f"penalty {penalty:g}, follow 0.8": per_frame,
        f"hold_seconds {options.hold_seconds:g}, follow_seconds 0.01": seconds,
    }
    source = VideoSource(options.dataset, options.split, options.data_dir)
    schema, rows = get_schema(config.data.schema), []
    for step in STEPS:
        chunks = video_chunks(source, config.data, config.model.image_size, chunk_frames=CHUNK)
        found = dict(run_methods(config, variables, methods, every(chunks, step)))
        for name in list(methods)[1:]:
            row = {"frames": f"1 in {step}", "setting": name}
            for signal in ("mouth", "eyes"):
                pairs = (
                    [signals(tracks[n].points, schema)[signal] for n in ("alone", name)]
                    for tracks in found.values()
                )
                row[signal] = f"{slope(pairs):.3f}"
            rows.append(row)
    print(markdown_table(sorted(rows, key=lambda row: row["setting"], reverse=True)))


def every(chunks: Iterable[VideoBatch], step: int) -> Iterator[VideoBatch]:
    """The chunks with one frame in ``step`` left, and the seconds between those."""
    for chunk in chunks:
        frames = {
            name: getattr(chunk, name)[:, ::step] for name in ("image", "frame_from_crop", "mask")
        }
        # Where a video begins, or a face is seen again, there is no valid state to follow.
        reset = np.zeros_like(frames["mask"])
        yield chunk._replace(**frames, reset=reset, interval=chunk.interval[:, ::step] * step)


def slope(pairs: Iterable[list[np.ndarray]]) -> float:
    """Slope of the second signal of each pair (T, 1) on the first, over all pairs.

    Each pair has a constant of its own; frames with a NaN are left out.
    """
    covariance = variance = 0.0
    for x, y in pairs:
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known] - x[known].mean(), y[known] - y[known].mean()
        covariance += x @ y
        variance += x @ x
    return covariance / variance


if __name__ == "__main__":
    main()
