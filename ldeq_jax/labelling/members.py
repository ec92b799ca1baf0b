"""Members of an ensemble: models that find the landmarks of a face in each frame by itself."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry
from ldeq_jax.face.crops import box_of_landmarks, crop_around
from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.face.schema import LandmarkSchema, from_fields, get_schema, indices_of
from ldeq_jax.inference.doubt import why_not_a_face, why_unlikely
from ldeq_jax.inference.pictures import Predictor, calibrated
from ldeq_jax.labelling.onnx_member import OnnxMember
from ldeq_jax.labelling.variants import NAMES, split, unmirrored, varied
from ldeq_jax.media.files import expand, write_whole
from ldeq_jax.report.records import to_json
from ldeq_jax.weights import load_model

AT_ONCE = 8  # frames; bounds memory


class Member(Protocol):
    """A model and how it is shown the face.

    Attributes:
        name: as the user gave it.
        mark: changes with whatever changes what it finds.
        schema: of the landmarks that it finds.
    """

    name: str
    mark: str
    schema: LandmarkSchema

    def find(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> Landmarks:
        """Finds the landmarks of a face, in each frame without the others.

        Args:
            frames: T pictures (H, W, 3) uint8 RGB, at most `AT_ONCE`.
            boxes: (T, 4) extent of the face's landmarks, frame pixels.

        Returns:
            Landmarks (T,) in frame pixels; where the model says nothing of its uncertainty, the
            spread is NaN.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members with the landmarks that they share.

    Attributes:
        members: two or more.
        schema: of the labels: that of the first member.
        indices: for each member, which of its landmarks are those of the labels; None for all.
    """

    members: tuple[Member, ...]
    schema: LandmarkSchema
    indices: tuple[list[int] | None, ...]

    @property
    def own(self) -> np.ndarray:
        """(M,) whether the labels' landmarks are the member's own, not those of another schema."""
        return np.array([chosen is None for chosen in self.indices])

    @property
    def marks(self) -> tuple[str, ...]:
        """Of the members, with the labels' schema."""
        return tuple(f"{member.mark}, for {self.schema.name}" for member in self.members)

    def part(self, numbers: Sequence[int]) -> "Ensemble":
        """Some of the members, for the same labels."""
        return dataclasses.replace(
            self,
            members=tuple(self.members[n] for n in numbers),
            indices=tuple(self.indices[n] for n in numbers),
        )

    def find(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> Landmarks:
        """What all members find: Landmarks (M, T), as in `Member.find`.

        `ok` is False where the landmarks cannot be those of a face, or the model says so.
        """
        found = [self._of(number, frames, boxes) for number in range(len(self.members))]
        return Landmarks.stack(found)

    def _of(self, number, frames, boxes):
        member, chosen = self.members[number], self.indices[number]
        landmarks = member.find(frames, boxes)
        sure = landmarks.confidence
        ok = [
            not why_not_a_face(points, box, frame.shape, "extent")
            and not why_unlikely(None if sure is None else sure[t])
            for t, (frame, points, box) in enumerate(
                zip(frames, landmarks.points, boxes, strict=True)
            )
        ]
        deviation = landmarks.deviation
        width = landmarks.spread if deviation is None else deviation
        rows = slice(None) if chosen is None else chosen
        return Landmarks(
            points=np.asarray(landmarks.points[:, rows], np.float32),
            spread=np.asarray(width[:, rows], np.float32),
            ok=np.array(ok, bool),
        )


def load_ensemble(names: Sequence[str]) -> Ensemble:
    """Loads the members.

    Args:
        names: each a model by its name or folder, with variants after a colon (`variants.split`),
            or a .json file that describes an ONNX model (`onnx_member`).

    Raises:
        UserError: there are fewer than two, one is named twice, cannot be read, or finds landmarks
            that are not known to hold those of the first.
    """
    if len(names) < 2:
        raise UserError(
            f"--members={','.join(names)} is one model, whose errors nobody contradicts: name two "
            f"or more, or the same with other crops, {names[0]},{names[0]}:mirrored"
        )
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(
            f"--members names {twice[0]} twice: leave one out, or show it another crop, "
            f"{twice[0]}:{NAMES[0]} (there are {', '.join(NAMES)})"
        )
    models: dict[str, tuple[Predictor, str]] = {}
    members = [_load(name, models) for name in names]
    schema, indices = members[0].schema, []
    for member in members:
        chosen = None if member.schema == schema else indices_of(member.schema, schema)
        if member.schema != schema and chosen is None:
            raise UserError(
                f"{member.name} finds the landmarks of {member.schema.name}, in which those of "
                f"{schema.name}, of the first member {members[0].name}, are not known: name a "
                "member first whose landmarks all have, or leave one out"
            )
        indices.append(chosen)
    return Ensemble(members=tuple(members), schema=schema, indices=tuple(indices))


@dataclasses.dataclass(kw_only=True)
class KnownMember:
    """A member of an earlier call, whose model is not at hand: it is asked nothing.

    Attributes:
        name: as the user gave it.
        mark: as it was then.
        schema: that of the labels.
    """

    name: str
    mark: str
    schema: LandmarkSchema

    def find(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> Landmarks:
        """See `Member.find`; raises NotImplementedError."""
        raise NotImplementedError(f"the model of {self.name} is not loaded")


def write_ensemble(path: Path, ensemble: Ensemble) -> None:
    """Writes down who the members are, for `read_ensemble`."""
    own = zip(ensemble.members, ensemble.own.tolist(), strict=True)
    about = {
        "schema": dataclasses.asdict(ensemble.schema),
        "members": [[member.name, member.mark, is_own] for member, is_own in own],
    }
    write_whole(path, to_json(about).encode())


def read_ensemble(path: Path) -> Ensemble | None:
    """The members by name, without their models; None if there is no file that can be read."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        schema = from_fields(about["schema"])
        rows = [(name, mark, own) for name, mark, own in about["members"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Ensemble(
        members=tuple(KnownMember(name=name, mark=mark, schema=schema) for name, mark, _ in rows),
        schema=schema,
        indices=tuple(None if own else [] for _, _, own in rows),
    )


def _load(name: str, models: dict[str, tuple[Predictor, str]]) -> Member:
    model, variants = split(name)
    model = str(expand(model))
    if model.endswith(".json"):
        return OnnxMember(name, Path(model), variants)
    if model not in models:
        try:
            config, variables, step = load_model(model)
        except UserError as error:
            raise UserError(
                f"--members, {name}: {error}. After a colon may be "
                f"{', '.join(NAMES)}, or several with + between them"
            ) from error
        predictor = Predictor(config, variables)
        models[model] = predictor, f"{to_json(dataclasses.asdict(config))} {step}"
    return LdeqMember(name, *models[model], variants)


class LdeqMember:
    """A model of this package, each frame by itself.

    Args:
        name: as the user gave it.
        predictor: the model, which variants share.
        mark: of the model.
        variants: of its crops.
    """

    def __init__(self, name: str, predictor: Predictor, mark: str, variants: tuple[str, ...]):
        self.name, self._predictor, self._variants = name, predictor, variants
        digest = hashlib.sha256(mark.encode()).hexdigest()[:16]
        self.mark = f"{name} {digest}"
        self.schema = get_schema(predictor.config.data.schema)

    def find(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> Landmarks:
        """See `Member.find`."""
        config, variants = self._predictor.config, self._variants
        data, size = config.data, config.model.image_size
        crops = []
        for frame, extent in zip(frames, boxes, strict=True):
            box = box_of_landmarks(extent.reshape(2, 2), data.crop)
            usual = crop_around(data.crop, data.crop_scale, size, shape=frame.shape, box=box)
            crops.append(varied(usual, size, variants, size / 2))
        images = [
            geometry.warp(frame, crop, size) for frame, crop in zip(frames, crops, strict=True)
        ]
        images += images[-1:] * (AT_ONCE - len(images))  # one shape, so it is compiled once
        found = self._predictor(np.stack(images))
        rows = slice(len(frames))
        frame_from_crop = geometry.inverse(np.stack(crops))
        zoom = np.sqrt(np.abs(np.linalg.det(frame_from_crop)))[:, None]
        landmarks = np.asarray(found.landmarks, np.float64)[rows]
        points = geometry.transform_points(frame_from_crop, size * landmarks)
        spread = size * zoom * np.asarray(found.spread, np.float64)[rows]
        points = unmirrored(points, 1, variants, self.schema)
        spread = unmirrored(spread, 1, variants, self.schema)
        ok = np.isfinite(points).all(axis=(1, 2))
        return calibrated(Landmarks(points=points, spread=spread, ok=ok), config)
