"""The task at its edges: nothing left, nothing given, large scores; then all options in seeded combinations."""

from __future__ import annotations

from functools import partial

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.checks.task import BASE, judge, oracle, spec_of, value
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.random_tasks import OPTIONAL, all_pairs
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import PLAIN, ragged, task_world
from recs_core.contract.errors import SpecError
from recs_core.reference.task import loss_and_gradients


@check("task/one-target", rests_on=BASE, formula="no negatives: ℓ = log exp z − z = 0")
def one_target(context: BackendContext) -> None:
    """A batch of one has no negatives: loss 0, gradients 0, nothing that is not finite.

    Look at a log-sum-exp over nothing, and at what stands in for it.
    """
    judge(context, task_world(PLAIN, queries=1, columns=1))


@check(
    "task/all-masked", needs=("mask_positives",), rests_on=("task/mask-positives",), formula="no negatives left: ℓ = 0"
)
def all_masked(context: BackendContext) -> None:
    """A row whose negatives are all masked has loss 0, beside rows that have some.

    Look at what a masked score becomes: − inf minus − inf is NaN.
    """
    positives = ragged([list(range(9)), [], [], list(range(1, 9)), [], []])
    judge(context, task_world(spec_of(mask_positives=True), positives=positives))


@check("task/zero-weights", needs=("sample_weight",), rests_on=("task/sample-weight",), formula="Σ w = 0: L = 0")
def zero_weights(context: BackendContext) -> None:
    """A batch whose weights are all zero has loss 0 and moves nothing.

    Look at the division by Σ w.
    """
    judge(context, task_world(PLAIN, sample_weight=np.zeros(6)))


@check("task/extreme-scores", rests_on=BASE, formula="log Σ exp s = max s + log Σ exp(s − max s)")
def extreme_scores(context: BackendContext) -> None:
    """Scores of ± thousands overflow nothing.

    Look at exp without the row's maximum taken off.
    """
    world = task_world(PLAIN)
    world.query[:] *= 60
    world.candidate[:] *= 60
    got = value(context, world, "float32")
    expect.close("the loss in float32", got, oracle(world).loss, 5 * expect.LOSS["float32"])


@check("task/defaults", rests_on=BASE, formula="target_query = target_candidate = 0 … Q − 1; sample_weight = 1")
def defaults(context: BackendContext) -> None:
    """Called with embeddings alone, row i is the target of row i and all weights are 1.

    Look at what the task does with inputs that are None.
    """
    world = task_world(PLAIN)
    query, candidate = world.query, world.candidate
    got = number(context.backend.task(PLAIN)(query, candidate))
    expect.close("the loss", got, loss_and_gradients(PLAIN, query, candidate).loss, expect.LOSS["float32"])


@check("task/missing-input", needs=("logq",), rests_on=BASE)
def missing_input(context: BackendContext) -> None:
    """An input that the spec needs and does not get is a `SpecError` that names it; it is not quietly left out.

    Hand the arguments to `recs_core.contract.task.plan_task`, which raises.
    """
    world = task_world(PLAIN)
    for option, named in (
        ("logq", "candidate_sampling_probability"),
        ("remove_accidental_hits", "candidate_ids"),
        ("mask_positives", "positives"),
        ("candidate_bias", "candidate_ids"),
    ):
        weights = {"task/bias": np.zeros(9, np.float32)} if option == "candidate_bias" else None
        given = context.backend.task(spec_of(**{option: True}), weights=weights)
        call = partial(given, world.query, world.candidate)
        expect.raises(f"{option}=True without {named}", SpecError, call, says=named)


def judge_pairs(context: BackendContext, declined: frozenset[str]) -> None:
    """Every two options that are not declined, in combinations with others; the gradients of every third."""
    for i, world in enumerate(all_pairs(declined)):
        with expect.about(f"combination {i}, {world.spec}"):
            judge(context, world, step=i % 3 == 0)


@check(
    "task/pairs",
    rests_on=(
        "task/cosine", "task/learned-temperature", "task/candidate-bias", "task/logq-correction",
        "task/q-without-floor", "task/uniform-negatives", "task/corpus-negatives", "task/sum-reduction",
        "task/accidental-hits-beyond-the-batch", "task/several-targets-masked", "task/many-targets", "task/all-masked",
        "task/zero-weights", "task/temperature",
    ),
)  # fmt: skip
def pairs(context: BackendContext) -> None:
    """Every two options that no backend may decline meet, in combinations with others.

    Each option alone was right: look for a mask that takes another's place, at the order in which options act
    (docs/meanings.md, order), and at own columns.
    """
    judge_pairs(context, frozenset(OPTIONAL))


@check(
    "task/combinations",
    tier="optional",
    rests_on=("task/pairs", "task/refined-logq", "task/mixed-negatives", "task/score-mask", "task/hard-negatives"),
)
def combinations(context: BackendContext) -> None:
    """Every two options that the manifest does not decline meet, in combinations with others.

    Each option alone was right: look at the order in which they act (docs/meanings.md, order): corrections and masks,
    then hard negatives.
    """
    judge_pairs(context, frozenset(name for name in OPTIONAL if not context.has(name)))
