"""`ldeq track`: the landmarks of all faces of films, with ids, as tables and drawn.

This module reads the arguments; `inference.track_films` does the work.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.cli.options import (
    SOME_FAILED,
    add_device,
    add_face_options,
    add_model,
    count,
    limits_of,
    not_negative,
    parser_of,
    path,
    prepare,
    print_failed,
    rate,
)
from ldeq_jax.errors import exit_at_once_on_interrupt

SMOOTHS = ("rwr", "none", "exponential", "moving_average", "one_euro", "kalman")

_DESCRIPTION = """\
Finds the landmarks of all faces in films, frame after frame, with an id for each face that stays.
No box is needed. Writes tables, and the films with the landmarks drawn.
"""
_EPILOG = """\
  ldeq track --output=tracked --report film.mp4
  ldeq track --output=tracked --resume --no_overlay films/
  ldeq track --output=tracked --start=10 --end=20 frames/%04d.png
  ldeq track --output=tracked --max_frames=500 camera:0

An INPUT is a video or animated picture; a folder, in which and below which every video is taken,
and the pictures of a folder without a video as one film, in the order of their numbers; numbered
pictures, frames/%04d.png; or camera:0, which ends with --max_frames or Ctrl-C. Pictures have --fps
frames per second.

Written to DIR, for each film NAME (films below a folder keep their subfolders):

  NAME.csv    a row per frame and face, and one for a frame without a face: frame (from 0), time in
              seconds, face (its id), status, left, top, right and bottom of the landmarks' extent,
              the detector's score, the model's confidence, x and y of every landmark in frame
              pixels, spread of every landmark, probability of every landmark
  NAME.npz    the same as arrays with one entry per row; ended_face, ended_frame and ended_reason of
              ids that are given up; settings, schema, size, fps; fingerprint of the film; complete,
              False if it was stopped; cut_short, True if the film ends before its header says
  NAME.jsonl  with --json: a line per frame with its faces
  NAME.html   with --report: a page with a summary, who is there when, confidence and motion over
              time, and the drawn film, in itself if it is below 4 MB; needs no network. Of several
              films index.html leads to them
  NAME.mp4    the film with the landmarks and ids drawn. With the extra [video] (PyAV: pip install
              'ldeq_jax[video]') it is H.264, with the film's sound and times; without, VP9 of a
              constant rate and without sound

A status is detected (the detector, YuNet, sees the face in this frame too), tracked (its landmarks
are followed), lost (it is not found, and may come back) or none (no face in this frame). The spread
is the width of a landmark's heatmap: large where the model is uncertain. The confidence is the
probability that there is a face at all, the probability that a landmark lies within 5 % of the
distance of the outer eye corners of where it belongs; NAME.npz also has its deviation, the standard
deviation of each coordinate in pixels. A model without calibration (ldeq calibrate) leaves these
empty.

A face keeps its id while its landmarks are followed, and when it is detected again within
--keep seconds near the place where it was lost. At a cut all ids end. docs/video.md has the rules.

A film is read once, and takes the same memory whatever its length. What is found until Ctrl-C or
SIGTERM is kept. With --resume, films that were tracked to their end with the same options are left
out; one that was stopped, or whose file was replaced by another film since, starts over. A film
that fails is reported at the end, and the others are done; a file of a folder that is named as a
film and is sound or a picture counts as one that fails. A command can be run again: it replaces
what it wrote before, and other files only with --overwrite.

exit codes: 0 all films are done, 1 nothing could be begun, 2 the arguments cannot be understood, 3
some or all films failed (lines say which and why), 130 after Ctrl-C, 143 after SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Tracks as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code: 0, or 3 if a film failed.

    Raises:
        UserError: nothing can be begun.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = make_parser().parse_args(argv)
    prepare(options.device)

    with exit_at_once_on_interrupt():
        from ldeq_jax import hosts
        from ldeq_jax.inference.track_films import Options, track_films
        from ldeq_jax.media.films import find_films

    folder = Path(options.output)
    films = find_films(options.input, fps=options.fps, without=folder)
    settings = Options(
        checkpoint=options.checkpoint,
        smooth=options.smooth,
        strength=options.strength,
        limits=limits_of(options),
        start=options.start,
        end=options.end,
        stride=options.stride,
        max_frames=options.max_frames,
        overlay=not options.no_overlay,
        side_by_side=options.side_by_side,
        json=options.json,
        report=options.report,
        codec=options.codec,
    )
    with hosts.exit_on_sigterm():
        failed = track_films(
            films,
            folder,
            settings,
            resume=options.resume,
            overwrite=options.overwrite,
            command=shlex.join(["ldeq", "track", *argv]),
        )
    if failed:
        print_failed("ldeq track", failed, len(films))
        return SOME_FAILED
    if settings.overlay and not settings.with_sound:
        print(
            "the drawings have no sound, and a constant rate: for both install the extra [video], "
            "pip install 'ldeq_jax[video]', and leave out --codec"
        )
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = parser_of("ldeq track", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("input", type=path, nargs="+", metavar="INPUT", help="film, folder, pictures or camera:N")
    add("--output", type=path, required=True, metavar="DIR", help="folder to write to")
    add_model(parser, default="faces-68")
    add_device(parser)
    add("--resume", action="store_true", help="leave out films that are done")
    add("--overwrite", action="store_true", help="replace files that no earlier call wrote")

    written = parser.add_argument_group("what is written")
    written.add_argument("--no_overlay", action="store_true", help="no NAME.mp4")
    written.add_argument(
        "--side_by_side",
        action="store_true",
        help="in NAME.mp4, each frame alone on the left, and smoothed on the right",
    )
    written.add_argument("--report", action="store_true", help="NAME.html too, a page to look at")
    written.add_argument("--json", action="store_true", help="NAME.jsonl too")
    written.add_argument(
        "--codec",
        choices=("h264", "vp09", "mp4v"),
        help="of NAME.mp4: h264 plays everywhere and has sound, but needs the extra [video], and "
        "is taken where that is installed; else vp09, which plays in web browsers and is slow to "
        "write; mp4v is fast and plays in media players",
    )

    frames = parser.add_argument_group("frames")
    frames.add_argument(
        "--start", type=not_negative, default=0.0, metavar="SECONDS", help="from there on (0)"
    )
    frames.add_argument("--end", type=not_negative, metavar="SECONDS", help="before that time")
    frames.add_argument(
        "--stride", type=count, default=1, metavar="N", help="every so many frames one is used (1)"
    )
    frames.add_argument("--max_frames", type=count, metavar="N", help="so many frames at most")
    frames.add_argument(
        "--fps",
        type=rate,
        default=25.0,
        metavar="RATE",
        help="frames per second of pictures (25)",
    )

    smoothing = parser.add_argument_group("smoothing")
    smoothing.add_argument(
        "--smooth",
        choices=SMOOTHS,
        default="rwr",
        help="rwr (usual): recurrence keeps landmarks near those of the frame before; none: each "
        "frame by itself; the others: a filter of such landmarks",
    )
    smoothing.add_argument(
        "--strength",
        choices=("light", "normal", "strong"),
        default="normal",
        help="of rwr: half, once or twice the model's time constants; of a filter: three of its "
        "settings. strong is steadier, but damps fast expressions",
    )

    add_face_options(parser)
    return parser
