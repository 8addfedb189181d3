"""Batches hold what their plan says: every row once, the right negatives, no future and no target in a history."""

from __future__ import annotations

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.batch import Batch, Ragged
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric, Text
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.data import shuffle
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.negatives import accidental_hits, columns_holding, sampling_probability
from recs_core.data.schema import Schema

QUERY = TowerSpec([Categorical("user", dim=4), History("item", dim=4)])
CANDIDATE = TowerSpec(
    [Categorical("item", dim=4), Bag("tags", dim=2), Numeric("price"), Text("title", dim=3, buckets=16)]
)


def interactions(rows: int = 200, users: int = 12, items: int = 9) -> recs.Interactions:
    random = np.random.default_rng(3)
    names = [f"i{n}" for n in range(items)]
    side = {
        "item": names,
        "tags": [[f"t{n % 3}"] * (n % 2) + ["all"] for n in range(items)],
        "price": [float(n) for n in range(items)],
        "title": [f"red thing {n}" for n in range(items)],
    }
    table = {
        "user": random.integers(0, users, rows),
        "item": [names[n] for n in random.integers(0, items, rows)],
        "t": random.integers(0, 40, rows).astype(float),
    }
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", candidates=side)


@pytest.fixture(scope="module")
def data() -> EncodedDataset:
    source = interactions()
    return EncodedDataset.encode(QUERY, CANDIDATE, Schema.learn(QUERY, CANDIDATE, source), source)


def batches(
    data: EncodedDataset, batch_by: str, seed: int = 0, epoch: int = 0, size: int = 32, **spec: object
) -> list[Batch]:
    options = {"num_negatives": 5} if spec.get("negatives") in ("uniform", "mixed") else {}
    plan = BatchPlan(size, batch_by, RetrievalSpec(**{**options, **spec}))  # type: ignore[arg-type]
    return list(Batching(data).batches(plan, seed=seed, epoch=epoch))


def item_rows(batch: Batch, side: str) -> np.ndarray | Ragged:
    """Rows of the item table that one side of the batch reads."""
    codes = (batch.query if side == "query" else batch.candidate).codes["item"]
    rows = batch.rows["table/item"]
    return Ragged(rows[codes.values], codes.offsets) if isinstance(codes, Ragged) else rows[codes]


def targets(batch: Batch) -> np.ndarray:
    """(T, 2): query's user-table row and target's candidate code."""
    user = batch.rows["table/user"][batch.query.codes["user"]]
    code = batch.task["candidate_ids"][batch.task["target_candidate"]]
    return np.stack([user[batch.task["target_query"]], code], 1)


@pytest.mark.parametrize("negatives", ["in-batch", "uniform", "mixed", "corpus"])
def test_by_interaction_every_row_comes_once(data: EncodedDataset, negatives: str) -> None:
    got = np.concatenate([targets(b) for b in batches(data, "interaction", negatives=negatives)])
    user = data.schema.vocabularies["table/user"].encode(data.schema.queries.ids) + 1
    expected = np.stack([user[data.query_codes], data.candidate_codes], 1)
    assert sorted(map(tuple, got)) == sorted(map(tuple, expected))


@pytest.mark.parametrize("batch_by", ["interaction", "query"])
def test_the_target_column_holds_the_target(data: EncodedDataset, batch_by: str) -> None:
    for negatives in ("in-batch", "uniform", "mixed", "corpus"):
        for batch in batches(data, batch_by, negatives=negatives):
            rows = item_rows(batch, "candidate")
            item = data.schema.vocabularies["table/item"].encode(data.schema.candidates.ids) + 1
            assert (rows == item[batch.task["candidate_ids"]]).all()
            assert (batch.rows["task/bias"][batch.bias_codes] == batch.task["candidate_ids"]).all()


def test_history_by_interaction_is_strictly_earlier_and_never_the_target(data: EncodedDataset) -> None:
    item = data.schema.vocabularies["table/item"].encode(data.schema.candidates.ids) + 1
    user = data.schema.vocabularies["table/user"].encode(data.schema.queries.ids) + 1
    assert data.timestamps is not None
    seen = set()
    for batch in batches(data, "interaction"):
        history = item_rows(batch, "query")
        for i, (who, code) in enumerate(targets(batch)):
            got = sorted(history.values[history.offsets[i] : history.offsets[i + 1]])
            mine = user[data.query_codes] == who
            possible = []
            for t in data.timestamps[mine & (data.candidate_codes == code)]:
                earlier = data.candidate_codes[mine & (data.timestamps < t)]
                possible.append(sorted(item[earlier[earlier != code]]))
            assert got in possible
            seen.add(len(got))
    assert len(seen) > 3


def test_by_query_splits_each_querys_candidates_into_history_and_targets(data: EncodedDataset) -> None:
    item = data.schema.vocabularies["table/item"].encode(data.schema.candidates.ids) + 1
    user = data.schema.vocabularies["table/user"].encode(data.schema.queries.ids) + 1
    for batch in batches(data, "query", size=5, negatives="corpus"):
        history = item_rows(batch, "query")
        who = batch.rows["table/user"][batch.query.codes["user"]]
        for q in range(batch.query.size):
            inputs = set(history.values[history.offsets[q] : history.offsets[q + 1]])
            wanted = set(item[targets(batch)[batch.task["target_query"] == q][:, 1]])
            everything = set(item[data.candidate_codes[user[data.query_codes] == who[q]]])
            assert inputs | wanted == everything and not inputs & wanted
            assert len(inputs) == len(everything) // 2
            columns = batch.task["positives"]
            masked = batch.task["candidate_ids"][columns.values[columns.offsets[q] : columns.offsets[q + 1]]]
            assert set(item[masked]) == inputs


def test_masked_positives_are_all_of_the_querys(data: EncodedDataset) -> None:
    user = data.schema.vocabularies["table/user"].encode(data.schema.queries.ids) + 1
    for batch in batches(data, "interaction", negatives="mixed", mask_positives=True):
        positives, ids = batch.task["positives"], batch.task["candidate_ids"]
        for q, (who, _) in enumerate(targets(batch)):
            liked = set(data.candidate_codes[user[data.query_codes] == who])
            got = set(positives.values[positives.offsets[q] : positives.offsets[q + 1]].tolist())
            assert got == {column for column, code in enumerate(ids) if code in liked}


def test_columns_holding_a_hand_worked_case() -> None:
    columns = np.array([7, 3, 7, 5], np.int32)
    found = columns_holding(Ragged(np.array([7, 9, 5, 3], np.int32), np.array([0, 2, 2, 4], np.int32)), columns)
    assert found.values.tolist() == [0, 2, 3, 1]
    assert found.offsets.tolist() == [0, 2, 2, 4]


def test_sampling_probability_by_hand() -> None:
    counts = np.array([6, 3, 1, 0])
    columns = np.array([0, 2], np.int32)
    assert sampling_probability(RetrievalSpec(), columns, counts, 2).tolist() == [0.6, 0.1]
    mixed = RetrievalSpec(negatives="mixed", num_negatives=6)
    assert sampling_probability(mixed, columns, counts, 2) == pytest.approx(
        [0.25 * 0.6 + 0.75 * 0.25, 0.25 * 0.1 + 0.75 * 0.25]
    )
    uniform = RetrievalSpec(negatives="uniform", num_negatives=6)
    assert sampling_probability(uniform, columns, counts, 2).tolist() == [0.25, 0.25]
    assert sampling_probability(RetrievalSpec(logq=False), columns, counts, 2) is None


def test_weights_are_rows_to_the_alpha_minus_one_times_recency(data: EncodedDataset) -> None:
    plan = BatchPlan(1000, "interaction", RetrievalSpec(), row_weight=0.5, recency_days=1 / 86_400 * 10)
    (batch,) = Batching(data).batches(plan, seed=0, epoch=0)
    got = sorted(batch.task["sample_weight"])
    n = np.bincount(data.query_codes)[data.query_codes]
    age = data.timestamps.max() - data.timestamps
    assert got == pytest.approx(sorted(n**-0.5 * (0.5 ** (age / 10) + 0.02)))


def test_same_seed_same_batches_other_epoch_other_order(data: EncodedDataset) -> None:
    one, two = batches(data, "query", negatives="uniform"), batches(data, "query", negatives="uniform")
    other = batches(data, "query", epoch=1, negatives="uniform")
    for a, b in zip(one, two, strict=True):
        assert all((a.rows[name] == b.rows[name]).all() for name in a.rows)
        assert (a.task["candidate_ids"] == b.task["candidate_ids"]).all()
    assert any(
        a.task["candidate_ids"].tolist() != b.task["candidate_ids"].tolist() for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("batch_by", ["interaction", "query"])
def test_an_epoch_can_begin_anywhere(data: EncodedDataset, batch_by: str) -> None:
    plan, made = BatchPlan(4, batch_by, RetrievalSpec()), Batching(data)  # type: ignore[arg-type]
    whole = list(made.batches(plan, seed=0, epoch=1))
    left = list(made.batches(plan, seed=0, epoch=1, start=2))
    assert len(left) == len(whole) - 2 > 0
    for one, other in zip(left, whole[2:], strict=True):
        np.testing.assert_array_equal(targets(one), targets(other))
    assert not list(made.batches(plan, seed=0, epoch=1, start=len(whole)))


def test_codes_stay_within_the_batchs_rows_and_whole_means_all(data: EncodedDataset) -> None:
    for negatives in ("in-batch", "corpus"):
        for batch in batches(data, "interaction", negatives=negatives):
            for name, rows in batch.rows.items():
                assert (np.diff(rows) > 0).all()
                size = len(data.schema.candidates) if name == "task/bias" else data.schema.table_rows[name]
                assert (name in batch.whole) <= (len(rows) == size)
            assert ("table/item" in batch.whole) == (negatives == "corpus")


@pytest.mark.parametrize("negatives", ["in-batch", "uniform", "mixed"])
def test_accidental_hits_are_pairs_of_equal_codes(data: EncodedDataset, negatives: str) -> None:
    for batch in batches(data, "interaction", negatives=negatives):
        ids, column, start = (batch.task[name] for name in ("candidate_ids", "target_candidate", "negatives_from"))
        pairs = [(t, c) for t in range(len(column)) for c in range(start, len(ids)) if c != column[t]]
        hits = sum(ids[column[t]] == ids[c] for t, c in pairs)
        assert accidental_hits(batch.task) == (hits, len(pairs))


def test_pools_change_the_order_and_nothing_else(data: EncodedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "BLOCK", 16)

    def rows(pool: int | None) -> list[tuple[int, ...]]:
        plan = BatchPlan(32, "interaction", RetrievalSpec(logq=False), pool_rows=pool)
        of_batch = [
            list(zip(batch.rows["table/user"][batch.query.codes["user"]], item_rows(batch, "candidate"), strict=True))
            for batch in Batching(data).batches(plan, seed=5, epoch=2)
        ]
        return [pair for pairs in of_batch for pair in pairs]

    everything = rows(None)
    assert rows(len(data)) == rows(10**9) == everything
    assert rows(48) != everything and sorted(rows(48)) == sorted(everything)
