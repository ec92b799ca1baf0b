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
NEARLY, RATIO = 2.0, 0.3  # of a change, in levels, and against the last that was no repeat
_MOST = 2  # repeats in a row that this ratio finds; more are a pause of the film


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """What is remembered of the frames of a film.

    Attributes:
        picture: (96, 96) grey levels of the last frame.
        usual: change of the last frame that was no repeat.
        repeats: number of frames since then.
    """

    picture: np.ndarray
    usual: float = 0.0
    repeats: int = 0


def is_repeat(image: np.ndarray, before: Stream | None) -> tuple[bool, Stream]:
    """Whether a frame shows what the frame before showed.

    It does if it changes by less than .25 levels, or by less than 2 levels and less than .3 times
    the last change that was no repeat, if there are no more than two such frames in a row.

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
    alike = change < min(NEARLY, RATIO * before.usual) and before.repeats < _MOST
    if change < SAME or alike:
        return True, Stream(picture, before.usual, before.repeats + 1)
    return False, Stream(picture, change)
