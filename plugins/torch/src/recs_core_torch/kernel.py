"""Softmax cross-entropy over in-batch, sampled or whole-corpus negatives, a block of rows at a time.

The matrix of scores is never stored: each block of rows is scored, masked and exponentiated in one buffer that is used
again for the next, and both gradients are taken from it before it goes. Memory is O(block x columns), not O(rows x
columns); the order of operations is that of `recs_core.contract.task`.

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
from torch.nn import functional as F

from recs_core.contract.task import MASKED, SAFE, TaskPlan
from recs_core_torch.data import as_tensor

CORE_ROWS = 256
"""Rows of a block for each core, at least: few enough that their scores stay in cache, many enough to pay for the
calls."""

CORE_SCORES = 2**20
"""Scores of a block for each core, at least: where columns are few, more rows pay for the calls."""

MAX_CORES = 8
"""A block of more cores would take more memory than it saves time."""

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
    """The targets, ordered by their row of scores.

    With a `place` (`TaskPlan.place`), the score z of a target's own candidate is read from its row's scores, and its
    gradient put there. Without, z is the product of two vectors gathered for it, and its gradient two vectors more:
    dear where a query has a hundred targets.
    """

    def __init__(
        self, plan: TaskPlan, query: Tensor, candidate: Tensor, bias: Tensor | None, log_temperature: Tensor
    ) -> None:
        order = np.argsort(plan.row, kind="stable")

        def ordered(array: NDArray[Any]) -> Tensor:
            return as_tensor(array[order], query.device)

        self.sorted_row = plan.row[order]
        self.row, self.query, self.column = (ordered(a).long() for a in (plan.row, plan.query, plan.column))
        self.weight = ordered(plan.weight).to(query.dtype)
        self.inverse_temperature = torch.exp(-log_temperature).to(query.dtype)
        place = plan.place
        self.place = None if place is None else ordered(place).long()
        if self.place is not None:
            self.lacking = torch.full_like(self.weight, -math.inf)
            return
        # index_select takes a fifth of the time of indexing.
        self.own_query = query.index_select(0, self.query)
        self.own_candidate = candidate.index_select(0, self.column)
        self.scaled = (self.own_query * self.own_candidate).sum(1) * self.inverse_temperature
        self.z = self.scaled.clone()
        if bias is not None:
            self.z += bias.index_select(0, self.column)
        if plan.positive_correction is not None:
            self.z += ordered(plan.positive_correction).to(query.dtype)
        # What the row's sum still lacks: exp z, or nothing where the own column is already among the row's scores.
        self.lacking = self.z.masked_fill(ordered(plan.own_included), -math.inf)

    def of_rows(self, low: int, high: int) -> slice:
        """Which targets have their row in low … high - 1."""
        return slice(*np.searchsorted(self.sorted_row, (low, high)))


def _run(
    targets: _Targets, plan: TaskPlan, query: Tensor, candidate: Tensor, bias: Tensor | None, *, with_gradients: bool
) -> tuple[Tensor, ...]:
    """The loss, and its gradients by query, candidate, bias and log-temperature."""
    rows = targets.own_query if plan.expand else query
    negatives = candidate[plan.start :]
    scores = _Scores(plan, rows * targets.inverse_temperature, negatives, bias)
    loss, dz = torch.zeros_like(targets.weight), torch.zeros_like(targets.weight)
    dx = torch.zeros_like(rows)
    # Accumulated as (d, N), the orientation in which a block's product is fastest.
    dkeys = query.new_zeros(scores.cores, scores.keys.shape[1], len(negatives))
    for low in range(0, plan.num_rows if len(negatives) else 0, scores.block_rows):
        high = min(low + scores.block_rows, plan.num_rows)
        here = targets.of_rows(low, high)
        block, local = scores.block_of(low, high), targets.row[here] - low
        if targets.place is None:
            z = targets.z[here]
        else:
            flat = local * len(negatives) + targets.place[here]
            z = block.view(-1).index_select(0, flat) * LN_2
        share, row_log_sum, row_sum = _exponentials(block, safe=scores.safe)
        weight, lacking = targets.weight[here], targets.lacking[here]
        log_sum = row_log_sum.index_select(0, local)
        total = torch.logaddexp(log_sum, lacking)
        torch.sub(total, z, out=loss[here])
        if not with_gradients:
            continue
        torch.mul(weight, torch.exp(lacking - total) - 1, out=dz[here])
        row_weight = torch.zeros_like(row_sum).index_add_(0, local, weight * torch.exp(log_sum - total))
        if targets.place is not None:
            # Times the row's factor this is dz; a row without weight has neither.
            own_share = dz[here] / row_weight.index_select(0, local).clamp_min_(torch.finfo(dz.dtype).tiny)
            share.view(-1).index_add_(0, flat, own_share.mul_(row_sum.index_select(0, local)))
        factor = row_weight.div_(row_sum)
        share, x = scores.by_core(share), scores.by_core(scores.x[low:high] * (LN_2 * factor)[:, None])
        torch.bmm(share, negatives.expand(len(share), -1, -1), out=scores.by_core(dx[low:high]))
        dx[low:high] *= factor[:, None]
        dkeys[: len(share)].baddbmm_(x.mT, share)
    loss_sum = targets.weight @ loss
    if not with_gradients:
        return (loss_sum,)
    dx *= targets.inverse_temperature
    # Σ over scores of gradient x score is x · dx, so the temperature's gradient needs no pass over the scores.
    dlog_temperature = -(rows.flatten() @ dx.flatten())
    dquery = torch.zeros_like(query).index_add_(0, targets.query, dx) if plan.expand else dx
    dkeys = F.pad(dkeys.sum(0), (plan.start, 0)) if plan.start else dkeys.sum(0)
    dcandidate = dkeys[: candidate.shape[1]].T
    db = dkeys[-1] if scores.added else query.new_zeros(len(candidate))
    if targets.place is None:
        dlog_temperature -= dz @ targets.scaled
        scaled_dz = (dz * targets.inverse_temperature)[:, None]
        dquery.index_add_(0, targets.query, scaled_dz * targets.own_candidate)
        dcandidate.index_add_(0, targets.column, scaled_dz * targets.own_query)
        db.index_add_(0, targets.column, dz)
    return loss_sum, dquery, dcandidate, db, dlog_temperature


class _Scores:
    """Blocks of rows of scores, in base 2, corrected and masked, in one buffer."""

    def __init__(self, plan: TaskPlan, x: Tensor, negatives: Tensor, bias: Tensor | None) -> None:
        self.plan, self.x, self.keys = plan, x * LOG2_E, negatives
        self.cores = min(torch.get_num_threads(), MAX_CORES) if x.device.type == "cpu" else 1
        self.block_rows = max(CORE_ROWS, CORE_SCORES // max(1, len(negatives))) * self.cores
        self.buffer = x.new_empty(min(self.block_rows, len(x)), len(negatives))
        self.hits = None if plan.hit_codes is None else _Hits(*plan.hit_codes)
        added = None if bias is None else bias[plan.start :]
        if plan.correction is not None:
            correction = as_tensor(plan.correction, x.device).to(x.dtype)
            added = correction if added is None else added + correction
        self.added = added is not None
        wide = torch.finfo(x.dtype).max > math.exp(2 * SAFE)  # float16 is not
        self.safe = wide and _bound(x, negatives, added) <= SAFE
        if added is not None:
            # [x ; 1] · [y ; added]: the product adds what would be one more pass over the scores.
            self.x = torch.cat([self.x, x.new_full((len(x), 1), LOG2_E)], 1)
            self.keys = torch.cat([negatives, added[:, None]], 1)

    def by_core(self, rows: Tensor) -> Tensor:
        """(rows, n) as (cores, rows / cores, n); as one where they do not come out even.

        A product of these gives each core rows of its own, the ones it has in `exp2` and the sums as well. One product
        of all rows is split by columns, so that half of the scores would change cores at every pass.
        """
        return rows.view(math.gcd(len(rows), self.cores), -1, rows.shape[1])

    def block_of(self, low: int, high: int) -> Tensor:
        """(rows, N) the scores of rows low … high - 1, in the buffer."""
        scores = self.buffer[: high - low]
        x = self.by_core(self.x[low:high])
        torch.bmm(x, self.keys.T.expand(len(x), -1, -1), out=self.by_core(scores))
        self._mask(scores, low, high)
        return scores

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


def _bound(x: Tensor, negatives: Tensor, added: Tensor | None) -> float:
    """What no score is further from 0 than: the longest x times the longest negative (Cauchy-Schwarz), and what is
    added."""
    if not len(x) or not len(negatives):
        return 0.0
    longest = torch.linalg.vector_norm(x, dim=1).amax() * torch.linalg.vector_norm(negatives, dim=1).amax()
    return float(longest if added is None else longest + added.abs().amax())


def _exponentials(scores: Tensor, *, safe: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, N) exp(score - a constant of the row), in place; (rows,) log Σ exp score; (rows,) Σ of the first.

    The constant is the row's highest score, or 0 where it is `safe` to do without (`recs_core.contract.task.SAFE`).
    """
    if safe:
        row_sum = scores.exp2_().sum(1)
        log_sum = row_sum.log2() * LN_2
        return scores, log_sum, row_sum.clamp_min_(torch.finfo(row_sum.dtype).tiny)  # 0 where all is masked
    highest = scores.amax(1, keepdim=True)
    row_sum = scores.sub_(highest).exp2_().sum(1)
    return scores, (row_sum.log2() + highest[:, 0]) * LN_2, row_sum


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
