"""Films made into a set of labelled videos, step after step: `label_films`."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ldeq_jax.errors import UserError, one_line
from ldeq_jax.inference.tracker import FaceTracker, Limits
from ldeq_jax.inference.video_file import cut_short
from ldeq_jax.labelling import work
from ldeq_jax.labelling.choice import Rules
from ldeq_jax.labelling.labels import label_windows
from ldeq_jax.labelling.members import AT_ONCE, Ensemble, load_ensemble
from ldeq_jax.labelling.smoothing import STRONGEST
from ldeq_jax.labelling.window_films import Resize, write_films
from ldeq_jax.labelling.windows import Cutting, Window, Windows
from ldeq_jax.labelling.work import Findings, Survey
from ldeq_jax.labelling.writing import Result, begin, check_folder, write_set
from ldeq_jax.media.films import Film
from ldeq_jax.media.video import VideoReader

MEMBERS = ("faces-68", "faces-68:mirrored", "faces-68:wider", "faces-68-tiny:mirrored")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How films are labelled.

    Attributes:
        members: of the ensemble, as `members.load_ensemble` takes them.
        tracker: name or folder of the model that follows the faces.
        limits: which faces are followed.
        cutting: what a window must be.
        side: of the written videos at most, pixels.
        per_film: number of windows of a film at most, evenly chosen; None for all.
        codec: of the written videos, see `window_films.write_films`.
        strongest: smoothing at most, see `smoothing.smooth`; 0 for none.
        rules: which windows are kept, and which are hard.
    """

    members: tuple[str, ...] = MEMBERS
    tracker: str = "faces-68"
    limits: Limits = dataclasses.field(default_factory=Limits)
    cutting: Cutting = dataclasses.field(default_factory=Cutting)
    side: int = 1280
    per_film: int | None = None
    codec: str | None = None
    strongest: float = STRONGEST
    rules: Rules = dataclasses.field(default_factory=Rules)

    def of_surveys(self) -> dict[str, Any]:
        """Those that the windows and their videos depend on."""
        chosen = ("tracker", "limits", "cutting", "side", "per_film", "codec")
        return {name: value for name, value in dataclasses.asdict(self).items() if name in chosen}


def label_films(
    films: Sequence[Film],
    folder: Path,
    options: Options,
    *,
    overwrite: bool = False,
    command: str = "",
) -> Result:
    """Labels films, and writes the set of their labelled videos.

    What an earlier call found for the same films, options and members is used again. A film that
    fails does not stop the others.

    Args:
        films: with names of their own, no cameras.
        folder: to write to.
        options: how.
        overwrite: replace files that no earlier call wrote.
        command: for the record.

    Returns:
        What was written, and which films failed.

    Raises:
        UserError: nothing can be begun, or a file of the set cannot be written.
    """
    if cameras := [film for film in films if film.file is None and not film.pictures]:
        raise UserError(f"{cameras[0].source} cannot be read twice: record a film of it first")
    check_folder(folder, overwrite)
    ensemble = load_ensemble(options.members)
    begin(folder)
    surveys, failed = _surveys(films, folder / "work", options)
    everything: dict[str, tuple[str, Window]] = {
        id: (source, window)
        for source, survey in surveys.items()
        for id, window in survey.windows.items()
    }
    found = {}
    bar = tqdm(everything.items(), unit="window", desc="labels", leave=False, disable=None)
    for id, (source, window) in bar:
        with _noting(failed, source):
            resize = Resize(*surveys[source].size, options.side)
            boxes = resize.boxes(window.boxes)
            found[id] = find(folder / "work" / f"{id}.mp4", boxes, ensemble)
    labelled = label_windows(
        {id: (everything[id][1], findings) for id, findings in found.items()},
        ensemble,
        options.rules,
        options.strongest,
    )
    return write_set(
        folder,
        labelled,
        sources={id: source for id, (source, _) in everything.items()},
        surveys=surveys,
        sides={source: Resize(*survey.size, options.side) for source, survey in surveys.items()},
        ensemble=ensemble,
        options=dataclasses.asdict(options),
        failed=failed,
        command=command,
    )


def find(video: Path, boxes: np.ndarray, ensemble: Ensemble) -> Findings:
    """What the members find in the video of a window; they are asked once for all calls.

    Args:
        video: of the window, in whose folder the result is kept.
        boxes: (T, 4) or longer, the extent of the face, pixels of the video.
        ensemble: the members.

    Raises:
        UserError: the video cannot be read, or has another number of frames.
    """
    kept = video.with_suffix(".npz")
    known = work.read_findings(kept, len(boxes))
    marks = ensemble.marks
    missing = [n for n, mark in enumerate(marks) if known is None or mark not in known.marks]
    if missing:
        found = _ask(video, boxes, ensemble.part(missing))
        known = found if known is None else known.plus(found)
        work.write_findings(kept, known)
    assert known is not None
    return known.of(marks)


def _ask(video: Path, boxes: np.ndarray, ensemble: Ensemble) -> Findings:
    """What all members find in the video of a window, a few frames held at a time."""
    parts, batch, brightness = [], [], []
    for index, frame in enumerate(VideoReader(video).frames()):
        if frame.image is None or index >= len(boxes):
            raise _changed(video)
        brightness.append(_brightness(frame.image, boxes[index]))
        batch.append(frame.image)
        if len(batch) == AT_ONCE:
            parts.append(ensemble.find(batch, boxes[index + 1 - len(batch) : index + 1, :4]))
            batch = []
    if len(brightness) != len(boxes):
        raise _changed(video)
    if batch:
        parts.append(ensemble.find(batch, boxes[-len(batch) :, :4]))
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=1)
        for name in ("points", "spread", "ok")
    }
    return Findings(marks=ensemble.marks, brightness=np.array(brightness), **arrays)


def _surveys(
    films: Sequence[Film], folder: Path, options: Options
) -> tuple[dict[str, Survey], dict[str, str]]:
    """The windows of all films, whose videos are there then; and why films failed."""
    surveys: dict[str, Survey] = {}
    failed: dict[str, str] = {}
    tracker: FaceTracker | None = None
    for number, (film, name) in enumerate(zip(films, work.film_names(films), strict=True), start=1):
        title = f"{number}/{len(films)} {name}" if len(films) > 1 else name
        with _noting(failed, film.source):
            path = folder / f"{name}.film.npz"
            mark = work.mark_of(film, options.of_surveys())
            before = work.read_survey(path)
            if before is not None and before[0] == mark:
                survey = before[1]
            else:
                if before is not None:  # its windows are of another film or other options
                    for id in before[1].windows:
                        for ending in (".mp4", ".npz"):
                            (folder / f"{id}{ending}").unlink(missing_ok=True)
                tracker = tracker or FaceTracker.load(options.tracker, limits=options.limits)
                survey = _survey(film, name, tracker, options, title)
                work.write_survey(path, mark, survey)
            videos = {folder / f"{id}.mp4": window for id, window in survey.windows.items()}
            missing = {path: window for path, window in videos.items() if not path.exists()}
            if missing:
                resize = Resize(*survey.size, options.side)
                frames = write_films(film, missing, resize, options.codec)
                for _ in _bar(frames, survey.frames, f"{title}, cut"):
                    pass
            surveys[film.source] = survey
    return surveys, failed


def _survey(film: Film, name: str, tracker: FaceTracker, options: Options, title: str) -> Survey:
    reader = film.open()
    windows = Windows(options.cutting)
    frames = _bar(tracker.track(reader), reader.header_frames or None, title)
    with contextlib.closing(frames):
        found = list(windows.find(frames))
    if short := cut_short(reader, windows.frames):
        print(short)
    found.sort(key=lambda window: (window.start, window.face))
    return Survey(
        windows={work.window_id(name, window): window for window in chosen(found, options)},
        size=(reader.width, reader.height),
        frames=windows.frames,
        unused=windows.unused,
        ends=dict(sorted(windows.ends.items())),
    )


def chosen(windows: list[Window], options: Options) -> list[Window]:
    """As many windows of a film as are wanted, evenly over the film."""
    count = len(windows) if options.per_film is None else min(options.per_film, len(windows))
    return [windows[(2 * n + 1) * len(windows) // (2 * count)] for n in range(count)]


def _bar(things: Any, total: int | None, title: str) -> Generator[Any]:
    with contextlib.closing(things):
        yield from tqdm(things, total=total, unit="frame", desc=title, leave=False, disable=None)


@contextlib.contextmanager
def _noting(failed: dict[str, str], source: str) -> Iterator[None]:
    """Notes why a film failed, the first reason if there are several."""
    try:
        yield
    except Exception as error:
        reason = one_line(error)
        if reason is None:
            raise
        failed.setdefault(source, reason)


def _brightness(image: np.ndarray, box: np.ndarray) -> float:
    """Mean grey level of a face."""
    low = np.clip(np.floor(box[:2]).astype(int), 0, None)
    high = np.maximum(np.ceil(box[2:4]).astype(int), low + 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    return float(part.mean()) if part.size else float(image.mean())


def _changed(video: Path) -> UserError:
    return UserError(
        f"{video} is damaged or was changed: delete it, and run the command again, which writes it "
        "again"
    )
