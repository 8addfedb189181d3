"""The neutral half of the retrieval task: from its arguments to a plan that every backend's kernel follows.

Per target t with query r = target_query[t] and column p = target_candidate[t], the loss is

    ℓ_t = log(exp z_t + Σ_{j ∈ N(t)} exp s_rj) − z_t
    z_t  = score(r, p) / τ + b_p + positive correction,     s_rj = score(r, j) / τ + b_j + correction_j

N(t): the columns from `negatives_from` on, but not p, and not what the masks remove. When no mask depends on the
target, all targets of a query share one row of scores; otherwise each target gets a row of its own (`expand`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged, offsets_of
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.retrieval import RetrievalSpec

COSINE_EPSILON = 1e-12
"""Cosine scoring normalises x to x / √(Σ x² + 1e-12): smooth at zero, the same in every backend."""

MASKED = -1e30
"""A masked score: finite, so that a row with nothing left stays finite; its exp is 0 beside any other."""

SAFE = 40.0
"""Scores no further from 0 than this a kernel may exponentiate as they are: sums of e^40 do not overflow in float32,
and e^-40 is as exact as any number. Of others the row's highest is subtracted first: two passes more."""


@dataclass(frozen=True)
class TaskPlan:
    """What a kernel needs beside the embeddings, the bias and the temperature. Q queries, C columns, T targets.

    A kernel works on R rows of scores, one block at a time: the queries themselves, or, where `expand`, the query of
    each target (then R = T and row t belongs to target t). N = C − `start` columns are negatives.
    """

    expand: bool
    num_rows: int  # R
    row: NDArray[np.int32]  # (T,) the row of scores of each target, ascending
    query: NDArray[np.int32]  # (T,) the query of each target
    column: NDArray[np.int32]  # (T,) the candidate column of each target
    own_included: NDArray[np.bool_]  # (T,) z is among its row's scores, at its own column: do not add exp z again
    weight: NDArray[np.floating]  # (T,) already divided by Σ w where the reduction is "mean"
    start: int  # first column that is a negative
    correction: NDArray[np.floating] | None  # (N,) added to the scores of negatives
    positive_correction: NDArray[np.floating] | None  # (T,) added to z
    hit_codes: (
        tuple[NDArray[np.int32], NDArray[np.int32]] | None
    )  # (R,), (N,): mask where equal; includes the own column
    masked_sets: Ragged | None  # rows of columns (counted from `start`) to mask
    masked_set: NDArray[np.int32] | None  # (R,) the row of `masked_sets` of each row of scores; None: its own
    score_mask: NDArray[np.bool_] | None  # (R, N): mask where False
    hard_negatives: int | None  # keep the n largest of a row, after all masks

    @property
    def place(self) -> NDArray[np.int32] | None:
        """(T,) where among its row's N scores each target's z stands, if every target's does; else None.

        A kernel then reads z there and puts its gradient there, and gathers no vectors for a target.
        """
        return self.column - np.int32(self.start) if self.own_included.all() and not self.expand else None

    @cached_property
    def masked(self) -> Ragged | None:
        """R rows of columns (counted from `start`) to mask: `masked_sets`, written out. Rows that share a set, as those
        of one history do, are best masked together."""
        if self.masked_sets is None or self.masked_set is None:
            return self.masked_sets
        return self.masked_sets.take(self.masked_set)


def plan_task(
    spec: RetrievalSpec,
    num_queries: int,
    num_candidates: int,
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
) -> TaskPlan:
    """Check the task's arguments and settle everything in them that is neutral.

    Raises `DataError` for a wrong shape or value and `SpecError` where the spec needs an input that is missing, or
    an input is given that the spec would ignore.
    """
    query = _indices("target_query", target_query, num_queries, num_queries)
    column = _indices("target_candidate", target_candidate, num_candidates, num_queries)
    if len(query) != len(column):
        raise DataError(f"target_query names {len(query)} targets, target_candidate {len(column)}; they go in pairs")
    if not 0 <= negatives_from <= num_candidates:
        raise DataError(
            f"negatives_from must be from 0 to the number of candidates, {num_candidates}; got {negatives_from}"
        )
    drawn = num_candidates if uncorrected_from is None else uncorrected_from
    if not negatives_from <= drawn <= num_candidates:
        raise DataError(
            f"uncorrected_from must be from negatives_from, {negatives_from}, to the number of candidates, "
            f"{num_candidates}; got {uncorrected_from}"
        )
    correction, positive_correction = _corrections(
        spec, candidate_sampling_probability, column, num_candidates, negatives_from, drawn
    )
    codes = _codes(spec, candidate_ids, num_candidates)
    mask = _score_mask(score_mask, num_queries, num_candidates)
    if spec.mask_positives and positives is None:
        raise SpecError("mask_positives=True needs positives, the columns each query is known to like")

    masked = None if positives is None else _shift(positives, negatives_from)
    masked_set = _positives_row(positives, positives_row, num_queries)
    of_query = query if masked_set is None else masked_set[query]  # the row of `masked` of each target
    one_each = len(query) == num_queries and (target_query is None or bool((query == np.arange(num_queries)).all()))
    own_included = (column >= negatives_from) & ~_is_masked(masked, of_query, mask, query, column, negatives_from)
    expand = not one_each and (
        _differs_by_target(spec, own_included)
        or (spec.masks_hits and not _hits_are_masked(masked, of_query, codes, column, negatives_from))
    )
    if expand:
        masked_set = None if masked is None else of_query
        mask = None if mask is None else mask[query]
    row = query if not expand else np.arange(len(query), dtype=np.int32)
    hit_codes = None
    if expand or one_each:
        if spec.masks_hits:
            assert codes is not None
            hit_codes = (codes[column], codes[negatives_from:])
            own_included = np.zeros(len(query), bool)
        elif spec.hard_negatives is not None or _own_scored_apart(spec):
            masked = masked if masked is None or masked_set is None else masked.take(masked_set)
            masked_set = None
            masked = _with_own(masked, column - negatives_from, num_candidates - negatives_from)
            own_included = np.zeros(len(query), bool)
    weight = _weights(spec, sample_weight, len(query))
    if len(row) and (np.diff(row) < 0).any():
        order = np.argsort(row, kind="stable")
        row, query, column, weight, own_included = (
            row[order],
            query[order],
            column[order],
            weight[order],
            own_included[order],
        )
        positive_correction = None if positive_correction is None else positive_correction[order]
    return TaskPlan(
        expand=expand,
        num_rows=len(query) if expand else num_queries,
        row=row,
        query=query,
        column=column,
        own_included=own_included,
        weight=weight,
        start=negatives_from,
        correction=correction,
        positive_correction=positive_correction,
        hit_codes=hit_codes,
        masked_sets=masked,
        masked_set=masked_set,
        score_mask=None if mask is None else np.ascontiguousarray(mask[:, negatives_from:]),
        hard_negatives=spec.hard_negatives,
    )


def _differs_by_target(spec: RetrievalSpec, own_included: NDArray[np.bool_]) -> bool:
    """Whether, hits aside, two targets of a query can differ in their negatives or in the own column's score."""
    return (_own_scored_apart(spec) and bool(own_included.any())) or spec.hard_negatives is not None


def _hits_are_masked(
    masked: Ragged | None,
    of_query: NDArray[np.int32],
    codes: NDArray[np.int32] | None,
    column: NDArray[np.int32],
    start: int,
) -> bool:
    """Whether the columns that hold a target's candidate are all masked for its query already, its own one included."""
    if masked is None or codes is None:
        return False
    kinds, kind = np.unique(codes[start:], return_inverse=True)
    wanted = np.searchsorted(kinds, codes[column])
    held = np.append(kinds, -1)[wanted] == codes[column]  # others stand in no column from `start` on
    number, stride = len(kind), np.int64(len(kinds))
    pairs = np.unique(masked.segments.astype(np.int64) * number + masked.values)
    found, times = np.unique(pairs // number * stride + kind[pairs % number], return_counts=True)
    of = of_query[held].astype(np.int64) * stride + wanted[held]
    place = np.searchsorted(found, of)
    masked_times = np.where(np.append(found, -1)[place] == of, np.append(times, 0)[place], 0)
    return bool((masked_times == np.bincount(kind)[wanted[held]]).all())


def _own_scored_apart(spec: RetrievalSpec) -> bool:
    """Whether the own column's score as a negative differs from z, so that it may not stand in for it."""
    return spec.corrects and (spec.logq == "refined" or spec.negatives == "uniform")


def _indices(name: str, values: ArrayLike | None, bound: int, default: int) -> NDArray[np.int32]:
    if values is None:
        if default > bound:
            raise DataError(
                f"{name} defaults to row i ↔ row i, but there are {default} queries and {bound} candidates; state it"
            )
        return np.arange(default, dtype=np.int32)
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name} must be a list of row numbers, got shape {array.shape} of {array.dtype}")
    if len(array) and not (array.min() >= 0 and array.max() < bound):
        raise DataError(f"{name} must lie in 0 … {bound - 1}, got {array.min()} … {array.max()}")
    return array.astype(np.int32, copy=False)


def _codes(spec: RetrievalSpec, candidate_ids: ArrayLike | None, num_candidates: int) -> NDArray[np.int32] | None:
    if candidate_ids is None:
        if spec.masks_hits:
            raise SpecError("remove_accidental_hits=True needs candidate_ids, the code of each candidate column")
        return None
    codes = np.asarray(candidate_ids)
    if codes.shape != (num_candidates,) or not np.issubdtype(codes.dtype, np.integer):
        raise DataError(
            f"candidate_ids must be {num_candidates} integer codes, one per candidate; got shape {codes.shape} of "
            f"{codes.dtype} (raw ids become codes through a vocabulary)"
        )
    return codes.astype(np.int32, copy=False)


def _corrections(
    spec: RetrievalSpec,
    probability: ArrayLike | None,
    column: NDArray[np.int32],
    num_candidates: int,
    start: int,
    drawn: int,
) -> tuple[NDArray[np.floating] | None, NDArray[np.floating] | None]:
    if probability is None:
        if spec.corrects:
            raise SpecError(
                f"negatives={spec.negatives!r} with logq={spec.logq!r} needs candidate_sampling_probability, "
                "or logq=False"
            )
        return None, None
    if not spec.corrects:
        raise SpecError(
            f"candidate_sampling_probability is given, but negatives={spec.negatives!r} with logq={spec.logq!r} "
            "does not use it; leave it out"
        )
    q = np.asarray(probability, np.float64)
    if q.shape != (num_candidates,):
        raise DataError(
            f"candidate_sampling_probability must hold {num_candidates} numbers, one per candidate; got shape {q.shape}"
        )
    needed, rest = q[start:drawn], np.zeros(num_candidates - drawn)
    if not (np.isfinite(needed).all() and (needed > 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(needed) & (needed > 0)))[0]) + start
        raise DataError(
            f"candidate_sampling_probability must be > 0 (a candidate with q = 0 cannot be drawn); "
            f"column {bad} has {q[bad]}"
        )
    if spec.negatives == "uniform" or spec.logq == "refined":
        # The sum over n draws, each weighted 1 / (n q), estimates the sum over the corpus; the positive is no draw.
        return np.concatenate([-np.log(needed * len(needed)), rest]), None
    if (q[column] <= 0).any():
        raise DataError("candidate_sampling_probability must be > 0 for every target")
    return np.concatenate([-np.log(needed), rest]), -np.log(q[column])


def _weights(spec: RetrievalSpec, sample_weight: ArrayLike | None, targets: int) -> NDArray[np.floating]:
    if sample_weight is None:
        return np.full(targets, 1.0 if spec.reduction == "sum" else 1 / max(1, targets))
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != (targets,):
        raise DataError(f"sample_weight must hold {targets} numbers, one per target; got shape {weight.shape}")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise DataError("sample_weight must be finite and ≥ 0")
    if spec.reduction == "sum":
        return weight
    total = weight.sum()
    return weight / total if total > 0 else np.zeros_like(weight)


def _score_mask(score_mask: ArrayLike | None, num_queries: int, num_candidates: int) -> NDArray[np.bool_] | None:
    if score_mask is None:
        return None
    mask = np.asarray(score_mask)
    if mask.shape != (num_queries, num_candidates) or mask.dtype != np.bool_:
        raise DataError(
            f"score_mask must be booleans of shape {(num_queries, num_candidates)}, True = keep; "
            f"got {mask.shape} of {mask.dtype}"
        )
    return mask


def _shift(columns: Ragged, start: int) -> Ragged:
    """Columns counted from `start`; those before it are no negatives and go."""
    if start == 0:
        return columns
    keep = columns.values >= start
    return Ragged(columns.values[keep] - np.int32(start), offsets_of(keep)[columns.offsets])


def _positives_row(
    positives: Ragged | None, positives_row: ArrayLike | None, num_queries: int
) -> NDArray[np.int32] | None:
    """Checked; None where each query has a row of its own, in order."""
    if positives_row is None:
        if positives is not None and len(positives.lengths) != num_queries:
            raise DataError(
                f"positives must have {num_queries} rows, one per query, or positives_row must name the row of each; "
                f"it has {len(positives.lengths)}"
            )
        return None
    if positives is None:
        raise SpecError("positives_row is given, but no positives; give both or leave both out")
    row = _indices("positives_row", positives_row, len(positives.lengths), 0)
    if len(row) != num_queries:
        raise DataError(f"positives_row must name a row of positives for each of {num_queries} queries, got {len(row)}")
    return row


def _with_own(masked: Ragged | None, own: NDArray[np.int32], num_negatives: int) -> Ragged | None:
    """The masked columns of each row and its target's own one (which may be no negative at all)."""
    inside = (own >= 0) & (own < num_negatives)
    values = own[inside]
    rows = np.flatnonzero(inside).astype(np.int32)
    if masked is not None:
        values = np.concatenate([masked.values, values])
        rows = np.concatenate([masked.segments, rows])
    order = np.argsort(rows, kind="stable")
    return Ragged.from_lengths(values[order].astype(np.int32), np.bincount(rows, minlength=len(own)))


def _is_masked(
    masked: Ragged | None,
    of_query: NDArray[np.int32],
    mask: NDArray[np.bool_] | None,
    query: NDArray[np.int32],
    column: NDArray[np.int32],
    start: int,
) -> NDArray[np.bool_]:
    """(T,): whether the target's own column is already out of its query's sum."""
    out = np.zeros(len(query), bool)
    if mask is not None:
        out |= ~mask[query, column]
    if masked is not None and len(masked.values):
        stride = np.int64(max(int(masked.values.max()), int(column.max(initial=0))) + 1)
        pairs = masked.segments.astype(np.int64) * stride + masked.values
        out |= (column >= start) & np.isin(of_query.astype(np.int64) * stride + (column - start), pairs)
    return out
