"""The loss of a `TaskPlan` in TensorFlow, block by block, each with its gradient at once.

One block of the scores s = rows · columnsᵀ + added, which is all of them that is ever held:

                  columns 0 … N − 1
               ┌───────────────────────┐
    row low    │ s   z   s   s   ▒   s │   z: a target's own score, where it is among its row's (`place`)
               │ s   s   ▒   z   s   s │   ▒: masked, −1e30, whose exp is 0
    row high−1 │ z   s   s   s   s   ▒ │
               └───────────────────────┘
    What is kept of a block. Summed over blocks: the loss (), and d_keys (d + 1, N), the gradients of columns and added.
    One piece per block: d_rows (its rows, d), and d_own (its targets,), where the scores z are made apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON, MASKED, SAFE, TaskPlan
from recs_core_tensorflow.environment import tf

Tensors = Mapping[str, Any]

BLOCK_SCORES = 2**20
"""Scores held at a time: 4 MB in float32. Blocks of 128 to 512 rows of 4,096 run within 5 % of each other."""
MIN_BLOCK_ROWS = 32
"""Below this the candidates are packed for the matrix product more often than they are used."""


def pack(plan: TaskPlan, dtype: DType, *, general: bool = False) -> dict[str, NDArray[Any]]:
    """The plan as arrays for `loss`; what it does not have has no key.

    `general`: the same keys for every batch of one spec, whether its targets have rows of scores of their own or not;
    what a plan lacks does nothing.
    """
    packed: dict[str, Any] = {
        "row": plan.row,
        "place": None if general else plan.place,
        "own_included": plan.own_included,
        "weight": plan.weight,
        "start": np.asarray(plan.start, np.int32),
        # Where each target has its own row of scores, row t is the query of target t.
        "row_query": plan.query if plan.expand else None,
        "correction": plan.correction,
        "positive_correction": plan.positive_correction,
        "score_mask": plan.score_mask,
    }
    if packed["place"] is None:  # the scores of targets that have no place among their row's are made apart
        packed["query"], packed["column"] = plan.query, plan.column
    if plan.hit_codes is not None:
        packed["hit_row"], packed["hit_column"] = plan.hit_codes
    if plan.masked_sets is not None:
        packed["masked_columns"], packed["masked_splits"] = plan.masked_sets.values, plan.masked_sets.offsets
        packed["masked_set"] = plan.masked_set
    if general:
        packed = {**_neutral(plan), **{name: array for name, array in packed.items() if array is not None}}
    given = {name: array for name, array in packed.items() if array is not None}
    return {
        name: array.astype(dtype, copy=False) if array.dtype.kind == "f" else array for name, array in given.items()
    }


def _neutral(plan: TaskPlan) -> dict[str, NDArray[Any]]:
    """Of each part that a plan may lack: what does nothing."""
    return {
        "row_query": np.arange(plan.num_rows, dtype=np.int32),
        "hit_row": np.full(plan.num_rows, -1, np.int32),
        "hit_column": np.full(1, -2, np.int32),  # one for all columns
        "masked_columns": np.zeros(0, np.int32),
        "masked_splits": np.zeros(plan.num_rows + 1, np.int32),
        "masked_set": np.arange(plan.num_rows, dtype=np.int32),
    }


def loss(
    spec: RetrievalSpec, plan: Tensors, query: Any, candidate: Any, bias: Any = None, log_temperature: Any = None
) -> Any:
    """The loss, a scalar, differentiable in the four tensors, for a loop of the user's own; arguments as of `scored`.

    A training step differentiates `scored` with the gradients of `loss_and_gradients`, and needs no more than these.
    """
    given = scored(spec, plan, query, candidate, bias, log_temperature)
    value, gradients = loss_and_gradients(spec, plan, *(tf.stop_gradient(x) for x in given))
    # x − stop_gradient(x) is 0, and its gradient is that of x. A tf.custom_gradient would hold its graph for as long as
    # the process lives: TensorFlow registers its name for good.
    slopes = [
        tf.reduce_sum((x - tf.stop_gradient(x)) * tf.stop_gradient(g)) for x, g in zip(given, gradients, strict=True)
    ]
    return tf.add_n([tf.stop_gradient(value), *slopes])


def scored(
    spec: RetrievalSpec, plan: Tensors, query: Any, candidate: Any, bias: Any = None, log_temperature: Any = None
) -> tuple[Any, ...]:
    """What the loss is made of: rows (R, d), columns (N, d), what is added to each column's scores (N,), and, where
    targets have no place among their row's scores, their own scores (T,).

    `query` (Q, d), `candidate` (C, d), `bias` (C,) or None, `log_temperature` () or None for the spec's own; `plan` as
    of `pack`, as arrays or tensors.
    """
    if spec.scoring == "cosine":
        query, candidate = normalised(query), normalised(candidate)
    query = query / spec.temperature if log_temperature is None else query * tf.exp(-log_temperature)
    start = plan["start"]

    rows = tf.gather(query, plan["row_query"]) if "row_query" in plan else tf.convert_to_tensor(query)
    columns = candidate[start:]
    added = tf.zeros_like(columns[:, 0]) if bias is None else bias[start:]
    if "correction" in plan:
        added += plan["correction"]
    if "place" in plan:
        return rows, columns, added
    return rows, columns, added, _own_scores(query, candidate, bias, plan)


def loss_and_gradients(
    spec: RetrievalSpec, plan: Tensors, rows: Any, columns: Any, added: Any, own: Any = None
) -> tuple[Any, list[Any]]:
    """Σ_t w_t (log(exp z_t + Σ_j exp s_rj) − z_t), holding a block at a time of the scores s = rows · columnsᵀ + added,
    and its gradients with respect to what `scored` gave. `own`: the scores z, or None where they are among the rows'.

    Both come in one pass over the blocks: the softmax of a block is at hand when its loss is known, and would have to
    be made again afterwards.
    """
    settings = {name: tf.convert_to_tensor(value) for name, value in plan.items()}
    return _in_blocks(rows, columns, added, own, plan=settings, hard=spec.hard_negatives)


def _own_scores(query: Any, candidate: Any, bias: Any, plan: Tensors) -> Any:
    """(T,) the score z of each target. Two vectors are gathered for each, which is dear where a query has a hundred."""
    own = tf.reduce_sum(tf.gather(query, plan["query"]) * tf.gather(candidate, plan["column"]), axis=1)
    if bias is not None:
        own += tf.gather(bias, plan["column"])
    if "positive_correction" in plan:
        own += plan["positive_correction"]
    return own


def normalised(x: Any) -> Any:
    """x / √(Σ x² + 1e-12), each vector along the last axis."""
    return x * tf.math.rsqrt(tf.reduce_sum(x * x, axis=-1, keepdims=True) + COSINE_EPSILON)


def _in_blocks(
    rows: Any, columns: Any, added: Any, own: Any, *, plan: Tensors, hard: int | None
) -> tuple[Any, list[Any]]:
    """The loss, and its gradients with respect to rows, columns, added and, where it is given, own: as tensors."""
    dtype = rows.dtype
    num_rows, num_columns, dim = tf.shape(rows)[0], tf.shape(columns)[0], tf.shape(rows)[1]
    size = tf.maximum(MIN_BLOCK_ROWS, BLOCK_SCORES // tf.maximum(num_columns, 1))
    blocks = (num_rows + size - 1) // size
    # [x ; 1] · [y ; added]: the product adds what would be one more pass over the scores.
    ones = tf.ones((num_rows, 1), dtype)
    lengthened = tf.concat([rows, ones], axis=1)
    keys = tf.transpose(tf.concat([columns, added[:, None]], axis=1))
    safe = _bound(rows, columns, added) <= SAFE
    first_target = tf.searchsorted(plan["row"], tf.range(blocks + 1) * size)

    def pieces() -> Any:
        return tf.TensorArray(dtype, blocks, element_shape=None, infer_shape=False)

    def block(i: Any, loss: Any, d_keys: Any, d_rows: Any, d_own: Any) -> tuple[Any, ...]:
        # The scores of the block, and their exponentials.
        low, high = i * size, tf.minimum(num_rows, (i + 1) * size)
        x = _from_to(low, high)(lengthened)
        scores = _masked(tf.matmul(x, keys), low, high, plan, hard)
        exp, taken_off = tf.cond(safe, lambda: _exponentials(scores), lambda: _exponentials_below_highest(scores))
        total = tf.reduce_sum(exp, axis=1)
        log_total = taken_off + tf.math.log(total)
        total = tf.maximum(total, dtype.as_numpy_dtype(1e-30))  # 0 where nothing is left

        # The loss of the block's targets, and its slope by each one's own score.
        targets_here = _from_to(first_target[i], first_target[i + 1])
        row = targets_here(plan["row"]) - low
        weight, included = targets_here(plan["weight"]), targets_here(plan["own_included"])
        place = tf.stack([row, targets_here(plan["place"])], 1) if own is None else None
        z = tf.gather_nd(scores, place) if own is None else targets_here(own)
        negatives = tf.gather(log_total, row)
        log_sum = tf.where(included, negatives, _log_add_exp(negatives, z))
        share = tf.where(included, tf.ones_like(z), tf.exp(negatives - log_sum))
        slope = tf.where(included, -tf.ones_like(z), tf.math.expm1(z - log_sum))
        loss += tf.reduce_sum(weight * (log_sum - z))

        # What it gives to the gradients: the slope by score s_rj is scale_r · exp_rj, and −w more at a target's place.
        scale = tf.math.unsorted_segment_sum(share * weight, row, high - low) / total
        if own is None:
            # Times the row's scale this is −w; a row without weight has neither.
            exp = tf.tensor_scatter_nd_sub(exp, place, tf.math.divide_no_nan(weight, tf.gather(scale, row)))
        d_rows = d_rows.write(i, tf.matmul(exp, columns) * scale[:, None])
        d_own = d_own.write(i, weight * slope)
        # Transposing the few, not the many: x'exp takes a third of the time of exp'x.
        d_keys += tf.matmul(x * scale[:, None], exp, transpose_a=True)
        return i + 1, loss, d_keys, d_rows, d_own

    start = (tf.constant(0), tf.zeros((), dtype), tf.zeros((dim + 1, num_columns), dtype), pieces(), pieces())
    _, loss, d_keys, d_rows, d_own = tf.while_loop(lambda i, *_: i < blocks, block, start)
    gradients = [tf.reshape(d_rows.concat(), tf.shape(rows)), tf.transpose(d_keys[:-1]), d_keys[-1]]
    if own is not None:
        gradients.append(tf.reshape(d_own.concat(), tf.shape(own)))
    return loss, gradients


def _bound(rows: Any, columns: Any, added: Any) -> Any:
    """What no score is further from 0 than: the longest row times the longest column (Cauchy-Schwarz), and what is
    added."""
    longest = [tf.sqrt(tf.reduce_max(tf.reduce_sum(x * x, axis=1))) for x in (rows, columns)]
    return longest[0] * longest[1] + tf.reduce_max(tf.abs(added))


def _exponentials(scores: Any) -> tuple[Any, Any]:
    """(rows, N) exp(score), and (rows,) what was subtracted from a row's scores: nothing."""
    return tf.exp(scores), tf.zeros(tf.shape(scores)[0], scores.dtype)


def _exponentials_below_highest(scores: Any) -> tuple[Any, Any]:
    """(rows, N) exp(score − the row's highest), and (rows,) the highest."""
    # A row with nothing left has −1e30 everywhere; without columns it has no maximum, hence the floor.
    highest = tf.maximum(tf.reduce_max(scores, axis=1), MASKED)
    return tf.exp(scores - highest[:, None]), highest


def _masked(scores: Any, low: Any, high: Any, plan: Tensors, hard: int | None) -> Any:
    """The scores of rows low … high, with −1e30 for what is no negative of the row."""
    out, rows_here = tf.constant(MASKED, scores.dtype), _from_to(low, high)
    if "hit_row" in plan:
        scores = tf.where(rows_here(plan["hit_row"])[:, None] == plan["hit_column"][None], out, scores)
    if "score_mask" in plan:
        scores = tf.where(rows_here(plan["score_mask"]), scores, out)
    if "masked_set" in plan:
        scores = tf.where(_masked_sets(rows_here(plan["masked_set"]), tf.shape(scores)[1], plan), out, scores)
    elif "masked_splits" in plan:
        splits = _from_to(low, high + 1)(plan["masked_splits"])
        columns = _from_to(splits[0], splits[-1])(plan["masked_columns"])
        row = tf.repeat(tf.range(high - low), splits[1:] - splits[:-1])
        scores = tf.tensor_scatter_nd_update(scores, tf.stack([row, columns], 1), tf.fill(tf.shape(row), out))
    if hard is not None:
        kept = tf.minimum(hard, tf.shape(scores)[1])
        values, columns = tf.math.top_k(scores, kept)
        row = tf.broadcast_to(tf.range(high - low)[:, None], tf.shape(columns))
        scores = tf.tensor_scatter_nd_update(tf.fill(tf.shape(scores), out), tf.stack([row, columns], -1), values)
    return scores


def _from_to(start: Any, stop: Any) -> Callable[[Any], Any]:
    """x ↦ x[start:stop], whose bounds are made once: indexing would make four nodes of a graph for each x."""
    bounds = tf.stack([start]), tf.stack([stop])
    return lambda x: tf.strided_slice(x, *bounds, strides=[1])


def _masked_sets(own: Any, num_columns: Any, plan: Tensors) -> Any:
    """(rows, N): what is masked in rows of which each has its `own` set of columns, which some share."""
    found, of_row = tf.unique(own)
    sets = tf.RaggedTensor.from_row_splits(plan["masked_columns"], plan["masked_splits"], validate=False)
    columns = tf.gather(sets, found)
    place = tf.stack([tf.cast(columns.value_rowids(), tf.int32), columns.values], 1)
    masked = tf.zeros((tf.size(found), num_columns), tf.bool)
    masked = tf.tensor_scatter_nd_update(masked, place, tf.fill(tf.shape(columns.values), True))
    return tf.gather(masked, of_row)


def _log_add_exp(a: Any, b: Any) -> Any:
    return tf.maximum(a, b) + tf.math.log1p(tf.exp(-tf.abs(a - b)))
