"""Exact top-k: a batch of 512 over 200k × 64, k = 100, side by side with faiss, TFRS and keras-rs.

    python benchmarks/topk.py [--queries 512] [--candidates 200000] [--dim 64] [-k 100] [--rounds 7] [--json out.json]

Needs faiss-cpu, the TensorFlow plugin and keras-rs. TFRS `BruteForce` (Keras 2) and keras-rs `BruteForceRetrieval`
(Keras 3 on TensorFlow) each run in a `tf.function`. All take turns in one process; what counts is the median of the
rounds' ratios. The lists are compared too, and the memory that a search takes beyond the vectors is measured in a
process of its own (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from ranks import interleaved, report
from recs_core_tensorflow import tf, tfrs

from recs_core.index import ExactIndex

OURS = "recs_core ExactIndex"

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
    searches = contenders(vectors, queries, options.k)
    scores = np.empty((options.queries, options.candidates), np.float32)
    sgemm = {"sgemm alone": lambda: np.matmul(queries, vectors.T, out=scores)}
    wall, cpu = interleaved({**searches, **sgemm}, options.rounds)
    work = 2 * options.queries * options.candidates * options.dim / 1e9
    report(
        f"{options.queries:,} queries × {options.candidates:,} × {options.dim}, k = {options.k}",
        ["", "seconds", "GFLOP/s", "ours is faster by", "in processor time"],
        {
            name: [
                float(np.median(wall[name])),
                float(work / np.median(wall[name])),
                float(np.median(wall[name] / wall[OURS])),
                float(np.median(cpu[name] / cpu[OURS])),
            ]
            for name in wall
        },
        options.json,
    )
    found = {name: search() for name, search in searches.items()}
    same = ", ".join(f"{(ids == found[OURS]).mean():.2%} with {name}" for name, ids in found.items() if name != OURS)
    sizes = [str(n) for n in (options.queries, options.candidates, options.dim, options.k)]
    memory = subprocess.run([sys.executable, "-c", MEMORY, *sizes], capture_output=True, text=True, check=True).stdout
    print(f"\nPlaces that hold the same id: {same}. A search takes {float(memory):.0f} MB beyond the vectors.")


def contenders(vectors: np.ndarray, queries: np.ndarray, k: int) -> dict[str, Callable[[], Any]]:
    """Name → a search of all queries, which gives their (Q, k) positions."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # Keras 3's; TFRS has Keras 2
    import keras_rs

    index, flat = ExactIndex(), faiss.IndexFlatIP(vectors.shape[1])
    index.build(vectors)
    flat.add(vectors)
    brute_force = tfrs.layers.factorized_top_k.BruteForce(k=k).index(tf.constant(vectors))
    retrieval = keras_rs.layers.BruteForceRetrieval(vectors, k=k)
    shape = tf.TensorSpec([None, vectors.shape[1]])
    graphs = [tf.function(layer, input_signature=[shape]) for layer in (brute_force.call, retrieval.call)]
    of_tfrs, of_keras_rs = ((lambda graph=graph: graph(queries)[1].numpy()) for graph in graphs)
    return {
        OURS: lambda: index.search(queries, k).ids,
        f"faiss {faiss.__version__} IndexFlatIP": lambda: flat.search(queries, k)[1],
        "TFRS BruteForce": of_tfrs,
        "keras-rs BruteForceRetrieval": of_keras_rs,
    }


if __name__ == "__main__":
    main()
