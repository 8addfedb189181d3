"""Training: the rows that may move in a step, and what those that a batch does not name may cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.training import WARM, WORLD, run, warm_start
from recs_core.conformance.context import Arrays, BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS, USER, World
from recs_core.contract.batch import Batch, Features
from recs_core.contract.optimizers import Optimizer
from recs_core.reference import training


def full_start(optimizer: Optimizer) -> tuple[Arrays, Arrays]:
    """A warm start in float32 whose slots are nowhere zero, so that a row which should stay cannot move unseen."""
    weights, state = warm_start(WORLD, optimizer, "float32")
    return weights, {name: value if name == "step" else value + np.float32(0.01) for name, value in state.items()}


@check("training/untouched-rows", needs=("adagrad", "lazy_adam"), rests_on=("training/lazy-adam-one-step",))
def untouched_rows(context: BackendContext) -> None:
    """Rows that a batch does not name stay as they are, bit for bit, and so do their slots.

    Look for a gradient or a decay of slots in all rows, however small, a padding row that lands in row 0, or a scatter
    that rewrites the table.
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
