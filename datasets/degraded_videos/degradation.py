"""How hard the videos are made: the ranges of shake, light, sensor, compression and objects."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Degradation:
    """Ranges from which each video's faults are drawn.

    Lengths are in units of the face: the larger side of the landmark extent, its median over the
    video. So what a face of 100 pixels suffers, one of 500 suffers too.

    Attributes:
        resolution: fewest and most pixels of the sensor along the face; a face with fewer pixels in
            the video keeps what it has.
        shakes: bursts of camera shake in 100 frames, on average.
        shake_frames: shortest and longest burst, frames.
        shake_length: least and most blur in the middle of a burst, in faces.
        flicker: largest change of the light, as a natural logarithm.
        photons: least and most photons (more precisely, electrons) in white, for each pixel of the
            sensor: fewer give more noise.
        read_noise: standard deviation of the sensor's own noise, part of white.
        jpeg_quality: lowest and highest quality of the JPEG compression that imitates strong
            video compression.
        occluders: objects that pass in front of the face in 100 frames, on average.
    """

    resolution: tuple[float, float]
    shakes: float
    shake_frames: tuple[float, float]
    shake_length: tuple[float, float]
    flicker: float
    photons: tuple[float, float]
    read_noise: float
    jpeg_quality: tuple[int, int]
    occluders: float


EASY = Degradation(
    resolution=(90, 140),
    shakes=1.5,
    shake_frames=(4, 8),
    shake_length=(0.02, 0.06),
    flicker=0.15,
    photons=(300, 1500),
    read_noise=0.002,
    jpeg_quality=(60, 90),
    occluders=0.0,
)
HARD = Degradation(
    resolution=(65, 120),
    shakes=3.0,
    shake_frames=(4, 12),
    shake_length=(0.04, 0.12),
    flicker=0.4,
    photons=(45, 220),
    read_noise=0.01,
    jpeg_quality=(25, 60),
    occluders=0.6,
)
