"""The crop rules: from a face in a picture to the square that the network sees."""

from typing import Literal

Crop = Literal["box", "extent", "landmarks", "none"]
