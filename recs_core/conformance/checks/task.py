"""The task: each option alone. Loss and gradients, against the oracle.

Towers hand out table rows here, so that a step's update tells the gradient with respect to every embedding.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import PLAIN, TaskWorld, ragged, task_world
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.reference.task import TaskResult, loss_and_gradients

BASE = ("task/in-batch",)
IDS = (4, 7, 4, 2, 7, 0, 4, 2, 9)  # columns 0, 2, 6 hold one candidate, as do 1, 4 and 3, 7
Q = np.array([0.3, 0.1, 0.3, 0.02, 0.1, 0.05, 0.3, 0.02, 0.004])


def spec_of(**changes: Any) -> RetrievalSpec:
    """PLAIN, changed."""
    settings = {name: getattr(PLAIN, name) for name in PLAIN.__dataclass_fields__}
    return RetrievalSpec(**{**settings, **changes})


def oracle(world: TaskWorld) -> TaskResult:
    """What the oracle makes of it."""
    return loss_and_gradients(
        world.spec, world.query, world.candidate, world.bias, world.log_temperature, **world.inputs
    )


def value(context: BackendContext, world: TaskWorld, dtype: DType) -> float:
    """The loss of the task alone, called as a native loop would."""
    task = context.backend.task(world.spec, weights=world.task_weights or None, dtype=dtype)
    query, candidate = (np.array(vectors, dtype) for vectors in (world.query, world.candidate))
    return number(task(query, candidate, **copy.deepcopy(world.inputs)))


def judge(context: BackendContext, world: TaskWorld, *, step: bool = True) -> None:
    """The loss of the task alone in float32; the loss and the gradients of a step in float64, where there is that."""
    expected = oracle(world)
    got = value(context, world, "float32")
    expect.close("the loss in float32", got, expected.loss, expect.LOSS["float32"])
    if not step:
        return
    dtype = context.finest
    step_loss, gradients = context.loss_and_gradients(world, world.batch(), dtype)
    expect.close(f"the loss of a step in {dtype}", step_loss, expected.loss, expect.LOSS[dtype])
    pairs = [
        ("each query embedding", gradients["table/q"][1:], expected.query),
        ("each candidate embedding", gradients["table/c"][1:], expected.candidate),
    ]
    if world.bias is not None:
        by_code = np.zeros(len(gradients["task/bias"]))
        np.add.at(by_code, world.inputs["candidate_ids"], expected.bias)
        pairs.append(("task/bias", gradients["task/bias"], by_code))
    if world.log_temperature is not None:
        slope = gradients["task/log_temperature"].reshape(1)
        pairs.append(("task/log_temperature", slope, np.array([expected.log_temperature])))
    for name, got_gradient, expected_gradient in pairs:
        what = f"the gradient of {name} in {dtype}"
        expect.rows_close(what, got_gradient, expected_gradient, expect.GRADIENT[dtype])


@check(
    "task/in-batch",
    needs=("in-batch", "dot"),
    rests_on=("towers/categorical",),
    formula="ℓ_t = log(exp s_tt + Σ_{j≠t} exp s_tj) − s_tt, s = ⟨x, y⟩ / τ, over all columns",
)
def in_batch(context: BackendContext) -> None:
    """Every column of the batch but the target's own is a negative, extra columns included.

    A failure here blocks most others. Look at how many negatives a row has: some implementations take a fixed few.
    """
    judge(context, task_world(PLAIN, queries=12, columns=14))


@check("task/cosine", needs=("cosine",), rests_on=BASE, formula="x ← x / √(Σ x² + 1e-12), y alike")
def cosine(context: BackendContext) -> None:
    """Cosine scores divide each vector by its length.

    Look at where the epsilon stands (within the root), and at the gradient through the length.
    """
    judge(context, task_world(spec_of(scoring="cosine")))


@check("task/zero-vectors", needs=("cosine",), rests_on=("task/cosine",), formula="x / √(Σ x² + 1e-12) is 0 at x = 0")
def zero_vectors(context: BackendContext) -> None:
    """A vector of zeros has cosine 0 with everything; the loss and every gradient are finite.

    Look for a division by a length without an epsilon.
    """
    world = task_world(spec_of(scoring="cosine"))
    world.query[0], world.candidate[3] = 0, 0
    expect.close("the loss in float32", value(context, world, "float32"), oracle(world).loss, expect.LOSS["float32"])
    gradients = context.loss_and_gradients(world, world.batch(), context.finest)[1]
    expect.true(all(np.isfinite(g).all() for g in gradients.values()), "gradients", "finite", gradients)


@check("task/temperature", rests_on=BASE, formula="s = ⟨x, y⟩ / τ")
def temperature(context: BackendContext) -> None:
    """The score is divided by the temperature.

    Look for a product in place of the quotient, or a temperature that also divides the bias.
    """
    judge(context, task_world(spec_of(temperature=0.2)))


@check(
    "task/learned-temperature",
    needs=("learn_temperature",),
    rests_on=("task/temperature",),
    formula="τ = exp(task/log_temperature)",
)
def learned_temperature(context: BackendContext) -> None:
    """A learned temperature is held as its logarithm, starts where its weight says, and has a gradient.

    Look at the chain rule: ∂L/∂log τ = − Σ ∂L/∂s · ⟨x, y⟩ / τ, in which the bias takes no part.
    """
    judge(context, task_world(spec_of(learn_temperature=True, temperature=0.3)))


@check(
    "task/candidate-bias",
    needs=("candidate_bias",),
    rests_on=("task/temperature",),
    formula="s = ⟨x, y⟩ / τ + b[code of the column]",
)
def candidate_bias(context: BackendContext) -> None:
    """Each candidate has a learned bias, added after the division by the temperature.

    Look at the order, at the row of task/bias that a column reads (its code), and at the sum over columns.
    """
    judge(context, task_world(spec_of(candidate_bias=True, temperature=0.2), candidate_ids=IDS))


@check(
    "task/logq-correction",
    needs=("logq",),
    rests_on=BASE,
    formula="s_j ← s_j − log q_j for every column, the target's own included",
)
def logq_correction(context: BackendContext) -> None:
    """In-batch scores are corrected for how often a candidate is drawn: − log q, the positive's included.

    Look at the sign, at whether it is done at all, and at whether the target's own score is left out.
    """
    judge(context, task_world(spec_of(logq=True), candidate_sampling_probability=Q))


@check("task/q-without-floor", needs=("logq",), rests_on=("task/logq-correction",), formula="− log q, q as it is")
def q_without_floor(context: BackendContext) -> None:
    """A probability far below one in a million counts as what it is.

    Look for a clip of q; TFRS floors it at 1e-6, which a catalogue of millions is below.
    """
    judge(context, task_world(spec_of(logq=True), candidate_sampling_probability=Q * 1e-9))


@check(
    "task/refined-logq",
    tier="optional",
    needs=("refined_logq",),
    rests_on=BASE,
    formula="negatives: s_j ← s_j − log(n q_j), n columns that are draws; the target's own score uncorrected",
)
def refined_logq(context: BackendContext) -> None:
    """logq="refined" corrects the negatives and leaves the positive's score as it is.

    Look at whether it is told from logq=True, and at the own score: it stands apart from its column's, and may not
    stand in for it among the negatives.
    """
    judge(context, task_world(spec_of(logq="refined"), candidate_sampling_probability=Q))


@check(
    "task/uniform-negatives",
    needs=("uniform",),
    rests_on=BASE,
    formula="negatives: the n sampled columns only, s_j ← s_j + log(corpus / n); the target's own score uncorrected",
)
def uniform_negatives(context: BackendContext) -> None:
    """With negatives="uniform" the columns before `negatives_from` serve as targets and are nobody's negatives.

    Look at whether in-batch columns still count as negatives; and at a target that is drawn itself, whose score as a
    negative, which is corrected, is no negative of its own.
    """
    spec = spec_of(negatives="uniform", num_negatives=3)
    probability = np.full(9, 1 / 40)
    judge(context, task_world(spec, negatives_from=6, candidate_sampling_probability=probability))
    judge(context, task_world(spec, negatives_from=2, candidate_sampling_probability=probability))


@check("task/mixed-negatives", tier="optional", needs=("mixed",), rests_on=("task/logq-correction",))
def mixed_negatives(context: BackendContext) -> None:
    """With negatives="mixed" batch and sampled columns are all negatives, each corrected by its own q.

    Look at whether they are corrected, and at columns beyond the targets' own.
    """
    spec = spec_of(negatives="mixed", num_negatives=3, logq=True)
    judge(context, task_world(spec, candidate_sampling_probability=Q))


@check(
    "task/corpus-negatives", needs=("corpus",), rests_on=BASE, formula="negatives: all candidates but the target's own"
)
def corpus_negatives(context: BackendContext) -> None:
    """With negatives="corpus" columns are the corpus, targets any of them, and nothing is corrected or hit by accident.

    Look for a correction or a mask that belongs to draws. `target_candidate` says which column a target is; two targets
    may share one.
    """
    spec = spec_of(negatives="corpus", remove_accidental_hits=True)
    judge(context, task_world(spec, target_candidate=np.array([8, 2, 2, 0, 5, 7], np.int32)))


@check(
    "task/accidental-hits",
    needs=("remove_accidental_hits",),
    rests_on=BASE,
    formula="column j is no negative of t where candidate_ids[j] = candidate_ids[target_candidate[t]]",
)
def accidental_hits(context: BackendContext) -> None:
    """Other columns that hold the target's candidate are masked, and the target's own column stays.

    Look at whether codes are compared, with what a masked score becomes (it may not be 0), and at the own column.
    """
    judge(context, task_world(spec_of(remove_accidental_hits=True), columns=6, candidate_ids=IDS[:6]))


@check(
    "task/accidental-hits-beyond-the-batch",
    needs=("remove_accidental_hits",),
    rests_on=("task/accidental-hits",),
    formula="as task/accidental-hits, j over all columns",
)
def accidental_hits_beyond(context: BackendContext) -> None:
    """Extra columns that hold the target's candidate are masked too.

    Look for a comparison of the first Q columns only.
    """
    judge(context, task_world(spec_of(remove_accidental_hits=True), candidate_ids=IDS))


@check(
    "task/mask-positives",
    needs=("mask_positives",),
    rests_on=BASE,
    formula="the columns in row r of `positives` are no negatives of query r",
)
def mask_positives(context: BackendContext) -> None:
    """All known positives of a query are masked as negatives; its target stays.

    Look at the offsets of `positives`: it holds columns, not codes, a ragged row per query; some rows are empty.
    """
    positives = ragged([[0, 3], [], [2], [1, 3, 8], [4, 5], []])
    judge(context, task_world(spec_of(mask_positives=True), positives=positives))


@check(
    "task/score-mask",
    tier="optional",
    needs=("score_mask",),
    rests_on=BASE,
    formula="column j is no negative of query r where score_mask[r, j] is False",
)
def score_mask(context: BackendContext) -> None:
    """A mask of scores, True = keep, takes negatives out; a target's own column stays whatever it says.

    Look at the sense of the mask.
    """
    mask = np.random.default_rng(0).random((6, 9)) < 0.6
    judge(context, task_world(PLAIN, score_mask=mask))


@check(
    "task/uncorrected",
    tier="optional",
    needs=("score_mask", "logq"),
    rests_on=("task/score-mask", "task/logq-correction"),
    formula="c_j = 0 from column uncorrected_from on; n counts the columns between negatives_from and it",
)
def uncorrected(context: BackendContext) -> None:
    """Columns that were shown to a query are no draws: they have no correction, and do not count among the draws.

    Look at who plans the task: `plan_task` takes `uncorrected_from`, as every part of a batch's `task`.
    """
    mask = np.random.default_rng(0).random((6, 9)) < 0.6
    mask[:, :7] = True
    shown: dict[str, Any] = {"score_mask": mask, "uncorrected_from": 7}
    judge(context, task_world(spec_of(logq=True), candidate_sampling_probability=Q, **shown))
    if context.has("uniform"):
        spec = spec_of(negatives="uniform", num_negatives=3, logq=True)
        judge(context, task_world(spec, negatives_from=2, candidate_sampling_probability=Q, **shown))


@check(
    "task/hard-negatives",
    tier="optional",
    needs=("hard_negatives",),
    rests_on=BASE,
    formula="N(t) ← the h negatives of the highest corrected score",
)
def hard_negatives(context: BackendContext) -> None:
    """Only the highest-scored negatives of a row are kept, and the target beside them; h beyond their number keeps all.

    Look at whether the target takes one of the h places, and at the order: corrections and masks come before.
    """
    judge(context, task_world(spec_of(hard_negatives=3)))
    judge(context, task_world(spec_of(hard_negatives=99)), step=False)


@check("task/sample-weight", needs=("sample_weight",), rests_on=BASE, formula="L = Σ w_t ℓ_t / Σ w_t")
def sample_weight(context: BackendContext) -> None:
    """Each target's loss counts by its weight, and the mean is over the weights.

    Look at a mean over targets in place of Σ w.
    """
    judge(context, task_world(PLAIN, sample_weight=np.array([0.5, 2, 0, 1, 3, 0.25])))


@check("task/sum-reduction", needs=("sum_reduction",), rests_on=BASE, formula="L = Σ w_t ℓ_t")
def sum_reduction(context: BackendContext) -> None:
    """reduction="sum" adds the weighted losses up.

    Look at whether `reduction` is read.
    """
    weight = np.array([0.5, 2, 0, 1, 3, 0.25])
    judge(context, task_world(spec_of(reduction="sum"), sample_weight=weight))
