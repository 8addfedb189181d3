"""On JAX models of equal specs share their compiled programs, and an adopted module goes with its model."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core import datasets
from recs_core.conformance.worlds import World
from recs_core.contract.optimizers import Adam
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.keras_backend.backend import Backend

WORLD = World(queries=11, users=37)


@pytest.fixture(autouse=True)
def _on_jax(backend: Backend) -> None:
    if backend.engine != "jax":
        pytest.skip("programs are compiled by shape on the jax engine alone")


def compiled_by(work: Callable[[], Any]) -> int:
    """How many programs JAX compiles meanwhile."""
    from jax import monitoring

    events: list[str] = []

    def listener(event: str, *_: Any, **__: Any) -> None:
        events.append(event)

    monitoring.register_event_duration_secs_listener(listener)
    try:
        work()
    finally:
        monitoring.unregister_event_duration_listener(listener)
    return sum("backend_compile" in event for event in events)


def test_a_second_model_compiles_nothing(backend: Backend) -> None:
    def trained(rate: float) -> None:
        model = backend.model(*WORLD.plans, WORLD.retrieval, WORLD.weights())
        backend.trainer(model, UpdatePlan(Adam(rate))).step(WORLD.batch(), rate)
        model.query.embed(WORLD.features("query", 5))

    trained(0.1)
    assert compiled_by(lambda: trained(0.01)) == 0


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize(
    "batches",
    [{"batch_by": "interaction", "batch_size": 250}, {"batch_by": "query", "batch_size": 70}],
    ids=lambda b: b["batch_by"],
)
def test_a_fit_compiles_few_programs(backend: Backend, batches: dict[str, Any], history: bool) -> None:
    """Vectors, kernel, update: whatever the epochs, and with a last batch that is smaller. How many codes and masked
    pairs a small last batch of queries with histories would hold, were it full, is a guess; so that case has none."""
    data = datasets.load("synthetic", num_queries=300, num_candidates=173, num_interactions=2000)
    user, item = data.query_name, data.candidate_name
    features = [recs.History(item, dim=8)] if history else [recs.Categorical(user, dim=8)]
    towers = recs.TowerSpec(features), recs.TowerSpec([recs.Categorical(item, dim=8)])
    model = recs.TwoTower(*towers, backend="keras[jax]")
    assert (
        compiled_by(lambda: model.fit(data, epochs=2, drop_last=history and batches["batch_by"] == "query", **batches))
        <= 6
    )
    assert compiled_by(lambda: model.recommend(data.query_ids.ids[:9].to_pylist(), k=3)) <= 4


def test_the_last_smaller_batch_runs_the_same_programs(backend: Backend) -> None:
    world = World(queries=80, users=70, corpus=90)
    model = backend.model(*world.plans, world.retrieval, world.weights())
    trainer = backend.trainer(model, UpdatePlan(Adam(0.01)))
    trainer.step(world.batch(), 0.01)
    last = replace(replace(world, queries=13).batch(1), full=(80, 80))
    assert compiled_by(lambda: trainer.step(last, 0.01)) == 0


def test_what_a_batch_is_padded_to_changes_no_number(backend: Backend) -> None:
    """As the last one of an epoch of larger ones, or by itself."""
    world = World(queries=13, users=70, corpus=90)
    found = []
    for full in ((0, 0), (80, 80)):
        model = backend.model(*world.plans, world.retrieval, world.weights(), dtype="float64")
        trainer = backend.trainer(model, UpdatePlan(Adam(0.01)))
        loss = float(trainer.step(replace(world.batch(), full=full), 0.01))
        found.append({**model.weights(), "loss": np.asarray(loss)})
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_an_option_that_xla_does_not_know_is_left_out(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    from recs_core.keras_backend.engines import jax as engine

    try:
        engine._quick.cache_clear()
        assert engine._quick() == engine.QUICK  # or the suite takes twice as long
        monkeypatch.setattr(engine, "QUICK", {**engine.UNOPTIMIZED, "xla_cpu_no_such_option": True})
        engine._quick.cache_clear()
        assert engine._quick() == engine.UNOPTIMIZED
    finally:
        engine._quick.cache_clear()


def test_an_adopted_module_is_not_held(backend: Backend) -> None:
    import keras

    def used() -> Any:
        module = keras.Sequential([keras.layers.Embedding(40, 4), keras.layers.Dense(3)])
        module(np.zeros(1, np.int32))
        spec = RetrievalSpec(logq=False, remove_accidental_hits=False, candidate_bias=False)
        weights = {n: w for n, w in WORLD.weights().items() if n == "table/item" or n.startswith("candidate/")}
        model = backend.model(backend.adopt(module, ["user"]), WORLD.plans[1], spec, weights)
        model.query.embed(WORLD.features("query", 5))
        return weakref.ref(module)

    module = used()
    gc.collect()
    assert module() is None
