"""`python -m recs_core.cli`: `recs`, where its script is not at hand."""

import sys

from recs_core.cli.main import main

sys.argv[0] = "recs"
main()
