"""Why recurrence works: convergence, number of equilibria, gain by degradation, and its parts.

    ldeq build moving_faces/easy --manual_dir=DATA/ibug_300w/1.0.0 --data_dir=DATA
    JAX_PLATFORMS=cpu python -m benchmarks.why --checkpoint faces-68 --data_dir=DATA --output=OUT

Crops of clips with exact labels are made worse step by step. All that is measured is written to
why.json, with plots beside it; docs/why.md says what it means. A second checkpoint is measured on
the same frames.
"""

import argparse
import time
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from benchmarks import why_plots
from benchmarks.degraded import Clips, blur, cover, noise, read_clips
from benchmarks.equilibria import explore, summary
from benchmarks.gains import Tracker, gain, parts
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.mesh import use_all_cores
from ldeq_jax.report.records import to_json
from ldeq_jax.report.tables import markdown_table
from ldeq_jax.weights import load_model

CONDITIONS = {
    "sharp": noise(0),
    "blurred": blur(4),
    "noisy": noise(40),
    "covered": cover(0.2),
}
LEVELS = {
    "noise": {level: noise(level) for level in (10, 20, 40)},
    "covered": {level: cover(level / 100) for level in (10, 20, 30)},
}
TAKEN_APART = (("noise", 40), ("covered", 20))


def main() -> None:
    """Measures, writes, and prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", nargs="+", required=True, help="one model or two")
    parser.add_argument("--data_dir", default="", help="folder of the built data sets")
    parser.add_argument("--dataset", default="moving_faces/easy")
    parser.add_argument("--split", default="test_common[:12]", help="clips; 4 or more")
    parser.add_argument("--crop", default="extent", help="crop rule, as of `ldeq evaluate`")
    parser.add_argument("--frames", type=int, default=25, help="frames of each clip, 5 or more")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    given = parser.parse_args()
    if given.frames < 5:
        parser.error("--frames must be 5 or more")
    use_all_cores(len(VideoSource(given.dataset, given.split, given.data_dir)))
    found = {}
    for name in given.checkpoint:
        start = time.perf_counter()
        config, variables, _ = load_model(name)
        values = {"name": given.dataset, "data_dir": given.data_dir, "crop": given.crop}
        config = config.with_values({f"data.{key}": value for key, value in values.items()})
        clips = read_clips(config, given.split, given.frames)
        tracker = Tracker(config, variables, len(clips.videos))
        equilibria = {
            what: frames(tracker, clips.degraded(degrade)) for what, degrade in CONDITIONS.items()
        }
        found[name] = {"equilibria": equilibria, **gains(tracker, clips)}
        print(f"{name}: {time.perf_counter() - start:.0f} s")
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "why.json").write_text(to_json(found, indent=1) + "\n", encoding="utf-8")
    why_plots.draw(given.output, found)
    print_tables(found)


def frames(tracker: Tracker, clips: Clips) -> dict:
    """Iterates from many starts in two frames of each clip; see `equilibria.summary`."""
    half = (clips.image.shape[1] - 1) // 2
    found = []
    for number, first in enumerate((0, half)):
        _, state = tracker(clips.part(first, first + half), tracker.recurrence)
        now = clips.part(first + half, first + half + 1)
        found.append(explore(tracker, now, state, seed=number))
    return summary(found)


def gains(tracker: Tracker, clips: Clips) -> dict:
    """Recurrence against filters at each amount of degradation, and some of them in parts."""
    rows, configs = gain(tracker, clips)
    by_level = {kind: {0: rows} for kind in LEVELS}
    in_parts = {"sharp": parts(tracker, clips, configs)}
    for kind, levels in LEVELS.items():
        for level, degrade in levels.items():
            worse = clips.degraded(degrade)
            rows, configs = gain(tracker, worse)
            by_level[kind][level] = rows
            if (kind, level) in TAKEN_APART:
                in_parts[f"{kind} {level}"] = parts(tracker, worse, configs)
    return {"gain": by_level, "parts": in_parts}


def print_tables(found: dict) -> None:
    """The tables of docs/why.md."""
    for model, measured in found.items():
        print(f"\n{model}\n")
        for part in ("ends", "map"):
            rows = [{"frames": name} | of[part] for name, of in measured["equilibria"].items()]
            print(markdown_table(rows))
        for kind, levels in measured["gain"].items():
            rows = [
                {kind: str(level)} | {method: cell(of) for method, of in methods.items()}
                for level, methods in levels.items()
            ]
            print(markdown_table(rows))
        apart = measured["parts"]
        rows = [
            {"method": method} | {what: cell(rows[method]) for what, rows in apart.items()}
            for method in next(iter(apart.values()))
        ]
        print(markdown_table(rows))


def cell(row: dict) -> str:
    """NME / NMF, and the change of the NMF against the filter."""
    change, low, high = row["change"]
    text = f"{row['nme']:.2f} / {row['nmf']:.0f}"
    return text if change == 0 else f"{text} ({change:+.0f} [{low:+.0f}, {high:+.0f}])"


if __name__ == "__main__":
    main()
