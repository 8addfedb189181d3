"""SavedModels, asked in a process that has TensorFlow and does not import this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from recs_core_tensorflow import export_recommender, export_tower
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.export import Lookup, ServedTower, save_recommender, save_tower

import recs_core as recs
from recs_core.contract.errors import DataError, UnsupportedFeature
from recs_core.contract.features import Known

ASK = """
import json, sys
import numpy as np, tensorflow as tf
path, signature, given = sys.argv[1], sys.argv[2], json.load(sys.stdin)
ask = tf.saved_model.load(path).signatures[signature]
types = {name: spec.dtype for name, spec in ask.structured_input_signature[1].items()}
answer = ask(**{name: tf.constant(value, types[name]) for name, value in given.items()})
assert not any(name.startswith("recs_core") for name in sys.modules)
def plain(tensor):
    values = tensor.numpy()
    return np.char.decode(values.astype(bytes)).tolist() if values.dtype == object else values.tolist()
print(json.dumps({name: plain(value) for name, value in answer.items()}))
"""


def ask(path: Path, given: dict[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
    env = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path), signature],
        input=json.dumps(given), capture_output=True, text=True, check=False, env=env, cwd=path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name: np.array(value) for name, value in json.loads(done.stdout).items()}


def fitted(kind: type) -> recs.TwoTower:
    users, items = [], []
    for i in range(60):
        users.append(kind(i % 9 + 1))
        items.append(kind(i * 7 % 13 + 1))
    train = recs.Interactions.from_table({"user": users, "item": items}, query="user", candidate="item")
    model = recs.TwoTower(
        query=recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4)], layers=[5]),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=4)], layers=[5]),
        backend="tensorflow",
    )
    model.fit(train, epochs=2, batch_size=16, progress=False)
    return model


@pytest.mark.parametrize("kind", [str, int])
def test_a_recommender_answers_as_here(kind: type, tmp_path: Path) -> None:
    model = fitted(kind)
    export_recommender(model, tmp_path, k=4)
    users, past = [kind(1), kind(5)], [[kind(2), kind(9)], [kind(3)]]
    padding = "" if kind is str else -1
    features = {"user": users, "item": [[kind(2), kind(9)], [kind(3), padding]]}
    here = model.recommend(users, k=4, history=past)
    there = ask(tmp_path, features)
    np.testing.assert_array_equal(there["ids"].astype(here.ids.dtype), here.ids)
    np.testing.assert_allclose(there["scores"], here.scores, rtol=1e-5)

    seen = [[kind(2), kind(9)], [kind(3)]]
    here = model.recommend(users, k=15, history=past, exclude=seen)
    given = {**features, "exclude": [[kind(9), kind(2), padding], [kind(3), kind(777), padding]], "k": 15}
    there = ask(tmp_path, given, "recommend")
    wanted = np.array([[padding if i is None else i for i in row] for row in here.ids.tolist()])
    corpus = wanted.shape[1]  # where ours cuts k to the corpus, a graph fills up
    np.testing.assert_array_equal(there["ids"][:, :corpus], wanted)
    assert not set(there["ids"][0].tolist()) & set(seen[0])
    np.testing.assert_allclose(there["scores"][:, :corpus], here.scores, rtol=1e-5)
    assert set(there["ids"][:, corpus:].ravel().tolist()) <= {padding}


def test_a_tower_with_every_kind_of_feature(tmp_path: Path) -> None:
    about = recs.Text("about", dim=3, buckets=32)
    tower = recs.TowerSpec(
        [recs.Categorical("country", dim=2), recs.Bag("tags", dim=3), about, recs.Numeric("age")], layers=[4]
    )
    random = np.random.default_rng(0)
    shapes = {
        "table/country": (4, 2), "table/tags": (3, 3), "table/about": (32, 3),
        "query/dense_0/kernel": (9, 4), "query/dense_0/bias": (4,),
    }  # fmt: skip
    weights = {name: random.normal(size=shape) for name, shape in shapes.items()}
    lookups = {
        "table/country": Lookup(np.array(["at", "be", "ch"], object)),
        "table/tags": Lookup(np.array([7, 2**40])),
    }
    save_tower(ServedTower(tower, "query", weights, lookups, {"age": {"mean": 30.0, "deviation": 10.0}}), tmp_path)
    words = about.encode(pa.array(["a b"]), Known()).values
    given = {
        "country": ["be", "never seen"],
        "tags": [[7, 2**40, -1], [-1, -1, -1]],
        "about": [words.tolist(), [-1] * len(words)],
        "age": [45.0, 30.0],
    }
    got = ask(tmp_path, given)["embedding"]
    tags, text = weights["table/tags"], weights["table/about"]
    x = np.stack(
        [
            np.concatenate([weights["table/country"][2], (tags[1] + tags[2]) / 2, text[words].mean(0), [1.5]]),
            np.concatenate([weights["table/country"][0], np.zeros(3), np.zeros(3), [0.0]]),
        ]
    )
    wanted = x @ weights["query/dense_0/kernel"] + weights["query/dense_0/bias"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("edges", [[1.0, 2.5], [], [0.1 + 0.2]])
def test_buckets_are_those_of_the_feature(edges: list[float], tmp_path: Path) -> None:
    prices = recs.Bucketed("price", dim=1, edges=edges or 2)
    weights = {"table/price": np.arange(len(edges) + 2.0)[:, None]}
    save_tower(ServedTower(recs.TowerSpec([prices]), "query", weights, {}, {"price": {"edges": edges}}), tmp_path)
    asked = [-1.0, 0.3, 0.1 + 0.2, 1.0, 2.4, 2.5, 9.0, float("nan")]
    got = ask(tmp_path, {"price": asked})["embedding"][:, 0]
    by_hand = [0 if np.isnan(price) else 1 + sum(price >= edge for edge in edges) for price in asked]
    np.testing.assert_array_equal(got, by_hand)


def test_a_fitted_tower(tmp_path: Path) -> None:
    model = fitted(str)
    export_tower(model, "candidate", tmp_path)
    got = ask(tmp_path, {"item": ["3", "1"]})["embedding"]
    known = model.schema.candidates.encode(pa.array(["3", "1"]))
    features = model.catalog.candidate.take(known)
    np.testing.assert_allclose(got, model.candidate_tower.embed(features), rtol=1e-5, atol=1e-7)


def tower_of(ids: np.ndarray, first_row: int = 1) -> ServedTower:
    spec = recs.TowerSpec([recs.Bag("user", dim=2)])
    weights = {"table/user": np.zeros((len(ids) + first_row, 2))}
    return ServedTower(spec, "query", weights, {"table/user": Lookup(ids, first_row)}, {})


@dataclass(frozen=True)
class Lowered(recs.Categorical):
    """Ids in lower case: a kind of a user's own, whose table is like any other's."""

    def encode(self, values: Any, known: Known) -> Any:
        return super().encode(pc.utf8_lower(values), known)


def test_a_kind_of_ones_own_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = recs.Interactions.from_table(
        {"user": ["a", "b", "a", "b"], "item": ["x", "y", "y", "x"]}, query="user", candidate="item"
    )
    towers = recs.TowerSpec([Lowered("user", dim=2)]), recs.TowerSpec([recs.Categorical("item", dim=2)])
    model = recs.TwoTower(*towers, backend="tensorflow")
    model.fit(data, epochs=1, batch_size=4, progress=False)
    says = r"cannot hold Lowered\('user'\).*\(it can: Categorical, .*\); serve .* recs\.load\(path, runtime='numpy'\)"
    with pytest.raises(UnsupportedFeature, match=says) as caught:
        export_tower(model, "query", tmp_path / "tower")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedFeature, match=says):
        export_recommender(model, tmp_path / "recommender")
    assert not list(tmp_path.iterdir())
    export_tower(model, "candidate", tmp_path / "candidate")


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    ids = np.array(["a", "b"], object)
    with pytest.raises(UnsupportedFeature, match="num_oov=1"):
        save_tower(tower_of(ids, 2), tmp_path)
    with pytest.raises(DataError, match="pads the inputs"):
        save_tower(tower_of(np.array(["", "b"], object)), tmp_path)
    vectors = np.zeros((2, 3), np.float32)
    with pytest.raises(DataError, match="'a' appear more than once"):
        save_recommender(tower_of(ids), recs.RetrievalSpec(), vectors, np.array(["a", "a"], object), tmp_path)


def adopting(raw_ids: bool) -> recs.TwoTower:
    """A query tower of one's own, over the ids and the past, by raw id or by code."""

    class Own(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = (tf.keras.layers.Embedding(16, 5) for _ in range(2))
            self.looks = None
            if raw_ids:
                self.looks = tf.keras.layers.StringLookup(), tf.keras.layers.StringLookup()
                self.looks[0].adapt([f"u{n}" for n in range(9)])
                self.looks[1].adapt([f"i{n}" for n in range(13)])

        def call(self, given: Any) -> Any:
            user, past = given["user"], given["item"]
            if self.looks is not None:
                user, past = self.looks[0](user), self.looks[1](past)
            return self.users(user) + tf.reduce_sum(self.items(past[:, -2:]), axis=1)

    table = {"user": [f"u{i % 9}" for i in range(60)], "item": [f"i{i * 7 % 13}" for i in range(60)]}
    train = recs.Interactions.from_table(table, query="user", candidate="item")
    model = recs.TwoTower(
        query=recs.Adopted(Own(), [recs.Categorical("user"), recs.History("item")], raw_ids=raw_ids),
        candidate=recs.TowerSpec([recs.Categorical("item", dim=4)], layers=[5]),
        backend="tensorflow",
    )
    model.fit(train, epochs=2, batch_size=16, progress=False)
    return model


@pytest.mark.parametrize("raw_ids", [False, True])
def test_a_recommender_with_a_tower_of_ones_own_answers_as_here(raw_ids: bool, tmp_path: Path) -> None:
    model = adopting(raw_ids)
    export_recommender(model, tmp_path / "all", k=4)
    export_tower(model, "query", tmp_path / "tower")
    users, past = ["u1", "nobody"], [["i2", "i9", "i4"], ["i3"]]
    given = {"user": users, "item": [["i2", "i9", "i4"], ["i3", "", ""]]}
    here, there = model.recommend(users, k=4, history=past), ask(tmp_path / "all", given)
    np.testing.assert_array_equal(there["ids"], here.ids)
    np.testing.assert_allclose(there["scores"], here.scores, rtol=1e-5)
    vectors = ask(tmp_path / "tower", given)["embedding"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, model.encode_query(users, history=past)[:, :-1], rtol=1e-4, atol=1e-6)
