"""One backend in a process of its own: `first` trains and saves, `second` loads what every other saved and trains on.

    python worker.py first keras[jax] FOLDER WORLD
    python worker.py second keras[jax] FOLDER WORLD torch tensorflow …

A world is "tiny" or "online-retail". Everything is written under FOLDER/<backend>/.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import recs_core as recs

DTYPES = ("float32", "float64")
BEFORE, AFTER = 3, 2  # epochs before and after the change of backend


def tiny() -> tuple[recs.Interactions, recs.Interactions]:
    """60 customers × 40 items with a bag, a text, a number and a history: a smooth tower of every feature kind."""
    random = np.random.default_rng(11)
    items = [f"i{n}" for n in range(40)]
    side = {
        "item": items,
        "tags": [[f"t{n % 5}", f"u{n % 3}"][: n % 3] for n in range(40)],
        "title": [f"thing {n % 7} of kind {n % 4}" for n in range(40)],
        "price": [float(n % 9) for n in range(40)],
    }
    rows = 900
    table = {
        "customer": random.integers(0, 60, rows),
        "item": [items[n] for n in random.integers(0, 40, rows)],
        "t": np.arange(rows, dtype=float),
    }
    data = recs.Interactions.from_table(table, query="customer", candidate="item", timestamp="t", candidates=side)
    train, test = data.split(by="time", test=0.2, known_only=True)
    return train, test


def online_retail() -> tuple[recs.Interactions, recs.Interactions]:
    """The embedded data, cut as the demo cuts it."""
    data = recs.datasets.load("online-retail").filter(min_per_query=5, min_per_candidate=5)
    train, test = data.split(by="time", at="2011-11-10", known_only=True)
    return train, test


def model(world: str, backend: str, dtype: Any) -> recs.TwoTower:
    """A smooth model: no ReLU, well-conditioned optimizer."""
    if world == "online-retail":
        return recs.TwoTower(
            recs.TowerSpec([recs.History("item_id", dim=32)]),
            recs.TowerSpec([recs.Categorical("item_id", dim=32)]),
            recs.RetrievalSpec(temperature=0.25, negatives="corpus"),
            recs.Adam(3e-3),
            training=recs.TrainingSpec(batch_size=512, step="query", recency_days=21),
            backend=backend,
            dtype=dtype,
        )
    return recs.TwoTower(
        recs.TowerSpec(
            [recs.Categorical("customer", dim=8), recs.History("item", dim=8)], layers=[8], activation="tanh"
        ),
        recs.TowerSpec(
            [
                recs.Categorical("item", dim=8),
                recs.Bag("tags", dim=4),
                recs.Text("title", dim=4, buckets=64),
                recs.Numeric("price"),
            ],
            layers=[12, 8],
            activation="tanh",
        ),
        recs.RetrievalSpec(temperature=0.2, learn_temperature=True, negatives="mixed", num_negatives=16),
        recs.Adam(3e-3),
        training=recs.TrainingSpec(batch_size=128),
        backend=backend,
        dtype=dtype,
    )


def answers(fitted: recs.Recommender, train: recs.Interactions, test: recs.Interactions) -> dict[str, Any]:
    """Vectors of the test's queries, top 10 and metrics."""
    queries = test.query_ids.decode(np.flatnonzero(test.query_counts() > 0).astype(np.int32))[:400]
    found = fitted.recommend(queries, k=10, exclude=train)
    return {
        "query": fitted.encode_query(queries),
        "candidate": fitted.encode_candidate(),
        "ids": fitted.schema.candidates.encode(found.ids.ravel().tolist()).reshape(found.ids.shape),
        "scores": found.scores,
        "metrics": np.array(list(fitted.evaluate(test, exclude=train, k=(5, 10)).values())),
    }


def write(path: Path, fitted: recs.TwoTower, found: dict[str, Any]) -> None:
    """Weights, losses and answers in one file."""
    weights = {f"weight/{name}": value for name, value in fitted.weights().items()}
    np.savez(path, losses=np.array(fitted.history.losses), **weights, **found)


def first(backend: str, folder: Path, world: str) -> None:
    """Train, save, answer; then train on as another backend must."""
    train, test = online_retail() if world == "online-retail" else tiny()
    for dtype in DTYPES if world == "tiny" else DTYPES[:1]:
        fitted = model(world, backend, dtype)
        fitted.fit(train, epochs=BEFORE if world == "tiny" else 1)
        fitted.save(folder / backend / f"bundle-{dtype}")
        write(folder / backend / f"saved-{dtype}.npz", fitted, answers(fitted, train, test))
        fitted.fit(train, epochs=AFTER if world == "tiny" else 1)
        write(folder / backend / f"on-{dtype}.npz", fitted, answers(fitted, train, test))


def second(backend: str, folder: Path, world: str, others: list[str]) -> None:
    """Load what each other backend saved, answer, and train on."""
    train, test = online_retail() if world == "online-retail" else tiny()
    for other in others:
        for dtype in DTYPES if world == "tiny" else DTYPES[:1]:
            fitted = recs.load(folder / other / f"bundle-{dtype}", backend=backend)
            assert isinstance(fitted, recs.TwoTower)
            write(folder / backend / f"loaded-{other}-{dtype}.npz", fitted, answers(fitted, train, test))
            fitted.fit(train, epochs=AFTER if world == "tiny" else 1)
            write(folder / backend / f"on-{other}-{dtype}.npz", fitted, answers(fitted, train, test))


if __name__ == "__main__":
    phase, name, where, which, *rest = sys.argv[1:]
    (Path(where) / name).mkdir(parents=True, exist_ok=True)
    if phase == "first":
        first(name, Path(where), which)
    else:
        second(name, Path(where), which, rest)
    print(json.dumps({"done": name}))
