"""Training: each optimizer for one step and for a hundred, and what a step may and may not touch.

One step starts from a state that the oracle has reached, so that every slot is full. Trajectories are float64 (P1).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.towers import gradients
from recs_core.conformance.context import Arrays, BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS, USER, World
from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import History
from recs_core.contract.optimizers import Adagrad, Adam, Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.towers import TowerSpec
from recs_core.reference import training
from recs_core.reference.optimizers import initial_state

BASE = ("towers/layers", "task/in-batch")
WARM = 3  # steps of the oracle before the one that is judged
STEPS = 100

WORLD = World(users=40, corpus=30, queries=6)
"""Batches name some rows of each table and leave others alone."""


def warm_start(world: World, optimizer: Optimizer, dtype: DType) -> tuple[Arrays, Arrays]:
    """Weights and state that the oracle reaches, as a backend of this dtype can hold them."""
    _, weights, state = training.trajectory(world.model, optimizer, world.weights(), world.batches(WARM))
    as_dtype = {name: np.asarray(value, dtype) for name, value in weights.items()}
    return as_dtype, {n: v if n == "step" else np.asarray(v, dtype) for n, v in state.items()}


def full_start(optimizer: Optimizer) -> tuple[Arrays, Arrays]:
    """A warm start in float32 whose slots are nowhere zero, so that a row which should stay cannot move unseen."""
    weights, state = warm_start(WORLD, optimizer, "float32")
    return weights, {name: value if name == "step" else value + np.float32(0.01) for name, value in state.items()}


def one_step(context: BackendContext, optimizer: Optimizer, world: World = WORLD, *, dtype: DType = "float32") -> None:
    """The loss, the new weights and the new state of one step."""
    batch = world.batch(WARM)
    weights, state = warm_start(world, optimizer, dtype)
    expected = training.step(world.model, optimizer, weights, state, batch)
    model, losses, trainer = run(context, optimizer, [batch], world=world, dtype=dtype, weights=weights, state=state)
    expect.close(f"the loss in {dtype}", losses[0], expected.loss, expect.LOSS[dtype])
    expect.all_close(f"the new weights in {dtype}", model.weights(), expected.weights, expect.WEIGHT[dtype])
    expect.all_close(f"the new state in {dtype}", trainer.state(), expected.state, expect.WEIGHT[dtype])


@cache
def expected_trajectory(optimizer: Optimizer) -> tuple[list[float], Arrays, Arrays]:
    """The losses, weights and state of the oracle's hundred steps."""
    return training.trajectory(WORLD.model, optimizer, WORLD.weights(), WORLD.batches(STEPS))


def trajectory(context: BackendContext, optimizer: Optimizer) -> None:
    """The losses of a hundred steps in float64, and the weights after them."""
    losses, weights, state = expected_trajectory(optimizer)
    model, got_losses, trainer = run(context, optimizer, WORLD.batches(STEPS), dtype="float64")
    expect.close("the losses in float64", got_losses, losses, expect.LOSS["float64"])
    expect.all_close("the weights after 100 steps in float64", model.weights(), weights, expect.WEIGHT["float64"])
    expect.all_close("the state after 100 steps in float64", trainer.state(), state, expect.WEIGHT["float64"])


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

    Look at the initial accumulator (0.1 here, as in the state given), at where epsilon stands, and at rows that a batch
    names twice: their gradients are added up before they are squared.
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
    """A step of row-wise Adagrad: one accumulator a row of a table, of shape (rows,).

    Look at mean, not sum, and at dense weights, whose accumulators have the weight's shape.
    """
    one_step(context, OPTIMIZERS["row-wise-adagrad"])


@check(
    "training/lazy-adam-one-step",
    needs=("lazy_adam", "state"),
    rests_on=BASE,
    formula="m, v of touched rows only; w ← w − lr · m̂ / (√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ), one t for all",
)
def lazy_adam_one_step(context: BackendContext) -> None:
    """A step of lazy Adam from a state under way: loss, weights, both slots and the counter.

    Look at epsilon (outside the root, on the corrected v̂), at the counter (global, from 1), and at untouched rows.
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

    Look at rows with a gradient of zero.
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


@check("training/untouched-rows", needs=("adagrad", "lazy_adam"), rests_on=("training/lazy-adam-one-step",))
def untouched_rows(context: BackendContext) -> None:
    """Rows that a batch does not name stay as they are, bit for bit, and so do their slots.

    Look for a decay of slots, a padding row that lands in row 0, or a scatter that rewrites the table.
    """
    batch = WORLD.batch(WARM)
    for name in ("adagrad", "lazy-adam"):
        weights, state = full_start(OPTIMIZERS[name])
        model, _, trainer = run(context, OPTIMIZERS[name], [batch], weights=weights, state=state)
        before, after = {**weights, **state}, {**model.weights(), **trainer.state()}
        for weight, rows in batch.rows.items():
            others = np.setdiff1d(np.arange(len(weights[weight])), rows)
            for key in (weight, *(f"{weight}/{slot}" for slot in OPTIMIZERS[name].slots)):
                expect.same(
                    f"{name}: rows of {key} that the batch does not name", after[key][others], before[key][others]
                )


@check(
    "training/query-step",
    needs=("query_step", "sample_weight", "adagrad", "state"),
    rests_on=("task/several-targets", "task/sample-weight", "towers/shared-table", "training/adagrad-one-step"),
)
def query_step(context: BackendContext) -> None:
    """A step over queries with several weighted targets each, history included, moves weights as the oracle's.

    Look at `target_query`: queries are fewer than targets.
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


def padded(batch: Batch, weights: Mapping[str, NDArray[Any]], extra: int = 3) -> Batch:
    """The batch with `extra` more rows, queries, targets and columns that stand for nothing."""
    rows = {name: np.append(r, np.full(extra, len(weights[name]), np.int32)) for name, r in batch.rows.items()}
    queries, columns, targets = batch.query.size, batch.candidate.size, len(batch.task["target_query"])
    mask = np.zeros((queries + extra, columns + extra), bool)
    mask[:queries, :columns] = True

    def longer(features: Features) -> Features:
        return features.take(np.append(np.arange(features.size), np.zeros(extra, int)))

    zeros = np.zeros(extra, np.int32)
    task: Any = {
        **batch.task,
        "target_query": np.append(batch.task["target_query"], zeros),
        "target_candidate": np.append(batch.task["target_candidate"], zeros),
        "sample_weight": np.append(np.ones(targets), zeros),
        "candidate_ids": np.append(batch.task["candidate_ids"], zeros),
        "score_mask": mask,
    }
    return dataclasses.replace(
        batch, rows=rows, query=longer(batch.query), candidate=longer(batch.candidate), task=task, whole=frozenset()
    )


@check(
    "training/padding",
    needs=("score_mask", "sample_weight", "lazy_adam", "state"),
    rests_on=("training/lazy-adam-one-step", "task/sample-weight", "task/score-mask"),
    applies_to=(lambda info: info.static_shapes, "the manifest does not ask for static shapes, so no batch is padded"),
)
def padding(context: BackendContext) -> None:
    """Padded rows (a number beyond the table), queries, targets of weight 0 and masked columns change nothing.

    Look at scatters that must drop rows out of range, and gathers that must clip them.
    """
    optimizer = OPTIMIZERS["lazy-adam"]
    weights, state = full_start(optimizer)
    batch = WORLD.batch(WARM)
    expected = training.step(WORLD.model, optimizer, weights, state, batch)
    model, losses, trainer = run(context, optimizer, [padded(batch, weights)], weights=weights, state=state)
    expect.close("the loss of the padded batch", losses[0], expected.loss, expect.LOSS["float32"])
    expect.all_close("the new weights", model.weights(), expected.weights, expect.WEIGHT["float32"])
    expect.all_close("the new state", trainer.state(), expected.state, expect.WEIGHT["float32"])


@check("training/deterministic", needs=("lazy_adam",), rests_on=("training/lazy-adam-one-step",))
def deterministic(context: BackendContext) -> None:
    """Two runs from the same weights over the same batches are equal bit for bit.

    Look for a generator of the framework's, for sums in an order that threads decide, for state kept between trainers.
    """
    first, again = (run(context, OPTIMIZERS["lazy-adam"], WORLD.batches(5)) for _ in range(2))
    expect.same("the losses", again[1], first[1])
    for name, weight in first[0].weights().items():
        expect.same(f"{name}", again[0].weights()[name], weight)


@check("training/resume", needs=("lazy_adam", "state"), rests_on=("training/deterministic",))
def resume(context: BackendContext) -> None:
    """Weights and state taken out after three steps and put into a new model go on as if nothing had happened.

    Bit for bit. Look at the counter `step`, and at slots that are made anew at the first step.
    """
    optimizer, batches = OPTIMIZERS["lazy-adam"], WORLD.batches(6)
    whole, losses, _ = run(context, optimizer, batches)
    half, first, trainer = run(context, optimizer, batches[:3])
    rest, second, _ = run(context, optimizer, batches[3:], weights=half.weights(), state=trainer.state())
    expect.same("the losses", first + second, losses)
    for name, weight in whole.weights().items():
        expect.same(f"{name}", rest.weights()[name], weight)


@check(
    "training/adagrad-100-steps",
    needs=("adagrad", "float64", "state"),
    rests_on=("training/adagrad-one-step",),
    formula="100 steps of training/adagrad-one-step in float64",
)
def adagrad_trajectory(context: BackendContext) -> None:
    """A hundred steps of Adagrad: every loss to 1e-9, every weight to 1e-7 (P1).

    One step was right: look at what is kept from step to step, and for float32 on the way.
    """
    trajectory(context, OPTIMIZERS["adagrad"])


@check(
    "training/row-wise-adagrad-100-steps",
    tier="optional",
    needs=("row_wise_adagrad", "float64", "state"),
    rests_on=("training/row-wise-adagrad-one-step",),
)
def row_wise_adagrad_trajectory(context: BackendContext) -> None:
    """A hundred steps of row-wise Adagrad (P1).

    As training/adagrad-100-steps.
    """
    trajectory(context, OPTIMIZERS["row-wise-adagrad"])


@check(
    "training/lazy-adam-100-steps",
    needs=("lazy_adam", "float64", "state"),
    rests_on=("training/lazy-adam-one-step",),
)
def lazy_adam_trajectory(context: BackendContext) -> None:
    """A hundred steps of lazy Adam (P1).

    As training/adagrad-100-steps; look at the counter, which rises by one a step for all weights.
    """
    trajectory(context, OPTIMIZERS["lazy-adam"])


@check(
    "training/dense-adam-100-steps",
    tier="optional",
    needs=("dense_adam", "float64", "state"),
    rests_on=("training/dense-adam-one-step",),
)
def dense_adam_trajectory(context: BackendContext) -> None:
    """A hundred steps of textbook Adam (P1).

    As training/adagrad-100-steps.
    """
    trajectory(context, OPTIMIZERS["dense-adam"])


@check(
    "training/float32-100-steps",
    needs=("lazy_adam", "adagrad"),
    rests_on=("training/lazy-adam-100-steps", "training/adagrad-100-steps"),
)
def float32_trajectory(context: BackendContext) -> None:
    """A hundred float32 steps of the pinned optimizers on a smooth model stay within 1e-5 of the oracle's losses (P3).

    Look at a reduced precision that a device chooses by itself (TF32, bfloat16).
    """
    for name in ("adagrad", "lazy-adam"):
        losses = expected_trajectory(OPTIMIZERS[name])[0]
        _, got, _ = run(context, OPTIMIZERS[name], WORLD.batches(STEPS))
        expect.close(f"the losses of {name}", got, losses, 1e-5)


@check(
    "training/cost-of-rows",
    tier="optional",
    needs=("sparse_rows", "adagrad"),
    rests_on=("training/untouched-rows",),
    formula="time(2²¹ users) − time(50 users) < time to copy a table of 2²¹ rows",
    refusable=False,
)
def cost_of_rows(context: BackendContext) -> None:
    """A step of the same batch takes as long with two million users as with fifty.

    In processor time of this process, the least of ten steps, so that a busy machine does not fail it; the yardstick is
    one copy of the table by NumPy on the same machine. Look for a gradient, an accumulator or a copy that is as large
    as its table.
    """
    users = 2**21
    table = np.ones((users, USER.dim), np.float32)
    one_copy = least(table.copy)
    del table
    few, many = (step_time(context, WORLD.with_(users=number)) for number in (50, users))
    what = "milliseconds that a step of Adagrad takes longer with 2,097,152 users than with 50"
    expect.true(many - few < one_copy, what, f"less than {one_copy * 1e3:.2f}", (many - few) * 1e3)


def step_time(context: BackendContext, world: World) -> float:
    """Seconds of the processor that a step takes at least."""
    trainer = context.trainer(context.model(world), OPTIMIZERS["adagrad"])
    batch = WORLD.batch()
    return least(lambda: number(trainer.step(batch, 0.1)))


def least(call: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes at least, once it is warm."""
    times = []
    for _ in range(12):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times[2:])


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
