"""What holds for every test: nothing of the developer's own configuration gets in, and nothing of it is written."""

from __future__ import annotations

import os
import signal
import tempfile

# Importing keras writes keras.json to its home where there is none, and reads the engine from it where there is one.
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="recs-core-keras-")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
