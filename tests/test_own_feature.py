"""A feature kind of one's own: a class that no backend has heard of trains, answers, is saved and loaded everywhere."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.batch import Ragged
from recs_core.contract.columns import as_numbers, as_values
from recs_core.contract.errors import BackendConflict, BundleError, DataError, SpecError
from recs_core.contract.features import Feature, TableFeature
from recs_core.reference.backend import OracleBackend


@dataclass(frozen=True)
class Rounded(TableFeature):
    """A number by its whole part, 0 … `top`: one code per row."""

    top: int = 9

    def rows(self, state: Any) -> int:
        return self.top + 1

    def encode(self, values: Any, known: Any) -> Any:
        return np.clip(np.nan_to_num(as_numbers(values, self.where)), 0, self.top).astype(np.int32)


@dataclass(frozen=True)
class Letters(TableFeature):
    """The letters of a text, each counted from the most frequent of the training data: several codes per row."""

    kind: ClassVar[Any] = "many"

    def learn(self, values: Any) -> Any:
        letters = "".join(as_values(values, self.where, "text").drop_null().to_pylist())
        return {"letters": "".join(sorted(set(letters), key=lambda letter: (-letters.count(letter), letter)))}

    def rows(self, state: Any) -> int:
        return max(1, len(state["letters"]))

    def encode(self, values: Any, known: Any) -> Any:
        texts = as_values(values, self.where, "text").to_pylist()
        return Ragged.of(
            [[known.state["letters"].index(x) for x in text or "" if x in known.state["letters"]] for text in texts]
        )


@dataclass(frozen=True)
class Angle(Feature):
    """Degrees as cosine and sine: two numbers per row."""

    @property
    def width(self) -> int:
        return 2

    def encode(self, values: Any, known: Any) -> Any:
        radians = np.radians(as_numbers(values, self.where))
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)


OWN = (Rounded, Letters, Angle)
BACKENDS = [
    OracleBackend(),
    *(
        pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"no {module}"))
        for name, module in {
            "torch": "recs_core_torch",
            "tensorflow": "recs_core_tensorflow",
            "keras[jax]": "jax",
        }.items()
    ),
]


def loaded(backend: Any) -> Any:
    """The backend, where no other one is in its way: TensorFlow with Keras 2 and with Keras 3 want a process each, as
    tests/parity has it."""
    try:
        return recs.backend(backend)
    except BackendConflict as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    random = np.random.default_rng(2)
    rows = {"user": random.integers(0, 12, 150), "item": random.integers(0, 10, 150)}
    items = {
        "item": range(10),
        "price": [0.5, 3.2, 8.9, 40.0, 2.0, 2.9, 7.0, 1.0, None, 5.5],
        "name": ["abba", "cab", "", None, "dad", "bee", "ace", "fed", "baa", "bed"],
        "wind": [float(36 * n) for n in range(10)],
    }
    return recs.Interactions.from_table(rows, query="user", candidate="item", candidates=items)


def model(backend: Any, **options: Any) -> recs.TwoTower:
    candidate = [recs.Categorical("item", dim=4), Rounded("price", dim=3), Letters("name", dim=2), Angle("wind")]
    return recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=4)], layers=[5], activation="tanh", final_activation="tanh"),
        recs.TowerSpec(candidate, layers=[5], activation="tanh", final_activation="tanh"),
        recs.RetrievalSpec(negatives="corpus", temperature=0.5),
        recs.Adagrad(0.1),
        training=recs.TrainingSpec(epochs=2, batch_size=64),
        backend=backend,
        **options,
    )


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend if isinstance(backend, str) else "oracle")
def test_it_trains_as_the_oracle_does_and_serves_without_a_framework(
    data: recs.Interactions, backend: Any, tmp_path: Path
) -> None:
    own, oracle = model(loaded(backend), dtype="float64"), model(OracleBackend(), dtype="float64")
    own.fit(data)
    oracle.fit(data)
    np.testing.assert_allclose(own.history.losses, oracle.history.losses, rtol=1e-9)
    for name, weight in oracle.weights().items():
        np.testing.assert_allclose(own.weights()[name], weight, rtol=1e-7, atol=1e-9)
    assert 0 < own.evaluate(data, k=[5])["recall@5"] <= 1
    path = own.save(tmp_path / "bundle")
    bare = recs.load(path, runtime="numpy", custom=OWN)
    np.testing.assert_array_equal(bare.recommend([0, 1], k=10).ids, own.recommend([0, 1], k=10).ids)
    new = {"price": [3.0], "name": ["bed"], "wind": [90.0]}
    np.testing.assert_allclose(bare.encode_candidate(features=new), own.encode_candidate(features=new), rtol=1e-6)
    again = recs.load(path, backend=backend, custom=OWN)
    again.fit(data, epochs=1)
    own.fit(data, epochs=1)
    np.testing.assert_allclose(again.history.losses, own.history.losses, rtol=1e-12)


def test_a_bundle_names_the_class_that_is_not_handed_over(data: recs.Interactions, tmp_path: Path) -> None:
    fitted = model(OracleBackend())
    fitted.fit(data)
    path = fitted.save(tmp_path / "bundle")
    for given in ((), (Rounded, Angle)):
        with pytest.raises(BundleError, match=r"hand it over: custom=\[(Rounded|Letters)\]") as caught:
            recs.load(path, runtime="numpy", custom=given)
        assert "\n" not in str(caught.value)


def wrong(encode: Any, kind: Any = "one") -> Any:
    @dataclass(frozen=True)
    class Wrong(TableFeature):
        def rows(self, state: Any) -> int:
            return 3

    Wrong.kind, Wrong.encode = kind, encode  # type: ignore[method-assign]
    return Wrong("price", dim=2)


@pytest.mark.parametrize(
    ("encode", "kind", "said"),
    [
        (
            lambda self, values, known: [0] * len(values),
            "one",
            r"Wrong\.encode must return int32 of .*, got list",
        ),
        (lambda self, values, known: np.zeros(len(values)), "one", r"int32 of shape \(10,\), got float64 of shape"),
        (
            lambda self, values, known: np.zeros(3, np.int32),
            "one",
            r"int32 of shape \(10,\), got int32 of .*3",
        ),
        (lambda self, values, known: np.full(len(values), 9, np.int32), "one", r"rows 0 … 2 of table/price, got 9"),
        (lambda self, values, known: np.zeros(len(values), np.int32), "many", "a Ragged of 10 rows of int32"),
    ],
)
def test_what_encode_gives_is_checked(data: recs.Interactions, encode: Any, kind: str, said: str) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=2), wrong(encode, kind)])
    declared = recs.TwoTower(recs.TowerSpec([recs.Categorical("user", dim=4)]), tower, backend=OracleBackend())
    with pytest.raises(SpecError, match=said):
        declared.fit(data)


def test_a_class_without_a_method_is_named(data: recs.Interactions) -> None:
    @dataclass(frozen=True)
    class Lacking(TableFeature):
        """No rows, no encode."""

    tower = recs.TowerSpec([recs.Categorical("item", dim=2), Lacking("price", dim=2)])
    declared = recs.TwoTower(recs.TowerSpec([recs.Categorical("user", dim=4)]), tower, backend=OracleBackend())
    with pytest.raises(SpecError, match=r"Lacking.* must define encode"):
        declared.fit(data)


def test_a_column_it_cannot_use_is_an_error_of_its_own_words(data: recs.Interactions) -> None:
    tower = recs.TowerSpec([recs.Categorical("item", dim=4), Angle("name")])
    declared = recs.TwoTower(recs.TowerSpec([recs.Categorical("user", dim=6)]), tower, backend=OracleBackend())
    with pytest.raises(DataError, match=r"Angle\('name'\) needs numbers, got strings"):
        declared.fit(data)
