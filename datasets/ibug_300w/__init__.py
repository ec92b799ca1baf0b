"""300-W faces with 68 landmarks."""

from ibug_300w.ibug_300w import Ibug300w

__all__ = ["Ibug300w"]
