"""Ranking the whole corpus: the core's evaluation beside TFRS's FactorizedTopK on BruteForce and on Streaming.

    python benchmarks/evaluate_tensorflow.py [--rounds 5] [--json out.json]

One target for each of 4,096 queries among 200,000 candidates, 64 numbers a vector. Both sides count hits at 1, 5, 10,
50 and 100, TFRS by score, as it does by default. Rounds are interleaved; a ratio is one of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from recs_core_tensorflow import tf, tfrs

from recs_core.contract.batch import Ragged
from recs_core.evaluation import metrics, ranks

QUERIES, CANDIDATES, DIM, BATCH = 4096, 200_000, 64, 512
K = (1, 5, 10, 50, 100)
GOALS = {"tfrs BruteForce": 1.8, "tfrs Streaming": 6.0}


def sides() -> dict[str, Callable[[], float]]:
    """Name → one evaluation; it gives the share of targets among the first 10."""
    random = np.random.default_rng(0)
    queries = random.standard_normal((QUERIES, DIM)).astype(np.float32)
    candidates = random.standard_normal((CANDIDATES, DIM)).astype(np.float32)
    targets = random.integers(0, CANDIDATES, QUERIES).astype(np.int32)
    queries += candidates[targets]  # so that there are hits

    def ours() -> float:
        of_query = Ragged(targets, np.arange(QUERIES + 1, dtype=np.int32))
        return metrics(ranks(queries, candidates, of_query), k=K)["recall@10"]

    def factorized(index: Any) -> Callable[[], float]:
        metric = tfrs.metrics.FactorizedTopK(index, ks=K)

        @tf.function  # as in `fit` and `evaluate`
        def update(query: Any, candidate: Any) -> None:
            metric.update_state(query, candidate)

        def run() -> float:
            metric.reset_states()
            for start in range(0, QUERIES, BATCH):
                rows = slice(start, start + BATCH)
                update(tf.constant(queries[rows]), tf.constant(candidates[targets[rows]]))
            return float(metric.result()[K.index(10)])

        return run

    layers = tfrs.layers.factorized_top_k
    options = tf.data.Options()
    options.autotune.enabled = False  # else a pass may end with a wait for it, as in step_tensorflow.py
    stream = tf.data.Dataset.from_tensor_slices(candidates).batch(4096).prefetch(2).with_options(options)
    return {
        "ours": ours,
        "tfrs BruteForce": factorized(layers.BruteForce(k=max(K)).index(tf.constant(candidates))),
        "tfrs Streaming": factorized(layers.Streaming(k=max(K)).index_from_dataset(stream)),
    }


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = sides()
    hits = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| side | hits at 10 | seconds | queries/s | ours is faster by | goal |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name, median in medians.items():
        ratio = f"{median / medians['ours']:.2f}×" if name in GOALS else ""
        goal = f"≥ {GOALS[name]}×" if name in GOALS else ""
        print(f"| {name} | {hits[name]:.4f} | {median:.2f} | {QUERIES / median:,.0f} | {ratio} | {goal} |")
    if options.json:
        options.json.write_text(json.dumps({"tensorflow": tf.__version__, "seconds": seconds, "hits": hits}, indent=1))


if __name__ == "__main__":
    main()
