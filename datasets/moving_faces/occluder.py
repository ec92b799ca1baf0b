"""Objects that pass in front of the face: a hand, a bar, a card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from moving_faces.camera import moments, similarity, warp
from moving_faces.difficulty import FRAME_SIZE
from moving_faces.light import linear
from moving_faces.paths import Moves, Wander, random_wander

SPRITE_SIDE = 1.5  # in units of the frame's larger side: an arm's end stays out of the frame
SKIN = np.array([[96, 62, 45], [150, 104, 78], [198, 148, 118], [226, 182, 152]])
Parts = list[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Occluder:
    """A flat object that enters the frame, stays for a moment and leaves.

    Attributes:
        sprite: (S, S, 4) float32, linear RGB multiplied by opacity, opacity.
        position: moves of its middle, frame pixels.
        angle: of the sprite, radians.
        tremor: tremor of x and y, pixels.
        size: (width, height) of the frames.
    """

    sprite: np.ndarray
    position: Moves
    angle: float
    tremor: Wander
    size: tuple[int, int]

    def frame_from_sprite(self, times: np.ndarray) -> np.ndarray:
        """(N, 3, 3) at (N,) times, in frames."""
        shift = self.position(times) + self.tremor(times)
        return similarity(1.0, self.angle, _middle(self.sprite.shape[1::-1]), shift)

    def seen(self, frame: int, exposure: float) -> np.ndarray | None:
        """(H, W, 4) float32: the sprite, blurred by its own motion; None if it is out of sight."""
        ends = self.position(frame + exposure * np.array([-0.5, 0.5]))
        away = _away(self.size, len(self.sprite))
        if np.linalg.norm(ends - _middle(self.size), axis=1).min() > away:
            return None
        way = np.linalg.norm(ends[1] - ends[0]) / 2  # edges are soft: every second pixel is enough
        matrices = self.frame_from_sprite(moments(frame, exposure, way))
        constant = cv2.BORDER_CONSTANT
        seen = sum(warp(self.sprite, matrix, constant, self.size) for matrix in matrices)
        return seen / np.float32(len(matrices))


def cover(light: np.ndarray, sprite: np.ndarray) -> np.ndarray:
    """(H, W, 3) linear frame behind a (H, W, 4) sprite."""
    return light * (1 - sprite[..., 3:]) + sprite[..., :3]


def random_occluder(
    rng: np.random.Generator,
    face: np.ndarray,
    size: tuple[int, int] = (FRAME_SIZE, FRAME_SIZE),
) -> Occluder:
    """An occluder that crosses the face once.

    Args:
        rng: the only source of randomness.
        face: (T, 3) middle x, y and side of the face in each frame, pixels.
        size: (width, height) of the frames.
    """
    arrival = rng.uniform(min(10, 0.2 * len(face)), 0.8 * len(face))
    x, y, side = face[int(arrival)]
    draw = (_hand, _bar, _card)[rng.integers(3)]
    sprite_side = round(SPRITE_SIDE * max(size))
    sprite = _shaded(rng, draw(rng, side, sprite_side), sprite_side)
    target = np.array([x, y]) + rng.uniform(-0.3, 0.3, 2) * side
    entry, turn = rng.uniform(0, 2 * np.pi), rng.choice([0, np.pi]) + rng.normal(0, 0.5)
    leave = entry if draw is _hand else entry + turn  # a hand leaves on the side of its arm
    ways = np.array([[np.cos(angle), np.sin(angle)] for angle in (entry, leave)])
    outside = _middle(size) + _away(size, sprite_side) * ways
    coming, staying, going = rng.uniform(12, 30), rng.uniform(0, 12), rng.uniform(12, 30)
    return Occluder(
        sprite=sprite,
        position=Moves(
            starts=np.array([arrival - coming, arrival + staying]),
            durations=np.array([coming, going]),
            poses=np.stack([outside[0], target, outside[1]]),
        ),
        angle=entry - np.pi / 2,  # a hand enters with its fingers first
        tremor=random_wander(rng, 2.0, period=(10, 40), channels=2),
        size=size,
    )


def _middle(size: Sequence[int]) -> np.ndarray:
    """(2,) x, y of the middle of a picture of (width, height) pixels."""
    return (np.array(size) - 1) / 2


def _away(size: tuple[int, int], sprite_side: int) -> float:
    """How far a sprite must be from the middle of the frame for none of its corners to be seen."""
    return np.hypot(*size) / 2 + sprite_side / np.sqrt(2)


def _hand(rng: np.random.Generator, face_side: float, sprite_side: int) -> Parts:
    """Parts of a hand from back to front, as (mask, colour); the fingers point up."""
    size = face_side * rng.uniform(0.16, 0.24)  # half the width of the palm
    colour = _between(rng, SKIN)
    spread = rng.uniform(0.02, 0.14)
    parts = []
    forearm = np.array([(0, 0.5), (rng.uniform(-0.5, 0.5), sprite_side / size)])
    parts.append(_stroke(forearm, 1.6, size, sprite_side))
    for finger, (x, length) in enumerate([(-0.75, 1.5), (-0.25, 1.85), (0.25, 1.8), (0.72, 1.4)]):
        lean = (finger - 1.5) * spread
        knuckle = np.array([x, -0.6])
        tip = knuckle + length * np.array([np.sin(lean), -np.cos(lean)])
        parts.append(_stroke([knuckle, tip], 0.42, size, sprite_side))
    parts.append(_stroke([(-0.5, 0.5), (-1.5, -0.4), (-1.65, -0.8)], 0.46, size, sprite_side))
    parts.append(
        _stroke([(-0.35, -0.45), (0.4, -0.4), (0.3, 0.6), (-0.3, 0.6)], 1.15, size, sprite_side)
    )
    return [(mask, colour) for mask in parts]


def _bar(rng: np.random.Generator, face_side: float, sprite_side: int) -> Parts:
    """A straight bar across the whole sprite."""
    half = sprite_side / 2 / face_side
    ends = [(-half * 1.1, rng.uniform(-0.3, 0.3)), (half * 1.1, rng.uniform(-0.3, 0.3))]
    return [(_stroke(ends, rng.uniform(0.12, 0.28), face_side, sprite_side), _dull(rng))]


def _card(rng: np.random.Generator, face_side: float, sprite_side: int) -> Parts:
    """A card with round corners, and a smaller one on it."""
    width, height = rng.uniform(0.25, 0.6, 2)
    edge = rng.uniform(0.03, 0.15)
    outline = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    inner = outline * rng.uniform(0.3, 0.9)
    return [
        (_stroke([*shape, shape[0]], edge, face_side, sprite_side, fill=True), _dull(rng))
        for shape in (outline, inner)
    ]


def _stroke(
    points: Sequence, width: float, unit: float, sprite_side: int, fill: bool = False
) -> np.ndarray:
    """(S, S) uint8, 255 on a thick line; points from the middle of the sprite, in units."""
    mask = np.zeros((sprite_side, sprite_side), np.uint8)
    fixed = np.round((np.asarray(points) * unit + _middle(mask.shape)) * 16).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 255, max(1, round(width * unit)), cv2.LINE_AA, shift=4)
    if fill:
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, shift=4)
    return mask


def _shaded(rng: np.random.Generator, parts: Parts, sprite_side: int) -> np.ndarray:
    """A sprite of parts, each rounded by shading towards its edge, all with one texture."""
    texture = np.ones((sprite_side, sprite_side), np.float32)
    for cells, depth in ((6, 0.15), (24, 0.08), (96, 0.05)):
        noise = rng.normal(0, depth, (cells, cells)).astype(np.float32)
        texture += cv2.resize(noise, texture.shape, interpolation=cv2.INTER_CUBIC)
    sprite = np.zeros((sprite_side, sprite_side, 4), np.float32)
    for mask, colour in parts:
        inside = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
        rounded = 1 - 0.6 * np.exp(-inside / max(1.0, 0.3 * inside.max()))
        opacity = (mask / np.float32(255))[..., None]
        painted = linear(colour) * (rounded * texture)[..., None]
        part = np.concatenate([np.clip(painted, 0, 1) * opacity, opacity], axis=2)
        sprite = part + sprite * (1 - opacity)
    return cv2.GaussianBlur(sprite, (0, 0), rng.uniform(0.8, 2.5)).astype(np.float32)


def _between(rng: np.random.Generator, palette: np.ndarray) -> np.ndarray:
    """A colour (3,) between two neighbours of a palette."""
    place = rng.uniform(0, len(palette) - 1)
    return np.array([np.interp(place, np.arange(len(palette)), c) for c in palette.T])


def _dull(rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) near grey."""
    return np.clip(rng.uniform(25, 220) + rng.normal(0, 25, 3), 10, 240)
