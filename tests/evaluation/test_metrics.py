"""Metrics against hand-worked cases and against the reference, which tries every order of the tied."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.randomness import generator
from recs_core.evaluation import (
    QueryMetrics,
    compare,
    intervals,
    metrics,
    popularity,
    query_metrics,
    ranks,
    recent_popularity,
    report_rows,
    score_ranks,
)
from recs_core.index.filters import ragged
from recs_core.reference.metrics import evaluate


def of_scores(scores, targets, exclude=None, **options):
    """Metrics of given (Q, C) scores: query i is the i-th unit vector, candidate j holds its scores."""
    scores = np.asarray(scores, np.float32)
    queries, candidates = np.eye(len(scores), dtype=np.float32), np.ascontiguousarray(scores.T)
    return metrics(ranks(queries, candidates, ragged(targets), exclude=exclude), **options)


def test_hand_worked():
    """Five candidates, best first 0 1 2 3 4; targets at places 2 and 5."""
    found = of_scores([[5, 4, 3, 2, 1]], [[1, 4]], k=(1, 2, 5))
    assert found["recall@1"] == 0 and found["recall@2"] == 1 / 2 and found["recall@5"] == 1
    assert found["hit_rate@1"] == 0 and found["hit_rate@2"] == 1
    assert found["precision@2"] == 1 / 2 and found["precision@5"] == 2 / 5
    assert found["mrr"] == found["mrr@2"] == 1 / 2 and found["mrr@1"] == 0
    assert found["map@2"] == pytest.approx((1 / 2) / 2) and found["map@5"] == pytest.approx((1 / 2 + 2 / 5) / 2)
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg@5"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(6)) / ideal)
    assert found["top_k_categorical_accuracy@2"] == 1 / 2


def test_a_perfect_model_whose_targets_tie_scores_one():
    found = of_scores([[3, 3, 3, 1, 0]], [[0, 1, 2]], k=(1, 3))
    assert found["recall@1"] == 1 / 3 and found["recall@3"] == 1
    for name in ("hit_rate@1", "precision@1", "ndcg@1", "ndcg@3", "map@3", "mrr"):
        assert found[name] == 1, name


def test_a_collapsed_model():
    """Ten equal candidates, one target: it comes last, first, or anywhere."""
    scores = np.zeros((1, 10))
    worst, best, chance = (of_scores(scores, [[3]], k=(5,), ties=t) for t in ("pessimistic", "optimistic", "expected"))
    assert all(value == 0 for name, value in worst.items() if name != "mrr") and worst["mrr"] == 1 / 10
    assert best["recall@5"] == best["mrr"] == 1
    assert chance["recall@5"] == chance["hit_rate@5"] == chance["top_k_categorical_accuracy@5"] == 1 / 2
    assert chance["mrr"] == pytest.approx(sum(1 / place for place in range(1, 11)) / 10)


def test_tfrs_accuracy_weighs_targets_and_counts_siblings():
    """Query 0 has one target, first; query 1 two that tie, so each can lose the first place to the other."""
    found = of_scores([[3, 2, 1], [2, 2, 1]], [[0], [0, 1]], k=(1, 2))
    assert found["top_k_categorical_accuracy@1"] == 1 / 3 and found["top_k_categorical_accuracy@2"] == 1
    assert found["recall@1"] == (1 + 1 / 2) / 2


def test_what_is_never_found_counts_as_a_miss():
    found = of_scores([[3, 2, 1]], [[0, 1, -1]], exclude=ragged([[0]]), k=(2,))
    assert found["recall@2"] == 1 / 3 and found["mrr"] == 1
    nothing = of_scores([[3, 2, 1]], [[-1]], k=(2,))
    assert set(nothing.values()) == {0.0}


@pytest.mark.parametrize("ties", ["pessimistic", "expected"])
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_equal_to_the_reference(ties, seed):
    random = np.random.default_rng(seed)
    num_queries, num_candidates = random.integers(1, 4), random.integers(2, 9)
    scores = random.integers(0, 4, (num_queries, num_candidates))
    orders = [random.permutation(num_candidates) for _ in range(num_queries)]
    cut = random.integers(0, num_candidates, num_queries)
    targets = [order[:n] for order, n in zip(orders, cut, strict=True)]
    exclude = [order[n:][random.random(len(order) - n) < 0.3] for order, n in zip(orders, cut, strict=True)]
    if not any(len(t) for t in targets):
        targets[0], exclude[0] = orders[0][:1], orders[0][1:2]
    found = of_scores(scores, targets, ragged(exclude), k=(1, 2, 3, 20), ties=ties)
    expected = evaluate(scores, targets, (1, 2, 3, 20), exclude=exclude, ties=ties)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_expected_lies_between_and_ties_decide_only_ties(seed):
    random = np.random.default_rng(seed)
    scores, targets = random.integers(0, 5, (3, 30)), [random.permutation(30)[:4] for _ in range(3)]
    low, mid, high = (of_scores(scores, targets, ties=t) for t in ("pessimistic", "expected", "optimistic"))
    assert all(low[name] - 1e-12 <= mid[name] <= high[name] + 1e-12 for name in low)
    distinct = np.stack([random.permutation(30) for _ in range(3)])
    assert of_scores(distinct, targets) == of_scores(distinct, targets, ties="optimistic")


def test_means_are_over_the_whole_set_and_skip_queries_without_targets():
    found = ranks(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), ragged([[0], [], [0]]))
    each = query_metrics(found, k=(1,))
    np.testing.assert_array_equal(each.queries, [0, 2])
    np.testing.assert_array_equal(each.values["recall@1"], [1, 0])
    assert each.mean()["recall@1"] == 1 / 2


def test_refuses():
    found = ranks(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), ragged([[0], [1]]))
    for k in ((), (0,), (1.5,), (True,)):
        with pytest.raises(SpecError, match="whole numbers"):
            metrics(found, k=k)
    with pytest.raises(SpecError, match="ties is one of"):
        metrics(found, ties="random")
    with pytest.raises(DataError, match="no query has a target"):
        metrics(ranks(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), ragged([[], []])))


def noisy(seed, shift=0.0):
    """Metrics of 400 queries whose target gets `shift` more than noise."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal((400, 20))
    scores[:, 0] += shift
    return query_metrics(ranks(np.eye(400), np.ascontiguousarray(scores.T), ragged([[0]] * 400)), k=(5,))


def test_intervals_cover_chance_and_narrow_with_the_level():
    wide, narrow = (intervals(noisy(1), level=level, seed=3)["recall@5"] for level in (0.99, 0.5))
    assert wide["low"] < narrow["low"] <= narrow["value"] <= narrow["high"] < wide["high"]
    assert wide["low"] < 5 / 20 < wide["high"]
    # Normal approximation of a share of n = 400.
    error = np.sqrt(narrow["value"] * (1 - narrow["value"]) / 400)
    assert wide["high"] - wide["low"] == pytest.approx(2 * 2.576 * error, rel=0.15)
    assert intervals(noisy(1), seed=3) == intervals(noisy(1), seed=3)


def test_paired_comparison():
    same = compare(noisy(1), noisy(1))
    assert all(row["value"] == row["low"] == row["high"] == 0 for row in same.values())
    better = compare(noisy(1), noisy(2, shift=1.0))["recall@5"]
    assert 0 < better["low"] < better["value"] < better["high"]
    with pytest.raises(DataError, match="different metrics or queries"):
        compare(noisy(1), query_metrics(ranks(np.eye(2), np.eye(2), ragged([[0], [1]])), k=(5,)))


def test_bootstrap_refuses():
    for options in ({"level": 1.0}, {"samples": 1}):
        with pytest.raises(SpecError, match="bootstrap needs"):
            intervals(noisy(1), **options)


def test_popularity():
    codes = np.array([2, 2, 0, 1])
    np.testing.assert_array_equal(popularity(codes, 4), [1, 1, 2, 0])
    day = 86_400
    recent = recent_popularity(codes, np.array([0, 7, 14, 14]) * day, 4, half_life_days=7)
    np.testing.assert_allclose(recent, [1, 1, 1 / 4 + 1 / 2, 0])
    with pytest.raises(SpecError, match="half_life_days"):
        recent_popularity(codes, np.zeros(4), 4, half_life_days=0)
    with pytest.raises(DataError, match="finite timestamp"):
        recent_popularity(codes, [0, 1, 2, np.nan], 4, half_life_days=1)
    with pytest.raises(DataError, match="the corpus has 2"):
        popularity(codes, 2)


def test_popularity_is_ranked_by_the_same_code():
    """Counts beyond what float32 tells apart stay apart; equal ones tie."""
    scores = np.array([2**25, 2**25 + 1, 5, 5])
    found = score_ranks(scores, ragged([[0, 2], [1]]), exclude=ragged([[], [0]]))
    np.testing.assert_array_equal(found.above, [1, 2, 0])
    np.testing.assert_array_equal(found.tied, [0, 1, 0])


def test_report_rows():
    found = replace(noisy(1), whole={"coverage@5": 0.5})
    rows = report_rows(found, with_intervals=True)
    assert list(rows)[-1] == "coverage@5" and rows["coverage@5"] == {"value": 0.5}
    assert rows["recall@5"].keys() == {"value", "low", "high"}
    assert report_rows(found)["recall@5"].keys() == {"value"}


def test_intervals_are_quantiles_of_means_of_draws():
    """As a plain loop has them; of a metric that few queries have, over the draws that have one."""
    random = np.random.default_rng(5)
    values, weights = random.random(9), random.integers(0, 2, 9) * random.integers(1, 5, 9)
    weights[0] = 1
    found = QueryMetrics({"a": values, "b": values}, np.ones(9, np.int64), np.arange(9), {"b": weights})
    draws = generator(7, "bootstrap")
    drawn = [draws.integers(0, 9, 9) for _ in range(200)]
    plain = [values[rows].mean() for rows in drawn]
    weighed = [np.average(values[rows], weights=weights[rows]) for rows in drawn if weights[rows].any()]
    got = intervals(found, samples=200, seed=7)
    for name, means in (("a", plain), ("b", weighed)):
        np.testing.assert_allclose([got[name]["low"], got[name]["high"]], np.quantile(means, [0.025, 0.975]))
    assert got["b"]["value"] == pytest.approx((values * weights).sum() / weights.sum())
