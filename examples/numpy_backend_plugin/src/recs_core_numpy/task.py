"""The retrieval task's loss and gradients, following the plan that the core makes of its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON, MASKED, TaskPlan


def loss_and_gradients(spec: RetrievalSpec, plan: TaskPlan, query: Any, candidate: Any, bias: Any, tau: Any) -> tuple:
    """The loss, and its gradients by query, candidate, bias (of each column) and log temperature."""
    length_x, length_y = lengths(spec, query), lengths(spec, candidate)
    x, y = query / length_x, candidate / length_y
    bias = np.zeros(len(y), x.dtype) if bias is None else bias
    rows, negatives = x[plan.query] if plan.expand else x, y[plan.start :]
    products = rows @ negatives.T / tau
    scores = masked(plan, products + bias[plan.start :])
    own = (x[plan.query] * y[plan.column]).sum(axis=1) / tau
    z = own + bias[plan.column]
    if plan.positive_correction is not None:
        z = z + plan.positive_correction.astype(z.dtype)

    largest = scores.max(axis=1, initial=MASKED)[:, None]
    with np.errstate(divide="ignore"):  # no columns at all: log 0
        of_row = (largest + np.log(np.exp(scores - largest).sum(axis=1, keepdims=True)))[:, 0]
    total = np.where(plan.own_included, of_row[plan.row], np.logaddexp(of_row[plan.row], z))
    weight = plan.weight.astype(z.dtype)
    loss = (weight * (total - z)).sum()

    share = np.where(plan.own_included, weight, weight * np.exp(of_row[plan.row] - total))
    by_row = np.bincount(plan.row, share, plan.num_rows).astype(z.dtype)
    slopes = np.exp(scores - of_row[:, None]) * by_row[:, None] if scores.shape[1] else scores
    own_slope = np.where(plan.own_included, -weight, weight * np.expm1(z - total))

    by_rows = slopes @ negatives / tau
    grad_x, grad_y, grad_b = np.zeros_like(x), np.zeros_like(y), np.zeros_like(bias)
    np.add.at(grad_x, plan.query if plan.expand else np.arange(len(x)), by_rows)
    np.add.at(grad_x, plan.query, own_slope[:, None] * y[plan.column] / tau)
    grad_y[plan.start :] += slopes.T @ rows / tau
    np.add.at(grad_y, plan.column, own_slope[:, None] * x[plan.query] / tau)
    grad_b[plan.start :] += slopes.sum(axis=0)
    np.add.at(grad_b, plan.column, own_slope)
    grad_log_tau = -(slopes * products).sum() - (own_slope * own).sum()
    if spec.scoring == "cosine":
        grad_x = (grad_x - x * (x * grad_x).sum(axis=1, keepdims=True)) / length_x
        grad_y = (grad_y - y * (y * grad_y).sum(axis=1, keepdims=True)) / length_y
    return loss, grad_x, grad_y, grad_b, grad_log_tau


def lengths(spec: RetrievalSpec, vectors: Any) -> Any:
    """(n, 1): what scoring divides each vector by."""
    if spec.scoring == "dot":
        return np.ones((len(vectors), 1), vectors.dtype)
    return np.sqrt((vectors**2).sum(axis=1, keepdims=True) + vectors.dtype.type(COSINE_EPSILON))


def masked(plan: TaskPlan, scores: Any) -> Any:
    """Corrected scores of the negatives, `MASKED` where a column is none."""
    if plan.correction is not None:
        scores = scores + plan.correction.astype(scores.dtype)
    if plan.hit_codes is not None:
        scores[plan.hit_codes[0][:, None] == plan.hit_codes[1]] = MASKED
    if plan.masked is not None:
        scores[plan.masked.segments, plan.masked.values] = MASKED
    if plan.score_mask is not None:
        scores[~plan.score_mask] = MASKED
    if plan.hard_negatives is not None and plan.hard_negatives < scores.shape[1]:
        easier = np.argsort(-scores, axis=1, kind="stable")[:, plan.hard_negatives :]
        np.put_along_axis(scores, easier, MASKED, axis=1)
    return scores
