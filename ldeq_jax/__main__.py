"""`python -m ldeq_jax` is the console command `ldeq`."""

import sys

from ldeq_jax.cli.main import run

if __name__ == "__main__":
    sys.argv[0] = "ldeq"  # as messages call it
    run()
