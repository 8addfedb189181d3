"""Numbers beyond accuracy: by hand, and against the reference, which makes every list by sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recs_core as recs
from recs_core.evaluation import answer_popularity, beyond_names, intervals
from recs_core.evaluation.beyond import NOWHERE, coverage, first_places, popularity_of, tail, tail_recall
from recs_core.evaluation.ranking import ranks
from recs_core.index.filters import ragged
from recs_core.reference.metrics import evaluate

LISTS = np.array([[0, 1], [0, -1], [2, 0]])
COUNTS = np.array([6, 2, 0, 4])


def test_by_hand() -> None:
    first = first_places(LISTS, 4)
    assert first.tolist() == [1, 2, 1, NOWHERE]
    assert coverage(first, [1, 2, 9]) == {"coverage@1": 2 / 4, "coverage@2": 3 / 4, "coverage@9": 3 / 4}
    assert coverage(first, [1], among=np.array([False, True, True, False])) == {"coverage@1": 1 / 2}
    assert np.isnan(coverage(first, [1], among=np.zeros(4, bool))["coverage@1"])
    values, weights = popularity_of(LISTS, COUNTS, [1, 2])
    assert values["popularity@1"].tolist() == [6, 6, 0] and weights["popularity@1"].tolist() == [1, 1, 1]
    assert values["popularity@2"].tolist() == [4, 6, 3] and weights["popularity@2"].tolist() == [2, 1, 2]


def test_the_tail_is_below_the_median_of_those_with_a_row() -> None:
    assert tail(COUNTS).tolist() == [False, True, True, False]  # the median of 6, 2 and 4 is 4
    assert not tail([5, 5, 5]).any() and not tail([0, 0]).any()


def test_recall_of_the_tail() -> None:
    """Best first 0 1 2 3. Query 0 wants 0, of the head, and 1 and 2, of the tail; query 1 wants 3, of the head; query 2
    wants what is not in the corpus."""
    found = ranks(np.ones((3, 1)), np.array([[4.0], [3], [2], [1]]), ragged([[0, 1, 2], [3], [-1]]))
    rare = tail_recall(found, COUNTS, k=[1, 2, 3])
    assert rare.queries.tolist() == [0, 2]
    assert rare.mean() == {"tail_recall@1": 0, "tail_recall@2": (1 / 2 + 0) / 2, "tail_recall@3": 1 / 2}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["pessimistic", "expected"]), st.sampled_from(["miss", "drop"]))
def test_equal_to_the_reference(seed: int, ties: Any, repeats: Any) -> None:
    """The popularity of a random shop: its scores are counts, full of ties."""
    random = np.random.default_rng(seed)
    users, items, number = int(random.integers(1, 5)), int(random.integers(2, 8)), int(random.integers(2, 30))
    train = rows(random.integers(0, users, number), random.integers(0, items, number))
    wanted = np.argwhere(random.random((users, items)) < 0.5)
    test = rows(*wanted.T) if len(wanted) else rows([0], [0])
    schema = learn(train)
    known = schema.candidates.ids.to_pylist()
    counts = [train.candidate_counts()[train.candidate_ids.encode([item])[0]] for item in known]
    taken = {user: {known.index(i) for u, i in pairs(train) if u == user} for user in range(users)}
    asked = {user: {known.index(i) for u, i in pairs(test) if u == user and i in known} for user in range(users)}
    asked = {user: targets for user, targets in asked.items() if targets}
    strangers = {i for _, i in pairs(test)} - set(known)
    left = [targets - taken[user] for user, targets in asked.items()]
    if strangers or not any(left):  # the reference has no candidates outside the corpus
        return
    given = answer_popularity(schema, train, test, repeats=repeats, k=9)
    found = recs.evaluation.Measures((1, 2, 9), ties).of(given).mean()
    expected = evaluate(
        np.tile(counts, (len(asked), 1)),
        list(asked.values()),
        (1, 2, 9),
        exclude=[taken[user] for user in asked],
        ties=ties,
        repeats=repeats,
        counts=counts,
    )
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_no_candidate_of_the_tail_is_no_number_and_no_interval() -> None:
    train = rows([0, 1, 2], [0, 1, 2])
    measured = recs.evaluation.Measures((1,)).of(answer_popularity(learn(train), train, rows([0], [1])))
    assert np.isnan(measured.mean()["tail_recall@1"])
    assert np.isnan([*intervals(measured)["tail_recall@1"].values()]).all()
    assert measured.mean().keys() >= set(beyond_names((1,)))


USER, ITEM = recs.TowerSpec([recs.Categorical("user", dim=2)]), recs.TowerSpec([recs.Categorical("item", dim=2)])


def rows(users: Any, items: Any) -> recs.Interactions:
    return recs.Interactions.from_table(
        {"user": np.asarray(users), "item": np.asarray(items)}, query="user", candidate="item"
    )


def pairs(data: recs.Interactions) -> list[tuple[int, int]]:
    table = data.to_table()
    return list(zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True))


def learn(train: recs.Interactions) -> Any:
    from recs_core.data.schema import Schema

    return Schema.learn(USER, ITEM, train)
