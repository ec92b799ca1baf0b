"""Crops of a video made worse step by step, with exact labels, for `benchmarks.why`."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from ldeq_jax.config import Config
from ldeq_jax.data.sources import VideoSource
from ldeq_jax.data.videos import video_chunks
from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry

Degrade = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Clips(NamedTuple):
    """T frames of each of B videos.

    Attributes:
        image: (B, T, S, S, 3) uint8 RGB crops.
        frame_from_crop: (B, T, 3, 3).
        videos: the annotation of each video, of its first T frames.
    """

    image: np.ndarray
    frame_from_crop: np.ndarray
    videos: list[dict]

    def intervals(self) -> np.ndarray:
        """(B, T) float32 seconds since the last frame."""
        seconds = np.array([[1 / video["fps"]] for video in self.videos], np.float32)
        return np.repeat(seconds, self.image.shape[1], axis=1)

    def labels(self) -> np.ndarray:
        """(B, T, K, 2) normalised crop coordinates."""
        points = np.stack([video["landmarks"] for video in self.videos])
        crop_from_frame = np.linalg.inv(self.frame_from_crop)
        return geometry.transform_points(crop_from_frame, points) / self.image.shape[2]

    def part(self, first: int, last: int) -> "Clips":
        """Frames `first` to `last - 1`."""
        image, matrices = (a[:, first:last] for a in (self.image, self.frame_from_crop))
        return Clips(image, matrices, [_part(video, first, last) for video in self.videos])

    def degraded(self, degrade: Degrade) -> "Clips":
        """The same clips made worse, each with its own seed."""
        clips = [degrade(clip, np.random.default_rng(i)) for i, clip in enumerate(self.image)]
        return self._replace(image=np.stack(clips))


def read_clips(config: Config, split: str, frames: int) -> Clips:
    """The first frames of the videos of a split; all must show their face in these frames.

    Args:
        config: of the model, with the data set, crop and folder wanted.
        split: videos.
        frames: T.

    Raises:
        UserError: a video is shorter, or a frame has no face.
    """
    data, size = config.data, config.model.image_size
    source = VideoSource(data.name, split, data.data_dir)
    data = dataclasses.replace(data, batch_size=len(source))
    chunks = iter(video_chunks(source, data, size, chunk_frames=frames))
    batch = next(chunks)
    chunks.close()
    if not batch.mask.all():
        raise UserError(
            f"a video of {source.where} has no face in one of its first {frames} frames"
        )
    videos = [_part(source.annotation(int(index)), 0, frames) for index in batch.index]
    return Clips(batch.image, batch.frame_from_crop, videos)


def _part(video, first, last):
    sliced = {field: video[field][first:last] for field in ("landmarks", "boxes", "mask")}
    return {**video, **sliced}


def noise(deviation: float) -> Degrade:
    """Gaussian noise of this many grey levels, independent in each pixel and frame."""

    def degrade(clip, rng):
        noisy = clip + np.float32(deviation) * rng.standard_normal(clip.shape, np.float32)
        return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)

    return degrade


def blur(deviation: float) -> Degrade:
    """Gaussian blur of this many pixels in every frame."""

    def degrade(clip, rng):
        return np.stack([cv2.GaussianBlur(frame, (0, 0), deviation) for frame in clip])

    return degrade


def cover(share: float) -> Degrade:
    """A patterned ellipse with this share of the crop's pixels, which wanders over the face."""

    def degrade(clip, rng):
        size = clip.shape[1]
        ratio = rng.uniform(0.6, 1.6)
        radius = size * np.sqrt(share / np.pi)
        coarse = rng.uniform(0, 255, (8, 8, 3)).astype(np.float32)
        pattern = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255)
        phase, period = rng.uniform(0, 2 * np.pi, 2), rng.uniform(15, 30, 2)
        covered = clip.copy()
        for t, frame in enumerate(covered):
            x, y = size / 2 + size / 4 * np.sin(phase + 2 * np.pi * t / period)
            mask = np.zeros((size, size), np.uint8)
            axes = (int(radius * np.sqrt(ratio)), int(radius / np.sqrt(ratio)))
            cv2.ellipse(mask, (int(x), int(y)), axes, 20, 0, 360, 255, -1)
            moved = np.roll(pattern, (int(y) - size // 2, int(x) - size // 2), axis=(0, 1))
            frame[mask > 0] = moved[mask > 0]
        return covered

    return degrade
