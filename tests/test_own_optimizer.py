"""An optimizer of one's own: a class that no backend has heard of trains, is saved and trains on, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core import datasets
from recs_core.conformance.worlds import World
from recs_core.contract.errors import BundleError, SpecError, UnsupportedFeature
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.reference import training
from recs_core.reference.backend import OracleBackend
from tests.test_own_feature import BACKENDS, loaded

TRAINED = BACKENDS[1:]
"""The oracle has the formulas of the optimizers that recs-core brings, written from docs/meanings.md, and no others."""


@dataclass(frozen=True)
class RMSprop(recs.Optimizer):
    """v ← ρv + (1 − ρ)g²; w ← w − lr·g / √(v + 10⁻⁶)."""

    rho: float = 0.9

    @property
    def slots(self) -> tuple[str, ...]:
        return ("v",)

    def direction(self, g: Any, slots: Any, scalars: Any, xp: Any) -> Any:
        v = self.rho * slots["v"] + (1 - self.rho) * g * g
        return g / xp.sqrt(v + 1e-6), {"v": v}


@pytest.mark.parametrize("backend", TRAINED, ids=str)
def test_steps_are_as_by_hand(backend: str) -> None:
    """Rows of a table that the batch does not name stay; the others move by the formula, written here in NumPy."""
    world = World(users=20)
    weights, state = {n: np.float64(w) for n, w in world.weights().items()}, {}
    made = loaded(backend)
    plans = TowerPlan.of("query", world.query), TowerPlan.of("candidate", world.candidate)
    model = made.model(*plans, world.retrieval, weights, dtype="float64")
    trainer = made.trainer(model, UpdatePlan(RMSprop(0.1, weight_decay=0.1)))
    for batch in world.batches(3):
        trainer.step(batch, 0.1)
        _, gradients = training.gradients(world.model, weights, batch)
        for name, g in gradients.items():
            rows = batch.rows.get(name, ...)
            v = state.setdefault(name, np.zeros_like(g))
            v[rows] = 0.9 * v[rows] + 0.1 * g[rows] ** 2
            weights[name] = weights[name].copy()
            weights[name][rows] = weights[name][rows] * (1 - 0.1 * 0.1) - 0.1 * g[rows] / np.sqrt(v[rows] + 1e-6)
    for name, value in model.weights().items():
        np.testing.assert_allclose(value, weights[name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(trainer.state()[f"{name}/v"], state[name], rtol=1e-9, atol=1e-15)


def model(optimizer: recs.Optimizer, backend: Any) -> recs.TwoTower:
    data = datasets.load("report")
    towers = (recs.TowerSpec([recs.Categorical(name, dim=4)]) for name in (data.query_name, data.candidate_name))
    return recs.TwoTower(*towers, optimizer=optimizer, backend=backend)


@pytest.mark.parametrize("backend", TRAINED, ids=str)
def test_a_bundle_trains_on_with_the_class_handed_over(backend: str, tmp_path: Path) -> None:
    data = datasets.load("report")
    own = model(RMSprop(0.01), loaded(backend))
    own.fit(data, epochs=1, batch_size=16, progress=False)
    path = own.save(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"RMSprop is no class of recs-core.*custom=\[RMSprop\]"):
        recs.load(path, backend=backend)
    again = recs.load(path, backend=backend, custom=[RMSprop])
    assert isinstance(again, recs.TwoTower)
    for one in (own, again):
        one.fit(data, epochs=1, batch_size=16, progress=False)
    assert again.history.losses == own.history.losses
    recs.load(path, runtime="numpy", custom=[RMSprop]).recommend(k=3, history=None, queries=own.schema.queries.ids[:1])


def test_what_lacks_a_formula_is_named() -> None:
    class Lacking(recs.Optimizer):
        """No direction."""

    with pytest.raises(SpecError, match="Lacking, an optimizer class, must define direction"):
        UpdatePlan(Lacking()).update("table/a", np.ones(2), np.ones(2), {}, {"rate": 0.1}, np)
    with pytest.raises(UnsupportedFeature, match="the oracle has no formula of RMSprop; it has SGD, Adagrad"):
        model(RMSprop(), OracleBackend()).fit(datasets.load("report"), epochs=1, progress=False)
