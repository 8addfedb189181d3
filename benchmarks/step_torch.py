"""A training step of the torch backend beside what a PyTorch or TFRS user would run.

    python benchmarks/step_torch.py                     # everything
    python benchmarks/step_torch.py --only in-batch     # or: tables, memory
    python benchmarks/step_torch.py --json step.json

Contenders of a section take turns, a step each, in one process, so all see the same machine; a speed-up is the ratio of
their median times. Needs recs-core-torch; TFRS is left out, and said to be, where recs-core-tensorflow's packages are
not installed.

in-batch   10,000 × 10,000 ids, Adagrad: the whole step at batch 4096 and 8192. `plain` is
           F.cross_entropy(q @ c.T, arange) on nn.Embedding, `compiled` the same loss under torch.compile, `defaults`
           ours as users get it: cosine, a bias a candidate, accidental hits masked.
tables     1M × 1M ids, d = 64, batch 1024, beside nn.Embedding(sparse=True) with torch.optim, and ours at 10k × 10k.
memory     Peak memory of a step at batch 65,536, d = 64, beyond the tables and their state.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recs_core_torch import TorchBackend
from torch import Tensor, nn
from torch.nn import functional as F

from recs_core.data.batch import Batch, Features
from recs_core.specs import Adagrad, Adam, Categorical, Optimizer, RetrievalSpec, TowerSpec

PLAIN = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
DEFAULTS = RetrievalSpec(logq=False)
BATCHES = 8

Step = Callable[[], Any]
Times = dict[str, list[float]]
Clock = Callable[[], float]


def pairs(rows: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of uniform (user, item) codes."""
    random = np.random.default_rng(0)
    return [tuple(random.integers(0, rows, (2, size)).astype(np.int32)) for _ in range(BATCHES)]


def turning(step: Callable[..., Any], batches: list[tuple[Any, ...]]) -> Step:
    """A function that makes a step on the next of several batches, round and round."""
    order = itertools.cycle(batches)
    return lambda: step(*next(order))


def ours(rows: int, size: int, dim: int, spec: RetrievalSpec, optimizer: Optimizer) -> Step:
    """The torch backend's step."""
    random = np.random.default_rng(0)
    weights = {f"table/{side}": random.standard_normal((rows, dim), np.float32) * 0.1 for side in ("user", "item")}
    if spec.candidate_bias:
        weights["task/bias"] = np.zeros(rows, np.float32)
    towers = [TowerSpec((Categorical(name, dim=dim),)) for name in ("user", "item")]
    trainer = TorchBackend().trainer(TorchBackend().model(*towers, spec, weights), optimizer)

    def batch(user: np.ndarray, item: np.ndarray) -> Batch:
        (users, user_codes), (items, item_codes) = (np.unique(codes, return_inverse=True) for codes in (user, item))
        item_codes = item_codes.astype(np.int32)
        return Batch(
            rows={"table/user": users, "table/item": items, **({"task/bias": items} if spec.candidate_bias else {})},
            query=Features(size, {"user": user_codes.astype(np.int32)}),
            candidate=Features(size, {"item": item_codes}),
            task={"candidate_ids": item},
            bias_codes=item_codes if spec.candidate_bias else None,
        )

    batches = [(batch(*pair),) for pair in pairs(rows, size)]
    return turning(lambda batch: float(trainer.step(batch, optimizer.learning_rate)), batches)


def by_hand(
    rows: int,
    size: int,
    dim: int,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *,
    sparse: bool = False,
    compiled: bool = False,
) -> Step:
    """What a PyTorch user writes."""
    torch.manual_seed(0)
    user_table, item_table = (nn.Embedding(rows, dim, sparse=sparse) for _ in range(2))
    for table in (user_table, item_table):
        nn.init.normal_(table.weight, std=0.1)
    moved = optimizer([user_table.weight, item_table.weight])
    labels = torch.arange(size)

    def loss(query: Tensor, candidate: Tensor) -> Tensor:
        return F.cross_entropy(query @ candidate.T, labels)

    loss = torch.compile(loss) if compiled else loss

    def step(user: Tensor, item: Tensor) -> float:
        moved.zero_grad()
        value = loss(user_table(user), item_table(item))
        value.backward()
        moved.step()
        return value.item()

    batches = [(torch.from_numpy(user).long(), torch.from_numpy(item).long()) for user, item in pairs(rows, size)]
    return turning(step, batches)


def tfrs(rows: int, size: int, dim: int) -> Step:
    """TFRS's `fit`, a step's share of it: one call fits all batches."""
    os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3")
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    class Model(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = (tf.keras.layers.Embedding(rows, dim) for _ in range(2))
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
            return self.task(self.user(features["user"]), self.item(features["item"]), compute_metrics=False)

    model = Model()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    user, item = (np.concatenate(codes) for codes in zip(*pairs(rows, size), strict=True))
    data = tf.data.Dataset.from_tensor_slices({"user": user, "item": item}).batch(size).cache().prefetch(2)
    return lambda: model.fit(data, epochs=1, verbose=0)


def interleaved(contenders: dict[str, Step], *, warm: int, rounds: int, clock: Clock) -> Times:
    """Milliseconds a step of each contender, taking turns."""
    times: Times = {name: [] for name in contenders}
    for turn in range(warm + rounds):
        for name, step in contenders.items():
            start = clock()
            step()
            took = 1e3 * (clock() - start) / (BATCHES if name.startswith("TFRS") else 1)
            if turn >= warm:
                times[name].append(took)
    return times


def adagrad(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's Adagrad, with this project's accumulator to start from."""
    return torch.optim.Adagrad(parameters, lr=0.1, initial_accumulator_value=0.1)


def in_batch(rounds: int, with_tfrs: bool, clock: Clock) -> dict[str, Times]:
    """The section `in-batch`."""
    found = {}
    for size, dim in ((4096, 16), (4096, 64), (8192, 64)):
        contenders = {
            "ours": ours(10_000, size, dim, PLAIN, Adagrad()),
            "plain": by_hand(10_000, size, dim, adagrad),
            "compiled": by_hand(10_000, size, dim, adagrad, compiled=True),
            "ours, defaults": ours(10_000, size, dim, DEFAULTS, Adagrad()),
        }
        if with_tfrs:
            contenders["TFRS fit"] = tfrs(10_000, size, dim)
        found[f"batch {size}, d = {dim}"] = interleaved(contenders, warm=3, rounds=rounds, clock=clock)
    return found


def tables(rounds: int, with_tfrs: bool, clock: Clock) -> dict[str, Times]:
    """The section `tables`."""
    large, size, dim = 1_000_000, 1024, 64
    contenders = {
        "ours": ours(large, size, dim, PLAIN, Adagrad()),
        "sparse by hand": by_hand(large, size, dim, adagrad, sparse=True),
        "ours at 10k": ours(10_000, size, dim, PLAIN, Adagrad()),
    }
    if with_tfrs:
        contenders["TFRS fit"] = tfrs(large, size, dim)
    found = {"1M × 1M, Adagrad": interleaved(contenders, warm=8, rounds=4 * rounds, clock=clock)}
    contenders = {
        "ours": ours(large, size, dim, PLAIN, Adam()),
        "sparse by hand": by_hand(large, size, dim, lambda p: torch.optim.SparseAdam(p, lr=1e-3), sparse=True),
        "ours at 10k": ours(10_000, size, dim, PLAIN, Adam()),
        "dense Adam": by_hand(large, size, dim, lambda p: torch.optim.Adam(p, lr=1e-3)),
    }
    return {**found, "1M × 1M, lazy Adam": interleaved(contenders, warm=8, rounds=2 * rounds, clock=clock)}


def memory() -> float:
    """MB that steps at batch 65,536 add to the peak, from a batch and a model that are there already."""
    step = ours(100_000, 65_536, 64, DEFAULTS, Adagrad())
    before = _resident()
    step()
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def table(found: dict[str, Times]) -> str:
    """Medians and speed-ups as Markdown."""
    lines = ["| case | contender | ms a step | ours is faster by |", "|---|---|---:|---:|"]
    for case, times in found.items():
        medians = {name: statistics.median(values) for name, values in times.items()}
        lines += [f"| {case} | {name} | {ms:.1f} | {ms / medians['ours']:.2f}× |" for name, ms in medians.items()]
    return "\n".join(lines)


def main() -> None:
    """Print a table, and write all times as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("in-batch", "tables", "memory"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="CPU time, not wall time: for a machine that is busy")
    parser.add_argument("--without-tfrs", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with_tfrs = find_spec("tensorflow_recommenders") is not None and not arguments.without_tfrs
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    result: dict[str, Any] = {}
    if arguments.only in (None, "memory"):  # first: the peak is the process's
        result["memory, MB"] = memory()
        print(f"batch 65,536, d = 64: {result['memory, MB']:.0f} MB beyond the tables\n")
    for name, section in (("in-batch", in_batch), ("tables", tables)):
        if arguments.only in (None, name):
            result[name] = section(arguments.rounds, with_tfrs, clock)
            print(table(result[name]) + "\n")
    if not with_tfrs:
        print("TFRS was left out")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
