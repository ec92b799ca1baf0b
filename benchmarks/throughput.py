r"""How many frames a second `ldeq track` works through: read, detect, track, write and draw.

    python -m benchmarks.throughput --checkpoints=faces-68,faces-68-tiny

Films of moving portraits of `examples/`, 640x360 with one face and 1280x720 with two, H.264, are
tracked with and without a drawing, as the command does it. Each is tracked once before, so that
nothing is compiled while it counts, then in rounds over all; a line for each has the median of the
frames per second. Reading the model counts, starting Python does not.
"""

import argparse
import contextlib
import io
import itertools
import tempfile
import time
from pathlib import Path

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

import cv2
import numpy as np

from benchmarks import latency
from ldeq_jax.cli.options import count, names
from ldeq_jax.inference.track_films import Options, track_films
from ldeq_jax.media.films import Film
from ldeq_jax.media.writer import write_video
from ldeq_jax.report.tables import markdown_table

FILMS = {1: ("640x360, one face", 2), 2: ("1280x720, two faces", 1)}  # name, reduced by


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--checkpoints", type=names, default=["faces-68", "faces-68-tiny"], help="our models")
    add("--faces", choices=("1", "2", "1,2"), default="1,2", help="of the films (1,2)")
    add("--frames", type=count, default=1000, help="of each film (1000)")
    add("--rounds", type=count, default=3, help="how often each is measured (3)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        films = {}
        for faces in map(int, options.faces.split(",")):
            name, reduced = FILMS[faces]
            size = latency.WIDTH // reduced, latency.HEIGHT // reduced
            some = [
                cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                for image in latency.film(faces, 100)
            ]
            there_and_back = itertools.cycle([*some, *some[-2:0:-1]])
            path = Path(folder) / f"{faces}.mp4"
            write_video(path, itertools.islice(there_and_back, options.frames), 25)
            films[name] = Film(source=str(path), name=Path(path.stem))
        ways = [
            (name, checkpoint, overlay)
            for name in films
            for checkpoint in options.checkpoints
            for overlay in (False, True)
        ]
        rates: dict[tuple[str, str, bool], list[float]] = {way: [] for way in ways}
        for turn in range(options.rounds + 1):
            for way in ways:
                name, checkpoint, overlay = way
                how = Options(checkpoint=checkpoint, overlay=overlay)
                seconds = _tracked(films[name], Path(folder) / "out", how)
                if turn:
                    rates[way].append(options.frames / seconds)
    rows = [
        {
            "film": name,
            "model": checkpoint,
            "drawing": "yes" if overlay else "no",
            "frames a second": float(np.median(rates[name, checkpoint, overlay])),
        }
        for name, checkpoint, overlay in ways
    ]
    print(markdown_table(rows), end="")


def _tracked(source: Film, folder: Path, options: Options) -> float:
    """Seconds that a film takes."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        begin = time.perf_counter()
        failed = track_films([source], folder, options, overwrite=True)
        seconds = time.perf_counter() - begin
    if failed:
        raise RuntimeError(str(failed))
    return seconds


if __name__ == "__main__":
    main()
