"""The set of labelled videos as files, in the layout of WFLW-V: `write_set`."""

import collections
import csv
import dataclasses
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.errors import UserFileExistsError
from ldeq_jax.labelling.choice import EASY, HARD
from ldeq_jax.labelling.label_report import label_page
from ldeq_jax.labelling.labels import Labelled, Labels
from ldeq_jax.labelling.members import Ensemble
from ldeq_jax.labelling.window_films import Resize
from ldeq_jax.labelling.work import Survey
from ldeq_jax.media.files import RECORD, replacing, write_whole
from ldeq_jax.report.html import write_page
from ldeq_jax.report.records import to_json
from ldeq_jax.report.versions import versions

SETTINGS, UNFINISHED, MAKER = "settings.json", "UNFINISHED.txt", "ldeq label"
_NOTICE = """\
`ldeq label` works here, or was broken off. Videos, labels and lists may be those of an earlier
call, or missing. Run the same command again: it goes on where it stopped. This file goes away when
all is done.
"""
COLUMNS = (
    *("id", "film", "face", "start_frame", "frames", "start_seconds", "seconds", "fps"),
    *("width", "height", "face_size", "brightness", "motion", "disagreement", "worst_frame"),
    *("smoothing", "decision", "reason", "list"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What was written.

    Attributes:
        folder: of the set.
        easy: number of easy windows.
        hard: of hard ones.
        dropped: of those that are not in the set.
        failed: why films failed, by their source.
        why_none: reasons why there are no windows, the most frequent first.
        schema: of the landmarks.
    """

    folder: Path
    easy: int
    hard: int
    dropped: int
    failed: dict[str, str]
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
    ours = (folder / UNFINISHED).exists() or _record(folder).get("made_by") == MAKER
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
    labels: Labels,
    *,
    sources: Mapping[str, str],
    surveys: Mapping[str, Survey],
    sides: Mapping[str, Resize],
    ensemble: Ensemble,
    options: Mapping[str, Any],
    failed: dict[str, str],
    command: str,
) -> Result:
    """Writes the set; its folder is finished then.

    Args:
        folder: to write to, in whose `work` the videos are.
        labels: of all windows.
        sources: the film of each window, by its ID.
        surveys: of the films that did not fail.
        sides: sizes of their videos.
        ensemble: the members.
        options: for the record.
        failed: why films failed.
        command: for the record.

    Raises:
        OSError: a file cannot be written.
    """
    kept = {id: window for id, window in labels.windows.items() if window.kept}
    former = _record(folder).get(RECORD, []) if (folder / SETTINGS).exists() else []
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
    rows = [row_of(id, labels.windows[id], sources[id], sizes[id]) for id in labels.windows]
    write_whole(folder / "labels.csv", _csv(rows))
    for name in set(former) - set(written):  # of windows that are not in the set any more
        if not Path(name).is_absolute() and ".." not in Path(name).parts:
            (folder / name).unlink(missing_ok=True)
    members = [member.name for member in ensemble.members]
    record = {
        "made_by": MAKER,
        "complete": not failed,
        "schema": ensemble.schema.name,
        "num_landmarks": ensemble.schema.num_landmarks,
        "windows": {
            **{split: len(ids) for split, ids in lists.items()},
            "dropped": len(labels.windows) - len(kept),
        },
        "members": dict(zip(members, ensemble.marks, strict=True)),
        "options": options,
        "films": {
            source: {"frames": survey.frames, "windows": len(survey.windows)}
            for source, survey in surveys.items()
        },
        "failed": failed,
        "command": command,
        "versions": versions(),
        RECORD: sorted(written),
    }
    page = label_page(
        folder / "work", labels, sources=sources, surveys=surveys, ensemble=ensemble, record=record
    )
    write_page(folder / "report.html", page)
    write_whole(folder / SETTINGS, to_json(record, indent=1).encode())
    (folder / UNFINISHED).unlink()
    return Result(
        folder=folder,
        easy=len(lists[EASY]),
        hard=len(lists[HARD]),
        dropped=len(labels.windows) - len(kept),
        failed=failed,
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
        "film": source,
        "face": part.face,
        "start_frame": part.start,
        "frames": len(part),
        "start_seconds": round(float(part.times[0]), 4),
        "seconds": round(len(part) / part.fps, 4),
        "fps": round(part.fps, 4),
        "width": size[0],
        "height": size[1],
        "decision": "keep" if window.kept else "drop",
        "reason": "; ".join(window.faults),
        "list": window.split,
    }


def _why_none(labels: Labels, surveys: Mapping[str, Survey]) -> tuple[str, ...]:
    """Why no window is kept, the most frequent reasons first; () if some are."""
    if any(window.kept for window in labels.windows.values()):
        return ()
    dropped = [f"{id}: {window.faults[0]}" for id, window in labels.windows.items()]
    if dropped:
        return (f"all {len(dropped)} are dropped, {dropped[0]}",)
    ends: collections.Counter[str] = collections.Counter()
    for survey in surveys.values():
        ends.update(survey.ends)
    return tuple(f"too short, as {reason}" for reason, _ in ends.most_common(3))


def _record(folder: Path) -> dict[str, Any]:
    """What an earlier call wrote of itself; {} if there is no such file."""
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


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
