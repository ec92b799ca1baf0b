"""What is gathered of all films before labels are made of it, and what an earlier call gathered.

`Gathered` is all that labels depend on, besides the choices that people make by hand. `recall`
reads it from the folder of a finished set: neither films nor models are needed.
"""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldeq_jax import fields
from ldeq_jax.errors import UserError
from ldeq_jax.labelling import work
from ldeq_jax.labelling.labels import Labels, label_windows
from ldeq_jax.labelling.members import Ensemble, read_ensemble
from ldeq_jax.labelling.options import Options
from ldeq_jax.labelling.review_choices import COLUMNS
from ldeq_jax.labelling.window_films import Resize
from ldeq_jax.labelling.windows import Window
from ldeq_jax.labelling.work import Findings, Survey
from ldeq_jax.media.files import RECORD
from ldeq_jax.report.records import to_json

SETTINGS, UNFINISHED, MAKER = "settings.json", "UNFINISHED.txt", "ldeq label"
MEMBERS_FILE = "work/members.json"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What is known of films, and what made it known.

    Attributes:
        surveys: of the films that did not fail, by their source.
        names: of these films, with which the IDs of their windows begin.
        found: what the members find, by the windows' IDs.
        ensemble: the members.
        options: how.
        failed: why films failed, by their source.
        command: that gathered it.
    """

    surveys: Mapping[str, Survey]
    names: Mapping[str, str]
    found: Mapping[str, Findings]
    ensemble: Ensemble
    options: Options
    failed: Mapping[str, str]
    command: str

    @property
    def windows(self) -> dict[str, Window]:
        """All windows, by their IDs."""
        return {id: w for survey in self.surveys.values() for id, w in survey.windows.items()}

    @property
    def sources(self) -> dict[str, str]:
        """The film of each window, by its ID."""
        return {id: source for source, survey in self.surveys.items() for id in survey.windows}

    def resize(self, source: str) -> Resize:
        """From the pixels of a film to those of its windows' videos."""
        return Resize(*self.surveys[source].size, self.options.side)

    def labels(self, choices: Mapping[str, str]) -> Labels:
        """The labels.

        Args:
            choices: made by hand, words by the windows' IDs, see `review_choices`.
        """
        windows = self.windows
        return label_windows(
            {id: (windows[id], findings) for id, findings in self.found.items()},
            self.ensemble,
            self.options.rules,
            self.options.strongest,
            choices,
        )

    @property
    def digest(self) -> str:
        """Of all windows and members."""
        return letters([digests_of(self.surveys), self.ensemble.marks])


def digests_of(surveys: Mapping[str, Survey]) -> dict[str, str]:
    """What tells a window from another of the same ID, by the ID.

    It says which frames of which film they are, and which face. The film's name and folder do not
    count, nor what the members find: so it is the same on all machines, and with all members.
    """
    return {
        id: letters([survey.film, w.start, len(w), w.face])
        for survey in surveys.values()
        for id, w in survey.windows.items()
    }


def letters(value: Any) -> str:
    """Eight letters, which are others for other values.

    Without digits: spreadsheets take texts such as 12345e67 for numbers, and change them.
    """
    number = hashlib.sha256(to_json(value).encode()).digest()[:8]
    return "".join(chr(ord("a") + byte % 26) for byte in number)


def read_record(folder: Path) -> dict[str, Any]:
    """What an earlier call wrote of itself.

    Returns:
        The contents of settings.json; where there is none of an earlier call, all that is needed of
        it, empty.
    """
    empty = {"made_by": "", "set": "", "films": {}, "choices": [",".join(COLUMNS)], RECORD: []}
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return empty
    ours = isinstance(found, dict) and found.get("made_by") == MAKER
    return empty | found if ours else empty


def recall(folder: Path) -> Gathered:
    """What the last call of `ldeq label` that came to its end gathered.

    Args:
        folder: of the set.

    Raises:
        UserError: there is none, or the folder `work` of the set is not complete any more.
    """
    record = read_record(folder)
    if record["made_by"] != MAKER:
        raise UserError(
            f"{folder} holds no finished set of ldeq label: name the folder that was its --output, "
            "or run ldeq label again if it was broken off"
        )
    output = shlex.quote(f"--output={folder}")  # the set may have been moved
    again = f"run again what made the set, with {output}: {record['command']}"
    options = fields.convert(Options, record["options"], f"{folder / SETTINGS}: options")
    ensemble = read_ensemble(folder / MEMBERS_FILE)
    if ensemble is None or list(ensemble.marks) != list(record["members"].values()):
        raise UserError(f"{folder / MEMBERS_FILE} is missing, damaged or of another call: {again}")
    surveys, names, found = {}, {}, {}
    for source, about in record["films"].items():
        name = names[source] = about["name"]
        path = folder / "work" / work.survey_file(name)
        read = work.read_survey(path)
        if read is None or not work.is_of(read[0], source, options.of_surveys()):
            raise UserError(f"{path} is missing, damaged or of another call: {again}")
        surveys[source] = read[1]
        for id, window in surveys[source].windows.items():
            path = folder / "work" / f"{id}.npz"
            findings = work.read_findings(path, len(window))
            known = findings is not None and set(ensemble.marks) <= set(findings.marks)
            if findings is not None and known and path.with_suffix(".mp4").exists():
                found[id] = findings.of(ensemble.marks)
            elif source not in record["failed"]:
                raise UserError(f"{path} or the video beside it is missing or damaged: {again}")
    return Gathered(
        surveys=surveys,
        names=names,
        found=found,
        ensemble=ensemble,
        options=options,
        failed=record["failed"],
        command=record["command"],
    )
