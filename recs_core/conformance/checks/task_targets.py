"""The task with several targets per query."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.conformance import worlds
from recs_core.conformance.checks.task import BASE, IDS, judge, spec_of
from recs_core.conformance.context import BackendContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import PLAIN, ragged, task_world

TARGET_QUERY, TARGET_CANDIDATE = np.array([0, 0, 0, 1, 3], np.int32), np.array([8, 1, 4, 4, 0], np.int32)


@check(
    "task/several-targets",
    needs=("several_targets",),
    rests_on=BASE,
    formula="one ℓ_t per target; a query's other targets are among its negatives unless masked",
)
def several_targets(context: BackendContext) -> None:
    """A query may have several targets: each is scored against the rest, and the query's gradient is their sum.

    Look at `target_query` and `target_candidate`; row i ↔ row i is only their default.
    """
    judge(context, task_world(PLAIN, queries=4, target_query=TARGET_QUERY, target_candidate=TARGET_CANDIDATE))


@check(
    "task/many-targets",
    needs=(
        "dot", "corpus", "learn_temperature", "candidate_bias", "mask_positives", "sample_weight", "several_targets",
    ),
    rests_on=(
        "task/learned-temperature", "task/candidate-bias", "task/corpus-negatives", "task/mask-positives",
        "task/sample-weight", "task/several-targets",
    ),
)  # fmt: skip
def many_targets(context: BackendContext) -> None:
    """By query, against the corpus: a candidate liked twice, queries without weight or targets, masked columns.

    Look at a target that comes twice: its gradient is that of both.
    """
    judge(context, worlds.many_targets())


@check(
    "task/several-targets-masked",
    needs=("several_targets", "remove_accidental_hits"),
    rests_on=("task/several-targets", "task/accidental-hits-beyond-the-batch"),
)
def several_targets_masked(context: BackendContext) -> None:
    """Where a mask depends on the target, each target of a query has negatives of its own.

    Look at `TaskPlan.expand`: rows of scores then belong to targets.
    """
    spec = spec_of(remove_accidental_hits=True)
    targets: dict[str, Any] = {"target_query": TARGET_QUERY, "target_candidate": TARGET_CANDIDATE}
    judge(context, task_world(spec, queries=4, candidate_ids=IDS, **targets))


@check(
    "task/positives-shared",
    needs=("mask_positives",),
    rests_on=("task/mask-positives", "task/several-targets"),
    formula="N(t) excludes the columns in row positives_row[r] of `positives`",
)
def positives_shared(context: BackendContext) -> None:
    """Queries that share a row of positives, as those of one history do, have all of it masked, each.

    Look at `TaskPlan.masked`, which has a row for each row of scores; `masked_sets` has one for each that they share.
    """
    spec = spec_of(mask_positives=True, negatives="in-batch")
    sets, own = ragged([[0, 4], [5, 1, 2], []]), np.array([1, 1, 0, 2, 0, 1], np.int32)
    judge(context, task_world(spec, positives=sets, positives_row=own))
    if not context.has("several_targets"):
        return
    query, candidate = np.array([[0, 0, 1, 2, 4, 5, 5], [5, 7, 1, 0, 3, 2, 8]], np.int32)
    several = task_world(spec, positives=sets, positives_row=own, target_query=query, target_candidate=candidate)
    judge(context, several)
