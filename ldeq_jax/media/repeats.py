"""Frames that a film shows twice, found from the frames alone: `is_repeat`.

Films that were converted from another rate, and those of cameras in the dark, repeat frames. To a
measure of flicker they are a face that stands still and then jumps.

The change of a frame is that of the cells of a 96 x 96 picture in grey, of which 2 in 100 change
more. Films of still faces change by .3 levels of 255 at least, most by 2 and more; a repeated frame
that was encoded again changes by up to 1.7.
"""

import dataclasses

import cv2
import numpy as np

_SIDE, _PERCENTILE = 96, 98
SAME = 0.25  # levels of 255; below that a frame is a repeat whatever the others do
NEARLY, RATIO, KEPT = 2.0, 0.3, 2  # of a change against the greatest of as many before


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """What is remembered of the frames of a film.

    Attributes:
        picture: (96, 96) grey levels of the last frame.
        changes: of the last frames.
    """

    picture: np.ndarray
    changes: tuple[float, ...] = ()


def is_repeat(image: np.ndarray, before: Stream | None) -> tuple[bool, Stream]:
    """Whether a frame shows what the frame before showed.

    It does if it changes by less than .25 levels, or by less than 2 levels and less than .3 times
    the change of one of the two frames before. (A frame may be shown three times.)

    Args:
        image: (H, W, 3) uint8 RGB.
        before: what the call for the last frame returned; None for a first frame.

    Returns:
        Whether it does, and what the next call needs.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    picture = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    if before is None:
        return False, Stream(picture)
    change = float(np.percentile(np.abs(picture - before.picture), _PERCENTILE))
    limit = max(SAME, min(NEARLY, RATIO * max(before.changes, default=0.0)))
    return change < limit, Stream(picture, (*before.changes, change)[-KEPT:])
