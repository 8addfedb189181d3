"""`update_candidates`: candidates change, come and retire; whoever is retired never comes back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError
from recs_core.index.exact import ExactIndex
from recs_core.index.live import LiveIndex
from recs_core.recommender import Recommender
from tests.bundle.small import every_feature, fitted, ids_only
from tests.growth import days

NEW = {"item": ["n0", "n1"], "tags": [["x"], []], "title": ["red thing", None], "price": [2.0, 30.0]}


@pytest.fixture(scope="module")
def trained() -> recs.TwoTower:
    return fitted(every_feature(), days.first())


@pytest.fixture(params=["backend", "runtime", "runtime with vectors"])
def model(trained: recs.TwoTower, tmp_path: Path, request: pytest.FixtureRequest) -> Recommender:
    if request.param == "backend":
        return recs.TwoTower.of(trained.fitted(), backend=trained.backend)
    path = trained.save(tmp_path / "bundle", include_vectors=request.param.endswith("vectors"))
    return recs.load(path, runtime="numpy")


def everybody(model: Recommender) -> list[str]:
    return model.recommend([100], k=99).ids[0].tolist()


# Change and come


def test_a_changed_candidate_has_the_vector_of_its_new_features(model: Recommender) -> None:
    price, known = [7.5], model.encode_candidate([f"i{n}" for n in range(9)])
    row = {"item": ["i3"], "tags": [["y"]], "title": ["blue thing"], "price": price}
    due = model.encode_candidate(features=row)
    assert model.update_candidates(row) is model
    np.testing.assert_allclose(model.encode_candidate(["i3"]), due, atol=1e-6)
    others = [n for n in range(9) if n != 3]
    np.testing.assert_allclose(model.encode_candidate([f"i{n}" for n in others]), known[others], atol=1e-6)
    assert model.catalog.attributes["price"][3].as_py() == 7.5
    assert "i3" in model.recommend([100], k=9, where=pc.field("price") == 7.5).ids


def test_what_the_table_does_not_have_stays(model: Recommender) -> None:
    before = model.catalog
    model.update_candidates({"item": ["i4"], "price": [9.25]})
    mean, deviation = model.schema.learnt["candidate/price"].values()
    np.testing.assert_allclose(model.catalog.candidate.dense["price"][4] * deviation + mean, 9.25)
    assert model.catalog.candidate.codes["title"] is before.candidate.codes["title"]
    assert model.catalog.attributes["title"].to_pylist() == before.attributes["title"].to_pylist()


def test_a_new_candidate_is_recommended_by_its_features_alone(model: Recommender) -> None:
    before = model.recommend([100, 103], k=9)
    vectors = model.encode_candidate(features=NEW)
    model.update_candidates(NEW)
    own = model.encode_candidate(["n0", "n1"])
    np.testing.assert_allclose(own, vectors, atol=1e-6)
    assert {"n0", "n1"} < {*everybody(model)}
    again = model.recommend([100, 103], k=9, allow=[f"i{n}" for n in range(9)])
    np.testing.assert_array_equal(again.ids, before.ids)
    np.testing.assert_allclose(again.scores, before.scores, atol=1e-6)
    assert model.catalog.counts[-2:].tolist() == [0, 0]
    assert model.catalog.attributes.slice(9).to_pydict() == {k: NEW[k] for k in ("item", "title", "price")}


def test_one_that_came_so_is_trained_like_any_other(trained: recs.TwoTower) -> None:
    model = recs.TwoTower.of(trained.fitted(), backend=trained.backend)
    model.update_candidates({**NEW, "item": ["i9", "i10"]})
    before = model.encode_candidate(["i9", "i10"])
    model.extend(days.second())
    np.testing.assert_array_equal(model.encode_candidate(["i9", "i10"]), before)
    assert model.catalog.candidate.codes["item"].tolist() == [*range(1, 13)]
    model.fit(days.second(), epochs=1, progress=False)


# Retire


def test_a_retired_candidate_never_comes_back(model: Recommender, tmp_path: Path) -> None:
    rows = {name: len(w) for name, w in model.weights().items() if w.ndim}
    gone = everybody(model)[:3]
    model.update_candidates(retire=gone)
    assert {name: len(w) for name, w in model.weights().items() if w.ndim} == rows
    kept = [id_ for id_ in (f"i{n}" for n in range(9)) if id_ not in gone]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lists = [
            model.recommend([100, 103], k=9).ids,
            model.recommend([100, 103], k=9, exclude="seen").ids,
            model.recommend([100], k=9, allow=kept[:2]).ids,
            model.recommend([100], k=9, where=pc.field("price") < 100).ids,
            model.recommend([100], k=3, diversity=0.5).ids,
            model.recommend([999], k=9, unknown="popular").ids,
            model.similar(kept, k=9).ids,
        ]
    for found in lists:
        assert not {*found.ravel()} & {*gone}
    assert [*lists[0][0][:6]] == [id_ for id_ in everybody(model) if id_] and lists[0].shape == (2, 9)
    answers = model.answer(days.first(), k=9)
    retired = model.schema.candidates.encode(gone)
    assert answers.lists is not None and not np.isin(answers.lists, retired).any()
    assert (answers.ranks.above[np.isin(answers.ranks.targets, retired)] == -1).all()


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.similar(["i1", "i2"]),
        lambda model: model.recommend([100], allow=["i1", "i2"]),
        lambda model: model.encode_candidate(["i1", "i2"]),
    ],
)
def test_one_that_is_asked_for_by_id_is_an_error(model: Recommender, ask) -> None:
    model.update_candidates(retire=["i2"])
    with pytest.raises(DataError, match=r"row 1: 'i2' is retired and never comes back"):
        ask(model)


def test_so_it_is_where_a_score_is_explained() -> None:
    model = fitted(ids_only(), days.first())
    model.update_candidates(retire=["i2"])
    with pytest.raises(DataError, match="'i2' is retired"):
        model.explain(100, "i2")


def test_its_row_of_the_table_brings_it_back(model: Recommender) -> None:
    before = model.recommend([100], k=9)
    model.update_candidates(retire=["i2", "i5"]).update_candidates({"item": ["i5"]}).update_candidates(retire=["i2"])
    assert {*everybody(model)[:8]} == {f"i{n}" for n in range(9)} - {"i2"}
    model.update_candidates({"item": ["i2"]})
    # a vector made alone may differ in its last bit from one made among nine
    np.testing.assert_allclose(model.recommend([100], k=9).scores, before.scores, rtol=1e-6)


def test_it_stays_retired_in_fits_bundles_and_extensions(trained: recs.TwoTower, tmp_path: Path) -> None:
    model = recs.TwoTower.of(trained.fitted(), backend=trained.backend)
    model.update_candidates(NEW, retire=["i2", "i7"])
    model.extend(days.second())
    model.fit(days.second(), epochs=1, progress=False)
    path = model.save(tmp_path / "bundle")
    recs.verify(path)
    for each in (model, recs.load(path, backend=trained.backend), recs.load(path, runtime="numpy")):
        assert each.catalog.retired.tolist() == [2, 7]
        assert not {"i2", "i7"} & {*each.recommend([100, 104], k=99).ids.ravel()}


# The index


def test_an_index_without_the_retired_answers_as_one_that_excludes_them() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 4)).astype(np.float32)
    vectors[30:40] = vectors[:10]  # ties, which go to the earlier position
    queries = random.normal(size=(7, 4)).astype(np.float32)
    retired = np.array([0, 5, 31, 58, 59])
    exact, live = ExactIndex(), LiveIndex(vectors, None, retired)
    exact.build(vectors)
    hidden = recs_ragged([[*retired, 3, row] for row in range(7)])
    asked = recs_ragged([[3, row, -1, 58] for row in range(7)])
    for allow in (None, np.arange(0, 60, 2), np.array([58, 59])):
        due, got = (
            exact.search(queries, 60, exclude=hidden, allow=allow),
            live.search(queries, 60, exclude=asked, allow=allow),
        )
        np.testing.assert_array_equal(got.ids, due.ids)
        np.testing.assert_array_equal(got.scores, due.scores)


def recs_ragged(rows: list[list[int]]):
    from recs_core.index.filters import ragged

    return ragged(rows)


# Refused, and nothing changed


@pytest.mark.parametrize(
    ("table", "retire", "said"),
    [
        ({**NEW, "item": ["n0", "n0"]}, (), "candidates table, column 'item': ids must be unique, but 'n0' appear"),
        ({**NEW, "item": [1, 2]}, (), "column 'item': the ids of 'item' are strings .* these are integers"),
        ({"price": [1.0]}, (), "candidates table: no column 'item'"),
        ({"item": ["n0"], "price": [1.0]}, (), r"'n0' new to the model, for which .*Bag\('tags'\).* needs a column"),
        ({**NEW, "price": [1.0, None]}, (), r"Numeric\('price'\): 1 of 2 candidate rows .*the first is 'n1'"),
        ({**NEW, "price": ["cheap", "dear"]}, (), r"Numeric\('price'\) needs numbers, got strings"),
        ({"item": ["i1"]}, ["i1"], "retire: 'i1' stands in the table of candidates too"),
        (None, ["zz"], "retire, row 0: 'zz' is not in the corpus of 9"),
        (None, [1], "retire: the ids of 'item' are strings"),
        (None, "i1", "retire: expected a list of ids, got one, 'i1'"),
        (None, [f"i{n}" for n in range(9)], "all 9 candidates would be retired"),
        ({"item": ["i1"], "title": [3]}, (), r"Text\('title'\)|column 'title'"),
        ([1, 2], (), "candidates table: expected a pyarrow, pandas"),
        ({"item": ["i1"], "prise": [9.0]}, (), "neither reads 'prise' nor keeps it .* it knows 'item', .*'price'"),
        (pa.table({"item": ["i1"], "price": [9.0], "tagz": [["x"]]}), (), "neither reads 'tagz' nor keeps it"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_has_changed(model: Recommender, table, retire, said: str) -> None:
    catalog, before = model.catalog, model.recommend([100], k=9)
    with pytest.raises(DataError, match=said) as caught:
        model.update_candidates(table, retire=retire)
    assert "\n" not in str(caught.value)
    assert model.catalog is catalog
    np.testing.assert_array_equal(model.recommend([100], k=9).scores, before.scores)


def test_a_tower_of_ids_alone_can_retire_and_not_add() -> None:
    model = fitted(ids_only(), days.first())
    with pytest.raises(
        DataError, match=r"'n0' cannot be added, as the candidate tower reads nothing but ids: model\.extend"
    ):
        model.update_candidates({"item": ["n0"]})
    before = model.catalog.attributes["title"].to_pylist()
    model.update_candidates({"item": ["i1"], "title": ["red"]}, retire=["i3"])
    assert model.catalog.attributes["title"].to_pylist() == [before[0], "red", *before[2:]]
    assert "i3" not in everybody(model)


def test_it_cannot_change_during_a_fit() -> None:
    model = every_feature()

    class Changes:
        def on_step_end(self, record) -> None:
            model.update_candidates(retire=["i1"])

    with pytest.raises(SpecError, match="this model is being fitted"):
        model.fit(days.first(), epochs=1, callbacks=[Changes()], progress=False)


def test_a_csv_of_candidates_follows_the_models_ids(tmp_path: Path) -> None:
    data = recs.Interactions.from_table(
        {"user": ["a", "b"], "item": [1, 2]}, query="user", candidate="item", candidates={"item": [1, 2], "p": [1, 2]}
    )
    model = ids_only(candidate=recs.TowerSpec([recs.Categorical("item", dim=1), recs.Numeric("p")]))
    fitted(model, data)
    (tmp_path / "items.csv").write_text("item,p\n2,5\n3,6\n")
    model.update_candidates(tmp_path / "items.csv", retire=pa.array([1]))
    assert model.recommend(["a"], k=3).ids[0].tolist()[:2] in ([2, 3], [3, 2])
    assert model.schema.candidates.ids.to_pylist() == [1, 2, 3]
