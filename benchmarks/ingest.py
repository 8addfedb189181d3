"""Parquet to a store beside DuckDB's own work on the same columns, and a batch from the store beside one from memory.

    python benchmarks/ingest.py [--rows 20] [--memory 1GB] [--rounds 1] [--folder DIR] [--json out.json]

Rows are made first: millions of them, in files of a million, queries of text and numbers of items by Pareto's law, in
no order. "DuckDB alone" groups the rows by each id and sorts them by query and time, under the same limit of memory,
and keeps nothing. Each run has a process of its own; peaks are VmHWM (Linux), and what a process holds of its own while
it makes batches is RssAnon, without the pages of the map. DIR keeps the rows for the next run.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ranks import report

import recs_core as recs
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema

PART = 1_000_000
NAMES = {"query": "user", "candidate": "item", "timestamp": "ts"}
STEPS = 200


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", type=int, default=20, help="millions")
    asked.add_argument("--memory", default="1GB")
    asked.add_argument("--rounds", type=int, default=1)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--json", type=Path)
    asked.add_argument("--run", nargs=2, help=argparse.SUPPRESS)  # what to run here, and on which folder
    options = asked.parse_args()
    if options.run:
        name, folder = options.run
        sys.stdout.write(json.dumps(RUNS[name](Path(folder), options.memory)))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="recs-ingest-"))
    try:
        written(folder / "events", options.rows)
        measured(folder, options)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def measured(folder: Path, options: argparse.Namespace) -> None:
    """Print the tables."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for name in ("recs.ingest", "DuckDB alone"):
            command = [sys.executable, __file__, "--run", name, str(folder), "--memory", options.memory]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.setdefault(name, []).append(json.loads(done.stdout))
    rows = options.rows * PART
    report(
        f"{rows:,} rows, at most {options.memory}",
        ["", "seconds", "million rows per second", "share of DuckDB's speed", "peak MB"],
        {
            name: [
                statistics.median(run["seconds"] for run in runs),
                statistics.median(rows / 1e6 / run["seconds"] for run in runs),
                statistics.median(
                    other["seconds"] / run["seconds"] for run, other in zip(runs, found["DuckDB alone"], strict=True)
                ),
                max(run["peak"] for run in runs),
            ]
            for name, runs in found.items()
        },
        options.json,
    )
    batches = {}
    for name in ("from the store", "from memory"):
        command = [sys.executable, __file__, "--run", name, str(folder), "--memory", options.memory]
        batches[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    report(
        "Batches of 4,096 by interaction, with a history",
        ["", "ms a batch", "ms of the first at 90 % of an epoch", "MB of its own beyond the interpreter's"],
        {name: [run["batch"], run["first"], run["own"]] for name, run in batches.items()},
        None,
    )


def written(folder: Path, millions: int) -> None:
    """The files, those that are there already aside."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(millions):
        file = folder / f"{number:05d}.parquet"
        if file.exists():
            continue
        random = np.random.default_rng(number)
        users = (random.pareto(0.8, PART) * 20_000).astype(np.int64) % 1_000_000
        columns = {
            "user": pa.array(np.char.add("user-", users.astype(str))),
            "item": (random.pareto(0.8, PART) * 5_000).astype(np.int64) % 800_000,
            "ts": random.integers(1_500_000_000, 1_600_000_000, PART),
            "page": random.integers(0, 1000, PART),  # which nobody asks for
        }
        pq.write_table(pa.table(columns), file)


def ours(folder: Path, memory: str) -> dict[str, float]:
    start = time.perf_counter()
    recs.ingest(folder / "events", to=folder / "store", memory=memory, **NAMES)
    return {"seconds": time.perf_counter() - start, "peak": kilobytes("VmHWM") / 1000}


def alone(folder: Path, memory: str) -> dict[str, float]:
    import duckdb

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as own:
        database = duckdb.connect(f"{own}/rows.duckdb")
        database.execute(f"SET memory_limit = '{memory}'")
        database.execute(f"SET temp_directory = '{own}/spilled'")
        database.execute("SET preserve_insertion_order = false")
        source = f"read_parquet('{folder}/events/*.parquet')"
        for name in ("user", "item"):
            database.execute(f"CREATE TABLE {name} AS SELECT {name}, count(*) AS rows FROM {source} GROUP BY {name}")
        ordered = database.sql(f"SELECT user, item, ts FROM {source} ORDER BY user, ts")
        rows = sum(len(batch) for batch in pa.RecordBatchReader.from_stream(ordered))
        database.close()
    assert rows
    return {"seconds": time.perf_counter() - start, "peak": kilobytes("VmHWM") / 1000}


def from_store(folder: Path, memory: str) -> dict[str, float]:
    return batches_of(lambda: recs.open_store(folder / "store", verify=False))


def from_memory(folder: Path, memory: str) -> dict[str, float]:
    return batches_of(lambda: recs.Interactions.from_table(folder / "events", **NAMES))


def batches_of(read: Callable[[], recs.Interactions]) -> dict[str, float]:
    """Batches of towers that are as small as can be: what is measured is the data's part."""
    before = kilobytes("RssAnon")
    data = read()
    query = recs.TowerSpec([recs.Categorical("user", dim=8), recs.History("item", dim=8, max_length=20)])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=8)])
    batching = Batching(EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, data), data))
    plan = BatchPlan(4096, "interaction", recs.RetrievalSpec())
    seconds = []
    batches = batching.batches(plan, seed=0, epoch=0)
    for _, start in zip(range(STEPS), iter(time.perf_counter, None), strict=False):
        next(batches)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    next(batching.batches(plan, seed=0, epoch=1, start=int(0.9 * batching.steps(plan))))
    return {
        "batch": 1000 * statistics.median(seconds),
        "first": 1000 * (time.perf_counter() - start),
        "own": (kilobytes("RssAnon") - before) / 1000,
    }


def kilobytes(what: str) -> int:
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


RUNS: dict[str, Callable[[Path, str], dict[str, float]]] = {
    "recs.ingest": ours,
    "DuckDB alone": alone,
    "from the store": from_store,
    "from memory": from_memory,
}

if __name__ == "__main__":
    main()
