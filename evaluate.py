"""Evaluates a model: `ldeq evaluate` in a checkout. python evaluate.py --help tells more."""

import sys

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
