"""Examples per second of a PyTorch loop of one's own over `loader`, beside `fit`: one model, one batch, in turns.

    python benchmarks/loop_torch.py [--rounds 5] [--rows 400000]

Both train an epoch of online-retail by interaction: 4,096 rows per batch, tables and layers of 64, Adam on every
weight. `fit` makes batches in a background thread; the loop has a worker, or none.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from recs_core_torch import loader

import recs_core as recs


def declared(train: recs.Interactions) -> recs.TwoTower:
    """The model that both train."""
    user, item = train.query_name, train.candidate_name
    query = recs.TowerSpec([recs.Categorical(user, dim=64)], layers=[64])
    candidate = recs.TowerSpec([recs.Categorical(item, dim=64)], layers=[64])
    training = recs.TrainingSpec(epochs=1, batch_size=4096)
    return recs.TwoTower(query, candidate, optimizer=recs.Adam(2e-3), training=training, backend="torch")


def by_fit(train: recs.Interactions) -> Callable[[], None]:
    """An epoch of `fit`."""
    model = declared(train).build(train)
    return lambda: (model.fit(train, progress=False), None)[1]


def by_loop(train: recs.Interactions, workers: int) -> Callable[[], None]:
    """An epoch of a loop of one's own."""
    model = declared(train).build(train)
    batches = loader(model, train, num_workers=workers, persistent_workers=workers > 0)
    native = model.model
    optimizer = torch.optim.Adam(native.parameters(), lr=2e-3, eps=1e-5)

    def epoch() -> None:
        for batch in batches:
            optimizer.zero_grad()
            native.task(native.query(batch), native.candidate(batch), **batch.task).backward()
            optimizer.step()

    return epoch


def main() -> None:
    """Take turns, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--rows", type=int, default=400_000)
    given = asked.parse_args()
    data = recs.datasets.load("online-retail")
    train = data.take(range(min(given.rows, len(data))))
    contenders = {
        "fit": by_fit(train),
        "loop, no worker": by_loop(train, 0),
        "loop, 1 worker": by_loop(train, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(given.rounds + 1):
        for name, epoch in contenders.items():
            start = time.perf_counter()
            epoch()
            if turn:  # the first is warming up
                seconds[name].append(time.perf_counter() - start)
    middle = {name: median(times) for name, times in seconds.items()}
    print("| contender | examples per second | of fit's |\n|---|---:|---:|")
    for name, time_of in middle.items():
        print(f"| {name} | {len(train) / time_of:,.0f} | {middle['fit'] / time_of:.2f}× |")


if __name__ == "__main__":
    main()
