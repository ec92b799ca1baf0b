"""Trains a landmark model: `ldeq train` in a checkout. python train.py --help tells more."""

import sys

from ldeq_jax.errors import show_in_one_line

if __name__ == "__main__":
    show_in_one_line()

from ldeq_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
