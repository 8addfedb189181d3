"""Metrics by slice: by hand, as parts of the whole, against the reference, and in a user's hands."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.evaluation import Answers, Labels, Measures, Slices, labels_of, ranks, slices_of
from recs_core.evaluation.labels import MOST
from recs_core.evaluation.targets import Targets
from recs_core.reference.metrics import evaluate

TEST = {
    "user": ["a", "a", "a", "b", "b", "c", "d"],
    "item": ["x", "y", "y", "x", "z", "y", "new"],
    "device": ["phone", "phone", "desk", None, "desk", "phone", "phone"],
    "price paid": [1.0, 2.0, 2.0, float("nan"), 1.0, 1.0, None],
    "tags": [["t"]] * 7,
}
USERS = {"user": ["a", "b", "c", "d"], "country": ["fr", "fr", "de", None], "code": [1, 1, 2, 3]}
ITEMS = {"item": ["x", "y", "z"], "genre": ["drama", "comedy", "drama"], "code": [1, 2, 3]}


def interactions(table: dict[str, Any], **sides: Any) -> recs.Interactions:
    return recs.Interactions.from_table(table, query="user", candidate="item", **{**SIDES, **sides})


SIDES: dict[str, Any] = {"queries": USERS, "candidates": ITEMS}
COUNTS = {"x": 120, "y": 12, "z": 3}
"""So many training rows each: hot, warm, cold; "new" has none."""


@pytest.fixture(scope="module")
def model() -> recs.TwoTower:
    """Trained on 120 rows of a, 12 of b, 3 of c; d is unknown."""
    users = ["a"] * 120 + ["b"] * 12 + ["c"] * 3
    items = [item for item, count in COUNTS.items() for _ in range(count)]
    train = interactions({"user": users, "item": items}, queries=None, candidates=None)
    user, item = recs.TowerSpec([recs.Categorical("user", dim=3)]), recs.TowerSpec([recs.Categorical("item", dim=3)])
    made = recs.TwoTower(user, item)
    made.fit(train, epochs=1, progress=False)
    return made


def names_and_rows(labels: Labels) -> tuple[list[Any], list[int]]:
    return list(labels.names), labels.of_rows.tolist()


def test_columns_by_hand(model: recs.TwoTower) -> None:
    test = interactions(TEST)

    def of(by: str) -> Labels:
        (labels,) = labels_of(by, test, model.catalog)
        return labels

    assert names_and_rows(of("device")) == (["desk", "phone", None], [1, 1, 0, 2, 0, 1, 1])
    assert names_and_rows(of("country")) == (["de", "fr", None], [1, 1, 1, 1, 1, 0, 2])
    assert names_and_rows(of("price paid")) == ([1, 2, None], [0, 1, 1, 2, 0, 0, 2])  # NaN is no value
    genre = of("genre")
    assert names_and_rows(genre) == (["comedy", "drama", None], [1, 0, 0, 1, 1, 0, 2])
    corpus = model.schema.candidates.encode(["x", "y", "z"])
    assert genre.of_corpus is not None and genre.of_corpus[corpus].tolist() == [1, 0, 1]
    assert of("country").of_corpus is None


def test_warmth_by_hand(model: recs.TwoTower) -> None:
    queries, candidates = labels_of("warmth", interactions(TEST), model.catalog)
    assert names_and_rows(queries) == (
        ["new queries", "cold queries", "warm queries", "hot queries"],
        [3, 3, 3, 2, 2, 1, 0],
    )
    assert candidates.names[1] == "cold candidates" and candidates.rules[1] == "cold: 1–9 training rows"
    assert candidates.of_rows.tolist() == [3, 2, 2, 3, 1, 2, 0]


def test_new_are_also_those_known_by_their_features_alone() -> None:
    """z has a price and no row: it is in the corpus, its target can be found, and coverage counts it."""
    prices = {"item": ["x", "y", "z"], "price": [1.0, 2.0, 3.0]}
    train = interactions({"user": ["a", "b"], "item": ["x", "y"]}, queries=None, candidates=prices)
    user, item = recs.TowerSpec([recs.Categorical("user", dim=2)]), recs.TowerSpec([recs.Numeric("price")], layers=[2])
    made = recs.TwoTower(user, item)
    made.fit(train, epochs=1, progress=False)
    test = interactions({"user": ["a", "b"], "item": ["z", "gone"]}, queries=None, candidates=prices)
    found = made.evaluate(test, by="warmth", k=(3,))
    assert set(found) == {"cold queries", "new candidates"}
    assert found["new candidates"]["recall@3"]["value"] == 1 / 2  # "gone" is never found
    assert (
        found["new candidates"]["coverage@3"]["value"] == 1
        and found["new candidates"]["tail_recall@3"]["value"] == 1 / 2
    )


@pytest.mark.parametrize(("rows", "warmth"), [(0, 0), (1, 1), (9, 1), (10, 2), (99, 2), (100, 3), (10_000, 3)])
def test_warmth_begins_where_it_says(rows: int, warmth: int) -> None:
    from recs_core.evaluation.labels import WARMTH, _warm

    assert _warm(np.array([rows]), [least for _, least, _ in WARMTH]).tolist() == [warmth]


def test_a_side_table_that_the_rows_made_is_no_ambiguity(model: recs.TwoTower) -> None:
    table = {"user": ["a", "b", "a"], "item": ["x", "y", "x"], "shop": ["s", "t", "s"]}
    test = interactions(table, queries=None, candidates=["shop"])
    assert "shop" in test.extra.column_names and "shop" in test.candidates.column_names
    (labels,) = labels_of("shop", test, model.catalog)
    assert names_and_rows(labels) == (["s", "t"], [0, 1, 0])


def test_any_plain_column(model: recs.TwoTower) -> None:
    columns: dict[str, Any] = {
        "day": [date(2024, 1, 2), date(2024, 1, 1), None],
        "vip": [True, None, False],
        "kind": pa.chunked_array([pa.array(["k"]).dictionary_encode(), pa.array(["j", "k"]).dictionary_encode()]),
        "none": pa.nulls(3),
        "zero": [0.0, -0.0, float("nan")],
    }
    table = pa.table({"user": ["a", "b", "c"], "item": ["x", "y", "z"], **columns})
    test = interactions(table, queries=None, candidates=None)  # type: ignore[arg-type]
    found = {by: names_and_rows(labels_of(by, test, model.catalog)[0]) for by in columns}
    assert found == {
        "day": ([date(2024, 1, 1), date(2024, 1, 2), None], [1, 0, 2]),
        "vip": ([False, True, None], [1, 2, 0]),
        "kind": (["j", "k"], [1, 0, 1]),
        "none": ([None], [0, 0, 0]),
        "zero": ([0.0, None], [0, 0, 1]),
    }
    assert set(model.evaluate(test, by="day")) == {date(2024, 1, 1), date(2024, 1, 2), None}


def test_each_slice_is_as_the_reference_has_it(model: recs.TwoTower) -> None:
    """A slice of queries has these; a slice of candidates or rows has of each query those targets."""
    items = ["x", "y", "z"]
    scores = dict(zip("abc", model.encode_query(list("abc")) @ model.encode_candidate(items).T, strict=True))
    table = {name: values[:6] for name, values in TEST.items()}
    test = interactions(table)
    for by, slices in {
        "country": {"de": {"c": {1}}, "fr": {"a": {0, 1}, "b": {0, 2}}},
        "genre": {"comedy": {"a": {1}, "c": {1}}, "drama": {"a": {0}, "b": {0, 2}}},
        "device": {"phone": {"a": {0, 1}, "c": {1}}, "desk": {"a": {1}, "b": {2}}, None: {"b": {0}}},
        "warmth": {
            "hot queries": {"a": {0, 1}},
            "warm queries": {"b": {0, 2}},
            "cold queries": {"c": {1}},
            "hot candidates": {"a": {0}, "b": {0}},
            "warm candidates": {"a": {1}, "c": {1}},
            "cold candidates": {"b": {2}},
        },
    }.items():
        found = model.evaluate(test, by=by, k=(1, 2))
        assert set(found) == set(slices)
        for name, wanted in slices.items():
            expected = evaluate([scores[u] for u in wanted], list(wanted.values()), (1, 2), counts=[*COUNTS.values()])
            got = {metric: row["value"] for metric, row in found[name].items()}
            if by in ("genre", "warmth") and "queries" not in str(name):
                for cut in (1, 2):  # coverage is of the slice's candidates
                    of = {"drama": {0, 2}, "comedy": {1}, "hot candidates": {0}, "warm candidates": {1}}.get(name, {2})
                    lists = {int(i) for u in wanted for i in np.argsort(-scores[u], kind="stable")[:cut]}
                    expected[f"coverage@{cut}"] = len(lists & of) / len(of)
            assert got == pytest.approx(expected, nan_ok=True), (by, name)
        counts = [(each.queries, each.targets) for each in found.slices]
        assert counts == [(len(slices[n]), sum(map(len, slices[n].values()))) for n in found]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_slices_of_queries_weighted_by_their_queries_are_the_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    size, corpus = int(random.integers(2, 9)), int(random.integers(3, 12))
    targets = [random.permutation(corpus)[: random.integers(1, 4)] for _ in range(size)]
    codes = Ragged.of(targets)
    found = ranks(np.eye(size), random.integers(0, 5, (corpus, size)).astype(float), codes)
    lists = random.integers(-1, corpus, (size, 3)).astype(np.int32)
    asked = Targets(pa.array(range(size)), codes, None, np.arange(len(codes.values)), np.arange(size))
    answers = Answers(asked, found, lists, random.integers(0, 9, corpus))
    label = random.integers(0, 3, size)
    measures = Measures((1, 2, 5), "expected")
    whole = measures.of(answers).mean()
    parts = slices_of(answers, "part", [Labels([0, 1, 2], [""] * 3, label[codes.segments])], measures)
    assert sum(each.queries for each in parts.slices) == size
    assert sum(each.targets for each in parts.slices) == len(codes.values)
    for family in ("recall", "hit_rate", "precision", "ndcg", "mrr", "map"):
        mean = sum(each.queries * each.metrics[f"{family}@2"]["value"] for each in parts.slices) / size
        assert mean == pytest.approx(whole[f"{family}@2"])
    mean = sum(each.targets * each.metrics["top_k_categorical_accuracy@2"]["value"] for each in parts.slices)
    assert mean / len(codes.values) == pytest.approx(whole["top_k_categorical_accuracy@2"])
    for each in parts.slices:
        for row in each.metrics.values():
            if "low" in row and not np.isnan(row["value"]):
                assert row["low"] - 1e-12 <= row["value"] <= row["high"] + 1e-12


def test_what_a_slice_is_as_a_value(model: recs.TwoTower) -> None:
    found = model.evaluate(interactions(TEST), by="device", k=(1,))
    assert isinstance(found, Slices) and found.by == "device"
    table = found.to_table()
    one = found["desk"]["recall@1"]
    rows = [row for row in table.to_pylist() if row["slice"] == "desk" and row["metric"] == "recall@1"]
    assert rows == [{"slice": "desk", "rule": "", "queries": 2, "targets": 2, "metric": "recall@1", **one}]
    assert table["slice"].null_count == len(found[None])
    assert [row["low"] for row in table.to_pylist() if row["metric"] == "coverage@1"] == [None] * 3
    lines = str(found).splitlines()
    assert lines[0].split()[:4] == ["by", "device", "queries", "targets"] and lines[3].startswith("(no value)")
    json.loads(json.dumps(found.to_json(), allow_nan=False))
    with pytest.raises(KeyError, match=r"by='device' has no slice 'watch'; there are 'desk', 'phone', None"):
        found["watch"]


def test_served_by_numpy_the_same(model: recs.TwoTower, tmp_path: Path) -> None:
    test = interactions(TEST)
    bare = recs.load(model.save(tmp_path / "bundle"), runtime="numpy")
    for by in ("warmth", "genre"):
        served, trained = (one.evaluate(test, by=by).to_table() for one in (bare, model))
        assert served.drop_columns(BOUNDS).equals(trained.drop_columns(BOUNDS))
        for column in BOUNDS:  # in which NaN is NaN
            np.testing.assert_allclose(served[column].to_numpy(), trained[column].to_numpy())


BOUNDS = ["value", "low", "high"]


@pytest.mark.parametrize(
    ("by", "error", "message"),
    [
        (3, SpecError, "by is 'warmth' or the name of a column, got 3"),
        (["country"], SpecError, "by is 'warmth' or the name of a column, got ['country']"),
        ("", DataError, "by='' is neither 'warmth' nor a column; there are the test's queries' side table: 'user'"),
        ("contry", DataError, "the test's candidates' side table: 'item', 'genre', 'code'; the test's rows: 'device'"),
        (
            "code",
            DataError,
            "by='code' is a column of the test's queries' side table and of its candidates' side table",
        ),
        ("tags", DataError, "by='tags': the column holds list<"),
    ],
)
def test_what_cannot_slice_is_refused_before_anything_is_ranked(
    model: recs.TwoTower, by: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        model.evaluate(interactions(TEST), by=by, exclude="nothing")  # type: ignore[call-overload]
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_too_many_values_and_a_column_called_warmth(model: recs.TwoTower) -> None:
    many = {"user": ["a"] * (MOST + 1), "item": ["x"] * (MOST + 1), "n": list(range(MOST + 1))}
    with pytest.raises(DataError, match=r"by='n': the test data has 51 different values, more than 50; bucket them"):
        model.evaluate(interactions(many), by="n")
    assert len(model.evaluate(interactions({**many, "n": [*range(MOST), 0]}), by="n")) == MOST
    with pytest.raises(DataError, match="by='warmth' means training rows, and the test's rows has such a column"):
        model.evaluate(interactions({"user": ["a"], "item": ["x"], "warmth": ["hot"]}), by="warmth")
    with pytest.raises(DataError, match="test: expected Interactions, got str"):
        model.evaluate("test", by="warmth")  # type: ignore[call-overload]


def places(ranked: recs.evaluation.Ranks) -> np.ndarray[Any, Any]:
    """1 / the best place of each query."""
    return np.array([1 / ranked.places[a:b].min() for a, b in zip(ranked.offsets, ranked.offsets[1:], strict=False)])


def worst(ranked: recs.evaluation.Ranks) -> float:
    return max(ranked.places[np.isfinite(ranked.places)], default=0)


def test_a_metric_of_ones_own(model: recs.TwoTower) -> None:
    test = interactions(TEST)
    found = model.evaluate(test, metrics=[places, worst])
    assert found["places"] == pytest.approx(found["mrr"]) and 1 <= found["worst"] <= 3
    sliced = model.evaluate(test, by="country", metrics=[places, worst])
    for row in sliced.values():
        assert row["places"] == pytest.approx(row["mrr"]) and row["worst"].keys() == {"value"}
    assert "places" in str(sliced) and "worst" in str(sliced)


def test_own_metrics_that_are_none(model: recs.TwoTower) -> None:
    gives: list[Any] = []

    def recall(ranked: Any) -> Any:
        return gives[-1]

    test = interactions(TEST)
    for number, message in [
        ("high", "metrics: recall gave 'high'; return a number, or one per query"),
        ("5", "metrics: recall gave '5'; return a number, or one per query"),
        (None, "metrics: recall gave None; return a number, or one per query"),
        ([[1.0], [1.0, 2.0]], "metrics: recall gave [[1.0], [1.0, 2.0]]; return a number, or one per query"),
        ([1.0, 2.0], "metrics: recall gave shape (2,); return a number, or one for each of 4 queries"),
        (float("nan"), "metrics: recall gave NaN or infinity; return a finite number"),
        ([1, 2, 3, np.inf], "metrics: recall gave NaN or infinity; return a finite number"),
    ]:
        gives.append(number)
        with pytest.raises(SpecError) as raised:
            model.evaluate(test, metrics=[recall])
        assert str(raised.value) == message
    for odd, message in [
        (recall, "metrics: expected a list of functions of ranks, got <function"),
        ("recall", "metrics: expected a list of functions of ranks, got 'recall'; put it in a list"),
        (["recall"], "metrics[0]: expected a function of ranks, got 'recall'"),
        ([lambda ranked: 0.0], "metrics[0]: a metric is named by its function, and <function"),
        ([recall, recall], "metrics[1]: 'recall' is the name of another metric; rename the function"),
    ]:
        with pytest.raises(SpecError) as raised:
            model.evaluate(test, metrics=odd)  # type: ignore[call-overload]
        assert message in str(raised.value)


def test_the_shell_prints_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [(f"u{u}", f"i{(u + n) % 7}", n, "phone" if n % 2 else "") for u in range(20) for n in range(6)]
    path = tmp_path / "shop.csv"
    path.write_text("user,item,t,device\n" + "".join(f"{u},{i},{1_600_000_000 + t},{d}\n" for u, i, t, d in lines))
    run = tmp_path / "run"
    columns = ("--query", "user", "--candidate", "item", "--timestamp", "t", "--split", "random", "--test", "0.3")

    def shell(*arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return err if code else out

    trained = shell("train", path, *columns, "--epochs", "1", "--out", run)
    for name in ("coverage@20", "popularity@20", "tail_recall@20"):
        assert name in trained
    said = shell("evaluate", run, "--by", "warmth", "--by", "device")
    for word in ("coverage@20", "by warmth", "cold queries", "1–9 training rows", "by device", "(no value)"):
        assert word in " ".join(said.split()), word
    found = json.loads(shell("evaluate", run, "--by", "device", "--json"))
    assert [each["name"] for each in found["slices"]["device"]] == ["phone", None]
    assert found["slices"]["device"][0]["metrics"]["recall@20"].keys() == {"value", "low", "high"}
    assert found["metrics"]["popularity"].keys() == found["metrics"]["model"].keys()
    assert shell("evaluate", run, "--by", "colour", code=2).startswith("recs: by='colour' is neither 'warmth' nor a")
