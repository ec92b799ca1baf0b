"""Pictures and videos of landmarks in motion: error against flicker, methods side by side."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ldeq_jax.media.video import constant_rate, write_video
from ldeq_jax.report import Path, clean_axes, draw_landmarks, palette, subplots, write_image
from ldeq_jax.schema import LandmarkSchema

Window = tuple[int, int, int, int]

_PASTELS = ("#E5B550", "#7CC0E8", "#66BC9E", "#DCA0C0", "#A6A6A6", "#C2BC5C")
_MARKERS = "sv^D<>PXhpd"
_FARTHEST = (1.3, 1.15)  # ends of the NME and of the NMF axis, in parts of the reference
_UNIT = "% of a pixel, 256-pixel face"
_GAP = 4  # white pixels between methods, even like everything else in a video
_INK = (20, 20, 20)
_GREY = 128


class Curve(NamedTuple):
    """What one method makes of each of its settings.

    Attributes:
        points: (N, 2) NME in percent and NMF of each setting; NaN leaves a gap.
        joined: whether the settings have an order, so that a line may join them. A grid of two
            parameters has none: there the line joins those that no other beats, the rest are faint.
        recurrence: whether the method is recurrent inference, drawn boldly, not a filter.
        causal: whether no frame waits for a later one. If not: dashed, with hollow markers.
    """

    points: ArrayLike
    joined: bool = True
    recurrence: bool = False
    causal: bool = True


def trade_off_plot(
    curves: Mapping[str, Curve],
    path: Path,
    *,
    reference: tuple[float, float] | None = None,
    chosen: Mapping[str, tuple[float, float]] | None = None,
    floor: float | None = None,
) -> None:
    """Plots flicker against error, one curve a method; less of both is better.

    Where there is a reference, the axes end not far beyond it: what a filter that smooths far too
    much does there is cut off. The reference and the chosen points are always seen.

    Args:
        curves: method to its curve.
        path: picture to write; its folder must exist.
        reference: NME and NMF of the frames solved each for itself, a star.
        chosen: method to the NME and NMF of the setting it is to be judged by, with a black rim.
        floor: NMF that the labels' own jitter gives to a perfect method, a dotted line.

    Raises:
        ValueError: a point is chosen for a method that has no curve.
    """
    chosen = chosen or {}
    if unknown := sorted(chosen.keys() - curves.keys()):
        raise ValueError(f"a point is chosen for {unknown}; the curves are {sorted(curves)}")
    figure, [[axes]] = subplots(1, 1, (6.4, 3.9))
    clean_axes(axes)
    vivid = iter(palette(len(curves)))
    pale, markers = itertools.cycle(_PASTELS), itertools.cycle(_MARKERS)
    for name, curve in sorted(curves.items(), key=lambda item: not item[1].recurrence):
        colour = next(vivid) if curve.recurrence else next(pale)
        dots = {
            "color": colour,
            "marker": "o" if curve.recurrence else next(markers),
            "markersize": 5.5 if curve.recurrence else 4,
            "markerfacecolor": colour if curve.causal else "white",
        }
        points = _points(curve.points)
        place = 3 if curve.recurrence else 2
        if not curve.joined:
            points, beaten = _front(points)
            axes.plot(*beaten.T, **dots, linestyle="none", alpha=0.3, zorder=place - 0.5)
        width, style = 2.4 if curve.recurrence else 1.1, "-" if curve.causal else "--"
        axes.plot(*points.T, **dots, linewidth=width, linestyle=style, zorder=place, label=name)
        dots |= {"markersize": 7, "markerfacecolor": colour, "markeredgecolor": "black"}
        dots |= {"markeredgewidth": 1.3}
        axes.plot(*_points(chosen.get(name)).T, **dots, linestyle="none", zorder=place + 2)
    if len({curve.causal for curve in curves.values()}) > 1:
        style = {"color": "0.5", "marker": "o", "markersize": 4, "markerfacecolor": "white"}
        axes.plot([], [], linestyle="--", linewidth=1.1, **style, label="needs later frames")
    star, rims = _points(reference), _points(list(chosen.values()))
    if len(star):
        style = {"color": "black", "marker": "*", "markersize": 13, "linestyle": "none"}
        axes.plot(*star.T, **style, zorder=5, label="each frame for itself")
    if len(rims):
        style = {"color": "black", "marker": "o", "markersize": 7, "linestyle": "none"}
        axes.plot([], [], **style, fillstyle="none", markeredgewidth=1.3, label="setting chosen")
    if floor is not None:
        axes.axhline(floor, color="0.35", linestyle=":", linewidth=1.2, zorder=1)
        axes.annotate(
            "jitter of the labels",
            (1, floor),
            (0, 2),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            horizontalalignment="right",
            fontsize=8,
            color="0.35",
        )
    _limit(axes, [_points(curve.points) for curve in curves.values()], star, rims, floor)
    axes.set_xlabel("NME (%)")
    axes.set_ylabel(f"NMF ({_UNIT})")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=150)


def _points(values: ArrayLike | None) -> np.ndarray:
    return np.asarray([] if values is None else values, np.float64).reshape(-1, 2)


def _front(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (N, 2) that no other beats in both, by the first; and the rest."""
    others = points[:, None]
    beaten = ((points <= others) & (points < others).any(-1, keepdims=True)).all(-1).any(1)
    front = points[~beaten]
    return front[np.argsort(front[:, 0])], points[beaten]


def _limit(axes, curves, star, rims, floor) -> None:
    """Ends the axes where the points worth a look end."""
    points = np.concatenate([*curves, star, rims])
    points = points[np.isfinite(points).all(axis=1)]
    if np.isfinite(star).all() and len(star):
        farthest = np.nanmax([star[0] * _FARTHEST, *rims], axis=0)
        points = points[(points <= farthest).all(axis=1)]
    if not len(points):
        return
    low, high = points.min(axis=0), points.max(axis=0)
    if floor is not None:
        low[1], high[1] = np.fmin(low[1], floor), np.fmax(high[1], floor)
    space = np.where(high > low, 0.06 * (high - low), 0.1 * high + 1e-9)
    axes.set_xlim(low[0] - space[0], high[0] + space[0])
    axes.set_ylim(low[1] - space[1], high[1] + space[1])


def flicker_plot(series: Mapping[str, ArrayLike], path: Path, fps: float, title: str = "") -> None:
    """Plots the flicker of each frame of a video against time, one line a method.

    Args:
        series: method to (T,) flicker of its frames, as from `metrics.flicker`; NaN leaves a gap.
        path: picture to write; its folder must exist.
        fps: frames per second.
        title: what stands above.
    """
    figure, [[axes]] = subplots(1, 1, (7.2, 2.8))
    clean_axes(axes)
    for colour, (name, values) in zip(palette(len(series)), series.items(), strict=True):
        values = np.asarray(values, np.float64)
        seconds = np.arange(len(values)) / fps
        axes.plot(seconds, values, color=colour, linewidth=1, label=name)
        there = np.pad(np.isfinite(values), 1)
        alone = there[1:-1] & ~there[:-2] & ~there[2:]  # no line reaches these
        axes.plot(seconds[alone], values[alone], ".", color=colour, markersize=3)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.set_xlabel("Time (s)")
    axes.set_ylabel(f"Flicker\n({_UNIT})")
    axes.set_title(title, fontsize=9, loc="right")
    if series:
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=150)


def face_window(tracks: Iterable[np.ndarray], margin: float = 0.4) -> Window | None:
    """The part of the frame that holds a face through a whole clip.

    Args:
        tracks: arrays (..., 2) of landmarks in frame pixels; those not finite are passed over.
        margin: by how much the window is larger than what the landmarks reach, 0.4 for 40 %.

    Returns:
        x1 y1 x2 y2 in frame pixels, the ends excluded, for `side_by_side`; it may reach out of the
        frame. None without any landmark.
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
    """Shows a frame once a method, its landmarks drawn and its name above.

    Args:
        frame: (H, W, 3) uint8 RGB.
        predictions: method to its landmarks (K, 2) in frame pixels; those not finite are left out.
        schema: schema of the landmarks.
        target: (K, 2) reference landmarks, drawn below in another colour.
        window: x1 y1 x2 y2, the part of the frame to show, cut off at the frame's edges; all of
            it if None.
        height: the frame is enlarged, by a whole number, to at least this height.

    Returns:
        (H', W', 3) uint8 RGB picture, as large for every frame of a size with the same methods and
        window; both sides are even, as videos need them.

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
    captions = _captions(list(predictions), *faces[0].shape[:2])
    gap = np.full((len(captions[0]) + len(faces[0]), _GAP, 3), 255, np.uint8)
    columns = []
    for caption, face in zip(captions, faces, strict=True):
        columns += [gap, np.vstack([caption, face])]
    picture = np.hstack(columns[1:])
    odd = np.mod(picture.shape[:2], 2)
    return np.pad(picture, ((0, odd[0]), (0, odd[1]), (0, 0)), constant_values=255)


def _captions(names: Sequence[str], height: int, width: int) -> list[np.ndarray]:
    """A white bar (_, width, 3) for each name, all of them written in one size that fits."""
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
        frames: T frames (H, W, 3) uint8 RGB, all of one size. For one that could not be decoded,
            None, the frame before is shown again, or grey if there is none.
        predictions: method to its landmarks (T, K, 2) in frame pixels; those not finite, as where
            the face is lost, are left out.
        schema: schema of the landmarks.
        fps: frames per second.
        times: (T,) seconds when each frame was. The video keeps them as `media.video.constant_rate`
            does: it repeats frames or leaves some out. If None, each frame is written once.
        target: (T, K, 2) reference landmarks, drawn below in another colour.
        margin: of the window shown, which stands still, around all landmarks of the clip (see
            `face_window`); None for the whole frame.
        codec: "vp09" or "mp4v", see `media.video.write_video`.

    Raises:
        OSError: the file cannot be written, or this OpenCV has no such codec.
        ValueError: the methods differ in their number of frames, there is none, there are more or
            fewer frames than landmarks or times, or times do not grow.
    """
    length, window = _clip(predictions, target, margin)
    shown = None
    if times is not None:
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
    write_image(path, picture)


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
    last, missing = None, 0
    for frame in frames:
        if frame is None and last is None:
            missing += 1
            continue
        if last is None:
            yield from itertools.repeat(np.full_like(frame, _GREY), missing)
        last = last if frame is None else frame
        yield last
