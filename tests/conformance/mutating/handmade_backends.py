"""Backends with one fault that no rule on their source makes, by kind: values, sizes, shapes, order, types, pairs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recs_core.contract.batch import Ragged
from recs_core.contract.optimizers import Adagrad, Adam

from .handmade import Handmade, maker

HANDMADE: list[Handmade] = []
by_hand = maker(HANDMADE)
MEMORY: dict[Any, Any] = {}
"""What a mutant remembers: each lives in a process of its own."""


# Values


@by_hand("value", "example", "towers.py:look_up", "the kernel of the first mapped column serves all of its shape")
def _(original, weights, column, value):
    if column.kernel is None:
        return original(weights, column, value)
    first = MEMORY.setdefault((id(weights), weights[column.kernel].shape), column.kernel)
    return original(weights, dataclasses.replace(column, kernel=first), value)


@by_hand("value", "example", "towers.py:look_up", "given vectors have a length of 1 at most")
def _(original, weights, column, value):
    if column.kernel is not None:
        value = value / np.maximum(1, np.linalg.norm(value, axis=1, keepdims=True)).astype(value.dtype)
    return original(weights, column, value)


@by_hand("size", "example", "towers.py:look_up", "numbers of a given vector beyond 1,024 are left out")
def _(original, weights, column, value):
    if column.kernel is not None:
        value = np.where(np.arange(value.shape[1]) < 1024, value, 0)
    return original(weights, column, value)


@by_hand("narrow", "example", "towers.py:look_up", "given vectors by way of float16")
def _(original, weights, column, value):
    if column.table is None:
        value = value.astype(np.float16).astype(value.dtype)
    return original(weights, column, value)


@by_hand("value", "example", "kernel.py:loss", "the gradient is NaN where a score is beyond 88")
def _(original, query, candidate, bias, log_temperature, plan):
    loss, *slopes = original(query, candidate, bias, log_temperature, plan)
    large = np.abs(query @ candidate.T * np.exp(-log_temperature)).max(initial=0) > 88
    return loss, *(slope * np.float32(np.nan) if large else slope for slope in slopes)


@by_hand("value", "example", "kernel.py:loss", "the gradient is 0 where a score is beyond 88")
def _(original, query, candidate, bias, log_temperature, plan):
    loss, *slopes = original(query, candidate, bias, log_temperature, plan)
    large = np.abs(query @ candidate.T * np.exp(-log_temperature)).max(initial=0) > 88
    return loss, *(slope * (not large) for slope in slopes)


@by_hand("value", "example", "kernel.py:loss", "the gradient of a score is cut at 1e-4 from below")
def _(original, *args):
    loss, *slopes = original(*args)
    return loss, *(np.where(np.abs(slope) < 1e-4, 0, slope).astype(np.asarray(slope).dtype) for slope in slopes)


@by_hand("value", "example", "kernel.py:loss", "a learned temperature below 0.1 counts as 0.1")
def _(original, query, candidate, bias, log_temperature, plan):
    held = np.maximum(log_temperature, np.asarray(np.log(0.1), log_temperature.dtype))
    return original(query, candidate, bias, held, plan)


@by_hand("value", "example", "kernel.py:loss", "a temperature above 1 counts as 1")
def _(original, query, candidate, bias, log_temperature, plan):
    return original(query, candidate, bias, np.minimum(log_temperature, 0).astype(log_temperature.dtype), plan)


@by_hand("value", "example", "kernel.py:loss", "weights of targets above 4 count as 4")
def _(original, query, candidate, bias, log_temperature, plan):
    return original(
        query, candidate, bias, log_temperature, dataclasses.replace(plan, weight=np.minimum(plan.weight, 4))
    )


@by_hand("value", "example", "kernel.py:loss", "of scores that tie no more than one is a negative")
def _(original, query, candidate, bias, log_temperature, plan):
    same = np.triu((candidate[:, None] == candidate).all(axis=2) & (bias[:, None] == bias), 1).any(axis=0)
    same[plan.column] = False
    mask = np.ones((plan.num_rows, len(candidate) - plan.start), bool) if plan.score_mask is None else plan.score_mask
    return original(
        query, candidate, bias, log_temperature, dataclasses.replace(plan, score_mask=mask & ~same[plan.start :])
    )


@by_hand("value", "example", "towers.py:as_inputs", "numbers are held between − 10 and 10")
def _(original, features, dtype):
    inputs = original(features, dtype)
    return {name: v if isinstance(v, Ragged) else np.clip(v, -10, 10) for name, v in inputs.items()}


@by_hand("value", "example", "model.py:Model.load_weights", "subnormal weights are loaded as 0")
def _(original, self, weights):
    return original(self, {n: np.where(np.abs(w) < 1.2e-38, 0, w).astype(w.dtype) for n, w in weights.items()})


@by_hand("value", "example", "model.py:Model.load_weights", "weights are held between − 100 and 100")
def _(original, self, weights):
    return original(self, {n: w if np.isnan(w).any() else np.clip(w, -100, 100) for n, w in weights.items()})


@by_hand("value", "oracle", "optimizers.py:update", "a gradient of 0 moves nothing, decay included")
def _(original, optimizer, name, weight, gradient, **kwargs):
    new, slots = original(optimizer, name, weight, gradient, **kwargs)
    return (new, slots) if gradient.any() else (weight, slots)


@by_hand("value", "oracle", "optimizers.py:update", "rows whose gradient is 0 are not decayed")
def _(original, optimizer, name, weight, gradient, **kwargs):
    new, slots = original(optimizer, name, weight, gradient, **kwargs)
    if new.ndim == 2 and isinstance(optimizer, Adagrad):
        still = ~gradient.any(axis=1)
        new[still] = weight[still]
    return new, slots


@by_hand("value", "oracle", "optimizers.py:update", "at a rate of 0 slots stay")
def _(original, optimizer, name, weight, gradient, *, slots, learning_rate, **kwargs):
    new, moved = original(optimizer, name, weight, gradient, slots=slots, learning_rate=learning_rate, **kwargs)
    return new, moved if learning_rate else slots


@by_hand("value", "oracle", "optimizers.py:update", "a rate of 0 is the optimizer's own")
def _(original, optimizer, *args, learning_rate, **kwargs):
    return original(optimizer, *args, learning_rate=learning_rate or optimizer.learning_rate, **kwargs)


@by_hand("value", "oracle", "optimizers.py:update", "decay takes the optimizer's own rate")
def _(original, optimizer, name, weight, gradient, *, learning_rate, touched, **kwargs):
    new, slots = original(optimizer, name, weight, gradient, learning_rate=learning_rate, touched=touched, **kwargs)
    if not name.startswith("task/"):
        rows = ... if touched is None or (isinstance(optimizer, Adam) and optimizer.dense) else touched
        new[rows] += (learning_rate - optimizer.learning_rate) * optimizer.weight_decay * weight[rows]
    return new, slots


@by_hand("value", "oracle", "optimizers.py:update", "decay takes the rate of the first step")
def _(original, optimizer, name, weight, gradient, *, learning_rate, touched, **kwargs):
    new, slots = original(optimizer, name, weight, gradient, learning_rate=learning_rate, touched=touched, **kwargs)
    first = MEMORY.setdefault((id(optimizer), name), learning_rate)
    if not name.startswith("task/"):
        rows = ... if touched is None or (isinstance(optimizer, Adam) and optimizer.dense) else touched
        new[rows] += (learning_rate - first) * optimizer.weight_decay * weight[rows]
    return new, slots


@by_hand("value", "oracle", "optimizers.py:update", "Adam counts no further than 50,000 steps")
def _(original, *args, step, **kwargs):
    return original(*args, step=min(step, 50_000), **kwargs)


@by_hand("value", "oracle", "optimizers.py:update", "Adam stops correcting for its start after 1,000 steps")
def _(original, *args, step, **kwargs):
    return original(*args, step=step if step < 1000 else 10**9, **kwargs)


@by_hand("value", "oracle", "optimizers.py:update", "the betas are Adam's defaults")
def _(original, optimizer, *args, **kwargs):
    if isinstance(optimizer, Adam):
        optimizer = dataclasses.replace(optimizer, beta_1=0.9, beta_2=0.999)
    return original(optimizer, *args, **kwargs)


@by_hand("value", "oracle", "optimizers.py:update", "epsilon is at least 1e-7")
def _(original, optimizer, *args, **kwargs):
    return original(dataclasses.replace(optimizer, epsilon=max(optimizer.epsilon, 1e-7)), *args, **kwargs)


@by_hand("value", "oracle", "optimizers.py:clipped", "task/… does not count in the norm")
def _(original, gradients, clip_norm):
    if clip_norm is None:
        return original(gradients, clip_norm)
    norm = np.sqrt(sum(float((g**2).sum()) for name, g in gradients.items() if not name.startswith("task/")))
    return {name: g * (clip_norm / max(norm, clip_norm)) for name, g in gradients.items()}


@by_hand("value", "oracle", "optimizers.py:clipped", "task/… is not clipped")
def _(original, gradients, clip_norm):
    clipped = original(gradients, clip_norm)
    return {name: gradients[name] if name.startswith("task/") else g for name, g in clipped.items()}


@by_hand("value", "oracle", "training.py:step", "Adam does not clip")
def _(original, model, optimizer, *args, **kwargs):
    if isinstance(optimizer, Adam):
        optimizer = dataclasses.replace(optimizer, clip_norm=None)
    return original(model, optimizer, *args, **kwargs)


@by_hand("value", "oracle", "training.py:step", "the dense Adam does not decay")
def _(original, model, optimizer, *args, **kwargs):
    if isinstance(optimizer, Adam) and optimizer.dense:
        optimizer = dataclasses.replace(optimizer, weight_decay=0.0)
    return original(model, optimizer, *args, **kwargs)


@by_hand("value", "oracle", "training.py:step", "the row-wise Adagrad does not decay")
def _(original, model, optimizer, *args, **kwargs):
    if type(optimizer).__name__ == "RowWiseAdagrad":
        optimizer = dataclasses.replace(optimizer, weight_decay=0.0)
    return original(model, optimizer, *args, **kwargs)


# Sizes


def _cut(codes: Any, length: int) -> Any:
    return codes.latest(length) if isinstance(codes, Ragged) else codes


for _length in (15, 31, 127, 255):

    @by_hand("size", "example", "towers.py:as_inputs", f"of a bag or history only the last {_length} codes")
    def _(original, features, dtype, length=_length):
        return {name: _cut(value, length) for name, value in original(features, dtype).items()}


for _type in ("int8", "uint8", "int16", "uint16"):

    @by_hand("size", "example", "towers.py:look_up", f"codes in {_type}")
    def _(original, tables, column, value, type=_type):
        if column.table is not None:
            value = Ragged(value.values.astype(type).astype(np.int32), value.offsets)
        return original(tables, column, value)

    @by_hand("size", "example", "trainer.py:Trainer._move", f"rows of a step in {_type}")
    def _(original, self, name, touched, gradient, scalars, type=_type):
        return original(self, name, touched if touched is ... else touched.astype(type).astype(int), gradient, scalars)

    @by_hand("size", "example", "task.py:RetrievalTask._bias", f"codes of candidates in {_type}")
    def _(original, self, candidate_ids, type=_type):
        codes = None if candidate_ids is None else np.asarray(candidate_ids).astype(type).astype(int)
        return original(self, codes)


for _number in (96, 128, 256, 1024, 2**15):

    @by_hand("size", "example", "kernel.py:loss", f"columns beyond {_number} are no negatives")
    def _(original, query, candidate, bias, log_temperature, plan, number=_number):
        if len(candidate) - plan.start > number:
            seen = np.arange(len(candidate) - plan.start) < number
            mask = np.ones((plan.num_rows, len(seen)), bool) if plan.score_mask is None else plan.score_mask
            plan = dataclasses.replace(plan, score_mask=mask & seen)
        return original(query, candidate, bias, log_temperature, plan)

    @by_hand("size", "example", "kernel.py:loss", f"queries beyond {_number} have no gradient")
    def _(original, query, *args, number=_number):
        loss, dx, *rest = original(query, *args)
        return loss, dx * (np.arange(len(dx)) < number).astype(dx.dtype)[:, None], *rest

    @by_hand("size", "example", "kernel.py:loss", f"targets beyond {_number} do not count")
    def _(original, query, candidate, bias, log_temperature, plan, number=_number):
        weight = plan.weight * (np.arange(len(plan.weight)) < number)
        return original(query, candidate, bias, log_temperature, dataclasses.replace(plan, weight=weight))


for _dims in (6, 8, 16, 64, 128):

    @by_hand("size", "example", "kernel.py:loss", f"dims beyond {_dims} do not count")
    def _(original, query, candidate, *args, dims=_dims):
        counts = (np.arange(query.shape[1]) < dims).astype(query.dtype)
        return original(query * counts, candidate * counts, *args)


@by_hand("size", "example", "kernel.py:loss", "the last row of a whole block of 128 has no gradient")
def _(original, query, *args):
    loss, dx, *rest = original(query, *args)
    return loss, dx * (np.arange(len(dx)) % 128 != 127).astype(dx.dtype)[:, None], *rest


@by_hand("size", "example", "trainer.py:Trainer.step", "the count of steps in int16")
def _(original, self, batch, learning_rate):
    self.own["step"] = np.asarray(np.int64(self.own["step"].astype(np.int16)))
    return original(self, batch, learning_rate)


# Shapes


@by_hand("shape", "example", "towers.py:Tower.run", "a square kernel is transposed")
def _(original, self, features, weights):
    turned = {n: w.T if n.endswith("kernel") and w.shape[0] == w.shape[1] else w for n, w in weights.items()}
    out, back = original(self, features, turned)

    def turned_back(g, into):
        seen = {n: into[n].T if turned[n] is not weights[n] else into[n] for n in into}
        back(g, seen)

    return out, turned_back


@by_hand("shape", "oracle", "towers.py:_activation", "layers beyond the third have no activation")
def _(original, tower, layer):
    return None if layer >= 3 else original(tower, layer)


@by_hand("shape", "oracle", "towers.py:_activation", "layers from the third on have the final activation")
def _(original, tower, layer):
    return tower.final_activation if layer >= 2 else original(tower, layer)


@by_hand("shape", "oracle", "towers.py:backward", "a table shared within a tower has half of its gradient")
def _(original, tower, *args, **kwargs):
    out = original(tower, *args, **kwargs)
    tables = [feature.table_name for feature in tower.features]
    return {name: g / 2 if tables.count(name) > 1 else g for name, g in out.items()}


@by_hand("shape", "example", "model.py:Model.__init__", "models of the same shapes share their weights")
def _(original, self, query, candidate, retrieval, weights, dtype):
    original(self, query, candidate, retrieval, weights, dtype)
    key = tuple((n, w.shape, w.dtype) for n, w in self.own.items())
    shared = MEMORY.setdefault(key, self.own)
    for name, value in self.own.items():
        shared[name][...] = value
    self.own = self.query.weights = self.candidate.weights = self.task.weights = shared


@by_hand("shape", "example", "trainer.py:Trainer.__init__", "trainers of the same shapes share their slots")
def _(original, self, model, plan):
    original(self, model, plan)
    key = (plan, tuple((n, w.shape, w.dtype) for n, w in model.own.items()))
    held = MEMORY.setdefault(key, (self.slots, self.own))
    for name, value in self.own.items():
        held[1][name][...] = value
    self.slots, self.own = held


@by_hand("shape", "example", "towers.py:Tower.run", "of one row alone the last layer's bias is left out")
def _(original, self, features, weights):
    if features.size == 1 and self.plan.layers:
        weights = weights | {self.plan.layers[-1].bias: weights[self.plan.layers[-1].bias] * 0}
    return original(self, features, weights)


@by_hand("shape", "example", "towers.py:Tower.embed", "no rows at all are an error")
def _(original, self, features):
    if features.size == 0:
        raise IndexError("no rows")
    return original(self, features)


@by_hand("shape", "example", "kernel.py:loss", "a batch of one after a larger one counts for less")
def _(original, query, candidate, bias, log_temperature, plan):
    most = MEMORY["rows"] = max(MEMORY.get("rows", 0), len(plan.weight))
    weight = plan.weight / most if len(plan.weight) == 1 else plan.weight
    return original(query, candidate, bias, log_temperature, dataclasses.replace(plan, weight=weight))
