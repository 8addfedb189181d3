"""A training step of the TensorFlow backend beside TFRS's own `fit`: the same model, optimizer and batches.

    python benchmarks/step_tensorflow.py [--rounds 7] [--only batch-4096 …] [--json out.json]

Both sides train dot-product towers (one table each, no layers) on in-batch softmax, summed, and start from the same
weights. Ours is timed with what the core prepares for it (unique rows, in NumPy); TFRS gets ready tensors from a cached
`tf.data` pipeline. Its autotuning is off: that sleeps for 10, 20, 40, … ms between looks, and `fit` would end with a
wait for it, now and then as long as the epoch. Rounds are interleaved, and a ratio is one of medians, so that a busy
machine slows both.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recs_core_tensorflow import tf, tfrs
from recs_core_tensorflow.backend import create

from recs_core.conformance.worlds import World, batch_of
from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec

SPEC = RetrievalSpec(
    scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False, reduction="sum"
)

# name: rows per table, batch, dim, steps per round, optimizer, goal (ours at least so many times TFRS)
CASES: dict[str, tuple[int, int, int, int, Optimizer, float]] = {
    "batch-4096-d16": (10_000, 4096, 16, 8, Adagrad(0.01), 2.5),
    "batch-4096-d64": (10_000, 4096, 64, 8, Adagrad(0.01), 2.5),
    "adagrad-10k": (10_000, 1024, 64, 20, Adagrad(0.01), 1.0),
    "adagrad-1M": (1_000_000, 1024, 64, 20, Adagrad(0.01), 1.0),
    "adam-10k": (10_000, 1024, 64, 20, Adam(0.001), 1.0),
    "adam-1M": (1_000_000, 1024, 64, 4, Adam(0.001), 20.0),
}

# Measured together, in turn.
GROUPS = {
    "batch-4096": ("batch-4096-d16", "batch-4096-d64"),
    "adagrad": ("adagrad-10k", "adagrad-1M"),
    "adam": ("adam-10k", "adam-1M"),
}


def towers(dim: int) -> tuple[TowerSpec, TowerSpec]:
    """One table per tower."""
    return TowerSpec((Categorical("user", dim=dim),)), TowerSpec((Categorical("item", dim=dim),))


def ours(
    rows: int, dim: int, optimizer: Optimizer, ids: NDArray[np.int32], start: dict[str, Any]
) -> Callable[[], float]:
    """A round on our side: `ids` (steps, 2, batch)."""
    query, candidate = towers(dim)
    backend = create()
    model = backend.model(TowerPlan.of("query", query), TowerPlan.of("candidate", candidate), SPEC, start)
    trainer = backend.trainer(model, UpdatePlan(optimizer))
    world = World(query=query, candidate=candidate, retrieval=SPEC, corpus=rows - 1, users=rows - 1)

    def batch(users: NDArray[np.int32], items: NDArray[np.int32]) -> Batch:
        return batch_of(
            Features(len(users), {"user": users}),
            Features(len(items), {"item": items}),
            {"candidate_ids": items},
            world,
        )

    def run() -> float:
        loss = 0.0
        for users, items in ids:
            loss = trainer.step(batch(users, items), optimizer.learning_rate)
        return float(loss)

    return run


def theirs(
    rows: int, dim: int, optimizer: Optimizer, ids: NDArray[np.int32], start: dict[str, Any]
) -> Callable[[], float]:
    """A round on TFRS's side, as its tutorials write it."""

    class Model(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user = tf.keras.layers.Embedding(
                rows, dim, embeddings_initializer=tf.constant_initializer(start["table/user"])
            )
            self.item = tf.keras.layers.Embedding(
                rows, dim, embeddings_initializer=tf.constant_initializer(start["table/item"])
            )
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, features: Any, training: bool = False) -> Any:
            return self.task(self.user(features["user"]), self.item(features["item"]), compute_metrics=False)

    model = Model()
    if isinstance(optimizer, Adam):
        native = tf.keras.optimizers.Adam(optimizer.learning_rate, epsilon=optimizer.epsilon)
    else:
        native = tf.keras.optimizers.Adagrad(optimizer.learning_rate, initial_accumulator_value=0.1)
    model.compile(optimizer=native)
    columns = {"user": ids[:, 0].ravel(), "item": ids[:, 1].ravel()}
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensor_slices(columns).batch(ids.shape[2]).cache().prefetch(2).with_options(options)

    def run() -> float:
        return float(model.fit(data, epochs=1, verbose=0).history["loss"][-1])

    return run


def prepared(name: str) -> dict[str, Callable[[], float]]:
    """Both sides of a case, traced, and checked to train the same model."""
    rows, size, dim, steps, optimizer, _ = CASES[name]
    random = np.random.default_rng(0)
    start = {f"table/{n}": (random.standard_normal((rows, dim)) * 0.1).astype(np.float32) for n in ("user", "item")}
    ids = random.integers(0, rows, (steps, 2, size)).astype(np.int32)
    sides = {"ours": ours(rows, dim, optimizer, ids, start), "tfrs": theirs(rows, dim, optimizer, ids, start)}
    first = {side: run() for side, run in sides.items()}
    if not isinstance(optimizer, Adam):  # Keras's Adam moves every row, the lazy one those of the batch
        np.testing.assert_allclose(first["ours"], first["tfrs"], rtol=1e-4)
    return sides


def measure(names: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds per step of both sides of each case, all in turn in every round."""
    runs = {(name, side): run for name in names for side, run in prepared(name).items()}
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            began = time.perf_counter()
            run()
            taken[key].append((time.perf_counter() - began) / CASES[key[0]][3] * 1e3)
    results = []
    for name in names:
        rows, size, dim, _, optimizer, goal = CASES[name]
        mine, other = (statistics.median(taken[name, side]) for side in ("ours", "tfrs"))
        results.append({
            "case": name, "rows": rows, "batch": size, "dim": dim, "optimizer": type(optimizer).__name__,
            "ours_ms": mine, "tfrs_ms": other, "ratio": other / mine, "goal": goal,
            "all_ms": {side: taken[name, side] for side in ("ours", "tfrs")},
        })  # fmt: skip
    return results


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    print("| case | rows per table | batch | dim | optimizer | ours, ms | TFRS, ms | ratio | goal |")
    print("| --- | --: | --: | --: | --- | --: | --: | --: | --: |")
    for group in options.only:
        for r in measure(GROUPS[group], options.rounds):
            results.append(r)
            print(
                f"| {r['case']} | {r['rows']:,} | {r['batch']} | {r['dim']} | {r['optimizer']} | {r['ours_ms']:.1f} | "
                f"{r['tfrs_ms']:.1f} | {r['ratio']:.2f}× | ≥ {r['goal']:g}× |",
                flush=True,
            )
    by_name = {r["case"]: r for r in results}
    for group in {"adagrad", "adam"} & set(options.only):
        times = by_name[f"{group}-1M"]["ours_ms"] / by_name[f"{group}-10k"]["ours_ms"]
        print(f"\n{group}: a step of ours at 1M rows takes {times:.2f}× one at 10k (goal ≤ 1.3×)")
    if options.json:
        about = {"tensorflow": tf.__version__, "python": platform.python_version(), "machine": platform.processor()}
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
