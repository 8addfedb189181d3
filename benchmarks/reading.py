"""From a Parquet file to a split, 5M rows with queries of text: read, coded, filtered, split; beside polars.

    python benchmarks/reading.py [--rows 5000000] [--rounds 5] [--json out.json]

Both read the file, number the ids by first appearance, drop rows until every query and candidate has five, hold the
latest tenth out, and count what the test knows of the training rows; the counts must be equal. Contenders take turns in
one process; peaks are measured in a process of its own for each, beyond what a file of a hundred rows takes (Linux).
Without polars only ours is measured.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ranks import interleaved, report

import recs_core as recs

try:
    import polars as pl
except ImportError:
    pl = None

OURS, POLARS = "recs_core", "polars"
LEAST, SHARE = 5, 0.1

Counts = tuple[int, ...]
"""Rows of the training part and of the test; repeated rows, targets, repeated targets; rows before their query's
latest."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", type=int, default=5_000_000)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--json", type=Path)
    asked.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)  # contender, small file, file: one in this process
    options = asked.parse_args()
    if options.peak:
        name, *files = options.peak
        print(*peaks(CONTENDERS[name], *map(Path, files)))
        return
    if pl is None:
        print("polars is not installed: only recs_core is measured", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        small, file = Path(folder) / "small.parquet", Path(folder) / "rows.parquet"
        written(small, 100)
        written(file, options.rows)
        measured(small, file, options)


def measured(small: Path, file: Path, options: argparse.Namespace) -> None:
    """Print the table."""
    names = [name for name in CONTENDERS if name == OURS or pl is not None]
    found = {name: CONTENDERS[name](file) for name in names}
    if len(set(found.values())) > 1:
        raise SystemExit(f"the contenders disagree: {found}")
    wall, cpu = interleaved({name: lambda name=name: CONTENDERS[name](file) for name in names}, options.rounds)
    bytes_per_row = {}
    for name in names:
        command = [sys.executable, __file__, "--peak", name, str(small), str(file)]
        before, after = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        bytes_per_row[name] = (after - before) / options.rows
    report(
        f"{options.rows:,} rows: read, code, 5-core, split by time",
        ["", "seconds", "share of polars' time", "in processor time", "bytes per row at peak"],
        {
            name: [
                float(np.median(wall[name])),
                *(float(np.median(t[name] / t[POLARS])) if POLARS in t else float("nan") for t in (wall, cpu)),
                bytes_per_row[name],
            ]
            for name in names
        },
        options.json,
    )


def written(file: Path, rows: int) -> None:
    """A file of rows in random order, popularity by Pareto's law: ids of text, ids of numbers, whole seconds."""
    random = np.random.default_rng(0)
    queries, candidates = max(10, rows // 12), max(5, rows // 100)
    names = pa.array([f"user-{number:08d}" for number in random.permutation(queries)])
    columns = {
        "user": names.take(pa.array(popular(random, rows, queries))),
        "item": popular(random, rows, candidates),
        "t": random.integers(1_600_000_000, 1_700_000_000, rows),
    }
    pq.write_table(pa.table(columns), file)


def popular(random: np.random.Generator, rows: int, ids: int) -> np.ndarray:
    return np.minimum((random.pareto(1.0, rows) * ids / 150).astype(np.int64), ids - 1)


def ours(file: Path) -> Counts:
    rows = recs.Interactions.from_table(file, query="user", candidate="item", timestamp="t")
    rows = rows.filter(min_per_query=LEAST, min_per_candidate=LEAST)
    told = rows.split(by="time", test=SHARE, known_only=True).leakage
    assert told.early_rows_of_query is not None
    counts = told.repeated_rows, told.test_targets, told.repeated_targets, told.early_rows_of_query
    return told.train_rows, told.test_rows, *counts


def with_polars(file: Path) -> Counts:
    rows = pl.read_parquet(file)
    for name in ("user", "item"):
        ids = rows.select(pl.col(name).unique(maintain_order=True)).with_row_index("code")
        rows = rows.join(ids, on=name, how="left", maintain_order="left").drop(name).rename({"code": name})
    before = -1
    while before != len(rows):
        before = len(rows)
        for name in ("user", "item"):
            rare = rows.group_by(name).len().filter(pl.col("len") < LEAST)
            rows = rows.join(rare, on=name, how="anti", maintain_order="left")
    at = rows["t"].sort()[len(rows) - max(1, round(len(rows) * SHARE))]
    train, test = rows.filter(pl.col("t") < at), rows.filter(pl.col("t") >= at)
    for name in ("user", "item"):
        test = test.join(train.select(pl.col(name).unique()), on=name, how="semi", maintain_order="left")
    pair = ["user", "item"]
    repeated = test.join(train.select(pair), on=pair, how="semi")
    latest = train.group_by("user").agg(pl.col("t").max().alias("latest"))
    early = test.join(latest, on="user").filter(pl.col("t") < pl.col("latest"))
    counts = len(repeated), len(test.select(pair).unique()), len(repeated.select(pair).unique()), len(early)
    return len(train), len(test), *counts


CONTENDERS: dict[str, Callable[[Path], Counts]] = {OURS: ours, POLARS: with_polars}


def peaks(run: Callable[[Path], Counts], small: Path, file: Path) -> tuple[int, int]:
    """The most bytes that the process has held after a small file, and after the file."""
    return tuple(peak() for path in (small, file) if run(path))  # type: ignore[return-value]


def peak() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


if __name__ == "__main__":
    main()
