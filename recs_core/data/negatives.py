"""Which candidates a batch is scored against, how likely each was to be drawn, and which are known positives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged, TaskInputs, offsets_of
from recs_core.contract.retrieval import RetrievalSpec


def candidate_columns(
    spec: RetrievalSpec, targets: NDArray[np.int32], corpus: int, random: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """(columns' candidate codes (C,), each target's column (T,), first column that is a negative).

    in-batch: a column per target. uniform: the distinct targets, then the sample. mixed: a column per target, then the
    sample. corpus: every candidate.
    """
    if spec.negatives == "corpus":
        return np.arange(corpus, dtype=np.int32), targets, 0
    own = np.arange(len(targets), dtype=np.int32)
    if spec.negatives == "in-batch":
        return targets, own, 0
    assert spec.num_negatives is not None
    sample = random.integers(0, corpus, spec.num_negatives, dtype=np.int32)
    if spec.negatives == "mixed":
        return np.concatenate([targets, sample]), own, 0
    distinct, column = np.unique(targets, return_inverse=True)
    return np.concatenate([distinct, sample]), column.astype(np.int32), len(distinct)


def sampling_probability(
    spec: RetrievalSpec, columns: NDArray[np.int32], counts: NDArray[np.int64] | NDArray[np.floating], targets: int
) -> NDArray[np.floating] | None:
    """q (C,): the probability that one draw gives the column's candidate; None where the task needs none.

    A training row is drawn with probability 1 / rows, so in-batch q = count / rows. Mixed: a draw comes from the batch
    with probability targets / (targets + num_negatives), else from the corpus.
    """
    if not spec.corrects:
        return None
    uniform = 1 / len(counts)
    if spec.negatives == "uniform":
        return np.full(len(columns), uniform)
    popular = counts[columns] / counts.sum()
    if spec.negatives == "in-batch":
        return popular
    assert spec.num_negatives is not None
    share = targets / (targets + spec.num_negatives)
    return share * popular + (1 - share) * uniform


def columns_holding(positives: Ragged, columns: NDArray[np.int32]) -> Ragged:
    """For each row of candidate codes, the columns that hold one of them, by code order."""
    order = np.argsort(columns, kind="stable").astype(np.int32)
    ordered = columns[order]
    first = np.searchsorted(ordered, positives.values, "left").astype(np.int32)
    count = np.searchsorted(ordered, positives.values, "right").astype(np.int32) - first
    offsets = offsets_of(count)
    starts = np.repeat(first - offsets[:-1], count)
    values = order[starts + np.arange(offsets[-1], dtype=offsets.dtype)]
    return Ragged(values, offsets[positives.offsets])


def accidental_hits(task: TaskInputs) -> tuple[int, int]:
    """(pairs of a target and another column that holds its candidate, pairs of a target and another column)."""
    ids, column, start = task["candidate_ids"], task["target_candidate"], task.get("negatives_from", 0)
    held, counts = np.unique(ids[start:], return_counts=True)
    if not len(held):
        return 0, 0
    place = np.minimum(np.searchsorted(held, ids[column]), len(held) - 1)
    same = np.where(held[place] == ids[column], counts[place], 0)
    own = column >= start
    return int((same - own).sum()), int((len(ids) - start) * len(column) - own.sum())


def task_inputs(
    spec: RetrievalSpec,
    columns: NDArray[np.int32],
    target_query: NDArray[np.int32],
    target_column: NDArray[np.int32],
    negatives_from: int,
    counts: NDArray[np.int64] | NDArray[np.floating],
    weight: NDArray[np.floating] | None,
    positives: Ragged | None,
    shown: Ragged | None = None,
) -> TaskInputs:
    """The task's arguments for one batch; only those that the spec uses. `shown`: of each query the candidate codes
    that it alone has as negatives; the last of `columns` are their distinct ones, ascending."""
    inputs = TaskInputs(
        target_query=target_query, target_candidate=target_column, candidate_ids=columns, negatives_from=negatives_from
    )
    if weight is not None:
        inputs["sample_weight"] = weight
    if shown is not None:
        inputs["uncorrected_from"] = drawn = len(columns) - len(np.unique(shown.values))
        mask = np.zeros((len(shown.lengths), len(columns)), bool)
        mask[:, :drawn] = True
        mask[shown.segments, drawn + np.searchsorted(columns[drawn:], shown.values)] = True
        inputs["score_mask"] = mask
    probability = sampling_probability(spec, columns, counts, len(target_query))
    if probability is not None:
        inputs["candidate_sampling_probability"] = probability
    if positives is not None:
        inputs["positives"] = columns_holding(positives, columns)
    return inputs
