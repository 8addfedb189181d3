"""Whether order matters: worlds in which it does, does not, and cannot."""

from __future__ import annotations

import numpy as np

import recs_core as recs
from recs_core.recipes import suggest
from recs_core.recipes.order import order

QUERIES, ROWS, CORPUS = 60, 12, 200


def data(candidates: np.ndarray, times: np.ndarray) -> recs.Interactions:
    """A row of candidates, and one of times, for each query."""
    rows = {
        "user": np.repeat(np.arange(len(candidates)), candidates.shape[1]),
        "item": candidates.ravel(),
        "at": times.ravel().astype(np.float64),
    }
    return recs.Interactions.from_table(rows, query="user", candidate="item", timestamp="at")


def walks() -> np.ndarray:
    """Each query goes round a circle of candidates from a place of its own."""
    starts = np.random.default_rng(1).integers(0, CORPUS, QUERIES)
    return (starts[:, None] + np.arange(ROWS)) % CORPUS


def tastes() -> np.ndarray:
    """Each query takes some of the 30 candidates of its group, in no order."""
    random = np.random.default_rng(2)
    return np.stack([30 * (query % 6) + random.permutation(30)[:ROWS] for query in range(QUERIES)])


def in_time(candidates: np.ndarray) -> np.ndarray:
    return np.tile(np.arange(candidates.shape[1]), (len(candidates), 1))


def test_on_a_circle_what_came_after_says_all() -> None:
    found = order(data(walks(), in_time(walks())))
    assert found.matters
    assert found.by_order > 0.8
    assert found.queries == QUERIES


def test_tastes_have_no_order() -> None:
    found = order(data(tastes(), in_time(tastes())))
    assert not found.matters
    assert found.regardless > 0.2  # 10 of the 19 of a group that are new to the query hold about half of what is hidden


def test_rows_of_one_time_have_no_order() -> None:
    """The same circle, all of a query's rows at one time: nothing came after anything, and nobody can be asked."""
    found = order(data(walks(), np.zeros_like(walks())))
    assert not found.matters
    assert found.queries == 0


def test_what_follows_at_one_time_is_not_used() -> None:
    """Two invoices, each a piece of the circle in order, and the second of another place: order tells nothing."""
    random = np.random.default_rng(3)
    first, second = (random.integers(0, CORPUS, (QUERIES, 1)) + np.arange(6) for _ in range(2))
    baskets = np.concatenate([first, second], axis=1) % CORPUS
    times = np.repeat([[0.0, 1.0]], 6, axis=1).repeat(QUERIES, axis=0)
    assert order(data(baskets, times)).by_order < 0.2


def test_the_rows_may_come_in_any_order() -> None:
    given = data(walks(), in_time(walks()))
    assert order(given) == order(given.take(np.random.default_rng(4).permutation(len(given))))


def test_where_order_matters_the_guess_is_sequence() -> None:
    name, why = suggest(data(walks(), in_time(walks())))
    assert name == "sequence"
    assert "of 60 hidden candidates, what came after the latest ones finds" in why
