"""Augmentation of faces: a random change of the crop, then of its pixels.

All geometric changes are combined in the matrix that cuts the crop from its frame. So pixels are
interpolated once, and a moved or turned crop shows more of its frame, and black only outside it.
"""

import dataclasses

import cv2
import numpy as np

from ldeq_jax.errors import UserError
from ldeq_jax.face import geometry
from ldeq_jax.face.schema import LandmarkSchema


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training faces are varied; each change has its own size and probability.

    LDEQ's augmentation is not published. The defaults are those of its parent project, HIH, whose
    crops have 256 pixels; changes that HIH does not have are off.

    Attributes:
        translate: largest shift along each axis, in units of the crop's side, uniform in both
            directions.
        translate_probability: see above; 0 switches a change off, 1 makes it certain.
        scale: largest relative change of the face's size: 0.2 zooms by 1/1.2 ... 1.2, log-uniform.
        scale_probability: off in HIH.
        rotate: largest turn about the crop's centre, degrees, uniform in both directions.
        rotate_probability: see above.
        flip_probability: of a mirrored face, its landmarks swapped by the schema's permutation.
        brightness: largest part of the full range added to or taken from all pixels.
        brightness_probability: off in HIH.
        contrast: largest relative change of the distance from mid-grey.
        contrast_probability: off in HIH.
        color: largest relative change of each colour channel, drawn for each independently.
        color_probability: off in HIH.
        grayscale_probability: of a crop without colour; off in HIH.
        blur: largest deviation of the Gaussian blur, in units of the crop's side, uniform from 0.
        blur_probability: see above.
        occlude: largest side of the rectangle of one random colour, in units of the crop's side;
            height and width are uniform from 0.
        occlude_probability: see above.
        jpeg_quality: lowest JPEG quality, uniform up to 95.
        jpeg_probability: of JPEG noise; off in HIH.
        empty_probability: share of the rows that show no face, made from the face's picture (see
            `data.empty`). They do not count as faces; their heatmaps are to be broad.

    Raises:
        UserError: a probability or size is outside its range.
    """

    translate: float = 30 / 256
    translate_probability: float = 0.5
    scale: float = 0.2
    scale_probability: float = 0.0
    rotate: float = 30.0
    rotate_probability: float = 0.5
    flip_probability: float = 0.5
    brightness: float = 0.2
    brightness_probability: float = 0.0
    contrast: float = 0.3
    contrast_probability: float = 0.0
    color: float = 0.2
    color_probability: float = 0.0
    grayscale_probability: float = 0.0
    blur: float = 5 / 256
    blur_probability: float = 0.3
    occlude: float = 0.4
    occlude_probability: float = 0.5
    jpeg_quality: int = 30
    jpeg_probability: float = 0.0
    empty_probability: float = 0.0

    def __post_init__(self):
        # Sides, sizes and changes above 1 make no sense; these two have other units.
        limits = {"rotate": 180, "jpeg_quality": 95}
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= limits.get(name, 1):
                raise UserError(
                    f"AugmentConfig.{name} must lie in [0, {limits.get(name, 1)}], got {value}"
                )


def augment_face(
    image: np.ndarray,
    landmarks: np.ndarray,
    crop_from_frame: np.ndarray,
    rng: np.random.Generator,
    *,
    config: AugmentConfig,
    schema: LandmarkSchema,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut one face from its picture, varied at random.

    Args:
        image: (H, W, 3) uint8 RGB frame.
        landmarks: (K, 2) frame pixels.
        crop_from_frame: (3, 3), the crop before augmentation.
        rng: the only source of randomness.
        config: what to vary.
        schema: of the landmarks, for mirroring.
        size: side of the crop, pixels.

    Returns:
        (size, size, 3) uint8 RGB crop; (K, 2) float64 landmarks in crop pixels, which may lie
        outside the crop; (3, 3) ``crop_from_frame`` of the crop as cut, mirroring included.
    """
    crop_from_plain, mirrored = random_motion(config, size, rng)
    crop_from_frame = crop_from_plain @ crop_from_frame
    points = geometry.transform_points(crop_from_frame, landmarks)
    if mirrored:
        points = points[list(schema.flip_permutation)]
    crop = geometry.warp(image, crop_from_frame, size)
    return vary_pixels(crop, config, rng), points, crop_from_frame


def random_motion(
    config: AugmentConfig, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Draw the geometric change: shift, then mirror, then turn and zoom about the crop's centre.

    Args:
        config: what to vary.
        size: side of the crop, pixels.
        rng: the only source of randomness.

    Returns:
        (3, 3) matrix from the plain crop to the varied one, and whether it mirrors.
    """
    motion, middle = np.eye(3), (size - 1) / 2
    if rng.random() < config.translate_probability:
        motion[:2, 2] = size * rng.uniform(-config.translate, config.translate, 2)
    mirrored = rng.random() < config.flip_probability
    if mirrored:
        motion = np.array([[-1, 0, size - 1], [0, 1, 0], [0, 0, 1]]) @ motion
    angle, zoom = 0.0, 1.0
    if rng.random() < config.rotate_probability:
        angle = np.deg2rad(rng.uniform(-config.rotate, config.rotate))
    if rng.random() < config.scale_probability:
        zoom = (1 + config.scale) ** rng.uniform(-1, 1)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    turn[:2, 2] = middle - turn[:2, :2].sum(axis=1) * middle
    return turn @ motion, mirrored


def vary_pixels(crop: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw and apply the changes of pixels: tone, blur, rectangle, JPEG noise, in this order.

    Args:
        crop: (S, S, 3) uint8 RGB.
        config: what to vary.
        rng: the only source of randomness.

    Returns:
        (S, S, 3) uint8 RGB; ``crop`` itself is left as it was.
    """
    size = crop.shape[0]
    crop = _vary_tone(crop, config, rng)
    if rng.random() < config.blur_probability:
        deviation = size * rng.uniform(0, config.blur)
        if deviation > 0.1:  # cv2 takes 0 for "choose one yourself"; below this nothing changes
            crop = cv2.GaussianBlur(crop, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)
    if rng.random() < config.occlude_probability:
        height, width = (size * rng.uniform(0, config.occlude, 2)).astype(int)
        top, left = rng.integers(0, [size - height + 1, size - width + 1])
        crop = crop.copy()
        crop[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    if rng.random() < config.jpeg_probability:
        quality = int(rng.integers(config.jpeg_quality, 95, endpoint=True))
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)
        crop = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
    return crop


def tone_table(config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Draws brightness, contrast and channel gains.

    Args:
        config: what to vary.
        rng: the only source of randomness.

    Returns:
        (1, 256, 3) uint8, the new value of each value of each channel, for ``cv2.LUT``.
    """
    tone = np.repeat(np.arange(256.0)[:, None], 3, axis=1)
    if rng.random() < config.contrast_probability:
        tone = (tone - 127.5) * (1 + rng.uniform(-config.contrast, config.contrast)) + 127.5
    if rng.random() < config.brightness_probability:
        tone = tone + 255 * rng.uniform(-config.brightness, config.brightness)
    if rng.random() < config.color_probability:
        tone = tone * (1 + rng.uniform(-config.color, config.color, 3))
    return np.rint(tone.clip(0, 255)).astype(np.uint8)[None]


def _vary_tone(crop, config, rng):
    """Tone by one table, and greyness."""
    table = tone_table(config, rng)
    if (table != np.arange(256)[:, None]).any():
        crop = cv2.LUT(crop, table)
    if rng.random() < config.grayscale_probability:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return crop
