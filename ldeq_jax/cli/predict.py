"""`ldeq predict`: the landmarks of pictures or of a video, drawn and written as numbers.

This module reads the arguments; `inference.picture_file`, `inference.picture_files` and
`inference.video_file` do the work.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldeq_jax.cli.options import (
    SOME_FAILED,
    add_model,
    natural,
    not_negative,
    parser_of,
    path,
    prepare,
    print_failed,
)
from ldeq_jax.errors import UserError, exit_at_once_on_interrupt

_DESCRIPTION = """\
Finds the landmarks of the faces in pictures, or of one face in a video; draws them, and writes
them as numbers. Faces are detected, unless you give their boxes.
"""
_EPILOG = """\
pictures:
  ldeq predict --output=drawn.png group.jpg
  ldeq predict --output=drawn.png --box=40,30,180,190 --box=220,41,350,188 group.jpg

  Without --box, boxes are read from boxes.json beside the picture, which maps file names to a box
  or a list of boxes; if it has none, all faces are detected (by YuNet). Faces that are turned away,
  or smaller than a fortieth of the picture's longer side, may be missed. A model of pictures that
  are crops already takes the whole picture instead.

  A box is x1,y1,x2,y2 in pixels: its left, top, right and bottom side. For the pretrained models,
  which were trained on crops around the landmarks, it reaches from the brows to the chin, and from
  ear to ear.

  Any format that Pillow reads, with 8 or 16 bits per colour. What a file is, its content says, not
  its name. It is turned upright as its EXIF tag says; transparency is left out, and only the first
  of several pages is read.

  Written: drawn.png, and drawn.json with, for each face, its landmarks (x, y) and their spread,
  both in pixels of the picture (pixel centres at whole numbers), its solver's residual, any doubt
  whether there is a face in the box, and the detector's score. The spread is the width of a
  landmark's heatmap, large where the model is uncertain. A calibrated model (ldeq calibrate;
  faces-68 is) adds its confidence that there is a face, and for each landmark the probability that
  it lies within 5 % of the eye distance of where it belongs, and its deviation: the standard
  deviation of the error of each coordinate, in pixels. Small pictures are drawn enlarged.

many pictures:
  ldeq predict --output=found --json photos/
  ldeq predict --output=found --no_overlay one.jpg two.jpg

  Several pictures, or a folder, in which and below which all are taken: --output is a folder then.
  Written: faces.csv, a row per picture and face, and one for a picture without a face: picture,
  face (from 0, the largest first), left, top, right and bottom of its landmarks' extent, score of
  the detector, the model's confidence, doubt, x and y of every landmark, spread of every landmark,
  probability of every landmark; faces.json, which says
  by what it was made; NAME.jpg, the drawings; and with --json faces.jsonl, a line per picture, as
  the .json of a single one. A picture that cannot be read is reported at the end, and the others
  are done.

videos:
  ldeq predict --output=drawn.mp4 clip.mp4
  ldeq predict --output=drawn.mp4 --box=190,85,270,165 clip.mp4
  ldeq predict --output=drawn.mp4 --compare --boxes=boxes.npy clip.mp4

  One face is followed: the largest in the first frame where one is detected, or that of --box, its
  box in the first frame. Each later crop is taken around the landmarks of the frame before. Once
  the face is lost (it leaves the frame, or what the model sees is no face), it stays lost, unless
  --boxes gives its box in every frame, as a face detector does: a NumPy file of T rows x1 y1 x2 y2,
  NaN in frames without a face. Boxes say where the face is found again and when it is gone, but
  crops still follow the landmarks, as boxes of detectors jitter and landmarks jitter with their
  crop. --crop_at_boxes takes every crop at its box instead.

  Recurrence (RwR) keeps the landmarks of a frame near those of the frame before, moved with the
  face. --hold_seconds says how firmly: more is steadier, but damps fast expressions. It holds for
  any frame rate, also one that varies, as the time of each frame is known. --follow_seconds does
  the same for the motion of the whole face: more takes jitter of the crop out of it.

  Written: drawn.mp4, and drawn.npz with landmarks (T, K, 2) and spread (T, K) in frame pixels, the
  box (T, 4) of each crop, all NaN in frames without a face, ok (T,), time (T,) of each frame in
  seconds, fps by the video's header, and schema; with --compare also those of each frame alone, as
  alone_landmarks and so on; and of a calibrated model confidence (T,), probability and deviation
  (T, K). The numbers are written even if the drawing cannot be.

  A frame that cannot be decoded counts as one without a face. Frames whose pixels are not square
  are enlarged first; boxes and landmarks are in pixels of the enlarged frames. The drawn video has
  a constant frame rate and no sound; frames are repeated or left out to keep the times.

A command can be run again: it replaces what it wrote before, and other files only with
--overwrite. A value that begins with "-" needs "=", as in --box=-10,-20,300,300; a name that begins
with "-" goes after "--".

exit codes: 0 all is written, 1 something is not (a line says what), 2 the arguments cannot be
understood, 3 some of many pictures failed (lines say which and why), 130 after Ctrl-C, 143 after
SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code: 0, or 3 if some of many pictures failed.

    Raises:
        UserError: the arguments or a file cannot be used.
    """
    parser = make_parser()
    options = parser.parse_args(argv)
    prepare()

    with exit_at_once_on_interrupt():
        from ldeq_jax import hosts
        from ldeq_jax.inference.picture_file import predict_picture
        from ldeq_jax.inference.video_file import predict_video
        from ldeq_jax.media.pictures import kind_of

    source, output = Path(options.source[0]), Path(options.output)
    common = {"checkpoint": options.checkpoint, "overwrite": options.overwrite}
    if len(options.source) > 1 or source.is_dir():
        return _predict_many(options, output, common)
    if options.json or options.no_overlay:
        given = "json" if options.json else "no_overlay"
        raise UserError(f"--{given} is for several pictures or a folder, not for {source} alone")
    kind = kind_of(source)
    if kind == "audio":
        raise UserError(f"{source} is sound without a video (a cover picture does not count)")
    if kind == "animation" and output.suffix.lower() != ".mp4":
        raise UserError(
            f"--output={output} must end in .mp4: {source} is an animation, read as a video"
        )
    with hosts.exit_on_sigterm():
        if kind == "picture":
            if wrong := [name for name in VIDEO_OPTIONS if getattr(options, name) is not None]:
                raise UserError(f"--{wrong[0]} is for videos; {source} is none")
            predict_picture(source, output, boxes=options.box, **common)
            return 0
        if len(options.box) > 1:
            raise UserError("a video needs --box of one face in its first frame, not several")
        predict_video(
            source,
            output,
            animation=kind == "animation",
            box=options.box[0] if options.box else None,
            boxes=options.boxes and Path(options.boxes),
            crop_at_boxes=bool(options.crop_at_boxes),
            still=bool(options.still),
            compare=bool(options.compare),
            recurrence={
                name: getattr(options, name)
                for name in RECURRENCE_OPTIONS
                if getattr(options, name) is not None
            },
            still_frame=options.still_frame,
            codec=options.codec or "vp09",
            **common,
        )
    return 0


def _predict_many(options: argparse.Namespace, folder: Path, common: dict[str, Any]) -> int:
    """Predicts on several pictures and folders of pictures; returns the exit code."""
    from ldeq_jax import hosts
    from ldeq_jax.inference.picture_files import predict_pictures
    from ldeq_jax.media.albums import find_pictures

    if given := [name for name in ("box", *VIDEO_OPTIONS) if getattr(options, name)]:
        raise UserError(f"--{given[0]} is for one file, not for several pictures")
    if folder.suffix.lower() in (".png", ".jpg", ".jpeg", ".mp4"):
        raise UserError(f"--output={folder} must be a folder for several pictures, not a file")
    shots = find_pictures([Path(text) for text in options.source], without=folder)
    with hosts.exit_on_sigterm():
        failed = predict_pictures(
            shots, folder, overlay=not options.no_overlay, json=options.json, **common
        )
    if failed:
        print_failed("ldeq predict", failed, len(shots), "picture")
    return SOME_FAILED if failed else 0


RECURRENCE_OPTIONS = (
    "hold_seconds",
    "penalty",
    "follow_seconds",
    "follow",
    "fusion",
    "budget",
    "align",
)
VIDEO_OPTIONS = (
    "boxes",
    "crop_at_boxes",
    "compare",
    "still",
    "still_frame",
    "codec",
    *RECURRENCE_OPTIONS,
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments; options of videos are None if not given."""
    parser = parser_of("ldeq predict", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "source",
        type=path,
        nargs="+",
        metavar="FILE",
        help="picture or video; or several pictures, or folders of pictures",
    )
    parser.add_argument(
        "--output",
        type=path,
        required=True,
        metavar="FILE",
        help="drawing to write, .png or .jpg, of a video .mp4; the numbers go to the same name "
        "with .json, of a video .npz; of many pictures the folder to write to",
    )
    add_model(parser, default="faces-68")
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="X1,Y1,X2,Y2",
        help="box of a face, pixels of the picture, or of a video's first frame, in place of "
        "detection; repeat it for more faces of a picture",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace --output and the files beside it even if no earlier call wrote them",
    )
    many = parser.add_argument_group("many pictures")
    many.add_argument("--json", action="store_true", help="JSON lines too, faces.jsonl")
    many.add_argument("--no_overlay", action="store_true", help="no drawings")
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--boxes",
        type=path,
        metavar="FILE.npy",
        help="the face's box in every frame, NaN where there is none",
    )
    videos.add_argument(
        "--crop_at_boxes",
        action="store_const",
        const=True,
        help="take each crop at its box in --boxes; do not follow the face",
    )
    videos.add_argument(
        "--still", action="store_const", const=True, help="solve each frame alone, without RwR"
    )
    videos.add_argument(
        "--compare", action="store_const", const=True, help="each frame alone and RwR, side by side"
    )
    videos.add_argument(
        "--still_frame",
        type=natural,
        metavar="N",
        help="number of a frame, from 0, to write as a picture too, to NAME_frame.png",
    )
    videos.add_argument(
        "--codec",
        choices=("vp09", "mp4v"),
        help="of the drawn video: vp09, taken if not given, plays in web browsers, but takes some "
        "tenths of a second per frame; mp4v is fast and plays in media players",
    )
    recurrence = parser.add_argument_group(
        "videos, recurrence (as the model's config says if not given)"
    )
    hold = recurrence.add_mutually_exclusive_group()
    hold.add_argument(
        "--hold_seconds",
        type=not_negative,
        metavar="SECONDS",
        help="how long landmarks lag behind a change of expression, at any frame rate; 0 holds "
        "nothing; of faces-68: 0.012 for eyes and mouth, 0.08 for the rest",
    )
    hold.add_argument(
        "--penalty",
        type=not_negative,
        metavar="WEIGHT",
        help="instead: weight of the frame before against this one, whatever their times; 0 is "
        "none, 1 is the same as --hold_seconds=0.04 at 25 frames per second",
    )
    follow = recurrence.add_mutually_exclusive_group()
    follow.add_argument(
        "--follow_seconds",
        type=not_negative,
        metavar="SECONDS",
        help="how slowly a sudden motion of the whole face is followed; 0 is at once; usually 0.01",
    )
    follow.add_argument(
        "--follow",
        type=float,
        metavar="GAIN",
        help="instead: how much of such a motion is trusted in each frame, above 0, at most 1; 0.8 "
        "is the same as --follow_seconds=0.01 at 25 frames per second",
    )
    recurrence.add_argument(
        "--fusion",
        choices=("arithmetic", "geometric"),
        help="how the heatmaps of both frames are put together: as their mean (arithmetic), or as "
        "a product of experts (geometric), in which sharp heatmaps count more than broad ones",
    )
    recurrence.add_argument(
        "--budget",
        type=natural,
        metavar="STEPS",
        help="solver steps per frame, besides one more",
    )
    recurrence.add_argument(
        "--align",
        choices=("face", "crop", "none"),
        help="the frame before is moved with the face, kept in its place in the frame (crop), or "
        "left where it was in the crop (none)",
    )
    return parser
