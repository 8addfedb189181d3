"""Train anywhere, load anywhere: every ordered pair of the installed backends, through the kept bundle's model."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import recs_core as recs
from recs_core.environment import is_installed
from recs_core.plugin.manager import list_backends
from recs_core.reference.backend import OracleBackend
from tests.bundle.small import every_feature, interactions

pytestmark = pytest.mark.slow  # every framework that is installed is imported, and keras compiles

QUERIES = list(range(100, 107))
INSTALLED = [row.name for row in list_backends() if row.info and all(map(is_installed, row.info.requires))]
NAMES = ["oracle", *INSTALLED]


def backend(name):
    return OracleBackend() if name == "oracle" else name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Name → a bundle trained there for two epochs; made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            model = every_feature(backend=backend(name))
            model.fit(interactions(), progress=False)
            made[name] = model, model.save(tmp_path_factory.mktemp(name) / "b")
        return made[name]

    return get


@pytest.mark.parametrize(("here", "there"), list(permutations(NAMES, 2)))
def test_what_one_backend_trained_another_loads_and_trains_on(trained, tmp_path, here, there):
    model, path = trained(here)
    loaded = recs.load(path, backend=backend(there))
    for name, weight in model.weights().items():
        np.testing.assert_array_equal(loaded.weights()[name], weight)
    for name, slot in model._trainer.state().items():
        np.testing.assert_array_equal(loaded._trainer.state()[name], slot)
    expected, found = model.recommend(QUERIES, k=9), loaded.recommend(QUERIES, k=9)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    assert (found.ids == expected.ids).all()

    on_here, on_there = (recs.load(path, backend=backend(name)) for name in (here, there))
    for each in (on_here, on_there):
        each.fit(interactions(), epochs=1, progress=False)
    np.testing.assert_allclose(on_there.history["loss"], on_here.history["loss"], rtol=1e-4)
    for name, weight in on_here.weights().items():
        np.testing.assert_allclose(on_there.weights()[name], weight, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_recommends_what_any_backend_trained(trained, name):
    model, path = trained(name)
    expected = model.recommend(QUERIES, k=9, exclude="seen")
    found = recs.load(path, runtime="numpy").recommend(QUERIES, k=9, exclude="seen")
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    assert (found.ids == expected.ids).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_bit_for_bit_as_one_without_a_break(tmp_path, name):
    class Dies(Exception):
        pass

    class DiesInTheThirdEpoch:
        def on_epoch_end(self, record):
            if record.epoch == 3:
                raise Dies

    plan = {"epochs": 4, "progress": False}
    whole = every_feature(backend=backend(name))
    whole.fit(interactions(), **plan)
    with pytest.raises(Dies):
        every_feature(backend=backend(name)).fit(
            interactions(), **plan, checkpoint=tmp_path / "c", callbacks=[DiesInTheThirdEpoch()]
        )
    again = type(whole).resume(tmp_path / "c", backend=backend(name))
    again.fit(interactions(), progress=False)
    for part in (lambda model: model.weights(), lambda model: model._trainer.state()):
        for key, array in part(whole).items():
            np.testing.assert_array_equal(part(again)[key], array, err_msg=key)
