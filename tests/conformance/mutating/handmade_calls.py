"""Backends with one fault in the order of calls, in whose arrays they keep, in types, or in two options at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recs_core.contract.batch import Ragged
from recs_core.contract.manifest import No

from .handmade import Handmade, maker
from .subjects import Modules

HANDMADE: list[Handmade] = []
by_hand = maker(HANDMADE)
MEMORY: dict[Any, Any] = {}
"""What a mutant remembers: each lives in a process of its own."""


# Order of calls


@by_hand("stale", "example", "towers.py:Tower.embed", "the vectors that these features had at first")
def _(original, self, features):
    return MEMORY.setdefault((id(self), id(features)), (original(self, features), self, features))[0].copy()


@by_hand("stale", "example", "trainer.py:Trainer.step", "vectors asked for before a step are not made anew after it")
def _(original, self, batch, learning_rate):
    loss = original(self, batch, learning_rate)
    for tower in (self.model.query, self.model.candidate):
        if id(tower) not in MEMORY:
            MEMORY[id(tower)] = tower
            embed, held = tower.embed, {}
            tower.embed = lambda features, embed=embed, held=held: held.setdefault(
                id(features), (embed(features), features)
            )[0].copy()
    return loss


@by_hand("stale", "example", "towers.py:Tower.embed", "vectors of features that were asked for before")
def _(original, self, features):
    codes = tuple(np.concatenate([v.values, v.offsets]).tobytes() if isinstance(v, Ragged) else v.tobytes()
                  for v in (*features.codes.values(), *features.dense.values()))  # fmt: skip
    return MEMORY.setdefault((id(self), codes), original(self, features)).copy()


@by_hand(
    "stale", "example", "model.py:Model.load_weights", "a load that is refused leaves the trainer without its model"
)
def _(original, self, weights):
    try:
        original(self, weights)
    except Exception:
        self.own = {name: value.copy() for name, value in self.own.items()}
        raise


@by_hand("stale", "example", "model.py:Model.load_weights", "a load that is refused moves the version")
def _(original, self, weights):
    try:
        original(self, weights)
    except Exception:
        self.version += 1
        raise


@by_hand("stale", "example", "trainer.py:Trainer.load_state", "a load that is refused sets the slots to 0")
def _(original, self, state):
    try:
        original(self, state)
    except Exception:
        for array in self.own.values():
            array[...] = 0
        raise


@by_hand("stale", "example", "trainer.py:Trainer.load_state", "a load that is refused half way keeps the half")
def _(original, self, state):
    for name, array in self.own.items():
        if name in state and np.shape(state[name]) == array.shape:
            array[...] = state[name]
    original(self, state)


@by_hand("stale", "example", "model.py:Model.load_weights", "the first load alone counts the version")
def _(original, self, weights):
    version = self.version
    original(self, weights)
    self.version = version + (not MEMORY.get(id(self)))
    MEMORY[id(self)] = self


@by_hand(
    "stale", "example", "trainer.py:Trainer.load_state", "the step count is not loaded by a trainer that has stepped"
)
def _(original, self, state):
    step = int(self.own["step"])
    original(self, state)
    if step:
        self.own["step"][...] = step


@by_hand("stale", "example", "trainer.py:Trainer.step", "the rate of the first step")
def _(original, self, batch, learning_rate):
    return original(self, batch, MEMORY.setdefault(id(self), (learning_rate, self))[0])


@by_hand("stale", "example", "trainer.py:Trainer.step", "the loss is that of the step before")
def _(original, self, batch, learning_rate):
    loss = original(self, batch, learning_rate)
    before, MEMORY[id(self)] = MEMORY.get(id(self), loss), loss
    return before


@by_hand("stale", "example", "task.py:RetrievalTask.__init__", "the temperature is that of the first load")
def _(original, self, spec, weights, dtype):
    original(self, spec, weights, dtype)
    self.log_temperature = self.log_temperature.copy()


# Aliasing: whose arrays


@by_hand("alias", "example", "trainer.py:Trainer.state", "the slots themselves, only `step` a copy")
def _(original, self):
    return {name: array.copy() if name == "step" else array for name, array in self.own.items()}


@by_hand("alias", "example", "trainer.py:Trainer.state", "`step` itself")
def _(original, self):
    return original(self) | {"step": self.own["step"]}


@by_hand("alias", "example", "trainer.py:Trainer.load_state", "slots that are given are kept where the type fits")
def _(original, self, state):
    original(self, state)
    for name, slots in self.slots.items():
        for slot, array in slots.items():
            given = state[f"{name}/{slot}"]
            if isinstance(given, np.ndarray) and given.dtype == array.dtype:
                slots[slot] = self.own[f"{name}/{slot}"] = given


@by_hand("alias", "example", "model.py:Model.load_weights", "weights that are given are kept where the type fits")
def _(original, self, weights):
    original(self, weights)
    for name, value in weights.items():
        if isinstance(value, np.ndarray) and value.dtype == self.own[name].dtype and value.flags.writeable:
            self.own[name] = value


@by_hand(
    "alias", "example", "model.py:Model.load_weights", "weights that are given are read once more at the next call"
)
def _(original, self, weights):
    original(self, weights)
    embed = type(self.query).embed

    def late(features, tower):
        given = MEMORY.pop(id(self), None)
        for name, value in (given or {}).items():
            self.own[name][...] = value
        return embed(tower, features)

    MEMORY[id(self)] = weights
    for tower in (self.query, self.candidate):
        tower.embed = lambda features, tower=tower: late(features, tower)


@by_hand("alias", "example", "trainer.py:Trainer.step", "the batch's weights of targets are made to sum to 1 in place")
def _(original, self, batch, learning_rate):
    loss = original(self, batch, learning_rate)
    weight = batch.task.get("sample_weight")
    if weight is not None and np.sum(weight) > 0:
        weight /= np.sum(weight) * 2
    return loss


@by_hand("alias", "example", "trainer.py:Trainer.step", "the batch's rows are sorted in place")
def _(original, self, batch, learning_rate):
    loss = original(self, batch, learning_rate)
    for rows in batch.rows.values():
        rows[...] = np.sort(rows)[::-1]
    return loss


@by_hand("alias", "example", "trainer.py:Trainer.step", "the batch's codes are overwritten")
def _(original, self, batch, learning_rate):
    loss = original(self, batch, learning_rate)
    for side in (batch.query, batch.candidate):
        for codes in side.codes.values():
            (codes.values if isinstance(codes, Ragged) else codes)[...] = 0
    return loss


@by_hand("alias", "example", "trainer.py:Trainer.step", "dropout is undone in the batch")
def _(original, self, batch, learning_rate):
    loss = original(self, batch, learning_rate)
    for side in (batch.query, batch.candidate):
        if side.keep is not None:
            side.keep[...] = 1
    return loss


@by_hand("alias", "example", "task.py:RetrievalTask.__call__", "the embeddings are divided by their length in place")
def _(original, self, query, candidate, **inputs):
    loss = original(self, query, candidate, **inputs)
    if self.spec.scoring == "cosine":
        for vectors in (query, candidate):
            np.divide(vectors, np.sqrt((vectors**2).sum(axis=1, keepdims=True) + 1e-12), out=vectors)
    return loss


@by_hand("alias", "example", "towers.py:Tower.embed", "the same array, written over by the next call")
def _(original, self, features):
    vectors = original(self, features)
    held = MEMORY.setdefault((id(self), vectors.shape), np.empty_like(vectors))
    held[...] = vectors
    return held


@by_hand("alias", "example", "towers.py:Tower.embed", "the caller's numbers, where a tower is one of numbers alone")
def _(original, self, features):
    numbers = list(features.dense.values())
    return numbers[0] if len(numbers) == 1 and not features.codes and not self.plan.layers else original(self, features)


@by_hand("alias", "example", "backend.py:Backend.task", "the task keeps the weights it is given")
def _(original, self, spec, *, weights=None, dtype="float32"):
    made = original(self, spec, weights=weights, dtype=dtype)
    for name, value in (weights or {}).items():
        if isinstance(value, np.ndarray) and value.dtype == dtype:
            made.weights[name] = value
    return made


# Types


@by_hand("narrow", "example", "backend.py:Backend.task", "a task of float64 counts in float32")
def _(original, self, spec, *, weights=None, dtype="float32"):
    return original(self, spec, weights=weights, dtype="float32")


@by_hand("narrow", "example", "towers.py:Tower.embed", "vectors of float64 by way of float32")
def _(original, self, features):
    vectors = original(self, features)
    return vectors.astype(np.float32).astype(vectors.dtype)


@by_hand("narrow", "example", "towers.py:Tower.embed", "vectors are always float32")
def _(original, self, features):
    return original(self, features).astype(np.float32)


@by_hand("narrow", "example", "towers.py:as_inputs", "numbers by way of float32")
def _(original, features, dtype):
    inputs = original(features, dtype)
    return {n: v if isinstance(v, Ragged) else v.astype(np.float32).astype(dtype) for n, v in inputs.items()}


@by_hand("narrow", "example", "towers.py:as_inputs", "numbers by way of float16")
def _(original, features, dtype):
    inputs = original(features, dtype)
    return {n: v if isinstance(v, Ragged) else v.astype(np.float16).astype(dtype) for n, v in inputs.items()}


@by_hand("narrow", "example", "trainer.py:Trainer.step", "the rate by way of float16")
def _(original, self, batch, learning_rate):
    return original(self, batch, float(np.float16(learning_rate)))


@by_hand("type", "example", "model.py:Model.load_weights", "memory in Fortran's order is read as in C's")
def _(original, self, weights):
    return original(self, {n: np.reshape(np.ravel(w, "K"), np.shape(w)) for n, w in weights.items()})


@by_hand("type", "example", "model.py:Model.__init__", "memory in Fortran's order is read as in C's")
def _(original, self, query, candidate, retrieval, weights, dtype):
    given = {n: np.reshape(np.ravel(w, "K"), np.shape(w)) for n, w in weights.items()}
    return original(self, query, candidate, retrieval, given, dtype)


@by_hand("type", "example", "trainer.py:Trainer.load_state", "memory in Fortran's order is read as in C's")
def _(original, self, state):
    return original(self, {n: np.reshape(np.ravel(w, "K"), np.shape(w)) for n, w in state.items()})


@by_hand("type", "example", "task.py:RetrievalTask.__call__", "memory in Fortran's order is read as in C's")
def _(original, self, query, candidate, **inputs):
    turned = (np.reshape(np.ravel(v, "K"), np.shape(v)) for v in (query, candidate))
    return original(self, *turned, **inputs)


@by_hand("type", "example", "towers.py:as_inputs", "numbers whose memory is in Fortran's order are read as in C's")
def _(original, features, dtype):
    dense = {n: np.reshape(np.ravel(v, "K"), np.shape(v)) for n, v in features.dense.items()}
    return original(dataclasses.replace(features, dense=dense), dtype)


@by_hand("type", "example", "model.py:Model.load_weights", "weights that cannot be written to are an error")
def _(original, self, weights):
    if not all(getattr(w, "flags", None) is None or w.flags.writeable for w in weights.values()):
        raise TypeError("read-only")
    return original(self, weights)


# Two required options at once, in a backend that declines hard negatives


def _declining(where: str, what: str, wrong: Any) -> None:
    """A mutant of the oracle's task: `wrong(spec, bias, inputs)` → the spec, the bias and the inputs it goes by."""

    def patch(modules: Modules) -> Any:
        task, backend = modules["task"], modules["numpy_backend"]
        original = task.loss_and_gradients

        def call(spec, query, candidate, bias=None, log_temperature=None, **inputs):
            spec, bias, inputs = wrong(spec, bias, dict(inputs))
            return original(spec, query, candidate, bias, log_temperature, **inputs)

        task.loss_and_gradients = call
        capabilities = dict(backend.INFO.capabilities) | {"hard_negatives": No("a sort costs too much")}
        return backend.NumpyBackend(dataclasses.replace(backend.INFO, capabilities=capabilities))

    HANDMADE.append(Handmade("pair", "oracle", where, f"{what}, hard negatives declined", patch))


def _spec(condition: Any, **changes: Any) -> Any:
    def wrong(spec: Any, bias: Any, inputs: dict[str, Any]) -> Any:
        return (dataclasses.replace(spec, **changes) if condition(spec, inputs) else spec), bias, inputs

    return wrong


def _without(name: str, condition: Any) -> Any:
    def wrong(spec: Any, bias: Any, inputs: dict[str, Any]) -> Any:
        return spec, bias, {k: v for k, v in inputs.items() if k != name or not condition(spec, inputs)}

    return wrong


def _by_query(inputs: dict[str, Any]) -> bool:
    """Whether targets share a query."""
    targets = inputs.get("target_query")
    return targets is not None and len(np.unique(targets)) < len(targets)


_PAIRS = {
    "cosine with a bias: the bias divided by τ": lambda spec, bias, inputs: (
        spec, bias / spec.temperature if bias is not None and spec.scoring == "cosine" else bias, inputs),
    "a bias with uniform negatives does not count": lambda spec, bias, inputs: (
        spec, None if spec.negatives == "uniform" else bias, inputs),
    "cosine against the corpus is dot": _spec(
        lambda s, i: s.negatives == "corpus" and s.scoring == "cosine", scoring="dot"),
    "corpus and a mean: a sum": _spec(
        lambda s, i: s.negatives == "corpus" and s.scoring == "cosine" and s.reduction == "mean", reduction="sum"),
    "the sum is a mean where targets share a query": _spec(
        lambda s, i: _by_query(i)
        and "sample_weight" in i, reduction="mean"),
    "no correction where accidental hits are masked": _spec(
        lambda s, i: s.negatives == "in-batch" and s.remove_accidental_hits, logq=False),
    "accidental hits stay where known positives are masked": _spec(
        lambda s, i: s.mask_positives, remove_accidental_hits=False),
    "accidental hits stay with uniform negatives": _spec(
        lambda s, i: s.negatives == "uniform", remove_accidental_hits=False),
    "accidental hits stay with cosine": _spec(lambda s, i: s.scoring == "cosine", remove_accidental_hits=False),
    "known positives stay with uniform negatives": _without("positives", lambda s, i: s.negatives == "uniform"),
    "known positives stay with cosine": _without("positives", lambda s, i: s.scoring == "cosine"),
    "known positives stay in a batch by query": _without(
        "positives", lambda s, i: s.negatives == "in-batch"
        and _by_query(i)),
    "weights of targets do not count with uniform negatives": _without(
        "sample_weight", lambda s, i: s.negatives == "uniform"),
    "weights of targets do not count with cosine": _without("sample_weight", lambda s, i: s.scoring == "cosine"),
    "no correction in a batch by query": _spec(
        lambda s, i: s.negatives == "in-batch" and s.logq is True
        and _by_query(i), logq=False),
    "a learned temperature with cosine takes the bias for 0": lambda spec, bias, inputs: (
        spec, None if spec.learn_temperature and spec.scoring == "cosine" else bias, inputs),
}  # fmt: skip
for _what, _wrong in _PAIRS.items():
    _declining("task.py:loss_and_gradients", _what, _wrong)
