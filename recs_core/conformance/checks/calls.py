"""Calls in any order, models side by side, and whose an array is once a call has returned."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.task import IDS, oracle, spec_of
from recs_core.conformance.checks.training import WORLD, run
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS, PLAIN, World, batch_of, ragged, task_world
from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.errors import DataError
from recs_core.contract.feature_kinds import Bag, Categorical, Numeric
from recs_core.contract.features import Feature
from recs_core.contract.optimizers import Adam
from recs_core.contract.protocols import Model
from recs_core.contract.towers import TowerSpec
from recs_core.reference import towers, training
from recs_core.reference.optimizers import initial_state


@dataclasses.dataclass(frozen=True)
class Two(Feature):
    """Two numbers per row, of a class that no backend has heard of."""

    @property
    def width(self) -> int:
        return 2


ADAM, RATE = OPTIMIZERS["lazy-adam"], 0.01
WIDER = World(
    query=TowerSpec(
        (Categorical("user", dim=4, num_oov=2), Bag("tags", dim=3), Two("age")), layers=(5, 3), dropout=0.25
    ),
    candidate=TowerSpec((Categorical("item", dim=4),), layers=(3,)),
    batch_by="query",
    users=40,
    corpus=30,
)
"""Codes, several codes and numbers; masks and weights in its batches."""
NUMBERS = World(query=TowerSpec((Numeric("age"),)), candidate=TowerSpec((Categorical("item", dim=1),)))
"""A tower that hands its input on."""
UNSORTED: Any = {
    "target_query": np.array([2, 0, 3, 0, 1], np.int32),
    "target_candidate": np.array([8, 1, 4, 2, 0], np.int32),
    "sample_weight": np.array([0.5, 2.0, 0.0, 1.0, 0.25]),
    "positives": ragged([[6, 3], [], [5], []]),
}
"""Inputs of a task, none of which is sorted."""


def same_shapes(number: int) -> Batch:
    """A batch of six queries and columns, none twice, so that all such batches have equal shapes."""
    random = np.random.default_rng(number)
    users = random.permutation(40)[:6].astype(np.int32)
    items = random.permutation(30)[:6].astype(np.int32)
    candidate = WORLD.candidates().take(items)
    return batch_of(Features(6, {"user": users}), candidate, {**WORLD.batch().task, "candidate_ids": items}, WORLD)


def arrays_of(batch: Batch) -> dict[str, NDArray[Any]]:
    """Every array that a batch holds, by what a program calls it."""
    held: dict[str, Any] = {f"batch.rows[{name!r}]": value for name, value in batch.rows.items()}
    held |= {f"batch.task[{name!r}]": value for name, value in batch.task.items()}
    for side, features in (("query", batch.query), ("candidate", batch.candidate)):
        held |= {f"batch.{side}.codes[{name!r}]": value for name, value in features.codes.items()}
        held |= {f"batch.{side}.dense[{name!r}]": value for name, value in features.dense.items()}
        held[f"batch.{side}.keep"] = features.keep
    return arrays_in({**held, "batch.bias_codes": batch.bias_codes})


def arrays_in(held: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays among these, and both of each `Ragged`."""
    out: dict[str, NDArray[Any]] = {}
    for name, value in held.items():
        parts = {".values": value.values, ".offsets": value.offsets} if isinstance(value, Ragged) else {"": value}
        out |= {name + part: array for part, array in parts.items() if isinstance(array, np.ndarray)}
    return out


def shuffled(batch: Batch) -> Batch:
    """The batch, but its targets stand in another order, so that none of their arrays is sorted by itself."""
    order = np.random.default_rng(3).permutation(len(batch.task["target_query"]))
    task: Any = {**batch.task}
    for name in ("target_query", "target_candidate", "sample_weight"):
        task[name] = task[name][order]
    return dataclasses.replace(batch, task=task)


def unchanged(call: str, now: Mapping[str, NDArray[Any]], before: Mapping[str, NDArray[Any]]) -> None:
    """What was handed to a call is as it was before."""
    expect.same(f"the arrays handed over, after {call}", list(now), list(before))
    for name, array in now.items():
        expect.same(f"{name} after {call}", array, before[name])


@check(
    "calls/each-anew",
    needs=("lazy_adam", "state"),
    rests_on=("training/lazy-adam-one-step", "weights/top-k"),
)
def each_anew(context: BackendContext) -> None:
    """Vectors before and after a step of the same features, steps over two batches of equal shapes, and one of them
    twice: each call counts what is there now.

    Look for what is kept by shape or by object: vectors, plans, tensors of a batch.
    """
    features = WORLD.features("query", 5)
    model = context.model(WORLD)
    trainer = context.trainer(model, ADAM)
    weights: Any = WORLD.weights()
    state = initial_state(ADAM, weights)
    one, other = same_shapes(0), same_shapes(1)
    for batch in (one, other, one, one):
        expected = training.step(WORLD.model, ADAM, weights, state, batch)
        due = towers.embed(WORLD.query, "query", features, weights)
        expect.close("the vectors before a step", model.query.embed(features), due, 4 * expect.VECTOR["float32"])
        expect.close("the loss", number(trainer.step(batch, RATE)), expected.loss, expect.LOSS["float32"])
        weights, state = expected.weights, expected.state
        expect.all_close("the weights", model.weights(), weights, 4 * expect.WEIGHT["float32"])
    due = towers.embed(WORLD.query, "query", features, weights)
    expect.close("the vectors after the steps", model.query.embed(features), due, 4 * expect.VECTOR["float32"])


@check("calls/task-anew", needs=("candidate_bias",), rests_on=("task/in-batch", "task/candidate-bias"))
def task_anew(context: BackendContext) -> None:
    """A task is called with other vectors of the same shapes, and with the first ones again; its weights are its own.

    Look for what is kept by shape, and for an array of the caller's that is kept as it is.
    """
    given = context.backend.task(PLAIN)
    for seed in (0, 1, 0):
        world = task_world(PLAIN, seed=seed)
        got = number(given(world.query, world.candidate, **world.inputs))
        expect.close(f"the loss of the vectors of seed {seed}", got, oracle(world).loss, expect.LOSS["float32"])
    world = task_world(spec_of(candidate_bias=True))
    weights = world.task_weights
    given = context.backend.task(world.spec, weights=weights)
    weights["task/bias"][...] = 9
    other_ids: Any = {**world.inputs, "candidate_ids": np.flip(world.inputs["candidate_ids"]).copy()}
    turned = dataclasses.replace(world, bias=np.asarray(world.bias)[::-1], inputs=other_ids)
    for case, what in ((world, "its bias written to"), (turned, "its candidates' ids in another order")):
        got = number(given(case.query, case.candidate, **case.inputs))
        expect.close(f"the loss, {what}", got, oracle(case).loss, expect.LOSS["float32"])


@check("calls/two-at-once", needs=("lazy_adam", "state"), rests_on=("calls/each-anew", "training/deterministic"))
def two_at_once(context: BackendContext) -> None:
    """Two models of equal shapes, each with a trainer, step in turn: bit for bit as alone. A second trainer of one of
    them is of its own settings.

    Look for weights, slots, settings or compiled functions that are found again by shape.
    """
    worlds = (WORLD, WORLD.with_(seed=1))
    alone = [run(context, ADAM, world.batches(3), world=world) for world in worlds]
    models = [context.model(world) for world in worlds]
    trainers = [context.trainer(model, ADAM) for model in models]
    losses = [
        [number(trainer.step(world.batch(i), RATE)) for trainer, world in zip(trainers, worlds, strict=True)]
        for i in range(3)
    ]
    for at, (model, its_losses, trainer) in enumerate(alone):
        expect.same(f"the losses of model {at}", [row[at] for row in losses], its_losses)
        got = {**models[at].weights(), **trainers[at].state()}
        for name, value in {**model.weights(), **trainer.state()}.items():
            expect.same(f"{name} of model {at}", got[name], value)
    other, weights, batch = Adam(RATE, beta_1=0.5), models[0].weights(), WORLD.batch()
    expected = training.step(WORLD.model, other, weights, initial_state(other, weights), batch, learning_rate=RATE)
    second = context.trainer(models[0], other)
    second.step(batch, RATE)
    expect.all_close("the state of a second trainer, of other betas", second.state(), expected.state, 1e-5)


@check(
    "calls/after-refusals",
    needs=("lazy_adam", "state"),
    rests_on=(
        "weights/refusals", "weights/copies", "weights/state", "weights/version", "training/resume",
        "calls/two-at-once",
    ),
)  # fmt: skip
def after_refusals(context: BackendContext) -> None:
    """A load that is refused changes nothing: neither weights, state, version nor the steps that follow. One that is
    not replaces all, also after steps.

    Check everything before the first write, and look for a trainer that is let go.
    """
    model, _, trainer = run(context, ADAM, WORLD.batches(2))
    before = {**model.weights(), **trainer.state()}
    weights, state, version = model.weights(), trainer.state(), model.version
    last = sorted(name for name in state if name != "step")[-1]
    wrong = {name: value + 1 if name != last else value[:-1] for name, value in state.items()}
    expect.raises("a state with one wrong shape", DataError, partial(trainer.load_state, wrong), says=last)
    name = sorted(weights)[-1]
    bad = {key: value + 1 if key != name else value[:-1] for key, value in weights.items()}
    expect.raises("weights with one wrong shape", DataError, partial(model.load_weights, bad), says=name)
    for key, value in {**model.weights(), **trainer.state()}.items():
        expect.same(f"{key} after loads that were refused", value, before[key])
    expect.same("the version after loads that were refused", model.version, version)
    _, losses, _ = run(context, ADAM, WORLD.batches(4))
    got = [number(trainer.step(batch, RATE)) for batch in WORLD.batches(4)[2:]]
    expect.same("the losses of the steps that follow", got, losses[2:])
    after = {**model.weights(), **trainer.state()}
    for _ in range(2):  # the same dictionaries once more
        model.load_weights(weights)
        trainer.load_state(state)
        again = [number(trainer.step(batch, RATE)) for batch in WORLD.batches(4)[2:]]
        expect.same("the losses after weights and state are put back", again, got)
    for key, value in {**model.weights(), **trainer.state()}.items():
        expect.same(f"{key} after that", value, after[key])


@check("calls/versions", needs=("lazy_adam",), rests_on=("weights/version",))
def versions(context: BackendContext) -> None:
    """`Model.version` never comes back to what it was for other weights.

    Look for a count that a load sets or that goes both ways.
    """
    model = context.model(WORLD)
    trainer = context.trainer(model, ADAM)
    seen = [model.version]
    for i in range(4):
        trainer.step(WORLD.batch(i), RATE)
        seen.append(model.version)
        model.load_weights(WORLD.with_(seed=i + 1).weights())
        seen.append(model.version)
    expect.same("the number of versions of as many weights", len(set(seen)), len(seen))


@check(
    "calls/arrays-of-the-caller",
    needs=(
        "bag", "numeric", "dropout", "several_targets", "sample_weight", "candidate_bias", "mask_positives",
        "lazy_adam", "state",
    ),
    rests_on=(
        "weights/copies", "training/deterministic", "training/several-targets", "towers/bag-mean", "towers/numeric",
        "towers/keep-is-for-steps",
    ),
)  # fmt: skip
def arrays_of_the_caller(context: BackendContext) -> None:
    """What is handed to a call stays as it is, and may be written to once the call has returned; what comes out is the
    caller's: the next call does not write to it, and writing to it changes no model.

    Look for a batch that is sorted, cut or padded where it lies, for tensors that share a NumPy array's memory, for
    buffers that are used again, and for `state()` without copies.
    """
    quiet, losses, its_trainer = run(context, ADAM, [shuffled(batch) for batch in WIDER.batches(3)], world=WIDER)
    given: Any = WIDER.weights()
    model = context.backend.model(*WIDER.plans, WIDER.retrieval, given)
    trainer = context.trainer(model, ADAM)
    state = trainer.state()
    trainer.load_state(state)
    loaded = WIDER.weights()
    model.load_weights(loaded)
    for array in (*given.values(), *state.values(), *loaded.values()):
        array[...] = 9
    features = WIDER.features("query", 5)
    due = towers.embed(WIDER.query, "query", features, WIDER.weights())
    expect.close("the vectors, weights given written to", model.query.embed(features), due, expect.VECTOR["float32"])
    got_losses = []
    for batch in [shuffled(batch) for batch in WIDER.batches(3)]:
        kept, taken = copy.deepcopy(arrays_of(batch)), trainer.state()
        before_step = copy.deepcopy(taken)
        loss = trainer.step(batch, RATE)
        unchanged("a step", arrays_of(batch), kept)
        expect.all_close("state that was taken out before a step", taken, before_step, 0)
        for array in arrays_of(batch).values():
            array[...] = 0
        got_losses.append(number(loss))
        for array in trainer.state().values():
            array[...] = 9
    expect.same("the losses", got_losses, losses)
    got = {**model.weights(), **trainer.state()}
    for name, value in {**quiet.weights(), **its_trainer.state()}.items():
        expect.same(name, got[name], value)
    _task_leaves_its_inputs(context)
    _vectors_are_the_callers(context, model)


def _task_leaves_its_inputs(context: BackendContext) -> None:
    scoring = "cosine" if context.has("cosine") else "dot"
    spec = spec_of(candidate_bias=True, mask_positives=True, scoring=scoring)
    world = task_world(spec, queries=4, candidate_ids=IDS, **UNSORTED)
    inputs: Any = {"query": world.query, "candidate": world.candidate, **world.inputs}
    before_call = copy.deepcopy(arrays_in(inputs))
    number(context.backend.task(world.spec, weights=world.task_weights)(**inputs))
    unchanged("the task was called", arrays_in(inputs), before_call)


def _vectors_are_the_callers(context: BackendContext, model: Model) -> None:
    features, other = WIDER.features("query", 5), WIDER.features("query", 5, "others")
    first = model.query.embed(features)
    kept_first = first.copy()
    model.query.embed(other)
    expect.same("vectors after others were asked for", first, kept_first)
    np.asarray(first)[...] = 7
    expect.same("vectors after those before were written to", model.query.embed(features), kept_first)
    ages = NUMBERS.features("query", 5)
    kept_ages = ages.dense["age"].copy()
    context.model(NUMBERS).query.embed(ages)[...] = 7
    expect.same("numbers, after their vectors were written to", ages.dense["age"], kept_ages)


@check(
    "calls/memory-layout",
    needs=("bag", "numeric", "lazy_adam", "state"),
    rests_on=(
        "weights/copies", "weights/state", "towers/bag-mean", "towers/feature-order", "towers/relu", "task/in-batch",
    ),
)  # fmt: skip
def memory_layout(context: BackendContext) -> None:
    """Weights, state, vectors and numbers in Fortran's order, strided or read-only are read as any others.

    Look for a buffer that is taken for C's order.
    """

    def odd(array: NDArray[Any], turn: int) -> NDArray[Any]:
        """The same numbers, laid out otherwise."""
        if not array.ndim:
            array = array.copy()
        elif turn:
            array = array.copy(order="F")
        else:
            array = np.repeat(array, 2, axis=-1)[..., ::2]
        array.flags.writeable = False
        return array

    weights, state = WIDER.weights(), initial_state(ADAM, WIDER.weights())
    for turn in (0, 1):
        laid: Any = {name: odd(value, turn) for name, value in weights.items()}
        model = context.backend.model(*WIDER.plans, WIDER.retrieval, laid)
        trainer = context.trainer(model, ADAM)
        filled = {name: np.asarray(np.arange(v.size).reshape(v.shape), v.dtype) for name, v in state.items()}
        trainer.load_state({name: odd(np.asarray(value), turn) for name, value in filled.items()})
        expect.all_close("the state", trainer.state(), filled, 1e-6)
        for name, value in model.weights().items():
            expect.same(name, value, weights[name])
        model.load_weights(laid)
        for name, value in model.weights().items():
            expect.same(f"{name}, loaded", value, weights[name])
        features = WIDER.features("query", 5)
        turned = Features(5, features.codes, {name: odd(v, turn) for name, v in features.dense.items()})
        expected = towers.embed(WIDER.query, "query", features, weights)
        expect.close("the vectors", model.query.embed(turned), expected, 4 * expect.VECTOR["float32"])
        world = task_world(PLAIN)
        loss = number(context.backend.task(PLAIN)(odd(world.query, turn), odd(world.candidate, turn), **world.inputs))
        expect.close("the loss of the task", loss, oracle(world).loss, expect.LOSS["float32"])
