"""`python -m ldeq_jax` is the console command `ldeq`."""

import sys

from ldeq_jax.cli.main import main

sys.exit(main())
