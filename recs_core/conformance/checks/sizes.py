"""Sizes: what breaks only at the edge of a block, or beyond the width of an integer. Few worlds, large in all ways."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.checks.task import judge, oracle, spec_of
from recs_core.conformance.checks.task_values import scaled
from recs_core.conformance.checks.towers import embed, gradients
from recs_core.conformance.checks.training import run
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS, PLAIN, TaskWorld, World, batch_of, task_world
from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.feature_kinds import Bag, Categorical, History
from recs_core.contract.plans import TowerPlan
from recs_core.contract.towers import TowerSpec
from recs_core.reference import training

ROWS = 2**16 + 300
"""Users, candidates and tags: rows of a table beyond 8, 15 and 16 bits."""
LENGTHS = {0: 0, 1: 129, 2: 300, 3: 2**15 + 9, 298: 257, 299: 0}
"""Query of a batch of 300 → codes in its bag and its history; the others have up to 20."""

LARGE = World(
    query=TowerSpec(
        (Categorical("user", dim=6, num_oov=2), Bag("tags", dim=5), History("item", dim=6)),
        layers=(17, 17, 300, 17, 17),
        activation="tanh",
        final_activation="sigmoid",
    ),
    candidate=TowerSpec((Categorical("item", dim=6),), layers=(17,), final_activation="tanh"),
    queries=300,
    corpus=ROWS,
    users=ROWS,
).with_(candidate_bias=True)
"""Square kernels, five layers, long bags, tables that a batch touches a little of."""


def large_features() -> Features:
    """Queries whose bags and histories have 0, 1 … 32,777 codes, of the last rows of a table too."""
    random = np.random.default_rng(5)
    lengths = random.integers(0, 21, LARGE.queries)
    lengths[list(LENGTHS)] = list(LENGTHS.values())
    plain = LARGE.features("query", LARGE.queries)

    def codes(table: str) -> Ragged:
        rows = LARGE.table_rows[table]
        values = random.integers(0, rows, int(lengths.sum())).astype(np.int32)
        values[-3:] = rows - 1
        return Ragged.from_lengths(values, lengths)

    users = np.array(plain.codes["user"])
    users[-2:] = LARGE.table_rows["table/user"] - 1
    return Features(LARGE.queries, {"user": users, "tags": codes("table/tags"), "item": codes("table/item")})


def large_batch() -> Batch:
    """A batch of `LARGE`: 300 queries, each with a target of its own, as columns; the last candidates among them."""
    ids = np.random.default_rng(7).permutation(ROWS)[: LARGE.queries].astype(np.int32)
    ids[-2:] = ROWS - 1
    task: Any = {**LARGE.batch().task, "candidate_ids": ids}
    return batch_of(large_features(), LARGE.candidates().take(ids), task, LARGE, bias_rows=ids)


@check(
    "towers/large",
    needs=("bag", "history"),
    rests_on=("towers/bag-mean", "towers/empty-bag", "towers/shared-table", "towers/tanh", "towers/final-activation"),
)
def large_towers(context: BackendContext) -> None:
    """300 rows, bags and histories of up to 32,777 codes, tables of 65,836 rows, layers of 17 × 17 and 300: vectors.

    Look at codes, offsets or lengths in 8 or 16 bits, at blocks of rows, and at a square kernel that is transposed.
    """
    embed(context, LARGE, large_features(), dtypes=context.dtypes)


@check("towers/codes-beyond-2-24", rests_on=("towers/oov",), formula="2²⁴ + 1 is no float32")
def large_codes(context: BackendContext) -> None:
    """A table of 2²⁴ + 4 rows: neighbouring codes at its end name rows of their own.

    Look for codes that go through a float32.
    """
    rows = 2**24 + 4
    plans = (
        TowerPlan.of("query", TowerSpec((Categorical("user", dim=1),))),
        TowerPlan.of("candidate", TowerSpec((Categorical("item", dim=1),))),
    )
    table = (np.arange(rows, dtype=np.int32) % 1000).astype(np.float32)[:, None]
    weights = {"table/user": table, "table/item": np.zeros((2, 1), np.float32)}
    codes = np.arange(2**24 - 2, rows, dtype=np.int32)
    got = context.backend.model(*plans, PLAIN, weights).query.embed(Features(len(codes), {"user": codes}))
    expect.same("the rows at the end", got, table[codes])


@check("training/large-gradients", needs=("bag", "history"), rests_on=("towers/large",))
def large_gradients(context: BackendContext) -> None:
    """The gradient of every weight over the batch of towers/large: rows that many codes name, kernels that are square.

    Look at blocks of rows, at row numbers in 16 bits, and at sums in which small terms are lost.
    """
    gradients(context, LARGE, large_batch())


@check(
    "training/large",
    needs=("bag", "history", "lazy_adam", "state"),
    rests_on=("training/large-gradients", "training/lazy-adam-one-step", "training/untouched-rows"),
)
def large_step(context: BackendContext) -> None:
    """A step over the batch of towers/large, between two of its first query alone: weights and state of every row.

    Look at what is kept for the size of a first batch, and at row numbers of slots in 16 bits.
    """
    optimizer, large = OPTIMIZERS["lazy-adam"], large_batch()
    batches, weights = [LARGE.with_(queries=1).batch(), large, LARGE.with_(queries=1).batch(1)], LARGE.weights()
    losses, expected, state = training.trajectory(LARGE.model, optimizer, weights, batches)
    model, got, trainer = run(context, optimizer, batches, world=LARGE, dtype=context.finest)
    expect.close("the losses", got, losses, expect.LOSS[context.finest])
    expect.all_close("the weights", model.weights(), expected, expect.WEIGHT[context.finest])
    expect.all_close("the state", trainer.state(), state, expect.WEIGHT[context.finest])


def large_by_interaction() -> TaskWorld:
    """1,030 targets and 70 columns more, with accidental hits: more than a block of up to 1,024 holds, and ids that 16
    bits do not tell apart."""
    random = np.random.default_rng(6)
    ids = (2**16 * random.integers(0, 2, 1100) + random.integers(0, 275, 1100)).astype(np.int32)
    spec = spec_of(logq=True, remove_accidental_hits=True, candidate_bias=True)
    q = random.random(1100) * 1e-3
    world = task_world(spec, queries=1030, columns=1100, dim=130, candidate_ids=ids, candidate_sampling_probability=q)
    return scaled(world, 0.25)


def large_by_query() -> TaskWorld:
    """1,030 queries of one or two targets each, against a corpus of 1,100."""
    random = np.random.default_rng(6)
    queries = np.repeat(np.arange(1030), random.integers(1, 3, 1030)).astype(np.int32)
    return task_world(
        spec_of(negatives="corpus", scoring="cosine", temperature=0.2),
        queries=1030,
        columns=1100,
        dim=260,
        target_query=queries,
        target_candidate=random.integers(0, 1100, len(queries)).astype(np.int32),
        sample_weight=random.random(len(queries)),
    )


@check(
    "task/large",
    needs=("cosine", "corpus", "several_targets", "sample_weight", "logq", "remove_accidental_hits", "candidate_bias"),
    rests_on=(
        "task/cosine", "task/many-targets", "task/logq-correction", "task/accidental-hits-beyond-the-batch",
        "task/candidate-bias",
    ),
)  # fmt: skip
def large_task(context: BackendContext) -> None:
    """1,030 rows × 1,100 columns, by interaction with accidental hits and by query: loss and gradients.

    Look at the edges of blocks, of rows and of columns, and at ids in 16 bits.
    """
    judge(context, large_by_interaction())
    judge(context, large_by_query())


@check("task/long", rests_on=("task/large",), formula="11,000 times the same six targets: the same loss")
def long_task(context: BackendContext) -> None:
    """66,000 targets of 9 columns, six and six alike, and 6 targets of 32,777 columns: loss and gradients.

    Look at numbers of rows and columns in 16 bits.
    """
    times, dtype = 11_000, context.finest
    judge(context, task_world(PLAIN, columns=2**15 + 9, dim=3))
    few = task_world(spec_of(scoring="cosine") if context.has("cosine") else PLAIN)
    inputs: Any = {
        **few.inputs,
        "target_query": np.arange(6 * times, dtype=np.int32),
        "target_candidate": np.tile(few.inputs["target_candidate"], times),
    }
    many = dataclasses.replace(few, query=np.tile(few.query, (times, 1)), inputs=inputs)
    loss, gradients = context.loss_and_gradients(many, many.batch(), dtype)
    expected = oracle(few)
    expect.close("the loss", loss, expected.loss, expect.LOSS[dtype])
    by_query = np.tile(expected.query / times, (times, 1))
    expect.rows_close("the gradient of each query", gradients["table/q"][1:], by_query, expect.GRADIENT[dtype])
    expect.rows_close(
        "the gradient of each candidate", gradients["table/c"][1:], expected.candidate, expect.GRADIENT[dtype]
    )


@check(
    "training/long-gradients",
    rests_on=("task/long", "towers/tanh"),
    formula="110 times the same batch: the same gradients",
)
def long_gradients(context: BackendContext) -> None:
    """A batch of 66,000 queries over 9 candidates, 600 and 600 alike: the gradient of every weight.

    Look at blocks of rows, and at numbers of rows in 16 bits.
    """
    world = World(corpus=9, users=300)
    gradients(context, world, _tiled(world, 110), counted=_tiled(world, 1))


def _tiled(world: World, times: int) -> Batch:
    """600 queries, so many times, over all candidates."""
    targets = np.arange(600 * times, dtype=np.int32)
    codes = np.arange(world.corpus, dtype=np.int32)
    task: Any = {"target_query": targets, "target_candidate": targets % 600 % world.corpus, "candidate_ids": codes}
    return batch_of(world.features("query", 600).take(targets % 600), world.candidates(), task, world)


@check("task/one-beside-many", rests_on=("task/large", "task/one-target"))
def one_beside_many(context: BackendContext) -> None:
    """A task that has seen a large batch has the loss of a batch of one right, and the other way round.

    Look at buffers that are kept from call to call.
    """
    large, one = task_world(PLAIN, queries=130, columns=200), task_world(PLAIN, queries=1, columns=3)
    task = context.backend.task(PLAIN)
    for world in (one, large, one, large):
        got = number(task(world.query, world.candidate, **world.inputs))
        expect.close(f"the loss of {len(world.query)}", got, oracle(world).loss, expect.LOSS["float32"])
