"""Exact top-k: a batch of 512 over 200k × 64, k = 100, side by side with faiss IndexFlatIP.

    python benchmarks/topk.py [--queries 512] [--candidates 200000] [--dim 64] [-k 100] [--rounds 7] [--json out.json]

Needs faiss-cpu. Run in turn; what counts is the median of the rounds' ratios. The lists are compared too, and the
memory that a search takes beyond the vectors is measured in a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
from ranks import interleaved, report

from recs_core.index import ExactIndex

MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from recs_core.index import ExactIndex
queries, candidates, dim, k = map(int, sys.argv[1:])
random = np.random.default_rng(0)
vectors = random.standard_normal((candidates, dim), np.float32)
asked = random.standard_normal((queries, dim), np.float32)
def peak():  # not getrusage, whose peak a child inherits
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
index = ExactIndex()
index.build(vectors)
index.search(asked, k)
print(peak() - before)
"""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--queries", type=int, default=512)
    asked.add_argument("--candidates", type=int, default=200_000)
    asked.add_argument("--dim", type=int, default=64)
    asked.add_argument("-k", type=int, default=100)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()

    random = np.random.default_rng(0)
    vectors = random.standard_normal((options.candidates, options.dim), np.float32)
    queries = random.standard_normal((options.queries, options.dim), np.float32)
    index, flat = ExactIndex(), faiss.IndexFlatIP(options.dim)
    index.build(vectors)
    flat.add(vectors)
    scores = np.empty((options.queries, options.candidates), np.float32)
    runs = {
        "recs_core ExactIndex": lambda: index.search(queries, options.k),
        "faiss IndexFlatIP": lambda: flat.search(queries, options.k),
        "sgemm alone": lambda: np.matmul(queries, vectors.T, out=scores),
    }
    wall, cpu = interleaved(runs, options.rounds)
    work = 2 * options.queries * options.candidates * options.dim / 1e9
    report(
        f"{options.queries:,} queries × {options.candidates:,} × {options.dim}, k = {options.k}",
        ["", "seconds", "GFLOP/s", "times faiss", "in processor time"],
        {
            name: [
                float(np.median(wall[name])),
                float(work / np.median(wall[name])),
                float(np.median(wall["faiss IndexFlatIP"] / wall[name])),
                float(np.median(cpu["faiss IndexFlatIP"] / cpu[name])),
            ]
            for name in runs
        },
        options.json,
    )
    same = float((index.search(queries, options.k).ids == flat.search(queries, options.k)[1]).mean())
    sizes = [str(n) for n in (options.queries, options.candidates, options.dim, options.k)]
    memory = subprocess.run([sys.executable, "-c", MEMORY, *sizes], capture_output=True, text=True, check=True).stdout
    print(f"\n{same:.2%} of places hold faiss's id; a search takes {float(memory):.0f} MB beyond the vectors")


if __name__ == "__main__":
    main()
