"""Pictures: what a file is, its pixels as 8-bit RGB, the frames of an animation; checks; writing.

Transparency is ignored: colours are used as they are stored, as OpenCV does too. Videos are read by
`media.video`.
"""

import contextlib
import io
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ldeq_jax.errors import UserError, UserFileNotFoundError, UserWriteError
from ldeq_jax.media.files import write_whole
from ldeq_jax.media.signatures import (
    AUDIO,
    AVIF,
    HEAD,
    HEIC,
    MP4,
    PICTURES,
    VIDEO,
    begins,
    obstacle,
    opens_as_video,
    shows_something,
)

Kind = Literal["picture", "animation", "video", "audio"]

MOST_PIXELS = 2**28  # of a picture
_SHORTEST, _USUAL = 0.010, 0.100  # seconds; browsers show a frame of up to 10 ms for 100 ms
_MOVING = ("GIF", "WEBP", "PNG", "AVIF", "FLI")  # formats whose further images are later frames
_ORIENTATION = 0x0112  # of EXIF
_SUBFILE, _BITS, _PHOTOMETRIC = 254, 258, 262  # tags of TIFF
_PAGES = ("TIFF", "DCX")  # formats whose further images are other pages
_VIA_RGBA = ("P", "PA", "LA", "RGBa")  # modes that Pillow cannot turn into RGB at once, or warns
_EIGHT_BIT = ("1", "L", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_PILLOW = threading.Lock()


class PictureError(UserError):
    """A file that cannot be read as a picture; the message names it and says why."""


class _Unsuitable(Exception):
    """What is wrong with a picture: words that follow the name of the file."""


def kind_of(path: str | os.PathLike) -> Kind:
    """What a file is, judged by its content and not by its name.

    A damaged file is of the kind that its first bytes say. GIF, WebP, PNG and AVIF with more than
    one frame are animations; a TIFF of several pages is a picture.

    Raises:
        UserFileNotFoundError: there is no such file.
        PictureError: it is none of these; the message says what it is and what to do.
    """
    path = Path(path)
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserFileNotFoundError(f"no picture {path}, nor a video of that name: {reason}")
    with path.open("rb") as file:
        head = file.read(HEAD)
        if reason := obstacle(head):
            raise PictureError(f"{path} {reason}")
        if begins(AUDIO, head):
            return "audio"
        if begins(MP4, head) and not begins(AVIF, head) and not begins(HEIC, head):
            return "video" if shows_something(file) else "audio"
        if begins(b"OggS", head):
            return "video" if re.search(rb"theora|OVP80|BBCD", head) else "audio"
        if begins(VIDEO, head):
            return "video"
        file.seek(0)
        try:
            with _open(file) as picture:
                moves = picture.format in _MOVING and _num_frames(picture) > 1
                return "animation" if moves else "picture"
        except UnidentifiedImageError:
            if any(begins(pattern, head) for pattern in PICTURES.values()):
                return "picture"
        except Exception:  # Pillow raises many kinds, depending on the format
            return "picture"
        if b"\0" not in head:
            raise PictureError(f"{path} is text, neither a picture nor a video")
        if opens_as_video(file):
            return "video"
    raise PictureError(f"{path} is of a kind that is not known, neither a picture nor a video")


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture, turned upright as its EXIF tag says; of several pages the first.

    Grey of 16 bits is scaled to 8; transparency is ignored.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        OSError: the file cannot be opened.
        PictureError: it is no picture, is damaged or cut short, has more than `MOST_PIXELS`
            pixels, or numbers of 32 bits without a stated white level.
    """
    with _reading(path) as picture:
        return _pixels(picture, upright=True)


def count_pages(path: str | os.PathLike) -> int:
    """Number of pages of a picture, of which `read_picture` reads the first.

    Raises:
        OSError, PictureError: as `read_picture`.
    """
    with _reading(path) as picture:
        return getattr(picture, "n_frames", 1) if picture.format in _PAGES else 1


def animation_frames(path: str | os.PathLike) -> Iterator[tuple[np.ndarray | None, float]]:
    """Frames of an animated GIF, WebP, PNG or AVIF, one after the other.

    Yields:
        The frame, (H, W, 3) uint8 RGB, and the time at which it is first shown, in seconds, the
        first at 0. Frames meant for 10 ms or less are shown for 100 ms, as in web browsers. A
        damaged frame is None and the last one, because later frames are stored as differences.

    Raises:
        OSError, PictureError: as `read_picture`, for the first frame.
    """
    with _reading(path) as picture:
        time = 0.0
        count: int = getattr(picture, "n_frames", 1)
        first = count - _num_frames(picture)
        for index in range(first, count):
            try:
                picture.seek(index)
                frame = _pixels(picture, upright=True)
            except Exception:  # Pillow raises many kinds
                if index == first:
                    raise
                yield None, time
                return
            yield frame, time
            duration = (picture.info.get("duration") or 0) / 1000
            time += duration if duration > _SHORTEST else _USUAL


def stored_picture(path: str | os.PathLike) -> tuple[bytes, tuple[int, int]]:
    """Encoded bytes of a picture for a data set, and its (width, height) as stored.

    The bytes are the file's own, after all of them were decoded once as a check, unless readers
    would disagree about them: what is not a JPEG or PNG of 8-bit RGB or grey, or has an orientation
    tag, is returned as an RGB PNG. It is not turned, because labels are in pixels as stored.

    Raises:
        OSError, PictureError: as `read_picture`; also for an animation or several pages.
    """
    data = Path(path).read_bytes()
    with _reading(path, io.BytesIO(data)) as picture:
        if picture.format in _MOVING + _PAGES and _num_frames(picture) > 1:
            raise PictureError(
                f"{path} holds {_num_frames(picture)} pictures: save the one that is labelled"
            )
        plain = (
            picture.format in ("JPEG", "MPO", "PNG")
            and picture.mode in ("RGB", "L")
            and picture.getexif().get(_ORIENTATION, 1) == 1
            and not (picture.format == "PNG" and data[24] == 16)  # bits, in the header
        )
        pixels = _pixels(picture, upright=False)
    if plain:
        return data, pixels.shape[1::-1]
    return _encode(pixels, ".png"), pixels.shape[1::-1]


def decode_stored(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of what `stored_picture` returned, not turned; None if it is damaged."""
    # OpenCV is faster than Pillow, and the bytes were checked when they were stored.
    mode = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(data, np.uint8), mode)


def write_picture(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes a picture, complete or not at all; the folder is created when missing.

    Args:
        path: file to write, replaced if it exists; its ending gives the format.
        image: (H, W, 3) uint8 RGB.

    Raises:
        UserWriteError: it cannot be written, or the format is unknown.
    """
    path = Path(path)
    try:
        write_whole(path, _encode(image, path.suffix))
    except (OSError, ValueError) as error:
        raise UserWriteError(
            f"cannot write {path} ({error}): use a name ending in .png or .jpg in a writable folder"
        ) from error


def jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """A picture (H, W, 3) uint8 RGB as a JPEG file."""
    return _encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def check_picture(picture: np.ndarray) -> None:
    """Checks that an array is an RGB picture, and not the None that OpenCV returns after a failure.

    Raises:
        TypeError: it is no array, or neither uint8 nor floating.
        ValueError: its shape is not (H, W, 3), or floating values lie outside [0, 1].
    """
    if not hasattr(picture, "ndim"):
        raise TypeError(
            "the picture must be an array (H, W, 3) in RGB, not "
            f"{type(picture).__name__}: read it first, for instance by "
            "ldeq_jax.media.pictures.read_picture(path)"
        )
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(
            f"the picture must be (H, W, 3) in RGB, not {picture.shape}; repeat a grey one for "
            "each colour"
        )
    check_images(picture[None])


def check_images(image: np.ndarray) -> None:
    """Checks that an array is a batch of RGB images, which else would give wrong landmarks.

    Raises:
        TypeError: it is neither uint8 nor floating.
        ValueError: its shape is not (B, H, W, 3), or floating values lie outside [0, 1].
    """
    if image.ndim != 4 or image.shape[-1] != 3:
        raise ValueError(f"images must be (B, H, W, 3), not {image.shape}")
    if image.dtype == np.uint8:
        return
    if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"images must be uint8 (0..255) or floating (0..1), not {image.dtype}")
    low, high = float(np.min(image)), float(np.max(image))
    if not (0 <= low and high <= 1):
        raise ValueError(
            f"floating images must lie in [0, 1], these span [{low:g}, {high:g}]: pass uint8 for "
            "0..255, and do not normalise them, the model does"
        )


def _encode(image: np.ndarray, suffix: str, options: Sequence[int] = ()) -> bytes:
    """A picture (H, W, 3) uint8 RGB in the format of a suffix.

    It is encoded in memory, because OpenCV cannot open files of every name.
    """
    try:
        done, data = cv2.imencode(suffix, image[..., ::-1], list(options))
    except cv2.error as error:
        raise ValueError(f"OpenCV does not write {suffix or 'files without an ending'}") from error
    if not done:
        raise ValueError(f"OpenCV cannot write {image.shape} as {suffix}")
    return data.tobytes()


@contextlib.contextmanager
def _reading(path: str | os.PathLike, file: BinaryIO | None = None) -> Iterator[Image.Image]:
    """An open picture; whatever goes wrong with it becomes a PictureError that names the file.

    Args:
        path: the picture.
        file: its content, if it is read already.
    """
    with file or Path(path).open("rb") as content:
        head = content.read(HEAD)
        content.seek(0)
        if reason := obstacle(head):
            raise PictureError(f"{path} {reason}")
        try:
            with _open(content) as picture:
                yield picture
        except PictureError:
            raise
        except _Unsuitable as error:
            raise PictureError(f"{path} {error}") from None
        except Exception as error:  # Pillow raises many kinds, depending on the format
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            for name, pattern in PICTURES.items():
                if begins(pattern, head):
                    reason = f": this {name} is damaged, cut short or of a rare form{reason}"
            raise PictureError(
                f"{path} is not a readable picture{reason or ', by its content'}"
            ) from error


def _open(file: BinaryIO) -> Image.Image:
    """A picture of which only the header is read.

    Raises:
        _Unsuitable: it is too large.
        Exception: it is no picture, or damaged; Pillow raises many kinds.
    """
    with _PILLOW:  # its own limit is below the pictures of some telephones
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = usual
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise _Unsuitable(
            f"is too large, {width} x {height} pixels of at most {MOST_PIXELS // 10**6} million: "
            "scale it down, or cut the face out"
        )
    return picture


def _num_frames(picture: Image.Image) -> int:
    """Frames of an animation, pages of a document; 1 for a plain picture."""
    if picture.format not in _MOVING + _PAGES:
        return 1
    # An animated PNG may begin with a picture for readers that cannot show it.
    return getattr(picture, "n_frames", 1) - bool(picture.info.get("default_image"))


def _pixels(picture: Image.Image, upright: bool) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an open picture, decoded to its end.

    Raises:
        _Unsuitable: it is a preview, or has no stated white level.
        Exception: it is damaged; Pillow raises many kinds.
    """
    form, tags = picture.format, getattr(picture, "tag_v2", {})
    if tags.get(_SUBFILE, 0) & 1:
        raise _Unsuitable(
            "is a raw photo of a camera, or another TIFF that begins with a small preview: convert "
            "it to JPEG or PNG"
        )
    picture.load()  # raises if it is cut off, where OpenCV would fill in grey
    if upright and picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and form in ("PNG", "PPM")):
        white = 2 ** tags.get(_BITS, (16,))[0] - 1
        grey = (np.asarray(picture).astype(np.uint32) * 255 + white // 2) // white
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow minds up to 8 bits only
            grey = 255 - grey
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in _VIA_RGBA:
        picture = picture.convert("RGBA")
    if picture.mode not in _EIGHT_BIT:
        what = {"I": "of 32-bit integers", "F": "of floating-point numbers"}
        raise _Unsuitable(
            f"is a picture {what.get(picture.mode, f'of mode {picture.mode}')}, of which nothing "
            "says what is white: save it with 8 or 16 bits"
        )
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
