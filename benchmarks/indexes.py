"""Indexes: single queries among a million clustered vectors beside exact search, and filters that must not leak.

    python benchmarks/indexes.py [--candidates 1000000] [--dim 64] [--queries 300] [--answers 100000] [--index SPEC …]

Vectors are seeded, in clusters, of length 1. Each index answers one query at a time, in turns with exact search in one
process; what counts is the median of the ratios, and recall@10. Then filters that keep 0.1 % … 90 % and 50 exclusions a
query: every answer is looked at for what must not be in it, until `--answers` positions were. faiss's needs
recs-core-faiss.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np
from clusters import clusters
from filters import show

from recs_core.contract.protocols import Index
from recs_core.index import ExactIndex
from recs_core.index.filters import ragged
from recs_core.plugin.manager import list_indexes, load_index

K = 10
SHARES = (0.001, 0.01, 0.1, 0.5, 0.9)
EXCLUDED = 50


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--candidates", type=int, default=1_000_000)
    asked.add_argument("--dim", type=int, default=64)
    asked.add_argument("--queries", type=int, default=300)
    asked.add_argument("--answers", type=int, default=100_000)
    asked.add_argument("--index", action="append")
    options = asked.parse_args()

    random = np.random.default_rng(0)
    drawn = clusters(options.dim, random)
    vectors, queries = drawn(options.candidates), drawn(options.queries)
    exact = ExactIndex()
    exact.build(vectors)
    installed = [row.name for row in list_indexes() if row.info and not row.problem and row.name != "exact"]
    speed, filtered = {}, {}
    for spec in options.index or installed:
        index = load_index(spec)
        begun = perf_counter()
        index.build(vectors)
        build = perf_counter() - begun
        speed[spec] = [build, *single(index, exact, queries)]
        for share in SHARES:
            allow = np.flatnonzero(random.random(len(vectors)) < share)
            filtered[f"{spec}, keeps {share:.1%}"] = leaks(index, exact, queries, allow, options.answers, random)
    title = f"One query of {len(vectors):,} × {options.dim}, k = {K}"
    show(title, ["", "build, s", "ms", "exact, ms", "quicker by", "recall@10"], speed)
    show("Filters, and 50 exclusions a query", ["", "positions looked at", "leaks", "recall@10"], filtered)


def single(index: Index, exact: ExactIndex, queries: np.ndarray) -> list[float]:
    """Median ms, that of exact search, the median ratio, recall."""
    times, hits = np.empty((len(queries), 2)), 0
    for row in range(len(queries)):
        query = queries[row : row + 1]
        start = perf_counter()
        due = exact.search(query, K)
        between = perf_counter()
        found = index.search(query, K)
        times[row] = between - start, perf_counter() - between
        hits += len(np.intersect1d(found.ids, due.ids))
    of_exact, own = times.T
    return [
        np.median(own) * 1e3,
        np.median(of_exact) * 1e3,
        np.median(of_exact / own),
        hits / due.ids.size / len(queries),
    ]


def leaks(
    index: Index, exact: ExactIndex, queries: np.ndarray, allow: np.ndarray, answers: int, random: np.random.Generator
) -> list[float]:
    """Positions that were looked at, how many of them should not be there, recall."""
    looked, leaked, hits, due = 0, 0, 0, 0
    while looked < answers / len(SHARES):
        gone = [random.choice(allow, min(EXCLUDED, len(allow)), replace=False) for _ in queries]
        best = exact.search(queries, K, allow=allow).ids
        exclude = ragged([np.append(one, first[first >= 0][:3]) for one, first in zip(gone, best, strict=True)])
        found = index.search(queries, K, exclude=exclude, allow=allow).ids
        truth = exact.search(queries, K, exclude=exclude, allow=allow).ids
        there = found >= 0
        wrong = there & (~np.isin(found, allow) | exclude.holds(np.arange(len(found))[:, None], found))
        looked, leaked = looked + int(there.sum()), leaked + int(wrong.sum())
        hits += sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, truth, strict=True))
        due += int((truth >= 0).sum())
    return [looked, leaked, hits / due]


if __name__ == "__main__":
    main()
