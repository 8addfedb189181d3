"""Weights and state: their names, in and out, refused when wrong; vectors for an index."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.checks.training import WORLD, run
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS, WIDE, World
from recs_core.contract import weights as canonical
from recs_core.contract.errors import DataError
from recs_core.contract.optimizers import Adagrad
from recs_core.reference import scoring, topk, towers
from recs_core.reference import training as reference
from recs_core.reference.optimizers import initial_state

EXTREME = np.array([1e-40, -1e-45, 1e30, -5e3], np.float32)
"""Subnormal and large: what goes in comes out."""
TASK = {"candidate_bias": True, "learn_temperature": True}
BASE = ("towers/categorical",)
LOOP = ("manifest/protocols", "towers/layers")


@check("weights/round-trip", rests_on=BASE)
def round_trip(context: BackendContext) -> None:
    """Weights come out under their canonical names, with the shapes, dtype and bits with which they went in.

    Look at transposes at the border, at names, at a table that two towers share: it has one name; and at numbers that
    are rounded, cut or flushed to 0.
    """
    world = World().with_(**TASK)
    for dtype in context.dtypes:
        given = {name: np.asarray(value, dtype) for name, value in world.weights().items()}
        given["table/user"][1] = EXTREME
        model = context.model(world, dtype, given)
        for _ in range(2):
            got = model.weights()
            expect.same("the names", sorted(got), sorted(given))
            for name, value in given.items():
                expect.same(f"the dtype of {name}", str(got[name].dtype), dtype)
                expect.same(name, got[name], value)
            model.load_weights(got)


@check("weights/copies", rests_on=("weights/round-trip",))
def copies(context: BackendContext) -> None:
    """Weights that come out, and those that went in, are copies: writing to them moves no model, nor training them.

    Look for arrays that share memory with native tensors: those that a model is given, and what `weights()` returns.
    """
    given = WORLD.weights()
    model = context.backend.model(*WORLD.plans, WORLD.retrieval, given)
    taken = model.weights()
    kept = {name: value.copy() for name, value in taken.items()}
    context.trainer(model, OPTIMIZERS["adagrad"]).step(WORLD.batch(), 0.1)
    for name, value in WORLD.weights().items():
        expect.same(f"{name} as given, after a step", given[name], value)
        expect.same(f"{name} as taken out, after a step", taken[name], kept[name])
    after = model.weights()
    for array in model.weights().values():
        array[...] = 7
    for name, value in model.weights().items():
        expect.same(f"{name} after its copy was written to", value, after[name])


@check("weights/load", rests_on=("weights/round-trip", "training/adagrad-one-step"))
def load(context: BackendContext) -> None:
    """`load_weights` replaces every weight: vectors and the next step follow the new ones.

    Look for a kind of weight that is left out, for vectors that are kept, and for a trainer that holds on to old
    tensors.
    """
    world, other = WORLD, WORLD.with_(seed=1)
    model = context.model(world)
    trainer = context.trainer(model, OPTIMIZERS["adagrad"])
    features = world.features("query", 5)
    model.query.embed(features)
    model.load_weights(other.weights())
    expected = towers.embed(world.query, "query", features, other.weights())
    expect.close("the vectors", model.query.embed(features), expected, expect.VECTOR["float32"])
    state = initial_state(OPTIMIZERS["adagrad"], world.weights())
    batch = world.batch()
    result = reference.step(world.model, OPTIMIZERS["adagrad"], other.weights(), state, batch)
    trainer.step(batch, OPTIMIZERS["adagrad"].learning_rate)
    expect.all_close("the weights after a step", model.weights(), result.weights, expect.WEIGHT["float32"])


@check("weights/version", rests_on=("weights/load",))
def version(context: BackendContext) -> None:
    """`Model.version` is equal as long as no weight has moved, and another one after a step and after a load.

    Look at whether a step and a load each move it: answers are made anew when it has moved. Where a framework does not
    count its writes, a digest of the weights such as `recs_core.contract.weights.fingerprint` tells whether there was
    one, also by a loop of the framework's own.
    """
    model = context.model(WORLD)
    trainer = context.trainer(model, OPTIMIZERS["adagrad"])
    first = model.version
    model.query.embed(WORLD.features("query", 5))
    model.weights()
    expect.same("the version after vectors and weights were read", model.version, first)
    trainer.step(WORLD.batch(), 0.1)
    stepped = model.version
    expect.true(stepped != first, "the version after a step", "another one", stepped)
    model.load_weights(WORLD.with_(seed=1).weights())
    loaded = model.version
    expect.true(loaded != stepped, "the version after a load", "another one", stepped)
    model.load_weights({name: np.flip(value) for name, value in model.weights().items()})
    expect.true(model.version != loaded, "the version after a load in reverse order", "another one", loaded)


@check("weights/refusals", rests_on=("weights/round-trip",))
def refusals(context: BackendContext) -> None:
    """A weight that is missing, unknown, of another shape or NaN is a `DataError` that names it, and loads nothing.

    `recs_core.contract.weights.check` does it; look at whether it is called before anything is written.
    """
    world = World().with_(**TASK)
    model, good = context.model(world), world.weights()
    name = "query/dense_0/kernel"
    nan = good[name].copy()
    nan[0, 0] = np.nan
    for what, bad in (
        ("a missing weight", {key: value for key, value in good.items() if key != name}),
        ("another shape", {**good, name: good[name].T}),
        ("NaN", {**good, name: nan}),
    ):
        changed: dict[str, Any] = {key: value + 1 if key != name else value for key, value in bad.items()}
        expect.raises(what, DataError, partial(model.load_weights, changed), says=name)
    expect.raises("an unknown weight", DataError, partial(model.load_weights, {**good, "x": nan}), says="x")
    for key, value in good.items():
        expect.same(f"{key} after loads that were refused", model.weights()[key], value)


@check("weights/state", needs=("state", "adagrad", "lazy_adam"), rests_on=("training/lazy-adam-one-step",))
def state_names(context: BackendContext) -> None:
    """State comes out as `<weight>/<slot>` and `step`, before the first step too, and goes in; wrong ones are refused.

    Look at slots that are made at the first step only, at a step counter that is not int64, and at whether `load_state`
    compares names and shapes first.
    """
    for optimizer in (Adagrad(0.1, initial_accumulator=300.3), OPTIMIZERS["lazy-adam"]):
        trainer = context.trainer(context.model(WORLD), optimizer)
        got = trainer.state()
        expect.all_close("the state before the first step", got, initial_state(optimizer, WORLD.weights()), 1e-7)
        expect.same("the dtype of step", str(np.asarray(got["step"]).dtype), "int64")
        slot = f"table/user/{optimizer.slots[0]}"
        missing = {key: value for key, value in got.items() if key != slot}
        expect.raises("a missing slot", DataError, partial(trainer.load_state, missing), says=slot)
        short = {**got, slot: got[slot][1:]}
        expect.raises("another shape", DataError, partial(trainer.load_state, short), says=slot)
        expect.raises("an unknown slot", DataError, partial(trainer.load_state, {**got, "x": got["step"]}), says="x")
        extreme = np.array(got[slot])
        extreme[1] = np.abs(EXTREME)
        trainer.load_state({**got, slot: extreme})
        expect.same(f"{slot} as it was loaded", trainer.state()[slot], extreme)


@check("weights/top-k", rests_on=("training/adagrad-one-step", "weights/round-trip"), needs=("adagrad",))
def top_k(context: BackendContext) -> None:
    """After training, the vectors give the top 5 of the oracle's from the same weights, up to ties in float32 (P4).

    Look at `embed` after a step: it must see the trained weights.
    """
    model, _, _ = run(context, OPTIMIZERS["adagrad"], WORLD.batches(10))
    weights = model.weights()
    features, corpus = WORLD.features("query", 20), WORLD.candidates()
    sides = {}
    for name, query, candidate in (
        ("got", model.query.embed(features), model.candidate.embed(corpus)),
        (
            "expected",
            towers.embed(WORLD.query, "query", features, weights),
            towers.embed(WORLD.candidate, "candidate", corpus, weights),
        ),
    ):
        x, y = scoring.query_vectors(WORLD.retrieval, query), scoring.candidate_vectors(WORLD.retrieval, candidate)
        sides[name] = (x @ y.T, topk.top_k(x, y, 5))
    scores = sides["expected"][0]
    for row in range(len(scores)):
        mine = scores[row, sides["got"][1].ids[row]]  # what the oracle scores the backend's list
        expect.close(f"the scores of the top 5 of query {row}", mine, sides["expected"][1].scores[row], 4e-6)


@check("weights/native-loop", tier="optional", needs=("native_loop",), rests_on=(*LOOP, "task/in-batch"))
def native_loop(context: BackendContext) -> None:
    """Towers take a batch and the task takes their tensors, so that a loop of the framework's own can train.

    `task(query(batch), candidate(batch), **batch.task)` must be the loss of a step. Look at codes: within a batch they
    count within `rows`.
    """
    for world in (WORLD, WORLD.with_(queries=300, users=400)):
        batch = world.batch()
        model = context.model(world)
        got = number(model.task(model.query(batch), model.candidate(batch), **batch.task))
        expected, _ = reference.gradients(world.model, world.weights(), batch)
        expect.close(f"the loss of {world.queries} rows", got, expected, expect.LOSS["float32"])


@check(
    "weights/canonical-names",
    tier="optional",
    needs=("bag", "text", "history", "numeric"),
    rests_on=("weights/round-trip",),
)
def canonical_names(context: BackendContext) -> None:
    """A model with every kind of feature has the weights that `recs_core.contract.weights.shapes` lists, and no others.

    Look at tables with several uses: each has one name.
    """
    got = context.model(WIDE).weights()
    expected = canonical.shapes(*WIDE.plans, WIDE.retrieval, WIDE.table_rows, WIDE.corpus)
    expect.same("the names", sorted(got), sorted(expected))
    for name, shape in expected.items():
        expect.same(f"the shape of {name}", got[name].shape, shape)
