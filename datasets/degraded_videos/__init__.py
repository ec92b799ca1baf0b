"""Labelled videos of another data set, made harder."""

from degraded_videos.degraded_videos import DegradedVideos

__all__ = ["DegradedVideos"]
