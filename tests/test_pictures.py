"""A picture has the same pixels in whatever form it is stored; what is no picture is named."""

import io
import os
import struct
import sys
import types
import wave
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from ldeq_jax.media import pictures

SIDE = 24


@pytest.fixture(scope="module")
def colours():
    """(24, 24, 3) uint8 RGB."""
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def grey(colours):
    """(24, 24) uint8."""
    return colours[..., 0]


def saved(path, array, mode=None, **options):
    """Path of an array that Pillow wrote, in a mode."""
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def written(path, array):
    """Path of an array RGB that OpenCV wrote, which has depths that Pillow has not."""
    assert cv2.imwrite(str(path), array if array.ndim == 2 else array[..., ::-1])
    return path


def change_short(path, tag, value):
    """Changes an entry of a TIFF, one number of 16 bits."""
    data = path.read_bytes()
    start = data.index(struct.pack("<HHI", tag, 3, 1))
    path.write_bytes(data[: start + 8] + struct.pack("<H", value) + data[start + 10 :])
    return path


# Depths and modes.


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_16_bits_is_scaled_to_8(tmp_path, grey, name):
    path = written(tmp_path / name, grey.astype(np.uint16) * 257)
    read = pictures.read_picture(path)
    assert read.dtype == np.uint8 and read.flags.writeable
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))


def test_white_and_the_nearest_grey_keep_their_places(tmp_path):
    values = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    read = pictures.read_picture(written(tmp_path / "a.png", values))
    np.testing.assert_array_equal(read[0, :, 0], [0, 0, 1, 1, 2, 254, 255, 255])


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_colours_of_16_bits_are_those_of_8(tmp_path, colours, name):
    path = written(tmp_path / name, colours.astype(np.uint16) * 257)
    np.testing.assert_array_equal(pictures.read_picture(path), colours)


def test_tiffs_say_what_is_white(tmp_path, grey):
    path = saved(tmp_path / "a.tif", grey.astype(np.uint16) * 257)
    change_short(path, 262, 0)  # 0 is white
    np.testing.assert_array_equal(pictures.read_picture(path)[..., 1], 255 - grey)


def test_grey_of_12_bits_is_scaled_to_8(tmp_path):
    path = saved(tmp_path / "a.tif", np.full((2, 2), 7, np.uint16))
    # Two pixels take three bytes: 0x000 and 0xfff; 0x800 and 0x7ff.
    data = change_short(path, 258, 12).read_bytes()
    path.write_bytes(
        data.replace(struct.pack("<4H", 7, 7, 7, 7), bytes.fromhex("000fff8007ff0000"))
    )
    np.testing.assert_array_equal(pictures.read_picture(path)[..., 0], [[0, 255], [128, 127]])


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.full((4, 4), 70000, np.int32), "of 32-bit integers"),
        (np.full((4, 4), 0.5, np.float32), "of floating-point numbers"),
    ],
)
def test_numbers_without_a_white_are_refused(tmp_path, array, what):
    path = saved(tmp_path / "a.tif", array)
    assert pictures.kind_of(path) == "picture"
    for read in (pictures.read_picture, pictures.stored_picture):
        with pytest.raises(pictures.PictureError, match=rf"a\.tif is a picture {what}.*8 or 16"):
            read(path)


def test_colours_in_floating_point_are_refused(tmp_path, colours):
    path = written(tmp_path / "a.tif", colours.astype(np.float32) / 255)
    assert pictures.kind_of(path) == "picture"
    with pytest.raises(pictures.PictureError, match="TIFF is damaged, cut short or of a rare form"):
        pictures.read_picture(path)


@pytest.mark.parametrize("kind", ["png", "webp", "tif", "jp2"])
def test_transparency_is_left_out(tmp_path, colours, kind):
    alpha = np.arange(SIDE * SIDE).reshape(SIDE, SIDE, 1).astype(np.uint8)
    alpha[0] = 1  # WebP forgets what is wholly transparent
    options = {"webp": {"lossless": True, "exact": True}}.get(kind, {})
    path = saved(tmp_path / f"a.{kind}", np.dstack([colours, alpha]), **options)
    np.testing.assert_array_equal(pictures.read_picture(path), colours)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palettes_are_looked_up(tmp_path, colours, transparency):
    image = Image.fromarray(colours).quantize(64)
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pictures.read_picture(tmp_path / "a.png"), expected)


@pytest.mark.parametrize(("mode", "name"), [("LA", "a.png"), ("1", "a.png"), ("1", "a.tif")])
def test_grey_with_transparency_and_black_and_white(tmp_path, grey, mode, name):
    path = saved(tmp_path / name, np.where(grey < 128, 0, 255).astype(np.uint8), mode)
    expected = np.where(grey < 128, 0, 255)[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(pictures.read_picture(path), expected)


def test_inks_become_colours(tmp_path, colours):
    smooth = cv2.resize(colours[:3, :3], (64, 64), interpolation=cv2.INTER_CUBIC)
    path = saved(tmp_path / "a.jpg", smooth, "CMYK", quality=95)
    assert np.abs(pictures.read_picture(path).astype(int) - smooth).mean() < 2


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_a_picture_is_turned_upright_but_stored_as_it_is(tmp_path, colours, name):
    smooth = cv2.resize(colours[:2, :3], (30, 20))
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned a quarter clockwise
    path = saved(tmp_path / name, smooth, quality=95, lossless=True, exif=tags)
    turned = pictures.read_picture(path)
    assert np.abs(turned.astype(int) - np.rot90(smooth, -1)).mean() < 2
    if name != "a.tif":  # Pillow itself turns it
        data, size = pictures.stored_picture(path)
        assert size == (30, 20) and data[:4] == b"\x89PNG"
        assert np.abs(pictures.decode_stored(data).astype(int) - smooth).mean() < 2


def test_pictures_of_a_data_set_are_never_turned(tmp_path, colours):
    tags = Image.Exif()
    tags[0x0112] = 6
    path = saved(tmp_path / "a.png", colours[:8], exif=tags)
    np.testing.assert_array_equal(pictures.decode_stored(path.read_bytes()), colours[:8])
    assert pictures.decode_stored(b"\x89PNG") is None


@pytest.mark.parametrize(
    ("name", "depth"), [("a.png", 8), ("a.png", 16), ("a.tif", 8), ("a.tif", 16), ("a.jpg", 8)]
)
@pytest.mark.parametrize("shades", ["grey", "colours"])
def test_stored_pictures_are_the_same_to_all_readers(tmp_path, request, shades, name, depth):
    array = request.getfixturevalue(shades)
    path = written(tmp_path / name, array if depth == 8 else array.astype(np.uint16) * 257)
    data, size = pictures.stored_picture(path)
    assert size == (SIDE, SIDE)
    assert (data == path.read_bytes()) == (depth == 8 and name in ("a.png", "a.jpg"))
    decoded = pictures.decode_stored(data)
    # Decoders of JPEG may differ by some grey levels.
    limit = 4 if name == "a.jpg" else 0
    assert np.abs(decoded.astype(int) - pictures.read_picture(path)).max() <= limit
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8


def test_a_picture_too_large_is_refused_before_it_is_decoded(tmp_path, grey, monkeypatch):
    path = saved(tmp_path / "a.png", grey)
    monkeypatch.setattr(pictures, "MOST_PIXELS", SIDE * SIDE)
    # Pillow's own limit, which is lower and a warning at first, does not matter.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)
    assert pictures.read_picture(path).shape == (SIDE, SIDE, 3)
    monkeypatch.setattr(pictures, "MOST_PIXELS", SIDE * SIDE - 1)
    with pytest.raises(pictures.PictureError, match=rf"a\.png is too large, {SIDE} x {SIDE} pix"):
        pictures.read_picture(path)
    assert pictures.kind_of(path) == "picture"
    assert Image.MAX_IMAGE_PIXELS == 9


def test_photos_of_200_megapixels_are_allowed():
    assert 16320 * 12240 < pictures.MOST_PIXELS < 2**29


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.tif", "a.bmp"])
@pytest.mark.parametrize("part", [0.9, 0.03])
def test_a_picture_cut_short_is_named(tmp_path, colours, name, part):
    path = saved(tmp_path / name, colours)
    data = path.read_bytes()
    path.write_bytes(data[: max(12, int(len(data) * part))])
    assert pictures.kind_of(path) == "picture"
    for read in (pictures.read_picture, pictures.stored_picture):
        with pytest.raises(pictures.PictureError, match=rf"{name} is not a readable picture: this"):
            read(path)


def test_further_pages_are_counted_and_not_stored(tmp_path, grey, colours):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(page) for page in (colours, grey, grey)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert pictures.kind_of(path) == "picture"
    assert pictures.count_pages(path) == 3
    np.testing.assert_array_equal(pictures.read_picture(path), colours)
    with pytest.raises(pictures.PictureError, match=r"a\.tif holds 3 pictures"):
        pictures.stored_picture(path)
    assert pictures.count_pages(saved(tmp_path / "b.png", grey)) == 1


def test_previews_of_raw_photos_are_refused(tmp_path, grey):
    path = tmp_path / "a.tif"
    Image.fromarray(grey).save(path, tiffinfo={254: 1})
    with pytest.raises(pictures.PictureError, match=r"a\.tif is a raw photo of a camera"):
        pictures.read_picture(path)


# Animations.

SHADES = (0, 60, 120, 180)
DURATIONS = (100, 40, 200, 20)


def animation(path, **options):
    frames = [Image.fromarray(np.full((8, 10, 3), shade, np.uint8)) for shade in SHADES]
    for index, frame in enumerate(frames):
        frame.paste((255, 0, 0), (index, 2, index + 2, 6))
    arguments = {"duration": DURATIONS, "lossless": True} | options
    frames[0].save(path, save_all=True, append_images=frames[1:], **arguments)
    return path, [np.asarray(frame) for frame in frames]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_frames_of_animations_come_with_their_times(tmp_path, name):
    path, frames = animation(tmp_path / name)
    assert pictures.kind_of(path) == "animation"
    found, times = zip(*pictures.animation_frames(path), strict=True)
    np.testing.assert_allclose(times, [0, 0.1, 0.14, 0.34])
    np.testing.assert_array_equal(found, frames)
    with pytest.raises(pictures.PictureError, match="holds 4 pictures"):
        pictures.stored_picture(path)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_frames_without_a_duration_last_as_in_browsers(tmp_path, name):
    path, _ = animation(tmp_path / name, duration=[10, 0, 20, 20])
    times = [time for _, time in pictures.animation_frames(path)]
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.22])


def test_the_substitute_of_an_animated_png_is_no_frame(tmp_path):
    path, frames = animation(tmp_path / "a.png", duration=DURATIONS[:3], default_image=True)
    found, times = zip(*pictures.animation_frames(path), strict=True)
    np.testing.assert_allclose(times, [0, 0.1, 0.14])
    np.testing.assert_array_equal(found, frames[1:])


def test_a_damaged_frame_is_none_and_the_last(tmp_path):
    path, frames = animation(tmp_path / "a.png")
    data = path.read_bytes()
    third = [place for place in range(len(data)) if data[place : place + 4] == b"fdAT"][1]
    path.write_bytes(data[: third + 16])
    found = list(pictures.animation_frames(path))
    np.testing.assert_array_equal([frame for frame, _ in found[:2]], frames[:2])
    assert len(found) == 3 and found[2][0] is None
    np.testing.assert_allclose(found[2][1], 0.14)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_one_frame_makes_a_picture(tmp_path, colours, name):
    assert pictures.kind_of(saved(tmp_path / name, colours)) == "picture"


# Kinds.


def box(kind, *content):
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def track(handler):
    return box(b"trak", box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(13))))


FTYP = box(b"ftyp", b"isom", bytes(4), b"isommp41")
WIDE = struct.pack(">I4sQ", 1, b"mdat", 20) + b"1234"  # its size stands behind its name


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (FTYP + box(b"moov", track(b"soun"), track(b"vide")), "video"),
        (FTYP + WIDE + box(b"moov", track(b"soun")), "audio"),
        (FTYP + WIDE + box(b"moov", track(b"vide")), "video"),
        (FTYP + box(b"mdat", b"unfinished"), "video"),
        (box(b"ftyp", b"M4A ", bytes(4)) + box(b"moov", track(b"soun")), "audio"),
        (box(b"moov", track(b"vide")), "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(9) + b"webm", "video"),
        (b"RIFF1234AVI LIST", "video"),
        (b"OggS" + bytes(24) + b"\x01vorbis", "audio"),
        (b"OggS" + bytes(24) + b"\x80theora", "video"),
        (b"G".ljust(188, b"\0") * 4, "video"),
        (b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n123456", "video"),
        (b"ID3\x04" + bytes(6) + b"APIC image/jpeg \xff\xd8\xff", "audio"),
        (b"\xff\xfb\x90\x00" + bytes(60), "audio"),
        (b"fLaC" + bytes(40), "audio"),
        (b"GIF89a".ljust(600, b"G"), "picture"),  # like packets of a broadcast, which begin with G
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.mp4", "12:30:05"])
def test_the_kind_of_a_file_is_that_of_its_content(tmp_path, data, kind, name):
    (tmp_path / name).write_bytes(data)
    assert pictures.kind_of(tmp_path / name) == kind


def test_sound_is_no_video(tmp_path):
    with wave.open(str(tmp_path / "a.mp4"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(800))
    assert pictures.kind_of(tmp_path / "a.mp4") == "audio"


@pytest.mark.parametrize(
    ("name", "code"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.webm", "VP80")]
)
def test_videos_are_videos_by_any_name(tmp_path, colours, name, code):
    writer = cv2.VideoWriter(
        str(tmp_path / name), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10, (SIDE, SIDE)
    )
    writer.write(colours)
    writer.release()
    os.rename(tmp_path / name, tmp_path / "a.png")
    assert pictures.kind_of(tmp_path / "a.png") == "video"
    with pytest.raises(pictures.PictureError, match=r"a\.png is not a readable picture"):
        pictures.read_picture(tmp_path / "a.png")


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("a.jpg", b"1")
    return file.getvalue()


HEIC = box(b"ftyp", b"heic", bytes(4), b"mif1heic")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty: its download or copy was not complete"),
        (bytes(5000), "begins with nothing but zeros"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><title>404</title>", "is an HTML page, not a picture"),
        (b"<html><body>Sign in", "is an HTML page, not a picture"),
        (b'<?xml version="1.0"?>\n<svg width="9"/>', "is an SVG drawing: convert it to PNG"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (archive(), "is an archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer.*git lfs pull"),
        (b"\xff\x0a\xfa\x7f", "is a JPEG XL picture: convert it to JPEG or PNG"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00", "is a raw photo of a camera"),
        (b'{"error": "not found"}', "is text, neither a picture nor a video"),
        (bytes(range(256)) * 9, "is of a kind that is not known, neither a picture nor a video"),
    ],
)
def test_what_is_neither_is_called_by_its_name(tmp_path, capfd, data, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(pictures.PictureError, match=rf"a\.jpg {reason}"):
        pictures.kind_of(path)
    with pytest.raises(pictures.PictureError, match=r"a\.jpg (is|begins)"):
        pictures.read_picture(path)
    assert capfd.readouterr() == ("", "")


def test_heic_needs_another_library(tmp_path, colours, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(HEIC)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(pictures.PictureError, match=r"HEIC picture.*pip install pillow-heif"):
        pictures.kind_of(path)
    asked = []
    stand_in = types.ModuleType("pillow_heif")
    stand_in.__spec__ = types.SimpleNamespace()
    stand_in.register_heif_opener = lambda: asked.append(1)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    with pytest.raises(pictures.PictureError, match="not a readable picture"):
        pictures.read_picture(path)
    assert asked


def test_folders_and_missing_files_differ(tmp_path):
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        pictures.kind_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        pictures.kind_of(tmp_path / "a.jpg")


# Names and writing.

NAMES = [
    "12:30:05.png",
    "a%03d.png",
    "#1?.png",
    "-a.png",
    "file:a.png",
    os.fsdecode(b"\xff\xe9.png"),
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_written_and_read(tmp_path, monkeypatch, colours, name):
    monkeypatch.chdir(tmp_path)
    pictures.write_picture(name, colours)
    assert os.listdir() == [name]
    assert pictures.kind_of(name) == "picture"
    np.testing.assert_array_equal(pictures.read_picture(name), colours)


@pytest.mark.parametrize("name", ["a.nonsense", "a", "file/a.png", "folder.png"])
def test_what_cannot_be_written_leaves_nothing(tmp_path, colours, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="cannot write .*: use a name ending in .png or .jpg"):
        pictures.write_picture(tmp_path / name, colours)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]
