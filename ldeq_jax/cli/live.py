"""`ldeq live`: the landmarks of all faces of a camera, as they come.

This module reads the arguments; `inference.live` does the work.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from ldeq_jax.cli.options import (
    add_device,
    add_face_options,
    add_model,
    limits_of,
    parser_of,
    path,
    prepare,
)
from ldeq_jax.errors import UserError, exit_at_once_on_interrupt

CAMERA_STOPPED = 3  # exit code

_DESCRIPTION = """\
Shows a camera with the landmarks of all faces, and sends them on, frame by frame.
"""
_EPILOG = """\
  ldeq live                                       the first camera, in a window
  ldeq live camera:1 --udp=127.0.0.1:9000
  ldeq live --no_window --stdout | program
  ldeq live film.mp4

A film plays in its own time, as if it were a camera; --start and the rest of ldeq track do not
apply. Where frames come faster than the model works, the newest is taken and the others are left
out, so nothing lags behind. Programs for up to --max_faces faces are compiled before it begins; the
environment variable JAX_COMPILATION_CACHE_DIR names a folder where they are kept for the next time.

The window shows frames per second, and the time from the coming of a frame until its landmarks are
sent. Its keys: r recurrence (RwR) on and off, m mesh or points, i ids, q or Escape quit.

With --udp and --stdout each frame is a line of JSON, as ldeq track --json writes it: frame, time in
seconds, and faces, each with face (its id), status, box, landmarks, spread, confidence,
probability, deviation and score. UDP sends a line as one datagram, and does not care whether
anybody listens. With --stdout, everything else goes to stderr. Without a display, --udp or --stdout
is needed.

exit codes: 0 it was ended by its keys, by the end of the film or of what reads stdout, 1 it could
not begin, 2 the arguments cannot be understood, 3 the camera sends no more frames, 130 after
Ctrl-C, 143 after SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Watches as the arguments say.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code: 0, or 3 if the camera has stopped.

    Raises:
        UserError: it cannot begin.
    """
    options = make_parser().parse_args(argv)
    prepare(options.device)

    with exit_at_once_on_interrupt():
        from ldeq_jax import hosts
        from ldeq_jax.face.schema import get_schema
        from ldeq_jax.inference import live
        from ldeq_jax.inference.track_films import Options, recurrence_of
        from ldeq_jax.inference.tracker import FaceTracker
        from ldeq_jax.media import window
        from ldeq_jax.media.films import find_films
        from ldeq_jax.media.video import CameraStoppedError
        from ldeq_jax.weights import load_model

    limits = limits_of(options)
    films = find_films([options.input])
    if len(films) != 1:
        raise UserError(f"{options.input} has {len(films)} films: name one of them")
    no_window = "--no_window is given" if options.no_window else window.why_no_window()
    if no_window and not (options.udp or options.stdout):
        raise UserError(
            f"there is no window ({no_window}): take the landmarks by --stdout or --udp=HOST:PORT, "
            f"or have a drawn film written by ldeq track --output=DIR {options.input}"
        )
    if no_window and not options.no_window:
        print(f"ldeq live: there is no window: {no_window}", file=sys.stderr)

    watched = live.Watched()
    with contextlib.ExitStack() as stack:
        stack.enter_context(hosts.exit_on_sigterm())
        sends = [stack.enter_context(live.udp(options.udp))] if options.udp else []
        sends += [live.print_line] if options.stdout else []
        reader = films[0].open()
        stack.callback(reader.close)
        config, variables, _ = load_model(options.checkpoint)
        recurrence = recurrence_of(config.rwr, Options(strength=options.strength))
        trackers = {
            steady: FaceTracker(config, variables, kind, limits=limits)
            for steady, kind in ((True, recurrence), (False, None))
        }
        print("ldeq live: compiling", file=sys.stderr)
        for tracker in trackers.values():
            tracker.warm_up(limits.max_faces)
        screen = None if no_window else window.Window(f"ldeq live {options.input}")
        if screen is not None:
            stack.callback(screen.close)
        try:
            live.watch(
                reader,
                trackers,
                get_schema(config.data.schema),
                switches=live.Switches(steady=options.smooth == "rwr"),
                screen=screen,
                sends=sends,
                watched=watched,
            )
        except CameraStoppedError as error:
            print(f"ldeq live: {error}", file=sys.stderr)
            return CAMERA_STOPPED
        except BrokenPipeError:  # who read stdout has enough
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        finally:
            print(f"ldeq live: {watched}", file=sys.stderr)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = parser_of("ldeq live", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add(
        "input",
        type=path,
        nargs="?",
        default="camera:0",
        metavar="CAMERA|FILE",
        help="camera:N or a film; camera:0 if not given",
    )
    add_model(parser, default="faces-68")
    add_device(parser)
    add("--no_window", action="store_true", help="show nothing")
    add("--udp", metavar="HOST:PORT", help="send each frame there, as JSON")
    add("--stdout", action="store_true", help="write each frame to stdout, as JSON")
    add(
        "--smooth",
        choices=("rwr", "none"),
        default="rwr",
        help="what to begin with: recurrence, or each frame by itself",
    )
    add(
        "--strength",
        choices=("light", "normal", "strong"),
        default="normal",
        help="of rwr: half, once or twice the model's time constants",
    )
    add_face_options(parser, max_faces=4)  # each size of a batch is compiled first
    return parser
