"""How films are labelled: `Options`."""

import dataclasses
from typing import Any

from ldeq_jax.inference.tracker import Limits
from ldeq_jax.labelling.choice import Rules
from ldeq_jax.labelling.smoothing import STRONGEST
from ldeq_jax.labelling.windows import Cutting

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
