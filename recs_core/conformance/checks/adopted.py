"""A user's own native module as a tower: the same vectors, trained as a declared one. Here it is the backend's own."""

from __future__ import annotations

import dataclasses

from recs_core.conformance import expect
from recs_core.conformance.checks.training import WORLD
from recs_core.conformance.checks.weights import LOOP
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import USER
from recs_core.contract.batch import Batch
from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.optimizers import SGD
from recs_core.contract.plans import TowerPlan
from recs_core.contract.towers import TowerSpec
from recs_core.reference import towers, training

BY_GRADIENT_ALONE = SGD(0.1)
"""A row without a gradient stays, so that it makes no difference whether a step moves rows or whole tables."""

BESIDE_HISTORY = WORLD.with_(
    query=TowerSpec((USER, History("item", dim=4)), layers=(3,), activation="tanh", final_activation="tanh"),
    candidate=TowerSpec((Categorical("item", dim=4, table="own"),), layers=(3,), activation="tanh"),
    corpus=30,
)
"""The candidate tower, adopted, reads a column whose name the query tower's table has."""


def as_adopted(batch: Batch) -> Batch:
    """The batch as it comes to an adopted candidate tower: its codes are rows of whole tables."""
    rows = {name: rows for name, rows in batch.rows.items() if name != "table/own"}
    whole = training.on_whole_tables(BESIDE_HISTORY.candidate, batch.candidate, batch, BESIDE_HISTORY.weights())
    return dataclasses.replace(batch, rows=rows, candidate=whole)


@check("weights/adopt", tier="optional", needs=("adopt",), rests_on=LOOP)
def adopt(context: BackendContext) -> None:
    """A native module, here the backend's own, is adopted as a tower with the same vectors.

    It takes one feature positionally. Look at `Tower.native`: it must be callable by itself.
    """
    features, others = WORLD.features("query", 2**15 + 9), WORLD.features("query", 2**15 + 9, "others")
    native = context.model(WORLD).query.native
    tower = context.backend.adopt(native, ["user"], output_dim=WORLD.query.output_dim)
    expect.same("output_dim", tower.output_dim, WORLD.query.output_dim)
    expected = towers.embed(WORLD.query, "query", features, WORLD.weights())
    got = tower.embed(features)
    tower.embed(others)
    expect.close("the vectors, others asked for since", got, expected, expect.VECTOR["float32"])


@check(
    "training/adopted-step",
    tier="optional",
    needs=("adopt",),
    rests_on=(
        "weights/adopt", "weights/top-k", "towers/shared-table", "training/sgd-one-step", "training/deterministic",
    ),
    formula="w ← w − lr · g for every weight of the module",
)  # fmt: skip
def adopted_step(context: BackendContext) -> None:
    """Steps move an adopted module's weights, and the declared tower beside it, as the oracle moves two declared ones.

    Codes of its features are rows of whole tables, and the batch names no rows of those. Look at codes that are mapped
    a second time, at a module that is copied when it is adopted, and at weights that the trainer does not find.
    """
    world, dtype = BESIDE_HISTORY, context.finest
    batches, start = world.batches(20), world.weights()
    losses, weights, _ = training.trajectory(world.model, BY_GRADIENT_ALONE, start, batches)
    native = context.model(world, dtype).candidate.native
    candidate = context.backend.adopt(native, ["item"], output_dim=world.candidate.output_dim)
    own = {name: w.astype(dtype) for name, w in start.items() if not name.startswith(("table/own", "candidate/"))}
    model = context.backend.model(TowerPlan.of("query", world.query), candidate, world.retrieval, own, dtype=dtype)
    trainer = context.trainer(model, BY_GRADIENT_ALONE)
    got = [number(trainer.step(as_adopted(batch), BY_GRADIENT_ALONE.learning_rate)) for batch in batches]
    expect.close(f"the losses in {dtype}", got, losses, expect.LOSS[dtype])
    for side, tower, spec in (("query", model.query, world.query), ("candidate", model.candidate, world.candidate)):
        features = world.features(side, 9)
        vectors = towers.embed(spec, side, features, weights)
        expect.close(f"{side} vectors after 20 steps", tower.embed(features), vectors, expect.VECTOR[dtype])
