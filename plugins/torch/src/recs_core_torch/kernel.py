"""Softmax cross-entropy over in-batch, sampled or whole-corpus negatives, a block of rows at a time.

                    N negatives (columns)
              ┌───────────────────────────┐
              │ done: gone but for the    │   kept throughout, R or T or N long:
              │ losses and the gradients  │     the targets' losses, dx (R, d), dkeys (d, N) per core
        low → ├───────────────────────────┤
              │ ▒ scores of this block ▒▒ │   one buffer (block_rows, N), written again by every block:
              │ ▒ ▒ × masked ▒ ▒ ○ own ▒▒ │     scores → masked → exponentials → both gradients
       high → ├───────────────────────────┤
              │ to come                   │
              └───────────────────────────┘
               R rows: queries, or targets where each needs a row of its own

So memory is O(block x columns), not O(rows x columns); the order of operations is that of `recs_core.contract.task`.
Scores are held in base 2 (multiplied by log2 e, which costs nothing as part of the temperature), because `exp2` of a
block takes about half the time of `exp` on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from recs_core.contract.batch import Ragged
from recs_core.contract.task import MASKED, SAFE, TaskPlan
from recs_core_torch.tensors import as_tensor

CORE_ROWS = 256
"""Rows of a block for each core, at least: few enough that their scores stay in cache, many enough to pay for the
calls."""

CORE_SCORES = 2**20
"""Scores of a block for each core, at least: where columns are few, more rows pay for the calls."""

DEVICE_SCORES = 2**26
"""Scores of a block elsewhere than on a CPU: 256 MB of float32, so that calls do not cost more than what they do."""

MAX_CORES = 8
"""A block of more cores would take more memory than it saves time."""

LOG2_E = math.log2(math.e)
LN_2 = math.log(2)


@dataclass(frozen=True)
class Packed:
    """A `TaskPlan` and its arrays as tensors; T targets, ordered by their row of scores."""

    plan: TaskPlan
    row: Tensor  # (T,)
    query: Tensor  # (T,)
    column: Tensor  # (T,)
    weight: Tensor  # (T,)
    own_included: Tensor  # (T,)
    place: Tensor | None  # (T,)
    correction: Tensor | None  # (N,)
    positive_correction: Tensor | None  # (T,)


def pack(plan: TaskPlan, like: Tensor) -> Packed:
    """The plan on the device of `like`, numbers in its dtype."""
    dtypes = {"i": torch.long, "f": like.dtype, "b": torch.bool}
    arrays = {field.name: getattr(plan, field.name) for field in fields(Packed) if field.name != "plan"}
    tensors: dict[str, Any] = {
        name: None if array is None else as_tensor(array, like.device).to(dtypes[array.dtype.kind])
        for name, array in arrays.items()
    }
    return Packed(plan, **tensors)


class Others(Protocol):
    """The workers that have the other columns, where each has some of the columns, and every row and target."""

    @property
    def columns(self) -> int:
        """The most that one of them has: all take as many rows in a block."""

    @property
    def mine(self) -> Tensor:
        """(T,): which targets' columns are here."""

    def log_sum(self, here: Tensor) -> Tensor:
        """(rows,) log Σ exp of scores over all columns, from that over those here."""

    def z(self, here: Tensor) -> Tensor:
        """(T,) the z of each target, from those of `mine`."""


def loss(
    query: Tensor,
    candidate: Tensor,
    bias: Tensor | None,
    log_temperature: Tensor,
    packed: Packed,
    others: Others | None = None,
) -> Tensor:
    """The loss, a scalar, of (Q, d) queries against (C, d) candidates with a bias (C,) each; differentiable once.

    With `others` the candidates are those here, columns count among them, and the loss is that of the targets of
    `others.mine`: it adds up over the workers.
    """
    start = packed.plan.start
    rows = query * torch.exp(-log_temperature).to(query.dtype)
    negatives, added = (candidate[start:], bias if bias is None else bias[start:]) if start else (candidate, bias)
    if packed.correction is not None:
        added = packed.correction if added is None else added + packed.correction
    z = None
    if packed.place is None or others is not None:  # index_select takes a fifth of the time of indexing
        own = rows.index_select(0, packed.query)
        z = (own * candidate.index_select(0, packed.column)).sum(1)
        z = z if bias is None else z + bias.index_select(0, packed.column)
        z = z if packed.positive_correction is None else z + packed.positive_correction
        rows = own if packed.plan.expand else rows
    return _BlockedSoftmax.apply(rows, negatives, added, z, packed, others)  # type: ignore[no-untyped-call]


class _BlockedSoftmax(torch.autograd.Function):
    """The loss of rows (R, d), ÷ temperature already, against negatives (N, d) with what is `added` to each score (N,).

    `z` (T,): the score of each target's own candidate, made of two vectors gathered for it: dear where a query has a
    hundred targets. None where every one stands among its row's scores, at `packed.place`: it is read there and its
    gradient put there. The gradients are made along with the loss, and kept for `backward`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        negatives: Tensor,
        added: Tensor | None,
        z: Tensor | None,
        packed: Packed,
        others: Others | None,
    ) -> Tensor:
        total, *gradients = _run(packed, others, rows, negatives, added, z, with_gradients=any(ctx.needs_input_grad))
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return *(grad * g if needed else None for g, needed in wanted), None, None


def _run(
    packed: Packed,
    others: Others | None,
    rows: Tensor,
    negatives: Tensor,
    added: Tensor | None,
    z: Tensor | None,
    *,
    with_gradients: bool,
) -> tuple[Tensor, ...]:
    """The loss, and its gradients by rows, negatives, what is added, and z."""
    scores = _Scores(packed.plan, rows, negatives, added, len(negatives) if others is None else others.columns)
    own_weight = packed.weight if others is None else packed.weight * others.mine
    # What a row's sum lacks: exp z, or nothing where the own column is already among the row's scores.
    lacking = torch.full_like(packed.weight, -math.inf)
    if z is not None and not packed.plan.own_included.all():
        lacking = (z if others is None else others.z(z)).masked_fill(packed.own_included, -math.inf)
    losses, dz = torch.zeros_like(packed.weight), torch.zeros_like(packed.weight)
    dx = torch.zeros_like(rows)
    # Accumulated as (d, N), the orientation in which a block's product is fastest.
    dkeys = rows.new_zeros(scores.cores, scores.keys.shape[1], len(negatives))
    for low in range(0, len(rows) if len(negatives) else 0, scores.block_rows):
        # This block's scores, and the z of the targets in its rows
        high = min(low + scores.block_rows, len(rows))
        here = slice(*np.searchsorted(packed.plan.row, (low, high)))
        block, local = scores.block_of(low, high), packed.row[here] - low
        if z is None and packed.place is not None:
            flat = local * len(negatives) + packed.place[here]
        own = block.view(-1).index_select(0, flat) * LN_2 if z is None else z[here]

        # Losses: log(Σ exp score + what the sum lacks) − z
        share, row_log_sum, row_sum = _exponentials(block, safe=scores.safe)
        log_sum = row_log_sum.index_select(0, local)
        every = log_sum if others is None else others.log_sum(row_log_sum).index_select(0, local)
        total = torch.logaddexp(every, lacking[here])
        torch.sub(total, own, out=losses[here])
        if not with_gradients:
            continue

        # Gradients by the scores: their exponentials, times a factor per row
        torch.mul(own_weight[here], torch.exp(lacking[here] - total) - 1, out=dz[here])
        row_weight = torch.zeros_like(row_sum).index_add_(0, local, packed.weight[here] * torch.exp(log_sum - total))
        if z is None:
            # Times the row's factor this is dz; a row without weight has neither.
            own_share = dz[here] / row_weight.index_select(0, local).clamp_min_(torch.finfo(dz.dtype).tiny)
            share.view(-1).index_add_(0, flat, own_share.mul_(row_sum.index_select(0, local)))
        factor = row_weight.div_(row_sum)

        # Gradients by the vectors of both sides: two products
        share, x = scores.by_core(share), scores.by_core(scores.x[low:high] * (LN_2 * factor)[:, None])
        torch.bmm(share, negatives.expand(len(share), -1, -1), out=scores.by_core(dx[low:high]))
        dx[low:high] *= factor[:, None]
        dkeys[: len(share)].baddbmm_(x.mT, share)
    if not with_gradients:
        return (own_weight @ losses,)
    dkeys = dkeys.sum(0)
    return own_weight @ losses, dx, dkeys[: rows.shape[1]].T, dkeys[-1], dz


class _Scores:
    """Blocks of rows of scores, in base 2, corrected and masked, in one buffer. `columns`: how many a block is for."""

    def __init__(self, plan: TaskPlan, x: Tensor, negatives: Tensor, added: Tensor | None, columns: int) -> None:
        self.plan, self.x, self.keys = plan, x * LOG2_E, negatives
        self.on_cpu = x.device.type == "cpu"
        self.cores = min(torch.get_num_threads(), MAX_CORES) if self.on_cpu else 1
        self.block_rows = self._block_rows(max(1, columns))
        self.buffer = x.new_empty(min(self.block_rows, len(x)), len(negatives))
        self.hits = None if plan.hit_codes is None else _Hits(*plan.hit_codes)
        wide = torch.finfo(x.dtype).max > math.exp(2 * SAFE)  # float16 is not
        # Elsewhere the host would wait for the bound, which takes longer than the pass that it saves.
        self.safe = self.on_cpu and wide and _bound(x, negatives, added) <= SAFE
        if added is not None:
            # [x ; 1] · [y ; added]: the product adds what would be one more pass over the scores.
            self.x = torch.cat([self.x, x.new_full((len(x), 1), LOG2_E)], 1)
            self.keys = torch.cat([negatives, added[:, None]], 1)

    def _block_rows(self, columns: int) -> int:
        if self.on_cpu:
            return max(CORE_ROWS, CORE_SCORES // columns) * self.cores
        return max(1, DEVICE_SCORES // columns)

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
            flat.index_fill_(0, as_tensor(self.hits.positions(low, high), scores.device), MASKED)
        if self.plan.masked_sets is not None and self.plan.masked_set is not None and self.on_cpu:
            self._mask_sets(scores, self.plan.masked_sets, self.plan.masked_set[low:high])
        elif self.plan.masked is not None:
            offsets = self.plan.masked.offsets[low : high + 1]
            columns = self.plan.masked.values[offsets[0] : offsets[-1]]
            starts = np.repeat(np.arange(high - low) * width, np.diff(offsets))
            flat.index_fill_(0, as_tensor(columns + starts, scores.device), MASKED)
        if self.plan.score_mask is not None:
            scores.masked_fill_(~as_tensor(self.plan.score_mask[low:high], scores.device), MASKED)
        hard = self.plan.hard_negatives
        if hard is not None and hard < width:
            kept = scores.topk(hard, dim=1)
            scores.fill_(MASKED).scatter_(1, kept.indices, kept.values)

    def _mask_sets(self, scores: Tensor, sets: Ragged, of_row: NDArray[np.int32]) -> None:
        """Neighbouring rows that share their masked columns, as those of one history do, get them in one call."""
        starts = np.flatnonzero(np.r_[True, of_row[1:] != of_row[:-1]])
        for low, high in pairwise([*starts, len(of_row)]):
            columns = sets.values[slice(*sets.offsets[of_row[low] : of_row[low] + 2])]
            scores[low:high].index_fill_(1, as_tensor(columns, scores.device).long(), MASKED)


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
