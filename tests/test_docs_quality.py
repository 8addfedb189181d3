"""docs/quality.md says what the results beside its benchmark say: making it again gives the same page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_from_the_results(tmp_path: Path) -> None:
    made = tmp_path / "quality.md"
    subprocess.run([sys.executable, ROOT / "benchmarks/quality/page.py", "--page", made], check=True)
    assert made.read_text(encoding="utf-8") == (ROOT / "docs/quality.md").read_text(encoding="utf-8")
