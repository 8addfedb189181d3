"""One training step on a batch, with the gradients of whole weights, and a run of steps.

    1. towers forward on the batch's rows
    2. task: loss and gradients
    3. towers backward, every use of a table added up
    4. clip
    5. for every weight: decay, then update, in the rows the batch names (`Batch.rows`)

A row number that is out of range pads: it stands for no row and nothing happens to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Codes, Features, flat, recoded
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.reference import optimizers, task, towers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """What stays the same from step to step."""

    query: TowerSpec
    candidate: TowerSpec
    retrieval: RetrievalSpec


@dataclass(frozen=True)
class StepResult:
    """The loss before the update, the gradients before clipping, and the weights and state after it."""

    loss: float
    gradients: dict[str, Array]
    weights: dict[str, Array]
    state: dict[str, NDArray[Any]]


def gradients(model: Model, weights: Mapping[str, NDArray[Any]], batch: Batch) -> tuple[float, dict[str, Array]]:
    """The loss and ∂loss/∂weight for every weight, each shaped as the weight (zero where nothing depends on it)."""
    query_features = on_whole_tables(model.query, batch.query, batch, weights)
    candidate_features = on_whole_tables(model.candidate, batch.candidate, batch, weights)
    query, query_trace = towers.forward(model.query, "query", query_features, weights)
    candidate, candidate_trace = towers.forward(model.candidate, "candidate", candidate_features, weights)

    bias_rows = None if batch.bias_codes is None else _whole(batch, "task/bias", weights)[batch.bias_codes]
    bias = None if bias_rows is None else np.asarray(weights["task/bias"], np.float64)[bias_rows]
    log_temperature = float(weights["task/log_temperature"]) if "task/log_temperature" in weights else None
    result = task.loss_and_gradients(model.retrieval, query, candidate, bias, log_temperature, **batch.task)

    out = {name: np.zeros(np.shape(weight)) for name, weight in weights.items()}
    for tower, side, features, trace, gradient in (
        (model.query, "query", query_features, query_trace, result.query),
        (model.candidate, "candidate", candidate_features, candidate_trace, result.candidate),
    ):
        for name, value in towers.backward(tower, side, features, weights, trace=trace, gradient=gradient).items():
            out[name] += value
    if bias_rows is not None:
        np.add.at(out["task/bias"], bias_rows, result.bias)
    if log_temperature is not None:
        out["task/log_temperature"] += result.log_temperature
    return result.loss, out


def step(
    model: Model,
    optimizer: Optimizer,
    weights: Mapping[str, NDArray[Any]],
    state: Mapping[str, NDArray[Any]],
    batch: Batch,
    *,
    learning_rate: float | None = None,
) -> StepResult:
    """One step. `state` as of `optimizers.initial_state`; `learning_rate` None is the optimizer's own."""
    rate = optimizer.learning_rate if learning_rate is None else learning_rate
    loss, unclipped = gradients(model, weights, batch)
    number = int(state["step"]) + 1
    new_weights: dict[str, Array] = {}
    new_state: dict[str, NDArray[Any]] = {"step": np.asarray(number, np.int64)}
    for name, gradient in optimizers.clipped(unclipped, optimizer.clip_norm).items():
        weight = np.asarray(weights[name], np.float64)
        slots = {slot: np.asarray(state[f"{name}/{slot}"], np.float64) for slot in optimizer.slots}
        touched = batch.rows[name][batch.rows[name] < len(weight)] if name in batch.rows else None
        new_weights[name], slots = optimizers.update(
            optimizer, name, weight, gradient, slots=slots, touched=touched, learning_rate=rate, step=number
        )
        new_state.update({f"{name}/{slot}": value for slot, value in slots.items()})
    return StepResult(loss, unclipped, new_weights, new_state)


def trajectory(
    model: Model, optimizer: Optimizer, weights: Mapping[str, NDArray[Any]], batches: Iterable[Batch]
) -> tuple[list[float], dict[str, Array], dict[str, NDArray[Any]]]:
    """The loss of every step, and the weights and state after the last."""
    now = {name: np.asarray(weight, np.float64) for name, weight in weights.items()}
    state = optimizers.initial_state(optimizer, now)
    losses = []
    for batch in batches:
        result = step(model, optimizer, now, state, batch)
        losses.append(result.loss)
        now, state = result.weights, result.state
    return losses, now, state


def on_whole_tables(
    tower: TowerSpec, features: Features, batch: Batch, weights: Mapping[str, NDArray[Any]]
) -> Features:
    """The same features with codes that are rows of whole tables instead of positions in `batch.rows`."""
    codes: dict[str, Codes] = {}
    for feature in tower.features:
        if feature.table_name is not None:
            local, rows = features.codes[feature.name], _whole(batch, feature.table_name, weights)
            codes[feature.name] = recoded(local, rows[flat(local)])
    return Features(features.size, codes, features.dense, features.keep)


def _whole(batch: Batch, name: str, weights: Mapping[str, NDArray[Any]]) -> NDArray[np.int32]:
    """The batch's rows of a weight; padding reads the last row, with a gradient of zero."""
    return np.minimum(batch.rows[name], len(weights[name]) - 1)
