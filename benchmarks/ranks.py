"""Exact ranks of 4,096 queries over 200k × 64, seen items excluded, every k at once, as a share of sgemm alone.

    python benchmarks/ranks.py [--queries 4096] [--candidates 200000] [--dim 64] [--rounds 5] [--json out.json]

The two are run in turn, so that a noisy machine disturbs both; what counts is the median of the rounds' ratios. The
ratio of processor seconds is shown too: other programs' load moves it less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recs_core.contract.batch import Ragged
from recs_core.evaluation import metrics, ranks

SEEN = 50


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--queries", type=int, default=4096)
    asked.add_argument("--candidates", type=int, default=200_000)
    asked.add_argument("--dim", type=int, default=64)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()

    random = np.random.default_rng(0)
    queries = random.standard_normal((options.queries, options.dim), np.float32)
    candidates = random.standard_normal((options.candidates, options.dim), np.float32)
    targets = rows_of(random, options.queries, options.candidates, 1)
    seen = rows_of(random, options.queries, options.candidates, SEEN)
    scores = np.empty((min(1024, options.queries), options.candidates), np.float32)

    def sgemm() -> None:
        for start in range(0, options.queries, len(scores)):
            block = queries[start : start + len(scores)]
            np.matmul(block, candidates.T, out=scores[: len(block)])

    def evaluate() -> None:
        metrics(ranks(queries, candidates, targets, exclude=seen))

    wall, cpu = interleaved({"sgemm": sgemm, "ranks and metrics": evaluate}, options.rounds)
    work = 2 * options.queries * options.candidates * options.dim / 1e9
    report(
        f"{options.queries:,} queries × {options.candidates:,} × {options.dim}, {SEEN} excluded per query",
        ["", "seconds", "GFLOP/s", "share of sgemm", "in processor time"],
        {
            name: [
                float(np.median(wall[name])),
                float(work / np.median(wall[name])),
                float(np.median(wall["sgemm"] / wall[name])),
                float(np.median(cpu["sgemm"] / cpu[name])),
            ]
            for name in wall
        },
        options.json,
    )


def rows_of(random: np.random.Generator, rows: int, candidates: int, each: int) -> Ragged:
    """`each` random candidates per row."""
    values = random.integers(0, candidates, rows * each).astype(np.int32)
    return Ragged(values, np.arange(0, rows * each + 1, each, dtype=np.int32))


def interleaved(
    runs: dict[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Wall-clock and processor seconds of each run, one round after the other, after one to warm up."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            before = time.perf_counter(), time.process_time()
            run()
            if turn:
                wall[name].append(time.perf_counter() - before[0])
                cpu[name].append(time.process_time() - before[1])
    return {name: np.array(v) for name, v in wall.items()}, {name: np.array(v) for name, v in cpu.items()}


def report(title: str, header: list[str], rows: dict[str, list[float]], path: Path | None) -> None:
    """A Markdown table on the screen; the same as JSON on its last line, and in a file if asked for."""
    print(f"### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for name, numbers in rows.items():
        print(f"| {name} | {' | '.join(f'{number:.3g}' for number in numbers)} |")
    found = {"title": title, "rows": {name: dict(zip(header[1:], row, strict=True)) for name, row in rows.items()}}
    print(f"\n{json.dumps(found, ensure_ascii=False)}")
    if path:
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
