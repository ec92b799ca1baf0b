"""`ldeq review`: a page on which people decide which windows of a labelled set are good.

This module reads the arguments; `labelling.review_page` does the work.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ldeq_jax.cli.options import SOME_FAILED, parser_of, path, prepare, print_failed
from ldeq_jax.errors import exit_at_once_on_interrupt

_DESCRIPTION = """\
Writes a page to look at each window of a set that ldeq label made, the dropped ones too, and to say
which are kept, and which are easy and which hard. It needs a browser, and no network.
"""
_EPILOG = """\
  ldeq label --output=my_set films/
  ldeq review my_set
  ... open my_set/review.html, decide, save choices.csv ...
  ldeq label --output=my_set --apply=choices.csv

On the page are, for each window: a contact sheet, with the frame in which the members disagree most
in large; a clip of the face, as it is and with its labels; its figures; what the rules decided, and
why. Keys: k keep, d drop, e easy, h hard, u undo, arrows for the next and the one before, space to
pause, s to save; ? shows all.

What you choose stays in the browser, also when the page is closed, until it is saved as a file and
given to ldeq label --apply. Several people can share the work: what --apply takes is a table with
the columns id, choice and digest, and tables with other windows can be joined.

Written to DIR:

  review.html   the page
  review/       sheets and clips; the page needs them beside it

A second call makes only those again that have changed. A window takes about a second with the extra
[video] (PyAV), else ten. Needed is DIR/work, and neither the films nor the models. review.html and
review/ may be deleted when the choices are applied.

exit codes: 0 all is done, 1 nothing could be begun (a line says why), 2 the arguments cannot be
understood, 3 some windows have no pictures (lines say which and why), 130 after Ctrl-C, 143 after
SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page.

    Args:
        argv: arguments, without the command's name; those of the process when None.

    Returns:
        The exit code: 0, or 3 if windows have no pictures.

    Raises:
        UserError: there is no set, or what it was made of is gone.
    """
    options = make_parser().parse_args(argv)
    prepare()

    with exit_at_once_on_interrupt():
        from ldeq_jax import hosts
        from ldeq_jax.labelling.review_page import write_review

    with hosts.exit_on_sigterm():
        review = write_review(Path(options.folder))
    if review.failed:
        print_failed("ldeq review", review.failed, review.windows, "window")
    if review.waiting:
        print(
            f"{review.waiting} choice(s) made by hand wait for windows that are not there now; the "
            "files that the page saves keep them"
        )
    print(
        f"{review.page}: {review.windows} window(s), pictures made of {review.made}; open it in a "
        "browser"
    )
    return SOME_FAILED if review.failed else 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    parser = parser_of("ldeq review", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "folder", type=path, metavar="DIR", help="of the set, the --output of ldeq label"
    )
    return parser
