"""Small models and data for tests of bundles."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import recs_core as recs
from recs_core.data.interactions import Interactions
from recs_core.reference.backend import OracleBackend


def interactions(rows: int = 60, *, queries: int = 7, candidates: int = 9, seed: int = 0) -> Interactions:
    """Interactions with every kind of side feature; query ids are integers, candidate ids strings."""
    random = np.random.default_rng(seed)
    query = np.concatenate([np.arange(queries), random.integers(0, queries, rows - queries)])
    candidate = np.concatenate([np.arange(candidates), random.integers(0, candidates, rows - candidates)])
    return Interactions.from_table(
        pa.table({"user": 100 + query, "item": [f"i{c}" for c in candidate], "t": np.arange(rows) * 3600.0}),
        query="user",
        candidate="item",
        timestamp="t",
        queries=pa.table({"user": 100 + np.arange(queries), "age": np.linspace(20.0, 60.0, queries)}),
        candidates=pa.table(
            {
                "item": [f"i{c}" for c in range(candidates)],
                "tags": [["x", "y"][: c % 3] for c in range(candidates)],
                "title": [f"red thing {c}" if c % 4 else None for c in range(candidates)],
                "price": np.linspace(1.0, 9.0, candidates),
            }
        ),
    )


def every_feature(**options) -> recs.TwoTower:
    """An unfitted model with every kind of feature, on the oracle."""
    given = {
        "query": recs.TowerSpec(
            [recs.Categorical("user", dim=4), recs.History("item", dim=3), recs.Numeric("age")],
            layers=[5],
            activation="tanh",
        ),
        "candidate": recs.TowerSpec(
            [
                recs.Categorical("item", dim=3),
                recs.Bag("tags", dim=2, pooling="sum"),
                recs.Text("title", dim=2, buckets=16),
                recs.Numeric("price"),
            ],
            layers=[6, 5],
            activation="relu",
            final_activation="sigmoid",
        ),
        "retrieval": recs.RetrievalSpec(learn_temperature=True),
        "optimizer": recs.Adam(0.05),
        "training": recs.TrainingSpec(epochs=2, batch_size=16),
        "backend": OracleBackend(),
    }
    return recs.TwoTower(**{**given, **options})


def ids_only(**options) -> recs.TwoTower:
    """An unfitted model of ids alone, as small as can be, on the oracle."""
    given = {
        "query": recs.TowerSpec([recs.Categorical("user", dim=2)]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=2)]),
        "optimizer": recs.RowWiseAdagrad(0.5),
        "training": recs.TrainingSpec(epochs=1, batch_size=16),
        "backend": OracleBackend(),
    }
    return recs.TwoTower(**{**given, **options})


def fitted(model: recs.TwoTower, data: Interactions | None = None, **options) -> recs.TwoTower:
    """The same model, fitted."""
    model.fit(interactions() if data is None else data, progress=False, **options)
    return model
