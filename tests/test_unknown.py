"""Of whom nothing is known: no id that training saw, no features, and no candidate of a past that the model reads."""

from __future__ import annotations

from typing import Any

import pytest

import recs_core as recs
from recs_core.contract.errors import DataError
from recs_core.reference.backend import OracleBackend

POPULAR = [["c", "b"]]  # three rows and two


@pytest.fixture(scope="module")
def histories() -> recs.TwoTower:
    return fitted(recs.History("item", dim=4, share=None), recs.Categorical("user", dim=4))


def fitted(*read: recs.Feature) -> recs.TwoTower:
    width = sum(feature.width for feature in read)
    model = recs.TwoTower(
        recs.TowerSpec(list(read)),
        recs.TowerSpec([recs.Categorical("item", dim=width)]),
        backend=OracleBackend(),
    )
    rows = {"user": ["u", "u", "u", "v", "v", "w"], "item": ["a", "b", "c", "b", "c", "c"]}
    model.fit(recs.Interactions.from_table(rows, query="user", candidate="item"), epochs=1, progress=False)
    return model


@pytest.mark.parametrize("asked", [{"history": [["zz"]]}, {"history": [[]]}, {"queries": ["?"], "history": [["zz"]]}])
def test_a_stranger_is_one_whatever_the_history_holds(histories: recs.TwoTower, asked: dict[str, Any]) -> None:
    assert histories.recommend(**asked, k=2, unknown="popular").ids.tolist() == POPULAR
    with pytest.raises(DataError, match="1 of 1 queries"):
        histories.recommend(**asked, unknown="error")
    with pytest.warns(UserWarning, match="answered from OOV rows"):
        histories.recommend(**asked)


@pytest.mark.parametrize("asked", [{"queries": ["u"], "history": [["zz"]]}, {"history": [["zz", "b"]]}])
def test_who_is_known_by_an_id_or_by_one_candidate_is_none(histories: recs.TwoTower, asked: dict[str, Any]) -> None:
    by_model = histories.recommend(**asked, unknown="error")
    assert histories.recommend(**asked, unknown="popular").scores.tolist() == by_model.scores.tolist()


def test_a_history_that_the_tower_does_not_read_makes_nobody_known() -> None:
    ids = fitted(recs.Categorical("user", dim=4))
    assert ids.recommend(history=[["a"]], k=2, unknown="popular").ids.tolist() == POPULAR
    with pytest.warns(UserWarning, match="no history that the model can read"):
        ids.recommend(history=[["a"]])
