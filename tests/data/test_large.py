"""What is beyond int32: numbers never wrap, batches are the same whichever type holds row numbers, ids may be long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract import batch as contract_batch
from recs_core.contract import columns, vocabulary
from recs_core.contract.batch import Batch, Ragged, offsets_of
from recs_core.contract.columns import as_ids, as_lists
from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.batching import Batching
from recs_core.data.catalog import Catalog, past_of, union
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.tables import arrow_files, id_files

BILLION = 2**30


def test_offsets_beyond_int32_do_not_wrap() -> None:
    lengths = np.broadcast_to(np.int32(BILLION), (5,))
    assert offsets_of(lengths).tolist() == [n * BILLION for n in range(6)]
    assert offsets_of(lengths[:1]).dtype == np.int32 and offsets_of(lengths[:2]).dtype == np.int64
    assert offsets_of([2**31 - 1]).dtype == np.int32 and offsets_of([2**31]).dtype == np.int64


def test_rows_that_are_joined_have_offsets_beyond_int32() -> None:
    half = Ragged(np.broadcast_to(np.int32(0), (0,)), np.array([0, 3 * BILLION // 2], np.int32))
    assert half.followed_by(half).offsets.tolist() == [0, 3 * BILLION // 2, 3 * BILLION]
    assert (half.lengths + half.lengths.astype(np.int64)).tolist() == [3 * BILLION]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever there are more than ten of is numbered in int64."""
    with monkeypatch.context() as patched:
        patched.setattr(contract_batch, "INT32", 10)
        yield


def sales(rows: int = 300) -> recs.Interactions:
    random = np.random.default_rng(2)
    items = [f"i{number}" for number in range(15)]
    taken = random.integers(0, len(items), rows)
    table = {
        "user": random.integers(0, 25, rows),
        "item": [items[number] for number in taken],
        "t": random.integers(0, 90, rows).astype(float),
        "shown": [[items[(number + 1) % 15], items[(number + 4) % 15]][: number % 3] for number in taken],
    }
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", negatives="shown")


def towers(batch_by: str) -> tuple[recs.TowerSpec, recs.TowerSpec]:
    past = {"encoder": recs.GRU(), "max_length": 4} if batch_by == "sequence" else {}
    query = recs.TowerSpec([recs.Categorical("user", dim=2), recs.History("item", dim=2, **past)], layers=[4])  # type: ignore[arg-type]
    return query, recs.TowerSpec([recs.Categorical("item", dim=2)], layers=[4])


def made(batch_by: str) -> Batching:
    data = sales()
    if batch_by == "sequence":
        data = replace(data, negatives=None)
    query, candidate = towers(batch_by)
    schema = Schema.learn(query, candidate, data)
    return Batching(EncodedDataset.encode(query, candidate, schema, data))


def epoch(batching: Batching, batch_by: str) -> list[Batch]:
    spec = RetrievalSpec(mask_positives=True)
    return list(batching.batches(BatchPlan(16, batch_by, spec), seed=1, epoch=0))  # type: ignore[arg-type]


def arrays(batch: Batch) -> dict[str, np.ndarray]:
    found = dict(batch.rows) | {name: part for name, part in batch.task.items() if isinstance(part, np.ndarray)}
    found["past"] = batch.query.codes["item"].values
    if "positives" in batch.task:
        found |= {"positives": batch.task["positives"].values, "offsets": batch.task["positives"].offsets}
    return found


@pytest.mark.parametrize("batch_by", ["interaction", "query", "sequence"])
def test_batches_are_the_same_where_row_numbers_are_int64(batch_by: str, request: pytest.FixtureRequest) -> None:
    expected = epoch(made(batch_by), batch_by)
    request.getfixturevalue("limit")
    batching = made(batch_by)
    found = epoch(batching, batch_by)
    assert len(found) == len(expected) > 1
    for one, other in zip(found, expected, strict=True):
        for name, array in arrays(other).items():
            np.testing.assert_array_equal(arrays(one)[name], array)
    (cut,) = batching._cuts.values()
    assert cut.positives.offsets.dtype == np.int64
    assert batching.data.rows_by_query().offsets.dtype == np.int64
    numbers = cut.windows if batch_by == "sequence" else cut.rows_of_query[1]
    assert numbers.values.dtype == numbers.offsets.dtype == np.int64


def test_what_was_seen_is_joined_in_int64(limit: None) -> None:
    rows = Ragged.of([[0, 1, 2, 3, 4, 5, 6], [1]])
    times = np.arange(8.0)
    places = union(rows, times, Ragged.of([[2], [3, 4, 5]]), times[:4])
    assert places.values.dtype == places.offsets.dtype == np.int64
    query, candidate = towers("interaction")
    data = sales()
    schema = Schema.learn(query, candidate, data)
    seen = Catalog.of(EncodedDataset.encode(query, candidate, schema, data)).seen
    assert seen.offsets.dtype == np.int64
    again = past_of(data, schema.queries.ids, schema).codes
    assert again.offsets.dtype == np.int64
    np.testing.assert_array_equal(again.values, seen.values)


def test_a_bundle_holds_offsets_in_int64(limit: None, tmp_path) -> None:
    query, candidate = towers("interaction")
    model = recs.TwoTower(query, candidate)
    model.fit(sales(), epochs=1, progress=False)
    model.save(tmp_path / "bundle")
    bare = recs.load(tmp_path / "bundle", runtime="numpy")
    assert bare.catalog.seen.offsets.dtype == np.int64
    np.testing.assert_array_equal(bare.catalog.seen.offsets, model.catalog.seen.offsets)
    asked = model.schema.queries.ids.to_pylist()
    found, due = (who.recommend(asked, k=3, exclude="seen").ids.tolist() for who in (bare, model))
    assert found == due


def test_lists_of_more_values_than_int32_counts_are_large_ones(limit: None) -> None:
    data = sales()
    shown = data.to_table()["shown"]
    assert pa.types.is_large_list(shown.type)
    ids, offsets = as_lists(shown, "shown")
    assert len(ids) == offsets[-1] > 10 and offsets.dtype == np.int64
    assert data.take(np.arange(len(data))).digest() == data.digest()


def test_more_ids_than_codes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "MOST_IDS", 3)
    three = Vocabulary(["a", "b", "c"], "user")
    told = "4 are more than int32 codes tell apart, 3; leave out the rare ones, by data.filter"
    for refused in (
        lambda: Vocabulary(["a", "b", "c", "d"], "user"),
        lambda: Vocabulary.from_values(["a", "b", "b", "c", "d"], "user"),
        lambda: three.grown(["a", "d"]),
        lambda: Schema("user", "item", three, three, {}, {}, {"table/user": 4}),
    ):
        with pytest.raises(DataError, match=told):
            refused()
    assert three.grown(["a"]) is three


TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_ids_of_text_are_large_strings_however_they_come(kind: pa.DataType) -> None:
    given = pa.array(["b", "a", "b", "c"], pa.string()).cast(kind)
    known = Vocabulary(["a", "b"])
    assert known.ids.type == Vocabulary.from_values(given).ids.type == as_ids(given, "ids").type == pa.large_string()
    assert known.encode(given).tolist() == [1, 0, 1, -1]
    assert known.grown(given).ids.equals(pa.array(["a", "b", "c"], pa.large_string()))
    rows = pa.table({"user": pa.chunked_array([given, given]), "item": range(8)})
    data = recs.Interactions.from_table(rows, query="user", candidate="item", queries={"user": given.slice(2)})
    assert data.query_ids.ids.type == data.queries["user"].type == data.to_table()["user"].type == pa.large_string()
    assert data.query_codes.tolist() == [0, 1, 0, 2] * 2
    lists = {"user": ["b", "a", "b", "c"] * 2, "item": range(8)}
    plain = recs.Interactions.from_table(lists, query="user", candidate="item", queries={"user": ["b", "c"]})
    assert plain.digest() == data.digest()


def test_chunks_whose_text_is_together_too_long_for_one_string_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "INT32", 10)
    found, codes = columns.coded_ids(pa.chunked_array([["user-1", "user-2"], ["user-2", "user-3"]]), "ids")
    assert found.equals(pa.array(["user-1", "user-2", "user-3"], pa.large_string()))
    assert codes.tolist() == [0, 1, 1, 2]


def test_a_file_of_ids_is_read_where_it_lies_and_an_older_one_too() -> None:
    vocabulary = Vocabulary(["a", "bc"], "user")
    data = id_files.content(vocabulary)
    found = id_files.read(data, Path("ids.arrow"), "user")
    start, length = data.address, data.size
    assert found == vocabulary
    assert all(start <= buffer.address < start + length for buffer in found.ids.buffers() if buffer is not None)
    older = arrow_files.content(pa.record_batch([pa.array(["a", "bc"], pa.string())], names=["id"]))
    assert id_files.read(older, Path("ids.arrow"), "user") == vocabulary
    for wrong in (pa.array([b"a"]), pa.array([1.0])):
        with pytest.raises(BundleError, match="needs one column, id, of strings or int64"):
            id_files.read(arrow_files.content(pa.record_batch([wrong], names=["id"])), Path("ids.arrow"), "user")
