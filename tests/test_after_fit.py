"""A fitted model: trained on, asked about known and new rows, changed by others; its answers are always its own."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError, TrainingError
from recs_core.reference.backend import OracleBackend
from recs_core.training import EpochRecord
from tests.shop import declared, shop


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return shop()


@pytest.fixture(scope="module")
def fitted(data: recs.Interactions) -> recs.TwoTower:
    model = declared()
    model.fit(data)
    return model


def taken(*parts: recs.Interactions) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for part in parts:
        table = part.to_table().to_pydict()
        for user, item in zip(table["user"], table["item"], strict=True):
            out.setdefault(user, set()).add(item)
    return out


# Trained on


def test_later_rows_without_side_tables_keep_the_features_that_were_learnt(data: recs.Interactions) -> None:
    model = declared()
    model.fit(data)
    before = model.catalog.candidate
    rows = data.to_table().slice(0, 20)
    model.fit(recs.Interactions.from_table(rows, query="user", candidate="item", timestamp="t"), epochs=1)
    assert np.array_equal(model.catalog.candidate.dense["price"], before.dense["price"])
    with pytest.raises(DataError, match="no such column"):
        items = {"item": rows["item"].unique(), "prise": [1.0] * len(rows["item"].unique())}
        model.fit(recs.Interactions.from_table(rows, query="user", candidate="item", candidates=items), epochs=1)


def test_what_an_earlier_fit_saw_is_not_forgotten_here_or_in_the_bundle(
    data: recs.Interactions, tmp_path: Path
) -> None:
    old, new = data.split(by="time", test=0.3)
    model = declared()
    model.fit(old)
    model.fit(new, epochs=1)
    assert model.catalog.counts.sum() == len(old) + len(new)
    seen = taken(old, new)
    for asked in (model, recs.load(model.save(tmp_path / "b"), runtime="numpy")):
        for user, ids in zip(seen, asked.recommend(list(seen), k=12, exclude="seen").ids, strict=True):
            assert not set(ids) & seen[user]


def test_later_data_may_lack_ids(data: recs.Interactions) -> None:
    model = declared()
    model.fit(data, epochs=1)
    table = data.take(np.arange(20)).to_table()
    prices = {"item": [f"i{n}" for n in range(12)], "price": [1.0] * 12}
    model.fit(
        recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", candidates=prices), epochs=1
    )
    assert len(model.schema.queries) == 15
    mean, deviation = model.schema.learnt["candidate/price"].values()
    np.testing.assert_allclose(model.catalog.candidate.dense["price"] * deviation + mean, 1.0)


def test_another_rate_keeps_the_optimizers_state_and_another_kind_starts_anew(
    data: recs.Interactions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = declared()
    model.fit(data, epochs=1)
    steps = int(model._trainer.state()["step"])
    with caplog.at_level(logging.INFO, "recs_core"):
        model.fit(data, epochs=1, optimizer=recs.Adam(0.001))
        assert int(model._trainer.state()["step"]) == 2 * steps and "with the state of" in caplog.text
        model.fit(data, epochs=1, optimizer=recs.Adagrad(0.05))
        assert int(model._trainer.state()["step"]) == steps and "with new state" in caplog.text
    assert recs.load(model.save(tmp_path / "b"), backend=model.backend).optimizer == recs.Adagrad(0.05)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("optimizer", recs.Adagrad(), r"fit\(train, optimizer=…\)"),
        ("retrieval", recs.RetrievalSpec(), "declare a new TwoTower"),
        ("training", recs.TrainingSpec(epochs=9), "pass fit its arguments"),
        ("query", recs.TowerSpec([recs.Categorical("user", dim=6)]), "declare a new TwoTower"),
        ("seed", 7, "declare a new TwoTower"),
        ("dtype", "float64", "declare a new TwoTower"),
    ],
)
def test_what_was_trained_is_fixed(fitted: recs.TwoTower, name: str, value: object, said: str) -> None:
    before = getattr(fitted, name)
    with pytest.raises(SpecError, match=f"{name} of a fitted model is fixed; .*{said}"):
        setattr(fitted, name, value)
    assert getattr(fitted, name) == before
    unfitted = declared()
    setattr(unfitted, name, value)
    assert getattr(unfitted, name) == value


# Answers are of the weights as they are


class Asks:
    """Keeps what the model answers at the end of each epoch."""

    def __init__(self, model: recs.TwoTower, test: recs.Interactions) -> None:
        self.model, self.test, self.vectors, self.recall = model, test, [], []

    def on_epoch_end(self, record: EpochRecord) -> None:
        self.vectors.append(self.model.encode_candidate().copy())
        self.recall.append(self.model.evaluate(self.test, k=[3])["recall@3"])


def test_a_callback_sees_the_weights_of_its_epoch(data: recs.Interactions) -> None:
    watched, plain = declared(), declared()
    asks = Asks(watched, data)
    watched.fit(data, epochs=3, callbacks=[asks])
    for vectors, recall in zip(asks.vectors, asks.recall, strict=True):
        plain.fit(data, epochs=1)
        np.testing.assert_array_equal(vectors, plain.encode_candidate())
        assert recall == plain.evaluate(data, k=[3])["recall@3"]


def test_answers_follow_weights_that_were_loaded(data: recs.Interactions) -> None:
    model = declared()
    model.fit(data, epochs=1)
    before = model.recommend(["u1"], k=5)
    old = model.weights()
    model.model.load_weights({name: -value for name, value in old.items()})
    assert not np.array_equal(model.recommend(["u1"], k=5).scores, before.scores)
    model.model.load_weights(old)
    np.testing.assert_array_equal(model.recommend(["u1"], k=5).scores, before.scores)


def test_the_corpus_is_handed_out_read_only(fitted: recs.TwoTower) -> None:
    with pytest.raises(ValueError, match="read-only"):
        fitted.encode_candidate()[0, 0] = 1.0
    fitted.encode_candidate(["i1"])[0, 0] = 1.0  # a copy


# Known and new rows of a table of features


def test_a_known_candidate_with_its_own_features_is_the_corpus_own(fitted: recs.TwoTower) -> None:
    known = fitted.encode_candidate(["i3", "i5"])
    table = {"item": ["i3", "i5"], "price": [3.0, 5.0]}
    np.testing.assert_allclose(fitted.encode_candidate(features=table), known, rtol=1e-6)
    named = fitted.encode_candidate(["i3", "i5"], features={"price": [3.0, 5.0]})
    np.testing.assert_allclose(named, known, rtol=1e-6)


def test_a_new_candidate_has_no_bias_and_stands_beside_known_ones(fitted: recs.TwoTower) -> None:
    mixed = fitted.encode_candidate(features={"item": ["i3", "new", None], "price": [3.0, 3.0, 3.0]})
    np.testing.assert_allclose(mixed[0], fitted.encode_candidate(["i3"])[0], rtol=1e-6)
    np.testing.assert_array_equal(mixed[1], mixed[2])
    assert mixed[1, -1] == 0 and mixed[0, -1] != 0  # the bias is the last column


def test_a_known_query_in_a_table_of_features_has_its_own_history(fitted: recs.TwoTower) -> None:
    np.testing.assert_allclose(
        fitted.encode_query(features={"user": ["u1", "u2"]}), fitted.encode_query(["u1", "u2"]), rtol=1e-6
    )
    seen = fitted.recommend(features={"user": ["u1"]}, k=12, exclude="seen").ids
    np.testing.assert_array_equal(seen, fitted.recommend(["u1"], k=12, exclude="seen").ids)


def test_ids_given_twice_must_agree(fitted: recs.TwoTower) -> None:
    with pytest.raises(DataError, match="features: column 'user' holds other ids than the ones given beside it"):
        fitted.recommend(["u1"], features={"user": ["u2"]})
    with pytest.raises(DataError, match="rows do not match: candidates has 1, features has 2"):
        fitted.encode_candidate(["i1"], features={"price": [1.0, 2.0]})


def test_popularity_answers_only_those_of_whom_nothing_is_known(fitted: recs.TwoTower) -> None:
    own = fitted.recommend(features={"user": ["u1"]}, k=3, unknown="popular")
    np.testing.assert_array_equal(own.ids, fitted.recommend(["u1"], k=3).ids)
    popular = fitted.recommend(["stranger"], k=3, unknown="popular").scores[0]
    assert popular.tolist() == sorted(fitted.catalog.counts, reverse=True)[:3]
    with pytest.raises(DataError, match=r"unknown is 'oov', 'popular', 'error'; got 'nobody'"):
        fitted.recommend(["u1"], unknown="nobody")  # type: ignore[arg-type]


# A test that the model knows nothing of


@pytest.mark.parametrize(("user", "item", "said"), [("u1", "j1", "every metric is 0"), ("v1", "i1", "answered alike")])
def test_evaluating_what_the_model_cannot_know_is_said(fitted: recs.TwoTower, user: str, item: str, said: str) -> None:
    test = recs.Interactions.from_table({"user": [user], "item": [item]}, query="user", candidate="item")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted.evaluate(test, k=[3], exclude=test if said == "every metric is 0" else None)
    assert [w for w in caught if said in str(w.message) and w.filename == __file__]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, d: m.evaluate(d, exclude=[["i1"]]), "exclude: expected Interactions, or a list of them, got list"),
        (lambda m, d: m.evaluate(d, history="seen"), "history: expected Interactions"),
        (lambda m, d: m.evaluate(["u1"]), "test: expected Interactions, got list"),
        (lambda m, d: m.recommend(["u1"], exclude={"u1": ["i1"]}), "exclude: expected a list, got a dict"),
        (lambda m, d: m.recommend(["u1"], exclude="all"), "exclude: interactions, 'seen', or one list"),
        (lambda m, d: m.recommend(history=["i1", "i2"]), "history: row 0 is one id, 'i1'"),
        (lambda m, d: m.recommend(["u1"], exclude=["i1"]), "exclude: row 0 is one id, 'i1'"),
        (
            lambda m, d: m.recommend(["u1"], exclude=[d, ["i1"]]),
            "exclude: row 0: expected a list|exclude, row 0: expected",
        ),
        (lambda m, d: m.recommend(["u1"], allow="i1"), "allow: expected a list of ids, got one, 'i1'"),
        (lambda m, d: m.similar("i1"), "candidates: expected a list of ids, got one, 'i1'"),
        (lambda m, d: m.similar(["i1"], k=0), "k must be a whole number"),
        (lambda m, d: m.encode_candidate("i1"), "candidates: expected a list of ids, got one, 'i1'"),
        (lambda m, d: m.encode_query(7), "queries: expected a list of ids, got one, 7"),
        (lambda m, d: m.recommend(d), "queries: expected a list, got Interactions"),
        (lambda m, d: m.recommend(features={"user": [1]}), "features, column 'user': the ids of 'user' are strings"),
    ],
)
def test_a_mistake_names_the_argument(fitted: recs.TwoTower, data: recs.Interactions, call, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        call(fitted, data)
    assert "\n" not in str(caught.value)


# The last batch


def test_drop_last_leaves_out_the_short_batch_alone() -> None:
    from recs_core.contract.protocols import BatchPlan
    from recs_core.data.batching import Batching
    from recs_core.data.encoded import EncodedDataset
    from recs_core.data.schema import Schema

    data, spec = shop(101), recs.RetrievalSpec(negatives="corpus")
    towers = recs.TowerSpec([recs.Categorical("user", dim=2)]), recs.TowerSpec([recs.Categorical("item", dim=2)])
    encoded = Batching(EncodedDataset.encode(*towers, Schema.learn(*towers, data), data))
    sizes = {}
    for drop in (False, True):
        plan = BatchPlan(20, "interaction", spec, drop_last=drop)
        sizes[drop] = [batch.query.size for batch in encoded.batches(plan, seed=1, epoch=0)]
        assert encoded.steps(plan) == len(sizes[drop])
    assert sizes == {False: [20] * 5 + [1], True: [20] * 5}
    with pytest.raises(DataError, match="drop_last leaves no batch of 200, an epoch has 101"):
        next(iter(encoded.batches(BatchPlan(200, "interaction", spec, drop_last=True), seed=1, epoch=0)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"drop_last": True, "batch_size": 10**6}, "drop_last leaves no batch"),
        ({"recency_days": 3}, "needs a timestamp"),
    ],
)
def test_a_fit_that_is_refused_leaves_the_model_as_it_was(settings: dict[str, object], said: str) -> None:
    """Not built, with no run begun, and with nothing seen of the data."""
    table = {"user": ["a", "b", "a"], "item": ["x", "y", "y"]}
    data = recs.Interactions.from_table(table, query="user", candidate="item")
    query, candidate = (
        recs.TowerSpec([recs.Categorical("user", dim=4)]),
        recs.TowerSpec([recs.Categorical("item", dim=4)]),
    )
    model = recs.TwoTower(query, candidate, backend=OracleBackend())
    with pytest.raises(DataError, match=said):
        model.fit(data, progress=False, **settings)  # type: ignore[arg-type]
    assert model._model is None and model.run is None and not model.data
    with pytest.raises(DataError, match=said):
        model.epochs(data, **settings)  # type: ignore[arg-type]
    assert model._model is None
    model.fit(data.take([0, 1, 1]), epochs=1, progress=False)
    catalog, version = model.catalog, model.version
    with pytest.raises(DataError, match=said):
        model.fit(data, epochs=1, progress=False, **settings)  # type: ignore[arg-type]
    assert model.catalog is catalog and model.version == version and not model.run.open
    model.fit(data, epochs=1, progress=False)


def test_what_a_step_raises_is_said_with_its_place(data: recs.Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    model = declared()
    model.fit(data, epochs=1)

    def breaks(batch: object, learning_rate: float) -> float:
        raise ValueError("needs\nmore than one row")

    monkeypatch.setattr(model._trainer, "step", breaks)
    with pytest.raises(
        TrainingError, match=r"epoch 2, batch 1 of 5 \(64 queries\): ValueError: needs more than one row$"
    ):
        model.fit(data, epochs=1)
    with pytest.raises(TrainingError, match="drop_last=True leaves out a last batch that is smaller"):
        model.fit(data, epochs=1, batch_size=4000)


def test_a_bundle_knows_when_what_was_seen(data: recs.Interactions, tmp_path: Path) -> None:
    old, new = data.split(by="time", test=0.3)
    model = declared()
    model.fit(old, epochs=1)
    again = recs.load(model.save(tmp_path / "b"), backend=model.backend)
    again.fit(data, epochs=1)  # the old rows once more, and the new ones
    assert again.catalog.counts.sum() == len(old) + len(new)
    np.testing.assert_array_equal(np.sort(again.catalog.seen_at), np.sort(data.timestamps))
