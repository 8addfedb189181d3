"""Training: one step of each optimizer, and of models in which several parts meet.

It starts from a state that the oracle has reached, so that every slot is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.towers import gradients
from recs_core.conformance.context import Arrays, BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import ITEM, OPTIMIZERS, USER, World
from recs_core.contract.batch import Batch
from recs_core.contract.feature_kinds import History, Vector
from recs_core.contract.optimizers import SGD, Adagrad, Adam, Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.towers import TowerSpec
from recs_core.reference import training
from recs_core.reference.optimizers import initial_state

BASE = ("towers/layers", "task/in-batch")
WARM = 3  # steps of the oracle before the one that is judged

WORLD = World(users=40, corpus=30, queries=6)
"""Batches name some rows of each table and leave others alone."""


def warm_start(world: World, optimizer: Optimizer, dtype: DType) -> tuple[Arrays, Arrays]:
    """Weights and state that the oracle reaches, as a backend of this dtype can hold them."""
    _, weights, state = training.trajectory(world.model, optimizer, world.weights(), world.batches(WARM))
    as_dtype = {name: np.asarray(value, dtype) for name, value in weights.items()}
    return as_dtype, {n: v if n == "step" else np.asarray(v, dtype) for n, v in state.items()}


def one_step(context: BackendContext, optimizer: Optimizer, world: World = WORLD, *, dtype: DType = "float32") -> None:
    """The loss, the new weights and the new state of one step."""
    batch = world.batch(WARM)
    weights, state = warm_start(world, optimizer, dtype)
    expected = training.step(world.model, optimizer, weights, state, batch)
    model, losses, trainer = run(context, optimizer, [batch], world=world, dtype=dtype, weights=weights, state=state)
    expect.close(f"the loss in {dtype}", losses[0], expected.loss, expect.LOSS[dtype])
    expect.all_close(f"the new weights in {dtype}", model.weights(), expected.weights, expect.WEIGHT[dtype])
    expect.all_close(f"the new state in {dtype}", trainer.state(), expected.state, expect.WEIGHT[dtype])


def run(
    context: BackendContext,
    optimizer: Optimizer,
    batches: list[Batch],
    *,
    world: World = WORLD,
    dtype: DType = "float32",
    weights: Mapping[str, NDArray[Any]] | None = None,
    state: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[Any, list[float], Any]:
    """The model, the losses and the trainer after some steps."""
    model = context.model(world, dtype, weights)
    trainer = context.trainer(model, optimizer, state)
    losses = [number(trainer.step(batch, optimizer.learning_rate)) for batch in batches]
    return model, losses, trainer


@check(
    "training/adagrad-one-step",
    needs=("adagrad", "state"),
    rests_on=BASE,
    formula="a ← a + g²; w ← w − lr · g / (√a + ε), touched rows only",
)
def adagrad_one_step(context: BackendContext) -> None:
    """A step of Adagrad from a state under way: loss, weights and accumulators.

    Look at the initial accumulator (0.1 here, as in the state given), at the root (of the accumulator after this step's
    squares), at where epsilon stands, and at rows that a batch names twice: their gradients are added up before they
    are squared.
    """
    one_step(context, OPTIMIZERS["adagrad"])


@check(
    "training/row-wise-adagrad-one-step",
    tier="optional",
    needs=("row_wise_adagrad", "state"),
    rests_on=("training/adagrad-one-step",),
    formula="a_i ← a_i + mean_k g_ik²; w_i ← w_i − lr · g_i / (√a_i + ε); plain Adagrad on dense weights",
)
def row_wise_adagrad_one_step(context: BackendContext) -> None:
    """A step of row-wise Adagrad: one accumulator per row of a table, of shape (rows,).

    Look at mean, not sum, and at dense weights, whose accumulators have the weight's shape.
    """
    one_step(context, OPTIMIZERS["row-wise-adagrad"])


@check(
    "training/sgd-one-step",
    needs=("state",),
    rests_on=BASE,
    formula="v ← μ v + g; w ← w − lr · v, touched rows only; w ← w − lr · g where μ = 0",
)
def sgd_one_step(context: BackendContext) -> None:
    """A step of SGD, with momentum from a state under way and without: loss, weights and velocities.

    Look for a rate inside the velocity, for dampening (1 − μ), and for a slot where momentum is 0.
    """
    one_step(context, OPTIMIZERS["sgd"])
    one_step(context, SGD(0.1))


@check(
    "training/lazy-adam-one-step",
    needs=("lazy_adam", "state"),
    rests_on=BASE,
    formula="m, v of touched rows only; w ← w − lr · m̂ / (√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ), one t for all",
)
def lazy_adam_one_step(context: BackendContext) -> None:
    """A step of lazy Adam from a state under way: loss, weights, both slots and the counter.

    Look at both corrections, at epsilon (outside the root, on the corrected v̂), at the counter (global, from 1), and at
    untouched rows.
    """
    one_step(context, OPTIMIZERS["lazy-adam"])


@check(
    "training/dense-adam-one-step",
    tier="optional",
    needs=("dense_adam", "state"),
    rests_on=("training/lazy-adam-one-step",),
    formula="as lazy Adam, but all rows of every weight count as touched",
)
def dense_adam_one_step(context: BackendContext) -> None:
    """A step of textbook Adam: slots of rows that the batch does not name decay, and those rows move.

    Look at whether `dense` is read, and at rows with a gradient of zero.
    """
    one_step(context, OPTIMIZERS["dense-adam"])


@check(
    "training/weight-decay",
    tier="optional",
    needs=("weight_decay", "state", "candidate_bias"),
    rests_on=("training/adagrad-one-step", "training/lazy-adam-one-step", "task/candidate-bias"),
    formula="w ← w − lr · decay · w before the update, in touched rows and dense weights; task/… has none",
)
def weight_decay(context: BackendContext) -> None:
    """Decay is decoupled from the gradient and spares untouched rows and the task's own weights.

    Look for an L2 term in the gradient, and for a decay of task/bias.
    """
    for optimizer in (Adagrad(0.1, weight_decay=0.05), Adam(0.01, weight_decay=0.05)):
        one_step(context, optimizer, WORLD.with_(candidate_bias=True), dtype=context.finest)


@check(
    "training/clip-norm",
    tier="optional",
    needs=("clip_norm", "state"),
    rests_on=("training/adagrad-one-step",),
    formula="g ← g · clip / max(‖g‖, clip), one norm over all weights, rows merged",
)
def clip_norm(context: BackendContext) -> None:
    """Gradients are clipped by one norm over all weights, after the gradients of one row have been added up.

    Look at a norm for each weight, or one taken over rows that are still apart.
    """
    one_step(context, Adagrad(0.1, clip_norm=0.05), dtype=context.finest)
    one_step(context, Adagrad(0.1, clip_norm=1e3), dtype=context.finest)


@check(
    "training/vector",
    tier="optional",
    needs=("vector", "weight_decay", "clip_norm", "state"),
    rests_on=("towers/vector", "training/weight-decay", "training/clip-norm"),
    formula="the kernel of a given vector is a weight as any other: clipped, decayed and moved",
)
def vector(context: BackendContext) -> None:
    """The kernels of given vectors are trained, and the vectors are not.

    Look at what the optimizer is given: kernels of columns stand beside those of layers.
    """
    world = WORLD.with_(
        query=TowerSpec((USER, Vector("face", dim=3, length=5))),
        candidate=TowerSpec((ITEM, Vector("face", dim=3, length=4))),
    )
    one_step(context, Adagrad(0.1, weight_decay=0.05, clip_norm=0.05), world, dtype=context.finest)


@check("training/learning-rate", needs=("adagrad",), rests_on=("training/adagrad-one-step",))
def learning_rate(context: BackendContext) -> None:
    """A step uses the learning rate it is given, not the one the optimizer was made with.

    Look for a rate that is compiled in at the first step.
    """
    model = context.model(WORLD)
    trainer = context.trainer(model, OPTIMIZERS["adagrad"])
    weights, state = WORLD.weights(), initial_state(OPTIMIZERS["adagrad"], WORLD.weights())
    for i, rate in enumerate((0.3, 0.02)):
        expected = training.step(WORLD.model, OPTIMIZERS["adagrad"], weights, state, WORLD.batch(i), learning_rate=rate)
        trainer.step(WORLD.batch(i), rate)
        weights, state = expected.weights, expected.state  # type: ignore[assignment]
        expect.all_close(f"the weights after a step at {rate}", model.weights(), weights, 2 * expect.WEIGHT["float32"])


@check(
    "training/several-targets",
    needs=("several_targets", "sample_weight", "adagrad", "state"),
    rests_on=("task/several-targets", "task/sample-weight", "towers/shared-table", "training/adagrad-one-step"),
)
def several_targets(context: BackendContext) -> None:
    """A step over queries with several weighted targets each, history included, moves weights as the oracle's.

    Look at `target_query`, and at weights, one of each target: queries are fewer than targets.
    """
    query = TowerSpec((USER, History("item", dim=4)), layers=(3,), activation="tanh", final_activation="tanh")
    one_step(context, OPTIMIZERS["adagrad"], WORLD.with_(query=query, batch_by="query"), dtype=context.finest)


@check(
    "training/whole-corpus",
    needs=("corpus", "adagrad", "state"),
    rests_on=("task/corpus-negatives", "task/several-targets", "task/sample-weight", "training/adagrad-one-step"),
)
def whole_corpus(context: BackendContext) -> None:
    """A step against the whole corpus, whose table comes whole or nearly so.

    Look at `Batch.whole`, names that need no gather, and at a table that is whole but for its OOV row.
    """
    one_step(context, OPTIMIZERS["adagrad"], WORLD.with_(negatives="corpus", batch_by="query"), dtype=context.finest)


@check(
    "training/everything",
    tier="optional",
    needs=(
        "history", "cosine", "learn_temperature", "candidate_bias", "logq", "remove_accidental_hits", "lazy_adam",
        "state",
    ),
    rests_on=(
        "towers/shared-table", "task/cosine", "task/learned-temperature", "task/candidate-bias", "task/logq-correction",
        "task/accidental-hits", "training/lazy-adam-one-step",
    ),
)  # fmt: skip
def everything(context: BackendContext) -> None:
    """A step of the model that the recipes make: shared history, cosine, bias, learned temperature, logQ, masked hits.

    Each part was right alone: look at weights that have no rows in a batch (task/log_temperature) and those that have
    (task/bias).
    """
    query = TowerSpec((USER, History("item", dim=4)), layers=(3,), activation="tanh", final_activation="tanh")
    world = WORLD.with_(
        query=query,
        scoring="cosine",
        learn_temperature=True,
        candidate_bias=True,
        logq=True,
        remove_accidental_hits=True,
    )
    gradients(context, world)
    one_step(context, OPTIMIZERS["lazy-adam"], world, dtype=context.finest)
