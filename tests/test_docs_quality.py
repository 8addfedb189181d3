"""docs/quality.md and docs/recipes.md say what the results beside their benchmarks say: made again, they are equal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_from_the_results(tmp_path: Path) -> None:
    made = tmp_path / "quality.md"
    subprocess.run([sys.executable, ROOT / "benchmarks/quality/page.py", "--page", made], check=True)
    assert made.read_text(encoding="utf-8") == (ROOT / "docs/quality.md").read_text(encoding="utf-8")


def test_the_table_of_temperatures_is_made_from_the_results(tmp_path: Path) -> None:
    made = tmp_path / "recipes.md"
    shutil.copy(ROOT / "docs/recipes.md", made)
    subprocess.run([sys.executable, ROOT / "benchmarks/quality/temperature.py", "table", made], check=True)
    assert made.read_text(encoding="utf-8") == (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
