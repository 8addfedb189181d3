"""A shop of 15 users and 12 items with prices, and a model of it."""

from __future__ import annotations

import numpy as np

import recs_core as recs


def shop(rows: int = 300, seed: int = 3) -> recs.Interactions:
    random = np.random.default_rng(seed)
    who, what = random.integers(0, 15, rows), random.integers(0, 12, rows)
    table = {"user": [f"u{n}" for n in who], "item": [f"i{n}" for n in what], "t": np.arange(rows, dtype=float)}
    items = {"item": [f"i{n}" for n in range(12)], "price": [float(n) for n in range(12)]}
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", candidates=items)


def declared(**options: object) -> recs.TwoTower:
    parts = {
        "query": recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4)], layers=[6]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=4), recs.Numeric("price")], layers=[6]),
        "retrieval": recs.RetrievalSpec(negatives="corpus"),
        "optimizer": recs.Adam(0.05),
        "training": recs.TrainingSpec(epochs=2, batch_size=64),
    }
    return recs.TwoTower(**{**parts, **options})  # type: ignore[arg-type]
