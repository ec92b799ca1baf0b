"""The one result type of everything above the network: landmarks of faces in pictures and films."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

_FIELDS = ("points", "spread", "ok", "box", "confidence", "probability", "deviation")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Landmarks:
    """Landmarks of the N faces of a picture, of one face in T frames, or of one face.

    All fields are NumPy arrays with the same leading axes, written ``...`` here: (N,), (T,), or
    none for a single face. Indexing works on these axes: ``found[0]`` is the first face, and
    ``found[found.ok]`` are the faces that were found.

    Attributes:
        points: (..., K, 2) x then y, in pixels of the picture or frame, pixel centres at integers;
            NaN where there is no face.
        spread: (..., K) standard deviation of each heatmap in the same pixels: large where the
            model is uncertain. NaN where there is no face.
        ok: (...) bool, True where a face was found.
        box: (..., 4) x1 y1 x2 y2, pixels, that the crop was taken around, NaN where there is no
            face; None where crops were not taken around boxes.
        confidence: (...) probability that the points are those of a face; None where the model is
            not calibrated (`face.confidence`), as are the next two.
        probability: (..., K) probability that a point is within 5 % of the distance of the outer
            eye corners of where it belongs.
        deviation: (..., K) standard deviation of the error of each coordinate, pixels.
        info: what the solver did for each face, a NamedTuple of arrays (...); None where that is
            not recorded.

    Raises:
        ValueError: the arrays have different leading axes.
    """

    points: np.ndarray
    spread: np.ndarray
    ok: np.ndarray
    box: np.ndarray | None = None
    confidence: np.ndarray | None = None
    probability: np.ndarray | None = None
    deviation: np.ndarray | None = None
    info: Any = None

    def __post_init__(self):
        shapes = {"points": np.shape(self.points)[:-2], "spread": np.shape(self.spread)[:-1]}
        shapes |= {"ok": np.shape(self.ok)}
        shapes |= {} if self.box is None else {"box": np.shape(self.box)[:-1]}
        shapes |= {} if self.confidence is None else {"confidence": np.shape(self.confidence)}
        for name in ("probability", "deviation"):
            value = getattr(self, name)
            shapes |= {} if value is None else {name: np.shape(value)[:-1]}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"fields of Landmarks with different leading axes: {shapes}")

    def __len__(self) -> int:
        """N or T.

        Raises:
            TypeError: it is a single face.
        """
        return len(self.ok)

    def __getitem__(self, key: Any) -> "Landmarks":
        """Some of the faces or frames: a number, slice, mask or list of numbers."""
        return self._map(lambda array: array[key])

    @classmethod
    def stack(cls, faces: "Sequence[Landmarks]") -> "Landmarks":
        """Several with the same axes as one with a new first axis, such as frames as a film."""
        first, *_ = faces

        def field(name):
            values = [getattr(face, name) for face in faces]
            known = next((value for value in values if value is not None), None)
            if known is None:
                return None
            unknown = np.full_like(known, np.nan)  # of a face that was not found
            return np.stack([unknown if value is None else value for value in values])

        fields = {name: field(name) for name in _FIELDS}
        info = first.info
        if info is not None:
            arrays = zip(*(face.info for face in faces), strict=True)
            info = type(info)(*(None if a[0] is None else np.stack(a) for a in arrays))
        return cls(**fields, info=info)

    @classmethod
    def absent(cls, num_landmarks: int) -> "Landmarks":
        """A single face that was not found: NaN throughout."""
        points = np.full((num_landmarks, 2), np.nan)
        return cls(points=points, spread=points[:, 0], ok=np.array(False), box=np.full(4, np.nan))

    def _map(self, function):
        def apply(value):
            return None if value is None else function(np.asarray(value))

        info = self.info if self.info is None else type(self.info)(*map(apply, self.info))
        return Landmarks(**{name: apply(getattr(self, name)) for name in _FIELDS}, info=info)
