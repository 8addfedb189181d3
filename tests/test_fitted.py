"""A fitted model as a value: what is made of it answers and trains on as the model did, and neither moves the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import recs_core as recs
from recs_core import bundle
from recs_core.contract.errors import BundleError, NotFitted, SpecError
from recs_core.fitted import Native
from recs_core.reference.backend import OracleBackend
from recs_core.runtime import NumpyRecommender
from recs_core.training import EarlyStopping
from tests.bundle.small import every_feature, fitted, ids_only, interactions


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name])


def trained() -> recs.TwoTower:
    data = interactions()
    return fitted(every_feature(), data, validation=data, early_stopping=EarlyStopping("recall@10", patience=9))


def test_models_of_one_value_answer_alike_and_train_apart():
    model = trained()
    value = model.fitted()
    first, second = (recs.TwoTower.of(value, backend=OracleBackend()) for _ in range(2))
    expected = model.recommend([100, 103], 5)
    for other in (first, NumpyRecommender(value), NumpyRecommender(value, model.encode_candidate())):
        np.testing.assert_array_equal(other.recommend([100, 103], 5).ids, expected.ids)
    first.fit(interactions(), epochs=2, progress=False)
    assert value.progress.position.epoch == second.position.epoch == 2
    assert len(value.progress.history.epochs) == len(second.history.epochs) == 2
    model.fit(interactions(), epochs=2, progress=False)
    second.fit(interactions(), epochs=2, progress=False)
    same(first.weights(), model.weights())
    same(second.weights(), model.weights())


def test_a_value_stays_as_it_was_when_its_model_trains_on():
    model = trained()
    value = model.fitted()
    weights = {name: array.copy() for name, array in value.weights.items()}
    state = {name: array.copy() for name, array in value.progress.state.items()}
    losses, best = list(value.progress.history.losses), value.progress.run.best.epoch
    model.fit(interactions(), epochs=3, progress=False)
    same(value.weights, weights)
    same(value.progress.state, state)
    assert value.progress.history.losses == losses
    assert (value.progress.run.until, value.progress.run.best.epoch) == (2, best)


def test_a_bundle_gives_the_value_back(tmp_path):
    model = trained()
    value, read = model.fitted(), bundle.read(model.save(tmp_path / "b")).fitted
    assert read.declared == value.declared == model.declared
    same(read.weights, value.weights)
    same(read.progress.state, value.progress.state)
    assert read.progress.position == value.progress.position and read.progress.history == value.progress.history
    assert read.facts == value.facts
    assert value.versions.items() <= read.versions.items()
    assert bundle.read(tmp_path / "b", progress=False).fitted.progress is None


def test_without_state_a_model_of_it_begins_with_a_new_one():
    value = trained().fitted(state=False)
    assert value.progress.state is None
    other = recs.TwoTower.of(value, backend=OracleBackend())
    assert other._trainer is None and other.position.epoch == 2


def test_weights_that_were_given_make_an_untrained_model(tmp_path):
    value = dataclasses.replace(fitted(ids_only()).fitted(), progress=None)
    model = recs.TwoTower.of(value, backend=OracleBackend())
    assert (model.position.epoch, model.run, model.history.epochs) == (0, None, [])
    again = bundle.read(model.save(tmp_path / "b")).fitted.progress
    assert (again.position.epoch, again.run, again.state) == (0, None, None)


def test_a_module_that_is_not_handed_over_is_named():
    native = Native("torch", "shop.Tower", "shop:tower", 2, raw_ids=False)
    value = dataclasses.replace(fitted(ids_only()).fitted(), natives={"query": native})
    with pytest.raises(
        SpecError, match=r"query tower is a torch module, shop.Tower; .*natives=\{'query': recs.Adopted"
    ):
        recs.TwoTower.of(value, backend=OracleBackend())


def test_an_unfitted_model_has_no_value():
    with pytest.raises(NotFitted):
        ids_only().fitted()


def test_what_serves_cannot_be_saved(tmp_path):
    served = NumpyRecommender(fitted(ids_only()).fitted())
    with pytest.raises(BundleError, match="read-only; copy its bundle"):
        served.save(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
