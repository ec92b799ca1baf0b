"""Clips with exact landmarks, filmed from the stills of another data set."""

from moving_faces.moving_faces import MovingFaces

__all__ = ["MovingFaces"]
