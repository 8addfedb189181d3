"""Why a score is what it is: parts that add up to it, each by hand; and where there are none."""

from __future__ import annotations

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.reference.backend import OracleBackend


def additive(layers=(), **options):
    """A query tower without layers: an id, an age, tags that add up, and a history of the mean."""
    rows = {"user": ["a", "a", "b", "b", "b"], "item": ["x", "y", "x", "z", "z"], "t": [1.0, 2, 3, 4, 5]}
    users = {"user": ["a", "b"], "age": [20.0, 60.0], "likes": [["red"], ["red", "blue"]]}
    data = recs.Interactions.from_table(
        rows, query="user", candidate="item", timestamp="t", queries=users, candidates={"item": ["x", "y", "z"]}
    )
    query = [
        recs.Categorical("user", dim=2),
        recs.Numeric("age"),
        recs.Bag("likes", dim=2, pooling="sum"),
        recs.History("item", dim=3, share=None),
    ]
    made = recs.TwoTower(
        recs.TowerSpec(query, layers=list(layers)),
        recs.TowerSpec([recs.Categorical("item", dim=3)], layers=[8]),
        backend=OracleBackend(),
        **options,
    )
    made.fit(data, epochs=3, progress=False)
    return made


SPECS = [
    recs.RetrievalSpec(),
    recs.RetrievalSpec(scoring="dot", temperature=0.5),
    recs.RetrievalSpec(learn_temperature=True),
    recs.RetrievalSpec(candidate_bias=False),
]


@pytest.mark.parametrize("retrieval", SPECS)
def test_the_parts_of_a_score_add_up_to_it(retrieval, tmp_path):
    made = additive(retrieval=retrieval)
    loaded = recs.load(made.save(tmp_path / "b", include_vectors=True), runtime="numpy")
    for user in ("a", "b"):
        best = made.recommend([user], 3)
        for id_, score in zip(best.ids[0], best.scores[0], strict=True):
            why = made.explain(user, id_)
            assert why.score == pytest.approx(score, rel=1e-5, abs=1e-6)
            assert sum(value for _, value in why.parts) == pytest.approx(why.score, rel=1e-14, abs=1e-14)
            there = loaded.explain(user, id_)
            assert [name for name, _ in there.parts] == [name for name, _ in why.parts]
            np.testing.assert_allclose([v for _, v in there.parts], [v for _, v in why.parts], rtol=1e-5, atol=1e-6)


def test_each_part_is_its_own_inner_product():
    """Dot scoring, by hand: table rows times the candidate's numbers in the same columns."""
    made = additive(retrieval=recs.RetrievalSpec(scoring="dot", temperature=0.5))
    weights = {name: weight.astype(np.float64) for name, weight in made.weights().items()}
    y = made.candidate_tower.embed(made.catalog.candidate)[made.schema.candidates.encode(["y"])[0]] / 0.5
    row = {
        (table, id_): made.schema.first_row(f"table/{table}") + code
        for table in ("user", "likes", "item")
        for code, id_ in enumerate(made.schema.vocabularies[f"table/{table}"].ids.to_pylist())
    }
    history = made.query.features[-1].table_name
    first = made.schema.first_row(history)
    items = made.schema.vocabularies[history].ids.to_pylist()
    due = {
        "user": weights["table/user"][row["user", "b"]] @ y[:2],
        "age": 1.0 * y[2],  # (60 − 40) / 20
        "likes red": weights["table/likes"][row["likes", "red"]] @ y[3:5],
        "likes blue": weights["table/likes"][row["likes", "blue"]] @ y[3:5],
        "item x": weights[history][first + items.index("x")] @ y[5:] / 3,
        "item z": weights[history][first + items.index("z")] @ y[5:] * 2 / 3,
        "bias": weights["task/bias"][made.schema.candidates.encode(["y"])[0]],
    }
    found = dict(made.explain("b", "y").parts)
    assert found.keys() == due.keys()
    for name, value in due.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert str(made.explain("b", "y")).splitlines()[0].endswith("score")
    assert len(str(made.explain("b", "y")).splitlines()) == 8


def test_of_a_history_or_features_alone():
    made = additive()
    parts = dict(made.explain(None, "x", history=["y", "y"], features={"age": [30.0], "likes": [[]]}).parts)
    assert set(parts) == {"user", "age", "item y", "bias"}
    score = made.recommend(history=[["y", "y"]], features={"age": [30.0], "likes": [[]]}, k=3)
    assert sum(parts.values()) == pytest.approx(score.scores[0, score.ids[0].tolist().index("x")], rel=1e-5)
    with pytest.warns(UserWarning, match="1 of 1 queries were never seen"):
        made.explain("nobody", "x")


def test_where_there_are_no_parts():
    with pytest.raises(UnsupportedFeature, match=r"the query tower has 1 dense layer, .* layers=\[\] has them"):
        additive(layers=[8]).explain("a", "x")
    made = additive()
    for wrong in (
        lambda: made.explain("a", "nothing"),
        lambda: made.explain(None, "x"),
        lambda: made.explain(None, "x", features={"user": ["a", "b"], "age": [1.0, 2.0], "likes": [[], []]}),
        lambda: made.explain(["a"], "x"),
    ):
        with pytest.raises(DataError):
            wrong()


def test_a_stranger_is_explained_as_recommend_answers_one():
    """By OOV rows with a warning; not where popularity answers, or nobody does."""
    made = additive(retrieval=recs.RetrievalSpec(scoring="dot"))
    with pytest.warns(UserWarning, match="never seen in training, the first is 'zoe'"):
        why = made.explain("zoe", "x")
    assert (why.unknown_query, why.answered_by) == (True, "oov")
    with pytest.warns(UserWarning):
        assert why.score == pytest.approx(made.recommend(["zoe"], 1, allow=["x"]).scores[0, 0], rel=1e-5)
    with pytest.raises(UnsupportedFeature, match="popularity answers: .*; pass unknown='oov'"):
        made.explain("zoe", "x", unknown="popular")
    with pytest.raises(DataError, match="never seen in training, the first is 'zoe'") as refused:
        made.explain("zoe", "x", unknown="error")
    assert refused.value.argument == "query"
    told = {"age": [30.0], "likes": [["red"]]}
    why = made.explain("zoe", "x", features=told, unknown="popular")
    assert (why.unknown_query, why.answered_by) == (True, "model")
    with pytest.raises(DataError, match="never seen"):
        made.explain("zoe", "x", features=told, unknown="error")
