"""Given vectors: what a step that reads them costs, and what memory a million of them takes.

    python benchmarks/vectors.py --only step      # a 768-wide vector on both sides, batch 4096
    python benchmarks/vectors.py --only memory    # 1M × 768, from a Parquet file to an answer; 10 GB of disk and RAM

step       Vector(dim=64) of 768 numbers on both sides, in-batch softmax, Adagrad: `by hand` is an nn.Linear without a
           bias on each side and F.cross_entropy(q @ c.T, arange). Contenders take turns, as in step_torch.py, and both
           are given their batches. `take` is what the batches cost beside the steps: NumPy gathers their rows.
memory     Anonymous memory of the process, sampled, at the end of each stage and at most during it; `serve` is another
           process. Files that are mapped are no part of it: the system gives their pages back when it needs them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

LENGTH, DIM, SIZE = 768, 64, 4096
VECTORS, QUERIES, ROWS = 1_000_000, 50_000, 500_000
PIECE = 50_000
"""Vectors made and written at a time."""
GB = 1e9


def step(rounds: int, threads: int, cpu_time: bool) -> None:
    """Print a step of ours beside one by hand."""
    import torch
    from recs_core_torch import Backend
    from step_torch import FEW, PLAIN, Pass, adagrad, interleaved, passing, table_rows
    from torch import nn
    from torch.nn import functional as F

    from recs_core.contract.batch import Batch, Features
    from recs_core.contract.feature_kinds import Vector
    from recs_core.contract.optimizers import Adagrad
    from recs_core.contract.plans import TowerPlan, UpdatePlan
    from recs_core.contract.towers import TowerSpec

    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    pairs = [tuple(random.standard_normal((2, SIZE, LENGTH), np.float32)) for _ in range(FEW)]

    def ours() -> Pass:
        towers = [
            TowerPlan.of(side, TowerSpec([Vector("about", DIM, length=LENGTH)])) for side in ("query", "candidate")
        ]
        kernels = {
            kernel: random.standard_normal((LENGTH, DIM), np.float32) * 0.01
            for tower in towers
            for kernel in tower.kernels
        }
        optimizer = Adagrad()
        trainer = Backend().trainer(Backend().model(*towers, PLAIN, kernels), UpdatePlan(optimizer))
        codes = np.arange(SIZE, dtype=np.int32)
        batches = [
            (Batch({}, *(Features(SIZE, {}, {"about": x}) for x in pair), {"candidate_ids": codes}),) for pair in pairs
        ]
        return passing(lambda batch: float(trainer.step(batch, optimizer.learning_rate)), batches)

    def by_hand() -> Pass:
        towers = [nn.Linear(LENGTH, DIM, bias=False) for _ in range(2)]
        moved = adagrad([tower.weight for tower in towers])
        labels = torch.arange(SIZE)

        def one(query: torch.Tensor, candidate: torch.Tensor) -> float:
            moved.zero_grad()
            value = F.cross_entropy(towers[0](query) @ towers[1](candidate).T, labels)
            value.backward()
            moved.step()
            return value.item()

        return passing(one, [tuple(map(torch.from_numpy, pair)) for pair in pairs])

    def take() -> Pass:
        table = random.standard_normal((100_000, LENGTH), np.float32)
        rows = [(random.integers(0, len(table), (2, SIZE)),) for _ in range(FEW)]
        return passing(lambda rows: [table[side] for side in rows], rows)

    contenders = {"ours": ours(), "by hand": by_hand(), "take": take()}
    times = interleaved(contenders, SIZE, rounds=rounds, clock=time.process_time if cpu_time else time.perf_counter)
    print("| case | contender | ms per step | ours is faster by |\n|---|---|---:|---:|")
    print(table_rows(f"batch {SIZE}, {LENGTH} → {DIM} on both sides", times))


def memory(folder: Path) -> None:
    """Print what each stage holds, in processes of their own."""
    print(f"{VECTORS:,} × {LENGTH} float32: {VECTORS * LENGTH * 4 / GB:.2f} GB\n", flush=True)
    print("| stage | seconds | at most, GB | at the end, GB |\n|---|---:|---:|---:|", flush=True)
    for stage in ("write", "train", "serve"):
        subprocess.run([sys.executable, __file__, "--stage", stage, "--folder", str(folder)], check=True)


def write(folder: Path) -> None:
    """The side table as a Parquet file, its ids in another order than the interactions'."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    kind = pa.schema([("item", pa.int64()), ("about", pa.list_(pa.float32(), LENGTH))])
    with pq.ParquetWriter(folder / "items.parquet", kind, compression="none", use_dictionary=False) as file:
        for start in range(0, VECTORS, PIECE):
            vectors = random.standard_normal(PIECE * LENGTH, np.float32)
            columns = [np.arange(start, start + PIECE), pa.FixedSizeListArray.from_arrays(pa.array(vectors), LENGTH)]
            file.write_table(pa.table(columns, schema=kind))


def train(folder: Path) -> None:
    """Read, train an epoch against 4,096 uniform negatives per step, save."""
    import recs_core as recs

    random = np.random.default_rng(0)
    with measured("read") as _:
        data = recs.Interactions.from_table(
            {"user": random.integers(0, QUERIES, ROWS), "item": random.integers(0, VECTORS, ROWS)},
            query="user",
            candidate="item",
            candidates=folder / "items.parquet",
        )
    model = recs.TwoTower(
        query=recs.TowerSpec([recs.Categorical("user", dim=DIM)]),
        candidate=recs.TowerSpec([recs.Vector("about", dim=DIM)]),
        retrieval=recs.RetrievalSpec(negatives="uniform", num_negatives=4096, candidate_bias=False),
        backend="torch",
    )
    with measured("build"):
        model.build(data)
    with measured(f"fit, {ROWS // SIZE + 1} steps of {SIZE} targets and 4,096 negatives"):
        model.fit(data, epochs=1, batch_size=SIZE, progress=False)
    with measured("save"):
        model.save(folder / "bundle", include_vectors=True, include_state=False)


def serve(folder: Path) -> None:
    """Open the bundle and answer, with NumPy alone."""
    import recs_core as recs

    with measured("load, unverified, and answer one query"):
        bare = recs.load(folder / "bundle", runtime="numpy", verify=False)
        bare.recommend([0], k=10)
    print(f"\nall that is resident after that, pages of files too: {_resident('VmRSS') / GB:.2f} GB")


@contextmanager
def measured(stage: str) -> Iterator[None]:
    """Print a row on what is done within."""
    most, done, began = [_resident()], threading.Event(), time.perf_counter()

    def sample() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], _resident())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    seconds, held = time.perf_counter() - began, _resident()
    print(f"| {stage} | {seconds:.1f} | {max(most[0], held) / GB:.2f} | {held / GB:.2f} |", flush=True)


def _resident(kind: str = "RssAnon") -> int:
    """Bytes of this process that are in memory; by default those of no file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(f"{kind}:")).split()[1])


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("step", "memory"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="CPU time, not wall time: for a machine that is busy")
    parser.add_argument("--folder", type=Path, help="where the memory's files go; by default a temporary one")
    parser.add_argument("--stage", choices=("write", "train", "serve"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        {"write": write, "train": train, "serve": serve}[options.stage](options.folder)
    elif options.only != "memory":
        step(options.rounds, options.threads, options.cpu_time)
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            memory(Path(folder))


if __name__ == "__main__":
    main()
