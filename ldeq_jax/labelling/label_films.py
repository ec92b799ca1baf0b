"""Films made into a set of labelled videos, step after step: `label_films`, `apply_choices`."""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ldeq_jax.errors import UserError, one_line
from ldeq_jax.inference.tracker import FaceTracker
from ldeq_jax.inference.video_file import cut_short
from ldeq_jax.labelling import work
from ldeq_jax.labelling.gathered import (
    MEMBERS_FILE,
    Gathered,
    digests_of,
    read_record,
    recall,
)
from ldeq_jax.labelling.members import AT_ONCE, Ensemble, load_ensemble, write_ensemble
from ldeq_jax.labelling.options import Options
from ldeq_jax.labelling.review_choices import Choices
from ldeq_jax.labelling.window_films import Resize, write_films
from ldeq_jax.labelling.windows import Window, Windows
from ldeq_jax.labelling.work import Findings, Survey
from ldeq_jax.labelling.writing import Result, begin, check_folder, recorded_choices, write_set
from ldeq_jax.media.films import Film
from ldeq_jax.media.video import VideoReader


def label_films(
    films: Sequence[Film],
    folder: Path,
    options: Options,
    *,
    choices: Choices | None = None,
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
        choices: made by hand; None for those that the folder's set was last given.
        overwrite: replace files that no earlier call wrote.
        command: for the record.

    Returns:
        What was written, and which films failed.

    Raises:
        UserError: nothing can be begun, a file of the set cannot be written, or one of the choices
            given is for a window that there is not.
    """
    if cameras := [film for film in films if film.file is None and not film.pictures]:
        raise UserError(f"{cameras[0].source} cannot be read twice: record a film of it first")
    check_folder(folder, overwrite)
    ensemble = load_ensemble(options.members)
    record = read_record(folder)
    begin(folder)
    former = {source: film["name"] for source, film in record["films"].items() if "name" in film}
    names = work.film_names(films, former)
    surveys, failed = _surveys(films, names, folder / "work", options)
    if choices is not None:
        choices.check(digests_of(surveys), recorded_choices(folder))
    found = {}
    everything = [(s, id, w) for s, survey in surveys.items() for id, w in survey.windows.items()]
    bar = tqdm(everything, unit="window", desc="labels", leave=False, disable=None)
    for source, id, window in bar:
        with _noting(failed, source):
            boxes = Resize(*surveys[source].size, options.side).boxes(window.boxes)
            found[id] = find(folder / "work" / f"{id}.mp4", boxes, ensemble)
    write_ensemble(folder / MEMBERS_FILE, ensemble)
    gathered = Gathered(
        surveys=surveys,
        names={film.source: name for film, name in zip(films, names, strict=True)},
        found=found,
        ensemble=ensemble,
        options=options,
        failed=failed,
        command=command,
    )
    return write_set(folder, gathered, recorded_choices(folder) if choices is None else choices)


def apply_choices(folder: Path, choices: Choices) -> Result:
    """Writes a set again as people want it, from what it holds: without films, without models.

    Args:
        folder: of a set that `label_films` finished.
        choices: made by hand.

    Raises:
        UserError: there is no such set, its folder `work` is not complete any more, or a choice is
            for a window that there is not. The set stays as it was.
    """
    gathered = recall(folder)
    choices.check(digests_of(gathered.surveys), recorded_choices(folder))
    return write_set(folder, gathered, choices)


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
    films: Sequence[Film], names: Sequence[str], folder: Path, options: Options
) -> tuple[dict[str, Survey], dict[str, str]]:
    """The windows of all films, whose videos are there then; and why films failed."""
    surveys: dict[str, Survey] = {}
    failed: dict[str, str] = {}
    tracker: FaceTracker | None = None
    for number, (film, name) in enumerate(zip(films, names, strict=True), start=1):
        title = f"{number}/{len(films)} {name}" if len(films) > 1 else name
        with _noting(failed, film.source):
            path = folder / work.survey_file(name)
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
                survey = _survey(film, name, tracker, options, title, work.fingerprint_of(mark))
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


def _survey(
    film: Film, name: str, tracker: FaceTracker, options: Options, title: str, fingerprint: str
) -> Survey:
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
        film=fingerprint,
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
