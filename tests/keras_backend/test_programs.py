"""On JAX models of equal specs share their compiled programs, and an adopted module goes with its model."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

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


def test_a_second_model_compiles_nothing(backend: Backend) -> None:
    import jax

    def trained(rate: float) -> None:
        model = backend.model(*WORLD.plans, WORLD.retrieval, WORLD.weights())
        backend.trainer(model, UpdatePlan(Adam(rate))).step(WORLD.batch(), rate)
        model.query.embed(WORLD.features("query", 5))

    trained(0.1)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    trained(0.01)
    assert [event for event in compiled if "backend_compile" in event] == []


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
