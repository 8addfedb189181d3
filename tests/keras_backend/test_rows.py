"""Rows, not tables: what a step computes with, and that it writes in place. By structure, not by time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recs_core.conformance.worlds import World
from recs_core.contract.optimizers import Adam
from recs_core.contract.plans import UpdatePlan
from recs_core.keras_backend.backend import Backend
from recs_core.keras_backend.trainer import Move, Trainer

LONG, OWN = 9973, 9967
WORLD = World(users=LONG - 2, queries=8)


def trainer_of(backend: Backend) -> tuple[Any, Trainer]:
    model = backend.model(*WORLD.plans, WORLD.retrieval, WORLD.weights())
    return model, backend.trainer(model, UpdatePlan(Adam()))


def test_the_step_sees_only_the_rows_of_the_batch(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    moved = Move.__call__

    def spy(self: Move, groups: Any, inputs: Any) -> Any:
        out = moved(self, groups, inputs)
        seen.extend(value.shape for given in (groups, out[1]) for group in given.values() for value in group.values())
        return out

    monkeypatch.setattr(Move, "__call__", spy)
    world = World(users=OWN - 2, queries=8)  # no other test's, whose program might be compiled already
    model = backend.model(*world.plans, world.retrieval, world.weights())
    backend.trainer(model, UpdatePlan(Adam())).step(world.batch(), 0.1)
    assert seen
    assert OWN not in {shape[0] for shape in seen if len(shape)}


def test_nothing_as_long_as_the_table_is_made(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"torch": made_by_torch, "tensorflow": made_by_tensorflow, "jax": made_by_jax}[backend.engine]
    assert made(backend, monkeypatch) == []


def made_by_torch(backend: Backend, _: pytest.MonkeyPatch) -> list[str]:
    """Operations whose result is new memory as long as the table."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    model, trainer = trainer_of(backend)
    trainer.step(WORLD.batch(), 0.1)
    slots = trainer._slots["table/user"].values()
    kept = {v.value.untyped_storage().data_ptr() for v in (model.variables["table/user"], *slots)}
    found, calls = [], []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            calls.append(function)
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if (
                    isinstance(tensor, torch.Tensor)
                    and LONG in tensor.shape
                    and tensor.untyped_storage().data_ptr() not in kept
                ):
                    found.append(str(function))
            return out

    with Watch():
        trainer.step(WORLD.batch(1), 0.1)
    assert calls
    return found


def made_by_tensorflow(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Operations of the graph, loops included, with a result as long as the table. One graph serves all batches."""
    import tensorflow as tf

    graphs: list[Any] = []
    make = tf.function
    monkeypatch.setattr(tf, "function", lambda *args, **kwargs: graphs.append(make(*args, **kwargs)) or graphs[-1])
    _, trainer = trainer_of(backend)
    for queries in (8, 5, 3):
        trainer.step(World(users=LONG - 2, queries=queries).batch(), 0.1)
    assert len(graphs) == 1
    assert graphs[0].experimental_get_tracing_count() == 1
    graph = graphs[0].get_concrete_function().graph
    functions = [graph, *graph._functions.values()] if hasattr(graph, "_functions") else [graph]
    operations = [op for g in functions if hasattr(g, "get_operations") for op in g.get_operations()]
    assert any(op.type == "ResourceScatterUpdate" for op in operations)
    return [
        op.name
        for op in operations
        for tensor in op.outputs
        if tensor.dtype != tf.resource and tensor.shape.rank and LONG in tensor.shape.as_list()
    ]


def made_by_jax(backend: Backend, _: pytest.MonkeyPatch) -> list[str]:
    """Weights and slots whose buffer is another after a step, that is, which were copied."""
    model, trainer = trainer_of(backend)
    trainer.step(WORLD.batch(), 0.1)

    def places() -> dict[str, int]:
        parts = {"value": model.variables["table/user"], **trainer._slots["table/user"]}
        return {part: variable.value.unsafe_buffer_pointer() for part, variable in parts.items()}

    before = places()
    trainer.step(WORLD.batch(1), 0.1)
    return [part for part, place in places().items() if place != before[part]]


def test_padding_is_a_function_of_the_batch_and_bounded() -> None:
    pytest.importorskip("jax", reason="padding is the jax engine's")
    pytest.importorskip("keras")
    if _engine() != "jax":
        pytest.skip("keras runs on another engine here")
    from recs_core.keras_backend.engines.jax import bucket

    sizes = np.arange(1, 100_000)
    padded = np.array([bucket(int(size)) for size in sizes])
    assert (padded >= sizes).all()
    assert (padded[8:] <= 1.25 * sizes[8:]).all()
    assert (np.diff(padded) >= 0).all()
    assert len(np.unique(padded)) <= 4 * np.log2(100_000)


def _engine() -> str:
    import keras

    return str(keras.backend.backend())
