"""Steps of two workers beside those of one process, and the bytes of a step beside the formula of docs/scale.md.

    python benchmarks/workers.py                                # B = 1024 and 8192, two workers
    python benchmarks/workers.py --workers 4 --batch 65536
    python benchmarks/workers.py --corpus --batch 1024          # against all of 50,000 candidates

Every process has one thread. Contenders take turns, a pass over a few batches each, on the same machine; what counts is
the ratio of their median times, and where the machine does other work too, that of the processor's. 1M × 1M ids,
d = 64, cosine, a bias for each candidate, Adagrad, in-batch negatives:

one process   the plain trainer
a group of 1  the trainer of several workers, alone: what the share and the buffers cost
N workers     N processes, by gloo over the loopback interface

Bytes are of a step and all workers together: by the formula, as the workers count what they send, and as the loopback
interface counts what goes through it, with headers, acknowledgements and whoever else talks.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recs_core_torch import Backend

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.workers import Workers
from recs_core.distributed.launch import launch, workers_of
from recs_core.distributed.rows import lies_in_rows
from recs_core.distributed.share import share

IDS, DIM, PASSES, BATCHES = 1_000_000, 64, 7, 4
CORPUS = 50_000 if "--corpus" in sys.argv else None
ITEMS = CORPUS or IDS
SPEC = RetrievalSpec(negatives="corpus" if CORPUS else "in-batch", logq=False)
PLANS = tuple(
    TowerPlan.of(side, TowerSpec((Categorical(name, dim=DIM),), layers=(DIM,)))  # type: ignore[arg-type]
    for side, name in (("query", "user"), ("candidate", "item"))
)
FLOAT, INT, LONG = 4, 4, 8
HEAD = """\
Milliseconds per step: by the clock, and of the processor (of N workers the busiest one's).

| batch | one process | a group of 1 | {} workers | processor, one ÷ N | bytes by the formula | counted | loopback |
|---:|---:|---:|---:|---:|---:|---:|---:|"""


def batch(size: int, number: int) -> Batch:
    """A batch of uniform pairs, against one another or against all candidates."""
    random = np.random.default_rng(number)
    user, item = (random.integers(0, ids, size).astype(np.int32) for ids in (IDS, ITEMS))
    own: Any = np.arange(size, dtype=np.int32)
    columns, target = (np.arange(ITEMS, dtype=np.int32), item) if CORPUS else (item, own)
    rows, codes = {}, {}
    for name, ids in (("table/user", user + 1), ("table/item", columns + 1), ("task/bias", columns)):
        rows[name], at = np.unique(ids, return_inverse=True)
        codes[name] = at.astype(np.int32)
    task: Any = {"target_query": own, "target_candidate": target, "candidate_ids": columns, "negatives_from": 0}
    query, candidate = (
        Features(len(codes[table]), {table[6:]: codes[table]}) for table in ("table/user", "table/item")
    )
    return Batch(rows, query, candidate, task, codes["task/bias"])


def trainer(backend: Any) -> Any:
    """A trainer of the model, from the same weights everywhere."""
    rows = {"table/user": IDS + 1, "table/item": ITEMS + 1}
    start = canonical.initial(*PLANS, SPEC, rows, ITEMS, seed=1)
    return backend.trainer(backend.model(*PLANS, SPEC, start), UpdatePlan(Adagrad(0.1)))


def formula(of: Batch, size: int, widths: dict[str, int], dense: int) -> int:
    """The bytes of a step of all workers together, as docs/scale.md has them."""
    total = 0
    for rank in range(size):
        own = share(of, rank, size, query=PLANS[0], candidate=PLANS[1], reduction="mean")
        for name, rows in own.rows.items():
            total += int((rows % size != rank).sum()) * (INT + 2 * FLOAT * widths[name])
    total += size * (size - 1) * LONG * len(widths)
    if CORPUS and of.query.size * DIM < CORPUS * (DIM + 1):
        total += 2 * (size - 1) * of.query.size * DIM * FLOAT + size * (size - 1) * of.query.size * FLOAT
    else:
        total += 2 * (size - 1) * of.candidate.size * (DIM + 1) * FLOAT
    return total + 2 * (size - 1) * (dense + 1) * FLOAT


def loopback() -> int:
    """Bytes that the loopback interface has taken so far; of the one that gloo is told to use, both ways."""
    name = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith(f"{name}:"))
    counts = line.split(":")[1].split()
    return int(counts[0]) + (int(counts[8]) if name != "lo" else 0)


def timed(each: Any, batches: Sequence[Batch]) -> tuple[float, float]:
    """Milliseconds per step of a pass: by the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    for one in batches:
        float(each.step(one, 0.1))
    clock, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    return clock / len(batches) * 1e3, processor / len(batches) * 1e3


def worker(workers: Workers, sizes: Sequence[int]) -> None:
    """What one of the workers does; the first prints the table, a row for each batch size."""
    backend: Any = Backend().over(workers)
    group, several = backend.group, trainer(backend)
    first = workers.rank == 0
    alone = [trainer(Backend()), trainer(Backend().over(Workers(0, 1, port=0, hosts=True)))] if first else []
    widths = {name: int(np.prod(w.shape[1:])) for name, w in several.model.canonical().items() if lies_in_rows(name)}
    dense = sum(w.parameter.numel() for name, w in several.weights.items() if not lies_in_rows(name))
    if first:
        print(HEAD.format(workers.size), flush=True)
    for size in sizes:
        batches = [batch(size, number) for number in range(BATCHES)]
        passes: list[list[tuple[float, float]]] = []
        counted = loop = 0
        for _ in range(PASSES + 1):  # the first warms up
            each = [timed(one, batches) for one in alone]
            group.all(None, "the turn of all")
            sent, through = sum(group.sent.values()), loopback()
            own = timed(several, batches)
            group.all(None, "the end of the turn")
            loop = loopback() - through
            counted = sum(group.all(sum(group.sent.values()) - sent, "bytes"))
            busiest = max(processor for _, processor in group.all(own, "times"))
            passes.append([*each, (own[0], busiest)])
        if first:
            due = sum(formula(one, workers.size, widths, dense) for one in batches)
            print(row(size, passes[1:], [number // BATCHES for number in (due, counted, loop)]), flush=True)


def row(size: int, passes: Sequence[Sequence[tuple[float, float]]], moved: Sequence[int]) -> str:
    """A line of the table."""
    times = [[statistics.median(one) for one in zip(*of, strict=True)] for of in zip(*passes, strict=True)]
    (plain, plain_cpu), (one, one_cpu), (many, many_cpu) = times
    cells = [f"{size:,}", f"{plain:.1f}, {plain_cpu:.1f}"]
    cells += [f"{one:.1f}, {one_cpu:.1f}", f"{many:.1f}, {many_cpu:.1f}", f"{plain_cpu / many_cpu:.2f}×"]
    return "| " + " | ".join([*cells, *(f"{number:,}" for number in moved)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--corpus", action="store_true", help="against all candidates, not those of the batch")
    parser.add_argument("--batch", type=int, nargs="*", default=[1024, 8192])
    asked = parser.parse_args()
    workers = workers_of(os.environ)
    if workers is not None:
        worker(workers, asked.batch)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    code, lines = launch(asked.workers, [sys.executable, __file__, *sys.argv[1:]])
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
