"""Videos with the landmarks of several methods drawn on them, side by side, and single frames."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.face.schema import LandmarkSchema
from ldeq_jax.media.pictures import write_picture
from ldeq_jax.media.writer import constant_rate, write_video
from ldeq_jax.report.draw import draw_landmarks, draw_tracks
from ldeq_jax.report.style import Path

Window = tuple[int, int, int, int]

_GAP = 4  # white pixels between methods; even, because codecs need even sides
_INK = (20, 20, 20)
_GREY = 128


def face_window(tracks: Iterable[np.ndarray], margin: float = 0.4) -> Window | None:
    """The part of the frame that contains a face in all frames of a clip.

    Args:
        tracks: arrays (..., 2) of landmarks in frame pixels; those not finite are ignored.
        margin: by how much the window is larger than the extent of the landmarks, 0.4 for 40 %.

    Returns:
        x1 y1 x2 y2 in frame pixels, the ends excluded, for `side_by_side`; it may extend beyond the
        frame. None if no landmark is finite.
    """
    points = np.concatenate([np.reshape(track, (-1, 2)) for track in tracks]).astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    space = margin / 2 * (high - low)
    first, last = np.floor(low - space), np.ceil(high + space) + 1
    return int(first[0]), int(first[1]), int(last[0]), int(last[1])


def side_by_side(
    frame: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    schema: LandmarkSchema,
    *,
    target: np.ndarray | None = None,
    window: Window | None = None,
    height: int = 440,
) -> np.ndarray:
    """Shows a frame once per method, with the method's landmarks drawn and its name above.

    Args:
        frame: (H, W, 3) uint8 RGB.
        predictions: method to its landmarks (K, 2) in frame pixels; those not finite are left out.
        schema: schema of the landmarks.
        target: (K, 2) reference landmarks, drawn first, in another colour.
        window: x1 y1 x2 y2, the part of the frame to show, clipped to the frame; the whole frame
            if None.
        height: the shown part is enlarged, by a whole factor, to at least this height.

    Returns:
        (H', W', 3) uint8 RGB picture with even sides. Frames of one size with the same methods and
        window give pictures of one size.

    Raises:
        ValueError: there is no method, the window lies outside the frame, or the points are not
            those of the schema.
    """
    if not predictions:
        raise ValueError("no method to show: predictions is empty")
    right, bottom = frame.shape[1], frame.shape[0]
    x1, y1, x2, y2 = window or (0, 0, right, bottom)
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, right), min(y2, bottom)
    if x1 >= x2 or y1 >= y2:
        raise ValueError(f"window {window} lies outside the frame of {right} x {bottom} pixels")
    shown = frame[y1:y2, x1:x2]
    scale = max(1, -(-height // shown.shape[0]))
    radius = scale * shown.shape[0] / 140  # the same in all frames, however far the face is
    moved = None if target is None else target - np.array([x1, y1])
    faces = [
        draw_landmarks(shown, points - np.array([x1, y1]), schema, moved, scale, radius)
        for points in predictions.values()
    ]
    return _beside(list(predictions), faces)


def tracks_side_by_side(
    frame: np.ndarray, methods: Mapping[str, Mapping[int, np.ndarray]], schema: LandmarkSchema
) -> np.ndarray:
    """Shows a frame once per method, with all faces as `draw.draw_tracks` draws them.

    Args:
        frame: (H, W, 3) uint8 RGB.
        methods: by the name of each method, id to landmarks (K, 2) in pixels of the frame.
        schema: schema of the landmarks.

    Returns:
        (H', W', 3) uint8 RGB picture with even sides, the names above.

    Raises:
        ValueError: the points are not those of the schema.
    """
    return _beside(list(methods), [draw_tracks(frame, faces, schema) for faces in methods.values()])


def _beside(names: Sequence[str], pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size beside each other, their names above, padded to even sides."""
    captions = _captions(names, *pictures[0].shape[:2])
    gap = np.full((len(captions[0]) + len(pictures[0]), _GAP, 3), 255, np.uint8)
    columns = []
    for caption, picture in zip(captions, pictures, strict=True):
        columns += [gap, np.vstack([caption, picture])]
    whole = np.hstack(columns[1:])
    odd = np.mod(whole.shape[:2], 2)
    return np.pad(whole, ((0, odd[0]), (0, odd[1]), (0, 0)), constant_values=255)


def _captions(names: Sequence[str], height: int, width: int) -> list[np.ndarray]:
    """A white bar (_, width, 3) for each name, all in the largest common size that fits."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    widest = max(cv2.getTextSize(name, font, 1, 1)[0][0] for name in names)
    scale = min(height / 600, 0.94 * width / max(widest, 1))
    thickness = max(1, round(1.2 * scale))
    bars = []
    for name in names:
        bar = np.full((round(46 * scale) + 2, width, 3), 255, np.uint8)
        length = cv2.getTextSize(name, font, scale, thickness)[0][0]
        start = (width - length) // 2, round(30 * scale) + 1
        bars.append(cv2.putText(bar, name, start, font, scale, _INK, thickness, cv2.LINE_AA))
    return bars


def write_overlay(
    path: Path,
    frames: Iterable[np.ndarray | None],
    predictions: Mapping[str, np.ndarray],
    schema: LandmarkSchema,
    fps: float,
    *,
    times: ArrayLike | None = None,
    target: np.ndarray | None = None,
    margin: float | None = 0.4,
    codec: str = "vp09",
) -> None:
    """Writes a video of a clip with the landmarks of each method, side by side.

    One frame at a time is held. The file appears when it is complete; its folder is made when
    missing.

    Args:
        path: file to write, its name ending in .mp4.
        frames: T frames (H, W, 3) uint8 RGB, all of one size. For None, a frame that could not be
            decoded, the frame before is shown again, or grey if there is none.
        predictions: method to its landmarks (T, K, 2) in frame pixels; those not finite, as where
            the face is lost, are left out.
        schema: schema of the landmarks.
        fps: frames per second.
        times: (T,) seconds when each frame was. The video keeps them, see
            `media.writer.constant_rate`: it repeats frames or leaves some out. If None, each frame
            is written once.
        target: (T, K, 2) reference landmarks, drawn first, in another colour.
        margin: of the window around all landmarks of the clip (see `face_window`), which is the
            same in every frame; None for the whole frame.
        codec: "vp09" or "mp4v", see `media.writer.write_video`.

    Raises:
        OSError: the file cannot be written, or this OpenCV has no such codec.
        ValueError: the methods differ in their number of frames, there is none, there are more or
            fewer frames than landmarks or times, or times do not grow.
    """
    length, window = _clip(predictions, target, margin)
    shown = None
    if times is not None:
        times = np.asarray(times, np.float64)
        if len(times) != length:
            raise ValueError(f"there are {len(times)} times for landmarks of {length} frames")
        fps, shown = constant_rate(times, fps)
    pictures = (
        side_by_side(
            frame,
            {method: track[t] for method, track in predictions.items()},
            schema,
            target=None if target is None else target[t],
            window=window,
        )
        for t, frame in enumerate(_exactly(length, _shown(frames)))
    )
    write_video(path, pictures, fps, shown=shown, codec=codec)


def write_still(
    path: Path,
    frames: Iterable[np.ndarray | None],
    predictions: Mapping[str, np.ndarray],
    schema: LandmarkSchema,
    index: int,
    *,
    target: np.ndarray | None = None,
    margin: float | None = 0.4,
) -> None:
    """Writes one frame of the video that `write_overlay` makes of the same clip, as a picture.

    Args:
        path: picture to write; its folder is made when missing.
        frames: T frames (H, W, 3) uint8 RGB or None, read no further than needed.
        predictions: method to its landmarks (T, K, 2) in frame pixels.
        schema: schema of the landmarks.
        index: number of the frame.
        target: (T, K, 2) reference landmarks.
        margin: of the window shown.

    Raises:
        OSError: the picture cannot be written.
        ValueError: there is no such frame, or the methods differ in their number of frames.
    """
    length, window = _clip(predictions, target, margin)
    known = 0 <= index < length
    frame = next(itertools.islice(_shown(frames), index, None), None) if known else None
    if frame is None:
        raise ValueError(f"there is no frame {index} in a clip of {length} frames")
    picture = side_by_side(
        frame,
        {method: track[index] for method, track in predictions.items()},
        schema,
        target=None if target is None else target[index],
        window=window,
    )
    write_picture(path, picture)


def _clip(predictions, target, margin) -> tuple[int, Window | None]:
    """Number of frames of a clip, and the window to show."""
    tracks = {**predictions, **({} if target is None else {"target": target})}
    lengths = {name: len(track) for name, track in tracks.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"all methods need the same frames, one at least; they have {lengths}")
    window = None if margin is None else face_window(tracks.values(), margin)
    return lengths.popitem()[1], window


def _exactly(length: int, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    count = 0
    for frame in itertools.islice(frames, length + 1):
        count += 1
        if count <= length:
            yield frame
    if count != length:
        raise ValueError(
            f"landmarks of {length} frames for {'more' if count > length else count} frames: "
            "give the landmarks of the whole clip, NaN where there are none"
        )


def _shown(frames: Iterable[np.ndarray | None]) -> Iterator[np.ndarray]:
    """The frames, and for each that is None the one before; grey if there is none."""
    last: np.ndarray | None = None
    missing = 0
    for frame in frames:
        if frame is not None:
            if last is None:
                yield from itertools.repeat(np.full_like(frame, _GREY), missing)
            last = frame
        if last is None:
            missing += 1
        else:
            yield last
