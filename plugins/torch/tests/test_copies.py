"""A copy of a fitted model is a model of its own, and trains on bit for bit as the original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

import recs_core as recs
from recs_core import datasets
from recs_core.contract.errors import UnsupportedFeature


def two_tower(**options: object) -> recs.TwoTower:
    data = datasets.load("report")
    towers = (recs.TowerSpec([recs.Categorical(name, dim=4)]) for name in (data.query_name, data.candidate_name))
    return recs.TwoTower(*towers, optimizer=recs.Adam(0.05), backend="torch", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_on_as_the_model_would(way: Callable[[recs.TwoTower], recs.TwoTower]) -> None:
    data = datasets.load("report")
    model = two_tower()
    model.fit(data, epochs=2, batch_size=8)
    before = model.weights()
    other = way(model)
    assert other.query_tower.native is not model.query_tower.native
    other.fit(data, epochs=2, batch_size=8)
    for name, value in model.weights().items():
        np.testing.assert_array_equal(value, before[name])
        assert not np.array_equal(value, other.weights()[name])
    model.fit(data, epochs=2, batch_size=8)
    for name, value in model.weights().items():
        np.testing.assert_array_equal(value, other.weights()[name])
    assert model.history.losses == other.history.losses


def test_a_module_of_ones_own_is_refused() -> None:
    data = datasets.load("report")
    tower = recs.Adopted(nn.Embedding(20, 4))
    model = recs.TwoTower(tower, recs.TowerSpec([recs.Categorical(data.candidate_name, dim=4)]), backend="torch")
    model.fit(data, epochs=1, batch_size=8)
    for way in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(UnsupportedFeature, match=r"query tower is a module of your own.*model\.save\(folder\)"):
            way(model)
