"""Shares together are the batch: by the oracle, every loss and gradient of a batch is the sum over its shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import recs_core as recs
from recs_core.conformance.worlds import WIDE, World
from recs_core.contract.batch import Batch, Features, Ragged, Sequences
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.rows import held
from recs_core.contract.training import TrainingSpec
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.distributed.rows import own_places, own_rows
from recs_core.distributed.share import edges, query_edges, share
from recs_core.reference import task, towers, training
from recs_core.reference.training import Model, on_whole_tables

SIZES = (1, 2, 3, 4)


def shares(batch: Batch, model: Model, size: int) -> list[Batch]:
    plans = {"query": TowerPlan.of("query", model.query), "candidate": TowerPlan.of("candidate", model.candidate)}
    return [share(batch, rank, size, reduction=model.retrieval.reduction, **plans) for rank in range(size)]


def gradients(model: Model, weights: Any, own: list[Batch]) -> tuple[float, dict[str, NDArray[Any]]]:
    """What `training.gradients` says of the batch, worker by worker: columns go to all, their gradients come back."""
    spec = replace(model.retrieval, reduction="sum")
    sides = (("query", model.query), ("candidate", model.candidate))
    read = [[on_whole_tables(tower, part.side(side), part, weights) for part in own] for side, tower in sides]
    made = [
        [towers.forward(tower, side, features, weights) for features in of]
        for (side, tower), of in zip(sides, read, strict=True)
    ]
    columns = np.concatenate([vectors for vectors, _ in made[1]])
    bias_rows = [None if part.bias_codes is None else part.rows["task/bias"][part.bias_codes] for part in own]
    bias = None if bias_rows[0] is None else weights["task/bias"][np.concatenate(bias_rows)]
    temperature = float(weights["task/log_temperature"]) if "task/log_temperature" in weights else None
    results = [
        task.loss_and_gradients(spec, x, columns, bias, temperature, **part.task)
        for (x, _), part in zip(made[0], own, strict=True)
    ]
    cuts = np.cumsum([part.candidate.size for part in own])[:-1]
    of_columns = np.split(sum(result.candidate for result in results), cuts)
    slopes = [result.query for result in results], of_columns
    out = {name: np.zeros(np.shape(weight)) for name, weight in weights.items()}
    for (side, tower), features, forward, slope in zip(sides, read, made, slopes, strict=True):
        for own_features, (_, trace), gradient in zip(features, forward, slope, strict=True):
            found = towers.backward(tower, side, own_features, weights, trace=trace, gradient=gradient)
            for name, value in found.items():
                out[name] += value
    if bias is not None:
        np.add.at(out["task/bias"], np.concatenate(bias_rows), sum(result.bias for result in results))
    if temperature is not None:
        out["task/log_temperature"] += sum(result.log_temperature for result in results)
    return sum(result.loss for result in results), out


ORDERED = recs.TowerSpec(
    (recs.History("item", dim=4, max_length=6, encoder=recs.GRU()),), layers=(3,), final_activation="tanh"
)
TIMED = recs.TowerSpec(
    (recs.History("item", dim=4, max_length=6, encoder=recs.SelfAttention(heads=1, time="request")),), layers=(3,)
)
HARD = {"negatives": "mixed", "num_negatives": 7, "hard_negatives": 3, "reduction": "sum"}
WORLDS = {
    "in-batch, weights, bias, learned temperature": WIDE.with_(
        batch_by="query", logq=True, candidate_bias=True, learn_temperature=True, scoring="cosine", queries=7
    ),
    "accidental hits": World(queries=11).with_(remove_accidental_hits=True),
    "uniform": WIDE.with_(negatives="uniform", num_negatives=5, candidate_bias=True),
    "mixed, known positives, hard": World(queries=5).with_(**HARD, mask_positives=True),
    "refined, a score mask": World(queries=5, masks=True, batch_by="query").with_(logq="refined"),
    "corpus": WIDE.with_(negatives="corpus", candidate_bias=True),
    "a row of positives for several": World(query=ORDERED, batch_by="sequence").with_(mask_positives=True),
    "times": World(query=TIMED, queries=6),
    "dropout": replace(
        WIDE, query=replace(WIDE.query, dropout=0.4), candidate=replace(WIDE.candidate, dropout=0.3)
    ),
    "an encoder's dropout": World(query=replace(ORDERED, features=(
        recs.History("item", dim=4, max_length=6, encoder=recs.SelfAttention(heads=1, dropout=0.3)),
    ))),
    "fewer queries than workers": World(queries=2),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WORLDS)
def test_shares_together_are_the_batch(name: str, size: int) -> None:
    world = WORLDS[name]
    batch, weights = world.batch(), {name: np.float64(weight) for name, weight in world.weights().items()}
    loss, expected = training.gradients(world.model, weights, batch)
    got, found = gradients(world.model, weights, shares(batch, world.model, size))
    assert got == pytest.approx(loss, rel=1e-13)
    for weight, value in expected.items():
        np.testing.assert_allclose(found[weight], value, rtol=0, atol=1e-13, err_msg=weight)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch_by", ["interaction", "query", "sequence"])
def test_of_real_batches_too_impressions_among_them(batch_by: str, size: int) -> None:
    random = np.random.default_rng(5)
    rows, item = 60, random.integers(0, 9, 60)
    shown = [[int(other) for other in random.integers(0, 9, n % 4) if other != item[n]] for n in range(rows)]
    table = {
        "user": random.integers(0, 7, rows), "item": item, "t": np.arange(rows, dtype=float),
        "w": random.random(rows), "shown": shown,
    }  # fmt: skip
    source = recs.Interactions.from_table(
        table, query="user", candidate="item", timestamp="t", weight="w", negatives="shown"
    )
    encoder = recs.SelfAttention() if batch_by == "sequence" else None
    features = [recs.History("item", dim=4, max_length=6 if encoder else None, encoder=encoder)]
    query = recs.TowerSpec(features if encoder else [recs.Categorical("user", dim=4), *features], layers=[3])
    candidate = recs.TowerSpec([recs.Categorical("item", dim=4)], layers=[3])
    spec = RetrievalSpec(mask_positives=True)
    model = World(query, candidate, spec, corpus=9, users=7)
    plan = BatchPlan.of(TrainingSpec(batch_size=23 if batch_by == "interaction" else 5, batch_by=batch_by), spec)
    data = EncodedDataset.encode(query, candidate, Schema.learn(query, candidate, source), source)
    weights = {name: np.float64(weight) for name, weight in model.weights().items()}
    for batch in Batching(data).batches(plan, seed=1, epoch=0):
        loss, expected = training.gradients(model.model, weights, batch)
        own = shares(batch, model.model, size)
        got, found = gradients(model.model, weights, own)
        assert got == pytest.approx(loss, rel=1e-12)
        for weight, value in expected.items():
            np.testing.assert_allclose(found[weight], value, rtol=0, atol=1e-12, err_msg=weight)
        if batch_by == "sequence":
            codes = [part.query.codes["item"] for part in own]
            whole = batch.query.codes["item"]
            assert isinstance(whole, Sequences)
            lengths = [held.codes.lengths for held in codes if isinstance(held, Sequences)]
            np.testing.assert_array_equal(np.concatenate(lengths), whole.codes.lengths)  # each window once, and whole


def test_a_share_by_hand() -> None:
    rows = {"table/u": np.array([2, 4, 9], np.int32), "task/bias": np.array([0, 5], np.int32)}
    query = Features(3, {"u": np.array([2, 0, 1], np.int32)})
    candidate = Features(3, dense={"x": np.array([[1.0], [2.0], [3.0]])})
    given: Any = {"sample_weight": np.array([1.0, 2.0, 5.0]), "score_mask": np.eye(3, dtype=bool)}
    batch = Batch(rows, query, candidate, given, bias_codes=np.array([1, 0, 1], np.int32))
    plans = {
        "query": TowerPlan.of("query", recs.TowerSpec([recs.Categorical("u", dim=2)])),
        "candidate": TowerPlan.of("candidate", recs.TowerSpec([recs.Numeric("x")], layers=[2])),
    }
    first, second = (share(batch, rank, 2, reduction="mean", **plans) for rank in (0, 1))
    assert first.query.codes["u"].tolist() == [0] and first.rows["table/u"].tolist() == [9]
    assert second.query.codes["u"].tolist() == [0, 1] and second.rows["table/u"].tolist() == [2, 4]
    assert first.candidate.dense["x"].tolist() == [[1.0]] and second.candidate.dense["x"].tolist() == [[2.0], [3.0]]
    assert first.rows["task/bias"].tolist() == [5] and second.rows["task/bias"].tolist() == [0, 5]
    assert second.bias_codes is not None and second.bias_codes.tolist() == [0, 1]
    assert first.task["target_query"].tolist() == [0] and first.task["target_candidate"].tolist() == [0]
    assert second.task["target_query"].tolist() == [0, 1] and second.task["target_candidate"].tolist() == [1, 2]
    assert first.task["sample_weight"].tolist() == [1 / 8] and second.task["sample_weight"].tolist() == [2 / 8, 5 / 8]
    assert second.task["score_mask"].tolist() == [[False, True, False], [False, False, True]]


def test_weights_of_zero_stay_zero_and_a_sum_stays_a_sum() -> None:
    batch = World().batch()
    plans = dict(zip(("query", "candidate"), World().plans, strict=True))
    nothing = replace(batch, task={**batch.task, "sample_weight": np.zeros(8)})  # type: ignore[typeddict-item]
    assert share(nothing, 1, 2, reduction="mean", **plans).task["sample_weight"].tolist() == [0.0] * 4
    assert "sample_weight" not in share(batch, 1, 2, reduction="sum", **plans).task


def test_a_history_is_read_on_one_worker() -> None:
    read = Sequences(Ragged.of([[1, 2, 3, 4, 5], [6], [7, 8]]), np.array([0, 1, 2, 3, 4, 5, -1, 6, 7], np.int32))
    features = Features(9, {"h": read})
    assert query_edges(features, 2).tolist() == [0, 5, 9]  # 4 lies within the first
    assert query_edges(features, 3).tolist() == [0, 5, 6, 9]
    assert query_edges(features, 4).tolist() == [0, 5, 5, 6, 9]
    assert query_edges(Features(0), 2).tolist() == [0, 0, 0]


def test_where_rows_lie() -> None:
    table = np.arange(14).reshape(7, 2)
    assert own_rows(table, 1, 3).tolist() == [[2, 3], [8, 9]]
    assert [held(7, rank, 3) for rank in range(3)] == [3, 2, 2] and held(1, 2, 3) == 0
    assert own_places(np.array([0, 1, 4, 6, 5]), 1, 3).tolist() == [0, 1]
    assert edges(7, 3).tolist() == [0, 2, 4, 7] and edges(1, 3).tolist() == [0, 0, 0, 1]
    for size in SIZES:  # every row on one worker, where `own_rows` has it
        for rank in range(size):
            own = own_rows(table, rank, size)
            rows = np.arange(7)
            np.testing.assert_array_equal(own[own_places(rows, rank, size)], table[rows[rows % size == rank]])
