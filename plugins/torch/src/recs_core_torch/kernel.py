"""Softmax cross-entropy over in-batch, sampled or whole-corpus negatives, a block of rows at a time.

The matrix of scores is never stored: each block of rows is scored, masked and exponentiated in one buffer that is used
again for the next, and both gradients are taken from it before it goes. Memory is O(block x columns), not O(rows x
columns); the order of operations is that of `recs_core.task`.

Scores are held in base 2 (multiplied by log2 e, which costs nothing as part of the temperature), because `exp2` of a
block takes about half the time of `exp` on a CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from recs_core.task import MASKED, TaskPlan
from recs_core_torch.data import as_tensor

BLOCK = 256
"""Rows of a block: few enough that its scores stay in cache between passes, many enough to pay for the calls."""

LOG2_E = math.log2(math.e)
LN_2 = math.log(2)


class BlockedSoftmax(torch.autograd.Function):
    """`apply(query (Q, d), candidate (C, d), bias (C,) or None, log_temperature (), plan)` → the loss, a scalar."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, candidate: Tensor, bias: Tensor | None, log_temperature: Tensor, plan: TaskPlan
    ) -> Tensor:
        targets = _Targets(plan, query, candidate, bias, log_temperature)
        loss, *gradients = _run(targets, plan, query, candidate, bias, with_gradients=any(ctx.needs_input_grad))
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors  # type: ignore[attr-defined]
        needed = ctx.needs_input_grad  # type: ignore[attr-defined]
        return *(grad * g if need else None for g, need in zip(gradients, needed, strict=False)), None


class _Targets:
    """The targets, ordered by their row of scores, and the score z of each one's own candidate."""

    def __init__(
        self, plan: TaskPlan, query: Tensor, candidate: Tensor, bias: Tensor | None, log_temperature: Tensor
    ) -> None:
        order = np.argsort(plan.row, kind="stable")

        def ordered(array: NDArray[Any]) -> Tensor:
            return as_tensor(array[order], query.device)

        row = plan.row[order]
        self.blocks = np.searchsorted(row, np.arange(0, plan.num_rows + BLOCK, BLOCK))
        self.row, self.query, self.column = (ordered(a).long() for a in (plan.row, plan.query, plan.column))
        self.weight = ordered(plan.weight).to(query.dtype)
        self.inverse_temperature = torch.exp(-log_temperature).to(query.dtype)
        self.scaled = (query[self.query] * candidate[self.column]).sum(1) * self.inverse_temperature
        self.z = self.scaled.clone()
        if bias is not None:
            self.z += bias[self.column]
        if plan.positive_correction is not None:
            self.z += ordered(plan.positive_correction).to(query.dtype)
        # What the row's sum still lacks: exp z, or nothing where the own column is already among the row's scores.
        self.lacking = self.z.masked_fill(ordered(plan.own_included), -math.inf)


def _run(
    targets: _Targets, plan: TaskPlan, query: Tensor, candidate: Tensor, bias: Tensor | None, *, with_gradients: bool
) -> tuple[Tensor, ...]:
    """The loss, and its gradients by query, candidate, bias and log-temperature."""
    x = (query[targets.query] if plan.expand else query) * targets.inverse_temperature
    negatives = candidate[plan.start :]
    scores = _Scores(plan, x, negatives, bias)
    loss, dz = torch.zeros_like(targets.z), torch.zeros_like(targets.z)
    dx = torch.zeros_like(x)
    # Accumulated as (d, C), the orientation in which a block's product is fastest.
    dcandidate = candidate.new_zeros(candidate.shape[::-1])
    dnegatives = dcandidate[:, plan.start :]
    db = query.new_zeros(len(candidate))
    for block, low in enumerate(range(0, plan.num_rows if len(negatives) else 0, BLOCK)):
        high = min(low + BLOCK, plan.num_rows)
        here = slice(targets.blocks[block], targets.blocks[block + 1])
        share, row_log_sum, row_sum = scores.exponentials(low, high)
        local = targets.row[here] - low
        weight, lacking = targets.weight[here], targets.lacking[here]
        log_sum = row_log_sum[local]
        total = torch.logaddexp(log_sum, lacking)
        torch.sub(total, targets.z[here], out=loss[here])
        if not with_gradients:
            continue
        torch.mul(weight, torch.exp(lacking - total) - 1, out=dz[here])
        factor = torch.zeros_like(row_sum).index_add_(0, local, weight * torch.exp(log_sum - total)).div_(row_sum)
        torch.mm(share, negatives, out=dx[low:high])
        dx[low:high] *= factor[:, None]
        dnegatives.addmm_((x[low:high] * factor[:, None]).T, share)
        if bias is not None:
            db[plan.start :].addmv_(share.T, factor)
    loss_sum = targets.weight @ loss
    if not with_gradients:
        return (loss_sum,)
    # Σ over scores of gradient x score is x · dx, so the temperature's gradient needs no pass over the scores.
    dlog_temperature = -(x.flatten() @ dx.flatten() + dz @ targets.scaled)
    dx *= targets.inverse_temperature
    dquery = torch.zeros_like(query).index_add_(0, targets.query, dx) if plan.expand else dx
    scaled_dz = (dz * targets.inverse_temperature)[:, None]
    dquery.index_add_(0, targets.query, scaled_dz * candidate[targets.column])
    dcandidate = dcandidate.T
    dcandidate.index_add_(0, targets.column, scaled_dz * query[targets.query])
    db.index_add_(0, targets.column, dz)
    return loss_sum, dquery, dcandidate, db, dlog_temperature


class _Scores:
    """Blocks of rows of scores, in base 2, corrected and masked, in one buffer."""

    def __init__(self, plan: TaskPlan, x: Tensor, negatives: Tensor, bias: Tensor | None) -> None:
        self.plan, self.x, self.negatives = plan, x * LOG2_E, negatives
        self.buffer = x.new_empty(min(BLOCK, len(x)), len(negatives))
        added = None if plan.correction is None else as_tensor(plan.correction, x.device).to(x.dtype)
        if bias is not None:
            added = bias[plan.start :] if added is None else added + bias[plan.start :]
        self.added = None if added is None else added * LOG2_E
        self.hits = None if plan.hit_codes is None else _Hits(*plan.hit_codes)

    def exponentials(self, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, N) exp(score - row's highest), in the buffer; (rows,) log Σ exp score; (rows,) Σ of the first."""
        scores = self.buffer[: high - low]
        if self.added is None:
            torch.mm(self.x[low:high], self.negatives.T, out=scores)
        else:
            torch.addmm(self.added, self.x[low:high], self.negatives.T, out=scores)
        self._mask(scores, low, high)
        highest = scores.amax(1, keepdim=True)
        row_sum = scores.sub_(highest).exp2_().sum(1)
        return scores, (row_sum.log2() + highest[:, 0]) * LN_2, row_sum

    def _mask(self, scores: Tensor, low: int, high: int) -> None:
        width = scores.shape[1]
        flat = scores.view(-1)
        if self.hits is not None:
            flat[as_tensor(self.hits.positions(low, high), scores.device)] = MASKED
        if self.plan.masked is not None:
            offsets = self.plan.masked.offsets[low : high + 1]
            columns = self.plan.masked.values[offsets[0] : offsets[-1]]
            starts = np.repeat(np.arange(high - low) * width, np.diff(offsets))
            flat[as_tensor(columns + starts, scores.device)] = MASKED
        if self.plan.score_mask is not None:
            scores.masked_fill_(~as_tensor(self.plan.score_mask[low:high], scores.device), MASKED)
        hard = self.plan.hard_negatives
        if hard is not None and hard < width:
            kept = scores.topk(hard, dim=1)
            scores.fill_(MASKED).scatter_(1, kept.indices, kept.values)


class _Hits:
    """Where a column holds the row's own candidate, found by sorting the codes once: comparing every column of every
    row would cost as much as two more passes over the scores."""

    def __init__(self, row_codes: NDArray[np.int32], column_codes: NDArray[np.int32]) -> None:
        self.width = len(column_codes)
        self.order = np.argsort(column_codes, kind="stable")
        codes = column_codes[self.order]
        self.first = np.searchsorted(codes, row_codes, side="left")
        self.count = np.searchsorted(codes, row_codes, side="right") - self.first

    def positions(self, low: int, high: int) -> NDArray[np.int64]:
        """Flat positions to mask in the block of rows low … high - 1."""
        count, first = self.count[low:high], self.first[low:high]
        before = np.cumsum(count) - count
        columns = self.order[np.arange(count.sum()) + np.repeat(first - before, count)]
        return columns + np.repeat(np.arange(high - low) * self.width, count)
