"""The retrieval task: one blocked kernel for the three engines, which gives the loss and its gradients in one pass.

The gradients are written out, so no engine needs to differentiate the softmax and no B × B matrix is ever kept. A
step hands them to the towers' own differentiation; a native loop gets them through `RetrievalTask.__call__`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.guard import Guard
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON, MASKED, TaskPlan, plan_task
from recs_core.contract.weights import Weights
from recs_core.keras_backend import engines
from recs_core.keras_backend.engines import Engine, Tensor, Tree, Values

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


def inputs(plan: TaskPlan, num_candidates: int, dtype: DType) -> dict[str, Any]:
    """The plan as a tree of NumPy arrays, cut into blocks of score rows; targets are sorted by their row.

    `rows`: (R,) each, of score rows; `targets`: (T,) each; `masked`: pairs of row and column; `columns` and `add`:
    (N,) each, of negatives. A `row` counts from the first of its block. `ends`: where each block's targets and masked
    pairs begin and end. Absent names: `rows/query` when row i is query i, `columns/index` when all columns are
    negatives; `targets/query`, `column`, `own` and `correction` where every target has a `place` (`TaskPlan.place`).
    """
    negatives = num_candidates - plan.start
    block = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, BLOCK_SCORES // max(1, negatives)))
    starts = np.append(np.arange(0, plan.num_rows, block), plan.num_rows)
    order = np.argsort(plan.row, kind="stable")
    row = plan.row[order]
    targets: dict[str, Any] = {
        "row": row % block,
        "weight": plan.weight[order].astype(dtype),
    }
    place = plan.place
    if place is not None:
        targets["place"] = place[order]
    else:
        targets["query"], targets["column"] = plan.query[order], plan.column[order]
        targets["own"] = plan.own_included[order]
        if plan.positive_correction is not None:
            targets["correction"] = plan.positive_correction[order].astype(dtype)
    rows: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    masked: dict[str, Any] = {}
    ends = {"targets": np.searchsorted(row, starts).astype(np.int32)}
    if plan.expand:
        rows["query"] = plan.query
    if plan.hit_codes is not None:
        rows["code"], columns["code"] = plan.hit_codes
    if plan.score_mask is not None:
        rows["keep"] = plan.score_mask
    if plan.masked is not None:
        masked = {"row": plan.masked.segments % block, "column": plan.masked.values}
        ends["masked"] = plan.masked.offsets[starts]
    if plan.start:
        columns["index"] = np.arange(plan.start, num_candidates, dtype=np.int32)
    return {
        "rows": rows,
        "targets": targets,
        "masked": masked,
        "columns": columns,
        "add": np.zeros(negatives, dtype) if plan.correction is None else plan.correction.astype(dtype),
        "ends": ends,
        "block": np.asarray(block, np.int32),
        "num_rows": np.asarray(plan.num_rows, np.int32),
    }


def kernel(
    engine: Engine,
    spec: RetrievalSpec,
    query: Tensor,
    candidate: Tensor,
    bias: Tensor | None,
    inverse_temperature: Tensor,
    plan: Tree,
) -> Loss:
    """The loss of `query` (Q, d) against `candidate` (C, d), and its gradients. `bias`: (C,) or None.

    With A = log Σ exp of a row's negatives and z a target's score, ∂ℓ/∂s_j = P_j · exp(A − ℓ − z) and
    ∂ℓ/∂z = exp(−ℓ) − 1, where P is the softmax over the negatives; where z is one of them, at its place, it is −1 and
    the rest comes through P. Corrections and biases ride along as one more dimension, so that one matrix product makes
    the scores and another all gradients of the columns.
    """
    num_queries, num_candidates = ops.shape(query)[0], ops.shape(candidate)[0]
    q, q_scale = _unit(query) if spec.scoring == "cosine" else (query, None)
    c, c_scale = _unit(candidate) if spec.scoring == "cosine" else (candidate, None)
    targets = plan["targets"]
    own = None if "place" in targets else _own_scores(q, c, bias, targets, inverse_temperature)

    index = plan["columns"].get("index")
    x = (_take(q, plan["rows"]["query"]) if "query" in plan["rows"] else q) * inverse_temperature
    y = c if index is None else _take(c, index)
    add = plan["add"]
    if bias is not None:
        add = add + (bias if index is None else _take(bias, index))
    x, y = _with_column(x, ops.ones_like(x[:, 0])), _with_column(y, add)

    blocks = {
        **plan,
        "rows": {**{k: v for k, v in plan["rows"].items() if k != "query"}, "x": x},
        "targets": targets if own is None else {k: targets[k] for k in ("row", "own", "weight")} | {"z": own.z},
    }
    zero = ops.sum(x[:0])
    (loss, dy), dx, dz = engine.scan_blocks(
        lambda carry, block: _block(engine, spec, y, plan["columns"], carry, block), (zero, ops.zeros_like(y)), blocks
    )

    dx, dy, dbias = dx[:, :-1], dy[:, :-1], dy[:, -1]
    d_log_temperature = -ops.sum(x[:, :-1] * dx)
    dx = dx * inverse_temperature
    dq = engine.segment_sum(dx, plan["rows"]["query"], num_queries) if "query" in plan["rows"] else dx
    if index is not None:
        dy, dbias = (engine.segment_sum(part, index, num_candidates) for part in (dy, dbias))
    if own is not None:
        d_log_temperature = d_log_temperature - ops.sum(dz * own.raw)
        pull = (dz * inverse_temperature)[:, None]
        dq = dq + engine.segment_sum(pull * own.candidate, targets["query"], num_queries)
        dy = dy + engine.segment_sum(pull * own.query, targets["column"], num_candidates)
        dbias = dbias + engine.segment_sum(dz, targets["column"], num_candidates)
    if spec.scoring == "cosine":
        dq, dy = _through_unit(dq, q, q_scale), _through_unit(dy, c, c_scale)
    return Loss(loss, dq, dy, dbias, d_log_temperature)


class _Own(NamedTuple):
    """Of each target: the vectors (T, d) of its query and its candidate, their score over τ (T,), and z (T,)."""

    query: Tensor
    candidate: Tensor
    raw: Tensor
    z: Tensor


def _own_scores(q: Tensor, c: Tensor, bias: Tensor | None, targets: Tree, inverse_temperature: Tensor) -> _Own:
    query, candidate = _take(q, targets["query"]), _take(c, targets["column"])
    z = raw = ops.sum(query * candidate, axis=1) * inverse_temperature
    if bias is not None:
        z = z + _take(bias, targets["column"])
    if "correction" in targets:
        z = z + targets["correction"]
    return _Own(query, candidate, raw, z)


def _block(
    engine: Engine,
    spec: RetrievalSpec,
    y: Tensor,
    columns: Values,
    carry: tuple[Tensor, ...],
    block: dict[str, Tensor],
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """One block of rows: its part of the loss and of ∂y, and all of ∂x and ∂z."""
    loss, dy = carry
    x = block["x"]
    scores = x @ ops.transpose(y)
    if "code" in block:
        scores = ops.where(block["code"][:, None] == columns["code"][None, :], MASKED, scores)
    if "keep" in block:
        scores = ops.where(block["keep"], scores, MASKED)
    if "masked/row" in block:
        scores = engine.mask_at(scores, block["masked/row"], block["masked/column"], MASKED)
    if spec.hard_negatives is not None:
        scores = _hardest(engine, scores, spec.hard_negatives)

    highest = ops.max(scores, axis=1)
    exps = ops.exp(scores - highest[:, None])
    sums = ops.sum(exps, axis=1)
    log_sums = highest + ops.log(sums)

    row, weight = block["targets/row"], block["targets/weight"]
    negatives = _take(log_sums, row)
    if "targets/place" in block:
        place = block["targets/place"]
        total, z = negatives, _take(ops.reshape(scores, (-1,)), row * ops.shape(scores)[1] + place)
        dz, lost = -weight, weight
    else:
        z, own = block["targets/z"], block["targets/own"]
        total = ops.where(own, negatives, _logaddexp(negatives, z))
        dz = weight * (ops.where(own, 0.0, ops.exp(z - total)) - 1.0)
        lost = weight * ops.exp(negatives - total)
    loss = loss + ops.sum(weight * (total - z))
    share = engine.segment_sum(lost, row, ops.shape(x)[0])

    gradient = exps * (share / sums)[:, None]
    if "targets/place" in block:
        gradient = engine.add_at(gradient, row, place, dz)
    return (loss, dy + ops.transpose(gradient) @ x), gradient @ y, dz


def _hardest(engine: Engine, scores: Tensor, number: int) -> Tensor:
    """The scores with all but the `number` highest of each row masked."""
    rows, columns = ops.shape(scores)
    _, kept = ops.top_k(scores, min(number, columns) if isinstance(columns, int) else ops.minimum(number, columns))
    place = ops.reshape(kept + (ops.arange(rows, dtype=kept.dtype) * columns)[:, None], (-1,))
    chosen = engine.segment_sum(ops.ones_like(place), place, rows * columns)
    return ops.where(ops.reshape(chosen, (rows, columns)) > 0, scores, MASKED)


def _take(values: Tensor, index: Tensor) -> Tensor:
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


def inverse_temperature(spec: RetrievalSpec, values: Values, dtype: DType) -> Tensor:
    """1 / τ, of the value of `task/log_temperature` where it is learned."""
    if spec.learn_temperature:
        return ops.exp(-values["task/log_temperature"])
    return ops.convert_to_tensor(1 / spec.temperature, dtype=dtype)


@dataclass(frozen=True)
class Kernel:
    """`kernel` on a tree of its arguments."""

    engine: Engine
    spec: RetrievalSpec

    def __call__(self, _: Values, tree: Tree) -> tuple[Tensor, ...]:
        """The fields of `Loss`."""
        at = tree["at"]
        given = at["query"], at["candidate"], at.get("bias"), at["inverse_temperature"]
        return tuple(kernel(self.engine, self.spec, *given, tree["task"]))


class KerasTask:
    """See `RetrievalTask`. `variables` holds its weights, `task/bias` and `task/log_temperature`, by canonical name.

    In a native loop of JAX, differentiate with respect to `variables` through `keras.StatelessScope`.
    """

    def __init__(
        self, engine: Engine, spec: RetrievalSpec, weights: Weights, dtype: DType, guard: Guard | None = None
    ) -> None:
        self.spec = spec
        self._guard = guard or engines.guard(engine)
        self.dtype = dtype
        self.variables: dict[str, Any] = {}
        for name in task_weights(spec):
            value = np.log(spec.temperature) if name not in weights and name.endswith("temperature") else weights[name]
            self.variables[name] = keras.Variable(np.asarray(value, dtype), dtype=dtype, name=name.split("/")[1])
        self._kernel = engine.reader(Kernel(engine, spec), {})

    def __call__(
        self,
        query: Any,
        candidate: Any,
        *,
        target_query: ArrayLike | None = None,
        target_candidate: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        candidate_sampling_probability: ArrayLike | None = None,
        candidate_ids: ArrayLike | None = None,
        positives: Ragged | None = None,
        negatives_from: int = 0,
        score_mask: ArrayLike | None = None,
    ) -> Tensor:
        """See `RetrievalTask.__call__`. Everything but `query` and `candidate` is read on the host."""
        given: dict[str, Any] = {
            "target_query": target_query,
            "target_candidate": target_candidate,
            "sample_weight": sample_weight,
            "candidate_sampling_probability": candidate_sampling_probability,
            "candidate_ids": candidate_ids,
            "positives": positives,
            "negatives_from": negatives_from,
            "score_mask": score_mask,
        }
        with self._guard:
            return self._differentiable(query, candidate, given)

    def _differentiable(self, query: Any, candidate: Any, given: dict[str, Any]) -> Tensor:
        query, candidate = (_vectors(name, x, self.dtype) for name, x in (("query", query), ("candidate", candidate)))
        plan = plan_task(self.spec, query.shape[0], candidate.shape[0], **given)
        values = {name: ops.convert_to_tensor(variable) for name, variable in self.variables.items()}
        at = {
            "query": query,
            "candidate": candidate,
            "inverse_temperature": inverse_temperature(self.spec, values, self.dtype),
        }
        if self.spec.candidate_bias:
            at["bias"] = _take(values["task/bias"], self._bias_rows(given["candidate_ids"], candidate.shape[0]))
        fixed = {name: ops.stop_gradient(tensor) for name, tensor in at.items()}
        loss = Loss(*self._kernel({"task": inputs(plan, candidate.shape[0], self.dtype), "at": fixed}))

        # x − stop_gradient(x) is 0, and its gradient is that of x: the kernel's gradients flow, its value stays.
        out = loss.value
        for name, gradient in (("query", loss.query), ("candidate", loss.candidate), ("bias", loss.bias)):
            if name in at:
                out = out + ops.sum((at[name] - fixed[name]) * gradient)
        if self.spec.learn_temperature:
            log = values["task/log_temperature"]
            out = out + (log - ops.stop_gradient(log)) * loss.log_temperature
        return out

    def _bias_rows(self, candidate_ids: ArrayLike | None, number: int) -> NDArray[np.int32]:
        if candidate_ids is None:
            raise SpecError("candidate_bias=True needs candidate_ids, the rows of task/bias of the candidates")
        codes = np.asarray(candidate_ids)
        corpus = self.variables["task/bias"].shape[0]
        if codes.shape != (number,) or (number and not (codes.min() >= 0 and codes.max() < corpus)):
            raise DataError(f"candidate_ids must be {number} codes in 0 … {corpus - 1}, rows of task/bias")
        return codes.astype(np.int32)


def task_weights(spec: RetrievalSpec) -> tuple[str, ...]:
    """Canonical names of the task's own weights."""
    names = (("task/bias", spec.candidate_bias), ("task/log_temperature", spec.learn_temperature))
    return tuple(name for name, wanted in names if wanted)


def _vectors(name: str, value: Any, dtype: DType) -> Tensor:
    tensor = ops.convert_to_tensor(value, dtype=dtype)
    if len(tensor.shape) != 2:
        raise DataError(f"{name} must be vectors of shape (n, d), got {tuple(tensor.shape)}")
    return tensor
