"""What a model remembers of several fits: rows add up, one that both have counts once, the latest features win."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recs_core as recs
from recs_core.contract.errors import DataError
from recs_core.data.catalog import Catalog
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema

QUERY = recs.TowerSpec([recs.Categorical("user", dim=2)])
CANDIDATE = recs.TowerSpec([recs.Categorical("item", dim=2)])
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=12)


def interactions(rows: list[tuple[int, int, int]], timed: bool = True) -> recs.Interactions:
    user, item, time = zip(*rows, strict=True)
    table = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "t": [float(t) for t in time]}
    everyone = {"user": [f"u{n}" for n in range(4)]}, {"item": [f"i{n}" for n in range(4)]}
    return recs.Interactions.from_table(
        table,
        query="user",
        candidate="item",
        timestamp="t" if timed else None,
        queries=everyone[0],
        candidates=everyone[1],
    )


ALL = interactions([(u, i, 0) for u in range(4) for i in range(4)])
SCHEMA = Schema.learn(QUERY, CANDIDATE, ALL)


def learnt(*parts: recs.Interactions) -> Catalog:
    catalog = None
    for part in parts:
        catalog = Catalog.of(EncodedDataset.encode(QUERY, CANDIDATE, SCHEMA, part), catalog)
    assert catalog is not None
    return catalog


@given(ROWS, ROWS)
def test_rows_of_two_fits_are_a_union_in_time_order(first, second) -> None:
    catalog = learnt(interactions(first), interactions(second))
    due = Counter(first) | Counter(second)  # of a multiset: the most that either holds
    assert catalog.seen_at is not None
    for code, user in enumerate(SCHEMA.queries.ids.to_pylist()):
        of = slice(catalog.seen.offsets[code], catalog.seen.offsets[code + 1])
        items = [int(id_[1:]) for id_ in SCHEMA.candidates.decode(catalog.seen.values[of]).to_pylist()]
        times = catalog.seen_at[of].tolist()
        assert times == sorted(times)
        assert Counter(zip(items, times, strict=True)) == Counter(
            {(i, float(t)): n for (u, i, t), n in due.items() if f"u{u}" == user}
        )
    counted = Counter(i for (_, i, _), n in due.items() for _ in range(n))
    assert catalog.counts.tolist() == [counted[int(id_[1:])] for id_ in SCHEMA.candidates.ids.to_pylist()]


@given(ROWS)
def test_the_same_data_again_adds_nothing(rows) -> None:
    once, twice = learnt(interactions(rows)), learnt(interactions(rows), interactions(rows))
    assert once.seen.values.tolist() == twice.seen.values.tolist()
    assert once.counts.tolist() == twice.counts.tolist()


def test_without_times_the_earlier_fit_comes_first() -> None:
    catalog = learnt(
        interactions([(0, 2, 0), (0, 1, 0)], timed=False), interactions([(0, 3, 0), (0, 2, 0)], timed=False)
    )
    code = int(SCHEMA.queries.encode(["u0"])[0])
    of = catalog.seen.values[catalog.seen.offsets[code] : catalog.seen.offsets[code + 1]]
    assert SCHEMA.candidates.decode(of).to_pylist() == ["i2", "i1", "i3"]
    assert catalog.seen_at is None


def shop(items: list[str], price: list[float | None], genre: list[str | None], users=("u0", "u1")) -> recs.Interactions:
    rows = {"user": [users[n % len(users)] for n in range(len(items))], "item": items}
    side = pa.table({"item": items, "price": pa.array(price, pa.float64()), "genre": pa.array(genre, pa.string())})
    return recs.Interactions.from_table(rows, query="user", candidate="item", candidates=side)


SIDE = recs.TowerSpec([recs.Categorical("item", dim=2), recs.Numeric("price"), recs.Categorical("genre", dim=2)])


def test_the_latest_features_win_and_an_id_that_is_not_there_keeps_its_own() -> None:
    first = shop(["i0", "i1", "i2"], [1.0, 2.0, 3.0], ["a", "b", "c"])
    schema = Schema.learn(QUERY, SIDE, first)
    before = Catalog.of(EncodedDataset.encode(QUERY, SIDE, schema, first))
    later = shop(["i2", "i0"], [9.0, 1.0], ["a", "a"], users=("u1",))
    after = Catalog.of(EncodedDataset.encode(QUERY, SIDE, schema, later, before=before), before)
    mean, deviation = schema.learnt["candidate/price"].values()
    rows = schema.candidates.encode(["i0", "i1", "i2"])
    np.testing.assert_allclose(after.candidate.dense["price"][rows, 0] * deviation + mean, [1.0, 2.0, 9.0])
    genre = schema.first_row("table/genre") + schema.vocabularies["table/genre"].encode(["a", "b", "a"])
    np.testing.assert_array_equal(after.candidate.codes["genre"][rows], genre)


def test_an_id_of_which_later_data_says_nothing_keeps_its_features() -> None:
    first = shop(["i0", "i1"], [1.0, 2.0], ["a", "b"])
    schema = Schema.learn(QUERY, SIDE, first)
    before = Catalog.of(EncodedDataset.encode(QUERY, SIDE, schema, first))
    rows = {"user": ["u0", "u0"], "item": ["i0", "i1"]}
    later = recs.Interactions.from_table(
        rows, query="user", candidate="item", candidates={"item": ["i0"], "price": [5.0], "genre": ["b"]}
    )
    after = Catalog.of(EncodedDataset.encode(QUERY, SIDE, schema, later, before=before), before)
    row = int(schema.candidates.encode(["i1"])[0])
    assert after.candidate.dense["price"][row] == before.candidate.dense["price"][row]
    assert after.candidate.codes["genre"][row] == before.candidate.codes["genre"][row]


def test_later_data_with_another_column_or_a_new_id_is_refused() -> None:
    other = recs.Interactions.from_table({"customer": ["u0"], "item": ["i0"]}, query="customer", candidate="item")
    with pytest.raises(DataError, match="the query column is 'customer', this model was trained on 'user'"):
        learnt(ALL, other)
    new = recs.Interactions.from_table({"user": ["u0", "u9"], "item": ["i0", "i0"]}, query="user", candidate="item")
    with pytest.raises(DataError, match="row 1: query 'u9' is not in the vocabulary of this model's training"):
        learnt(ALL, new)


def test_the_same_query_may_be_asked_twice() -> None:
    from recs_core.data.catalog import candidates_of

    found = candidates_of(interactions([(0, 1, 0), (1, 2, 0)]), pa.array(["u1", "u0", "u1"]), SCHEMA)
    assert SCHEMA.candidates.decode(found.values).to_pylist() == ["i2", "i1", "i2"]
