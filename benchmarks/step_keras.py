"""What a training step of the Keras backend costs, on one engine.

    python benchmarks/step_keras.py --engine torch

Medians of wall-clock milliseconds. "tables": lazy Adam, d = 64, batch 1024, at 10k and at 1M rows per table, steps
interleaved so that both see the same machine; their ratio is what the backend promises to keep near 1. "in-batch":
cosine, bias, accidental hits masked, B = 4096 on tables of 10k rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adam
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.keras_backend.backend import Backend, create

TASK = RetrievalSpec(logq=False)


def batch(rows: int, size: int, random: np.random.Generator) -> Batch:
    """`size` uniform interactions between `rows` users and `rows` items."""
    users, user = np.unique(random.integers(1, rows, size).astype(np.int32), return_inverse=True)
    items, item = np.unique(random.integers(1, rows, size).astype(np.int32), return_inverse=True)
    user, item = user.astype(np.int32), item.astype(np.int32)
    return Batch(
        rows={"table/user": users, "table/item": items, "task/bias": items - 1},
        query=Features(size, {"user": user}),
        candidate=Features(size, {"item": item}),
        task={"candidate_ids": items[item] - 1},
        bias_codes=item,
    )


def stepper(backend: Backend, rows: int, size: int, dim: int) -> Callable[[], float]:
    """A function that makes one step, on the next of several batches, and waits for it."""
    random = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "table/user": random.standard_normal((rows, dim), np.float32),
        "table/item": random.standard_normal((rows, dim), np.float32),
        "task/bias": np.zeros(rows - 1, np.float32),
    }
    query = TowerPlan.of("query", TowerSpec((Categorical("user", dim=dim),)))
    candidate = TowerPlan.of("candidate", TowerSpec((Categorical("item", dim=dim),)))
    trainer = backend.trainer(backend.model(query, candidate, TASK, weights), UpdatePlan(Adam(1e-3)))
    batches = [batch(rows, size, random) for _ in range(8)]
    turn = iter(range(10**9))
    return lambda: float(trainer.step(batches[next(turn) % len(batches)], 1e-3))


def medians(steps: dict[str, Callable[[], float]], warm: int = 8, number: int = 40) -> dict[str, float]:
    """Median milliseconds of each, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(warm + number):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if i >= warm:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, choices=("torch", "tensorflow", "jax"))
    parser.add_argument("--only", choices=("tables", "in-batch"))
    arguments = parser.parse_args()
    backend = create(arguments.engine, asked_by="--engine")
    if arguments.only != "in-batch":
        found = medians({f"{rows:,}": stepper(backend, rows, 1024, 64) for rows in (10_000, 1_000_000)})
        small, large = found.values()
        print(f"{arguments.engine} tables, ms: {found}, ratio {large / small:.2f}")
    if arguments.only != "tables":
        steps = {f"d={dim}": stepper(backend, 10_000, 4096, dim) for dim in (16, 64)}
        print(f"{arguments.engine} in-batch, ms: {medians(steps, warm=3, number=20)}")


if __name__ == "__main__":
    main()
