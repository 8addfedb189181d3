"""A copy of a fitted model is a model of its own, and trains on as the original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import recs_core as recs
from recs_core import datasets


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_on_as_the_model_would(way: Callable[[recs.TwoTower], recs.TwoTower]) -> None:
    data = datasets.load("report")
    towers = (recs.TowerSpec([recs.Categorical(name, dim=4)]) for name in (data.query_name, data.candidate_name))
    model = recs.TwoTower(*towers, optimizer=recs.Adam(0.05), backend="keras")
    model.fit(data, epochs=1, batch_size=16)
    before = model.weights()
    other = way(model)
    other.fit(data, epochs=1, batch_size=16)
    for name, value in model.weights().items():
        np.testing.assert_array_equal(value, before[name])
        assert not np.array_equal(value, other.weights()[name])
    model.fit(data, epochs=1, batch_size=16)
    for name, value in model.weights().items():
        np.testing.assert_allclose(value, other.weights()[name], rtol=1e-6, atol=1e-7)
