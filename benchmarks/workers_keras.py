"""Steps of several workers of keras[jax] beside those of one process.

    python benchmarks/workers_keras.py                                   # B = 1024 and 8192, two workers
    python benchmarks/workers_keras.py --batch 4096 --layers 512 512

The model and the batches of workers.py, which has torch's; `--layers`: the towers' units. JAX joins other workers once
in a process, so one process and N workers are processes anew in each round. Every process has one thread. Milliseconds
are of a step and of the processor, since the machine may do other work: medians, of N workers the busiest one's. Bytes
are of a step, as the loopback interface counts them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from workers import BATCHES, IDS, PASSES, SPEC, batch, loopback

from recs_core import config
from recs_core.contract import weights as canonical
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.towers import TowerSpec
from recs_core.distributed.launch import launch, workers_of

BACKEND, DIM, ROUNDS = "keras[jax]", 64, 3
HEAD = """\
| batch | one process | {} workers | one ÷ N | bytes |
|---:|---:|---:|---:|---:|"""


def trainer(backend: Any, layers: Sequence[int]) -> Any:
    """A trainer of the model, from the same weights everywhere."""
    plans = tuple(
        TowerPlan.of(side, TowerSpec((Categorical(name, dim=DIM),), layers=tuple(layers)))  # type: ignore[arg-type]
        for side, name in (("query", "user"), ("candidate", "item"))
    )
    start = canonical.initial(*plans, SPEC, {"table/user": IDS + 1, "table/item": IDS + 1}, IDS, seed=1)
    return backend.trainer(backend.model(*plans, SPEC, start), UpdatePlan(Adagrad(0.1)))


def measured(size: int, layers: Sequence[int]) -> None:
    """Print, as a line of JSON, milliseconds of the processor per step and bytes, as one worker or as one process."""
    workers = workers_of(os.environ)
    backend: Any = config.backend(BACKEND) if workers is None else config.over(BACKEND, workers)
    group = config.group_of(backend)
    each = trainer(backend, layers)
    batches = [batch(size, number) for number in range(BATCHES)]
    passes = []
    for _ in range(PASSES + 1):  # the first compiles
        through, start = loopback(), time.process_time()
        for one in batches:
            float(each.step(one, 0.1))
        spent = (time.process_time() - start) / BATCHES * 1e3
        busiest = spent if group is None else max(group.all(spent, "times"))
        passes.append((busiest, (loopback() - through) / BATCHES))
    if workers is None or workers.rank == 0:
        print(json.dumps([statistics.median(of) for of in zip(*passes[1:], strict=True)]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="*", default=[1024, 8192])
    parser.add_argument("--layers", type=int, nargs="*", default=[DIM])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None and asked.start > 1:
        code, lines = launch(asked.start, [sys.executable, *sys.argv[:-1], "1"])
        print(*lines, sep="\n", end="", file=sys.stderr)
        sys.exit(code)
    if asked.measure is not None:
        measured(asked.measure, asked.layers)
        return
    print(HEAD.format(asked.workers), flush=True)
    for size in asked.batch:
        rounds = [[run(size, asked.layers, number) for number in (1, asked.workers)] for _ in range(ROUNDS)]
        (one, _), (many, moved) = (
            [statistics.median(of) for of in zip(*runs, strict=True)] for runs in zip(*rounds, strict=True)
        )
        print(f"| {size:,} | {one:.0f} | {many:.0f} | {one / many:.2f}× | {moved:,.0f} |", flush=True)


def run(size: int, layers: Sequence[int], number: int) -> list[float]:
    """What so many workers measure."""
    command = [sys.executable, __file__, "--layers", *map(str, layers), "--measure", str(size), "--start", str(number)]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
