"""Saving and loading a bundle beside writing and reading the same bytes, and a cold `recs recommend`.

    python benchmarks/bundle.py [--rows 1000000] [--rounds 5] [--bundle PATH] [--json out.json]

Interleaved: each round measures everything once, in turn; medians of a round's ratios are compared, so that a busy
machine disturbs both sides alike.
Saving is held to: write the weights' bytes, fsync, SHA-256. Loading (NumPy runtime, everything verified) to: read them,
SHA-256. Memory is anonymous memory beyond the model's own tables, measured in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

import recs_core as recs
from recs_core.contract.batch import Features, Ragged
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.catalog import Catalog
from recs_core.data.schema import Schema
from recs_core.fitted import Declared, Fitted
from recs_core.runtime import NumpyTower

DIM = 64
QUERIES = 1_000
PIECE = 1 << 20


class Held:
    """A model of one large table that hands out its weights as they are; enough to be saved."""

    version = 0

    def __init__(self, weights: dict[str, Any], query: Any, candidate: Any, retrieval: Any) -> None:
        self.held = weights
        self.query, self.candidate = NumpyTower(query, weights), NumpyTower(candidate, weights)

    def weights(self) -> dict[str, Any]:
        return dict(self.held)


def model(rows: int) -> recs.TwoTower:
    """1000 queries and `rows` candidates with 64 numbers each, no layers."""
    query = recs.TowerSpec([recs.Categorical("user", dim=DIM)])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    users, items = Vocabulary(np.arange(QUERIES), "user"), Vocabulary(np.arange(rows) + 10**9, "item")
    schema = Schema(
        "user",
        "item",
        users,
        items,
        {"table/user": users, "table/item": items},
        {},
        {"table/user": QUERIES + 1, "table/item": rows + 1},
    )
    catalog = Catalog(
        schema,
        Features(QUERIES, {"user": np.arange(1, QUERIES + 1, dtype=np.int32)}),
        Features(rows, {"item": np.arange(1, rows + 1, dtype=np.int32)}),
        Ragged(np.zeros(0, np.int32), np.zeros(QUERIES + 1, np.int32)),
        np.ones(rows, np.int64),
        pa.table({"item": items.ids}),
    )
    random = np.random.default_rng(0)
    weights = {
        "table/user": random.standard_normal((QUERIES + 1, DIM), np.float32),
        "table/item": random.standard_normal((rows + 1, DIM), np.float32),
        "task/bias": np.zeros(rows, np.float32),
    }
    backend = SimpleNamespace(
        info=SimpleNamespace(name="none", requires=()),
        model=lambda query, candidate, retrieval, weights, dtype: Held(weights, query, candidate, retrieval),
        **dict.fromkeys(("task", "adopt", "trainer")),  # nobody asks it for these
    )
    declared = Declared(query, candidate, recs.RetrievalSpec(), recs.Adam(), seed=0)
    return recs.TwoTower.of(Fitted(declared, catalog, weights), backend=backend)


def plain_write(weights: dict[str, Any], path: Path) -> None:
    """The same bytes, written, synced and hashed."""
    sha = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for array in weights.values():
            view = memoryview(array).cast("B")
            for start in range(0, len(view), PIECE):
                sha.update(view[start : start + PIECE])
                file.write(view[start : start + PIECE])
        os.fsync(file.fileno())


def plain_read(path: Path) -> None:
    """The same bytes, read into memory and hashed."""
    data = np.fromfile(path, np.uint8)
    hashlib.sha256(data).hexdigest()


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


MEMORY = """
import sys, threading, time
sys.path.insert(0, {root!r})
from benchmarks.bundle import model
import recs_core as recs

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024

made = model({rows}) if {saving} else None
before, peak, stop = anonymous(), [0], threading.Event()

def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], anonymous() - before)
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
made.save({path!r}) if {saving} else recs.load({path!r}, runtime="numpy")
stop.set()
thread.join()
print(peak[0])
"""


def peak_memory(path: Path, rows: int, *, saving: bool) -> int:
    """Bytes of anonymous memory beyond what was there before."""
    root = str(Path(__file__).parents[1])
    code = MEMORY.format(root=root, rows=rows, path=str(path), saving=saving)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def cold_recommend(path: Path) -> tuple[float, float]:
    """Wall and processor seconds of a whole `recs recommend PATH --query …` process."""
    vocabulary = recs.load(path, runtime="numpy").schema.queries.ids
    query = str(vocabulary[0].as_py())
    before, start = os.times(), time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from recs_core.cli.main import main; main()",
            "recommend",
            str(path),
            "--query",
            query,
            "--exclude-seen",
        ],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--bundle", type=Path, help="a bundle for the cold start, such as one of online-retail")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recs-bundle-"))
    try:
        found = measure(given, folder)
    finally:
        shutil.rmtree(folder)
    for name, value in found.items():
        print(f"{name:32} {value:,.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def measure(given: Any, folder: Path) -> dict[str, float]:
    """Medians over the rounds, and their ratios."""
    made = model(given.rows)
    weights = made.weights()
    plain, path = folder / "plain", folder / "b"
    actions: dict[str, Callable[[], object]] = {
        "plain write, s": lambda: plain_write(weights, plain),
        "save, s": lambda: made.save(path),
        "plain read, s": lambda: plain_read(plain),
        "load, s": lambda: recs.load(path, runtime="numpy"),
        "load unverified, s": lambda: recs.load(path, runtime="numpy", verify=False),
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(given.rounds):
        for name, action in actions.items():
            times[name].append(seconds(action))
    found = {name: statistics.median(values) for name, values in times.items()}
    found["save / plain write"] = statistics.median(
        a / b for a, b in zip(times["save, s"], times["plain write, s"], strict=True)
    )
    found["load / plain read"] = statistics.median(
        a / b for a, b in zip(times["load, s"], times["plain read, s"], strict=True)
    )
    tables = sum(weight.nbytes for weight in weights.values())
    found["tables, MB"] = tables / 1e6
    for name, saving in (("save", True), ("load", False)):
        found[f"{name}: peak memory / tables"] = peak_memory(path, given.rows, saving=saving) / tables
    if given.bundle:
        cold = [cold_recommend(given.bundle) for _ in range(given.rounds + 1)][1:]
        found["recs recommend, wall ms"] = statistics.median(wall for wall, _ in cold) * 1e3
        found["recs recommend, processor ms"] = statistics.median(cpu for _, cpu in cold) * 1e3
    return found


if __name__ == "__main__":
    main()
