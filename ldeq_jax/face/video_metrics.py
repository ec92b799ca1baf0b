"""Errors of landmarks on videos: NME, flicker (NMF) and Allan deviation (NAD) of each video.

Errors are fractions of the distance between the outer eye corners, or of the face size: the root of
the area of the box around the face's landmarks. Flicker is in percent of a pixel of a face of 256
pixels. Sums are in float64. NumPy only.

NaN means that no error could be measured: a video with a NaN in one counted frame has NaN as its
result, so that a method gains nothing by leaving a face out. A mask takes out frames without labels
and padding; what lies under its False is never used, so that padding changes no bit of a result.
`metrics` holds the measures of stills.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_PERCENT_OF_256 = 100 * 256


def video_nme(
    predicted: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike,
    *,
    eye_corners: tuple[int, int] | None = None,
    landmarks: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Normalised mean error of each video: the mean over its frames of the NME of the face.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        eye_corners: indices of the two outer eye corners, to divide by their distance; by the face
            size if None.
        landmarks: indices of the landmarks that count; all do if None. The scale of the face comes
            from all landmarks of the target.

    Returns:
        (B,) error as a fraction. NaN for a video without a counted frame, or with a NaN in one.

    Raises:
        ValueError: the shapes differ, no landmark counts, or a counted face has no size.
    """
    error, scale, counted, complete = _errors(predicted, target, mask, landmarks, eye_corners)
    return _mean(np.linalg.norm(error, axis=-1).mean(axis=-1) / scale, counted, complete)


def flicker(
    predicted: ArrayLike, target: ArrayLike, mask: ArrayLike, *, landmarks: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Change of the error from each frame to the next, in percent of a 256-pixel face.

    With d_t the error of a landmark and w, h the size of the target's box in frame t:
    ``100 ||d_t - d_{t-1}|| / (sqrt(w h) / 256)``, root-mean-square over landmarks. The motion of
    the face itself does not count.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B, T) flicker of frame t against frame t - 1. NaN at t = 0, where either frame does not
        count, and where either holds a NaN.

    Raises:
        ValueError: as in `video_nme`.
    """
    error, size, counted, _ = _errors(predicted, target, mask, landmarks)
    change, pairs = _changes(error, size, counted)
    first = np.full_like(size[:, :1], np.nan)
    return np.concatenate([first, np.where(pairs, np.sqrt(change), np.nan)], axis=1)


def nmf(
    predicted: ArrayLike, target: ArrayLike, mask: ArrayLike, *, landmarks: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Normalised mean flicker of each video (Micaelli et al., CVPR 2023).

    The root-mean-square of `flicker` over the pairs of adjacent frames that both count; a gap in
    the mask breaks a pair.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B,) flicker in percent of a 256-pixel face; 0 when the error is constant in time. NaN for a
        video without a pair, or with a NaN in a counted frame.

    Raises:
        ValueError: as in `video_nme`.
    """
    error, size, counted, complete = _errors(predicted, target, mask, landmarks)
    change, pairs = _changes(error, size, counted)
    return np.sqrt(_mean(change, pairs, complete))


def nad(
    predicted: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike,
    lags: ArrayLike,
    *,
    landmarks: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Normalised Allan deviation of each video: how much its error changes at each time scale.

    The error in face sizes is averaged over m frames; NAD(m) is the root of half the mean square
    of the difference between neighbouring averages (overlapping estimator: m frames against the m
    before, starting at every frame), root-mean-square over landmarks. Its dependence on m separates
    jitter from drift: noise that is independent in each frame falls as ``m ** -0.5``, and an error
    that drifts steadily grows as m. For a face of constant size ``NAD(1) = NMF / (25600 sqrt(2))``.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        lags: (L,) numbers of frames m, 1 or more.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B, L) deviation as a fraction of the face size; 0 when the error is constant in time. NaN
        where a video has no 2 m counted frames in a row, or a NaN in a counted frame.

    Raises:
        ValueError: as in `video_nme`, or a lag is not a whole number of 1 or more.

    Reference:
        Allan, Statistics of atomic frequency standards, Proc. IEEE 1966.
    """
    error, size, counted, complete = _errors(predicted, target, mask, landmarks)
    lags = np.asarray(lags)
    if lags.ndim != 1 or not lags.size or lags.dtype.kind not in "iu" or lags.min() < 1:
        raise ValueError(f"lags must be whole numbers of frames, 1 or more, got {lags.tolist()}")
    sums = np.cumsum(np.pad(error / size[..., None, None], [(0, 0), (1, 0), (0, 0), (0, 0)]), 1)
    frames = np.cumsum(np.pad(counted, [(0, 0), (1, 0)]), 1)
    deviations = []
    for m in lags.tolist():
        step = (sums[:, 2 * m :] - 2 * sums[:, m:-m] + sums[:, : -2 * m]) / m
        unbroken = frames[:, 2 * m :] - frames[:, : -2 * m] == 2 * m
        variance = np.square(step).sum(axis=-1).mean(axis=-1) / 2
        deviations.append(np.sqrt(_mean(variance, unbroken, complete)))
    return np.stack(deviations, axis=-1)


def by_landmark(
    predicted: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike,
    *,
    eye_corners: tuple[int, int],
    landmarks: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Error and flicker of each landmark of each video.

    The mean of the errors over landmarks is `video_nme`, the root-mean-square of the flickers is
    `nmf`.

    Args:
        predicted: (B, T, K, 2) landmarks in frame pixels, (x, y).
        target: (B, T, K, 2) reference landmarks, same units.
        mask: (B, T) True for the frames that count.
        eye_corners: indices of the two outer eye corners, to divide errors by their distance.
        landmarks: indices of those that count, as in `video_nme`.

    Returns:
        (B, K, 2) error as a fraction, and flicker in percent of a 256-pixel face; NaN for landmarks
        that do not count, and as in `video_nme` and `nmf`.

    Raises:
        ValueError: as in `video_nme`.
    """
    error, scale, counted, complete = _errors(predicted, target, mask, landmarks, eye_corners)
    distance = np.linalg.norm(error, axis=-1) / scale[..., None]
    error, size, _, _ = _errors(predicted, target, mask, landmarks)
    pairs = counted[:, 1:] & counted[:, :-1]
    steps = np.square(np.diff(error, axis=1)).sum(axis=-1)
    steps = (_PERCENT_OF_256 / size[:, 1:, None]) ** 2 * steps
    columns = [
        [_mean(values[..., k], frames, complete) for k in range(values.shape[-1])]
        for values, frames in ((distance, counted), (steps, pairs))
    ]
    found = np.full((*np.shape(target)[:1], np.shape(target)[2], 2), np.nan)
    chosen = np.arange(np.shape(target)[2]) if landmarks is None else np.asarray(landmarks)
    found[:, chosen, 0], found[:, chosen, 1] = np.transpose(columns[0]), np.transpose(columns[1])
    found[..., 1] = np.sqrt(found[..., 1])
    return found


def label_jitter(
    target: ArrayLike, mask: ArrayLike, *, landmarks: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Estimate of the NMF that the jitter of the labels themselves adds to any prediction.

    Third differences remove motion up to constant acceleration. White noise of variance s^2 gives
    them the variance 20 s^2 and gives flicker the variance 2 s^2. Faster motion is counted as
    jitter, and jitter that is correlated over frames is not.

    Args:
        target: (B, T, K, 2) reference landmarks in frame pixels.
        mask: (B, T) True for the frames that count.
        landmarks: indices of those that count; None for all.

    Returns:
        (B,) in the unit of `nmf`; squares of the two add. NaN for a video without four
        successive frames that count.
    """
    target = np.asarray(target, np.float64)
    error, size, counted, complete = _errors(np.zeros_like(target), target, mask, landmarks)
    differences = np.square(np.diff(error, n=3, axis=1)).sum(axis=-1).mean(axis=-1)
    runs = counted[:, 3:] & counted[:, 2:-1] & counted[:, 1:-2] & counted[:, :-3]
    squares = (_PERCENT_OF_256 / size[:, 3:]) ** 2 * differences / 10
    return np.sqrt(_mean(squares, runs, complete))


def _errors(predicted, target, mask, landmarks, eye_corners=None):
    """Errors and scales, from which all measures of videos are computed.

    Returns:
        Errors (B, T, L, 2) in pixels of the landmarks that count, 0 where the mask is False; the
        scale (B, T) of each face, 1 where the mask is False; the mask; and (B,) True for videos
        without a NaN that counts.
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    counted = np.asarray(mask, bool)
    if predicted.shape != target.shape or target.ndim != 4 or target.shape[-1] != 2:
        raise ValueError(
            f"videos need predicted and target of one shape (B, T, K, 2), got {predicted.shape} "
            f"and {target.shape}"
        )
    if counted.shape != target.shape[:2]:
        raise ValueError(f"videos need a mask of shape {target.shape[:2]}, got {counted.shape}")
    chosen = np.arange(target.shape[2]) if landmarks is None else np.asarray(landmarks)
    if not chosen.size:
        raise ValueError("no landmark counts: give their indices, or None for all")

    points = np.where(counted[..., None, None], np.stack([predicted, target]), 0)
    points[~np.isfinite(points)] = np.nan
    predicted, target = points
    if eye_corners is None:
        scale = np.sqrt(np.ptp(target, axis=2).prod(axis=-1))
    else:
        left, right = eye_corners
        scale = np.linalg.norm(target[:, :, left] - target[:, :, right], axis=-1)
    if (degenerate := np.argwhere(counted & (scale == 0))).size:
        video, frame = degenerate[0]
        raise ValueError(
            f"the target of video {video}, frame {frame} has no size"
            + ("" if eye_corners is None else f" (eye corners {left} and {right} coincide)")
            + ", so its error has no scale: mask the frame or correct its annotation"
        )
    error = (predicted - target)[:, :, chosen]
    complete = ~np.isnan(error.sum(axis=(1, 2, 3)) + scale.sum(axis=1))
    return error, np.where(counted, scale, 1), counted, complete


def _changes(error, size, counted):
    """Squared flicker (B, T - 1) of each frame against the one before, and whether both count."""
    squares = np.square(np.diff(error, axis=1)).sum(axis=-1).mean(axis=-1)
    pairs = counted[:, 1:] & counted[:, :-1]
    return (_PERCENT_OF_256 / size[:, 1:]) ** 2 * squares, pairs


def _mean(values, counted, complete):
    """(B,) means over the frames that count; NaN where none does or the video is not complete."""
    return np.array(
        [
            row[keep].mean() if whole and keep.any() else np.nan
            for row, keep, whole in zip(values, counted, complete, strict=True)
        ],
        np.float64,
    )
