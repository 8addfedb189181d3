"""S7: the same question alone, among others and beside a bad one has the same ids and the same scores, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.service.answering import recommend
from recs_core.service.schemas import Recommend
from recs_core.service.serving import Served
from tests.service import shops

BAD = (
    {"queries": ["text, where ids are integers"]},
    {"queries": [100], "where": "price <"},
    {"queries": [100], "allow": ["nothing of the corpus"]},
    {"queries": [1], "unknown": "error"},
    {"history": [["i1"], ["i2"]], "queries": [100]},
    {"queries": [100], "context": "blank"},
    {},
)


def question(random: np.random.Generator) -> dict[str, Any]:
    """Any that can be answered."""
    size = int(random.integers(1, 4))
    items = [f"i{n}" for n in random.integers(0, shops.ITEMS + 5, 6)]
    asked: dict[str, Any] = {"queries": random.integers(100, 100 + shops.USERS + 4, size).tolist()}
    asked["k"] = int(random.choice([1, 3, 10, 1000]))
    for name, value in (
        ("history", [items[:n] for n in random.integers(0, 6, size)]),
        ("exclude", [items[n:] for n in random.integers(0, 6, size)]),
        ("exclude_seen", True),
        ("allow", [f"i{n}" for n in random.integers(0, shops.ITEMS, 20)]),
        ("where", str(random.choice(["price < 5", "country = 'UK'", "price > 100"]))),
        ("diversity", 0.5),
        ("unknown", str(random.choice(["oov", "popular"]))),
        ("attributes", True),
    ):
        if random.random() < 0.25:
            asked[name] = value
    return asked


@pytest.fixture(scope="module", params=["bundle", "additive", "ordered"])
def served(request: pytest.FixtureRequest) -> Served:
    return Served.of(str(request.getfixturevalue(request.param)))


def ask(served: Served, *questions: dict[str, Any]) -> list[Any]:
    return recommend(served, [Recommend(**asked) for asked in questions], "oov")


@pytest.mark.parametrize("seed", range(6))
def test_s7_no_answer_depends_on_what_it_was_asked_with(served: Served, seed: int) -> None:
    random = np.random.default_rng(seed)
    questions = [question(random) for _ in range(40)]
    alone = [ask(served, asked)[0] for asked in questions]
    assert all(isinstance(reply, dict) for reply in alone)
    assert ask(served, *questions) == alone
    few = random.permutation(40)[:7]
    assert ask(served, *(questions[n] for n in few)) == [alone[n] for n in few]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_s7_a_bad_neighbour_fails_alone(served: Served, bad: dict[str, Any]) -> None:
    good = [{"queries": [100 + n], "exclude_seen": True} for n in range(5)]
    alone = [ask(served, asked)[0] for asked in good]
    replies = ask(served, *good[:3], bad, *good[3:])
    assert isinstance(replies[3], recs.errors.DataError)
    assert [*replies[:3], *replies[4:]] == alone


def test_s7_two_queries_of_one_request_are_answered_as_in_two(served: Served) -> None:
    together = ask(served, {"queries": [100, 117, 139], "exclude_seen": True, "k": 7})[0]["answers"]
    each = [ask(served, {"queries": [q], "exclude_seen": True, "k": 7})[0]["answers"][0] for q in (100, 117, 139)]
    assert together == each


def test_histories_in_order_are_encoded_together(ordered: Path, bundle: Path) -> None:
    assert Served.of(str(ordered)).in_bulk
    assert not Served.of(str(bundle)).in_bulk


def test_the_library_gives_the_same_answers(served: Served) -> None:
    """To the last digits of float32, where its batches are others."""
    model = served.model
    queries = list(range(100, 132))
    replies = ask(served, *({"queries": [q], "exclude_seen": True, "k": 9} for q in queries))
    found = model.recommend(queries, k=9, exclude="seen")
    for reply, ids, scores in zip(replies, found.ids, found.scores, strict=True):
        got = shops.listed(reply["answers"][0])
        np.testing.assert_allclose([score for _, score in got], scores, rtol=1e-5, atol=1e-5)
        assert {id_ for id_, _ in got} == set(ids.tolist())
