"""The context of an interaction: columns of its row, and its time, read per row in training and given when asked."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import BadRows, DataError, SpecError
from recs_core.contract.features import Known
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.evaluation import targets_of
from recs_core.reference.backend import OracleBackend

USER, ITEM = recs.Categorical("user", dim=4), recs.TowerSpec([recs.Categorical("item", dim=4)], layers=[5])
DEVICE = recs.Categorical("device", dim=3)
CONTEXT = recs.TowerSpec([USER, DEVICE, recs.Numeric("page"), recs.Clock("t"), recs.History("item", dim=4)], layers=[5])


def rows(number: int = 120, **columns: Any) -> recs.Interactions:
    """What people take depends on their device alone: those of "ios" take even items."""
    random = np.random.default_rng(5)
    device = random.integers(0, 2, number)
    item = 2 * random.integers(0, 4, number) + device
    table = {
        "user": [f"u{n}" for n in random.integers(0, 6, number)],
        "item": [f"i{n}" for n in item],
        "t": 1_600_000_000.0 + 3_600 * np.arange(number),
        "device": np.where(device == 0, "ios", "web"),
        "page": random.integers(1, 9, number),
        **columns,
    }
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t")


def declared(query: recs.TowerSpec = CONTEXT, **options: Any) -> recs.TwoTower:
    parts: dict[str, Any] = {"training": recs.TrainingSpec(epochs=3, batch_size=32), "backend": OracleBackend()}
    return recs.TwoTower(query, ITEM, optimizer=recs.Adam(0.05), **{**parts, **options})


@pytest.fixture(scope="module")
def model() -> recs.TwoTower:
    out = declared()
    out.fit(rows(), epochs=8, progress=False)
    return out


ASKED = {"device": ["ios", "web"], "page": [3, 8]}


def test_a_batch_reads_the_context_of_each_of_its_rows() -> None:
    data = rows()
    schema = Schema.learn(CONTEXT, ITEM, data)
    assert (schema.context, schema.time_name) == (("device", "page", "t"), "t")
    batching = Batching(EncodedDataset.encode(CONTEXT, ITEM, schema, data))
    told = {}  # (item, page standardised) → device, of the table; pages and items tell rows apart well enough
    for row in data.to_table().to_pylist():
        told.setdefault((row["item"], row["page"]), set()).add(row["device"])
    mean, deviation = (schema.learnt["query/page"][name] for name in ("mean", "deviation"))
    plan = recs.contract.protocols.BatchPlan.of(recs.TrainingSpec(batch_size=32), recs.RetrievalSpec())
    seen = 0
    for batch in batching.batches(plan, seed=0, epoch=0):
        device = batch.rows["table/device"][batch.query.codes["device"]]
        pages = np.rint(batch.query.dense["page"][:, 0] * deviation + mean)
        items = batch.task["candidate_ids"][batch.task["target_candidate"]]
        for code, page, item in zip(device, pages, items, strict=True):
            name = schema.vocabularies["table/device"].ids[int(code) - 1].as_py()
            assert name in told[schema.candidates.ids[int(item)].as_py(), int(page)]
            seen += 1
    assert seen == len(data)


def test_context_decides_where_it_alone_tells(model: recs.TwoTower) -> None:
    found = model.recommend(["u1", "u1"], 4, context={"device": ["ios", "web"], "page": [3, 3]}, at=1_600_000_000)
    parity = [{int(item[1:]) % 2 for item in row} for row in found.ids.tolist()]
    assert parity == [{0}, {1}]


def test_a_context_is_encoded_as_in_training(model: recs.TwoTower) -> None:
    """The oracle's arithmetic on the weights, with the codes and numbers worked out here."""
    at = datetime(2020, 9, 17, 6)  # a Thursday
    with pytest.warns(UserWarning, match="never seen in training, the first is 'u9'"):
        got = model.encode_query(["u1", "u9"], history=[["i1"], []], context=ASKED, at=at)
    weights, learnt = model.weights(), model.schema.learnt
    ids = model.schema.vocabularies
    place = {name: 1 + vocabulary.ids.to_pylist().index(word) for name, vocabulary, word in (
        ("user", ids["table/user"], "u1"), ("ios", ids["table/device"], "ios"), ("web", ids["table/device"], "web"),
        ("item", ids["table/item"], "i1"),
    )}  # fmt: skip
    days = at.toordinal() - datetime(1970, 1, 1).toordinal() + 0.25
    age = (days - learnt["query/t"]["mean"]) / learnt["query/t"]["deviation"]
    clock = [1, 0, np.sin(2 * np.pi * 3 / 7), np.cos(2 * np.pi * 3 / 7), age]
    page = [(number - learnt["query/page"]["mean"]) / learnt["query/page"]["deviation"] for number in (3, 8)]
    users, devices, items = (weights[f"table/{name}"] for name in ("user", "device", "item"))
    x = np.array(
        [
            [*users[place["user"]], *devices[place["ios"]], page[0], *clock, *items[place["item"]]],
            [*users[0], *devices[place["web"]], page[1], *clock, *np.zeros(4)],
        ]
    )
    hidden = x @ weights["query/dense_0/kernel"] + weights["query/dense_0/bias"]
    expected = hidden / np.sqrt((hidden**2).sum(1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(got[:, :5] / np.linalg.norm(got[:, :5], axis=1, keepdims=True), expected, atol=1e-6)


def test_the_neutral_request_has_a_device_nobody_knows_and_no_time(model: recs.TwoTower) -> None:
    blank = model.encode_query(["u1"], context="blank")
    nobody = model.encode_query(["u1"], context={"device": ["?"], "page": [_mean_page(model)]}, at=0)
    assert not np.allclose(blank, nobody)  # 1970 is a time
    table = pa.table({"device": pa.array([None], pa.string()), "page": [_mean_page(model)]})
    alike = model.query_tower.embed(
        model.catalog.query.take(np.array([model.schema.queries.encode(pa.array(["u1"]))[0]]))
        .beside(_blank_clock())
        .beside(_context(model, table))
        .beside(_history(model, "u1"))
    )
    direction = alike / np.linalg.norm(alike)
    np.testing.assert_allclose(blank[:, :5] / np.linalg.norm(blank[:, :5]), direction, atol=1e-6)
    timed = model.encode_query(["u1"], context="blank", at="2020-09-17T06:00:00")
    assert not np.allclose(blank, timed)


def _mean_page(model: recs.TwoTower) -> float:
    return float(model.schema.learnt["query/page"]["mean"])


def _blank_clock() -> Any:
    from recs_core.contract.batch import Features

    return Features(1, {}, {"t": np.zeros((1, 5))})


def _context(model: recs.TwoTower, table: pa.Table) -> Any:
    from recs_core.data.encoding import encode_context

    return encode_context(CONTEXT, model.schema, table)


def _history(model: recs.TwoTower, user: str) -> Any:
    from recs_core.contract.batch import Features
    from recs_core.data.encoding import past

    seen = model.catalog.past(model.schema.queries.encode(pa.array([user])))
    return Features(1, past(CONTEXT, model.schema, seen))


def test_by_default_the_time_is_now(model: recs.TwoTower) -> None:
    from unittest.mock import patch

    with patch("recs_core.data.context.time.time", lambda: 1_600_003_600.0):
        now = model.encode_query(["u1"], context={"device": ["ios"], "page": [1]})
    then = model.encode_query(["u1"], context={"device": ["ios"], "page": [1]}, at="2020-09-13T13:26:40Z")
    np.testing.assert_array_equal(now, then)


def test_a_test_row_is_asked_in_its_own_context_and_rows_of_one_context_are_one_question() -> None:
    test = recs.Interactions.from_table(
        {
            "user": ["u", "u", "u", "v"],
            "item": ["a", "b", "c", "a"],
            "t": [1.0, 1.0, 1.0, 1.0],
            "device": ["ios", "web", "ios", None],
        },
        query="user",
        candidate="item",
        timestamp="t",
    )
    towers = recs.TowerSpec([USER, DEVICE]), recs.TowerSpec([recs.Categorical("item", dim=7)])
    found = targets_of(Schema.learn(*towers, test), test)
    asked = zip(found.queries.to_pylist(), test.extra["device"].take(pa.array(found.rows)).to_pylist(), strict=True)
    lists = [
        found.codes.values[a:b].tolist() for a, b in zip(found.codes.offsets, found.codes.offsets[1:], strict=False)
    ]
    assert dict(zip(asked, lists, strict=True)) == {("u", "ios"): [0, 2], ("u", "web"): [1], ("v", None): [0]}
    by_time = targets_of(Schema.learn(recs.TowerSpec([USER, recs.Clock("t")]), towers[1], test), test)
    assert len(by_time.queries) == 2


def test_a_zero_is_one_context_whatever_its_sign() -> None:
    table = {"user": ["u", "u"], "item": ["a", "b"], "page": [0.0, -0.0]}
    test = recs.Interactions.from_table(table, query="user", candidate="item")
    schema = Schema.learn(recs.TowerSpec([USER, recs.Numeric("page")]), ITEM, test)
    assert len(targets_of(schema, test).queries) == 1


def test_evaluate_asks_with_the_context_of_the_test(model: recs.TwoTower) -> None:
    """People take items by device alone, so a ranking that knows the device has them in its first half."""
    test = rows()
    assert model.evaluate(test, k=[4])["recall@4"] > 0.95
    wrong = rows(device=np.where(np.array(test.extra["device"].to_pylist()) == "ios", "web", "ios"))
    assert model.evaluate(wrong, k=[4])["recall@4"] < 0.5


def test_a_bundle_keeps_what_is_context(model: recs.TwoTower, tmp_path: Path) -> None:
    model.save(tmp_path / "bundle")
    asks: dict[str, Any] = {"context": ASKED, "at": 1_600_000_000}
    expected = model.recommend(["u1", "u2"], 5, **asks)
    served = recs.load(tmp_path / "bundle", runtime="numpy")
    assert served.recommend(["u1", "u2"], 5, **asks).ids.tolist() == expected.ids.tolist()
    again = recs.TwoTower.of(model.fitted(), backend=OracleBackend())
    np.testing.assert_array_equal(again.recommend(["u1", "u2"], 5, **asks).scores, expected.scores)


def test_a_context_alone_is_a_question() -> None:
    """A tower that reads nothing but context needs no id, though one is named to count the rows."""
    model = declared(recs.TowerSpec([DEVICE], layers=[5]))
    model.fit(rows(), progress=False)
    found = model.recommend(["nobody"], 4, context={"device": ["web"]}, unknown="oov")
    assert {int(item[1:]) % 2 for item in found.ids[0].tolist()} == {1}


def test_batches_by_query_are_refused_before_anything_is_learnt() -> None:
    model = declared()
    with pytest.raises(SpecError, match="reads 'device', 'page', 't' of each; train with batch_by='interaction'"):
        model.fit(rows(), batch_by="query")
    assert model._model is None
    with pytest.raises(SpecError, match="train with batch_by='interaction'"):
        model.epochs(rows(), batch_by="query")


@pytest.mark.parametrize(("device", "said"), [(None, "reads 'device' of each row"), ([7] * 120, "learnt strings")])
def test_validation_without_its_context_is_refused_before_anything_is_learnt(device: Any, said: str) -> None:
    columns = rows().to_table().drop_columns(["device"]).to_pydict() | ({} if device is None else {"device": device})
    validation = recs.Interactions.from_table(columns, query="user", candidate="item", timestamp="t")
    model = declared()
    with pytest.raises(DataError, match=said):
        model.fit(rows(), validation, progress=False)
    assert model._model is None and not model.history.losses


def test_a_column_of_both_tables_is_refused() -> None:
    table = rows().to_table()
    queries = {"user": ["u1", "u2"], "device": ["ios", "web"]}
    both = recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", queries=queries)
    told = "both the interactions and the side table of queries have column 'device', .*; leave it out of one of them"
    with pytest.raises(DataError, match=rf"Categorical\('device'\): {told}"):
        declared(recs.TowerSpec([USER, DEVICE], layers=[5])).fit(both)
    with pytest.raises(DataError, match=f"context: {told}"):
        recs.recipe("features", both, context=["device"])


def test_columns_that_tell_of_the_query_are_moved_to_its_side_table() -> None:
    table = {"user": ["u", "u", "v"], "item": ["a", "b", "a"], "country": ["UK", "UK", "FR"]}
    data = recs.Interactions.from_table(table, query="user", candidate="item", queries=["country"])
    assert data.extra.column_names == [] and data.queries["country"].to_pylist() == ["UK", "FR"]
    schema = Schema.learn(recs.TowerSpec([USER, recs.Categorical("country", dim=3)]), ITEM, data)
    assert schema.context == ()


@pytest.mark.parametrize("frame", [pa.table, pd.DataFrame])
def test_a_table_may_have_more_columns_than_are_read(model: recs.TwoTower, frame: Any) -> None:
    more = {**ASKED, "plan": ["free", "paid"]}
    due = model.encode_query(["u1", "u2"], context=ASKED, at=0)
    np.testing.assert_array_equal(model.encode_query(["u1", "u2"], context=frame(more), at=0), due)
    features = frame({"user": ["u1", "u2"], "name": ["Ann", "Bob"]})
    np.testing.assert_array_equal(model.encode_query(features=features, context=ASKED, at=0), due)


def test_what_cannot_be_meant_is_refused(model: recs.TwoTower) -> None:
    for asks, message in (
        ({}, r"this model reads 'device', 'page' of a request: pass context=\{'device': \[…\]\}, one value per query"),
        (
            {"context": {"device": ["ios"]}},
            "context: no column 'page', which this model reads of a request",
        ),
        ({"context": {"device": ["ios"] * 2, "page": [1, 2]}}, "rows do not match: queries has 1, context has 2"),
        (
            {"context": {"device": ["ios"], "page": [1], "t": [5]}},
            "context: 't' is the time of the request; pass it as",
        ),
        ({"context": {"device": [7], "page": [1]}}, "learnt strings"),
        (
            {"context": {"device": ["ios"], "page": [None]}},
            "1 of 1 rows of context have no finite value, the first is row 0 ",
        ),
        ({"context": "blank", "at": "yesterday"}, "at: 'yesterday' is no time"),
        ({"context": "blank", "at": [0, 1]}, "at: one time for all queries, or one for each of 1; got 2"),
        ({"context": "neutral"}, "neutral"),
        (
            {"context": {"device": ["ios"], "page": [1], "devise": ["web"]}},
            "context: this model does not read 'devise' there; it reads 'device', 'page'; leave it out",
        ),
        (
            {"context": "blank", "features": {"user": ["u1"], "device": ["ios"]}},
            "features: this model does not read 'device' there; it reads 'user'; leave it out",
        ),
    ):
        with pytest.raises(DataError, match=message):
            model.recommend(["u1"], **asks)  # type: ignore[arg-type]
    plain = declared(recs.TowerSpec([USER], layers=[5]))
    plain.fit(rows(), progress=False)
    with pytest.raises(DataError, match="context: this model reads nothing of a request; leave context out"):
        plain.recommend(["u1"], context=ASKED)
    with pytest.raises(DataError, match="at: this model does not read the time of a request; leave at out"):
        plain.recommend(["u1"], at=0)
    bare = recs.Interactions.from_table({"user": ["u1"], "item": ["i1"]}, query="user", candidate="item")
    with pytest.raises(DataError, match="this model reads 'device' of each row, which these interactions lack"):
        model.evaluate(bare)


def test_what_tells_of_the_candidate_is_no_context() -> None:
    """Each row's price is that of its target."""
    rows = {"user": ["u", "v"], "item": ["a", "b"], "price": [1.0, 2.0]}
    data = recs.Interactions.from_table(rows, query="user", candidate="item", candidates=["price"])
    with pytest.raises(DataError, match=r"Numeric\('price'\): the side table of candidates has this column too"):
        declared(recs.TowerSpec([USER, recs.Numeric("price")], layers=[5])).fit(data)


def test_a_request_of_nobody_has_an_empty_context(model: recs.TwoTower) -> None:
    for at in (None, [], 1_600_000_000):
        assert model.recommend([], 3, context={"device": [], "page": []}, at=at).ids.shape == (0, 3)


@pytest.mark.parametrize(
    "at", [np.datetime64("2020-09-17T06:00"), np.array(1_600_322_400.0), np.array("2020-09-17T06")]
)
def test_a_time_of_numpy_is_one_time_for_all(model: recs.TwoTower, at: Any) -> None:
    got, due = (model.encode_query(["u1", "u2"], context=ASKED, at=each) for each in (at, datetime(2020, 9, 17, 6)))
    np.testing.assert_array_equal(got, due)


def test_a_time_is_finite_or_not_known() -> None:
    clock = recs.Clock("seen")
    state = clock.learn(pa.array([0.0, None, 172_800.0]))
    assert state == {"mean": 1.0, "deviation": 1.0}
    with pytest.raises(BadRows, match="hold an infinite time"):
        clock.encode(pa.array([0.0, float("inf")]), Known(state))


def test_the_candidate_is_no_context() -> None:
    with pytest.raises(DataError, match=r"Categorical\('item'\): the column is the candidate, which is what"):
        declared(recs.TowerSpec([USER, recs.Categorical("item", dim=3, table="asked")], layers=[5])).fit(rows())
