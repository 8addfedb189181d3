"""How long a model takes to grow, and how well it does by growing.

    python benchmarks/growth.py size [--rows 1000000] [--rounds 5] [--backend torch] [--json out.json]
    OMP_NUM_THREADS=1 python benchmarks/growth.py days [--epochs 1] [--replay 0.5] [--json out.json]

`size`: a model of a million candidates with string ids and 64 numbers each, and Adam's slots, is extended by 1 % new
ones, in turn with what it is held to: the value (`grown`) beside a plain copy of its arrays, and `model.extend` beside
`copy.deepcopy(model)`, which copies the same arrays through the backend. Medians of CPU seconds, each measured in a
process of its own, and of a round's ratios.

`days`: Online Retail, recipe `history`. Five days of November 2011 arrive one by one: a model that was trained up to
the first is extended and trained on with each; another is trained from nothing on all rows each day. Recall@20 of the
two weeks that follow, and CPU seconds.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import recs_core as recs
from recs_core.contract.batch import Features, Ragged
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.catalog import Catalog
from recs_core.data.schema import Schema
from recs_core.experiment.continued import EPOCHS, REPLAY
from recs_core.fitted import Declared, Fitted, Progress
from recs_core.growth.extension import grown
from recs_core.training import Position, TrainingHistory

DIM, QUERIES, SEEN = 64, 100_000, 1_000_000
DAYS = (21, 22, 23, 24, 25)
DAY, AFTER = 86_400.0, 14


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["size", "days"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--replay", type=float, default=REPLAY)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = size(options) if options.part == "size" else days(options)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))


# The size


def size(options: argparse.Namespace) -> dict[str, float]:
    """CPU seconds, medians, and the medians of a round's two ratios."""
    value, new = model(options.rows), arrivals(options.rows)
    here = recs.TwoTower.of(value, backend=options.backend)
    arrays = [*value.weights.values(), *value.progress.state.values()]
    rounds = []
    for _ in range(options.rounds):
        times = {
            "copy of the arrays": timed(lambda: [np.array(array) for array in arrays]),
            "grown": timed(lambda: grown(value, new)),
            "deepcopy": timed(lambda: copy.deepcopy(here)),
        }
        times["extend"] = timed(lambda: here.extend(new))  # which stays as it was: a child extends its own
        rounds.append(times)
        print({name: round(seconds, 3) for name, seconds in times.items()}, flush=True)
    found = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    found["grown ÷ copy"] = statistics.median(each["grown"] / each["copy of the arrays"] for each in rounds)
    found["extend ÷ deepcopy"] = statistics.median(each["extend"] / each["deepcopy"] for each in rounds)
    print({name: round(number, 3) for name, number in found.items()})
    return found


def timed(run: Callable[[], Any]) -> float:
    """CPU seconds in a process of its own, so that all memory that it fills is new to it."""
    reader, writer = os.pipe()
    if not os.fork():
        start = time.process_time()
        kept = run()
        os.write(writer, str(time.process_time() - start).encode())
        os._exit(0 if kept is not None else 1)
    os.close(writer)
    with os.fdopen(reader) as told:
        seconds = float(told.read())
    os.wait()
    return seconds


def model(rows: int) -> Fitted:
    """100,000 queries that took a million times one of `rows` candidates; towers are tables; Adam's state."""
    random = np.random.default_rng(0)
    users = Vocabulary(np.arange(QUERIES), "user")
    items = Vocabulary(pa.array([f"item-{n:08d}" for n in range(rows)]), "item")
    towers = recs.TowerSpec([recs.Categorical("user", dim=DIM)]), recs.TowerSpec([recs.Categorical("item", dim=DIM)])
    seen = Ragged.from_lengths(random.integers(0, rows, SEEN).astype(np.int32), np.full(QUERIES, SEEN // QUERIES))
    sizes = {"table/user": QUERIES + 1, "table/item": rows + 1}
    schema = Schema("user", "item", users, items, {"table/user": users, "table/item": items}, {}, sizes)
    catalog = Catalog(
        schema,
        Features(QUERIES, {"user": np.arange(1, QUERIES + 1, dtype=np.int32)}),
        Features(rows, {"item": np.arange(1, rows + 1, dtype=np.int32)}),
        seen,
        np.bincount(seen.values, minlength=rows),
        pa.table({"item": items.ids}),
        np.tile(np.arange(SEEN // QUERIES, dtype=np.float64), QUERIES),
    )
    weights = {name: random.standard_normal((size, DIM), np.float32) for name, size in sizes.items()}
    weights["task/bias"] = np.zeros(rows, np.float32)
    optimizer = recs.Adam()
    shapes = UpdatePlan(optimizer).state_shapes({name: array.shape for name, array in weights.items()})
    state = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    state["step"] = np.asarray(1000)
    declared = Declared(*towers, recs.RetrievalSpec(), optimizer)
    return Fitted(declared, catalog, weights, progress=Progress(Position(10), TrainingHistory(), None, state))


def arrivals(rows: int) -> recs.Interactions:
    """As many rows as there are new candidates, 1 %, each of another one; a tenth of the queries is new."""
    random, number = np.random.default_rng(1), rows // 100
    table = {
        "user": random.integers(0, QUERIES * 10 // 9, number),
        "item": pa.array([f"item-{n:08d}" for n in range(rows, rows + number)]),
        "t": np.full(number, 1e6),
    }
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t")


# The days


def days(options: argparse.Namespace) -> list[dict[str, float]]:
    """Of each day: recall@20 and CPU seconds of both ways."""
    data = recs.datasets.load("online-retail").filter(min_per_query=5, min_per_candidate=5)
    starts = [datetime(2011, 11, day, tzinfo=UTC).timestamp() for day in DAYS]
    here = trained(between(data, 0, starts[0]), options.backend)
    found = []
    for start in starts:
        new, known = between(data, start, start + DAY), between(data, 0, start + DAY)
        test = between(data, start + DAY, start + (1 + AFTER) * DAY)
        began = time.process_time()
        here.extend(new)
        here.fit(new, epochs=options.epochs, replay=options.replay, schedule=None, progress=False)
        extended = time.process_time()
        afresh = trained(known, options.backend)
        ended = time.process_time()
        recall = [each.evaluate(test, exclude=known, k=[20])["recall@20"] for each in (here, afresh)]
        seconds = extended - began, ended - extended
        found.append({"extended": recall[0], "afresh": recall[1], "seconds": seconds[0], "seconds afresh": seconds[1]})
        print(f"{len(new):6,} rows", {name: round(number, 4) for name, number in found[-1].items()}, flush=True)
    total = [sum(each[name] for each in found) for name in ("seconds", "seconds afresh")]
    worst = max(abs(each["extended"] - each["afresh"]) for each in found)
    print(f"largest difference {worst:.4f}; {total[0] / total[1]:.3f} of the time")
    return found


def between(data: recs.Interactions, start: float, end: float) -> recs.Interactions:
    """The rows of these seconds, over the ids that have some; a day's data tells of nobody else."""
    assert data.timestamps is not None
    part = data.take((data.timestamps >= start) & (data.timestamps < end))
    names = {"query": part.query_name, "candidate": part.candidate_name, "timestamp": part.timestamp_name}
    return recs.Interactions.from_table(part.to_table(), **names)


def trained(train: recs.Interactions, backend: str) -> recs.TwoTower:
    """The recipe's model, from nothing."""
    out = recs.recipe("history", train, backend=backend)
    out.fit(train, progress=False)
    return out


if __name__ == "__main__":
    main()
