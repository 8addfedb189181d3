"""The retrieval loss and its gradients in one pass over blocks of scores; one formula for the three engines.

The gradients are written out, so no engine needs to differentiate the softmax and no R × N matrix is ever kept. One
block of rows at a time:

                    N negatives, in columns
                ┌───────────────────────────┐
      x (b, d)  │  scores = x · yᵀ          │  masked, then exp(scores − highest of the row)
      b rows    │  → gradient, in its place │
                └───────────────────────────┘
      kept of a block:     ∂x (b, d), ∂z of its targets
      added up over all:   the loss, ∂y (N, d)
      gone with the block: the scores
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON, MASKED, TaskPlan
from recs_core.keras_backend.engines import Engine, Full, Tensor, Tree, Values

BLOCK_SCORES = 2**19
"""Scores in a block, about: 2 MB of float32, which stay in a core's cache between the passes over them."""

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256


class Loss(NamedTuple):
    """The loss and ∂loss/∂ each input, shaped as the input. `bias` is of the C candidate columns."""

    value: Tensor
    query: Tensor
    candidate: Tensor
    bias: Tensor
    log_temperature: Tensor


def pack(
    plan: TaskPlan,
    spec: RetrievalSpec,
    num_candidates: int,
    dtype: DType,
    engine: Engine,
    full: Full | None = None,
    *,
    general: bool = False,
) -> dict[str, Any]:
    """The plan as a tree of NumPy arrays, cut into blocks of score rows.

    `rows`: (R,) each, of score rows; `targets`: (T,) each; `masked`: pairs of row and column; `columns` and `add`:
    (N,) each, of negatives. A `row` counts from the first of its block; where there is `rows/set`, that of a masked
    pair is a set of the block's: all rows of the set have the column masked. `ends`: where each block's targets and
    masked pairs begin and end. Absent names: `rows/query` when row i is query i, `columns/index` when all columns are
    negatives; `targets/query`, `column`, `own` and `correction` where every target has a `place` (`TaskPlan.place`).

    `at`: what the kernel reads beside the vectors, where the model has it not. `full`: of a batch, what settles how it
    is cut. `general`, and small problems where the engine asks for it: the same names whatever the options and the
    plan, of which those that it lacks do nothing.
    """
    negatives = num_candidates - plan.start
    most = negatives if full is None or plan.start else full.candidates
    rows_of_scores = plan.num_rows if full is None else full.rows(plan.num_rows, plan.expand)
    every_row, general = general, general or rows_of_scores * most <= engine.general_scores
    block = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, BLOCK_SCORES // max(1, most)))
    starts = np.append(np.arange(0, plan.num_rows, block), plan.num_rows)
    targets: dict[str, Any] = {"row": plan.row % block, "weight": plan.weight.astype(dtype)}
    place = None if general else plan.place
    if place is not None:
        targets["place"] = place
    else:
        targets |= {"query": plan.query, "column": plan.column, "own": plan.own_included}
        if plan.positive_correction is not None:
            targets["correction"] = plan.positive_correction.astype(dtype)
    rows: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    masked: dict[str, Any] = {}
    ends = {"targets": np.searchsorted(plan.row, starts).astype(np.int32)}
    if plan.expand:
        rows["query"] = plan.query
    elif every_row:
        rows["query"] = np.arange(plan.num_rows, dtype=np.int32)
    if plan.hit_codes is not None:
        rows["code"], columns["code"] = plan.hit_codes
    if plan.score_mask is not None:
        rows["keep"] = plan.score_mask
    if plan.masked_sets is not None and plan.masked_set is not None:
        masked, ends["masked"], rows["set"] = _sets_by_block(plan.masked_sets, plan.masked_set, block)
    elif plan.masked is not None:
        masked = {"row": plan.masked.segments % block, "column": plan.masked.values}
        ends["masked"] = plan.masked.offsets[starts]
    if plan.start or general:
        columns["index"] = np.arange(plan.start, num_candidates, dtype=np.int32)
    defaults: dict[str, Any] = {}
    if not spec.learn_temperature:
        defaults["inverse_temperature"] = np.asarray(1 / spec.temperature, dtype)
    if general:
        nothing = np.zeros(0, np.int32)
        targets.setdefault("correction", np.zeros(len(plan.row), dtype))
        rows.setdefault("code", np.full(plan.num_rows, -1, np.int32))
        rows.setdefault("set", np.arange(plan.num_rows, dtype=np.int32) % block)
        columns.setdefault("code", np.full(negatives, -2, np.int32))
        masked = masked or {"row": nothing, "column": nothing}
        defaults["bias"] = np.zeros(num_candidates, dtype)
        ends.setdefault("masked", np.zeros(len(starts), np.int32))
    return {
        "at": defaults,
        "rows": rows,
        "targets": targets,
        "masked": masked,
        "columns": columns,
        "add": np.zeros(negatives, dtype) if plan.correction is None else plan.correction.astype(dtype),
        "ends": ends,
        "block": np.asarray(block, np.int32),
        "num_rows": np.asarray(plan.num_rows, np.int32),
    }


def _sets_by_block(
    sets: Ragged, of_row: NDArray[np.integer], block: int
) -> tuple[dict[str, Any], NDArray[np.int32], NDArray[np.int32]]:
    """Pairs of set and column, where each block's begin and end, and the set of each row: numbered in each block anew,
    of those that it has. `of_row` (R,): the row of `sets` of each row of scores."""
    number = np.int64(len(sets.lengths))
    block_of = np.arange(len(of_row)) // block
    found, place = np.unique(block_of * number + of_row, return_inverse=True)
    first = np.searchsorted(found, np.arange(-(-len(of_row) // block) + 1) * number).astype(np.int32)
    taken = sets.take(found % number)
    pairs = {"row": taken.segments - first[found // number][taken.segments], "column": taken.values}
    return pairs, taken.offsets[first], (place - first[block_of]).astype(np.int32)


@dataclass(frozen=True)
class Kernel:
    """`loss` with what it must know beforehand. Equal ones compute the same."""

    engine: Engine
    scoring: Literal["cosine", "dot"]
    hard_negatives: int | None

    @classmethod
    def of(cls, engine: Engine, spec: RetrievalSpec) -> Kernel:
        """The kernel of a spec: everything else that a spec says is in the plan."""
        return cls(engine, spec.scoring, spec.hard_negatives)

    def __call__(self, at: Values, packed: Tree) -> Loss:
        """`at`: `query`, `candidate`, the `bias` of the columns and the `inverse_temperature`; `packed["at"]` has what
        the model has not."""
        at = {**packed.get("at", {}), **at}
        return loss(self, at["query"], at["candidate"], at.get("bias"), at["inverse_temperature"], packed)


def differentiable(kernel: Callable[[Values, Tree], Loss], at: Values, packed: Tree) -> Tensor:
    """The loss with its gradients attached, for whoever differentiates it. `at`: as of a kernel, with `log_temperature`
    where that is learnt."""
    fixed = {name: ops.stop_gradient(tensor) for name, tensor in at.items()}
    given = dict(fixed)
    if "log_temperature" in given:
        given["inverse_temperature"] = ops.exp(-given.pop("log_temperature"))
    loss = kernel(given, packed)
    # x − stop_gradient(x) is 0, and its gradient is that of x: the kernel's gradients flow, its value stays.
    return loss.value + sum(ops.sum((at[name] - fixed[name]) * ops.stop_gradient(getattr(loss, name))) for name in at)


def loss(
    kernel: Kernel, query: Tensor, candidate: Tensor, bias: Tensor | None, inverse_temperature: Tensor, packed: Tree
) -> Loss:
    """The loss of `query` (Q, d) against `candidate` (C, d), and its gradients. `bias`: (C,) or None.

    With A = log Σ exp of a row's negatives and z a target's score, ∂ℓ/∂s_j = P_j · exp(A − ℓ − z) and
    ∂ℓ/∂z = exp(−ℓ) − 1, where P is the softmax over the negatives; where z is one of them, at its place, it is −1 and
    the rest comes through P. Corrections and biases ride along as one more dimension, so that one matrix product makes
    the scores and another all gradients of the columns.
    """
    num_queries, num_candidates = ops.shape(query)[0], ops.shape(candidate)[0]
    q, q_scale = _unit(query) if kernel.scoring == "cosine" else (query, None)
    c, c_scale = _unit(candidate) if kernel.scoring == "cosine" else (candidate, None)
    targets = packed["targets"]
    own = None if "place" in targets else _own_scores(q, c, bias, targets, inverse_temperature)

    index = packed["columns"].get("index")
    x = (take(q, packed["rows"]["query"]) if "query" in packed["rows"] else q) * inverse_temperature
    y = c if index is None else take(c, index)
    add = packed["add"]
    if bias is not None:
        add = add + (bias if index is None else take(bias, index))
    x, y = _with_column(x, ops.ones_like(x[:, 0])), _with_column(y, add)

    blocks = {
        **packed,
        "rows": {**{k: v for k, v in packed["rows"].items() if k != "query"}, "x": x},
        "targets": targets if own is None else {k: targets[k] for k in ("row", "own", "weight")} | {"z": own.z},
    }
    zero = ops.sum(x[:0])
    (value, dy), dx, dz = kernel.engine.scan_blocks(
        lambda carry, block: _block(kernel, y, packed["columns"], carry, block), (zero, ops.zeros_like(y)), blocks
    )

    dx, dy, dbias = dx[:, :-1], dy[:, :-1], dy[:, -1]
    d_log_temperature = -ops.sum(x[:, :-1] * dx)
    dx = dx * inverse_temperature
    dq = kernel.engine.segment_sum(dx, packed["rows"]["query"], num_queries) if "query" in packed["rows"] else dx
    if index is not None:
        dy, dbias = (kernel.engine.segment_sum(part, index, num_candidates) for part in (dy, dbias))
    if own is not None:
        d_log_temperature = d_log_temperature - ops.sum(dz * own.raw)
        pull = (dz * inverse_temperature)[:, None]
        dq = dq + kernel.engine.segment_sum(pull * own.candidate, targets["query"], num_queries)
        dy = dy + kernel.engine.segment_sum(pull * own.query, targets["column"], num_candidates)
        dbias = dbias + kernel.engine.segment_sum(dz, targets["column"], num_candidates)
    if kernel.scoring == "cosine":
        dq, dy = _through_unit(dq, q, q_scale), _through_unit(dy, c, c_scale)
    return Loss(value, dq, dy, dbias, d_log_temperature)


class _Own(NamedTuple):
    """Of each target: the vectors (T, d) of its query and its candidate, their score over τ (T,), and z (T,)."""

    query: Tensor
    candidate: Tensor
    raw: Tensor
    z: Tensor


def _own_scores(q: Tensor, c: Tensor, bias: Tensor | None, targets: Tree, inverse_temperature: Tensor) -> _Own:
    query, candidate = take(q, targets["query"]), take(c, targets["column"])
    z = raw = ops.sum(query * candidate, axis=1) * inverse_temperature
    if bias is not None:
        z = z + take(bias, targets["column"])
    if "correction" in targets:
        z = z + targets["correction"]
    return _Own(query, candidate, raw, z)


def _block(
    kernel: Kernel,
    y: Tensor,
    columns: Values,
    carry: tuple[Tensor, ...],
    block: dict[str, Tensor],
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """One block of rows: its part of the loss and of ∂y, and all of ∂x and ∂z."""
    total_loss, dy = carry
    x = block["x"]

    # Scores, those that are no negatives masked
    scores = x @ ops.transpose(y)
    if "code" in block:
        scores = ops.where(block["code"][:, None] == columns["code"][None, :], MASKED, scores)
    if "keep" in block:
        scores = ops.where(block["keep"], scores, MASKED)
    if "set" in block:
        hidden = ops.zeros_like(scores, dtype="bool")
        hidden = kernel.engine.mask_at(hidden, block["masked/row"], block["masked/column"], True)
        scores = ops.where(take(hidden, block["set"]), MASKED, scores)
    elif "masked/row" in block:
        scores = kernel.engine.mask_at(scores, block["masked/row"], block["masked/column"], MASKED)
    if kernel.hard_negatives is not None:
        scores = _hardest(kernel.engine, scores, kernel.hard_negatives)

    # Each row's log Σ exp
    highest = ops.max(scores, axis=1)
    exps = ops.exp(scores - highest[:, None])
    sums = ops.sum(exps, axis=1)
    log_sums = highest + ops.log(sums)

    # The targets' losses
    row, weight = block["targets/row"], block["targets/weight"]
    negatives = take(log_sums, row)
    if "targets/place" in block:
        place = block["targets/place"]
        total, z = negatives, take(ops.reshape(scores, (-1,)), row * ops.shape(scores)[1] + place)
        dz, lost = -weight, weight
    else:
        z, own = block["targets/z"], block["targets/own"]
        total = ops.where(own, negatives, _logaddexp(negatives, z))
        dz = weight * (ops.where(own, 0.0, ops.exp(z - total)) - 1.0)
        lost = weight * ops.exp(negatives - total)
    total_loss = total_loss + ops.sum(weight * (total - z))

    # Gradients: what the targets of a row take of its softmax, times that softmax
    share = kernel.engine.segment_sum(lost, row, ops.shape(x)[0])

    gradient = exps * (share / sums)[:, None]
    if "targets/place" in block:
        gradient = kernel.engine.add_at(gradient, row, place, dz)
    return (total_loss, dy + ops.transpose(gradient) @ x), gradient @ y, dz


def _hardest(engine: Engine, scores: Tensor, number: int) -> Tensor:
    """The scores with all but the `number` highest of each row masked."""
    rows, columns = ops.shape(scores)
    _, kept = ops.top_k(scores, min(number, columns) if isinstance(columns, int) else ops.minimum(number, columns))
    place = ops.reshape(kept + (ops.arange(rows, dtype=kept.dtype) * columns)[:, None], (-1,))
    chosen = engine.segment_sum(ops.ones_like(place), place, rows * columns)
    return ops.where(ops.reshape(chosen, (rows, columns)) > 0, scores, MASKED)


def take(values: Tensor, index: Tensor) -> Tensor:
    """The rows of `values` at `index`."""
    return ops.take(values, index, axis=0)


def _with_column(matrix: Tensor, column: Tensor) -> Tensor:
    return ops.concatenate([matrix, column[:, None]], axis=1)


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """`keras.ops` rounds float64 to float32 in `logaddexp`, `maximum`, `matmul` and `mean`, on torch and on JAX."""
    return ops.where(a > b, a, b) + ops.log1p(ops.exp(-ops.abs(a - b)))


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / √(Σ x² + ε) and the factor."""
    scale = ops.rsqrt(ops.sum(x * x, axis=1, keepdims=True) + COSINE_EPSILON)
    return x * scale, scale


def _through_unit(gradient: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
    """∂/∂x from ∂/∂(x · scale)."""
    return (gradient - unit * ops.sum(gradient * unit, axis=1, keepdims=True)) * scale
