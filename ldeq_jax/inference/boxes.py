"""Boxes of faces as users give them: as text, in boxes.json beside a picture, in a .npy file.

Boxes are x1, y1, x2, y2 in pixels of the picture or frame. `face.boxes` checks the numbers.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.boxes import box_fault
from ldeq_jax.media import files
from ldeq_jax.media.video import VideoReader

LISTING = "boxes.json"


def parse_box(box: str | Iterable[Any], shape: tuple[int, ...], origin: str) -> np.ndarray:
    """A box as numbers, after checking it against a picture.

    Args:
        box: x1, y1, x2, y2 and what else a detector writes; or text of them with commas.
        shape: of the picture, height and width first.
        origin: words on where it comes from, for the message.

    Returns:
        (4,) float64.

    Raises:
        UserError: it is not x1, y1, x2, y2, has no area or lies outside the picture.
    """
    try:
        x1, y1, x2, y2, *_ = map(float, box.split(",") if isinstance(box, str) else box)
    except (TypeError, ValueError) as error:
        raise UserError(f"a box must be x1,y1,x2,y2, not {box!r} ({origin})") from error
    numbers = np.array([x1, y1, x2, y2])
    if fault := box_fault(numbers, shape):
        raise UserError(f"the box {x1:g},{y1:g},{x2:g},{y2:g} ({origin}) {fault}")
    return numbers


def find_boxes(
    path: Path, texts: list[str], shape: tuple[int, ...]
) -> tuple[np.ndarray | None, str]:
    """Boxes of the faces of a picture file.

    Args:
        path: the picture.
        texts: boxes as text, "x1,y1,x2,y2"; where there are none, boxes.json beside the picture is
            read, which maps file names to a box or a list of boxes.
        shape: of the picture, height and width first.

    Returns:
        (N, 4) float64, None where no boxes are given; and words on where they come from.

    Raises:
        UserError: `parse_box` refuses a box, or boxes.json cannot be read.
    """
    listing = path.parent / LISTING
    if texts:
        found, origin = texts, "by --box"
    elif (boxes := files.entry_of(read_listing(listing), path.name)) is not None:
        several = isinstance(boxes, list) and any(isinstance(box, list) for box in boxes)
        found, origin = boxes if several else [boxes], f"by {listing}"
    else:
        return None, f"neither by --box nor by {listing}"
    return np.array([parse_box(box, shape, origin) for box in found]), origin


def read_listing(path: Path) -> dict[str, Any]:
    """Boxes by file name, unchecked; empty when there is no such file.

    Raises:
        UserError: the file is no JSON object.
    """
    if not path.exists():
        return {}
    try:
        entries = json.loads(files.read_text(path))
        if not isinstance(entries, dict):
            raise ValueError(f"it holds a {type(entries).__name__}")
    except ValueError as error:
        raise UserError(
            f"{path} must map file names to boxes ({error}); correct it, or use --box"
        ) from error
    return entries


def read_track(path: Path, reader: VideoReader) -> np.ndarray:
    """Boxes of one face in every frame of a video, from a NumPy file as face detectors write it.

    The number of rows is checked against the header of the video, and only where they differ
    against the video itself, which is decoded for that.

    Args:
        path: .npy file, (T, 4) or wider, x1 y1 x2 y2, NaN in frames without a face.
        reader: the video.

    Returns:
        (T, 4) float64.

    Raises:
        UserError: the file holds something else, is of another video, or a box is not in its frame.
    """
    try:
        boxes = np.load(path, allow_pickle=False).astype(np.float64)
    except (ValueError, EOFError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no .npy file of numbers: save the boxes as an array (T, 4) with numpy.save"
        ) from error
    rows = len(boxes) if boxes.ndim else 0
    frames = frame_count(reader, rows)
    if boxes.ndim != 2 or boxes.shape[1] < 4 or rows != frames:
        raise wrong_length(path, boxes.shape, frames, reader.name)
    shape = reader.height, reader.width
    for t, box in enumerate(boxes[:, :4]):
        if np.isfinite(box).all():
            parse_box(box, shape, f"row {t} of {path}, counted from 0")
    return boxes[:, :4]


def wrong_length(path: Path, shape: tuple[int, ...], frames: int, name: str) -> UserError:
    """The error of a file of boxes that are not those of a video's frames."""
    return UserError(
        f"{path} must hold x1 y1 x2 y2 in {frames} rows, one for each frame of {name}; it holds "
        f"an array of {shape}"
    )


def frame_count(reader: VideoReader, expected: int) -> int:
    """Number of frames of a video, decoded to count them unless its header says as expected."""
    by_header = reader.header_frames
    return by_header if by_header == expected else len(reader.times()[0])
