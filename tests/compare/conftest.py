"""Comparisons among backends that need no framework, run as a user runs them, once for all tests that look at them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECS = [sys.executable, "-c", "from recs_core.cli.main import main; main()", "compare"]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Path:
    """A folder with the zoo installed in it, as a distribution with entry points."""
    folder = tmp_path_factory.mktemp("zoo")
    shutil.copy(HERE / "zoo.py", folder)
    from tests.compare.zoo import NAMES

    info = folder / "recs_zoo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recs-zoo\nVersion: 1.0\n")
    points = "".join(f"{name} = zoo\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[recs_core.backends]\n{points}")
    return folder


@pytest.fixture(scope="session")
def environment(zoo) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(zoo), str(HERE.parents[1])]), "COLUMNS": "120"}


@pytest.fixture(scope="session")
def recs_compare(environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`recs compare` in a process of its own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [*RECS, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)

    return run


class Compared:
    """What one comparison left."""

    def __init__(self, out: Path, done: subprocess.CompletedProcess[str]) -> None:
        self.out, self.code, self.stdout, self.stderr = out, done.returncode, done.stdout, done.stderr
        self.report = json.loads((out / "report.json").read_text(encoding="utf-8"))

    def row(self, name: str) -> dict:
        return next(row for row in self.report["backends"] if row["name"] == name)

    def pair(self, first: str, second: str) -> dict:
        return next(pair for pair in self.report["pairs"] if (pair["first"], pair["second"]) == (first, second))


@pytest.fixture(scope="session")
def good(recs_compare, tmp_path_factory) -> Compared:
    """Two that agree, one of them in float32."""
    out = tmp_path_factory.mktemp("good") / "out"
    return Compared(out, recs_compare("--backends", "right,rounding", "--out", out))


@pytest.fixture(scope="session")
def bad(recs_compare, tmp_path_factory) -> Compared:
    """Everything that can go wrong, beside one that is right."""
    out = tmp_path_factory.mktemp("bad") / "out"
    return Compared(out, recs_compare("--backends", "right,wrong,dying,nan,broken,random", "--out", out))
