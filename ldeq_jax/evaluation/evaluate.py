"""One evaluation from end to end, on stills or on videos: measure on all hosts, write on the first.

Stills and videos have evaluators of one shape, `Evaluator`: it checks what it is given, measures on
every host, and returns `Results`, which the first host writes::

    metrics.json   the numbers, with the model, data, crop and solver that they are of
    table.md       the same for reading; it is printed, too
    report.html    all of it on one page that needs no other file
    *.csv          one row per face, or per video and setting
    *.png, ...     plots and drawings
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import jax

from ldeq_jax import hosts
from ldeq_jax.config import Config
from ldeq_jax.data.sources import kind_of
from ldeq_jax.evaluation.face_report import face_page
from ldeq_jax.evaluation.face_results import FaceResults
from ldeq_jax.evaluation.faces import FaceEvaluator, FaceOptions
from ldeq_jax.evaluation.video_report import video_page
from ldeq_jax.evaluation.video_results import VideoResults
from ldeq_jax.evaluation.videos import VideoEvaluator, VideoOptions
from ldeq_jax.media import files
from ldeq_jax.report import records
from ldeq_jax.report.html import Page, write_page
from ldeq_jax.report.versions import versions


class Results(Protocol):
    """What an evaluator has measured, the same on every host."""

    def record(self) -> dict[str, Any]:
        """All numbers, for metrics.json."""

    def tables(self) -> str:
        """Markdown, for table.md."""

    def notes(self) -> list[str]:
        """Sentences to print below the tables."""

    def write_rows(self, folder: Path) -> None:
        """Writes the CSV files."""

    def draw(self, folder: Path) -> None:
        """Writes plots and drawings in place of those of an earlier evaluation."""


class Evaluator(Protocol):
    """Checks its arguments when it is made, and measures in `measure`."""

    written: ClassVar[tuple[str, ...]]
    """Names of all files and folders that its results may write."""

    def description(self) -> str:
        """What is measured, for the line that is printed first."""

    def measure(self) -> Results:
        """Runs the model on all hosts."""


def evaluate(
    config: Config,
    variables: dict[str, Any],
    output: str | os.PathLike[str],
    *,
    faces: FaceOptions,
    videos: VideoOptions,
    about: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Evaluates a model on the data set of its config and writes the results.

    Args:
        config: the model's, with data and solver as wanted; `config.data.eval_split` is measured.
        variables: of the model.
        output: directory of the results, made when missing. What an earlier evaluation left there
            is replaced.
        faces: for a data set of stills.
        videos: for a data set of videos.
        about: for the record: checkpoint, step, command and the like; `step` is also printed.
        overwrite: also replace files that are not of an earlier evaluation.

    Raises:
        UserError: the data set has not been built, a file that is not of an evaluation would be
            replaced, or an evaluator refuses what it is given. Nothing is written then.
    """
    data, forward, output = config.data, config.model.forward, Path(output)
    evaluator: Evaluator
    if kind_of(data.name, data.data_dir) == "videos":
        files.check_outputs([output / name for name in VideoEvaluator.written], overwrite)
        evaluator = VideoEvaluator(config, variables, videos)
    else:
        files.check_outputs([output / name for name in FaceEvaluator.written], overwrite)
        evaluator = FaceEvaluator(config, variables, faces)
    hosts.print_once(
        f"{evaluator.description()}, crop {data.crop} x {data.crop_scale}, model of step "
        f"{about.get('step')}, {forward.method} for at most {forward.max_steps} steps or to "
        f"{forward.tol:g}, on {jax.device_count()} {jax.default_backend()} device(s)"
    )
    if hosts.is_first():
        output.mkdir(parents=True, exist_ok=True)  # or fail before anything is computed
    results = evaluator.measure()
    if hosts.is_first():
        record = {
            **about,
            files.RECORD: sorted({*FaceEvaluator.written, *VideoEvaluator.written}),
            "dataset": data.name,
            "split": data.eval_split,
            "crop": {"rule": data.crop, "scale": data.crop_scale},
            "solver": dataclasses.asdict(forward),
            "dtype": config.model.dtype,
            "versions": versions(),
            **results.record(),
        }
        write(results, record, output)
        write_page(output / "report.html", _page(results, record, output))
        print(f"wrote {output}/: {', '.join(sorted(path.name for path in output.iterdir()))}")


def _page(results: Results, record: Mapping[str, Any], folder: Path) -> Page:
    if isinstance(results, VideoResults):
        return video_page(results, record, folder)
    assert isinstance(results, FaceResults)
    return face_page(results, record, folder)


def write(results: Results, record: Mapping[str, Any], output: Path) -> None:
    """Writes the results, but for the report, and prints the tables.

    Args:
        results: what was measured.
        record: for metrics.json.
        output: directory.
    """
    tables = results.tables()
    text = records.to_json(record, indent=1) + "\n"
    (output / "metrics.json").write_text(text, encoding="utf-8")
    (output / "table.md").write_text(tables, encoding="utf-8")
    print("\n".join(["", tables, *results.notes()]))
    results.write_rows(output)
    results.draw(output)
