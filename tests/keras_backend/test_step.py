"""Training steps, against the oracle in float64 and by what must not change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from recs_core.conformance.checks.task import judge
from recs_core.conformance.context import BackendContext
from recs_core.conformance.worlds import World, many_targets
from recs_core.contract.errors import DataError
from recs_core.contract.feature_kinds import Bag, Categorical, History, Numeric
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer, RowWiseAdagrad
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.keras_backend import kernel
from recs_core.keras_backend.backend import Backend
from recs_core.reference import training
from recs_core.reference.optimizers import initial_state

WIDE = World(
    query=TowerSpec(
        (
            Categorical("user", dim=4, num_oov=2),
            History("item", dim=4),
            Numeric("age"),
            Bag("tags", dim=3, pooling="sum"),
        ),
        layers=(5, 3),
        activation="tanh",
        dropout=0.3,
    ),
    candidate=TowerSpec((Categorical("item", dim=4), Numeric("price")), layers=(3,), final_activation="sigmoid"),
    retrieval=RetrievalSpec(learn_temperature=True, mask_positives=True),
    queries=11,
    corpus=40,
    users=50,
)
OPTIMIZERS = (
    Adagrad(0.1, weight_decay=0.01),
    RowWiseAdagrad(0.1, clip_norm=0.5),
    Adam(0.02, weight_decay=0.02, clip_norm=0.3),
    Adam(0.02, dense=True, weight_decay=0.02),
)


def trained(
    backend: Backend, world: World, optimizer: Optimizer, steps: int
) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
    model = backend.model(*world.plans, world.retrieval, world.weights(), dtype="float64")
    trainer = backend.trainer(model, UpdatePlan(optimizer))
    losses = [float(trainer.step(batch, optimizer.learning_rate)) for batch in world.batches(steps)]
    return losses, model.weights(), trainer.state()


def assert_close(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert sorted(got) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'dense', '')}")
def test_steps_are_the_oracles(backend: Backend, optimizer: Optimizer) -> None:
    losses, weights, state = trained(backend, WIDE, optimizer, 3)
    expected = training.trajectory(WIDE.model, optimizer, WIDE.weights(), WIDE.batches(3))
    np.testing.assert_allclose(losses, expected[0], rtol=1e-12)
    assert_close(weights, expected[1])
    assert_close(state, expected[2])


@pytest.mark.parametrize("negatives", ["in-batch", "uniform", "mixed", "corpus"])
def test_steps_by_query_longer_than_a_block(backend: Backend, negatives: str) -> None:
    """More rows than one block of scores holds, the last block ragged, and several targets per row."""
    sampled = 7 if negatives in ("uniform", "mixed") else None
    world = WIDE.with_(batch_by="query", queries=301, negatives=negatives, num_negatives=sampled)
    losses, weights, _ = trained(backend, world, Adagrad(), 1)
    expected = training.trajectory(world.model, Adagrad(), world.weights(), world.batches(1))
    np.testing.assert_allclose(losses, expected[0], rtol=1e-12)
    assert_close(weights, expected[1])


@pytest.mark.parametrize("rows", [1, 3])
def test_many_targets_in_several_blocks(backend: Backend, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(kernel, "BLOCK_SCORES", 0)
    monkeypatch.setattr(kernel, "SMALLEST_BLOCK", rows)
    judge(BackendContext(backend), many_targets())


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:3], ids=lambda o: type(o).__name__)
def test_rows_that_no_batch_names_do_not_move(backend: Backend, optimizer: Optimizer) -> None:
    before = {name: value.astype(np.float64) for name, value in WIDE.weights().items()}
    _, weights, state = trained(backend, WIDE, optimizer, 1)
    first = initial_state(optimizer, before)
    batch = WIDE.batch()
    for name, rows in batch.rows.items():
        others = np.setdiff1d(np.arange(len(before[name])), rows)
        assert len(others)
        np.testing.assert_array_equal(weights[name][others], before[name][others])
        assert (weights[name][rows] != before[name][rows]).any()
        for slot in optimizer.slots:
            np.testing.assert_array_equal(state[f"{name}/{slot}"][others], first[f"{name}/{slot}"][others])


def test_two_runs_and_a_resumed_one_are_equal_bit_for_bit(backend: Backend) -> None:
    world = WIDE.with_(queries=300)
    batches, optimizer = world.batches(4), Adam(0.02)

    def run(weights: Any, state: Any, batches: Any) -> tuple[Any, Any]:
        model = backend.model(*world.plans, world.retrieval, weights)
        trainer = backend.trainer(model, UpdatePlan(optimizer))
        if state is not None:
            trainer.load_state(state)
        for batch in batches:
            trainer.step(batch, 0.02)
        return model.weights(), trainer.state()

    whole = run(world.weights(), None, batches)
    again = run(world.weights(), None, batches)
    resumed = run(*run(world.weights(), None, batches[:2]), batches[2:])
    for other in (again, resumed):
        for got, expected in zip(other, whole, strict=True):
            for name in expected:
                np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


def test_arrays_handed_in_and_out_are_not_written_to(backend: Backend) -> None:
    given = WIDE.weights()
    copies = {name: value.copy() for name, value in given.items()}
    model = backend.model(*WIDE.plans, WIDE.retrieval, given)
    trainer = backend.trainer(model, UpdatePlan(Adam()))
    taken, state = model.weights(), trainer.state()
    trainer.load_state(state)
    trainer.step(WIDE.batch(), 0.1)
    for name, copy in copies.items():
        np.testing.assert_array_equal(given[name], copy)
        np.testing.assert_array_equal(taken[name], copy)
    assert all((value == 0).all() for value in state.values())


def test_a_batch_without_bias_codes_is_refused(backend: Backend) -> None:
    world = WIDE.with_(candidate_bias=False)
    model = backend.model(*WIDE.plans, WIDE.retrieval, WIDE.weights())
    with pytest.raises(DataError, match="bias_codes"):
        backend.trainer(model, UpdatePlan(Adagrad())).step(world.batch(), 0.1)
