"""The journey as a user walks it: declare, fit, evaluate, recommend; and what happens when something is wrong."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, NotFitted, SpecError, TrainingError
from recs_core.training import EpochRecord, StopTraining

K = (1, 3, 5)


def shop(rows: int = 400, customers: int = 30, items: int = 20) -> recs.Interactions:
    """Two kinds of customers, two kinds of items: a customer takes items of the own kind nine times in ten."""
    random = np.random.default_rng(5)
    who = random.integers(0, customers, rows)
    own = random.random(rows) < 0.9
    item = 2 * random.integers(0, items // 2, rows) + np.where(own, who % 2, 1 - who % 2)
    names = [f"i{n}" for n in range(items)]
    side = {
        "item": [*names, "new"],
        "title": [f"{'red' if n % 2 else 'blue'} thing" for n in range(items)] + ["red thing"],
    }
    side["price"] = [float(n % 2) for n in range(items)] + [1.0]
    table = {"customer": [f"c{n}" for n in who], "item": [names[n] for n in item], "t": np.arange(rows, dtype=float)}
    return recs.Interactions.from_table(table, query="customer", candidate="item", timestamp="t", candidates=side)


def two_tower(**options: object) -> recs.TwoTower:
    defaults = {
        "query": recs.TowerSpec([recs.Categorical("customer", dim=8)]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=8)]),
        "retrieval": recs.RetrievalSpec(temperature=0.2),
        "optimizer": recs.Adam(0.02),
        "training": recs.TrainingSpec(epochs=4, batch_size=64),
    }
    return recs.TwoTower(**{**defaults, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def parts() -> tuple[recs.Interactions, recs.Interactions]:
    train, test = shop().split(by="time", test=0.2, known_only=True)
    return train, test


@pytest.fixture(scope="module")
def fitted(parts: tuple[recs.Interactions, recs.Interactions]) -> recs.TwoTower:
    model = two_tower()
    model.fit(parts[0])
    return model


def pairs(data: recs.Interactions) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    table = data.to_table()
    for customer, item in zip(table["customer"].to_pylist(), table["item"].to_pylist(), strict=True):
        out.setdefault(customer, set()).add(item)
    return out


def test_loss_falls_and_the_model_learns_the_two_kinds(parts: tuple, fitted: recs.TwoTower) -> None:
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]
    customers = fitted.schema.queries.ids.to_pylist()
    found = fitted.recommend(customers, k=8)
    own = [int(item[1:]) % 2 == int(who[1:]) % 2 for who, ids in zip(customers, found.ids, strict=True) for item in ids]
    assert np.mean(own) > 0.65  # by chance 0.5 ± 0.03


def test_scores_are_the_inner_products_of_the_vectors(fitted: recs.TwoTower) -> None:
    scores = fitted.encode_query(["c3"]) @ fitted.encode_candidate().T
    found = fitted.recommend(["c3"], k=20)
    order = np.argsort(-scores[0], kind="stable")
    assert found.ids[0].tolist() == [fitted.schema.candidates.ids[int(i)].as_py() for i in order]
    np.testing.assert_allclose(found.scores[0], scores[0][order], rtol=1e-5)


def test_evaluate_is_recall_by_hand(parts: tuple, fitted: recs.TwoTower) -> None:
    train, test = parts
    metrics = fitted.evaluate(test, exclude=train, k=K)
    seen, wanted = pairs(train), pairs(test)
    customers = list(wanted)
    found = fitted.recommend(customers, k=20, exclude=train)
    for k in K:
        recall = []
        for customer, ids in zip(customers, found.ids, strict=True):
            top = [item for item in ids if item is not None][:k]
            recall.append(len(set(top) & (wanted[customer] - seen[customer])) / len(wanted[customer]))
        assert metrics[f"recall@{k}"] == pytest.approx(np.mean(recall))


def test_excluded_items_never_come_back_and_the_rest_is_padded(parts: tuple, fitted: recs.TwoTower) -> None:
    train, _ = parts
    seen = pairs(train)
    for exclude in (train, "seen"):
        found = fitted.recommend(list(seen), k=20, exclude=exclude)
        for customer, ids, scores in zip(seen, found.ids, found.scores, strict=True):
            kept = [item for item in ids if item is not None]
            assert not set(kept) & seen[customer]
            assert len(kept) == 20 - len(seen[customer])
            assert np.isneginf(scores[len(kept) :]).all()


def test_allow_lists_and_lists_of_exclusions(fitted: recs.TwoTower) -> None:
    found = fitted.recommend(["c0"], k=3, exclude=[["i2"]], allow=["i1", "i2", "i3"])
    assert sorted(item for item in found.ids[0] if item) == ["i1", "i3"]
    with pytest.raises(DataError, match="'i99' is not in the corpus"):
        fitted.recommend(["c0"], allow=["i99"])


def test_similar_leaves_the_item_itself_out(fitted: recs.TwoTower) -> None:
    found = fitted.similar(["i4"], k=19)
    assert "i4" not in found.ids[0] and len(set(found.ids[0])) == 19


def test_a_query_never_seen(fitted: recs.TwoTower, parts: tuple) -> None:
    with warnings.catch_warnings(record=True) as caught:  # pytest.warns would raise a framework's own warnings again
        warnings.simplefilter("always")
        fitted.recommend(["c0", "stranger"])
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert any("1 of 2 queries were never seen in training, the first is 'stranger'" in line for line in said)
    with pytest.raises(DataError, match="'stranger'"):
        fitted.recommend(["stranger"], unknown="error")
    popular = fitted.recommend(["stranger"], k=2, unknown="popular")
    counts = {i: 0 for i in parts[0].candidate_ids.ids.to_pylist()}
    for item in parts[0].to_table()["item"].to_pylist():
        counts[item] += 1
    assert popular.scores[0].tolist() == sorted(counts.values(), reverse=True)[:2]


def test_history_answers_a_query_nobody_has_seen(parts: tuple) -> None:
    train, test = parts
    model = two_tower(
        query=recs.TowerSpec([recs.History("item", dim=8)]),
        retrieval=recs.RetrievalSpec(temperature=0.2, negatives="corpus"),
        training=recs.TrainingSpec(epochs=8, batch_size=8, batch_by="query", recency_days=1.0),
    )
    model.fit(train)
    odd = model.recommend(history=[["i1", "i3", "i5"]], k=6, exclude="seen")
    assert not {"i1", "i3", "i5"} & set(odd.ids[0])
    assert sum(int(item[1:]) % 2 for item in odd.ids[0]) >= 4
    assert model.evaluate(test, exclude=train, k=K)["hit_rate@5"] > 0


def test_features_serve_a_candidate_without_interactions(parts: tuple) -> None:
    train, _ = parts
    tower = recs.TowerSpec(
        [recs.Categorical("item", dim=8), recs.Text("title", dim=8, buckets=64), recs.Numeric("price")], layers=[8]
    )
    model = two_tower(query=recs.TowerSpec([recs.Categorical("customer", dim=8)], layers=[8]), candidate=tower)
    model.fit(train, epochs=12)
    assert "new" in model.schema.candidates.ids.to_pylist()
    odd = model.recommend(["c1"], k=21).ids[0].tolist()
    even = model.recommend(["c0"], k=21).ids[0].tolist()
    assert odd.index("new") < even.index("new")


def test_two_runs_of_one_seed_are_equal_bit_for_bit_and_another_seed_is_not(
    parts: tuple, fitted: recs.TwoTower
) -> None:
    again, other = two_tower(), two_tower(seed=7)
    again.fit(parts[0])
    other.fit(parts[0])
    for name, weight in fitted.weights().items():
        assert np.array_equal(weight, again.weights()[name])
    assert again.history.losses == fitted.history.losses != other.history.losses


def test_fit_again_continues(parts: tuple, fitted: recs.TwoTower) -> None:
    model = two_tower()
    model.fit(parts[0], epochs=2)
    model.fit(parts[0], epochs=2)
    for name, weight in fitted.weights().items():
        assert np.array_equal(weight, model.weights()[name])
    assert [record.epoch for record in model.history.epochs] == [1, 2, 3, 4]


def test_early_stopping_takes_back_the_best_weights(parts: tuple) -> None:
    train, test = parts
    model = two_tower()
    history = model.fit(
        train, test, epochs=30, k=(5,), early_stopping=recs.EarlyStopping("recall@5", patience=2), validate_every=1
    )
    values = history["recall@5"]
    assert history.stopped == "early stopping" and history.best_epoch == 1 + int(np.argmax(values))
    assert model.evaluate(test, exclude=train, k=(5,))["recall@5"] == max(values)


def test_early_stopping_refuses_an_unknown_metric_before_training(parts: tuple) -> None:
    train, test = parts
    with pytest.raises(SpecError, match=r"unknown metric 'recal@5'; known are loss, recall@10"):
        two_tower().fit(train, test, early_stopping=recs.EarlyStopping("recal@5"))
    with pytest.raises(SpecError, match="needs validation="):
        two_tower().fit(train, early_stopping=recs.EarlyStopping("recall@20"))


def test_a_callback_sees_each_epoch_and_can_stop(parts: tuple) -> None:
    class Stop:
        def on_epoch_end(self, record: EpochRecord) -> None:
            if record.epoch == 2:
                raise StopTraining

    history = two_tower().fit(parts[0], callbacks=[Stop()])
    assert history.stopped == "callback" and len(history.epochs) == 2


def test_ctrl_c_stops_between_steps_and_leaves_a_usable_model(parts: tuple) -> None:
    class Interrupt:
        def on_epoch_end(self, record: EpochRecord) -> None:
            if record.epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

    model = two_tower()
    history = model.fit(parts[0], epochs=50, callbacks=[Interrupt()])
    assert history.stopped == "interrupted" and len(history.epochs) <= 2
    assert model.recommend(["c0"], k=3).ids.shape == (1, 3)


def test_a_loss_that_is_not_finite_names_the_batch(parts: tuple) -> None:
    model = two_tower(
        retrieval=recs.RetrievalSpec(scoring="dot", candidate_bias=False, logq=False), optimizer=recs.Adagrad(1e30)
    )
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+ of 5: the loss is (nan|inf)"):
        model.fit(parts[0], epochs=20)


def test_int64_ids_beyond_2_to_the_40_come_back_as_they_are() -> None:
    base = 2**40
    table = {"q": np.arange(40) % 8 + base, "c": np.arange(40) % 5 + base}
    data = recs.Interactions.from_table(table, query="q", candidate="c")
    model = two_tower(
        query=recs.TowerSpec([recs.Categorical("q", dim=4)]), candidate=recs.TowerSpec([recs.Categorical("c", dim=4)])
    )
    model.fit(data, epochs=1)
    found = model.recommend([base + 1], k=7)
    assert found.ids.dtype == np.int64 and sorted(found.ids[0]) == [*range(base, base + 5)]
    hidden = model.recommend([base + 1], k=7, exclude=[[base, base + 1]])
    assert hidden.ids.shape == (1, 5) and sorted(hidden.ids[0]) == [-1, -1, *range(base + 2, base + 5)]
    for unknown in ("oov", "popular"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert model.recommend([base + 1, 7], k=2**40, unknown=unknown).ids.shape == (2, 5)
    assert model.similar([base], k=2**40).ids.shape == (1, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.recommend(["c0"], k=0), "k must be a whole number ≥ 1, got 0"),
        (lambda m: m.recommend("c0"), r"queries: expected a list of ids, got one, 'c0'; write \['c0'\]"),
        (lambda m: m.recommend([1, 2]), "queries: the ids of 'customer' are strings .* these are integers"),
        (lambda m: m.recommend(), "name the queries"),
        (lambda m: m.recommend(["c0"], history=[["i1"], ["i2"]]), "rows do not match: queries has 1, history has 2"),
        (
            lambda m: m.recommend(features=pa.table({"nothing": ["x"]})),
            r"Categorical\('customer'\): the query table has no such column; it has nothing",
        ),
        (lambda m: m.recommend(["c0"], exclude=[["i1"], ["i2"]]), "exclude: 2 lists of ids for 1 queries"),
        (lambda m: m.similar(["i99"]), "'i99' is not in the corpus"),
        (lambda m: m.fit(pa.table({"a": [1]})), "fit: train must be Interactions, got Table"),
    ],
)
def test_a_users_mistake_is_one_line(fitted: recs.TwoTower, call: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        call(fitted)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_before_fit_the_error_says_what_to_call() -> None:
    with pytest.raises(NotFitted, match=r"call fit\(train\) or recs\.load"):
        two_tower().recommend(["c0"])


def test_a_missing_column_is_named_with_those_there_are(parts: tuple) -> None:
    model = two_tower(candidate=recs.TowerSpec([recs.Categorical("colour", dim=8)]))
    with pytest.raises(DataError, match=r"Categorical\('colour'\).*it has item, title, price"):
        model.fit(parts[0])


def test_nan_in_a_numeric_feature_names_column_and_id() -> None:
    data = recs.Interactions.from_table(
        {"q": ["a", "b"], "c": ["x", "y"]},
        query="q",
        candidate="c",
        candidates={"c": ["x", "y"], "price": [1.0, float("nan")]},
    )
    tower = recs.TowerSpec([recs.Categorical("c", dim=4), recs.Numeric("price")], layers=[4])
    model = two_tower(query=recs.TowerSpec([recs.Categorical("q", dim=4)]), candidate=tower)
    with pytest.raises(DataError, match=r"Numeric\('price'\).*'y'"):
        model.fit(data)
