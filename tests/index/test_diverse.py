"""Variety: the oracle's choice, worked by hand and at random; pools that are short; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.contract.protocols import TopK
from recs_core.index import diverse
from recs_core.index.diverse import chosen, pool_size
from recs_core.reference.diversity import maximal_marginal_relevance

# Two alike, one across, one against.
VECTORS = np.array([[2, 0], [1, 0], [0, 3], [-1, 0]], np.float32)
POOL = TopK(np.array([[0, 1, 2, 3]]), np.array([[5.0, 4.0, 3.0, 1.0]], np.float32))


@pytest.mark.parametrize(
    ("diversity", "due"),
    [
        (0.1, [0, 1, 2, 3]),  # .9·.75 − .1·1 = .575 beats .9·.5 − 0 = .45
        (0.5, [0, 3, 2]),  # 1: .375 − .5; 2: .25 − 0; 3: 0 + .5. Then 1: −.125, 2: .25
        (1.0, [0, 3, 2]),
    ],
)
def test_by_hand(diversity, due):
    assert maximal_marginal_relevance(POOL.scores[0], VECTORS, len(due), diversity) == due
    found = chosen(POOL, VECTORS, len(due), diversity)
    assert found.ids.tolist() == [due] and found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.scores, POOL.scores[:, due])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]), st.integers(1, 12))
def test_the_oracles_choice_with_ties_and_short_pools(seed, diversity, k):
    """Whole scores and vectors along axes: both compute them alike, and ties and vectors of zeros abound."""
    random = np.random.default_rng(seed)
    vectors = np.vstack([np.eye(3), -np.eye(3), np.zeros((1, 3))])[random.integers(0, 7, 12)].astype(np.float32)
    ids = np.stack([random.permutation(12)[:10] for _ in range(4)])
    scores = -np.sort(-random.integers(-3, 4, (4, 10)).astype(np.float32), axis=1)
    for row, number in enumerate(random.integers(0, 11, 4)):
        ids[row, number:], scores[row, number:] = -1, -np.inf
    found = chosen(TopK(ids, scores), vectors, min(k, 10), diversity)
    for row in range(4):
        number = int((ids[row] >= 0).sum())
        due = (
            maximal_marginal_relevance(scores[row, :number], vectors[ids[row, :number]], k, diversity) if number else []
        )
        due = due[: min(k, 10)]
        np.testing.assert_array_equal(found.ids[row, : len(due)], ids[row, due])
        np.testing.assert_array_equal(found.scores[row, : len(due)], scores[row, due])
        assert (found.ids[row, len(due) :] == -1).all() and np.isneginf(found.scores[row, len(due) :]).all()


def test_blocks_of_queries_change_nothing(monkeypatch):
    random = np.random.default_rng(1)
    vectors = random.standard_normal((50, 4), np.float32)
    pool = TopK(np.stack([random.permutation(50)[:20] for _ in range(9)]), -np.sort(random.standard_normal((9, 20)), 1))
    whole = chosen(pool, vectors, 5, 0.4)
    monkeypatch.setattr(diverse, "NUMBERS", 2 * 20 * 4)
    np.testing.assert_array_equal(chosen(pool, vectors, 5, 0.4).ids, whole.ids)
    assert chosen(TopK(pool.ids[:0], pool.scores[:0]), vectors, 5, 0.4).ids.shape == (0, 5)


@pytest.mark.parametrize(
    ("k", "diversity", "pool", "due"),
    [
        (5, None, None, 5),
        (300, None, None, 200),
        (5, 0, None, 5),
        (5, 0.0, 7, 5),
        (1, 0.3, None, 100),
        (15, 0.3, None, 150),
        (5, 1, 6, 6),
        (5, 0.3, 10**9, 200),
        (300, 0.3, None, 200),
    ],
)
def test_the_size_of_the_pool(k, diversity, pool, due):
    assert pool_size(k, diversity, pool, 200) == due


@pytest.mark.parametrize(
    ("diversity", "pool", "said"),
    [
        (-0.1, None, "diversity is a number from 0 .* to 1, got -0.1"),
        (1.5, None, "got 1.5"),
        (float("nan"), None, "got nan"),
        ("0.3", None, "got '0.3'"),
        (True, None, "got True"),
        (0.3, 5, "pool must be a whole number above k = 5, or nothing is left to choose; got 5"),
        (0.3, 4, "got 4"),
        (0, 5, "got 5"),
        (0.3, 9.5, "got 9.5"),
        (0.3, True, "got True"),
        (None, 9, "pool=9 is what diversity chooses from; pass diversity= too"),
    ],
)
def test_what_is_refused(diversity, pool, said):
    with pytest.raises(DataError, match=said):
        pool_size(5, diversity, pool, 40)
