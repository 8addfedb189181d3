"""Softmax cross-entropy, all rows at once, for shortness; the other backends go through a block of them at a time.

        N negatives (columns from `start` on)
row r │ s   s   ▒   s   ○   s │  ▒ masked: no negative of this row  ○ z, the target's own: here, or beside the sum
"""

from dataclasses import replace
from typing import Any

import numpy as np

from recs_core.contract.task import MASKED, TaskPlan


def pack(plan: TaskPlan, dtype: str) -> TaskPlan:
    """The plan, its numbers in `dtype`; no correction is one of 0."""
    numbers = {name: getattr(plan, name) for name in ("weight", "correction", "positive_correction")}
    return replace(plan, **{name: np.asarray(0 if n is None else n, dtype) for name, n in numbers.items()})


def loss(query: Any, candidate: Any, bias: Any, log_temperature: Any, plan: TaskPlan) -> tuple[Any, ...]:
    """The loss, and its gradients by query (Q, d), candidate (C, d), bias (C,) and log temperature."""
    # Scores: [x ÷ τ ; 1] · [y ; bias]
    inverse = np.exp(-log_temperature)
    x = np.concatenate([query * inverse, np.ones_like(query[:, :1])], axis=1)
    y = np.concatenate([candidate, bias[:, None]], axis=1)
    row_query = plan.query if plan.expand else np.arange(len(x))
    rows, negatives = x[row_query], y[plan.start :]
    scores = masked(plan, rows @ negatives.T + plan.correction)
    z = (x[plan.query] * y[plan.column]).sum(axis=1) + plan.positive_correction

    # Losses: log(Σ exp score, and exp z where that is not among the scores) − z
    top = scores.max(axis=1, initial=MASKED, keepdims=True)
    with np.errstate(divide="ignore"):  # no negatives: log 0
        row_sum = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1))
    lacking = np.where(plan.own_included, -np.inf, z).astype(z.dtype)
    total = np.logaddexp(row_sum[plan.row], lacking)

    # Gradients by the scores and by z
    row_weight = np.bincount(plan.row, plan.weight * np.exp(row_sum[plan.row] - total), plan.num_rows).astype(z.dtype)
    ds = np.exp(scores - row_sum[:, None]) * row_weight[:, None]
    dz = (plan.weight * np.expm1(lacking - total))[:, None]

    # Gradients by the vectors of both sides
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    np.add.at(dx, row_query, ds @ negatives)
    np.add.at(dx, plan.query, dz * y[plan.column])
    dy[plan.start :] += ds.T @ rows
    np.add.at(dy, plan.column, dz * x[plan.query])
    return plan.weight @ (total - z), dx[:, :-1] * inverse, dy[:, :-1], dy[:, -1], -(x * dx)[:, :-1].sum()


def masked(plan: TaskPlan, scores: Any) -> Any:
    """Scores (R, N), `MASKED` where a column is no negative of its row."""
    if plan.hit_codes is not None:
        scores[plan.hit_codes[0][:, None] == plan.hit_codes[1]] = MASKED
    if plan.masked is not None:
        scores[plan.masked.segments, plan.masked.values] = MASKED
    if plan.score_mask is not None:
        scores[~plan.score_mask] = MASKED
    if plan.hard_negatives is not None:
        np.put_along_axis(scores, np.argsort(-scores, axis=1, kind="stable")[:, plan.hard_negatives :], MASKED, axis=1)
    return scores
