"""One face from what several models find: their habits removed, weighted, robust against outliers.

All of it happens in the frame of the face's own eyes (`face.eyes`), in units of the distance of the
outer eye corners. Members are those of `members.Ensemble`.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face.eyes import from_eyes, to_eyes

_ROUNDS = 5  # of reweighting; the weights change by less than 1 % in the last
_HUBER = 1.5  # residuals up to which a member's weight is whole, in its usual residuals
_LEAST = 1e-4  # of the eye distance; a member is never taken to be surer


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What the members find in one window.

    Attributes:
        points: (M, T, K, 2) frame pixels.
        spread: (M, T, K) standard deviation or spread by the model, pixels; NaN where it says none.
    """

    points: np.ndarray
    spread: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Habits:
    """What is measured of the members over all windows.

    Attributes:
        offsets: (M, K, 2) where a member places each landmark, from where the members with the
            labels' own landmarks place it; eye distances.
        residuals: (M,) median distance of a member's landmarks from the median of the others, once
            the offsets are taken away; eye distances.
    """

    offsets: np.ndarray
    residuals: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Fused:
    """The labels of one window before they are smoothed.

    Attributes:
        points: (T, K, 2) frame pixels.
        disagreement: (T, K) root-mean-square distance of the members from them, each counting
            alike, in percent of the eye distance.
        jitter: (T, K) standard deviation of the frame-to-frame noise of each coordinate, frame
            pixels, see `_jitter`.
        weights: (M,) mean weight of each member; they sum to 1.
        away: (M, T) mean distance of a member's landmarks from the labels, eye distances.
    """

    points: np.ndarray
    disagreement: np.ndarray
    jitter: np.ndarray
    weights: np.ndarray
    away: np.ndarray


def habits(windows: Sequence[Found], own: np.ndarray, eye_corners: tuple[int, int]) -> Habits:
    """Measures the members.

    The offset of a landmark is the median over the frames of a window, and over windows of those:
    with many people it is what tells one collection of labels from another, with few also what
    tells the models apart on these people.

    Args:
        windows: what they find, one at least.
        own: (M,) whether a member's landmarks are those of the labels, not of another schema.
        eye_corners: indices of the outer eye corners.
    """

    def faces() -> Iterator[np.ndarray]:  # again each time, as those of a thousand windows are many
        for window in windows:
            yield _in_eyes(window.points, _eyes(window.points[own], eye_corners))

    differences = [np.median(face - face[own].mean(axis=0), axis=1) for face in faces()]
    offsets = np.median(differences, axis=0)
    away = []
    for face in faces():
        centred = face - offsets[:, None]
        others = [np.median(np.delete(centred, m, axis=0), axis=0) for m in range(len(centred))]
        distance = np.linalg.norm(centred - np.stack(others), axis=-1)
        away.append(np.median(distance, axis=(1, 2)))
    return Habits(offsets=offsets, residuals=np.maximum(np.median(away, axis=0), _LEAST))


def fuse(found: Found, known: Habits, own: np.ndarray, eye_corners: tuple[int, int]) -> Fused:
    """The labels of a window: the robust weighted mean of the members, landmark by landmark.

    A member's weight is one by its median residual, and by the square of its own spread against its
    usual one; and less where it is far from the mean (Huber's weights). Not by the square of the
    residual too, as for errors that are independent: variants of one model agree with each other
    more than they are right.

    Args:
        found: what the members find.
        known: of the members.
        own: as in `habits`.
        eye_corners: likewise.

    Raises:
        UserError: there are no frames, or a landmark is not finite.
    """
    if not found.points.size or not np.isfinite(found.points).all():
        raise UserError("a member's landmarks are missing in some frames")
    eyes = _eyes(found.points[own], eye_corners)
    face = _in_eyes(found.points, eyes) - known.offsets[:, None]
    sure = known.residuals[:, None, None] * _relative(found.spread)
    usual = known.residuals[:, None, None] / sure**2
    mean = _mean(face, usual)
    for _ in range(_ROUNDS):
        distance = np.linalg.norm(face - mean, axis=-1)
        weights = usual * np.minimum(1, _HUBER * sure / np.maximum(distance, _LEAST))
        mean = _mean(face, weights)
    away = face - mean
    squares = np.square(away).sum(axis=-1)
    scale = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=-1)
    shares = weights / weights.sum(axis=0)
    return Fused(
        points=from_eyes(mean, eyes),
        disagreement=100 * np.sqrt(squares.mean(axis=0)),
        jitter=_jitter(away, shares) * scale[:, None],
        weights=shares.mean(axis=(1, 2)),
        away=np.sqrt(squares).mean(axis=-1),
    )


def plain_mean(found: Found) -> np.ndarray:
    """(T, K, 2) the mean of the members as they are, to compare with."""
    return found.points.mean(axis=0)


def _jitter(away: np.ndarray, shares: np.ndarray, reach: int = 7) -> np.ndarray:
    """Noise from frame to frame, by how the members' distances from the mean change.

    What moves the face moves all members, so it is in none of their distances from the mean; and a
    distance that stays, or drifts, is no noise of frames. Second differences leave both out; those
    of white noise of variance s^2 have the variance 6 s^2, and the distance of one of M members of
    equal noise has 1 - 1/M of its variance. The mean is taken to have the noise of one member: they
    share some of it, as they see the same pixels, and that part is in none of the distances.

    Args:
        away: (M, T, K, 2) from the mean.
        shares: (M, T, K) weights, which sum to 1.
        reach: frames to each side that count, by a weight that falls to 0.

    Returns:
        (T, K) standard deviation of a coordinate, in the unit of `away`.
    """
    members, frames = away.shape[:2]
    if frames < 3:
        return np.zeros(away.shape[1:3])
    changes = np.square(np.diff(away, n=2, axis=1)).mean(axis=-1) / 6
    of_one = (shares[:, 1:-1] * changes).sum(axis=0) * members / (members - 1)
    lag = np.abs(np.arange(frames)[:, None] - np.arange(1, frames - 1)[None])
    near = np.maximum(1 - lag / (reach + 1), 0)
    return np.sqrt(near @ of_one / near.sum(axis=1, keepdims=True))


def _eyes(points: np.ndarray, eye_corners: tuple[int, int]) -> np.ndarray:
    """(T, 2, 2) outer eye corners, the mean over members."""
    eyes = points.mean(axis=0)[:, list(eye_corners)].astype(np.float64)
    if not (np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=-1) > 0).all():
        raise UserError("the eye corners fall together in some frames")
    return eyes


def _in_eyes(points: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    return to_eyes(points.astype(np.float64), eyes)


def _relative(spread: np.ndarray) -> np.ndarray:
    """(M, T, K) the members' own uncertainty, 1 in the median of each; 1 where they say none."""
    known = np.where(spread > 0, spread, np.nan)
    unknown = np.isnan(known).all(axis=(1, 2), keepdims=True)
    filled = np.where(unknown, 1.0, known)
    relative = filled / np.nanmedian(filled, axis=(1, 2), keepdims=True)
    return np.where(np.isnan(relative), 1.0, relative)


def _mean(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (weights[..., None] * face).sum(axis=0) / weights.sum(axis=0)[..., None]
