"""Steps: no retracing, rows untouched that no batch names, the oracle's weights."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow.backend import create
from recs_core_tensorflow.model import Model
from recs_core_tensorflow.step import Step

from recs_core import datasets
from recs_core.conformance.worlds import OPTIMIZERS, WIDE, World
from recs_core.contract import weights as canonical
from recs_core.contract.errors import DataError
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.optimizers import Adagrad
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import BatchPlan, DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.reference import training as oracle

QUERY = TowerSpec((Categorical("user_id", dim=8),), layers=(4,), activation="tanh")
CANDIDATE = TowerSpec((Categorical("movie_id", dim=8),), layers=(4,), activation="tanh")
PLANS = (TowerPlan.of("query", QUERY), TowerPlan.of("candidate", CANDIDATE))


def model_of(world: World, dtype: DType = "float32") -> Model:
    plans = (TowerPlan.of("query", world.query), TowerPlan.of("candidate", world.candidate))
    return create().model(*plans, world.retrieval, world.weights(), dtype=dtype)


def report_data(retrieval: RetrievalSpec) -> tuple[Batching, dict[str, np.ndarray]]:
    train = datasets.load("report")
    schema = Schema.learn(QUERY, CANDIDATE, train)
    start = canonical.initial(*PLANS, retrieval, schema.table_rows, len(schema.candidates), seed=1)
    return Batching(EncodedDataset.encode(QUERY, CANDIDATE, schema, train)), start


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The steps that are traced from now on."""
    found: list[Step] = []
    compute = Step.__call__

    def noted(self: Step, *given: Any) -> Any:
        found.append(self)
        return compute(self, *given)

    monkeypatch.setattr(Step, "__call__", noted)
    return found


def test_batches_of_any_size_run_one_trace(traced: list[Step]) -> None:
    retrieval = RetrievalSpec()
    data, start = report_data(retrieval)
    trainer = create().trainer(create().model(*PLANS, retrieval, start), UpdatePlan(Adagrad(epsilon=1e-6)))
    sizes = set()
    for epoch, size in enumerate((16, 16, 7)):  # 50 rows: the last batches hold 2 and 1
        for batch in data.batches(BatchPlan(size, "interaction", retrieval), seed=0, epoch=epoch):
            trainer.step(batch, 0.1)
            sizes.add(batch.query.size)
    assert sizes == {16, 7, 2, 1}
    assert len(traced) == 1


def test_models_of_equal_plans_share_a_trace(traced: list[Step]) -> None:
    """Tables of another size, other weights: each one's steps are the oracle's."""
    optimizer = Adagrad(0.01, initial_accumulator=0.7)  # of no other test's trace
    for world in (World(users=20), World(users=70, seed=4), World(users=20, seed=5)):
        model, batches = model_of(world, "float64"), world.batches(3)
        trainer = create().trainer(model, UpdatePlan(optimizer))
        losses = [float(trainer.step(batch, 0.01)) for batch in batches]
        wanted, weights, _ = oracle.trajectory(world.model, optimizer, world.weights(), batches)
        np.testing.assert_allclose(losses, wanted, rtol=1e-10)
        for name, value in model.weights().items():
            np.testing.assert_allclose(value, weights[name], rtol=1e-9, atol=1e-12)
    assert len(traced) == 1


def test_a_trace_that_is_shared_holds_no_weights() -> None:
    """What is kept for the next model must not keep the last one's tables."""
    world = World(users=20)
    model = model_of(world)
    create().trainer(model, UpdatePlan(Adagrad(0.01))).step(world.batches(1)[0], 0.01)
    table = weakref.ref(model.variables["table/user"])
    del model
    gc.collect()
    assert table() is None


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "dense-adam"])
def test_rows_that_a_batch_does_not_name_stay(name: str) -> None:
    world = World()
    model = model_of(world)
    trainer = create().trainer(model, UpdatePlan(OPTIMIZERS[name]))
    trainer.step(world.batch(0), 0.1)
    before, state = model.weights(), trainer.state()
    batch = world.batch(1)
    trainer.step(batch, 0.1)
    after, state_after = model.weights(), trainer.state()
    for table, rows in batch.rows.items():
        others = np.setdiff1d(np.arange(len(before[table])), rows)
        np.testing.assert_array_equal(before[table][others], after[table][others])
        assert (before[table][rows] != after[table][rows]).any()
        for slot in OPTIMIZERS[name].slots:
            np.testing.assert_array_equal(state[f"{table}/{slot}"][others], state_after[f"{table}/{slot}"][others])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_float64_run_equals_the_oracle(name: str) -> None:
    world = WIDE.with_(scoring="cosine", logq=True, candidate_bias=True, learn_temperature=True)
    model = model_of(world, "float64")
    trainer = create().trainer(model, UpdatePlan(OPTIMIZERS[name]))
    batches = world.batches(5)
    losses = [float(trainer.step(batch, OPTIMIZERS[name].learning_rate)) for batch in batches]
    wanted, weights, state = oracle.trajectory(world.model, OPTIMIZERS[name], world.weights(), batches)
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)
    for got, expected in ((model.weights(), weights), (trainer.state(), state)):
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-8, atol=1e-10, err_msg=key)


def test_state_of_another_shape_is_refused() -> None:
    world = World()
    trainer = create().trainer(model_of(world), UpdatePlan(Adagrad()))
    state = trainer.state()
    state["table/user/accumulator"] = state["table/user/accumulator"][:2]
    with pytest.raises(DataError, match="table/user/accumulator"):
        trainer.load_state(state)
