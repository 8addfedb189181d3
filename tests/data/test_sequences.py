"""Batches by sequence: windows, what a position reads and what it predicts, masks, refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recs_core as recs
from recs_core.contract.batch import Batch, Features, Ragged, Sequences
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.data.sequences import windows_of

# Two queries in order of time: u takes a b c d, v takes c c a; w takes b alone.
ROWS = {
    "user": ["u", "v", "u", "u", "v", "w", "v", "u"],
    "item": ["a", "c", "b", "c", "c", "b", "a", "d"],
    "ts": [1, 1, 2, 3, 3, 3, 9, 9],
}


def encoder(**changes: Any) -> recs.SelfAttention:
    return recs.SelfAttention(**{"layers": 1, "ffn": 1, "dropout": 0, **changes})


def batching(rows: Any = None, *, length: int = 10, timestamp: str | None = "ts", **changes: Any) -> Batching:
    data = recs.Interactions.from_table(rows or ROWS, query="user", candidate="item", timestamp=timestamp)
    query = recs.TowerSpec([recs.History("item", dim=4, max_length=length, encoder=encoder(**changes))])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=4)])
    return Batching(EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, data), data))


def plan(size: int = 8, **changes: Any) -> BatchPlan:
    retrieval = recs.RetrievalSpec(negatives="corpus", **changes)
    return BatchPlan(size, "sequence", retrieval)


def said(batch: Batch, data: Batching) -> list[tuple[str, str]]:
    """Each target as (what its position reads, oldest first, the target)."""
    names = data.data.schema.candidates.ids.to_pylist()
    held = batch.query.codes["item"]
    assert isinstance(held, Sequences)
    rows = batch.rows["table/item"][held.values] - 1  # row 0 is for unknown ids
    starts = held.codes.offsets[:-1][held.codes.segments]
    read = ["".join(names[c] for c in rows[starts[p] : p + 1]) for p in held.at]
    columns = batch.task["target_candidate"]
    queries = batch.task["target_query"]
    return [(read[query], names[column]) for query, column in zip(queries, columns, strict=True)]


def test_every_position_predicts_the_next_candidate() -> None:
    data = batching()
    (batch,) = data.batches(plan(), seed=0, epoch=0)
    assert said(batch, data) == [("a", "b"), ("ab", "c"), ("abc", "d"), ("c", "c"), ("cc", "a")]


def test_long_histories_are_cut_from_the_newest_backwards_and_share_a_row() -> None:
    data = batching(length=2)
    (batch,) = data.batches(plan(), seed=0, epoch=0)
    assert Counter(said(batch, data)) == Counter([("b", "c"), ("bc", "d"), ("a", "b"), ("c", "c"), ("cc", "a")])


def test_a_position_predicts_as_many_of_the_next_candidates_as_there_are_targets() -> None:
    data = batching()
    (batch,) = data.batches(replace(plan(), targets=2), seed=0, epoch=0)
    of_u = [("a", "b"), ("a", "c"), ("ab", "c"), ("ab", "d"), ("abc", "d")]
    assert said(batch, data) == [*of_u, ("c", "c"), ("c", "a"), ("cc", "a")]
    assert batch.query.size == 5


def test_targets_of_a_window_reach_into_the_newer_one() -> None:
    data = batching(length=2)
    (batch,) = data.batches(replace(plan(), targets=3), seed=0, epoch=0)
    assert Counter(said(batch, data)) == Counter(
        [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("bc", "d"), ("c", "c"), ("c", "a"), ("cc", "a")]
    )


def test_weights_of_several_targets_are_those_of_their_rows() -> None:
    data = batching()
    (batch,) = data.batches(replace(plan(), targets=2, row_weight=0), seed=0, epoch=0)
    np.testing.assert_allclose(batch.task["sample_weight"], [1 / 5] * 5 + [1 / 3] * 3)  # u has five targets, v three


def test_a_query_of_one_row_is_in_no_batch() -> None:
    windows = windows_of(np.array([4, 1, 0, 3]), 2)
    assert [windows.values[a:b].tolist() for a, b in zip(windows.offsets[:-1], windows.offsets[1:], strict=True)] == [
        [1, 2, 3],
        [0, 1],
        [5, 6, 7],
    ]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(2, 5))
def test_each_row_but_a_querys_first_is_a_target_once(counts: list[int], length: int) -> None:
    starts = np.concatenate([[0], np.cumsum(counts)])
    due = [row for low, high in pairwise(starts) for row in range(low + 1, high)]
    if not due:
        with pytest.raises(DataError, match="two interactions"):
            windows_of(np.array(counts), length)
        return
    windows = windows_of(np.array(counts), length)
    pieces = [windows.values[a:b] for a, b in zip(windows.offsets[:-1], windows.offsets[1:], strict=True)]
    assert sorted(row for piece in pieces for row in piece[1:]) == due
    assert all((np.diff(piece) == 1).all() and 2 <= len(piece) <= length + 1 for piece in pieces)


def test_the_longest_histories_come_first_and_the_order_of_the_epoch_is_drawn() -> None:
    rows = {"user": np.repeat(np.arange(40), 1 + np.arange(40) % 7), "item": np.arange(155) % 30, "ts": np.arange(155)}
    data = batching(rows)
    first = list(data.batches(plan(8), seed=0, epoch=0))
    lengths = [batch.query.codes["item"].codes.lengths.tolist() for batch in first]  # type: ignore[union-attr]
    assert all(held == sorted(held, reverse=True) for held in lengths)
    assert lengths != [b.query.codes["item"].codes.lengths.tolist() for b in data.batches(plan(8), seed=0, epoch=1)]  # type: ignore[union-attr]
    assert sum(len(held) for held in lengths) == sum(1 for n in range(40) if n % 7)


def test_the_positives_of_a_query_are_masked_once_for_its_window() -> None:
    data = batching()
    (batch,) = data.batches(plan(mask_positives=True), seed=0, epoch=0)
    positives = batch.task["positives"]
    assert [sorted(positives.take(np.array([i])).values.tolist()) for i in range(2)] == [[0, 1, 2, 3], [0, 1]]
    assert batch.task["positives_row"].tolist() == [0, 0, 0, 1, 1]


def test_weights_are_those_of_the_target_rows() -> None:
    rows = {**ROWS, "w": [9.0, 9.0, 2.0, 3.0, 4.0, 9.0, 5.0, 6.0]}
    data = recs.Interactions.from_table(rows, query="user", candidate="item", timestamp="ts", weight="w")
    query = recs.TowerSpec([recs.History("item", dim=4, max_length=10, encoder=encoder())])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=4)])
    made = Batching(EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, data), data))
    (batch,) = made.batches(plan(), seed=0, epoch=0)
    assert batch.task["sample_weight"].tolist() == [2, 3, 6, 4, 5]
    (batch,) = made.batches(replace(plan(), row_weight=0), seed=0, epoch=0)  # ÷ targets of the query: 3 and 2
    np.testing.assert_allclose(batch.task["sample_weight"], np.array([2 / 3, 1, 2, 2, 2.5]))


def test_dropout_draws_a_mask_for_each_array_that_the_encoder_masks() -> None:
    data = batching({k: v * 200 for k, v in ROWS.items()}, dropout=0.25)
    (batch,) = data.batches(plan(size=10_000), seed=0, epoch=0)
    held = batch.query.codes["item"]
    assert isinstance(held, Sequences)
    assert {name: mask.shape[1] for name, mask in held.keep.items()} == {
        "input": 4,
        "layer_0/attention": 4,
        "layer_0/hidden": 4,
        "layer_0/output": 4,
    }
    drawn = np.concatenate([mask.reshape(-1) for mask in held.keep.values()])
    assert abs(drawn.mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / drawn.size)


def test_sequences_take_rows_with_the_histories_they_read() -> None:
    held = Sequences(Ragged.of([[1, 2, 3], [], [4], [5, 6]]), np.array([2, -1, 5, 3, 0], np.int32))
    taken = held.take(np.array([2, 1, 4]))
    assert taken.values.tolist() == [1, 2, 3, 5, 6]
    assert taken.at.tolist() == [4, -1, 0]
    both = taken.followed_by(Sequences.last(Ragged.of([[7], []])))
    assert both.at.tolist() == [4, -1, 0, 5, -1]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: recs.History("item", dim=4, encoder=recs.GRU()), SpecError, "GRU needs max_length ≥ 2, got None"),
        (
            lambda: recs.History("item", dim=4, max_length=1, encoder=recs.GRU()),
            SpecError,
            "needs max_length ≥ 2, got 1",
        ),
        (
            lambda: recs.History("item", dim=6, max_length=9, encoder=recs.SelfAttention(heads=4)),
            SpecError,
            "heads=4 must divide dim=6",
        ),
        (
            lambda: recs.History("item", dim=6, max_length=9, encoder=recs.SelfAttention(heads=2)),
            SpecError,
            "a head has 3; choose an even dim / heads, or position='learned'",
        ),
        (lambda: recs.History("item", max_length=9, encoder="gru"), SpecError, "encoder is recs.GRU"),  # type: ignore[arg-type]
        (lambda: recs.SelfAttention(activation="gelu"), SpecError, "activation is 'swiglu' or 'relu'"),  # type: ignore[arg-type]
        (lambda: recs.TrainingSpec(targets=2), SpecError, "pass batch_by='sequence', or leave targets out"),
        (lambda: recs.TrainingSpec(batch_by="sequence", targets=0), SpecError, "needs targets ≥ 1"),
        (lambda: recs.GRU(dropout=1), SpecError, "needs 0 ≤ dropout < 1"),
        (lambda: batching(timestamp=None).steps(plan()), DataError, "needs a timestamp column"),
        (
            lambda: batching().steps(BatchPlan(8, "query", recs.RetrievalSpec(negatives="corpus"))),
            SpecError,
            "train with batch_by='sequence'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_batches_by_sequence_need_an_encoder() -> None:
    data = recs.Interactions.from_table(ROWS, query="user", candidate="item", timestamp="ts")
    query = recs.TowerSpec([recs.Categorical("user", dim=4)])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=4)])
    made = Batching(EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, data), data))
    with pytest.raises(SpecError, match="needs one feature that reads the past, with an encoder"):
        made.steps(plan())


def test_an_exported_tower_takes_what_each_row_reads() -> None:
    held = Sequences(Ragged.of([[1, 2, 3], [], [4]]), np.array([1, -1, 3, 2], np.int32))
    arrays = Features(4, {"item": held}).arrays()
    assert arrays["item.values"].tolist() == [1, 2, 4, 1, 2, 3]
    assert arrays["item.offsets"].tolist() == [0, 2, 2, 3, 6]


def test_a_candidate_without_a_row_in_the_historys_table_is_named() -> None:
    """Known to the first fit by its features alone: its place could not be read, and the others would move up."""
    query = recs.TowerSpec([recs.History("item", dim=4, max_length=5, share=None, encoder=encoder())])
    candidate = recs.TowerSpec([recs.Categorical("kind", dim=4)])
    about = {"item": ["a", "b", "c", "d", "z"], "kind": ["x", "y", "x", "y", "x"]}

    def data(items: str) -> recs.Interactions:
        rows = {"user": ["u"] * len(items), "item": list(items), "ts": range(len(items))}
        return recs.Interactions.from_table(rows, query="user", candidate="item", timestamp="ts", candidates=about)

    schema = Schema.learn(query, candidate, data("abcd"))
    later = Batching(EncodedDataset.encode(query, candidate, schema, data("azb")))
    with pytest.raises(DataError, match="'z' of a row has no row in 'table/item_history'"):
        later.steps(plan())
