"""Films, tracked one after another: tables, drawings and reports of all faces: `track_films`."""

import collections
import contextlib
import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ldeq_jax.errors import UserError, UserWriteError, one_line
from ldeq_jax.face.online import SETTINGS, Online
from ldeq_jax.face.schema import get_schema
from ldeq_jax.inference.drawing import Drawing
from ldeq_jax.inference.film_summary import FilmSummary, Tally
from ldeq_jax.inference.pictures import on_device
from ldeq_jax.inference.smoothing import Alone, Filtered
from ldeq_jax.inference.track_index import check_index, write_index
from ldeq_jax.inference.track_report import film_page
from ldeq_jax.inference.track_tables import Tables, is_done, is_of
from ldeq_jax.inference.tracker import FaceTracker, Limits, Seen, TrackedFrame
from ldeq_jax.inference.video_file import cut_short
from ldeq_jax.media import files
from ldeq_jax.media.film_writer import open_film
from ldeq_jax.media.films import Film
from ldeq_jax.media.pipeline import Behind
from ldeq_jax.media.video import CameraStoppedError, Frame, VideoReader
from ldeq_jax.model.rwr import RwRConfig
from ldeq_jax.report.draw import draw_tracks
from ldeq_jax.report.html import write_page
from ldeq_jax.report.overlay import tracks_side_by_side
from ldeq_jax.report.records import to_json
from ldeq_jax.weights import load_model

STRENGTHS = {"light": 0.5, "normal": 1.0, "strong": 2.0}  # of the model's time constants


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How films are tracked, and what is written of them.

    Attributes:
        checkpoint: name or folder of the model.
        smooth: "rwr", recurrence; "none", each frame alone; or a filter of those, by its name in
            `face.online.SETTINGS`.
        strength: a key of `STRENGTHS`.
        limits: which faces are tracked, and for how long.
        start: seconds of a film before which frames are left out.
        end: seconds from which frames are left out; None for the film's end.
        stride: every so many frames one is used.
        max_frames: number of frames to use at most; None for all.
        overlay: whether a drawing is made.
        side_by_side: whether it shows each frame alone too, on its left.
        json: whether JSON lines are written.
        report: whether a report is written.
        codec: of the drawing: "h264", with sound, by `media.film_writer`; others by
            `media.writer.open_writer`; None for h264 where PyAV is installed, else vp09.
    """

    checkpoint: str = "faces-68"
    smooth: str = "rwr"
    strength: str = "normal"
    limits: Limits = dataclasses.field(default_factory=Limits)
    start: float = 0.0
    end: float | None = None
    stride: int = 1
    max_frames: int | None = None
    overlay: bool = True
    side_by_side: bool = False
    json: bool = False
    report: bool = False
    codec: str | None = None

    def outputs(self, folder: Path, film: Film) -> list[Path]:
        """The files that are written of a film, that of the numbers first."""
        endings = [".npz", ".csv", *[".jsonl"] * self.json, *[".html"] * self.report]
        endings += [".mp4"] * self.overlay
        place = folder / film.name
        return [place.with_name(place.name + ending) for ending in endings]

    @property
    def with_sound(self) -> bool:
        """Whether drawings have sound."""
        if self.codec is None:
            return importlib.util.find_spec("av") is not None
        return self.codec == "h264"

    def text(self) -> str:
        """The settings that the numbers depend on, as JSON."""
        settings = dataclasses.asdict(self)
        for name in ("overlay", "side_by_side", "json", "report", "codec"):
            del settings[name]
        return to_json(dict(sorted(settings.items())))


def track_films(
    films: Sequence[Film],
    folder: Path,
    options: Options,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, str]:
    """Tracks the faces of films, and writes the tables, drawings and reports of each.

    Prints what is found. A film that fails does not stop the others. What is found of a film until
    Ctrl-C or SIGTERM is kept.

    Args:
        films: with names of their own.
        folder: to write to.
        options: how.
        resume: leave out films that were tracked to their end with the same options, and were not
            replaced since.
        overwrite: replace files that no earlier call wrote.
        command: for the reports.

    Returns:
        What failed, and why, by the film's source.

    Raises:
        UserError: nothing can be begun: an option, the model or the folder is of no use.
    """
    if options.overlay and options.codec == "h264":
        importlib.import_module("av")  # or it is said what to install
    if options.side_by_side and (options.smooth == "none" or not options.overlay):
        other = "--no_overlay" if not options.overlay else "--smooth=none"
        raise UserError(f"--side_by_side and {other} exclude each other")
    if options.end is not None and options.end <= options.start:
        raise UserError(f"--end={options.end:g} must be later than --start={options.start:g}")
    if options.report and len(films) > 1:
        check_index(films, folder, overwrite)
    waiting, reports = [], {}
    for film in films:
        outputs = options.outputs(folder, film)
        source = Path(film.source)
        if source.exists() and any(path.exists() and path.samefile(source) for path in outputs):
            raise UserError(
                f"{film.source} would be replaced by its drawing: choose another --output"
            )
        files.check_outputs(outputs, overwrite)
        if options.report and len(films) > 1:
            reports[film.source] = outputs
        done = resume and is_done(outputs[0], options.text())
        done = done and all(path.exists() for path in outputs)
        if done and is_of(outputs[0], film.fingerprint()):
            print(f"{film.source}: done before")
            continue
        if done:
            print(f"{film.source}: not the film that was tracked before, so it is tracked again")
        waiting.append((film, outputs))
    if not waiting:
        write_index(reports, folder, command)
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserWriteError(f"cannot write to the folder {folder}")
    config, variables, step = load_model(options.checkpoint)
    recurrence = recurrence_of(config.rwr, options)
    variables = on_device(variables)  # once for all
    tracker = FaceTracker(config, variables, recurrence, limits=options.limits)
    method = _Method(tracker, options, Alone(config, variables) if options.side_by_side else None)
    schema = get_schema(config.data.schema)
    failed: dict[str, str] = {}
    try:
        for number, (film, outputs) in enumerate(waiting, start=1):
            title = (
                f"{number}/{len(waiting)} {film.name.name}" if len(waiting) > 1 else film.name.name
            )
            try:
                with _opencv_in_one_thread():
                    _track_film(film, outputs, method, schema, options, step, title, command)
            except Exception as error:
                reason = one_line(error)
                if reason is None:
                    raise
                failed[film.source] = reason
    finally:  # after Ctrl-C too
        write_index(reports, folder, command, failed)
    return failed


def recurrence_of(config: RwRConfig, options: Options) -> RwRConfig | None:
    """How frames depend on each other: as the model's config says, held more or less firmly."""
    if options.smooth != "rwr":
        return None
    factor = STRENGTHS[options.strength]

    def times(value):
        if isinstance(value, tuple):
            return tuple(factor * number for number in value)
        return None if value is None else factor * value

    names = ("hold_seconds", "penalty", "follow_seconds")
    return dataclasses.replace(config, **{name: times(getattr(config, name)) for name in names})


class _Method:
    """A tracker, with a filter of what it finds, and each frame alone to compare with.

    Args:
        tracker: with recurrence or without.
        options: `smooth`, `strength` and `side_by_side`.
        alone: to compare recurrence with.
    """

    def __init__(self, tracker: FaceTracker, options: Options, alone: Alone | None):
        self._tracker, self._alone, self._options = tracker, alone, options
        self._filter: Filtered | None = None
        if options.smooth in SETTINGS:
            settings = SETTINGS[options.smooth][options.strength]
            self._filter = Filtered(Online(options.smooth, settings))

    def look_ahead(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Seen], None, None]:
        """See `FaceTracker.look_ahead`."""
        return self._tracker.look_ahead(frames)

    def step(
        self, frame: Frame, seen: Seen, memory: Any
    ) -> tuple[TrackedFrame, dict[Any, Any], Any]:
        """The faces of the next frame, what is drawn of them, and what the next step needs."""
        state, runs, others = memory or (None, None, None)
        found, state = self._tracker.step(frame.image, frame.time, state, seen)
        apart = _points(found)
        if self._filter is not None:
            found, runs = self._filter.step(found, runs)
        elif self._alone is not None:
            apart, others = self._alone.step(found, others)
        shown: dict[Any, Any] = _points(found)
        if self._options.side_by_side:
            name = "RwR" if self._options.smooth == "rwr" else self._options.smooth
            shown = {"each frame alone": apart, name: shown}
        return found, shown, (state, runs, others)


def _points(frame: TrackedFrame) -> dict[int, np.ndarray]:
    """The landmarks of the faces that are found in a frame, by their ids."""
    return {face.id: face.points for face in frame.faces if face.status != "lost"}


@contextlib.contextmanager
def _opencv_in_one_thread() -> Iterator[None]:
    """Leaves the other cores to the model: reading and detection have a thread of their own."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _track_film(film, outputs, method, schema, options, step, title, command):
    """Tracks one film and writes its files."""
    reader = film.open()
    about = {
        "source": film.source,
        "fingerprint": film.fingerprint(),
        "settings": options.text(),
        "step": step,
        "schema": schema.name,
        "fps": np.float32(reader.fps),
        "size": (reader.width, reader.height),
    }
    tally, stopped, short = Tally(), None, ""
    summary = None
    if options.report:
        summary = FilmSummary(schema, options.limits.detect_every, draw_tracks)
    with contextlib.ExitStack() as stack:
        tables = stack.enter_context(Tables(outputs, schema.num_landmarks, about))
        drawing = None
        if options.overlay:
            rate, written = reader.fps / options.stride, None
            if options.with_sound:
                written = open_film(outputs[-1], rate, sound=film.file)
            drawing = Drawing(
                outputs[-1],
                reader,
                schema,
                codec=options.codec or "vp09",
                draw=tracks_side_by_side if options.side_by_side else draw_tracks,
                leave_out=True,
                rate=rate,
                film=written,
            )
            stack.enter_context(drawing)
        behind = stack.enter_context(Behind())
        chosen, memory = _Chosen(reader, options), None
        try:
            frames = stack.enter_context(contextlib.closing(method.look_ahead(chosen)))
            for frame, seen in tqdm(
                frames, total=chosen.total, unit="frame", desc=title, leave=False
            ):
                found, shown, memory = method.step(frame, seen, memory)
                behind.do(tables.add, chosen.numbers.popleft(), found)
                tally.add(found)
                if summary is not None:
                    behind.do(summary.add, found)
                if drawing is not None:
                    behind.do(drawing.add, found, shown)
            if chosen.to_the_end and (short := cut_short(reader, chosen.read)):
                print(short)
        except (KeyboardInterrupt, SystemExit, CameraStoppedError) as error:
            stopped = error
        behind.wait()
        if not tally.frames:
            raise stopped or UserError(
                f"{film.source} has no frame from --start on and before --end"
            )
        tables.finish(complete=stopped is None, cut_short=bool(short))
        if drawing is not None:
            drawing.finish([], {})
        if summary is not None:
            about |= {"complete": stopped is None, "checkpoint": options.checkpoint}
            about |= {"name": film.name, "command": command, "codec": options.codec}
            about["trouble"] = [short] * bool(short)
            about["trouble"] += [] if drawing is None else drawing.failed
            drawn = outputs[-1] if drawing is not None and not drawing.failed else None
            [path] = [path for path in outputs if path.suffix == ".html"]
            write_page(path, film_page(summary, schema, about, drawn))
    if stopped is not None:
        print(f"{film.source}: broken off; what was found in {tally.frames} frames is kept")
        raise stopped
    print(f"{film.source}: {tally}")
    if drawing is not None and drawing.sound not in ("none", "copied"):
        print(f"{film.source}: its sound ({drawing.sound}) cannot be kept in an .mp4 file")
    if drawing is not None and drawing.left_out:
        print(
            f"{film.source}: {drawing.left_out} frames are left out of the drawing, whose rate is "
            "constant; the tables have all"
        )
    if drawing is not None and drawing.failed:
        raise UserWriteError("; ".join(drawing.failed) + "; the tables are there")


class _Chosen:
    """The frames of a film that are to be used, read once.

    Attributes:
        total: how many there will be, by the header; None where it says nothing.
        numbers: of the frames that were handed out, in the film; to be taken away.
        read: number of frames that were read.
        to_the_end: whether the film was read to its end.
    """

    def __init__(self, reader: VideoReader, options: Options):
        self._reader, self._options = reader, options
        self.numbers: collections.deque[int] = collections.deque()
        self.read, self.to_the_end = 0, False
        self.total = reader.header_frames or None
        if self.total is not None:
            end = self.total
            if options.end is not None:
                end = min(end, round(options.end * reader.fps))
            self.total = max(0, end - round(options.start * reader.fps)) // options.stride
        if options.max_frames is not None:
            self.total = min(options.max_frames, self.total or options.max_frames)

    def __iter__(self) -> Iterator[Frame]:
        options, first, used = self._options, None, 0
        for index, frame in enumerate(self._reader.frames()):
            self.read = index + 1
            if frame.time < options.start:
                continue
            if options.end is not None and frame.time >= options.end:
                return
            first = index if first is None else first
            if (index - first) % options.stride:
                continue
            self.numbers.append(index)
            yield frame
            used += 1
            if used == options.max_frames:
                return
        self.to_the_end = True
