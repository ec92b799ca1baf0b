"""Crops without a face, made from pictures of faces, to train on what is no face.

A model that has only seen faces finds one everywhere. Here landmarks are laid over a part of a
picture that shows no face; what is cut around them is a crop as a detector's false alarm or a cut
in a film gives it. The landmarks themselves mean nothing.
"""

import cv2
import numpy as np

TRIES = 8
FREE = 0.1  # largest part of the crop's extent that the face may cover


def without_face(
    image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, *, elsewhere: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and a place in it where there is no face.

    Half of them are a place beside the face, a quarter the picture in shuffled tiles, a quarter a
    random texture, from plain grey to noise. Where there is no place beside the face, the picture
    is shuffled.

    Args:
        image: (H, W, 3) uint8 RGB, a picture of one face.
        landmarks: (K, 2) pixels.
        rng: the only source of randomness.
        elsewhere: whether places beside the face may be taken; not if the crop is the whole
            picture.

    Returns:
        (H, W, 3) uint8 RGB, and (K, 2) float64 landmarks of the same form over the place.
    """
    kind = rng.random()
    if kind < 0.5 and elsewhere:
        beside = _beside(image.shape, landmarks, rng)
        if beside is not None:
            return image, beside
    made = _texture(image.shape, rng) if kind > 0.75 else _shuffled(image, landmarks, rng)
    return made, np.asarray(landmarks, np.float64)


def _beside(shape, landmarks, rng):
    """The landmarks, smaller, over a part of the picture that the face hardly covers; or None."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    for _ in range(TRIES):
        scale = rng.uniform(0.3, 0.9)
        centre = rng.uniform(0, np.array(shape[1::-1]))
        overlap = np.minimum(high, centre + scale * half) - np.maximum(low, centre - scale * half)
        covered = np.prod(np.maximum(overlap, 0)) / np.prod(2 * scale * half)
        if covered < FREE:
            return centre + scale * (landmarks - middle)
    return None


def _shuffled(image, landmarks, rng):
    """The picture with the tiles about its face in another order, each mirrored or not."""
    number = int(rng.integers(3, 7))
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    size = max(int((high - low).max() * 1.6 / number), 1)
    left, top = np.maximum(((low + high) / 2 - size * number / 2).astype(int), 0)
    columns = min(number, (image.shape[1] - left) // size)
    rows = min(number, (image.shape[0] - top) // size)
    image = image.copy()
    places = [
        np.s_[top + size * row : top + size * (row + 1), left + size * at : left + size * (at + 1)]
        for row in range(rows)
        for at in range(columns)
    ]
    tiles = [image[place].copy() for place in places]
    for place, number in zip(places, rng.permutation(len(places)), strict=True):
        tile = tiles[number]
        image[place] = tile[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    return image


def _texture(shape, rng):
    """Random colours at a random scale: a plain wall, soft shapes, stripes or noise."""
    cells = 2 ** rng.integers(0, 7, 2) + 1
    contrast = rng.uniform(0, 90) * rng.choice([0.1, 1.0])
    coarse = rng.uniform(0, 255, 3) + contrast * rng.standard_normal((*cells, 3))
    if rng.random() < 0.3:
        coarse[:] = coarse.mean(axis=2, keepdims=True)
    smooth = cv2.resize(
        coarse.astype(np.float32),
        shape[1::-1],
        interpolation=int(rng.choice([cv2.INTER_CUBIC, cv2.INTER_NEAREST])),
    )
    noise = rng.uniform(0, 40) * rng.choice([0.0, 1.0])
    smooth += noise * rng.standard_normal(shape, np.float32)
    return np.clip(smooth, 0, 255).astype(np.uint8)
