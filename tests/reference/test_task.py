"""The oracle's task: by hand, against finite differences, and against TFRS where TFRS is right."""

import numpy as np
import pytest

from recs_core.contract.batch import Ragged
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.reference.task import loss_and_gradients

PLAIN = {"scoring": "dot", "temperature": 1.0, "candidate_bias": False, "logq": False, "remove_accidental_hits": False}
# ⟨x_0, y⟩ = (ln 1, ln 2, ln 3, ln 4), ⟨x_1, y⟩ = 0: softmax by mental arithmetic
QUERY = np.array([[1.0, 0.0], [0.0, 0.0]])
CANDIDATE = np.array([[np.log(1), 1.0], [np.log(2), 1.0], [np.log(3), 1.0], [np.log(4), 1.0]])


def first_loss(spec_changes=None, query=QUERY, bias=None, **arguments):
    """ℓ of the target (query 0, column 0)."""
    spec = RetrievalSpec(**{**PLAIN, **(spec_changes or {})})
    return loss_and_gradients(spec, query, CANDIDATE, bias, **arguments).losses[0]


def rows(*lists):
    return Ragged(np.array([c for r in lists for c in r], np.int32), np.cumsum([0, *map(len, lists)]).astype(np.int32))


IDS = np.array([5, 6, 5, 7], np.int32)
Q = np.array([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("spec", "arguments", "odds"),  # ℓ = log(odds): Σ exp / exp of the own score
    [
        ({}, {}, 1 + 2 + 3 + 4),
        ({"temperature": 0.5}, {}, 1 + 4 + 9 + 16),
        ({}, {"negatives_from": 2}, 1 + 3 + 4),
        ({}, {"negatives_from": 4}, 1),
        ({"remove_accidental_hits": True}, {"candidate_ids": IDS}, 1 + 2 + 4),
        ({"remove_accidental_hits": True, "negatives": "corpus"}, {"candidate_ids": IDS}, 1 + 2 + 3 + 4),
        ({}, {"positives": rows([1, 3], [])}, 1 + 3),
        ({}, {"positives": rows([0, 1, 2, 3], [])}, 1),
        ({}, {"score_mask": np.array([[False, True, False, True]] * 2)}, 1 + 2 + 4),
        ({"hard_negatives": 2}, {}, 1 + 3 + 4),
        ({"hard_negatives": 9}, {}, 1 + 2 + 3 + 4),
        ({"hard_negatives": 1}, {"score_mask": np.array([[True, True, True, False]] * 2)}, 1 + 3),
        # exp(s − log q) = exp(s)/q, the positive's included: (1/.1 + 2/.2 + 3/.3 + 4/.4) / (1/.1)
        ({"logq": True}, {"candidate_sampling_probability": Q}, 4),
        ({"logq": "refined"}, {"candidate_sampling_probability": Q}, 1 + (10 + 10 + 10) / 4),
        # uniform: corpus 20, 2 draws: every sampled column counts for 20/2 candidates
        (
            {"negatives": "uniform", "num_negatives": 2, "logq": False},
            {"candidate_sampling_probability": np.full(4, 1 / 20), "negatives_from": 2},
            1 + 10 * (3 + 4),
        ),
        ({"negatives": "mixed", "num_negatives": 2, "logq": True}, {"candidate_sampling_probability": Q}, 4),
        ({"candidate_bias": True}, {"bias": np.log([1.0, 5.0, 1.0, 1.0])}, 1 + 10 + 3 + 4),
        ({"temperature": 0.5, "candidate_bias": True}, {"bias": np.log([1.0, 5.0, 1.0, 1.0])}, 1 + 20 + 9 + 16),
        ({"learn_temperature": True}, {"log_temperature": np.log(0.5)}, 1 + 4 + 9 + 16),
    ],
)
def test_the_loss_of_a_target_by_hand(spec, arguments, odds):
    assert first_loss(spec, **arguments) == pytest.approx(np.log(odds), rel=1e-14)


def test_q_below_one_in_a_million_is_not_floored():
    tiny = np.array([1e-9, 1e-3, 1e-3, 1e-3])
    assert first_loss({"logq": True}, candidate_sampling_probability=tiny) == pytest.approx(np.log(1 + 9e-6), rel=1e-9)


def test_cosine_divides_by_the_length():
    spec = RetrievalSpec(**{**PLAIN, "scoring": "cosine"})
    result = loss_and_gradients(spec, [[3.0, 0.0]], [[2.0, 0.0], [0.0, 5.0]])
    assert result.losses[0] == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-12)
    zero = loss_and_gradients(spec, [[0.0, 0.0]], [[0.0, 0.0], [0.0, 5.0]])
    assert zero.losses[0] == pytest.approx(np.log(2))
    assert np.isfinite(zero.query).all()


def test_reductions_and_weights():
    arguments = {"sample_weight": [3.0, 1.0]}
    odds = np.log([10.0, 4.0])
    for reduction, expected in (("mean", (3 * odds[0] + odds[1]) / 4), ("sum", 3 * odds[0] + odds[1])):
        result = loss_and_gradients(RetrievalSpec(**PLAIN, reduction=reduction), QUERY, CANDIDATE, **arguments)
        assert result.loss == pytest.approx(expected, rel=1e-14)
    zero = loss_and_gradients(RetrievalSpec(**PLAIN), QUERY, CANDIDATE, sample_weight=[0.0, 0.0])
    assert zero.loss == 0
    assert not zero.query.any()


def test_a_batch_of_one_has_no_negatives_and_no_loss():
    result = loss_and_gradients(RetrievalSpec(**PLAIN), QUERY[:1], CANDIDATE[:1])
    assert result.loss == 0
    assert not result.candidate.any()


def test_several_targets_of_a_query_are_each_the_others_negative():
    result = loss_and_gradients(
        RetrievalSpec(**PLAIN), QUERY[:1], CANDIDATE, target_query=[0, 0], target_candidate=[0, 3]
    )
    np.testing.assert_allclose(result.losses, np.log([10, 10 / 4]), rtol=1e-14)


def random_task(seed):
    """A spec and arguments that use every option by turns."""
    random = np.random.default_rng(seed)
    negatives = ["in-batch", "uniform", "mixed", "corpus"][seed % 4]
    spec = RetrievalSpec(
        scoring=["dot", "cosine"][seed // 4 % 2],
        temperature=0.7,
        learn_temperature=True,
        negatives=negatives,
        num_negatives=3 if negatives in ("uniform", "mixed") else None,
        logq=[True, "refined", False][seed % 3],
        hard_negatives=[None, 2][seed // 8 % 2],
        reduction=["mean", "sum"][seed // 2 % 2],
        mask_positives=bool(seed % 5 == 0),
    )
    queries, columns, targets = 3, 7, 5
    arguments = {
        "target_query": random.integers(0, queries, targets),
        "target_candidate": random.integers(0, columns, targets),
        "sample_weight": random.random(targets),
        "candidate_sampling_probability": random.random(columns) / 3,
        "candidate_ids": random.integers(0, 5, columns),
        "negatives_from": int(random.integers(0, 4)),
        "positives": rows([0, 5], [], [6]) if seed % 5 < 2 else None,
        "score_mask": random.random((queries, columns)) < 0.8 if seed % 3 else None,
    }
    weights = [
        random.normal(size=(queries, 4)),
        random.normal(size=(columns, 4)),
        random.normal(size=columns),
        np.log(0.7),
    ]
    return spec, weights, arguments


@pytest.mark.parametrize("seed", range(24))
def test_the_gradients_are_the_derivatives(seed):
    spec, weights, arguments = random_task(seed)
    result = loss_and_gradients(spec, *weights, **arguments)
    for i, gradient in enumerate((result.query, result.candidate, result.bias, np.asarray(result.log_temperature))):
        numeric = np.zeros_like(gradient)
        for at in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [np.array(weight) for weight in weights]
                moved[i][at] += sign * 1e-6
                ends.append(loss_and_gradients(spec, *moved[:3], float(moved[3]), **arguments).loss)
            numeric[at] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradient, numeric, atol=2e-8)
