"""Settings of every kind: what can be meant is taken and kept, what cannot is refused where it is given."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.as_json import from_json, to_json
from recs_core.contract.errors import RecsError, SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.training import TrainingSettings
from tests.bundle.small import every_feature, interactions

USER = recs.Categorical("user", dim=4)
DECLARED: tuple[Any, ...] = (
    USER,
    recs.Bag("tags"),
    recs.Text("title"),
    recs.History("item"),
    recs.Numeric("price"),
    recs.TowerSpec([USER]),
    recs.RetrievalSpec(),
    recs.SGD(),
    recs.Adagrad(),
    recs.RowWiseAdagrad(),
    recs.Adam(),
    recs.Schedule(),
    recs.TrainingSpec(),
    recs.EarlyStopping(),
)
ODD: tuple[Any, ...] = (
    *(None, "", "x", "a/b", b"x", 0, -1, 3, 2.5, True, 10**30, float("nan"), float("inf"), [], ["a"], [1], {"a": 1}),
    *(object(), dict, len, np.array([1, 2]), np.array(["a", "b"]), np.dtype("float32")),
    *(np.int64(3), np.float32(0.5), np.bool_(True), np.str_("dot")),
)


def fields() -> Iterator[Any]:
    for spec in DECLARED:
        for field in dataclasses.fields(spec):
            yield pytest.param(spec, field.name, id=f"{type(spec).__name__}.{field.name}")


@pytest.mark.parametrize(("spec", "name"), list(fields()))
def test_a_setting_is_refused_in_one_line_or_survives_json(spec: Any, name: str) -> None:
    for odd in ODD:
        try:
            made = dataclasses.replace(spec, **{name: odd})
        except SpecError as error:
            assert "\n" not in str(error)
            continue
        hash(made)
        if not isinstance(made, recs.EarlyStopping):
            assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_numpy_scalars_mean_what_python_numbers_mean() -> None:
    drawn = recs.Categorical("user", dim=np.int64(8)), recs.Adam(np.float64(0.5)), recs.Adam(dense=np.bool_(True))  # type: ignore[arg-type]
    assert drawn == (recs.Categorical("user", dim=8), recs.Adam(0.5), recs.Adam(dense=True))
    assert recs.TowerSpec([USER], layers=np.array([4, 2]).tolist()) == recs.TowerSpec(
        [USER], layers=[*np.array([4, 2])]
    )
    assert recs.EarlyStopping(patience=np.int64(2)) == recs.EarlyStopping(patience=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("almost", [0, 1, "true"])
def test_a_switch_takes_no_number(almost: Any) -> None:
    with pytest.raises(SpecError, match="logq is True, False or 'refined'"):
        recs.RetrievalSpec(logq=almost)
    with pytest.raises(SpecError, match="dense is True or False"):
        recs.Adam(dense=almost)


@pytest.mark.parametrize("name", ["query", "candidate", "retrieval", "optimizer", "training", "seed", "dtype"])
@pytest.mark.parametrize("odd", [np.array([1, 2]), np.dtype("float32"), 2.5, b"x", {"a": 1}], ids=repr)
def test_what_declares_no_model_is_refused(name: str, odd: Any) -> None:
    with pytest.raises(SpecError):
        recs.TwoTower(
            **{"query": recs.TowerSpec([USER]), "candidate": recs.TowerSpec([recs.Bag("tags", dim=4)]), name: odd}
        )


@pytest.mark.parametrize("name", ["backend", "index"])
@pytest.mark.parametrize("odd", [3, [], {}, np.array([1, 2]), b"torch"], ids=repr)
def test_a_backend_and_an_index_are_checked_where_they_are_given(name: str, odd: Any) -> None:
    towers = recs.TowerSpec([USER]), recs.TowerSpec([recs.Bag("tags", dim=4)])
    with pytest.raises(RecsError, match=name):
        recs.TwoTower(*towers, **{name: odd})
    model = recs.TwoTower(*towers)
    if name == "index":
        with pytest.raises(SpecError, match="index is an Index"):
            model.index = odd


@pytest.mark.parametrize("odd", [3, ["user"], {}, np.array(["user"])], ids=repr)
@pytest.mark.parametrize("name", ["query", "candidate", "timestamp", "unit"])
def test_a_column_and_a_unit_are_named_by_text(name: str, odd: Any) -> None:
    names = {"query": "user", "candidate": "item", "timestamp": "t", name: odd}
    with pytest.raises(RecsError, match=name):
        recs.Interactions.from_table({"user": ["a"], "item": ["b"], "t": [1.7e9]}, **names)


@pytest.mark.parametrize("rows", [0, -1, [[0, 1]]], ids=repr)
def test_rows_are_taken_by_a_list(rows: Any) -> None:
    data = recs.Interactions.from_table({"user": ["a", "b"], "item": ["b", "c"]}, query="user", candidate="item")
    with pytest.raises(RecsError, match="take: expected a list of row numbers or a mask"):
        data.take(rows)


@pytest.mark.parametrize("arguments", [("ids", None), ("ids", {"user": ["a"]}), ([], None)], ids=repr)
def test_a_recipe_needs_a_name_and_interactions(arguments: Any) -> None:
    with pytest.raises(RecsError, match="recipe: expected Interactions"):
        recs.recipe(*arguments)


def test_a_k_beyond_any_corpus_and_modules_without_sides_are_refused(tmp_path: Any) -> None:
    with pytest.raises(RecsError, match="k must be whole numbers"):
        recs.evaluation.measures.cuts([10**30])
    with pytest.raises(RecsError, match="native: expected"):
        recs.load(tmp_path, native=3)  # type: ignore[arg-type]


# Settings of fit


def test_settings_of_fit_are_the_fields_of_the_spec() -> None:
    assert set(TrainingSettings.__annotations__) == {field.name for field in dataclasses.fields(recs.TrainingSpec)}


def test_what_is_given_wins_and_none_is_a_value() -> None:
    data = interactions()
    declared = recs.TrainingSpec(epochs=1, batch_size=16, recency_days=1.0, schedule=recs.Schedule(), row_weight=0.5)
    fitted = every_feature(training=declared)
    fitted.fit(data, recency_days=None, schedule=None)
    assert fitted.run is not None
    assert fitted.run.settings == dataclasses.replace(declared, recency_days=None, schedule=None)
    for name in ("epochs", "batch_size", "drop_last"):
        with pytest.raises(SpecError, match="got None"):
            fitted.fit(data, **{name: None})  # type: ignore[arg-type]


def test_a_plan_of_batches_is_that_of_the_training() -> None:
    spec = recs.TrainingSpec(
        batch_size=3, batch_by="query", recency_days=2.0, row_weight=0.5, drop_last=True, schedule=recs.Schedule()
    )
    retrieval = recs.RetrievalSpec(temperature=0.3)
    assert BatchPlan.of(spec, retrieval) == BatchPlan(3, "query", retrieval, 0.5, 2.0, True)
    assert BatchPlan.of(recs.TrainingSpec(pool_rows=70_000), retrieval).pool_rows == 70_000
