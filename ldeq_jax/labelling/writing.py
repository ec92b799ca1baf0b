"""The set of labelled videos as files, in the layout of WFLW-V: `write_set`."""

import collections
import csv
import dataclasses
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.errors import UserFileExistsError
from ldeq_jax.labelling.choice import EASY, HARD
from ldeq_jax.labelling.gathered import (
    MAKER,
    SETTINGS,
    UNFINISHED,
    Gathered,
    digests_of,
    read_record,
)
from ldeq_jax.labelling.label_report import label_page
from ldeq_jax.labelling.labels import Labelled, Labels
from ldeq_jax.labelling.review_choices import Choices, parse_choices
from ldeq_jax.labelling.work import Survey
from ldeq_jax.media.files import RECORD, replacing, write_whole
from ldeq_jax.report.html import write_page
from ldeq_jax.report.records import to_json
from ldeq_jax.report.style import printable
from ldeq_jax.report.versions import versions

_NOTICE = """\
`ldeq label` works here, or was broken off. Videos, labels and lists may be those of an earlier
call, or missing. Run the same command again: it goes on where it stopped. This file goes away when
all is done.
"""
COLUMNS = (
    *("id", "film", "face", "start_frame", "frames", "start_seconds", "seconds", "fps"),
    *("width", "height", "face_size", "brightness", "motion", "disagreement", "worst_frame"),
    *("smoothing", "decision", "reason", "list", "choice", "digest"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What was written.

    Attributes:
        folder: of the set.
        films: number of them.
        easy: number of easy windows.
        hard: of hard ones.
        dropped: of those that are not in the set.
        by_hand: of those that a person decided on.
        waiting: of choices made by hand for windows that there are not, such as those of films that
            were left out; the record keeps them.
        failed: why films failed, by their source.
        why_none: reasons why there are no windows, the most frequent first.
        schema: of the landmarks.
    """

    folder: Path
    films: int
    easy: int
    hard: int
    dropped: int
    by_hand: int
    waiting: int
    failed: Mapping[str, str]
    why_none: tuple[str, ...]
    schema: str


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that holds what others wrote.

    Raises:
        UserFileExistsError: it holds files that no earlier call wrote.
    """
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise UserFileExistsError(f"{above} is a file: choose another --output")
    ours = (folder / UNFINISHED).exists() or read_record(folder)["made_by"] == MAKER
    if folder.exists() and any(folder.iterdir()) and not ours and not overwrite:
        raise UserFileExistsError(
            f"{folder} holds files that ldeq label did not write: choose another --output, or "
            "--overwrite to write into it"
        )


def begin(folder: Path) -> None:
    """Makes the folder, and marks it as not finished.

    Raises:
        OSError: that cannot be done.
    """
    (folder / "work").mkdir(parents=True, exist_ok=True)
    write_whole(folder / UNFINISHED, _NOTICE.encode())


def write_set(
    folder: Path,
    gathered: Gathered,
    choices: Choices,
) -> Result:
    """Makes the labels, and writes the set; its folder is finished then.

    Args:
        folder: to write to, in whose `work` the videos are.
        gathered: what is known of the films.
        choices: made by hand.

    Raises:
        OSError: a file cannot be written.
        UserError: a window without labels is to be kept; nothing is written then.
    """
    digests = digests_of(gathered.surveys)
    words = choices.words(digests)
    labels = gathered.labels(words)
    begin(folder)
    sources, surveys, ensemble = gathered.sources, gathered.surveys, gathered.ensemble
    sides = {source: gathered.resize(source) for source in surveys}
    kept = {id: window for id, window in labels.windows.items() if window.kept}
    former = read_record(folder)
    written = [SETTINGS, "labels.csv", "report.html"]
    for id, window in kept.items():
        boxes = sides[sources[id]].boxes(window.window.boxes)
        names = [f"videos/{id}.mp4", f"landmarks/{id}.npy", f"bboxes/{id}.npy"]
        written += names
        _link(folder / "work" / f"{id}.mp4", folder / names[0])
        write_whole(folder / names[1], _npy(window.points.astype(np.float32)))
        write_whole(folder / names[2], _npy(boxes))
    lists = {split: [id for id in kept if kept[id].split == split] for split in (EASY, HARD)}
    for split, ids in lists.items():
        written.append(f"{split}_video_IDs.txt")
        write_whole(folder / written[-1], "".join(f"{id}\n" for id in ids).encode())
    sizes = {id: sides[source].size for id, source in sources.items()}
    rows = [
        row_of(id, window, sources[id], sizes[id]) | {"digest": digests[id]}
        for id, window in labels.windows.items()
    ]
    write_whole(folder / "labels.csv", _csv(rows))
    for name in set(former[RECORD]) - set(written):  # of windows that are not in the set any more
        if not Path(name).is_absolute() and ".." not in Path(name).parts:
            (folder / name).unlink(missing_ok=True)
    members = [member.name for member in ensemble.members]
    record = {
        "made_by": MAKER,
        "set": former["set"] or gathered.digest,  # its name for good, whatever is added
        "complete": not gathered.failed,
        "schema": ensemble.schema.name,
        "num_landmarks": ensemble.schema.num_landmarks,
        "windows": {
            **{split: len(ids) for split, ids in lists.items()},
            "dropped": len(labels.windows) - len(kept),
        },
        "members": dict(zip(members, ensemble.marks, strict=True)),
        "options": dataclasses.asdict(gathered.options),
        "films": {
            source: {
                "name": gathered.names[source],
                "frames": survey.frames,
                "windows": len(survey.windows),
            }
            for source, survey in surveys.items()
        },
        "failed": gathered.failed,
        "command": gathered.command,
        "choices": choices.with_digests(digests).lines(),
        "versions": versions(),
        RECORD: sorted(written),
    }
    page = label_page(
        folder / "work", labels, sources=sources, surveys=surveys, ensemble=ensemble, record=record
    )
    write_page(folder / "report.html", page)
    write_whole(folder / SETTINGS, to_json(record, indent=1).encode())
    (folder / UNFINISHED).unlink(missing_ok=True)  # the same call, made twice, may be done before
    return Result(
        folder=folder,
        films=len(surveys.keys() | gathered.failed.keys()),
        easy=len(lists[EASY]),
        hard=len(lists[HARD]),
        dropped=len(labels.windows) - len(kept),
        by_hand=len(words),
        waiting=len(choices.strangers(digests)),
        failed=gathered.failed,
        why_none=_why_none(labels, surveys),
        schema=ensemble.schema.name,
    )


def row_of(id: str, window: Labelled, source: str, size: tuple[int, int]) -> dict[str, Any]:
    """The row of a window in labels.csv."""
    part, measures = window.window, window.measures
    figures = {}
    if measures is not None:
        figures = {
            "face_size": round(measures.face, 1),
            "brightness": round(measures.brightness, 1),
            "motion": round(measures.motion, 4),
            "disagreement": round(measures.disagreement, 4),
            "worst_frame": round(measures.worst_frame, 4),
            "smoothing": round(float(np.median(window.strength)), 4),
        }
    row = dict.fromkeys(COLUMNS, "") | figures
    return row | {
        "id": id,
        "film": " ".join(printable(source).split("\n")),  # so that a window is a line
        "face": part.face,
        "start_frame": part.start,
        "frames": len(part),
        "start_seconds": round(float(part.times[0]), 4),
        "seconds": round(len(part) / part.fps, 4),
        "fps": round(part.fps, 4),
        "width": size[0],
        "height": size[1],
        "decision": "keep" if window.kept else "drop",
        "reason": window.reason,
        "list": window.split,
        "choice": window.choice,
    }


def _why_none(labels: Labels, surveys: Mapping[str, Survey]) -> tuple[str, ...]:
    """Why no window is kept, the most frequent reasons first; () if some are."""
    if any(window.kept for window in labels.windows.values()):
        return ()
    dropped = [f"{id}: {window.reason}" for id, window in labels.windows.items()]
    if dropped:
        return (f"all {len(dropped)} are dropped, {dropped[0]}",)
    ends: collections.Counter[str] = collections.Counter()
    for survey in surveys.values():
        ends.update(survey.ends)
    return tuple(f"too short, as {reason}" for reason, _ in ends.most_common(3))


def recorded_choices(folder: Path) -> Choices:
    """The choices that the set in a folder was last given.

    Raises:
        UserError: the record is damaged.
    """
    return parse_choices(read_record(folder)["choices"], str(folder / SETTINGS))


def _link(path: Path, to: Path) -> None:
    """Gives a file a second name, or copies it where file systems cannot do that."""
    with replacing(to) as partial:
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode("utf-8", "surrogateescape")
