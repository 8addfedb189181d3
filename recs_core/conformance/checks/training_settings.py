"""Training: settings other than the defaults, rates that change, gradients of zero, and steps late in a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.training import WARM, WORLD, warm_start
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import World
from recs_core.contract.batch import Batch
from recs_core.contract.optimizers import SGD, Adagrad, Adam, Optimizer, RowWiseAdagrad
from recs_core.reference import training

RATES = (0.04, 0.0, 0.3)
"""Of steps in a row; none is the optimizer's own."""
WITH_TASK = WORLD.with_(candidate_bias=True, learn_temperature=True, temperature=0.1)
"""The temperature has the largest gradient."""


def without_weight(batch: Batch) -> Batch:
    """The batch, but every target weighs nothing, so that all gradients are zero."""
    task: Any = {**batch.task, "sample_weight": np.zeros(len(batch.task["target_query"]))}
    return dataclasses.replace(batch, task=task)


def steps(
    context: BackendContext,
    optimizer: Optimizer,
    world: World = WORLD,
    *,
    batches: Sequence[Batch] | None = None,
    late: int | None = None,
) -> None:
    """Weights and state after each of three steps, at `RATES`, from a warm start, `late` steps into a run."""
    dtype = context.finest
    weights, state = warm_start(world, optimizer, dtype)
    if late is not None:
        state = {**state, "step": np.asarray(late, np.int64)}
    model = context.model(world, dtype, weights)
    trainer = context.trainer(model, optimizer, state)
    now: Mapping[str, NDArray[Any]] = weights
    for rate, batch in zip(RATES, batches or world.batches(WARM + len(RATES))[WARM:], strict=True):
        expected = training.step(world.model, optimizer, now, state, batch, learning_rate=rate)
        now, state = expected.weights, expected.state
        loss = number(trainer.step(batch, rate))
        with expect.about(f"{optimizer}, step {int(state['step'])} at a rate of {rate}"):
            expect.close("the loss", loss, expected.loss, expect.LOSS[dtype])
            expect.all_close("the weights", model.weights(), now, expect.WEIGHT[dtype])
            expect.all_close("the state", trainer.state(), state, expect.WEIGHT[dtype])


@check(
    "training/settings",
    needs=("adagrad", "lazy_adam", "state"),
    rests_on=("training/sgd-one-step", "training/lazy-adam-one-step", "training/learning-rate"),
    formula="as each optimizer's, with its own μ, a₀, β₁, β₂, ε",
)
def settings(context: BackendContext) -> None:
    """Settings of an optimizer that are not its defaults are read, and a step has the rate that it is given, 0 too.

    Look for constants in place of `plan.spec`'s, for a floor under epsilon, and for a rate that is kept.
    """
    for optimizer in (
        SGD(0.1, momentum=0.4),
        Adagrad(0.1, initial_accumulator=1e-4, epsilon=1e-9),
        Adam(0.1, beta_1=0.5, beta_2=0.7, epsilon=1e-9),
    ):
        steps(context, optimizer)


@check(
    "training/no-gradient",
    needs=("sample_weight", "adagrad", "lazy_adam", "state"),
    rests_on=("training/settings", "task/zero-weights"),
)
def no_gradient(context: BackendContext) -> None:
    """Rows that a batch names move by their slots alone where their gradient is zero, and the count goes up.

    Look for rows that are chosen by their gradient and not by the batch, and for a division by no weight at all.
    """
    batches = [without_weight(batch) for batch in WORLD.batches(3)]
    for optimizer in (SGD(0.1, momentum=0.4), Adagrad(0.1), Adam(0.1)):
        steps(context, optimizer, batches=batches)


@check(
    "training/late-steps",
    needs=("lazy_adam", "state"),
    rests_on=("training/settings", "training/lazy-adam-100-steps", "weights/state"),
    formula="1 − β^t at t = 2,001 and 70,001",
)
def late_steps(context: BackendContext) -> None:
    """Adam from a state of 2,000 and of 70,000 steps: corrections fade, and the count goes on.

    Look for a count in 16 bits, one that `load_state` leaves out, and corrections that stop.
    """
    for late in (2_000, 70_000):
        steps(context, Adam(0.05, beta_2=0.9999), late=late)


@check(
    "training/decay-and-clip",
    tier="optional",
    needs=("candidate_bias", "learn_temperature", "state"),
    rests_on=(
        "training/row-wise-adagrad-one-step", "training/dense-adam-one-step", "training/weight-decay",
        "training/clip-norm", "training/no-gradient", "training/everything",
    ),
    formula="clip, then w ← w − lr · decay · w, then the optimizer's own; lr is the step's",
)  # fmt: skip
def decay_and_clip(context: BackendContext) -> None:
    """Decay and clipping with every optimizer that is not declined, task/… weights among the gradients, rates that
    change, and gradients of zero.

    Look for an optimizer that does not decay, for decay at its own rate in place of the step's, for decay that needs a
    gradient, and for weights that the norm leaves out.
    """
    settings: dict[str, Any] = {"weight_decay": 0.2 if context.has("weight_decay") else 0.0}
    settings["clip_norm"] = 0.02 if context.has("clip_norm") else None
    kinds: list[tuple[str, Optimizer]] = [
        ("state", SGD(0.1, momentum=0.4, **settings)),
        ("adagrad", Adagrad(0.1, **settings)),
        ("row_wise_adagrad", RowWiseAdagrad(0.1, initial_accumulator=0.7, epsilon=0.05, **settings)),
        ("lazy_adam", Adam(0.1, **settings)),
        ("dense_adam", Adam(0.1, beta_1=0.5, epsilon=0.02, dense=True, **settings)),
    ]
    batches = WITH_TASK.batches(3)
    for needed, optimizer in kinds:
        if context.has(needed):
            steps(context, optimizer, WITH_TASK, batches=[batches[0], batches[1], without_weight(batches[2])])
