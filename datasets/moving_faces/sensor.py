"""The sensor and what follows it: noise, tone curve, compression."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ldeq_jax.media.writer import write_video
from moving_faces.setting import FPS


def record(
    light: np.ndarray,
    rng: np.random.Generator,
    *,
    photons: float,
    read_noise: float,
    tone: float = 1.0,
) -> np.ndarray:
    """Turns light into pixels, with noise that is drawn anew.

    Args:
        light: (H, W, 3) float32, 1 is white; what is brighter is cut off.
        rng: the only source of chance.
        photons: how many of them white is worth; infinity for no shot noise.
        read_noise: deviation of the noise that is there in the dark as well, part of white.
        tone: exponent of the tone curve, above the square root that pixels are anyway.

    Returns:
        (H, W, 3) uint8.
    """
    variance = np.maximum(light, 0) / np.float32(photons) + np.float32(read_noise**2)
    noisy = light + np.sqrt(variance) * rng.standard_normal(light.shape, np.float32)
    return np.round(255 * cv2.pow(np.clip(noisy, 0, 1), 0.5 * tone)).astype(np.uint8)


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    """The (H, W, 3) uint8 frame after a passage through JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def compress(frames: Iterable[np.ndarray]) -> bytes:
    """An mp4 file (MPEG-4 part 2) of (H, W, 3) uint8 RGB frames.

    It is the codec that OpenCV's packages can write on every system, with a bit rate of its own
    choosing; the same frames give the same bytes.
    """
    with tempfile.TemporaryDirectory() as folder:  # OpenCV writes to files only
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, FPS, codec="mp4v")
        return path.read_bytes()
