"""The published program runs, with no other change than its comments name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[3] / "examples" / "report_tfrs.py"


def test_the_published_program_runs() -> None:
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Epoch 10/10" in done.stdout
    assert "Top 5 recommendations for user 0: [" in done.stdout
