"""A copy of a model, by any way, is a model of its own that trains on as the original would."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import UnsupportedFeature
from recs_core.index import ExactIndex
from recs_core.reference.backend import OracleBackend
from recs_core.training import EarlyStopping
from tests.bundle.small import every_feature, fitted, ids_only, interactions

WAYS = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "oldest pickle": lambda model: pickle.loads(pickle.dumps(model, 2)),
    "in a dict": lambda model: copy.deepcopy({"model": model})["model"],
}


@pytest.fixture(params=WAYS)
def copied(request):
    return WAYS[request.param]


def same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])


def test_a_fitted_model(copied):
    data = interactions()
    model = every_feature()
    model.fit(data, data, early_stopping=EarlyStopping("recall@10", patience=9), progress=False)
    before = model.weights()
    other = copied(model)
    same(other.weights(), before)
    assert other.position == model.position and other.history == model.history and other.data == model.data
    assert other.run.best.rule == model.run.best.rule
    same(other.run.best.weights, model.run.best.weights)
    np.testing.assert_array_equal(other.recommend([100], 5).ids, model.recommend([100], 5).ids)
    other.fit(data, epochs=1, progress=False)
    same(model.weights(), before)
    assert model.position.epoch == 2 and len(model.history.epochs) == 2
    model.fit(data, epochs=1, progress=False)
    same(model.weights(), other.weights())
    same(model._trainer.state(), other._trainer.state())


def test_an_unfitted_model(copied):
    model = every_feature()
    other = copied(model)
    assert other._model is None
    same(fitted(other).weights(), fitted(model).weights())


def test_a_backend_by_name_is_not_loaded_by_copying(copied):
    other = copied(ids_only(backend="nobody-has-this"))
    assert other._backend == "nobody-has-this"
    assert copied(ids_only(backend=None))._backend is None


def test_a_model_in_the_middle_of_training(copied):
    data, kept = interactions(), []

    class Keep:
        def on_epoch_end(self, record):
            kept.append(copied(model))

    model = every_feature()
    model.fit(data, callbacks=[Keep()], progress=False)
    assert [other.position.epoch for other in kept] == [1, 2]
    kept[0].fit(data, progress=False)
    same(kept[0].weights(), model.weights())


def test_a_copy_has_an_index_of_its_own(copied):
    model = fitted(ids_only(index=ExactIndex()))
    found = model.recommend([100], 3)
    other = copied(model)
    assert other.index is not model.index
    other.fit(interactions(seed=5), epochs=3, progress=False)
    other.recommend([100], 3)
    np.testing.assert_array_equal(model.recommend([100], 3).ids, found.ids)
    assert copied(fitted(ids_only(index="exact"))).index == "exact"


def test_an_index_that_cannot_be_copied_is_refused(copied):
    index = ExactIndex()
    index.handle = lambda: None
    with pytest.raises(UnsupportedFeature, match=r"index 'exact' cannot be copied .*model.save\(folder\)"):
        copied(fitted(ids_only(index=index)))


def test_a_tower_of_ones_own_is_refused(copied):
    model = ids_only(candidate=recs.Adopted(object(), output_dim=2))
    with pytest.raises(UnsupportedFeature, match=r"candidate tower is a module of your own.*model.save\(folder\)"):
        copied(model)


def test_a_model_that_serves(copied, tmp_path):
    model = fitted(every_feature())
    for options in ({}, {"include_vectors": True}):
        served = recs.load(model.save(tmp_path / "b", **options), runtime="numpy", index="exact")
        expected = served.recommend([100, 103], 5, exclude="seen")
        other = copied(served)
        assert other.index == "exact"
        found = other.recommend([100, 103], 5, exclude="seen")
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_what_a_copy_holds_outlives_the_bundle(tmp_path):
    model = fitted(ids_only())
    served = recs.load(model.save(tmp_path / "b"), runtime="numpy")
    text = pickle.dumps(served)
    del served
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(b"")
    assert pickle.loads(text).recommend([100], 3).ids.tolist() == model.recommend([100], 3).ids.tolist()


def test_joblib(tmp_path):
    joblib = pytest.importorskip("joblib")
    model = fitted(ids_only(backend=OracleBackend()))
    joblib.dump(model, tmp_path / "m.joblib", compress=3)
    same(joblib.load(tmp_path / "m.joblib").weights(), model.weights())
