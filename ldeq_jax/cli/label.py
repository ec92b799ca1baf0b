"""`ldeq label`: a set of labelled videos in the layout of WFLW-V, from any films.

This module reads the arguments; `labelling.label_films` does the work.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.cli.options import (
    SOME_FAILED,
    add_device,
    count,
    names,
    not_negative,
    parser_of,
    path,
    prepare,
    print_failed,
    rate,
)
from ldeq_jax.errors import UserError, exit_at_once_on_interrupt

MEMBERS = "faces-68,faces-68:mirrored,faces-68:wider,faces-68-tiny:mirrored"

_DESCRIPTION = """\
Makes a set of short videos with labelled landmarks out of films, as WFLW-V was made: several models
find the landmarks in every frame, and where they agree, their mean becomes the label. Nobody labels
anything by hand. What comes out is what `ldeq build wflw_v/ibug_68 --manual_dir=DIR` takes.
"""
_EPILOG = """\
  ldeq label --output=my_set films/
  ldeq label --output=my_set --per_film=3 --members=faces-68,faces-68:mirrored,pfld.json films/
  ldeq review my_set
  ldeq label --output=my_set --apply=choices.csv
  ldeq build wflw_v/ibug_68 --manual_dir=my_set --data_dir=DATA

how it works:
  1. The faces of each film are detected and followed, as by ldeq track.
  2. The film is cut into windows, of --shortest to --longest frames, in which one face is found in
     every frame, is --min_face pixels large or larger, and no frame repeats the one before.
  3. Each window is written as a video: whole frames, at most --side pixels wide or high.
  4. Each member of the ensemble finds the landmarks in every frame of that video, each frame by
     itself, so that each makes errors of its own.
  5. Where a member always places a landmark elsewhere, that is taken away. The label is the
     weighted mean of the members, in which outliers count little. How far they are from it is their
     disagreement, in percent of the distance of the outer eye corners.
  6. The tracks are smoothed forwards and backwards alike, so without delay, and only as much as the
     members disagree from frame to frame.
  7. Windows are dropped in which members disagree too much or lose the face, and those with a small
     or dark face. Of the others, the half that moves and disagrees more is hard.

Written to DIR:

  videos/ID.mp4, landmarks/ID.npy (T, K, 2), bboxes/ID.npy (T, 5: x1 y1 x2 y2 and the probability
  that it is a face), easy_video_IDs.txt, hard_video_IDs.txt
  labels.csv      a row per window: where it is from, its figures, whether it is kept and why not,
                  and whether a person said so
  report.html     a page to look at: the faces, the agreement, all windows
  settings.json   all settings and versions
  work/           what was found so far: it makes a second call fast, and ldeq review and --apply
                  need it; it may be deleted at the end

A call that was broken off goes on where it stopped when it is given again; until then DIR has a
file UNFINISHED.txt. A call with other members or other rules for steps 5 to 7 uses again what it
can of the former.

With --apply, what people say counts more than the rules of step 7. FILE has a line for each window
that they decided on, such as those that the page of ldeq review saves:

  id,choice           id,choice,digest if the page wrote it
  film_000120_0,drop  keep, drop, easy, hard, or none for what the rules say

drop takes a window out; keep puts one in, in the list that its motion and disagreement rank it in;
easy and hard put it in that list. A choice changes the window that it is for and no other. Without
INPUT the set is written again from what DIR holds: the films and the models may be gone, and
nothing is computed again. The choices stay with the set, also when films or members are added,
until another FILE is applied; one with the first line alone takes all back.

A MEMBER is a pretrained model by name, a training run's --workdir, or an exported folder. After a
colon its crops can be varied: mirrored, wider, closer, left, right, or several with + between. A
.json file describes an ONNX model (pip install 'ldeq_jax[ensemble]'):

  {"model": "pfld.onnx", "schema": "wflw_98", "side": 112, "scale": 1.2, "channels": "bgr"}

The landmarks of the labels are those of the first member; the others may have more. docs/wflw_v.md
has all fields, the rules in full, and how to find films that may be used.

exit codes: 0 all is done, 1 nothing could be begun, or no window is left (a line says why), 2 the
arguments cannot be understood, 3 some films failed (lines say which and why), 130 after Ctrl-C, 143
after SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Labels as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code: 0, or 3 if a film failed.

    Raises:
        UserError: nothing can be begun, or no window is left.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    options = parser.parse_args(argv)
    if not options.input:
        _check_alone(parser, argv)
    prepare(options.device)

    with exit_at_once_on_interrupt():
        from ldeq_jax import hosts
        from ldeq_jax.inference.tracker import Limits
        from ldeq_jax.labelling.choice import Rules
        from ldeq_jax.labelling.label_films import apply_choices, label_films
        from ldeq_jax.labelling.options import Options
        from ldeq_jax.labelling.review_choices import read_choices
        from ldeq_jax.labelling.windows import Cutting
        from ldeq_jax.media.films import find_films

    folder = Path(options.output)
    settings = Options(
        members=tuple(options.members),
        tracker=options.tracker,
        limits=Limits(min_score=options.min_score, max_faces=options.max_faces),
        cutting=Cutting(
            shortest=options.shortest, longest=options.longest, least_face=options.min_face
        ),
        side=options.side,
        per_film=options.per_film,
        codec=options.codec,
        strongest=options.strongest,
        rules=Rules(
            most_disagreement=options.most_disagreement,
            most_in_a_frame=options.most_in_a_frame,
            most_lost=options.most_lost / 100,
            least_face=options.min_written_face,
            darkest=options.darkest,
            hard_motion=options.hard_motion,
            hard_disagreement=options.hard_disagreement,
        ),
    )
    choices = None if options.apply is None else read_choices(Path(options.apply))
    with hosts.exit_on_sigterm():
        if choices is not None and not options.input:
            result = apply_choices(folder, choices)
        else:
            result = label_films(
                find_films(options.input, fps=options.fps, without=folder),
                folder,
                settings,
                choices=choices,
                overwrite=options.overwrite,
                command=shlex.join(["ldeq", "label", *argv]),
            )
    if result.failed:
        print_failed("ldeq label", result.failed, result.films)
    if result.waiting:
        print(
            f"{result.waiting} choice(s) made by hand wait for windows that are not there now; "
            "settings.json keeps them"
        )
    if result.why_none:
        reasons = "; ".join(result.why_none)
        raise UserError(
            f"no window of {options.shortest} frames or more is left ({reasons}): see "
            f"{folder / 'report.html'}"
        )
    if not result.easy + result.hard and not result.failed:
        raise UserError(
            f"no window is left: no film shows a face that is large enough (--min_face) for "
            f"{options.shortest} frames (--shortest); see {folder / 'report.html'}"
        )
    by_hand = f" ({result.by_hand} decided on by hand)" if result.by_hand else ""
    review = shlex.join(["ldeq", "review", str(folder)])
    print(
        f"{folder}: {result.easy} easy and {result.hard} hard windows, {result.dropped} dropped"
        f"{by_hand}; look at {folder / 'report.html'}, or at each window: {review}"
    )
    return SOME_FAILED if result.failed else 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = parser_of("ldeq label", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("input", type=path, nargs="*", metavar="INPUT", help="film, folder, or pictures in a row")
    add("--output", type=path, required=True, metavar="DIR", help="folder to write to")
    add("--apply", type=path, metavar="FILE", help="choices made by hand, see below")
    add("--overwrite", action="store_true", help="write into a folder that holds something else")
    add_device(parser, models="the models run")

    models = parser.add_argument_group("models")
    models.add_argument(
        "--members",
        type=names,
        default=names(MEMBERS),
        metavar="MEMBER,...",
        help=f"of the ensemble, two or more, see below ({MEMBERS})",
    )
    models.add_argument(
        "--tracker",
        type=path,
        default="faces-68",
        metavar="MODEL",
        help="follows the faces (faces-68)",
    )

    windows = parser.add_argument_group("windows")
    windows.add_argument(
        "--shortest", type=count, default=120, metavar="FRAMES", help="of a window (120)"
    )
    windows.add_argument(
        "--longest", type=count, default=151, metavar="FRAMES", help="of a window (151)"
    )
    windows.add_argument(
        "--min_face",
        type=not_negative,
        default=64.0,
        metavar="PIXELS",
        help="root of the area of the landmarks' extent, in the film, in every frame (64)",
    )
    windows.add_argument(
        "--per_film",
        type=count,
        metavar="N",
        help="so many windows of a film at most, spread over it",
    )
    windows.add_argument(
        "--max_faces", type=count, default=4, metavar="N", help="followed at a time (4)"
    )
    windows.add_argument(
        "--min_score",
        type=not_negative,
        default=0.8,
        metavar="SCORE",
        help="of the detector for a new face, 0 to 1 (0.8)",
    )
    windows.add_argument(
        "--fps",
        type=rate,
        default=25.0,
        metavar="RATE",
        help="frames per second of pictures in a row (25)",
    )

    written = parser.add_argument_group("videos")
    written.add_argument(
        "--side",
        type=_side,
        default=1280,
        metavar="PIXELS",
        help="larger frames are reduced until their longer side has so many pixels (1280)",
    )
    written.add_argument(
        "--codec",
        choices=("h264", "vp09", "mp4v"),
        help="h264 needs the extra [video] (PyAV), and is taken where that is installed; else "
        "vp09, which is slow to write; mp4v is fast, and coarser",
    )

    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--strongest",
        type=not_negative,
        default=10.0,
        metavar="RATIO",
        help="smoothing at most: variance of the noise by that of the acceleration; 10 halves "
        "what repeats within 11 frames, 100 within 20, 0 smooths nothing (10)",
    )

    kept = parser.add_argument_group("which windows are kept, and which are hard")
    kept.add_argument(
        "--most_disagreement",
        type=not_negative,
        default=4.0,
        metavar="PERCENT",
        help="of the members, in the mean of a window (4)",
    )
    kept.add_argument(
        "--most_in_a_frame",
        type=not_negative,
        default=10.0,
        metavar="PERCENT",
        help="of the members, in its worst frame (10)",
    )
    kept.add_argument(
        "--most_lost",
        type=not_negative,
        default=5.0,
        metavar="PERCENT",
        help="of the frames in which a member may not find the face (5)",
    )
    kept.add_argument(
        "--min_written_face",
        type=not_negative,
        default=48.0,
        metavar="PIXELS",
        help="as --min_face, in the written video (48)",
    )
    kept.add_argument(
        "--darkest",
        type=not_negative,
        default=25.0,
        metavar="LEVEL",
        help="mean grey level of the face, 0 to 255, at least (25)",
    )
    kept.add_argument(
        "--hard_motion",
        type=not_negative,
        metavar="PERCENT",
        help="of the face size per frame, from which a window is hard",
    )
    kept.add_argument(
        "--hard_disagreement",
        type=not_negative,
        metavar="PERCENT",
        help="from which a window is hard; with neither, half of the windows are",
    )
    return parser


def _check_alone(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Refuses a call without films that asks for more than to apply choices; exits with 2."""
    names = vars(parser.parse_args(argv))
    given = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names))))
    if given["apply"] is None:
        parser.error("name films: INPUT is needed, unless choices are applied with --apply")
    others = [
        f"--{name}"
        for name, value in given.items()
        if value is not None and name not in ("input", "output", "apply")
    ]
    if others:
        parser.error(
            f"without INPUT all options but --apply are those of the set: leave out "
            f"{', '.join(others)}, or name the films"
        )


def _side(text: str) -> int:
    if (number := count(text)) < 64:
        raise argparse.ArgumentTypeError(f"must be 64 or more, not {text!r}")
    return number
