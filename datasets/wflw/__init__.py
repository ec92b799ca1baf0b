"""WFLW faces with 98 landmarks."""

from wflw.wflw import Wflw

__all__ = ["Wflw"]
