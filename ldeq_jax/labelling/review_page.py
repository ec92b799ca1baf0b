"""The page on which people look at each window of a set and decide: `write_review`."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ldeq_jax.errors import UserError
from ldeq_jax.labelling.gathered import Gathered, digests_of, letters, read_record, recall
from ldeq_jax.labelling.labels import Labelled
from ldeq_jax.labelling.review_choices import Choices
from ldeq_jax.labelling.review_pictures import DOUBT, Shown, review_pictures
from ldeq_jax.labelling.writing import recorded_choices
from ldeq_jax.media.files import write_whole
from ldeq_jax.report import html
from ldeq_jax.report.style import printable

PAGE, PICTURES = "review.html", "review"
_OURS = re.compile(r".+-[a-z]{8}\.(jpg|mp4)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Review:
    """What was written.

    Attributes:
        page: the file.
        windows: number of them.
        made: of those whose pictures were made; the others had theirs.
        failed: why windows have no pictures, by their IDs.
        waiting: of choices for windows that are not on the page.
    """

    page: Path
    windows: int
    made: int
    failed: dict[str, str]
    waiting: int


def write_review(folder: Path) -> Review:
    """Writes the page into a set's folder, and its pictures and clips into a folder beside it.

    Pictures that an earlier call made are kept as long as nothing that they show has changed, so a
    call that was broken off goes on where it stopped.

    Args:
        folder: of a set that `label_films` finished.

    Raises:
        OSError: a file cannot be written.
        UserError: there is no such set, or its folder `work` is not complete any more.
    """
    gathered = recall(folder)
    choices = recorded_choices(folder)
    windows = gathered.labels({}).windows
    digests, sources = digests_of(gathered.surveys), gathered.sources
    pictures: dict[str, tuple[str, str]] = {}
    failed: dict[str, str] = {}
    made = 0
    (folder / PICTURES).mkdir(exist_ok=True)
    for id, window in tqdm(
        windows.items(), unit="window", desc="pictures", leave=False, disable=None
    ):
        boxes = gathered.resize(sources[id]).boxes(window.window.boxes)
        shown = Shown(window=window, boxes=boxes, schema=gathered.ensemble.schema)
        stem = f"{id}-{letters([digests[id], shown.digest])}"
        names = f"{stem}.jpg", f"{stem}.mp4"
        try:
            if not all((folder / PICTURES / name).exists() for name in names):
                files = review_pictures(folder / "work" / f"{id}.mp4", shown)
                for name, file in zip(names, files, strict=True):
                    write_whole(folder / PICTURES / name, file)
                made += 1
            pictures[id] = names
        except UserError as error:
            failed[id] = str(error)
    data = page_data(folder, gathered, windows, choices, pictures=pictures, failed=failed)
    page = html.render(
        "review.html",
        name=folder.resolve().name,
        command=data["command"],
        doubt=f"{DOUBT:g}",
        data=data,
    )
    write_whole(folder / PAGE, page.encode())
    current = {name for names in pictures.values() for name in names}
    for path in (folder / PICTURES).iterdir():
        if _OURS.fullmatch(path.name) and path.name not in current:
            path.unlink()
    return Review(
        page=folder / PAGE,
        windows=len(windows),
        made=made,
        failed=failed,
        waiting=len(choices.strangers(digests)),
    )


def page_data(
    folder: Path,
    gathered: Gathered,
    windows: dict[str, Labelled],
    choices: Choices,
    *,
    pictures: dict[str, tuple[str, str]],
    failed: dict[str, str],
) -> dict[str, Any]:
    """What the page's script is given, in the types of JSON.

    Args:
        folder: of the set.
        gathered: what is known of the films.
        windows: as the rules decide, by their IDs.
        choices: that the set was last given.
        pictures: names of the sheet and the clip of each window.
        failed: why others have none.
    """
    digests, sources = digests_of(gathered.surveys), gathered.sources
    away = choices.strangers(digests)
    return {
        "key": f"ldeq review {read_record(folder)['set']}",
        "command": shlex.join(["ldeq", "label", f"--output={folder}", "--apply=choices.csv"]),
        "limit": gathered.options.rules.most_in_a_frame,
        "applied": {id: row.word for id, row in choices.rows.items() if id not in away},
        "waiting": choices.only(away).lines()[1:],
        "windows": [
            _about(id, window, sources[id], gathered.resize(sources[id]).size)
            | {
                "digest": digests[id],
                "sheet": _address(pictures[id][0]) if id in pictures else "",
                "clip": _address(pictures[id][1]) if id in pictures else "",
                "broken": f"There are no pictures of it: {failed[id]}" if id in failed else "",
            }
            for id, window in windows.items()
        ],
    }


def _about(id: str, window: Labelled, source: str, size: tuple[int, int]) -> dict[str, Any]:
    part, m = window.window, window.measures
    mean = window.disagreement.mean(axis=1)
    lost = (
        "" if m is None else ", ".join(f"{n} in {frames}" for n, frames in m.lost.items() if frames)
    )
    return {
        "id": id,
        "film": printable(source),
        "person": part.face,
        "startFrame": part.start,
        "start": round(float(part.times[0]), 2),
        "frames": len(part),
        "seconds": round(len(part) / part.fps, 2),
        "fps": part.fps,
        "width": size[0],
        "height": size[1],
        "labelled": m is not None,
        "decided": window.split or "dropped",
        "ranked": window.ranked,
        "faults": window.reason,
        "lost": lost,
        "motion": m and round(m.motion, 3),
        "disagreement": m and round(m.disagreement, 3),
        "worst": m and round(m.worst_frame, 3),
        "worstFrame": int(np.nan_to_num(mean, nan=-1.0).argmax()),
        "face": m and round(m.face, 1),
        "brightness": m and round(m.brightness, 1),
        "curve": None if m is None else mean.round(1).tolist(),
    }


def _address(name: str) -> str:
    return html.file_address(Path(PICTURES) / name)
