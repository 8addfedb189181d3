"""A training step of the torch backend beside what a PyTorch or TFRS user would run.

    python benchmarks/step_torch.py                             # everything
    python benchmarks/step_torch.py --only 4096x64 adagrad      # some cases
    python benchmarks/step_torch.py --json step.json

Contenders of a case take turns, a pass over a few batches each, in one process, so all see the same machine; a
speed-up is the ratio of their median times. Needs recs-core-torch; TFRS is left out, and said to be, where the packages
of recs-core-tensorflow are not installed.

memory     Peak memory of a step at batch 65,536, d = 64, beyond the tables and their state.
BxD        10,000 × 10,000 ids, Adagrad: the whole step at batch B, d = D. `plain` is F.cross_entropy(q @ c.T, arange)
           on nn.Embedding, `compiled` the same loss under torch.compile, `defaults` ours as users get it: cosine, a
           bias for each candidate, accidental hits masked. `products alone`, here and in the next case, are those
           of the loss and its gradients, Q Cᵀ, P C and Pᵀ Q, 256 rows per core at a time: a yardstick for all the rest.
adagrad    1M × 1M ids, d = 64, batch 1024, beside nn.Embedding(sparse=True) with torch.optim, and ours at 10k × 10k.
adam       The same with lazy Adam and torch's SparseAdam.
dense-adam Lazy Adam beside torch's Adam: apart, as going through all rows empties the cache for whoever comes next.

TFRS's pass is one `fit`, with tf.data's autotuning off: `fit` would else end with a wait for it, now and then as long
as the epoch. The batches are few where scores are the cost, and many where rows are, more than the processor's cache
holds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recs_core_torch import Backend
from torch import Tensor, nn
from torch.nn import functional as F

from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec

PLAIN = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False)
DEFAULTS = RetrievalSpec(logq=False)
FEW, MANY = 4, 32
"""Batches of a pass."""
LARGE, SMALL_BATCH = 1_000_000, 1024
"""Rows of the large tables, and the batch that trains them."""

Pass = Callable[[], Any]
Times = dict[str, list[float]]
Clock = Callable[[], float]


def pairs(rows: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of uniform (user, item) codes."""
    random = np.random.default_rng(0)
    return [tuple(random.integers(0, rows, (2, size)).astype(np.int32)) for _ in range(batches_of(size))]


def batches_of(size: int) -> int:
    """How many batches of this size there are."""
    return FEW if size > SMALL_BATCH else MANY


def passing(step: Callable[..., Any], batches: Sequence[tuple[Any, ...]]) -> Pass:
    """A function that makes a step on each of several batches."""
    return lambda: [step(*batch) for batch in batches]


def ours(rows: int, size: int, dim: int, spec: RetrievalSpec, optimizer: Optimizer) -> Pass:
    """The torch backend."""
    random = np.random.default_rng(0)
    weights = {f"table/{side}": random.standard_normal((rows, dim), np.float32) * 0.1 for side in ("user", "item")}
    if spec.candidate_bias:
        weights["task/bias"] = np.zeros(rows, np.float32)
    features = {"query": Categorical("user", dim=dim), "candidate": Categorical("item", dim=dim)}
    towers = (TowerPlan.of(side, TowerSpec([feature])) for side, feature in features.items())
    trainer = Backend().trainer(Backend().model(*towers, spec, weights), UpdatePlan(optimizer))

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
    return passing(lambda batch: float(trainer.step(batch, optimizer.learning_rate)), batches)


def by_hand(
    rows: int,
    size: int,
    dim: int,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *,
    sparse: bool = False,
    compiled: bool = False,
) -> Pass:
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
    return passing(step, batches)


def products(size: int, dim: int, core_rows: int = 256) -> Pass:
    """The matrix products of steps, and nothing else; each core multiplies rows of its own."""
    cores = math.gcd(torch.get_num_threads(), size // core_rows)
    query, candidate = torch.randn(size, dim), torch.randn(size, dim)
    scores, dquery = torch.empty(cores, core_rows, size), torch.empty(cores, core_rows, dim)
    dcandidate, candidates = torch.zeros(cores, dim, size), candidate.expand(cores, -1, -1)

    def step() -> None:
        for rows in query.view(-1, cores, core_rows, dim):
            torch.bmm(rows, candidates.mT, out=scores)
            torch.bmm(scores, candidates, out=dquery)
            dcandidate.baddbmm_(rows.mT, scores)

    return passing(step, [()] * batches_of(size))


def tfrs(rows: int, size: int, dim: int) -> Pass:
    """TFRS's `fit`."""
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
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.with_options(options)
    return lambda: model.fit(data, epochs=1, verbose=0)


def interleaved(contenders: dict[str, Pass], size: int, *, rounds: int, clock: Clock) -> Times:
    """Milliseconds per step of each contender at this batch size, in turns; the first two passes are not counted."""
    times: Times = {name: [] for name in contenders}
    for turn in range(-2, rounds):
        for name, whole_pass in contenders.items():
            start = clock()
            whole_pass()
            if turn >= 0:
                times[name].append(1e3 * (clock() - start) / batches_of(size))
    return times


def adagrad(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's Adagrad, with this project's accumulator to start from."""
    return torch.optim.Adagrad(parameters, lr=0.1, initial_accumulator_value=0.1)


def in_batch(size: int, dim: int, rounds: int, with_tfrs: bool, clock: Clock) -> Times:
    """A case `BxD`."""
    contenders = {
        "ours": ours(10_000, size, dim, PLAIN, Adagrad()),
        "plain": by_hand(10_000, size, dim, adagrad),
        "compiled": by_hand(10_000, size, dim, adagrad, compiled=True),
        "ours, defaults": ours(10_000, size, dim, DEFAULTS, Adagrad()),
        "products alone": products(size, dim),
    }
    if with_tfrs:
        contenders["TFRS fit"] = tfrs(10_000, size, dim)
    return interleaved(contenders, size, rounds=rounds, clock=clock)


def with_adagrad(rounds: int, with_tfrs: bool, clock: Clock) -> Times:
    """The case `adagrad`."""
    contenders = {
        "ours": ours(LARGE, SMALL_BATCH, 64, PLAIN, Adagrad()),
        "sparse by hand": by_hand(LARGE, SMALL_BATCH, 64, adagrad, sparse=True),
        "ours at 10k": ours(10_000, SMALL_BATCH, 64, PLAIN, Adagrad()),
        "products alone": products(SMALL_BATCH, 64),
    }
    if with_tfrs:
        contenders["TFRS fit"] = tfrs(LARGE, SMALL_BATCH, 64)
    return interleaved(contenders, SMALL_BATCH, rounds=rounds, clock=clock)


def with_adam(rounds: int, with_tfrs: bool, clock: Clock) -> Times:
    """The case `adam`."""
    contenders = {
        "ours": ours(LARGE, SMALL_BATCH, 64, PLAIN, Adam()),
        "sparse by hand": by_hand(LARGE, SMALL_BATCH, 64, lambda p: torch.optim.SparseAdam(p, lr=1e-3), sparse=True),
        "ours at 10k": ours(10_000, SMALL_BATCH, 64, PLAIN, Adam()),
    }
    return interleaved(contenders, SMALL_BATCH, rounds=rounds, clock=clock)


def beside_dense_adam(rounds: int, with_tfrs: bool, clock: Clock) -> Times:
    """The case `dense-adam`; TFRS's is in step_tensorflow.py."""
    contenders = {
        "ours": ours(LARGE, SMALL_BATCH, 64, PLAIN, Adam()),
        "dense Adam": by_hand(LARGE, SMALL_BATCH, 64, lambda p: torch.optim.Adam(p, lr=1e-3)),
    }
    return interleaved(contenders, SMALL_BATCH, rounds=rounds, clock=clock)


def memory() -> float:
    """MB that steps at batch 65,536 add to the peak, from a batch and a model that are there already."""
    steps = ours(100_000, 65_536, 64, DEFAULTS, Adagrad())
    before = _resident()
    steps()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


CASES: dict[str, tuple[str, Callable[..., Times]]] = {
    "4096x16": ("batch 4096, d = 16", partial(in_batch, 4096, 16)),
    "4096x64": ("batch 4096, d = 64", partial(in_batch, 4096, 64)),
    "8192x64": ("batch 8192, d = 64", partial(in_batch, 8192, 64)),
    "adagrad": ("1M × 1M, Adagrad", with_adagrad),
    "adam": ("1M × 1M, lazy Adam", with_adam),
    "dense-adam": ("1M × 1M, lazy Adam", beside_dense_adam),
}


def table_rows(case: str, times: Times) -> str:
    """Medians and speed-ups as rows of Markdown."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    return "\n".join(f"| {case} | {name} | {ms:.1f} | {ms / medians['ours']:.2f}× |" for name, ms in medians.items())


def main() -> None:
    """Print a table, and write all times as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("memory", *CASES), default=("memory", *CASES))
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
    if "memory" in arguments.only:  # first: the peak is the process's
        result["memory, MB"] = memory()
        print(f"batch 65,536, d = 64: {result['memory, MB']:.0f} MB beyond the tables\n")
    asked = [name for name in CASES if name in arguments.only]
    if asked:
        print("| case | contender | ms per step | ours is faster by |\n|---|---|---:|---:|")
    for name in asked:
        title, case = CASES[name]
        result[name] = case(arguments.rounds, with_tfrs, clock)
        print(table_rows(title, result[name]), flush=True)
    if asked and not with_tfrs:
        print("\nTFRS was left out")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
