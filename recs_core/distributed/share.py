"""A worker's share of a global batch, in NumPy: what it computes so that all shares together are the batch.

Worker r of N has queries n·r/N … n·(r+1)/N − 1 and as many of the candidate columns, but scores its queries against all
columns: those of the others reach it as vectors.

    rank 0   own queries × [ own columns | columns of 1 | columns of 2 ]
    rank 1   own queries × [ columns of 0 | own columns | columns of 2 ]

Where columns outnumber queries, as those of a whole corpus may, the queries travel instead, and it scores all queries
against its own columns (`own_columns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Codes, Features, Ragged, Sequences, TaskInputs, flat, offsets_of, recoded
from recs_core.contract.plans import TowerPlan
from recs_core.contract.task import TaskPlan


def edges(number: int, size: int) -> NDArray[np.int64]:
    """(size + 1,): worker r has edges[r] … edges[r + 1] − 1 of `number` things."""
    return np.arange(size + 1, dtype=np.int64) * number // size


def query_edges(query: Features, size: int) -> NDArray[np.int64]:
    """As `edges`, of the queries of a batch; moved up to where no history is read from both sides, so that each is
    encoded once."""
    histories = [held for held in query.codes.values() if isinstance(held, Sequences)]
    if not histories:
        return edges(query.size, size)
    free = np.ones(query.size + 1, bool)
    for held in histories:
        of = np.searchsorted(held.codes.offsets, held.at, side="right")
        free[1:-1] &= (of[1:] != of[:-1]) | (held.at[1:] < 0)
    places = np.flatnonzero(free)
    return places[np.searchsorted(places, edges(query.size, size))]


def share(
    batch: Batch,
    rank: int,
    size: int,
    *,
    query: TowerPlan | None,
    candidate: TowerPlan | None,
    reduction: Literal["mean", "sum"],
) -> Batch:
    """What worker `rank` of `size` computes of a global batch.

    `query` and `candidate`: the towers' plans, which say what column reads which table; None for an adopted one. `rows`
    are those that the share reads, of each weight that the batch names, none if need be, those of worker 0 first, then
    those of worker 1, and so on (`own_rows`), each's in the batch's order; no weight is `whole`. `query`
    holds its queries, `candidate` and `bias_codes` its own columns, and `task` its own targets, with queries counted
    from its first and columns, ids, probabilities and masks those of the global batch.

    `reduction`: the global batch's. Where it is "mean" the weights are divided by their global sum already, so that
    the loss of the batch is the sum over the shares of Σ w·ℓ: the share's own task is of reduction "sum".
    """
    low, high = (int(edge) for edge in query_edges(batch.query, size)[rank : rank + 2])
    first, last = (int(edge) for edge in edges(batch.candidate.size, size)[rank : rank + 2])
    own = batch.query.take(np.arange(low, high)), batch.candidate.take(np.arange(first, last))
    rows, own_query, own_candidate = _read_rows(batch.rows, *own, query, candidate, size)
    bias_codes = None
    if batch.bias_codes is not None:
        mine = batch.bias_codes[first:last]
        rows["task/bias"], place = _narrowed(batch.rows["task/bias"], [mine], size)
        bias_codes = place[mine]
    task = _own_task(batch.task, batch.query.size, low, high, reduction)
    return Batch(rows, own_query, own_candidate, task, bias_codes, full=batch.full)


def own_columns(plan: TaskPlan, first: int, last: int) -> tuple[TaskPlan, NDArray[np.bool_]]:
    """The plan of a global batch for columns first … last − 1 alone, at least one; (T,): whose column is among them.

    Rows, targets and weights are those of all columns. A target whose column is elsewhere names one of these for it.
    For a plan whose columns are all negatives, and which keeps them all (`hard_negatives`).
    """
    assert plan.start == 0 and plan.hard_negatives is None
    mine = (plan.column >= first) & (plan.column < last)
    masked = plan.masked_sets
    if masked is not None:
        kept = (masked.values >= first) & (masked.values < last)
        masked = Ragged(masked.values[kept] - np.int32(first), offsets_of(kept)[masked.offsets])
    own = replace(
        plan,
        column=np.where(mine, plan.column - np.int32(first), np.int32(0)),
        correction=None if plan.correction is None else plan.correction[first:last],
        hit_codes=None if plan.hit_codes is None else (plan.hit_codes[0], plan.hit_codes[1][first:last]),
        masked_sets=masked,
        score_mask=None if plan.score_mask is None else np.ascontiguousarray(plan.score_mask[:, first:last]),
    )
    return own, mine


def _read_rows(
    rows: Mapping[str, NDArray[np.int32]],
    query: Features,
    candidate: Features,
    query_plan: TowerPlan | None,
    candidate_plan: TowerPlan | None,
    size: int,
) -> tuple[dict[str, NDArray[np.int32]], Features, Features]:
    """The rows that these features read, and the features with codes that count within them."""
    sides = ((query, query_plan), (candidate, candidate_plan))
    uses: dict[str, list[NDArray[np.int32]]] = {name: [] for name in rows}
    for features, plan in sides:
        for column in plan.columns if plan else ():
            if column.table is not None:
                uses[column.table].append(flat(features.codes[column.name]))
    narrowed = {name: _narrowed(rows[name], codes, size) for name, codes in uses.items()}

    def again(features: Features, plan: TowerPlan | None) -> Features:
        codes: dict[str, Codes] = dict(features.codes)
        for column in plan.columns if plan else ():
            if column.table is not None:
                held = codes[column.name]
                codes[column.name] = recoded(held, narrowed[column.table][1][flat(held)])
        return Features(features.size, codes, features.dense, features.keep)

    own = {name: read for name, (read, _) in narrowed.items()}
    return own, again(*sides[0]), again(*sides[1])


def _narrowed(
    rows: NDArray[np.int32], uses: list[NDArray[np.int32]], size: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The rows that are used, by the worker that they lie on, and of each code of `rows` its place among those."""
    used, place = np.zeros(len(rows), bool), np.zeros(len(rows), np.int32)
    for codes in uses:
        used[codes] = True
    kept = np.flatnonzero(used)
    kept = kept[np.argsort(rows[kept] % size, kind="stable")]
    place[kept] = np.arange(len(kept), dtype=np.int32)
    return rows[kept], place


def _own_task(task: TaskInputs, queries: int, low: int, high: int, reduction: str) -> TaskInputs:
    """The arguments of the task for queries low … high − 1 against all columns."""
    default = np.arange(queries, dtype=np.int32)
    of, column = task.get("target_query", default), task.get("target_candidate", default)
    mine = np.flatnonzero((of >= low) & (of < high))
    out = dict(task)
    out["target_query"], out["target_candidate"] = of[mine] - np.int32(low), column[mine]
    weight = _weights(task.get("sample_weight"), len(of), reduction)
    if weight is not None:
        out["sample_weight"] = weight[mine]
    if "score_mask" in task:
        out["score_mask"] = task["score_mask"][low:high]
    if "positives" in task:
        row = task.get("positives_row")
        if row is None:
            out["positives"] = task["positives"].take(np.arange(low, high))
        else:
            out["positives"], out["positives_row"] = _own_positives(task["positives"], row[low:high])
    return cast("TaskInputs", out)


def _own_positives(positives: Ragged, row: NDArray[np.int32]) -> tuple[Ragged, NDArray[np.int32]]:
    used, place = np.unique(row, return_inverse=True)
    return positives.take(used), place.astype(np.int32)


def _weights(weight: NDArray[np.floating] | None, targets: int, reduction: str) -> NDArray[np.floating] | None:
    """(T,): what each target counts in a sum, as `TaskPlan.weight` has it for all; None: one each."""
    if reduction == "sum":
        return weight
    if weight is None:
        return np.full(targets, 1 / max(1, targets))
    total = np.asarray(weight, np.float64).sum()
    return weight / total if total > 0 else np.zeros(targets)
