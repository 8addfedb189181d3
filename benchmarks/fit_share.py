"""How much of training is steps: time inside `trainer.step` as a share of the wall time from a table of ids to a model.

    python benchmarks/fit_share.py --backend torch [--backend tensorflow …]

One epoch on 1,000,000 synthetic interactions (100,000 users, 20,000 items, popularity ∝ 1/rank), batch 4096, d = 64,
the default task and optimizer. Learning the vocabularies, encoding, making the weights, shuffling and cutting batches
are in the wall time; loading the framework is not. Each backend runs in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core import Interactions, TwoTower
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.towers import TowerSpec

ROWS, USERS, ITEMS, BATCH, DIM = 1_000_000, 100_000, 20_000, 4096, 64


def table() -> dict[str, NDArray[np.int64]]:
    """Users uniform, items by popularity, in the order of time."""
    random = np.random.default_rng(0)
    popularity = 1 / np.arange(1, ITEMS + 1)
    return {
        "user_id": random.integers(0, USERS, ROWS),
        "item_id": random.choice(ITEMS, ROWS, p=popularity / popularity.sum()),
        "timestamp": np.arange(ROWS),
    }


def timed(backend: Any, inside: list[float]) -> None:
    """Let the backend's trainers add the seconds of each step to `inside`."""
    make = backend.trainer

    def trainer(*arguments: Any) -> Any:
        made = make(*arguments)
        step = made.step

        def timed_step(*batch: Any) -> float:
            start = time.perf_counter()
            loss = float(step(*batch))
            inside.append(time.perf_counter() - start)
            return loss

        made.step = timed_step
        return made

    backend.trainer = trainer


def row(name: str) -> str:
    """The table's row of one backend."""
    towers = [TowerSpec((Categorical(column, dim=DIM),)) for column in ("user_id", "item_id")]
    model = TwoTower(*towers, backend=name)
    inside: list[float] = []
    timed(model.backend, inside)
    columns = table()
    start = time.perf_counter()
    train = Interactions.from_table(columns, query="user_id", candidate="item_id", timestamp="timestamp")
    model.fit(train, epochs=1, batch_size=BATCH)
    wall = time.perf_counter() - start
    share = sum(inside) / wall
    return f"| {name} | {wall:.1f} | {sum(inside):.1f} | {1e3 * np.median(inside):.1f} | {share:.1%} |"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", required=True)
    parser.add_argument("--row-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row_only:
        print(row(options.backend[0]))
        return
    print("| backend | fit, s | in steps, s | median step, ms | share |\n|---|---:|---:|---:|---:|", flush=True)
    for name in options.backend:
        subprocess.run([sys.executable, __file__, "--row-only", "--backend", name], check=True)


if __name__ == "__main__":
    main()
