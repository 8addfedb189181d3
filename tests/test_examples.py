"""The examples run as printed, each in a process of its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recs_core import datasets

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_quickstart_trains_evaluates_and_recommends_in_at_most_25_lines(tmp_path: Path) -> None:
    data = datasets.load("online-retail").to_table().slice(0, 6000)
    pq.write_table(data, tmp_path / "purchases.parquet")
    source = (EXAMPLES / "quickstart.py").read_text()
    statements = [line for line in source.splitlines() if line.strip()]
    assert len(statements) <= 25 and ast.parse(source)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    assert re.fullmatch(r"recall@20 0\.\d{3}   ndcg@20 0\.\d{3}", first)
    assert len(rows) == 3 and all(len(row.split()) == 6 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"), [("context", "nothing known of the request"), ("vectors", "beside a new metal")]
)
def test_what_people_bring_is_read_in_at_most_40_lines(name: str, said: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text()
    assert sum(1 for line in source.split('"""', 2)[2].splitlines() if line.strip()) <= 40
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.splitlines()[-1]
