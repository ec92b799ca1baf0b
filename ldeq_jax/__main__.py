"""`python -m ldeq_jax` is the console command `ldeq`."""

import sys

from ldeq_jax.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = "ldeq"  # as messages call it
    sys.exit(main())
