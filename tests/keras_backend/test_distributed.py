"""keras[jax] on several workers is one process (P6). Workers are processes here, which stay from test to test."""

from __future__ import annotations

import dataclasses
import os
import pickle
import time
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

import recs_core as recs
from recs_core.conformance.checks.distributed import WORLD, Steps, steps
from recs_core.conformance.context import BackendContext
from recs_core.conformance.expect import LOSS_WORKERS, WEIGHT_WORKERS
from recs_core.conformance.workers import on_workers
from recs_core.conformance.worlds import OPTIMIZERS, World
from recs_core.contract.errors import BackendConflict, DataError, TrainingError, UnsupportedFeature, WorkerLost
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.workers import Workers
from recs_core.distributed.launch import free_port
from recs_core.environment import prepare_jax_x64

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.skipif(keras.config.backend() != "jax", reason="of the engines, JAX trains on several workers")

PLAIN = {"batch_by": "interaction", "candidate_bias": True, "learn_temperature": True, "scoring": "cosine"}
BLOCKS = World(queries=600).with_(**PLAIN, logq=True, remove_accidental_hits=True)
"""Three blocks of scores, so that two workers, and three, score different ones."""
SMALL = {
    "uniform": World(queries=7).with_(negatives="uniform", num_negatives=5, candidate_bias=True),
    "corpus": World(queries=7).with_(negatives="corpus", candidate_bias=True, reduction="sum"),
}


def optimizer(name: str) -> recs.Optimizer:
    return dataclasses.replace(OPTIMIZERS[name], clip_norm=0.1, weight_decay=0.01)


def held_to_one_process(backend: Any, of: World, name: str, size: int, number: int) -> None:
    moves, batches = optimizer(name), of.batches(number)
    expected = steps(backend, of, moves, batches)
    for got in on_workers(backend, size, partial(steps, world=of, optimizer=moves, batches=batches)):
        np.testing.assert_allclose(got.losses, expected.losses, rtol=LOSS_WORKERS["float64"])
        for kind in ("weights", "state"):
            found, due = getattr(got, kind), getattr(expected, kind)
            assert set(found) == set(due)
            for weight, value in due.items():
                np.testing.assert_allclose(found[weight], value, rtol=0, atol=WEIGHT_WORKERS["float64"], err_msg=weight)


def test_two_workers_are_one_process(backend: Any) -> None:
    held_to_one_process(backend, BLOCKS, "lazy-adam", 2, 5)
    held_to_one_process(backend, SMALL["corpus"], "dense-adam", 2, 5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("of", "name", "size"),
    [
        (BLOCKS, "adagrad", 3),
        (SMALL["uniform"], "row-wise-adagrad", 2),
        (SMALL["corpus"], "dense-adam", 3),
        (WORLD, "lazy-adam", 1),
        (WORLD, "lazy-adam", 2),
        (WORLD, "lazy-adam", 3),
    ],
)
def test_so_many_workers_are_one_process_after_a_hundred_steps(backend: Any, of: World, name: str, size: int) -> None:
    held_to_one_process(backend, of, name, size, 100)


def test_the_same_number_twice_is_equal_bit_for_bit(backend: Any) -> None:
    job = partial(steps, world=BLOCKS, optimizer=optimizer("adagrad"), batches=BLOCKS.batches(10))
    runs: list[list[Steps]] = [on_workers(backend, 2, job) for _ in range(2)]
    for one in (runs[0][1], *runs[1]):
        assert one.losses == runs[0][0].losses
        for name, weight in runs[0][0].weights.items():
            np.testing.assert_array_equal(one.weights[name], weight, err_msg=name)


def parts(backend: Any) -> tuple[dict[str, int], dict[str, Any], dict[str, tuple[int, ...]]]:
    """Rows that lie here, of weights and of slots after a step; and what others see."""
    model = BackendContext(backend).model(SMALL["corpus"], "float64")
    trainer = backend.trainer(model, UpdatePlan(OPTIMIZERS["adagrad"]))
    trainer.step(SMALL["corpus"].batch(), 0.1)
    slots = {f"{name}/{slot}": variable for name, of in trainer._slots.items() for slot, variable in of.items()}
    held = {name: v.value.addressable_data(0).shape[0] for name, v in {**model.variables, **slots}.items()}
    return held, model.weights(), {name: value.shape for name, value in trainer.state().items()}


def test_a_table_and_its_slots_lie_on_each_in_part_and_are_whole_to_others(backend: Any) -> None:
    weights = SMALL["corpus"].weights()
    for held, whole, state in on_workers(backend, 2, parts):
        for name in ("table/item", "table/user", "task/bias"):  # 13, 11 and 12 rows
            assert held[name] == -(-len(weights[name]) // 2)
            slot = next(slot for slot in state if slot.startswith(f"{name}/"))
            assert held[slot] == held[name] and state[slot] == weights[name].shape
        assert {name: value.shape for name, value in whole.items()} == {n: w.shape for n, w in weights.items()}


def trained_with_a_module(backend: Any) -> tuple[list[float], dict[str, Any]]:
    """Steps with a tower of one's own; the module answers in a model on one worker between them."""
    prepare_jax_x64("this test")  # before the module is made
    module = keras.Sequential([keras.layers.Embedding(11, 3, dtype="float64")])
    module.build((None,))
    module.set_weights([np.linspace(-1, 1, 33).reshape(11, 3)])
    of = World(queries=7)
    own = {name: value for name, value in of.weights().items() if not name.startswith(("table/user", "query/"))}
    model = backend.model(backend.adopt(module, ["user"]), of.plans[1], of.retrieval, own, dtype="float64")
    trainer, losses = backend.trainer(model, UpdatePlan(OPTIMIZERS["lazy-adam"])), []
    for batch in of.batches(4):
        user = batch.rows["table/user"][batch.query.codes["user"]]
        rows = {name: rows for name, rows in batch.rows.items() if name != "table/user"}
        whole = dataclasses.replace(batch.query, codes={"user": user})
        losses.append(float(trainer.step(dataclasses.replace(batch, query=whole, rows=rows), 0.1)))
        weights = model.weights()
        if backend.group is not None and backend.group.rank == 0:
            module.set_weights([weights["query/native/0/embeddings"]])
    return losses, model.weights()


def test_a_module_of_ones_own_is_on_every_worker(backend: Any) -> None:
    losses, weights = trained_with_a_module(backend)
    for got_losses, got in on_workers(backend, 2, trained_with_a_module):
        np.testing.assert_allclose(got_losses, losses, rtol=1e-12)
        for name, value in weights.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-12, err_msg=name)


def asked(backend: Any) -> list[str]:
    model, said = BackendContext(backend).model(WORLD), []
    features = WORLD.features("query", 3)
    for call in (
        lambda: model.query.embed(features),
        lambda: model.query(features),
        lambda: model.task(np.ones((2, 3)), np.ones((2, 3)), candidate_ids=[0, 1]),
        lambda: model.native,
        lambda: pickle.dumps(backend),
    ):
        with pytest.raises(UnsupportedFeature) as refused:
            call()
        said.append(str(refused.value))
    return said


def test_what_lies_on_several_workers_answers_nothing_alone_and_has_no_copy(backend: Any) -> None:
    for said in on_workers(backend, 2, asked):
        assert all("on several workers" in line and "gathered()" in line for line in said)


# What workers tell one another, and how they meet


def fails() -> None:
    raise DataError("no such row")


def talk(backend: Any) -> tuple[Any, ...]:
    group = backend.group
    said = group.all({"rank": group.rank}, "ranks"), group.told(lambda: [group.rank, 0.1], "a list")
    with pytest.raises((DataError, TrainingError)) as failed:
        group.told(fails, "the evaluation")
    with pytest.raises(BackendConflict, match="which joins others once in a process; start one for each worker"):
        backend.over(dataclasses.replace(group.workers, port=1))
    return (*said, str(failed.value))


def test_all_and_told(backend: Any) -> None:
    first, second = on_workers(backend, 2, talk)
    assert first == ([{"rank": 0}, {"rank": 1}], [0, 0.1], "no such row")
    assert second == (*first[:2], "worker 1 of 2: worker 0 failed in the evaluation: DataError: no such row")


def one_is_gone(backend: Any) -> None:
    if backend.group.rank == 1:
        os._exit(9)
    backend.group.gathered(backend.group.cut(np.zeros(2)), "a sum")


def test_a_worker_that_is_gone_is_named_with_what_the_others_waited_for(backend: Any) -> None:
    with pytest.raises(WorkerLost, match="worker 0 of 2: worker 1 did not answer in a sum"):
        on_workers(backend, 2, one_is_gone)


def late(backend: Any, seconds: float) -> float:
    """A worker that is at work for longer than the others wait is not lost: it may compile."""
    group = backend.group

    def work() -> float:
        until = time.monotonic() + seconds * group.rank
        while time.monotonic() < until:
            pass
        return float(group._gather(group.cut(np.ones(2))).addressable_data(0)[0])

    return group.done(work, "a step")


def test_a_worker_that_compiles_for_longer_than_the_timeout_is_not_lost(backend: Any) -> None:
    assert on_workers(backend, 2, partial(late, seconds=8.0), timeout=4.0) == [1.0, 1.0]


def test_jax_that_has_computed_joins_nobody(backend: Any) -> None:
    jax.numpy.zeros(1)
    with pytest.raises(BackendConflict, match="JAX has computed in this process already"):
        backend.over(Workers(0, 2, port=free_port()))
