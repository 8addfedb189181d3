"""What the recipe `features` makes of side columns: it uses what it can, and says why it leaves out the rest."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.feature_kinds import Bag, Categorical, Clock, History, Numeric, Text, Vector
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.recipes import choose
from recs_core.recipes.features import side_features


def test_side_features_become_what_their_values_are() -> None:
    table = pa.table(
        {
            "genres": pa.array([["a", "b"], [], ["a"], None, ["b"], ["c"]]),
            "price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "weight": [1.0, float("nan"), None, 4.0, 5.0, 6.0],
            "year": [1990, 1991, 1990, 2000, 2001, 2002],
            "country": ["United Kingdom", "United Kingdom", "United Kingdom", "France", "France", "France"],
            "title": ["A Red Lamp", "A Blue Lamp", "Two Cups", "Three Cups", "A Cup", "The Lamp"],
            "zip": ["1", "2", "3", "4", "5", "6"],
            "since": pa.array([0, 1, 2, 3, 4, 5], pa.timestamp("s")),
        }
    )
    features, reasons = side_features(table, "movie")
    assert features == [
        Bag("genres", dim=16),
        Numeric("price"),
        Numeric("year"),
        Categorical("country", dim=16),
        Text("title", dim=64),
        Clock("since", parts=("age_days",)),
    ]
    assert len(reasons) == 8
    assert "movie's weight: left out, 2 of 6 numbers are missing" in reasons[2]
    assert "movie's zip: left out, 6 distinct values" in reasons[6]
    assert "movie's since: a time, so its age" in reasons[7]


SIX = range(6)


@pytest.mark.parametrize(
    ("column", "feature", "why"),
    [
        ([2**60, 2**60 + 1] * 3, Categorical("x", dim=16), "2 distinct values, so a category"),
        ([2**60 + row for row in SIX], None, "6 distinct values of 6"),
        (pa.array([2**64 - 1 - row for row in SIX], pa.uint64()), None, "use strings"),
        (pa.array([5, 6] * 3, pa.uint64()), Numeric("x"), "a number"),
        ([True, False, None] * 2, None, "2 distinct values of 4"),
        ([True, False] * 3, Categorical("x", dim=16), "2 distinct values, so a category"),
        (pa.array([1, 2] * 3, pa.decimal128(20, 2)), Numeric("x"), "a number"),
        ([1, None] * 3, None, "3 of 6 numbers are missing"),
        ([0.0, float("inf")] * 3, None, "3 of 6 numbers are missing"),
        ([dt.date(2020, 1, 1)] * 6, Clock("x", parts=("age_days",)), "a time, so its age"),
        ([dt.timedelta(1)] * 6, None, "duration"),
        ([[0.1, 0.2]] * 6, Vector("x", dim=64, normalise=True), "vectors of 2 numbers, normalised and mapped to 64"),
        (pa.array([[0.1, 0.2]] * 6, pa.list_(pa.float32(), 2)), Vector("x", dim=64, normalise=True), "of 2 numbers"),
        ([[0.1, 0.2], [0.1]] * 3, None, "vectors of 2, 1 numbers: make all of one length"),
        ([[0.1, None], [0.1, 1.0]] * 3, None, "hold numbers which are missing"),
        (pa.array([["a", "b"]] * 6, pa.list_(pa.string(), 2)), Bag("x", dim=16), "lists of strings, so a bag"),
        (pa.array([["a"]] * 6, pa.list_view(pa.string_view())), Bag("x", dim=16), "so a bag"),
        (pa.ListArray.from_arrays(list(range(7)), pa.array(["a"] * 6).dictionary_encode()), Bag("x", dim=16), "a bag"),
        ([[1, 2]] * 6, Bag("x", dim=16), "lists of integers, so a bag"),
        ([[["a"]]] * 6, None, "lists of lists"),
        (pa.array(["a", "b"] * 3).dictionary_encode(), Categorical("x", dim=16), "so a category"),
        (pa.RunEndEncodedArray.from_arrays([3, 6], ["a", "b"]), Categorical("x", dim=16), "so a category"),
        ([{"a": 1}] * 6, None, "struct"),
        ([b"a"] * 6, None, "binary"),
        ([None] * 6, None, "no value at all"),
        (pa.nulls(6, pa.string()), None, "no value at all"),
        (pa.nulls(6, pa.float64()), None, "no value at all"),
        (["", " "] * 3, Categorical("x", dim=16), "so a category"),
    ],
    ids=str,
)
def test_each_column_is_used_or_left_out_with_a_reason(column, feature, why) -> None:
    table = pa.table({"item": [f"i{row}" for row in SIX], "x": column})
    data = shop(candidates=table)
    chosen = choose("features", data)
    assert list(chosen.candidate.features[1:]) == ([] if feature is None else [feature])
    assert any(reason.startswith("item's x: ") and why in reason for reason in chosen.reasons), chosen.reasons
    assert_can_be_encoded(chosen, data)


def shop(**sides) -> recs.Interactions:
    rows = {"user": [f"u{row}" for row in SIX] * 2, "item": [f"i{row}" for row in SIX] + [f"i{5 - row}" for row in SIX]}
    return recs.Interactions.from_table(rows, query="user", candidate="item", **sides)


def assert_can_be_encoded(chosen, data: recs.Interactions) -> Schema:
    schema = Schema.learn(chosen.query, chosen.candidate, data)
    assert len(EncodedDataset.encode(chosen.query, chosen.candidate, schema, data)) == len(data)
    return schema


def both(name: str, users: list, items: list) -> recs.Interactions:
    queries = {"user": [f"u{row}" for row in SIX], name: users}
    return shop(queries=queries, candidates={"item": [f"i{row}" for row in SIX], name: items})


@pytest.mark.parametrize("items", [["x", "y"] * 3, [2**60, 2**61] * 3, [["x"], ["y"]] * 3])
def test_one_name_on_both_sides_is_two_tables(items) -> None:
    data = both("country", ["de", "fr"] * 3, items)
    chosen = choose("features", data)
    assert [feature.table_name for feature in chosen.query.features] == ["table/item", "table/user.country"]
    assert [feature.table_name for feature in chosen.candidate.features] == ["table/item", "table/item.country"]
    vocabularies = assert_can_be_encoded(chosen, data).vocabularies
    assert vocabularies["table/user.country"].ids.to_pylist() == ["de", "fr"]
    assert len(vocabularies["table/item.country"]) == 2


def test_a_table_of_its_own_is_nobody_elses() -> None:
    queries = {"user": [f"u{row}" for row in SIX], "a": ["x", "y"] * 3, "user.a": ["p", "q"] * 3}
    data = shop(queries=queries, candidates={"item": [f"i{row}" for row in SIX], "a": ["r", "s"] * 3})
    names = [feature.table_name for feature in choose("features", data).query.features]
    assert len(set(names)) == 3
    assert_can_be_encoded(choose("features", data), data)


def test_a_column_named_as_the_other_sides_ids() -> None:
    data = shop(queries={"user": [f"u{row}" for row in SIX], "item": ["i1", "i2"] * 3})
    chosen = choose("features", data)
    assert chosen.query.features == (History("item", dim=64),)
    assert any("user's item: left out, " in reason and "rename" in reason for reason in chosen.reasons)
    assert_can_be_encoded(chosen, data)
    data = shop(candidates={"item": [f"i{row}" for row in SIX], "user": ["x", "y"] * 3})
    chosen = choose("features", data)
    assert chosen.candidate.features[1].table_name == "table/item.user"
    assert assert_can_be_encoded(chosen, data).vocabularies["table/item.user"].ids.to_pylist() == ["x", "y"]


@pytest.mark.parametrize("name", ["price/unit", "/", ""])
def test_a_name_that_no_feature_can_have_is_left_out(name: str) -> None:
    chosen = choose("features", shop(candidates=pa.table({"item": [f"i{row}" for row in SIX], name: [1.0] * 6})))
    assert len(chosen.candidate.features) == 1
    assert any(f"item's {name}: left out" in reason and "rename" in reason for reason in chosen.reasons)


def test_features_says_so_where_there_are_none() -> None:
    data = recs.Interactions.from_table({"u": [1, 1, 2], "i": [1, 2, 1]}, query="u", candidate="i")
    assert choose("features", data).reasons[-1].startswith("no column beside the ids")


def test_features_place_a_new_candidate_beside_its_like() -> None:
    """Two kinds of movies, each liked by half of the users: a movie nobody saw is near those of its own kind."""
    random = np.random.default_rng(0)
    users, movies = np.repeat(np.arange(40), 6), np.empty(240, int)
    for user in range(40):
        movies[user * 6 : user * 6 + 6] = random.permutation(15)[:6] + 15 * (user % 2)
    side = {"movie": np.arange(30), "kind": ["slow drama"] * 15 + ["space war"] * 15}
    train = recs.Interactions.from_table(
        {"user": users, "movie": movies}, query="user", candidate="movie", candidates=side
    )
    model = recs.recipe("features", train, backend="keras", seed=0)
    model.fit(train, epochs=30, progress=False)
    new = model.encode_candidate(features={"movie": [100, 101], "kind": ["slow drama", "space war"]})
    scores = model.encode_query([0, 1]) @ new.T
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]


# A column that is an id and text at once

TITLES = ["red lamp", "blue cup", "old vase", "tall lamp"]


def titled(**items: list[str]) -> recs.Interactions:
    rows = {"user": ["a", "a", "b", "b", "c", "c"], "title": [TITLES[n] for n in (0, 1, 0, 2, 3, 2)]}
    table = {"title": TITLES, **items} if items else None
    return recs.Interactions.from_table(rows, query="user", candidate="title", candidates=table)


def test_a_column_read_twice_says_what_to_do_and_that_works() -> None:
    with pytest.raises(SpecError, match=r"two features are named 'title'.*a copy of it, such as 'title_text'"):
        recs.TowerSpec([Categorical("title", dim=4), Text("title", dim=4)])
    tower = recs.TowerSpec([Categorical("title", dim=4), Text("title_text", dim=4)])
    model = recs.TwoTower(recs.TowerSpec([History("title", dim=4)], layers=[8]), tower)
    model.fit(titled(title_text=TITLES), epochs=1, progress=False)
    assert sorted(model.recommend(["a"], k=4).ids[0]) == sorted(TITLES)
    new, wordless = ({"title": ["new"], "title_text": [words]} for words in ("red lamp", ""))
    assert (model.encode_candidate(features=new) != model.encode_candidate(features=wordless)).any()


def test_the_recipe_says_so_of_ids_that_are_words() -> None:
    said = "title: an id alone, of 2.0 words; give its side table a copy of it to have it read as text"
    assert said in choose("features", titled()).reasons
    chosen = choose("features", titled(words=TITLES))
    assert Text("words", dim=64) in chosen.candidate.features and said not in chosen.reasons


def requests() -> recs.Interactions:
    random = np.random.default_rng(0)
    table = {
        "user": random.integers(0, 9, 90),
        "item": random.integers(0, 12, 90),
        "ts": 1.6e9 + np.arange(90) * 3_600,
        "device": random.choice(["ios", "web"], 90),
        "page": random.integers(0, 5, 90),
        "rating": random.integers(1, 6, 90),
    }
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="ts")


def test_context_that_is_named_is_read_and_no_other_column_of_the_rows() -> None:
    chosen = choose("features", requests(), context=["device", "ts"])
    assert chosen.query.features[1:] == (Categorical("device", dim=16), Clock("ts"))
    assert chosen.training.batch_by == "interaction"
    said = "\n".join(chosen.reasons)
    assert "context is of an interaction" in said and "the request's ts: its hour, weekday and age" in said
    model = recs.recipe("features", requests(), context=["device", "ts"])
    model.fit(requests(), epochs=1, progress=False)
    assert model.schema.context == ("device", "ts")
    assert choose("features", requests()).training.batch_by == "query"


def test_context_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(
        DataError, match="no column 'decive' beside their ids; they have 'ts', 'device', 'page', 'rating'"
    ):
        choose("features", requests(), context=["decive"])
    with pytest.raises(SpecError, match=r"context is a list of columns, got 'device'; write \['device'\]"):
        choose("features", requests(), context="device")
    with pytest.raises(SpecError, match="recipe 'history' reads no context; 'features' does"):
        choose("history", requests(), context=["device"])


VECTORS = """
import numpy as np, pyarrow as pa
from recs_core.recipes.features import side_features
vectors = np.zeros((50_000, 64), np.float32)
table = pa.table({"item": np.arange(50_000), "x": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 64)})
features, _ = side_features(table, "item")
assert features[-1].name == "x"
print(pa.default_memory_pool().max_memory() / vectors.nbytes)
"""


def test_a_column_of_vectors_is_looked_at_in_less_memory_than_it_takes() -> None:
    done = subprocess.run([sys.executable, "-c", VECTORS], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 1
