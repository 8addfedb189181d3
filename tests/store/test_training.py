"""A store trains as the same rows in memory do, batch for batch, and nothing of it is copied on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recs_core as recs
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema

pytest.importorskip("duckdb", reason='needs duckdb: pip install "recs-core[ingest]"')

QUERY = recs.TowerSpec(
    [recs.Categorical("user", dim=4), recs.History("item", dim=4), recs.Categorical("country", dim=2)]
)
CANDIDATE = recs.TowerSpec([recs.Categorical("item", dim=4), recs.Vector("embedding"), recs.Numeric("price")])


@pytest.fixture
def both(tmp_path: Path) -> tuple[Interactions, Interactions]:
    """A store, and the same rows read from the files into memory."""
    random = np.random.default_rng(5)
    rows = {
        "user": [f"u{code}" for code in random.integers(0, 20, 400)],
        "item": random.integers(0, 30, 400),
        "ts": random.integers(1_500_000_000, 1_500_000_060, 400),
        "device": [("ios", "web")[code] for code in random.integers(0, 2, 400)],
        "worth": random.random(400),
    }
    items = pa.table(
        {
            "item": list(range(30)),
            "price": random.random(30),
            "embedding": [list(vector) for vector in random.normal(size=(30, 3)).astype(np.float32)],
        }
    )
    users = pa.table({"user": [f"u{code}" for code in range(20)], "country": ["UK", "FR"] * 10})
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    given: dict[str, Any] = {"query": "user", "candidate": "item", "timestamp": "ts", "weight": "worth"}
    given |= {"queries": users, "candidates": items}
    store = recs.ingest(tmp_path / "events.parquet", to=tmp_path / "store", **given, context=["device"])
    memory = Interactions.from_table(tmp_path / "events.parquet", **given)
    # In the store's order, as the mean of a clock's age sums over rows as they stand, and rounds so.
    return store, memory.take(np.lexsort((memory.timestamps, memory.query_codes)))


def encoded(data: Interactions, query: recs.TowerSpec) -> EncodedDataset:
    return EncodedDataset.encode(query, CANDIDATE, Schema.learn(query, CANDIDATE, data), data)


def same(one: Any, other: Any) -> None:
    """Arrays within anything are equal, bit for bit."""
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            same(one[name], other[name])
    elif hasattr(one, "__dataclass_fields__"):
        same(vars(one), vars(other))
    else:
        assert one == other


@pytest.mark.parametrize("batch_by", ["interaction", "query", "sequence"])
def test_batches_are_those_of_memory(both: tuple[Interactions, Interactions], batch_by: Any) -> None:
    query = QUERY
    if batch_by == "interaction":
        query = replace(QUERY, features=(*QUERY.features, recs.Categorical("device", dim=2), recs.Clock("ts")))
    if batch_by == "sequence":
        history = recs.History("item", dim=4, max_length=10, encoder=recs.GRU())
        query = recs.TowerSpec([history, recs.Categorical("country", dim=2)])
    plan = BatchPlan(64, batch_by, recs.RetrievalSpec(mask_positives=True), recency_days=0.0002)
    store, memory = (Batching(encoded(data, query)) for data in both)
    batches = list(store.batches(plan, seed=1, epoch=2))
    assert len(batches) > 1 if batch_by == "interaction" else batches
    for one, other in zip(batches, memory.batches(plan, seed=1, epoch=2), strict=True):
        same(one, other)


def test_rows_stay_where_they_are(both: tuple[Interactions, Interactions]) -> None:
    store = both[0]
    data = encoded(store, QUERY)
    assert np.shares_memory(data.query_codes, store.query_codes)
    assert np.shares_memory(data.candidate_codes, store.candidate_codes)
    assert np.shares_memory(data.timestamps, store.timestamps)


def test_a_part_of_a_store_is_sorted_no_more(both: tuple[Interactions, Interactions]) -> None:
    parts = [data.split(by="time", test=0.2, known_only=False).train for data in both]
    store, memory = (encoded(part, QUERY) for part in parts)
    same(store.query_codes, memory.query_codes)
    same(store.candidate_codes, memory.candidate_codes)
    assert store.query_codes is not memory.query_codes
    assert parts[0].in_order
