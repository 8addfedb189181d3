"""Several workers are one process (P6): kinds of negatives × optimizers × ways of batching × encoders. Workers are
threads here; `tests/distributed` has processes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from recs_core_torch import Backend
from torch import nn

import recs_core as recs
from recs_core.conformance.checks.distributed import PLAIN, WORLD, Steps, steps
from recs_core.conformance.context import BackendContext
from recs_core.conformance.expect import LOSS_WORKERS, WEIGHT_WORKERS
from recs_core.conformance.workers import on_workers
from recs_core.conformance.worlds import OPTIMIZERS, World
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.plans import UpdatePlan

ORDERED: dict[str, recs.Encoder | None] = {
    "mean": None,
    "gru": recs.GRU(dropout=0.2),
    "attention": recs.SelfAttention(layers=1, dropout=0.2, time="history"),
}
NEGATIVES: dict[str, dict[str, Any]] = {
    "in-batch": {"logq": True, "remove_accidental_hits": True},
    "uniform": {"num_negatives": 5, "mask_positives": True},
    "mixed": {"num_negatives": 7, "logq": "refined", "hard_negatives": 4},
    "corpus": {"reduction": "sum"},
}


def world(negatives: str, batch_by: str, encoder: str) -> World:
    """A world of seven queries, so that no number of workers divides them, with whatever else may go wrong."""
    order = ORDERED[encoder]
    history = recs.History("item", dim=4, max_length=6 if order else None, encoder=order)
    query = recs.TowerSpec((recs.Categorical("user", dim=4), history, recs.Numeric("age")), layers=(3,), dropout=0.2)
    candidate = recs.TowerSpec((recs.Categorical("item", dim=4), recs.Text("title", dim=3, buckets=16)), layers=(3,))
    made = World(query, candidate, batch_by=batch_by, queries=7, masks=negatives == "mixed")  # type: ignore[arg-type]
    own = {"negatives": negatives, "candidate_bias": True, "learn_temperature": True, "scoring": "cosine"}
    return made.with_(**own, **NEGATIVES[negatives])


def optimizer(name: str) -> recs.Optimizer:
    return dataclasses.replace(OPTIMIZERS[name], clip_norm=0.1, weight_decay=0.01)


def best(model_weights: dict[str, Any], of: World) -> np.ndarray:
    """(9, 5): the candidates that score highest of some queries, asked of a model of these weights in one process."""
    model = BackendContext(Backend()).model(of, "float64", model_weights)
    query, candidate = model.query.embed(of.features("query", 9)), model.candidate.embed(of.candidates())
    lengths = [np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (query, candidate)]
    scores = (query / lengths[0]) @ (candidate / lengths[1]).T / np.exp(model_weights.get("task/log_temperature", 0))
    return np.argsort(-(scores + model_weights.get("task/bias", 0)), axis=1, kind="stable")[:, :5]


def held_to_one_process(of: World, name: str, sizes: tuple[int, ...], number: int) -> None:
    batches, moves = of.batches(number), optimizer(name)
    expected = steps(Backend(), of, moves, batches)
    for size in sizes:
        for got in on_workers(Backend(), size, lambda backend: steps(backend, of, moves, batches)):
            apart = np.abs(np.subtract(got.losses, expected.losses)) / np.maximum(1e-300, np.abs(expected.losses))
            assert apart.max() <= LOSS_WORKERS["float64"], (size, apart)
            for kind in ("weights", "state"):
                found, due = getattr(got, kind), getattr(expected, kind)
                for weight, value in due.items():
                    np.testing.assert_allclose(
                        found[weight], value, rtol=0, atol=WEIGHT_WORKERS["float64"], err_msg=f"{size}: {weight}"
                    )
            np.testing.assert_array_equal(best(got.weights, of), best(expected.weights, of))


@pytest.mark.parametrize(
    ("negatives", "name", "batch_by", "encoder"),
    [
        ("in-batch", "lazy-adam", "interaction", "mean"),
        ("uniform", "row-wise-adagrad", "query", "gru"),
        ("mixed", "adagrad", "sequence", "attention"),
        ("corpus", "dense-adam", "interaction", "gru"),
        ("in-batch", "sgd", "query", "attention"),
    ],
)
def test_two_workers_are_one_process(negatives: str, name: str, batch_by: str, encoder: str) -> None:
    held_to_one_process(world(negatives, batch_by, encoder), name, (2,), 5)


WAYS = ("interaction", "query", "sequence")
PAIRS = [
    pytest.param(
        *(negatives, name, WAYS[(i + j) % 3], list(ORDERED)[(i + 2 * j) % 3]),
        marks=pytest.mark.slow if (i + j) % 4 == 3 else pytest.mark.long,
    )
    for i, negatives in enumerate(NEGATIVES)
    for j, name in enumerate(OPTIMIZERS)
]
"""Every two choices meet in one of these. `.ci/run` takes five: all negatives, all optimizers, all encoders."""


@pytest.mark.parametrize(("negatives", "name", "batch_by", "encoder"), PAIRS)
def test_any_number_of_workers_is_one_process(negatives: str, name: str, batch_by: str, encoder: str) -> None:
    held_to_one_process(world(negatives, batch_by, encoder), name, (1, 2, 3, 4), 100)


CORPUS = World(queries=7, corpus=40).with_(negatives="corpus", candidate_bias=True, learn_temperature=True)
MANY = dataclasses.replace(CORPUS, queries=60)


@pytest.mark.parametrize("own", [{}, {"mask_positives": True, "scoring": "cosine"}, {"remove_accidental_hits": True}])
@pytest.mark.parametrize("batch_by", ["interaction", "query", "sequence"])
def test_a_corpus_larger_than_the_batch_is_scored_by_candidate(batch_by: str, own: dict[str, Any]) -> None:
    """All queries against the own columns: masks, hits and targets of other workers' columns among them."""
    held_to_one_process(dataclasses.replace(CORPUS, batch_by=batch_by).with_(**own), "dense-adam", (2, 3), 6)


def test_a_corpus_smaller_than_the_batch_is_gathered() -> None:
    held_to_one_process(MANY, "adagrad", (2,), 3)


@pytest.mark.parametrize(("of", "travel"), [(CORPUS, "queries"), (MANY, "candidates")])
def test_the_fewer_vectors_travel(of: World, travel: str) -> None:
    def job(backend: Any) -> Counter[str]:
        steps(backend, of, optimizer("adagrad"), of.batches(2))
        return backend.group.sent

    number, width = (of.queries, of.query.output_dim) if travel == "queries" else (of.corpus, of.query.output_dim + 1)
    sent = on_workers(Backend(), 3, job)
    there, back = (
        sum(one[what] for one in sent) for what in (f"vectors of {travel}", f"gradients of vectors of {travel}")
    )
    assert there == back == 2 * (3 - 1) * number * width * 8  # steps, other workers, float64
    summed = sum(one["sums of scores"] for one in sent)
    assert summed == (2 * 3 * (3 - 1) * number * 8 if travel == "queries" else 0)


@pytest.mark.parametrize(("size", "of"), [(2, WORLD), (3, WORLD), (3, CORPUS)])
def test_the_same_number_twice_is_equal_bit_for_bit(size: int, of: World) -> None:
    def job(backend: Any) -> Steps:
        return steps(backend, of, optimizer("adagrad"), of.batches(20))

    runs = [on_workers(Backend(), size, job) for _ in range(2)]
    for first, again in zip(*runs, strict=True):
        assert first.losses == again.losses
        for name, weight in first.weights.items():
            np.testing.assert_array_equal(again.weights[name], weight, err_msg=name)
        assert all((first.weights[n] == runs[0][0].weights[n]).all() for n in first.weights), "workers agree"


def test_more_workers_than_queries_and_columns() -> None:
    held_to_one_process(World(queries=1).with_(negatives="uniform", num_negatives=1), "adagrad", (3,), 4)


def test_in_float32_and_bfloat16_too() -> None:
    for precision in (None, "bf16"):

        def losses(backend: Any, precision: Any = precision) -> list[float]:
            model = BackendContext(backend).model(WORLD)
            trainer = backend.trainer(model, UpdatePlan(OPTIMIZERS["adagrad"], precision))
            return [float(trainer.step(batch, 0.1)) for batch in WORLD.batches(20)]

        alone = losses(Backend())
        for got in on_workers(Backend(), 2, losses):
            np.testing.assert_allclose(got, alone, rtol=1e-5 if precision is None else 1e-2)


def test_a_module_of_ones_own_is_on_every_worker() -> None:
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(12, 3)
            nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(1))

        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return self.table(codes)

    def trained(backend: Any) -> tuple[list[float], dict[str, Any]]:
        of = World(queries=7)
        own = {name: value for name, value in of.weights().items() if not name.startswith(("table/user", "query/"))}
        tower = backend.adopt(Looked().double(), ["user"])
        model = backend.model(tower, of.plans[1], of.retrieval, own, dtype="float64")
        trainer = backend.trainer(model, UpdatePlan(OPTIMIZERS["lazy-adam"]))
        losses = []
        for batch in of.batches(5):
            whole = dataclasses.replace(
                batch.query, codes={"user": batch.rows["table/user"][batch.query.codes["user"]]}
            )
            rows = {name: rows for name, rows in batch.rows.items() if name != "table/user"}
            losses.append(float(trainer.step(dataclasses.replace(batch, query=whole, rows=rows), 0.1)))
        return losses, model.weights()

    losses, weights = trained(Backend())
    for got_losses, got in on_workers(Backend(), 2, trained):
        np.testing.assert_allclose(got_losses, losses, rtol=1e-12)
        for name, value in weights.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_a_module_that_keeps_means_of_what_it_sees_is_refused() -> None:
    def adopted(backend: Any) -> Any:
        module = nn.Sequential(nn.Embedding(12, 3), nn.BatchNorm1d(3))
        own = {name: w for name, w in PLAIN.weights().items() if not name.startswith(("table/user", "query/"))}
        return backend.model(backend.adopt(module, ["user"]), PLAIN.plans[1], PLAIN.retrieval, own)

    with pytest.raises(UnsupportedFeature, match=r"Sequential keeps '1.running_mean' of what it has seen.*LayerNorm"):
        on_workers(Backend(), 2, adopted)


def test_what_lies_on_several_workers_answers_nothing_alone_and_has_no_copy() -> None:
    def asked(backend: Any) -> list[str]:
        model, said = BackendContext(backend).model(WORLD), []
        features = WORLD.features("query", 3)
        for call in (lambda: model.query.embed(features), lambda: model.query(features), lambda: model(WORLD.batch())):
            with pytest.raises(UnsupportedFeature) as refused:
                call()
            said.append(str(refused.value))
        with pytest.raises(UnsupportedFeature, match="has no copy"):
            backend.__reduce__()
        return said

    for said in on_workers(Backend(), 2, asked):
        assert all("its tables lie on several workers" in line and "gathered()" in line for line in said)


def test_a_table_lies_on_each_in_part_and_is_whole_to_others() -> None:
    weights = WORLD.weights()

    def parts(backend: Any) -> tuple[dict[str, int], dict[str, Any]]:
        model = BackendContext(backend).model(WORLD)
        return {name: len(w.parameter) for name, w in model.canonical().items() if w.shape}, model.weights()

    found = on_workers(Backend(), 3, parts)
    for name in ("table/item", "task/bias"):
        assert sum(rows[name] for rows, _ in found) == len(weights[name])
        assert max(rows[name] for rows, _ in found) <= -(-len(weights[name]) // 3)
    for _, whole in found:
        for name, value in weights.items():
            np.testing.assert_array_equal(whole[name], value, err_msg=name)


def test_a_weight_that_is_not_finite_is_refused_by_every_worker() -> None:
    weights = WORLD.weights()
    weights["table/item"][1, 2] = np.nan  # on worker 1

    def refused(backend: Any) -> str:
        with pytest.raises(DataError) as said:
            BackendContext(backend).model(WORLD, "float32", weights)
        return str(said.value)

    assert on_workers(Backend(), 2, refused) == ["weight 'table/item' holds NaN or infinity"] * 2


def test_every_worker_has_the_loss_that_is_not_finite() -> None:
    def loss(backend: Any) -> float:
        model = BackendContext(backend).model(WORLD, "float64")
        if backend.group.rank == 1:
            with torch.no_grad():
                model.canonical()["table/item"].parameter[0] = np.nan
        return float(backend.trainer(model, UpdatePlan(OPTIMIZERS["adagrad"])).step(WORLD.batch(), 0.1))

    assert all(np.isnan(on_workers(Backend(), 2, loss)))
