"""Labelled faces of your own."""

from faces.faces import Faces

__all__ = ["Faces"]
