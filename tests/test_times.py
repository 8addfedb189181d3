"""Times of past candidates and of requests, for an encoder that reads them: in batches, asked, evaluated, stored."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.bundle.contents import catalog_arrays, catalog_of
from recs_core.contract.batch import Past, Ragged, Sequences
from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.difference import difference
from recs_core.evaluation import targets_of
from recs_core.indexing import tune
from recs_core.monitor.reference import Reference
from recs_core.reference.backend import OracleBackend

ITEM = recs.TowerSpec([recs.Categorical("item", dim=4)])
DAY = 86_400.0
START = 1_600_000_000.0


def tower(time: Any, length: int = 6) -> recs.TowerSpec:
    encoder = recs.SelfAttention(layers=1, ffn=1, dropout=0, time=time)
    return recs.TowerSpec([recs.History("item", dim=4, max_length=length, encoder=encoder)])


def read(rows: Any, **roles: Any) -> recs.Interactions:
    return recs.Interactions.from_table(rows, query="user", candidate="item", **{"timestamp": "t", **roles})


def taken(number: int = 90) -> dict[str, Any]:
    """Six people, whose rows lie a second to weeks apart."""
    random = np.random.default_rng(3)
    return {
        "user": [f"u{n}" for n in random.integers(0, 6, number)],
        "item": [f"i{n}" for n in random.integers(0, 9, number)],
        "t": START + np.cumsum(np.exp(random.uniform(0, 14, number))),
    }


def fitted(time: Any) -> recs.TwoTower:
    training = recs.TrainingSpec(epochs=3, batch_size=3, batch_by="sequence")
    retrieval = recs.RetrievalSpec(negatives="corpus", logq=False)
    model = recs.TwoTower(
        tower(time), ITEM, retrieval, optimizer=recs.Adam(0.01), training=training, backend=OracleBackend()
    )
    model.fit(read(taken()), progress=False)
    weights = model.weights()
    if time:  # a little training leaves most buckets at zero, where it began
        weights["query/encoder/item/layer_0/time"][:] = np.random.default_rng(4).normal(size=(128, 1))
        model.model.load_weights(weights)
    return model


@pytest.fixture(scope="module")
def by_request() -> recs.TwoTower:
    return fitted("request")


@pytest.fixture(scope="module")
def by_history() -> recs.TwoTower:
    return fitted("history")


def past_of(model: recs.TwoTower, user: str) -> tuple[list[str], list[float]]:
    """What a user took, and when."""
    table = taken()
    mine = [i for i, name in enumerate(table["user"]) if name == user]
    return [table["item"][i] for i in mine], [float(table["t"][i]) for i in mine]


# In batches

ROWS = {"user": list("uuuuvv"), "item": list("abcdab"), "t": [10.0, 20, 40, 80, 5, 7]}


def held(time: Any, batch_by: Any, length: int = 6) -> list[tuple[list[float], list[float]]]:
    """(times, asked) of each history of the only batch, the longest first."""
    query = tower(time, length)
    data = read(ROWS)
    batching = Batching(EncodedDataset.encode(query, ITEM, Schema.learn(query, ITEM, data), data))
    plan = BatchPlan(9, batch_by, recs.RetrievalSpec(negatives="corpus"))
    (batch,) = batching.batches(plan, seed=0, epoch=0)
    codes = batch.query.codes["item"]
    assert isinstance(codes, Sequences)
    assert codes.times is not None and codes.asked is not None
    parts = [np.split(x, codes.codes.offsets[1:-1]) for x in (codes.times, codes.asked)]
    return sorted([(a.tolist(), b.tolist()) for a, b in zip(*parts, strict=True)], key=lambda pair: -len(pair[0]))


def test_a_place_is_asked_at_the_time_of_the_next_row() -> None:
    assert held("request", "sequence") == [([10, 20, 40], [20, 40, 80]), ([5], [7])]
    assert held("history", "sequence") == [([10, 20, 40], [10, 20, 40]), ([5], [5])]


def test_the_last_place_of_a_window_is_asked_at_the_time_of_its_target() -> None:
    windows = held("request", "sequence", length=2)
    assert sorted(windows) == [([5.0], [7.0]), ([10.0], [20.0]), ([20.0, 40.0], [40.0, 80.0])]


def test_by_interaction_the_target_asks() -> None:
    found = [pair for pair in held("request", "interaction") if pair[0]]
    assert sorted(found) == [
        ([5.0], [7.0]),
        ([10.0], [20.0]),
        ([10.0, 20.0], [20.0, 40.0]),
        ([10.0, 20.0, 40.0], [20.0, 40.0, 80.0]),
    ]


def test_a_past_keeps_its_times() -> None:
    past = Past(Ragged.of([[1, 2, 3], [], [4]]), np.array([1.0, 2, 3, 4]), np.array([30.0, 31, 40]))
    assert past.asked is not None and past.asked.tolist() == [2, 3, 30, 40]
    latest = past.latest(2)
    assert (latest.codes.values.tolist(), latest.times.tolist()) == ([2, 3, 4], [2, 3, 4])  # type: ignore[union-attr]
    assert latest.asked.tolist() == [3, 30, 40]  # type: ignore[union-attr]
    again = past.take_or_none(np.array([2, -1, 0]))
    assert again.times.tolist() == [4, 1, 2, 3]  # type: ignore[union-attr]
    assert again.asked.tolist() == [4, 2, 3, 3]  # type: ignore[union-attr]  # nobody says when, so at its latest


def test_sequences_keep_their_times() -> None:
    codes = Ragged.of([[1, 2, 3], [], [4], [5, 6]])
    times = np.arange(6.0)
    sequences = Sequences(codes, np.array([1, -1, 3, 5], np.int32), times=times, asked=times + 10)
    for got in (sequences.take(np.array([3, 0])), sequences.take(np.array([3, 0, 2])).take(np.array([0, 1]))):
        assert got.times[got.at].tolist() == [5, 1]  # type: ignore[index]
        assert got.asked[got.at].tolist() == [15, 11]  # type: ignore[index]
    alone = sequences.read
    assert (alone.values.tolist(), alone.times.tolist()) == ([1, 2, 4, 5, 6], [0, 1, 3, 4, 5])  # type: ignore[union-attr]
    both = sequences.followed_by(Sequences.last(Ragged.of([[7]]), np.array([9.0]), np.array([8.0])))
    assert both.times[both.at[-1]] == 9 and both.asked[both.at[-1]] == 8  # type: ignore[index]


# Asked


@pytest.mark.parametrize("kind", ["request", "history"])
def test_a_history_with_its_times_is_the_stored_one(kind: str, request: Any) -> None:
    model = request.getfixturevalue(f"by_{kind}")
    items, times = past_of(model, "u1")
    at = {"at": START + 400 * DAY} if kind == "request" else {}
    stored = model.encode_query(["u1"], **at)
    np.testing.assert_allclose(model.encode_query(history=[items], history_at=[times], **at), stored, rtol=1e-6)
    as_dates = [datetime.fromtimestamp(time).astimezone() for time in times]
    np.testing.assert_allclose(model.encode_query(history=[items], history_at=[as_dates], **at), stored, rtol=1e-6)
    shifted = [time - 300 * DAY * (i < 2) for i, time in enumerate(times[-6:])]
    assert np.abs(model.encode_query(history=[items[-6:]], history_at=[shifted], **at) - stored).max() > 1e-3


def test_an_unknown_candidate_goes_with_its_time(by_history: recs.TwoTower) -> None:
    with pytest.warns(UserWarning, match="no history that the model can read, nor features; the first is row 1"):
        with_it = by_history.encode_query(
            history=[["i1", "nobody", "i2"], []], history_at=[[START, 5.0, START + DAY], []]
        )
    without = by_history.encode_query(history=[["i1", "i2"]], history_at=[[START, START + DAY]])
    np.testing.assert_allclose(with_it[0], without[0], rtol=1e-6)
    assert not with_it[1, :4].any()


def test_times_that_go_back_are_no_time(by_history: recs.TwoTower) -> None:
    """The oldest first is the caller's word: what is later than its place counts as a moment ago."""
    one = by_history.encode_query(history=[["i1", "i2"]], history_at=[[START + DAY, START]])
    same = by_history.encode_query(history=[["i1", "i2"]], history_at=[[START, START]])
    np.testing.assert_array_equal(one, same)


def test_the_time_of_a_request_counts(by_request: recs.TwoTower) -> None:
    end = taken()["t"].max()
    soon, late = (by_request.encode_query(["u1"], at=end + days * DAY) for days in (0, 3_000))
    assert np.abs(soon - late).max() > 1e-3
    each = by_request.encode_query(["u1", "u1"], at=[end, end + 3_000 * DAY])
    np.testing.assert_allclose(each, np.concatenate([soon, late]), rtol=1e-6)
    blank = by_request.encode_query(["u1"], context="blank")
    np.testing.assert_allclose(blank, by_request.encode_query(["u1"], at=past_of(by_request, "u1")[1][-1]), rtol=1e-6)


def test_a_test_row_asks_at_its_own_time(by_request: recs.TwoTower) -> None:
    end = float(taken()["t"].max())
    rows = {"user": ["u1", "u1", "u1"], "item": ["i1", "i2", "i3"], "t": [end + 5, end + 900 * DAY, end + 5]}
    test = read(rows)
    asked = targets_of(by_request.schema, test)
    assert asked.codes.lengths.tolist() == [2, 1]  # rows of one query at one time are one question
    scores = by_request.encode_query(["u1", "u1"], at=[end + 5, end + 900 * DAY]) @ by_request.encode_candidate().T
    codes = by_request.schema.candidates.encode(pa.array(["i1", "i3", "i2"]))
    rows_of = np.array([0, 0, 1])
    above = (scores[rows_of] > scores[rows_of, codes][:, None]).sum(1)
    order = np.lexsort((codes, rows_of))
    assert sorted(zip(rows_of[order], above[order], strict=True)) == sorted(
        zip(asked.codes.segments, by_request.rank(test).above, strict=True)
    )


def test_a_bundle_and_a_second_fit_keep_the_times(by_request: recs.TwoTower, tmp_path: Path) -> None:
    served = recs.load(by_request.save(tmp_path / "b"), runtime="numpy")
    at = START + 500 * DAY
    np.testing.assert_allclose(
        served.encode_query(["u1", "u3"], at=at), by_request.encode_query(["u1", "u3"], at=at), rtol=1e-5, atol=1e-6
    )
    items = served.recommend(["u1"], k=3, at=at, exclude="seen").ids
    assert items.tolist() == by_request.recommend(["u1"], k=3, at=at, exclude="seen").ids.tolist()

    arrays = catalog_arrays(by_request.catalog)
    del arrays["seen/times"]
    catalog = by_request.catalog
    with pytest.raises(BundleError, match="no 'seen/times', and the query tower reads when past candidates were"):
        catalog_of(arrays, catalog.attributes, catalog.schema, by_request.query, by_request.candidate, tmp_path)
    with pytest.raises(DataError, match="needs a timestamp column"):
        by_request.fit(read(taken(), timestamp=None), progress=False)


def clock_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if "as of now" in line.getMessage()]


def test_a_request_without_its_time_is_asked_now_and_one_line_says_so(
    by_request: recs.TwoTower, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = by_request.save(tmp_path / "b")
    served = recs.load(bundle, runtime="numpy")
    at = START + 500 * DAY
    served.recommend(["u1"], at=at)
    served.encode_query(history=[["i1"]], history_at=[[START]], context="blank")
    served.evaluate(read({"user": ["u1"], "item": ["i1"], "t": [at]}), k=[1])
    assert clock_lines(caplog) == []
    served.recommend(["u1"])
    (line,) = clock_lines(caplog)
    assert "pass at=, or context='blank'" in line
    served.recommend(["u2"])
    served.encode_query(["u2"])
    assert len(clock_lines(caplog)) == 1
    recs.load(bundle, runtime="numpy").encode_query(["u2"])
    assert len(clock_lines(caplog)) == 2


def test_a_model_that_reads_no_time_of_a_request_says_nothing_of_the_clock(
    by_history: recs.TwoTower, caplog: pytest.LogCaptureFixture
) -> None:
    by_history.recommend(["u1"])
    assert clock_lines(caplog) == []


def test_what_nobody_asks_does_not_depend_on_the_day(
    by_request: recs.TwoTower, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Lists of training queries, for a difference, a monitor's reference or an index."""
    bundle = by_request.save(tmp_path / "b")
    served = recs.load(bundle, runtime="numpy")
    blank = served.recommend(sorted(set(taken()["user"])), k=1, context="blank").scores
    expected = Reference(served).expected(1, False)
    assert expected is not None
    np.testing.assert_allclose(expected[0].mean, blank.mean(), rtol=1e-5)
    tune(bundle, ["exact"], queries=3)
    assert difference(bundle, bundle).lists is not None
    assert clock_lines(caplog) == []


# Refused


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ({"history": [["i1"]]}, r"history: this model reads when past candidates were; pass history_at="),
        ({"queries": ["u1"], "history_at": [[1.0]]}, "history_at: the times of history=, which is not given"),
        ({"history": [["i1"]], "history_at": [[1.0, 2.0]]}, "history_at, row 0: 2 times for 1 candidates"),
        ({"history": [["i1"], []], "history_at": [[1.0]]}, "history_at: 1 lists of times for 2 of history"),
        ({"history": [["i1"]], "history_at": [1.0]}, "history_at: row 0 is 1.0, not a list of times"),
        ({"history": [["i1"]], "history_at": "2020-01-01"}, "expected one list of times per query, got '2020-01-01'"),
        ({"history": [["i1"]], "history_at": [["soon"]]}, "history_at, row 0: 'soon' is no time"),
        ({"history": [["i1"]], "history_at": [[1.6e12]]}, "it seems to be milliseconds"),
        ({"queries": ["u1"], "at": 1.7e9}, "at: this model does not read the time of a request"),
        ({"queries": ["u1"], "context": "blank"}, "context: this model reads nothing of a request"),
    ],
)
def test_what_cannot_be_read_is_refused(by_history: recs.TwoTower, asks: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        by_history.recommend(**asks)


def test_times_that_nobody_reads_are_refused() -> None:
    plain = fitted(None)
    assert plain.encode_query(history=[["i1"]]).shape == (1, 5)
    with pytest.raises(DataError, match="history_at: this model does not read when past candidates were"):
        plain.encode_query(history=[["i1"]], history_at=[[1.0]])


@pytest.mark.parametrize("time", ["history", "request"])
def test_training_needs_times(time: str) -> None:
    model = recs.TwoTower(tower(time), ITEM, backend=OracleBackend())
    with pytest.raises(DataError, match=rf"SelfAttention\(time='{time}'\) needs a timestamp column"):
        model.fit(read(taken(), timestamp=None), progress=False)
