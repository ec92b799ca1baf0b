"""Tracks: what one or more trackers find in a film, frame after frame."""

import dataclasses
from collections.abc import Iterable, Mapping
from time import perf_counter

import numpy as np

from ldeq_jax.face.landmarks import Landmarks
from ldeq_jax.inference.follower import UNDECODED, Follower, FollowerState


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """What a tracker finds in T frames.

    Attributes:
        landmarks: Landmarks (T,), points and spread float32.
        trouble: (T,) text, why there is no face, "" if there is.
        seconds: (T,) that each frame took.
    """

    landmarks: Landmarks
    trouble: np.ndarray
    seconds: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """Numbers of the frames without a face that come just after one with it.

        Frames that could not be decoded do not count.
        """
        decoded = np.flatnonzero(self.trouble != UNDECODED)
        ok = self.landmarks.ok[decoded]
        return decoded[1:][ok[:-1] & ~ok[1:]]


class Recorder:
    """Runs trackers on the frames of a film as they come, and keeps what they find.

    It keeps about two kilobytes per frame and tracker, and no image.

    Args:
        trackers: by name.
    """

    def __init__(self, trackers: Mapping[str, Follower]):
        self._trackers = trackers
        self._time: float | None = None
        self._states: dict[str, FollowerState | None] = dict.fromkeys(trackers)
        self._rows: dict[str, list[tuple[Landmarks, str, float]]] = {name: [] for name in trackers}

    def add(
        self, frame: np.ndarray | None, box: np.ndarray | None, time: float
    ) -> dict[str, Landmarks]:
        """Finds the face in the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB; None if it could not be decoded.
            box: as `Follower.step` takes it.
            time: of the frame, seconds since the start of the film; later than the last.

        Returns:
            The face by the tracker's name.
        """
        interval = 0.0 if self._time is None else time - self._time
        faces, self._time = {}, time
        for name, tracker in self._trackers.items():
            start = perf_counter()
            face, state = tracker.step(frame, self._states[name], box, interval)
            taken = perf_counter() - start
            self._states[name] = state
            points, spread = face.points.astype(np.float32), face.spread.astype(np.float32)
            faces[name] = dataclasses.replace(face, points=points, spread=spread, info=None)
            self._rows[name].append((faces[name], state.trouble, taken))
        return faces

    def tracks(self) -> dict[str, Track]:
        """The tracks so far, by the tracker's name; of one frame at least."""
        tracks = {}
        for name, rows in self._rows.items():
            faces, trouble, seconds = zip(*rows, strict=True)
            tracks[name] = Track(
                landmarks=Landmarks.stack(faces),
                trouble=np.array(trouble),
                seconds=np.array(seconds),
            )
        return tracks


def follow(
    trackers: Mapping[str, Follower],
    frames: Iterable[np.ndarray | None],
    boxes: Iterable[np.ndarray | None],
    fps: float = 25.0,
) -> dict[str, Track]:
    """Runs several trackers over a film, reading it once.

    Args:
        trackers: by name.
        frames: T frames (H, W, 3) uint8 RGB, None for those that could not be decoded; one at a
            time is held.
        boxes: T boxes, as `Follower.step` takes them.
        fps: frames per second.

    Returns:
        The track of each tracker.

    Raises:
        ValueError: there are more or fewer boxes than frames, or none.
        UserError: `face.boxes.check_boxes` refuses a box.
    """
    recorder = Recorder(trackers)
    for index, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        recorder.add(frame, box, index / fps)
    return recorder.tracks()


def movement(landmarks: np.ndarray) -> float:
    """Mean motion of landmarks from one frame to the next, as a part of the face size.

    It includes the face's own motion and the jitter of the landmarks: of two methods on one video,
    the one with less is the steadier, or lags behind.

    Args:
        landmarks: (T, K, 2); frames with a NaN are left out.

    Returns:
        Mean over landmarks and pairs of frames, divided by sqrt(w h) of the landmarks in the second
        frame; NaN without a pair.
    """
    points = np.asarray(landmarks, np.float64)
    way = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(axis=1)
    size = np.sqrt(np.prod(np.ptp(points[1:], axis=1), axis=-1))
    there = np.isfinite(way) & np.isfinite(size)
    return float(np.mean(way[there] / size[there])) if there.any() else float("nan")
