"""A video, filmed again by a poor camera that shakes, in flickering light, behind objects.

The sensor, its compression and the objects are those of `moving_faces`. `ldeq_jax.data.moving`
makes training clips with its own noise, blur, light and objects, which are of other kinds and from
other distributions, so that a model trained there is not fitted to these videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from moving_faces.camera import moments
from moving_faces.clip import face_of
from moving_faces.light import linear
from moving_faces.occluder import cover, random_occluder
from moving_faces.paths import Wander, random_wander
from moving_faces.sensor import jpeg, record

from degraded_videos.degradation import Degradation

FLICKER_PERIOD = (2.2, 9.0)  # frames, of the lamp against the shutter
READOUT = 0.7  # part of a frame's time from the first row to the last: light flickers in bands


def degrade(
    frames: Iterable[np.ndarray],
    landmarks: np.ndarray,
    size: tuple[int, int],
    degradation: Degradation,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Makes the frames of a video harder; what they show stays where it is.

    Args:
        frames: T frames, (H, W, 3) uint8 RGB.
        landmarks: (T, K, 2) frame pixels; NaN in frames without labels, but not in all.
        size: (W, H).
        degradation: how hard.
        rng: the only source of randomness; the same state gives the same frames.

    Yields:
        The frames, (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the number of frames is not that of landmarks, or no frame has landmarks.
    """
    # One random stream per part, so that changing one part does not change the others.
    for_shakes, for_light, for_occluders, for_sensor = rng.spawn(4)
    face = _known_everywhere(face_of(landmarks))
    side = np.median(face[:, 2])
    scale = min(1.0, for_sensor.uniform(*degradation.resolution) / side)
    photons = np.exp(for_sensor.uniform(*np.log(degradation.photons)))
    quality = for_sensor.integers(*degradation.jpeg_quality, endpoint=True)
    # From here on, pixels are the sensor's: (p + .5) * scale - .5 for a frame's pixel p.
    width, height = (max(2, round(length * scale)) for length in size)
    face = scale * (face + [0.5, 0.5, 0]) - [0.5, 0.5, 0]
    ways = scale * side * shakes(for_shakes, len(face), degradation)
    lamp = random_wander(for_light, degradation.flicker, FLICKER_PERIOD)
    count = for_occluders.poisson(degradation.occluders * len(face) / 100)
    occluders = [random_occluder(for_occluders, face, (width, height)) for _ in range(count)]

    for t, (frame, way) in enumerate(zip(frames, ways, strict=True)):
        light = linear(frame)
        if (width, height) != size:
            light = cv2.resize(light, (width, height), interpolation=cv2.INTER_AREA)
        for occluder in occluders:
            sprite = occluder.seen(t, exposure=0.5)
            if sprite is not None:
                light = cover(light, sprite)
        light = shaken(light, way) * flicker(lamp, t, height)
        seen = record(light, for_sensor, photons=photons, read_noise=degradation.read_noise)
        seen = jpeg(seen, quality)
        if (width, height) != size:
            seen = cv2.resize(seen, size, interpolation=cv2.INTER_CUBIC)
        yield seen


def shakes(rng: np.random.Generator, num_frames: int, degradation: Degradation) -> np.ndarray:
    """(T, 2) how far the picture moves while the shutter is open, x and y, in faces.

    0 between bursts. In a burst the camera moves in a straight line, first more and then less.
    """
    ways, times = np.zeros((num_frames, 2)), np.arange(num_frames)
    for _ in range(rng.poisson(degradation.shakes * num_frames / 100)):
        duration = rng.uniform(*degradation.shake_frames)
        start = rng.uniform(-duration / 2, num_frames - duration / 2)
        angle, length = rng.uniform(0, np.pi), rng.uniform(*degradation.shake_length)
        strength = np.sin(np.pi * np.clip((times - start) / duration, 0, 1))
        ways += length * strength[:, None] * [np.cos(angle), np.sin(angle)]
    return ways


def shaken(light: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The mean of a picture that moves by (2,) pixels and is in place halfway."""
    length = np.hypot(*way)
    if length < 0.5:
        return light
    shifts = moments(0, 1.0, length)[:, None] * way
    height, width = light.shape[:2]
    moved = (
        cv2.warpAffine(
            light,
            np.eye(2, 3) + [[0, 0, x], [0, 0, y]],
            (width, height),
            borderMode=cv2.BORDER_REPLICATE,
        )
        for x, y in shifts
    )
    return sum(moved) / np.float32(len(shifts))


def flicker(lamp: Wander, frame: int, height: int) -> np.ndarray:
    """(H, 1, 1) float32, the factor of the light in each row: rows are read one after another."""
    times = frame + READOUT * np.arange(height) / height
    return np.exp(lamp(times))[:, :, None].astype(np.float32)


def _known_everywhere(face: np.ndarray) -> np.ndarray:
    """(T, 3) faces, those of NaN interpolated in time."""
    times, known = np.arange(len(face)), np.isfinite(face).all(axis=1)
    if not known.any():
        raise ValueError("no frame has landmarks")
    return np.stack([np.interp(times, times[known], c[known]) for c in face.T], axis=1)
