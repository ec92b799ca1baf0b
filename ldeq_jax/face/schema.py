"""Landmark schemas: which point mirrors which, where the eyes end, what to draw.

Three are known by name: ``wflw_98``, ``ibug_68`` and ``fgnet_68`` (the Talking Face video). To
label a face with K points of your own, build a schema and pass it wherever one is asked for:

>>> nine = LandmarkSchema(
...     name="nine",
...     num_landmarks=9,  # eye corners from left to right in the picture, nose tip, mouth
...     flip_permutation=mirror_runs(9, range(0, 4), [5, 6, 7]),
...     eye_corners=(0, 3),
...     contours=(Contour((5, 6, 7, 8), closed=True),),
... )
>>> nine.flip_permutation
(3, 2, 1, 0, 4, 7, 6, 5, 8)

Commands take a file instead, ``--config.data.schema=nine.json``. It holds the same fields:

>>> print(json.dumps(dataclasses.asdict(nine)))  # doctest: +NORMALIZE_WHITESPACE
{"name": "nine", "num_landmarks": 9, "flip_permutation": [3, 2, 1, 0, 4, 7, 6, 5, 8],
 "eye_corners": [0, 3], "contours": [[[5, 6, 7, 8], true]]}

In place of "flip_permutation", "pairs": [[0, 3], [1, 2], [5, 7]] lists the landmarks that swap; the
contours can be left out. A model keeps its schema, so only training needs the file. The metadata of
the data set, ``MetadataDict(schema=...)``, must name the schema, here "nine", or hold these fields,
as ``ldeq build faces/NAME --schema=nine.json`` writes them. With the fields no file is needed, and
an evaluation can check whether another schema has that name.

A wrong permutation ruins training with mirrored pictures without any error. Check one by mirroring
a mean face: its points must land on themselves.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ldeq_jax.errors import UserError
from ldeq_jax.media.files import expand, read_text


class Contour(NamedTuple):
    """Landmarks joined by a line, in drawing order; ``closed`` joins the last to the first."""

    indices: tuple[int, ...]
    closed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandmarkSchema:
    """The meaning of K landmarks; indices count from 0.

    Attributes:
        name: short id, as in a data set's metadata.
        num_landmarks: K.
        flip_permutation: K indices; in a mirrored picture, landmark k is found where the mirror
            takes landmark ``flip_permutation[k]``, i.e. ``flipped = mirrored[flip_permutation]``.
        eye_corners: the two outer eye corners; their distance normalises errors.
        contours: lines that make a face of the points.

    Raises:
        ValueError: an index is out of range, or the permutation is not its own inverse.
    """

    name: str
    num_landmarks: int
    flip_permutation: tuple[int, ...]
    eye_corners: tuple[int, int]
    contours: tuple[Contour, ...] = ()

    def __post_init__(self):
        flip, everything = self.flip_permutation, range(self.num_landmarks)
        if len(flip) != self.num_landmarks or sorted(flip) != list(everything):
            raise ValueError(
                f"schema {self.name!r}: flip_permutation must hold each of 0 ... "
                f"{self.num_landmarks - 1} once, got {len(flip)} numbers: {flip}"
            )
        if wrong := [k for k in everything if flip[flip[k]] != k]:
            raise ValueError(
                f"schema {self.name!r}: mirroring twice must give the same face back, but "
                f"flip_permutation[flip_permutation[k]] != k for k in {wrong}"
            )
        left, right = self.eye_corners
        used = {left, right}.union(*(contour.indices for contour in self.contours))
        if outside := sorted(used.difference(everything)):
            raise ValueError(
                f"schema {self.name!r}: eye_corners or contours name landmarks {outside}, "
                f"but there are only 0 ... {self.num_landmarks - 1}"
            )
        if flip[left] != right:
            raise ValueError(
                f"schema {self.name!r}: eye corners {left} and {right} must be each other's "
                f"mirror image, but flip_permutation[{left}] is {flip[left]}"
            )


def mirror_runs(num_landmarks: int, *runs: Iterable[int]) -> tuple[int, ...]:
    """Build a flip permutation from runs of landmarks that read backwards when mirrored.

    Args:
        num_landmarks: K.
        *runs: indices; the first of a run swaps with the last, the second with the last but one.
            Landmarks in no run mirror themselves.

    Returns:
        K indices, for ``LandmarkSchema.flip_permutation``.
    """
    permutation = list(range(num_landmarks))
    for run in map(tuple, runs):
        for index, mirrored in zip(run, reversed(run), strict=True):
            permutation[index] = mirrored
    return tuple(permutation)


def _line(*indices, closed=False):
    return Contour(tuple(indices), closed)


WFLW_98 = LandmarkSchema(
    name="wflw_98",
    num_landmarks=98,
    flip_permutation=mirror_runs(
        98,
        range(0, 33),  # jaw
        [*range(33, 38), *range(42, 47)],  # upper edges of the brows
        [*range(38, 42), *range(47, 51)],  # lower edges
        range(55, 60),  # base of the nose; its bridge, 51 ... 54, mirrors itself
        [*range(60, 65), *range(68, 73)],  # upper lids with the eye corners
        [*range(65, 68), *range(73, 76)],  # lower lids
        range(76, 83),  # mouth, outer line, upper lip with the corners
        range(83, 88),
        range(88, 93),  # mouth, inner line
        range(93, 96),
        [96, 97],  # pupils
    ),
    eye_corners=(60, 72),
    contours=(
        _line(*range(0, 33)),
        _line(*range(33, 42), closed=True),
        _line(*range(42, 51), closed=True),
        _line(*range(51, 55)),
        _line(*range(55, 60)),
        _line(*range(60, 68), closed=True),
        _line(*range(68, 76), closed=True),
        _line(*range(76, 88), closed=True),
        _line(*range(88, 96), closed=True),
    ),
)

IBUG_68 = LandmarkSchema(
    name="ibug_68",
    num_landmarks=68,
    flip_permutation=mirror_runs(
        68,
        range(0, 17),  # jaw
        range(17, 27),  # brows
        range(31, 36),  # base of the nose; its bridge, 27 ... 30, mirrors itself
        [*range(36, 40), *range(42, 46)],  # upper lids with the eye corners
        [40, 41, 46, 47],  # lower lids
        range(48, 55),  # mouth, outer line, upper lip with the corners
        range(55, 60),
        range(60, 65),  # mouth, inner line
        range(65, 68),
    ),
    eye_corners=(36, 45),
    contours=(
        _line(*range(0, 17)),
        _line(*range(17, 22)),
        _line(*range(22, 27)),
        _line(*range(27, 31)),
        _line(*range(31, 36)),
        _line(*range(36, 42), closed=True),
        _line(*range(42, 48), closed=True),
        _line(*range(48, 60), closed=True),
        _line(*range(60, 68), closed=True),
    ),
)

FGNET_68 = LandmarkSchema(
    name="fgnet_68",
    num_landmarks=68,
    flip_permutation=mirror_runs(
        68,
        range(0, 15),  # jaw
        [*range(15, 21), *range(26, 20, -1)],  # brows; both run from the outer end over the top
        [*range(27, 32), *range(36, 31, -1)],  # eyes: outer, top, inner, bottom, pupil
        range(37, 46),  # outline of the nose; its tip, 67, mirrors itself
        [46, 47],  # nostrils
        range(48, 55),  # mouth, outer line, upper lip with the corners
        range(55, 60),
        range(60, 63),  # mouth, inner line, from below; its centre, 66, mirrors itself
        range(63, 66),
    ),
    eye_corners=(27, 32),
    contours=(
        _line(*range(0, 15)),
        _line(*range(15, 21), closed=True),
        _line(*range(21, 27), closed=True),
        _line(*range(27, 31), closed=True),
        _line(*range(32, 36), closed=True),
        _line(*range(37, 46)),
        _line(*range(48, 60), closed=True),
        _line(*range(60, 66), closed=True),
    ),
)


KNOWN_SCHEMAS = (WFLW_98, IBUG_68, FGNET_68)

# Which of WFLW's landmarks are iBUG's: every second of the jaw, the brows' upper edges, the nose,
# six of eight around each eye, the mouth.
IBUG_IN_WFLW = (
    *range(0, 33, 2),
    *range(33, 38),
    *range(42, 47),
    *range(51, 60),
    *(60, 61, 63, 64, 65, 67),
    *(68, 69, 71, 72, 73, 75),
    *range(76, 96),
)


def indices_of(have: str | LandmarkSchema, want: LandmarkSchema) -> list[int] | None:
    """Which landmarks of one schema are those of another.

    Args:
        have: schema of the labels, or its name.
        want: schema that is asked for.

    Returns:
        An index of `have` for each landmark of `want`; None where nothing is known to change.
    """
    known = have in (WFLW_98, WFLW_98.name) and want == IBUG_68
    return list(IBUG_IN_WFLW) if known else None


def differences(first: LandmarkSchema, second: LandmarkSchema) -> list[str]:
    """What makes the landmarks of two schemas mean different things, or be scored differently.

    Args:
        first: any schema.
        second: another; names and contours are not compared.

    Returns:
        A few words for each; empty where they agree.
    """
    if first.num_landmarks != second.num_landmarks:
        return [f"{first.num_landmarks} against {second.num_landmarks} landmarks"]
    found = []
    pairs = enumerate(zip(first.flip_permutation, second.flip_permutation, strict=True))
    if wrong := [k for k, (one, other) in pairs if one != other]:
        some = ", ".join(map(str, wrong[:5])) + ", ..." * (len(wrong) > 5)
        found.append(f"other mirror images of landmarks {some}")
    if set(first.eye_corners) != set(second.eye_corners):
        found.append(f"eye corners {first.eye_corners} against {second.eye_corners}")
    return found


def get_schema(schema: str | LandmarkSchema) -> LandmarkSchema:
    """The schema that is meant.

    Args:
        schema: a known name, a file ending in .json, or a schema, which is returned as it is.

    Raises:
        UserError: there is no such name, or the file does not describe a schema.
    """
    if isinstance(schema, LandmarkSchema):
        return schema
    return _read(schema) if schema.endswith(".json") else _find(schema)


def _read(path: str) -> LandmarkSchema:
    try:
        return from_fields(json.loads(read_text(expand(path))))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} describes no landmark schema ({error}); ldeq_jax/face/schema.py shows the form"
        ) from error


def from_fields(fields: Mapping[str, Any]) -> LandmarkSchema:
    """A schema from what `dataclasses.asdict` makes of it, lists in place of tuples.

    In place of "flip_permutation" there may be "pairs", [[0, 3], ...]: landmarks that swap in a
    mirrored picture.

    Raises:
        KeyError, TypeError, ValueError: the fields describe no schema.
    """
    fields = dict(fields)
    if "pairs" in fields:
        fields["flip_permutation"] = mirror_runs(fields["num_landmarks"], *fields.pop("pairs"))
    for name in ("flip_permutation", "eye_corners"):
        fields[name] = tuple(fields[name])
    contours = fields.pop("contours", ())
    lines = tuple(Contour(tuple(indices), bool(closed)) for indices, closed in contours)
    return LandmarkSchema(**fields, contours=lines)


def _find(name: str) -> LandmarkSchema:
    schemas = {schema.name: schema for schema in KNOWN_SCHEMAS}
    if name not in schemas:
        raise UserError(
            f"no landmark schema {name!r}; there are {', '.join(schemas)}. For points of your own, "
            "describe them in a .json file, as ldeq_jax/face/schema.py shows, and give its path"
        )
    return schemas[name]
