"""The first bytes of files: which are pictures, videos or sounds, and advice for all others.

Only bytes are looked at. `media.pictures` and `media.video` decode.
"""

import importlib
import importlib.util
import os
import re
from typing import Any, BinaryIO, cast

import cv2
from PIL import features

HEAD = 4096  # bytes of a file that tell what it is

# How files begin. All patterns are matched at the first byte, with . for any byte.
PICTURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "GIF": rb"GIF8",
    "WebP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "BMP": rb"BM.{4}\x00{4}",
}
AVIF = rb".{4}ftyp(avi[fs]|mi[af]1.{4}.{0,40}avif)"
HEIC = rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)"
MP4 = rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)"
VIDEO = (
    rb"\x1a\x45\xdf\xa3|RIFF.{4}AVI |FLV\x01|\x00\x00\x01[\xb3\xba]|YUV4MPEG2"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11|(?!GIF8)\x47.{187}\x47.{187}\x47"
)
AUDIO = (
    rb"ID3|fLaC|RIFF.{4}WAVE|RF64.{4}WAVE|FORM.{4}AIF|#!AMR|caff|.{4}ftyp(M4A|M4B|M4P|F4A) "
    rb"|\xff[\xe2\xe3\xf1-\xf3\xf9-\xfd]"
)
_OTHER = {
    rb"%PDF": "is a PDF document: save the picture in it as JPEG or PNG",
    rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!": "is an archive: unpack it",
    rb"version https://git-lfs": "is a Git LFS pointer, not the file: run `git lfs pull`",
    rb"\xff\x0a|\x00{3}\x0cJXL ": "is a JPEG XL picture: convert it to JPEG or PNG",
    rb"#\?(RADIANCE|RGBE)|v/1\x01": "is a high dynamic range picture: convert it to JPEG or PNG",
    rb"II\*\x00.{4}CR|IIR[OS]|IIU\x00|FUJIFILMCCD-RAW|.{4}ftypcrx ": (
        "is a raw photo of a camera: convert it to JPEG or PNG"
    ),
    rb"\x93NUMPY": "is a NumPy array, not a picture",
    rb"\s*(<!doctype html|<html|<head|<body)": (
        "is an HTML page, not a picture or video: was the download complete?"
    ),
    rb"\s*<(?=.*<svg|svg)": "is an SVG drawing: convert it to PNG",
}


def begins(pattern: bytes, head: bytes) -> bool:
    """Whether a file that begins with some bytes matches a pattern of this module."""
    return re.match(pattern, head, re.DOTALL) is not None


def obstacle(head: bytes) -> str:
    """Why a file that begins with some bytes is of no use, and what to do.

    Returns:
        Words that follow the name of the file, such as "is empty: ..."; "" if there is no reason.
    """
    if not head:
        return "is empty: its download or copy was not complete"
    if not any(head):
        return "begins with nothing but zeros: its download or copy was not complete"
    if begins(AVIF, head):
        known = features.check("avif")
        return "" if known else "is an AVIF picture: convert it to JPEG or PNG, or update Pillow"
    if begins(HEIC, head):
        if importlib.util.find_spec("pillow_heif") is None:
            return "is an HEIC picture: convert it to JPEG or PNG, or pip install pillow-heif"
        importlib.import_module("pillow_heif").register_heif_opener()
    text = head.removeprefix(b"\xef\xbb\xbf").lower()
    for pattern, reason in _OTHER.items():
        if begins(pattern, head) or begins(pattern, text):
            return reason
    return ""


def shows_something(file: BinaryIO) -> bool:
    """Whether an MP4 or QuickTime file has a track of pictures, or does not say."""
    start, end = 0, file.seek(0, os.SEEK_END)
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        size = int.from_bytes(header[:4])
        size = int.from_bytes(header[8:]) if size == 1 else size or end - start
        if header[4:8] == b"moov":
            file.seek(start)
            handlers = re.findall(rb"hdlr.{8}(....)", file.read(size), re.DOTALL)
            return not handlers or b"vide" in handlers
        start += max(size, 8)
    return True


def opens_as_video(file: BinaryIO) -> bool:
    """Whether OpenCV takes a file for a video."""
    file.seek(0)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns if not
    capture = cv2.VideoCapture(cast(Any, file), cv2.CAP_FFMPEG, [])
    try:
        return capture.isOpened()
    finally:
        capture.release()
        cv2.utils.logging.setLogLevel(level)
