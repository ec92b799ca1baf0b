"""Clips of crops that are made from one still, with exact labels: training data for video.

A model that is used on video meets what no still shows: its own state from the frame before, crops
that jitter, and frames of which some are noisy, blurred or covered. `augment_clip` films a still,
or frames that were made from one (`data.takes`), with a moving camera, so that a model can be
trained on all of this without any video. Every frame is cut from its picture with one
interpolation, and landmarks move exactly with the pixels.

This is for training. `datasets/moving_faces` and `datasets/degraded_videos` make films for
evaluation, with other light, occluders, noise and motion, so that a gain there is no mere fit to
this module.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from ldeq_jax.data.augment import AugmentConfig, random_motion, tone_table
from ldeq_jax.face import geometry
from ldeq_jax.face.schema import LandmarkSchema


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How a clip of T crops is made from one face. Lengths are in units of the crop's side.

    What is drawn once per clip decides how hard it is; what is drawn per frame is independent from
    frame to frame, as a sensor's noise is.

    Attributes:
        num_frames: T; 0 trains on stills.
        pan: largest motion of the face from frame to frame, along each axis.
        turn: largest rotation from frame to frame, degrees.
        zoom: largest relative change of size from frame to frame.
        jitter: largest standard deviation of the crop's centre and size, drawn once per clip; the
            crop of each frame is then displaced independently, as by a face detector.
        bend: largest amplitude of a smooth displacement of the face's parts that changes over the
            clip, like expressions; 0 keeps the face rigid.
        bend_probability: share of clips with it.
        noise: largest standard deviation of the noise of pixels, grey levels, drawn once per clip.
        noise_probability: share of clips with noise.
        flicker: largest relative change of the light in a frame.
        blur: largest length of the motion blur of a frame.
        blur_probability: share of frames with motion blur, in clips that have any (half of them).
        occluder_probability: share of clips that a textured ellipse passes through.
        jpeg_quality: lowest JPEG quality, drawn once per clip, up to 95.
        jpeg_probability: share of clips that are compressed.
        bad_probability: share of frames that are bad, in clips that have any (half of them):
            blurred twice as far, of a few pixels' resolution and up to twice `noise` noisier.
        takes: data set of short videos of the same faces by name, which turn and speak, as
            `ldeq build moving_faces/takes` makes them from the stills; "" for none.
        take_probability: share of the clips that are made from a take, of faces that have one.

    Raises:
        ValueError: a field is outside its range.
    """

    num_frames: int = 0
    pan: float = 0.06
    turn: float = 3.0
    zoom: float = 0.03
    jitter: float = 0.03
    bend: float = 0.02
    bend_probability: float = 0.5
    noise: float = 20.0
    noise_probability: float = 0.7
    flicker: float = 0.2
    blur: float = 0.08
    blur_probability: float = 0.4
    occluder_probability: float = 0.4
    jpeg_quality: int = 25
    jpeg_probability: float = 0.5
    bad_probability: float = 0.0
    takes: str = ""
    take_probability: float = 0.5

    def __post_init__(self):
        limits = {"num_frames": 64, "turn": 45, "noise": 128, "jpeg_quality": 95}
        for name, value in dataclasses.asdict(self).items():
            if name == "takes":
                continue
            if not 0 <= value <= limits.get(name, 1):
                raise ValueError(
                    f"ClipConfig.{name} must lie in [0, {limits.get(name, 1)}], got {value}"
                )
        if self.num_frames == 1:
            raise ValueError("ClipConfig.num_frames must be 0 (stills) or 2 and more, got 1")


def augment_clip(
    pictures: Sequence[np.ndarray],
    landmarks: np.ndarray,
    crop_from_picture: np.ndarray,
    rng: np.random.Generator,
    *,
    config: ClipConfig,
    augment: AugmentConfig,
    schema: LandmarkSchema,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Films one face: T crops, its landmarks in them, and where the crops lie.

    The clip's frames are imaginary: in frame t the picture is displaced by a similarity, and the
    crop follows the face by the place and size of its landmarks, not by its rotation, as trackers
    do.

    Args:
        pictures: T of them, (H, W, 3) uint8 RGB: the frames of a take, or one still T times.
        landmarks: (T, K, 2) pixels of the pictures.
        crop_from_picture: (T, 3, 3), the crops before any change, which may be displaced and
            larger or smaller, not turned, against each other.
        rng: the only source of randomness.
        config: the motion, and what is drawn per frame.
        augment: the changes of the face that hold for all frames: mirroring, rotation, zoom, shift
            and tone. Blur, occlusion and JPEG noise are replaced by those of `config`.
        schema: of the landmarks, for mirroring.
        size: side of the crops, pixels.

    Returns:
        (T, size, size, 3) uint8 RGB crops; (T, K, 2) float64 landmarks in crop pixels;
        (T, 3, 3) ``frame_from_crop``.
    """
    for_face, for_path, for_jitter, for_bend, for_pixels = rng.spawn(5)
    varied, mirrored = random_motion(augment, size, for_face)
    first_from_picture = varied @ crop_from_picture[0]
    tone = tone_table(augment, for_face)
    number = config.num_frames
    moves = _path(config, size, for_path)
    deviation = config.jitter * for_jitter.uniform()
    displaced = deviation * for_jitter.standard_normal((number, 3))
    bends = _bends(config, size, for_bend)

    order = list(schema.flip_permutation) if mirrored else slice(None)
    start = geometry.transform_points(first_from_picture, landmarks[0]).mean(axis=0)
    crops, points, matrices = [], [], []
    clip = _Pixels(config, size, for_pixels)
    for t in range(number):
        # Frame 0 is the first crop; later frames turn, zoom and shift the face about its middle.
        frame_from_first = _similarity(moves[t, 2], moves[t, 3], start, start + moves[t, :2])
        # Where the middle of this picture's own crop lies in the first, and how much larger it is.
        first_from_own = first_from_picture @ geometry.inverse(varied @ crop_from_picture[t])
        middle = geometry.transform_points(first_from_own, start[None])
        larger = np.sqrt(np.linalg.det(first_from_own[:2, :2]))
        scale = larger * np.exp(moves[t, 3] + displaced[t, 2])
        centre = geometry.transform_points(frame_from_first, middle)[0]
        centre += size * displaced[t, :2] * np.exp(moves[t, 3])
        frame_from_crop = np.diag([scale, scale, 1.0])
        frame_from_crop[:2, 2] = centre - scale * start
        crop_from_frame = geometry.inverse(frame_from_crop)
        crop_from_picture_now = crop_from_frame @ frame_from_first @ first_from_picture
        crop = geometry.warp(pictures[t], crop_from_picture_now, size)
        at = geometry.transform_points(crop_from_picture_now, landmarks[t])[order]
        if bends is not None:
            crop, at = _bent(crop, at, bends[t])
        crops.append(clip.seen(cv2.LUT(crop, tone), t))
        points.append(at)
        matrices.append(frame_from_crop)
    return np.stack(crops), np.stack(points), np.stack(matrices)


def _path(config, size, rng):
    """(T, 4) shift x, y in pixels, rotation in radians and logarithm of the zoom, 0 in frame 0."""
    limits = np.array([size * config.pan] * 2 + [np.deg2rad(config.turn), np.log1p(config.zoom)])
    number = config.num_frames
    # A speed that changes smoothly; half the clips are slower, and a quarter at rest.
    speed = limits * rng.uniform(-1, 1, (2, 4)) * rng.choice([0.0, 0.3, 1.0, 1.0])
    share = np.linspace(0, 1, max(number - 1, 1))[:, None]
    steps = (1 - share) * speed[0] + share * speed[1]
    return np.concatenate([np.zeros((1, 4)), np.cumsum(steps, axis=0)])[:number]


def _similarity(turn, zoom, source, target):
    """(3, 3) rotation by `turn` and zoom by exp(`zoom`) about `source`, which goes to `target`."""
    a, b = np.exp(zoom) * np.cos(turn), np.exp(zoom) * np.sin(turn)
    matrix = np.array([[a, -b, 0.0], [b, a, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2, 2] = target - matrix[:2, :2] @ source
    return matrix


def _bends(config, size, rng):
    """(T, 5, 5, 2) displacements in pixels on a grid over the crop, or None."""
    if config.bend == 0 or rng.random() >= config.bend_probability:
        return None
    ends = size * config.bend * rng.uniform() * rng.uniform(-1, 1, (3, 5, 5, 2))
    share = np.linspace(0, 2, config.num_frames)
    low = np.minimum(share.astype(int), 1)
    part = (share - low)[:, None, None, None]
    part = part * part * (3 - 2 * part)  # starts and ends gently
    return (1 - part) * ends[low] + part * ends[low + 1]


def _bent(crop, points, grid):
    """A crop whose pixel p shows what was at p + d(p), and the points in it."""
    size = crop.shape[0]
    field = cv2.resize(grid.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    place = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float32)
    source = place + field
    bent = cv2.remap(crop, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    at = points.copy()
    for _ in range(8):  # q + d(q) = point; d changes by far less than q, so this converges
        moved = cv2.remap(
            field,
            *np.clip(at, 0, size - 1).astype(np.float32).T[:, :, None],
            cv2.INTER_LINEAR,
        )
        at = points - moved[:, 0]
    return bent, at


class _Pixels:
    """What happens to the pixels of a clip, drawn once per clip and once per frame."""

    def __init__(self, config: ClipConfig, size: int, rng: np.random.Generator):
        self._config, self._size, self._rng = config, size, rng
        noisy = rng.random() < config.noise_probability
        self._noise = config.noise * rng.uniform() ** 2 if noisy else 0.0
        self._flicker = config.flicker * rng.uniform() ** 2
        self._blurs = rng.random() < 0.5
        self._fails = config.bad_probability > 0 and rng.random() < 0.5
        compressed = rng.random() < config.jpeg_probability
        self._quality = int(rng.integers(config.jpeg_quality, 96)) if compressed else 0
        self._occluder = None
        if rng.random() < config.occluder_probability:
            self._occluder = _Occluder(config.num_frames, size, rng)

    def seen(self, crop: np.ndarray, t: int) -> np.ndarray:
        """Frame t of the clip: (S, S, 3) uint8."""
        rng, config = self._rng, self._config
        if self._occluder is not None:
            crop = self._occluder.over(crop, t)
        noise = self._noise
        if self._fails and rng.random() < config.bad_probability:
            crop = _motion_blur(crop, 2 * self._size * config.blur * rng.uniform(), rng)
            crop = _coarse(crop, rng.uniform(2, 6))
            noise += 2 * config.noise * rng.uniform()
        elif self._blurs and rng.random() < config.blur_probability:
            crop = _motion_blur(crop, self._size * config.blur * rng.uniform(), rng)
        crop = crop * np.float32(1 + self._flicker * rng.uniform(-1, 1))
        if noise:
            crop = crop + noise * rng.standard_normal(crop.shape, np.float32)
        crop = np.rint(np.clip(crop, 0, 255)).astype(np.uint8)
        if self._quality:
            options = [cv2.IMWRITE_JPEG_QUALITY, self._quality]
            _, data = cv2.imencode(".jpg", crop[..., ::-1], options)  # OpenCV takes BGR
            crop = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
        return crop


class _Occluder:
    """A textured ellipse that moves over the crops at a constant speed."""

    def __init__(self, num_frames: int, size: int, rng: np.random.Generator):
        axes = np.maximum(size * rng.uniform(0.05, 0.25, 2), 2).astype(int)
        side = 2 * int(axes.max()) + 3
        mask = np.zeros((side, side), np.uint8)
        cv2.ellipse(
            mask,
            (side // 2, side // 2),
            tuple(map(int, axes)),
            rng.uniform(0, 180),
            0,
            360,
            255,
            -1,
        )
        self._mask = cv2.GaussianBlur(mask, (0, 0), 1.0)[..., None] / np.float32(255)
        coarse = rng.uniform(0, 255, 3) + rng.normal(0, rng.uniform(0, 60), (6, 6, 3))
        picture = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        self._picture = np.clip(picture, 0, 255)
        start = rng.uniform(0, size, 2)
        speed = size * rng.uniform(-0.15, 0.15, 2)
        self._places = start + speed * np.arange(num_frames)[:, None]

    def over(self, crop: np.ndarray, t: int) -> np.ndarray:
        """The crop with the ellipse in front."""
        side, size = len(self._mask), crop.shape[0]
        x, y = np.round(self._places[t]).astype(int) - side // 2
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, size), min(y + side, size)
        if left >= right or top >= bottom:
            return crop
        part = np.s_[top - y : bottom - y, left - x : right - x]
        crop = crop.copy()
        behind = crop[top:bottom, left:right]
        share = self._mask[part]
        crop[top:bottom, left:right] = behind + share * (self._picture[part] - behind)
        return crop


def _coarse(crop, factor):
    """A crop at a resolution lower by a factor."""
    side = max(round(len(crop) / factor), 1)
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _motion_blur(crop, length, rng):
    """The mean of a crop over a straight motion of `length` pixels."""
    count = int(np.ceil(length)) | 1
    if count < 3:
        return crop
    kernel = np.zeros((count, count), np.float32)
    direction = rng.uniform(0, np.pi)
    reach = (length - 1) / 2 * np.array([np.cos(direction), np.sin(direction)])
    ends = np.round((count // 2 + np.array([-reach, reach])) * 16).astype(int)
    cv2.line(kernel, tuple(ends[0]), tuple(ends[1]), 1.0, 1, cv2.LINE_8, shift=4)
    return cv2.filter2D(crop, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
