import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.data.audit import audit
from recs_core.data.interactions import Interactions


def made(rows, **options):
    """From (query, candidate) or (query, candidate, time) rows."""
    names = ["user", "item", "time"][: len(rows[0])]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    timestamp = "time" if "time" in columns else None
    return Interactions.from_table(columns, query="user", candidate="item", timestamp=timestamp, **options)


def rows(data):
    return [tuple(row.values()) for row in data.to_table().to_pylist()]


def test_side_tables_are_in_the_order_of_the_vocabulary_with_nulls_for_the_rest():
    data = made(
        [("b", 2), ("a", 1)],
        queries=pa.table({"age": [1, 3, 2], "user": ["a", "c", "b"]}),
        candidates={"item": [9, 1], "tags": [["x"], []]},
    )
    assert data.query_ids.ids.to_pylist() == ["b", "a", "c"]
    assert data.queries.to_pydict() == {"user": ["b", "a", "c"], "age": [2, 1, 3]}
    assert data.candidates.to_pydict() == {"item": [2, 1, 9], "tags": [None, [], ["x"]]}
    assert data.query_counts().tolist() == [1, 1, 0]
    assert data.candidate_counts().tolist() == [1, 1, 0]
    assert data.candidate_counts().dtype == np.int64


def test_without_side_tables_they_hold_the_ids():
    data = made([("b", 2), ("a", 2)])
    assert data.queries.to_pydict() == {"user": ["b", "a"]}
    assert data.candidates.to_pydict() == {"item": [2]}
    assert data.timestamps is None


def test_other_columns_follow_the_rows():
    table = {"rating": [1, 2, 3], "user": ["a", "b", "a"], "item": [1, 1, 2]}
    data = Interactions.from_table(table, query="user", candidate="item")
    assert data.extra.to_pydict() == {"rating": [1, 2, 3]}
    assert data.take([2, 0]).to_table().to_pydict() == {"user": ["a", "a"], "item": [2, 1], "rating": [3, 1]}


def test_take_keeps_vocabularies():
    data = made([("a", 1, 5), ("b", 2, 6), ("c", 3, 7)])
    part = data.take(np.array([False, True, False]))
    assert rows(part) == [("b", 2, 6.0)]
    assert part.query_ids is data.query_ids
    assert part.candidates is data.candidates
    assert rows(data.take([-1, 0])) == [("c", 3, 7.0), ("a", 1, 5.0)]


def test_take_nothing():
    assert len(made([("a", 1)]).take(np.empty(0, int))) == 0


@pytest.mark.parametrize("asked", [[3], np.ones(2, bool)])
def test_take_refuses_rows_that_are_not_there(asked):
    with pytest.raises(DataError, match="take"):
        made([("a", 1), ("b", 2), ("c", 3)]).take(asked)


def test_repr_says_what_it_is():
    assert repr(made([("a", 1, 0), ("b", 1, 86_400)])) == (
        "Interactions(2 rows: 2 user × 1 item, 1970-01-01 to 1970-01-02)"
    )


def test_digest_is_of_contents_only():
    features = {"user": ["b", "a"], "word": ["x", None], "tags": [["p", "q"], []], "ok": [True, None], "w": [1.5, None]}
    base = made([("a", 1, 5), ("b", 2, 6)], queries=features)
    chunked = pa.concat_tables([pa.table({"user": ["a"], "item": [1]}), pa.table({"user": ["b"], "item": [2]})])
    chunked = chunked.append_column("time", pa.array([5, 6]))
    sliced = pa.table({name: [*column[:1], *column] for name, column in features.items()}).slice(1)
    same = Interactions.from_table(chunked, query="user", candidate="item", timestamp="time", queries=sliced)
    assert same.digest() == base.digest()
    assert len(base.digest()) == 64
    others = [
        made([("a", 1, 5), ("b", 2, 7)], queries=features),
        made([("a", 1, 5), ("b", 1, 6)], queries=features),
        made([("a", 1, 5), ("c", 2, 6)], queries=features),
        made([("a", 1, 5), ("b", 2, 6)], queries=features | {"word": ["x", ""]}),
        made([("a", 1, 5), ("b", 2, 6)], queries=features | {"tags": [["p"], ["q"]]}),
        made([("a", 1, 5), ("b", 2, 6)], queries=features | {"ok": [True, False]}),
        made([("a", 1, 5), ("b", 2, 6)], queries=features | {"w": [1.5, 0.0]}),
        made([("a", 1, 5), ("b", 2, 6)]),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == len(others) + 1


# k-core


def test_k_core_by_hand():
    # item 3 has one row → goes; then user c has one row → goes; then item 2 has one row → goes.
    data = made(
        [("a", 1), ("b", 1), ("c", 3), ("c", 2), ("a", 4), ("b", 4), ("a", 2)],
        candidates={"item": [1, 2, 3, 4, 5], "price": [10, 20, 30, 40, 50]},
    )
    core = data.filter(min_per_query=2, min_per_candidate=2)
    assert rows(core) == [("a", 1), ("b", 1), ("a", 4), ("b", 4)]
    assert core.query_ids.ids.to_pylist() == ["a", "b"]
    assert core.candidates.to_pydict() == {"item": [1, 4], "price": [10, 40]}


def test_filter_one_side_leaves_the_other_alone():
    data = made([("a", 1), ("a", 2), ("b", 3)], candidates={"item": [4]})
    kept = data.filter(min_per_query=2)
    assert kept.query_ids.ids.to_pylist() == ["a"]
    assert kept.candidate_ids.ids.to_pylist() == [1, 2, 3, 4]


def peeled(pairs, least_query, least_candidate):
    """The k-core, one row at a time."""
    pairs = list(pairs)
    while True:
        for pair in pairs:
            if (
                sum(q == pair[0] for q, _ in pairs) < least_query
                or sum(c == pair[1] for _, c in pairs) < least_candidate
            ):
                pairs.remove(pair)
                break
        else:
            return pairs


PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(10, 16)), min_size=1, max_size=30, unique=True)


@given(PAIRS, st.integers(1, 3), st.integers(1, 3))
def test_k_core_equals_peeling_row_by_row(pairs, least_query, least_candidate):
    expected = peeled(pairs, least_query, least_candidate)
    data = made(pairs)
    if not expected:
        with pytest.raises(DataError, match="no row"):
            data.filter(min_per_query=least_query, min_per_candidate=least_candidate)
        return
    core = data.filter(min_per_query=least_query, min_per_candidate=least_candidate)
    assert rows(core) == expected
    assert core.query_counts().min() >= least_query
    assert core.candidate_counts().min() >= least_candidate
    assert core.queries.column("user").to_pylist() == core.query_ids.ids.to_pylist()


@pytest.mark.parametrize("option", [{"min_per_query": -1}, {"min_per_candidate": 1.5}, {"min_per_query": True}])
def test_filter_refuses_what_is_no_count(option):
    with pytest.raises(DataError, match=next(iter(option))):
        made([("a", 1)]).filter(**option)


# splits

TIMED = [("a", 1, 10), ("b", 1, 30), ("a", 2, 20), ("b", 3, 40), ("c", 2, 40), ("a", 1, 50)]


def test_split_at_a_time_puts_that_moment_into_the_test():
    split = made(TIMED).split(by="time", at=40)
    train, test = split
    assert rows(train) == [("a", 1, 10.0), ("b", 1, 30.0), ("a", 2, 20.0)]
    assert rows(test) == [("b", 3, 40.0), ("c", 2, 40.0), ("a", 1, 50.0)]
    assert train.query_ids is test.query_ids
    found = split.leakage
    assert (found.train_rows, found.test_rows, found.dropped_rows) == (3, 3, 0)
    assert (found.unseen_queries, found.unseen_candidates, found.unseen_rows) == (1, 1, 2)
    assert (found.repeated_rows, found.early_rows, found.early_rows_of_query) == (1, 0, 0)
    assert found.unseen_share == pytest.approx(2 / 3)
    assert json.loads(json.dumps(found.to_json()))["repeated_share"] == pytest.approx(1 / 3)
    assert "\n" not in str(split)


def test_split_known_only_drops_rows_with_unseen_ids():
    split = made(TIMED).split(by="time", at=40, known_only=True)
    assert rows(split.test) == [("a", 1, 50.0)]
    assert split.leakage.dropped_rows == 2
    assert split.leakage.unseen_rows == 0


def test_split_by_share_of_time_keeps_a_moment_together():
    _, test = made(TIMED).split(by="time", test=2 / 6)  # the second latest row is one of two at 40
    assert sorted(test.timestamps) == [40, 40, 50]


def test_split_at_accepts_dates():
    data = made([("a", 1, 1_320_883_199), ("a", 2, 1_320_883_200)])
    train, test = data.split(by="time", at="2011-11-10")
    assert (len(train), rows(test)) == (1, [("a", 2, 1_320_883_200.0)])


def test_split_last_takes_the_latest_of_each_query_ties_by_row():
    data = made([("a", 1, 10), ("b", 1, 9), ("a", 2, 10), ("a", 3, 5), ("c", 1, 1), ("b", 2, 3)])
    split = data.split(by="last", n=1)
    assert rows(split.test) == [("b", 1, 9.0), ("a", 2, 10.0)]
    assert rows(split.train) == [("a", 1, 10.0), ("a", 3, 5.0), ("c", 1, 1.0), ("b", 2, 3.0)]
    assert split.leakage.early_rows == 1
    assert split.leakage.early_rows_of_query == 0
    assert rows(data.split(by="last", n=2).test) == [("a", 1, 10.0), ("a", 2, 10.0)]


def test_split_random_is_seeded_and_a_partition():
    data = made([(q, c) for q in range(20) for c in range(10)])
    first, again, other = (data.split(by="random", test=0.1, seed=seed) for seed in (1, 1, 2))
    assert len(first.test) == 20
    assert sorted(rows(first.train) + rows(first.test)) == sorted(rows(data))
    assert rows(first.test) == rows(again.test)
    assert rows(first.test) != rows(other.test)
    assert first.leakage.early_rows is None
    np.random.seed(0)
    assert rows(data.split(by="random", test=0.1, seed=1).test) == rows(first.test)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=25),
    st.integers(1, 3),
)
def test_split_last_never_tests_before_it_trains(triples, n):
    data = made(triples)
    try:
        split = data.split(by="last", n=n)
    except DataError:  # no query has more than n rows
        assert data.query_counts().max() <= n
        return
    counts, held = data.query_counts(), split.test.query_counts()
    assert held.tolist() == [n if count > n else 0 for count in counts]
    assert split.leakage.early_rows_of_query == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "date"}, "'time', 'last' or 'random'"),
        ({"by": "time"}, "one of at and test"),
        ({"by": "time", "at": 5, "test": 0.1}, "one of at and test"),
        ({"by": "time", "at": "someday"}, "someday"),
        ({"by": "time", "at": 5}, "no training row"),
        ({"by": "time", "at": 500}, "no test row"),
        ({"by": "random"}, "share between 0 and 1"),
        ({"by": "random", "test": 2}, "share between 0 and 1"),
        ({"by": "random", "test": 0.1, "at": 5}, "at is for"),
        ({"by": "last", "n": 0}, "n must be"),
        ({"by": "last", "n": 9}, "no test row"),
        ({"by": "last", "test": 0.1}, "takes n"),
        ({"by": "time", "at": 50, "known_only": False, "test": None, "n": 1}, None),
    ],
)
def test_split_refusals(options, words):
    if words is None:
        made(TIMED).split(**options)
        return
    with pytest.raises(DataError, match=words):
        made(TIMED).split(**options)


def test_split_by_time_needs_timestamps():
    for options in ({"by": "time", "test": 0.5}, {"by": "last"}):
        with pytest.raises(DataError, match="timestamp="):
            made([("a", 1), ("b", 2)]).split(**options)


def test_split_known_only_with_nothing_known():
    with pytest.raises(DataError, match="known_only"):
        made([("a", 1, 1), ("b", 2, 2)]).split(by="time", at=2, known_only=True)


# audit


def test_audit_by_hand():
    data = made(
        [("a", 1, 10), ("a", 1, 20), ("b", 2, 15), ("a", 2, 86_400)],
        candidates={"item": [1, 2, 3], "price": pa.array([1.0, float("nan"), None])},
    )
    found = audit(data)
    assert (found.rows, found.duplicate_rows) == (4, 1)
    assert found.density == pytest.approx(3 / 6)
    assert (found.first_day, found.last_day, found.in_time_order) == ("1970-01-01", "1970-01-02", False)
    assert (found.candidates.ids, found.candidates.cold, found.candidates.once) == (3, 1, 0)
    assert found.candidates.missing == {"price": 2}
    assert found.queries.top_share == pytest.approx(3 / 4)
    assert found.leakage is None
    assert json.loads(json.dumps(found.to_json()))["candidates"]["cold_share"] == pytest.approx(1 / 3)
    assert len(found.remarks()) == 3


def test_audit_compares_a_test_set_with_its_own_vocabulary_by_id():
    train = made([("a", 1, 10), ("b", 2, 20)])
    test = made([("z", 2, 30), ("b", 9, 30), ("b", 2, 15)])
    found = audit(train, test).leakage
    assert (found.unseen_queries, found.unseen_candidates, found.unseen_rows) == (1, 1, 2)
    assert (found.repeated_rows, found.early_rows, found.early_rows_of_query) == (1, 1, 1)
    assert any("leak in time" in line for line in audit(train, test).remarks())


def test_repeats_are_counted_by_target_and_by_row():
    """a took 1 in training and twice in the test; b took 2 before, and now 1: two rows of one target, two others."""
    train = made([("a", 1), ("b", 2), ("b", 2)])
    test = made([("b", 1), ("a", 1), ("a", 1), ("b", 2), ("z", 1)])
    found = audit(train, test)
    assert found.leakage is not None
    assert (found.leakage.test_rows, found.leakage.repeated_rows) == (5, 3)
    assert (found.leakage.test_targets, found.leakage.repeated_targets) == (4, 2)
    assert found.to_json()["leakage"]["repeated_target_share"] == 1 / 2
    assert any("2 of 4 test targets (50.0%) are such repeats" in line for line in found.remarks())


def test_audit_of_clean_data_has_nothing_to_say():
    assert audit(made([("a", 1), ("b", 2)])).remarks() == []


def test_audit_refuses_other_id_types():
    with pytest.raises(DataError, match="integers.*strings"):
        audit(made([("a", 1)]), made([("a", "1")]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "random", "test": 0.5, "seed": "a"}, "split: seed must be a whole number ≥ 0, got 'a'"),
        ({"by": "random", "test": 0.5, "seed": True}, "split: seed must be a whole number"),
        ({"by": "random", "test": 0.5, "known_only": "x"}, "split: known_only is True or False, got 'x'"),
    ],
)
def test_split_refuses_what_cannot_be_meant(options, said):
    with pytest.raises(DataError, match=said):
        made([("a", 1), ("b", 2)]).split(**options)


def test_numpy_scalars_are_numbers():
    data = made([("a", 1, 10), ("a", 2, 20), ("b", 2, 30), ("b", 1, 40)])
    for scalars, plain in (
        ({"by": "time", "test": np.float32(0.25)}, {"by": "time", "test": 0.25}),
        ({"by": "last", "n": np.int64(1)}, {"by": "last", "n": 1}),
        ({"by": "random", "test": 0.5, "seed": np.int32(3)}, {"by": "random", "test": 0.5, "seed": 3}),
    ):
        assert rows(data.split(**scalars).test) == rows(data.split(**plain).test)
    assert rows(data.filter(min_per_query=np.int64(2))) == rows(data)
