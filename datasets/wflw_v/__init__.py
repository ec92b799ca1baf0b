"""Labelled videos in the layout of WFLW-V."""

from wflw_v.wflw_v import WflwV

__all__ = ["WflwV"]
