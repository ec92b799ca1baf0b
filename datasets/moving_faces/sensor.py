"""The sensor and the steps after it: noise, tone curve, compression."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ldeq_jax.media.writer import write_video
from moving_faces.difficulty import FPS


def record(
    light: np.ndarray,
    rng: np.random.Generator,
    *,
    photons: float,
    read_noise: float,
    tone: float = 1.0,
) -> np.ndarray:
    """Turns light into pixels, with independent noise.

    Args:
        light: (H, W, 3) float32, 1 is white; brighter values are clipped.
        rng: the only source of randomness.
        photons: number of photons in white; infinity for no shot noise.
        read_noise: standard deviation of the noise in the dark, part of white.
        tone: exponent of the tone curve, applied besides the square root of all pixels.

    Returns:
        (H, W, 3) uint8.
    """
    variance = np.maximum(light, 0) / np.float32(photons) + np.float32(read_noise**2)
    noisy = light + np.sqrt(variance) * rng.standard_normal(light.shape, np.float32)
    return np.round(255 * cv2.pow(np.clip(noisy, 0, 1), 0.5 * tone)).astype(np.uint8)


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    """The (H, W, 3) uint8 frame after JPEG compression."""
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def compress(frames: Iterable[np.ndarray], fps: float = FPS) -> bytes:
    """An mp4 file (MPEG-4 part 2) of (H, W, 3) uint8 RGB frames.

    OpenCV's packages can write this codec on every system; its bit rate cannot be set. The same
    frames give the same bytes.
    """
    with tempfile.TemporaryDirectory() as folder:  # OpenCV writes to files only
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, fps, codec="mp4v")
        return path.read_bytes()
