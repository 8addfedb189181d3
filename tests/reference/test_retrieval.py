"""The oracle's scoring, top-k and metrics, by hand."""

import numpy as np
import pytest

from recs_core.contract.batch import Ragged
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.reference import metrics, scoring, task, topk


def rows(*lists):
    return Ragged(np.array([c for r in lists for c in r], np.int32), np.cumsum([0, *map(len, lists)]).astype(np.int32))


SCORES = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])


def test_top_k_breaks_ties_by_position():
    np.testing.assert_array_equal(topk.top_k_of_scores(SCORES, 3).ids, [[1, 2, 3], [0, 1, 2]])


def test_top_k_leaves_out_what_is_excluded_and_pads():
    got = topk.top_k_of_scores(SCORES, 3, exclude=rows([1, 3], [0, 1, 2, 3]))
    np.testing.assert_array_equal(got.ids, [[2, 0, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(got.scores, [[3, 1, -np.inf], [-np.inf] * 3])


def test_top_k_returns_only_what_is_allowed():
    got = topk.top_k_of_scores(SCORES, 3, exclude=rows([3], []), allow=np.array([3, 0]))
    np.testing.assert_array_equal(got.ids, [[0, -1, -1], [0, 3, -1]])


def test_a_position_of_the_lowest_score_beats_padding():
    got = topk.top_k_of_scores(np.array([[-1e30, 1e30]]), 2)
    np.testing.assert_array_equal(got.ids, [[1, 0]])


@pytest.mark.parametrize("scored", ["dot", "cosine"])
def test_retrieval_vectors_multiply_to_the_whole_score(scored):
    random = np.random.default_rng(0)
    x, y, b = random.normal(size=(3, 4)), random.normal(size=(5, 4)), random.normal(size=5)
    spec = RetrievalSpec(scoring=scored, learn_temperature=True)
    got = scoring.query_vectors(spec, x) @ scoring.candidate_vectors(spec, y, b, np.log(0.2)).T
    for i in range(3):
        for j in range(5):
            product = x[i] @ y[j] / (1 if scored == "dot" else np.linalg.norm(x[i]) * np.linalg.norm(y[j]))
            assert got[i, j] == pytest.approx(product / 0.2 + b[j], rel=1e-10)


@pytest.mark.parametrize(
    ("name", "places", "k", "expected"),
    [
        ("recall", [1, 3, 9], 3, 2 / 3),
        ("hit_rate", [4], 3, 0),
        ("hit_rate", [3, 4], 3, 1),
        ("precision", [1, 3, 9], 4, 2 / 4),
        ("ndcg", [1, 2], 5, 1),
        ("ndcg", [3], 5, 0.5),
        ("ndcg", [1, 3, 9], 3, 1.5 / (1 + 1 / np.log2(3) + 0.5)),
        ("ndcg", [2, 3], 1, 0),
        ("mrr", [4, 2], 5, 0.5),
        ("mrr", [6], 5, 0),
        ("map", [1, 3, 9], 10, (1 + 2 / 3 + 3 / 9) / 3),
        ("map", [1, 3, 9], 2, 1 / 2),
    ],
)
def test_a_metric_by_hand(name, places, k, expected):
    assert metrics.METRICS[name](places, k) == pytest.approx(expected, rel=1e-14)


def test_a_perfect_model_scores_one_ties_or_not():
    got = metrics.evaluate([[1.0, 1.0, 0.0, 0.0]], [[0, 1]], k=[2])
    assert {name: got[name] for name in ("recall@2", "hit_rate@2", "precision@2", "ndcg@2", "mrr", "map@2")} == {
        "recall@2": 1, "hit_rate@2": 1, "precision@2": 1, "ndcg@2": 1, "mrr": 1, "map@2": 1,
    }  # fmt: skip


def test_a_collapsed_model_scores_nothing_or_chance():
    scores, relevant = np.zeros((1, 4)), [[2]]
    assert metrics.evaluate(scores, relevant, k=[1, 3])["recall@3"] == 0
    chance = metrics.evaluate(scores, relevant, k=[1, 3], ties="expected")
    assert chance["recall@3"] == pytest.approx(3 / 4)
    assert chance["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert chance["top_k_categorical_accuracy@1"] == pytest.approx(1 / 4)


def test_expected_ties_average_over_every_order():
    """One of two targets ties with two others behind a clear winner: places 2, 3 or 4 with equal chance."""
    got = metrics.evaluate([[9.0, 5.0, 5.0, 5.0]], [[0, 2]], k=[2], ties="expected")
    assert got["recall@2"] == pytest.approx((1 + 1 / 3) / 2)
    assert got["map@2"] == pytest.approx((1 / 3 * 2 + 2 / 3 * 1) / 2)


def test_exclusions_go_first_and_queries_without_targets_do_not_count():
    scores = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]
    got = metrics.evaluate(scores, [[1], []], k=[1], exclude=[[0], []])
    assert got["recall@1"] == 1


def test_tfrs_accuracy_is_over_targets_not_queries():
    scores = [[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]]
    got = metrics.evaluate(scores, [[0, 1, 3], [0]], k=[1])
    assert got["top_k_categorical_accuracy@1"] == pytest.approx(2 / 4)
    assert got["recall@1"] == pytest.approx((1 / 3 + 1) / 2)


def test_log_sum_exp_does_not_overflow():
    assert task.log_sum_exp(np.array([1e30, 1e30])) == pytest.approx(1e30)


def test_a_target_that_is_excluded_is_a_miss() -> None:
    got = metrics.evaluate([[9.0, 5.0, 1.0]], [[0, 1]], k=[1, 3], exclude=[[0]])
    assert got["recall@1"] == got["recall@3"] == 0.5
    assert got["mrr"] == 1 and got["top_k_categorical_accuracy@3"] == 0.5
    assert got["ndcg@3"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
