"""The retrieval task: the loss and its gradients, one target at a time.

Q queries x, C candidate columns y, T targets. Target t pairs query r = target_query[t] with column p =
target_candidate[t]. Everything is float64.

    score        s_rj = ⟨x_r, y_j⟩ / τ + b_j,   τ = exp(log_temperature); cosine: first x ← x / √(Σ x² + 1e-12), y alike
    correction   to be added to the scores of negatives, c_j, and to the target's own score, c⁺:
                   in-batch or mixed, logq=True        c_j = − log q_j          c⁺ = − log q_p
                   in-batch or mixed, logq="refined"   c_j = − log(n q_j)       c⁺ = 0
                   uniform                             c_j = − log(n q_j)       c⁺ = 0   (q = 1/corpus: log(corpus/n))
                   corpus, or logq=False               c_j = 0                  c⁺ = 0
                 n = uncorrected_from − negatives_from is the number of columns that are draws; those from
                 uncorrected_from on (by default none) have c_j = 0
    negatives    N(t): the columns j ≥ negatives_from, j ≠ p, except
                   with remove_accidental_hits those with candidate_ids[j] = candidate_ids[p] (not for "corpus"),
                   those in row r, or positives_row[r], of `positives`, when given,
                   those with score_mask[r, j] False, when given (the own column p always stays);
                 with hard_negatives=h then the h of the highest score s_rj + c_j
    loss         ℓ_t = log(exp z_t + Σ_{j ∈ N(t)} exp(s_rj + c_j)) − z_t,   z_t = s_rp + c⁺
                 L = Σ w_t ℓ_t / Σ w_t ("mean", 0 where Σ w = 0)  or  Σ w_t ℓ_t ("sum")
    gradient     ∂ℓ_t/∂s_rj = softmax_j − [j = p], and by the chain rule from there

logQ: Bengio & Senécal 2003; Yi et al. 2019 (RecSys) for in-batch; the refined one: uncorrected positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.retrieval import RetrievalSpec

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TaskResult:
    """The loss, ℓ of each target before its weight, and ∂L/∂ each input, shaped as it."""

    loss: float
    losses: Array  # (T,)
    query: Array  # (Q, d)
    candidate: Array  # (C, d)
    bias: Array  # (C,)
    log_temperature: float


def loss_and_gradients(
    spec: RetrievalSpec,
    query: ArrayLike,
    candidate: ArrayLike,
    bias: ArrayLike | None = None,
    log_temperature: float | None = None,
    *,
    target_query: ArrayLike | None = None,
    target_candidate: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    candidate_sampling_probability: ArrayLike | None = None,
    candidate_ids: ArrayLike | None = None,
    positives: Ragged | None = None,
    positives_row: ArrayLike | None = None,
    negatives_from: int = 0,
    score_mask: ArrayLike | None = None,
    uncorrected_from: int | None = None,
) -> TaskResult:
    """Loss and gradients. `bias` (C,) is that of each column, None for none; the rest is as in `TaskInputs`.

    `log_temperature` None stands for the spec's temperature; its gradient is given either way.
    """
    x, y = np.asarray(query, np.float64), np.asarray(candidate, np.float64)
    b = np.zeros(len(y)) if bias is None else np.asarray(bias, np.float64)
    tau = spec.temperature if log_temperature is None else float(np.exp(log_temperature))
    r_of = np.arange(len(x)) if target_query is None else np.asarray(target_query)
    p_of = np.arange(len(x)) if target_candidate is None else np.asarray(target_candidate)
    if positives is not None and positives_row is not None:
        positives = positives.take(np.asarray(positives_row))
    w = np.ones(len(r_of)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if spec.reduction == "mean":
        w = w / w.sum() if w.sum() > 0 else np.zeros_like(w)

    unit_x, unit_y = (normalised(x), normalised(y)) if spec.scoring == "cosine" else (x, y)
    products = unit_x @ unit_y.T / tau  # (Q, C)
    scores = products + b
    drawn = len(y) if uncorrected_from is None else uncorrected_from
    correction, own_correction = corrections(spec, candidate_sampling_probability, len(y), drawn - negatives_from)
    correction = np.where(np.arange(len(y)) < drawn, correction, 0)

    losses = np.zeros(len(r_of))
    slopes = np.zeros_like(scores)  # ∂L/∂s
    for t, (r, p) in enumerate(zip(r_of, p_of, strict=True)):
        negatives = negatives_of(
            spec,
            r,
            p,
            len(y),
            candidate_ids=candidate_ids,
            positives=positives,
            negatives_from=negatives_from,
            score_mask=score_mask,
        )
        logits = scores[r, negatives] + correction[negatives]
        if spec.hard_negatives is not None:
            hardest = np.argsort(-logits, kind="stable")[: spec.hard_negatives]
            negatives, logits = negatives[hardest], logits[hardest]
        z = scores[r, p] + own_correction[p]
        log_sum = log_sum_exp(np.append(logits, z))
        losses[t] = log_sum - z
        slopes[r, negatives] += w[t] * np.exp(logits - log_sum)
        slopes[r, p] += w[t] * (np.exp(z - log_sum) - 1)

    grad_x, grad_y = slopes @ unit_y / tau, slopes.T @ unit_x / tau
    if spec.scoring == "cosine":
        grad_x, grad_y = through_normalised(x, grad_x), through_normalised(y, grad_y)
    return TaskResult(
        loss=float((w * losses).sum()),
        losses=losses,
        query=grad_x,
        candidate=grad_y,
        bias=slopes.sum(axis=0),
        log_temperature=-float((slopes * products).sum()),  # ∂(⟨x,y⟩ e^−λ)/∂λ = −⟨x,y⟩ e^−λ
    )


def negatives_of(
    spec: RetrievalSpec,
    r: int,
    p: int,
    num_columns: int,
    *,
    candidate_ids: ArrayLike | None,
    positives: Ragged | None,
    negatives_from: int,
    score_mask: ArrayLike | None,
) -> NDArray[np.int64]:
    """N(t), ascending, before hard negatives."""
    out = np.ones(num_columns, bool)
    out[:negatives_from] = False
    out[p] = False
    if spec.remove_accidental_hits and spec.negatives != "corpus":
        ids = np.asarray(candidate_ids)
        out &= ids != ids[p]
    if positives is not None:
        out[positives.values[positives.offsets[r] : positives.offsets[r + 1]]] = False
    if score_mask is not None:
        out &= np.asarray(score_mask)[r]
    return np.flatnonzero(out)


def corrections(
    spec: RetrievalSpec, candidate_sampling_probability: ArrayLike | None, num_columns: int, draws: int
) -> tuple[Array, Array]:
    """(C,) c_j for a column as a negative and (C,) c⁺ for it as a target."""
    none = np.zeros(num_columns)
    if spec.negatives == "corpus" or (spec.negatives != "uniform" and spec.logq is False):
        return none, none
    with np.errstate(divide="ignore"):  # columns before negatives_from may hold q = 0: they are no draws
        log_q = np.log(np.asarray(candidate_sampling_probability, np.float64))
    if spec.negatives == "uniform" or spec.logq == "refined":
        return -(np.log(draws) + log_q) if draws else none, none
    return -log_q, -log_q


def log_sum_exp(x: Array) -> float:
    """log Σ exp x, without overflow."""
    largest = x.max()
    return float(largest + np.log(np.exp(x - largest).sum()))


def normalised(x: Array) -> Array:
    """x / √(Σ x² + 1e-12) of each row."""
    unit: Array = x / _norm(x)
    return unit


def through_normalised(x: Array, gradient: Array) -> Array:
    """∂L/∂x from g = ∂L/∂x̂, x̂ = x/n, n = √(Σ x² + 1e-12): (g − x̂ ⟨x̂, g⟩) / n."""
    unit: Array = x / _norm(x)
    through: Array = (gradient - unit * (unit * gradient).sum(axis=1, keepdims=True)) / _norm(x)
    return through


def _norm(x: Array) -> Array:
    return np.asarray(np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-12))
