"""One backend in a process of its own: it trains worlds and saves them, or loads what others saved and trains on.

    python worker.py keras[jax] FOLDER tiny gru …
    python worker.py keras[jax] FOLDER tiny:torch,tensorflow gru:torch …

A world is one of `WORLDS`. Everything is written under FOLDER/<world>/<backend>/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import recs_core as recs
from recs_core.evaluation import intervals, query_metrics

Split = tuple[recs.Interactions, recs.Interactions]


@dataclass(frozen=True)
class World:
    """Data, and a model to be made with `backend=` and `dtype=`; epochs `before` and `after` the change of backend, and
    in which dtypes it trains on then."""

    data: Callable[[], Split]
    model: Callable[..., recs.TwoTower]
    before: int
    after: int
    dtypes: tuple[str, ...] = ("float32",)
    on: tuple[str, ...] = ("float32", "float64")


def tiny() -> Split:
    """60 customers × 40 items, with everything that people bring: side features of every kind, vectors, the device and
    the time of a request, weights, and what was shown and not taken."""
    random = np.random.default_rng(11)
    items = [f"i{n}" for n in range(40)]
    side = {
        "item": items,
        "tags": [[f"t{n % 5}", f"u{n % 3}"][: n % 3] for n in range(40)],
        "title": [f"thing {n % 7} of kind {n % 4}" for n in range(40)],
        "price": [float(n % 9) for n in range(40)],
        "image": list(random.normal(size=(40, 5)).astype(np.float32)),
    }
    rows = 900
    table = {
        "customer": random.integers(0, 60, rows),
        "item": [items[n] for n in random.integers(0, 40, rows)],
        "t": 1.7e9 + 3_600 * np.arange(rows, dtype=float),
        "device": random.choice(["ios", "web", "tv"], rows),
        "weight": random.choice([0.5, 1.0, 2.0], rows),
    }
    table["shown"] = [[item for item in random.choice(items, n % 3) if item != table["item"][n]] for n in range(rows)]
    roles = {"timestamp": "t", "weight": "weight", "negatives": "shown"}
    data = recs.Interactions.from_table(table, query="customer", candidate="item", candidates=side, **roles)
    train, test = data.split(by="time", test=0.2, known_only=True)
    return train, test


def online_retail() -> Split:
    """The embedded data, cut as the demo cuts it."""
    data = recs.datasets.load("online-retail").filter(min_per_query=5, min_per_candidate=5)
    train, test = data.split(by="time", at="2011-11-10", known_only=True)
    return train, test


def report() -> Split:
    """Ten users with five movies each; tested on what it was trained on, as there is no more."""
    data = recs.datasets.load("report")
    return data, data


def smooth(**where: Any) -> recs.TwoTower:
    """Every kind of feature in smooth towers: no ReLU, a well-conditioned optimizer."""
    query = [
        recs.Categorical("customer", dim=8),
        recs.History("item", dim=8),
        recs.Categorical("device", dim=3),
        recs.Clock("t"),
    ]
    candidate = [
        recs.Categorical("item", dim=8),
        recs.Vector("image", dim=3),
        recs.Bag("tags", dim=4),
        recs.Text("title", dim=4, buckets=64),
        recs.Numeric("price"),
    ]
    return recs.TwoTower(
        recs.TowerSpec(query, layers=[8], activation="tanh"),
        recs.TowerSpec(candidate, layers=[12, 8], activation="tanh"),
        recs.RetrievalSpec(temperature=0.2, learn_temperature=True, negatives="mixed", num_negatives=16),
        recs.Adam(3e-3),
        training=recs.TrainingSpec(batch_size=128),
        **where,
    )


def of_history(**where: Any) -> recs.TwoTower:
    """The recipe for purchases, small: histories against the whole corpus."""
    return recs.TwoTower(
        recs.TowerSpec([recs.History("item_id", dim=32)]),
        recs.TowerSpec([recs.Categorical("item_id", dim=32)]),
        recs.RetrievalSpec(temperature=0.25, negatives="corpus"),
        recs.Adam(3e-3),
        training=recs.TrainingSpec(batch_size=512, batch_by="query", recency_days=21),
        **where,
    )


def of_ratings(**where: Any) -> recs.TwoTower:
    """Five steps per epoch on the report's 50 ratings: smooth towers, Adagrad."""
    return recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user_id", dim=8)], layers=[8], final_activation="tanh"),
        recs.TowerSpec([recs.Categorical("movie_id", dim=8)], layers=[8], final_activation="tanh"),
        recs.RetrievalSpec(temperature=0.5),
        recs.Adagrad(0.05),
        training=recs.TrainingSpec(batch_size=10),
        **where,
    )


def in_order(encoder: recs.GRU | recs.SelfAttention, **where: Any) -> recs.TwoTower:
    """Histories whose order counts, every place of them a query, with dropout."""
    return recs.TwoTower(
        recs.TowerSpec([recs.History("item", dim=8, max_length=12, encoder=encoder)]),
        recs.TowerSpec([recs.Categorical("item", dim=8)]),
        recs.RetrievalSpec(temperature=0.2, negatives="uniform", num_negatives=32, mask_positives=True),
        recs.Adam(3e-3),
        training=recs.TrainingSpec(batch_size=16, batch_by="sequence"),
        **where,
    )


def rough(**where: Any) -> recs.TwoTower:
    """ReLU towers, which turn a rounding into another step."""
    return recs.TwoTower(
        recs.TowerSpec([recs.History("item_id", dim=32)], layers=[32, 32], activation="relu"),
        recs.TowerSpec([recs.Categorical("item_id", dim=32)], layers=[32, 32], activation="relu"),
        recs.RetrievalSpec(temperature=0.1),
        recs.Adam(2e-3),
        training=recs.TrainingSpec(batch_size=1024),
        **where,
    )


BOTH = ("float32", "float64")
WORLDS = {
    "tiny": World(tiny, smooth, before=3, after=2, dtypes=BOTH),
    "attention": World(tiny, partial(in_order, recs.SelfAttention(heads=2, time="request")), 2, 1, BOTH, ("float64",)),
    "gru": World(tiny, partial(in_order, recs.GRU(layers=2)), 2, 1, BOTH, ("float64",)),
    "online-retail": World(online_retail, of_history, before=1, after=1),
    "report": World(report, of_ratings, before=10, after=10),
    "relu": World(online_retail, rough, before=3, after=0),
}


def answers(fitted: recs.Recommender, train: recs.Interactions, test: recs.Interactions) -> dict[str, Any]:
    """Vectors of the test's queries, top 10, and metrics with their bootstrap intervals."""
    seen = None if test is train else train
    queries = test.query_ids.decode(np.flatnonzero(test.query_counts() > 0).astype(np.int32))[:400]
    asks: dict[str, Any] = {}
    if fitted.schema.context:
        asks = {"context": {"device": np.resize(["ios", "web", "tv"], len(queries))}, "at": "2024-01-05T17:30:00"}
    elif fitted.schema.time_name is not None:
        asks = {"at": "2024-01-05T17:30:00"}
    found = fitted.recommend(queries, k=10, exclude=seen, **asks)
    measured = intervals(query_metrics(fitted.rank(test, exclude=seen), k=(5, 10))).values()
    return {
        "query": fitted.encode_query(queries, **asks),
        "candidate": fitted.encode_candidate(),
        "ids": fitted.schema.candidates.encode(found.ids.ravel().tolist()).reshape(found.ids.shape),
        "scores": found.scores,
        "metrics": np.array([m["value"] for m in measured]),
        "low": np.array([m["low"] for m in measured]),
        "high": np.array([m["high"] for m in measured]),
    }


def write(path: Path, fitted: recs.TwoTower, found: dict[str, Any]) -> None:
    """Weights, losses and answers in one file."""
    weights = {f"weight/{name}": value for name, value in fitted.weights().items()}
    np.savez(path, losses=np.array(fitted.history.losses), **weights, **found)


def first(backend: str, folder: Path, world: World) -> None:
    """Train, save, answer; then train on as another backend must."""
    train, test = world.data()
    for dtype in world.dtypes:
        fitted = world.model(backend=backend, dtype=dtype)
        fitted.fit(train, epochs=world.before)
        fitted.save(folder / backend / f"bundle-{dtype}")
        write(folder / backend / f"saved-{dtype}.npz", fitted, answers(fitted, train, test))
        if world.after and dtype in world.on:
            fitted.fit(train, epochs=world.after)
            write(folder / backend / f"on-{dtype}.npz", fitted, answers(fitted, train, test))


def second(backend: str, folder: Path, world: World, others: list[str]) -> None:
    """Load what each other backend saved, answer, and train on."""
    train, test = world.data()
    for other in others:
        for dtype in world.dtypes:
            fitted = recs.load(folder / other / f"bundle-{dtype}", backend=backend)
            assert isinstance(fitted, recs.TwoTower)
            write(folder / backend / f"loaded-{other}-{dtype}.npz", fitted, answers(fitted, train, test))
            if dtype in world.on:
                fitted.fit(train, epochs=world.after)
                write(folder / backend / f"on-{other}-{dtype}.npz", fitted, answers(fitted, train, test))


if __name__ == "__main__":
    name, where, *jobs = sys.argv[1:]
    for job in jobs:
        print(job, file=sys.stderr, flush=True)  # so that who reads of an error sees of what it is
        world, _, others = job.partition(":")
        (Path(where) / world / name).mkdir(parents=True, exist_ok=True)
        if others:
            second(name, Path(where) / world, WORLDS[world], others.split(","))
        else:
            first(name, Path(where) / world, WORLDS[world])
