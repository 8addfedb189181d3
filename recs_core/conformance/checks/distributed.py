"""Several workers: steps on one global batch, held to those of the same backend in one process (P6)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

from recs_core.config import check_workers
from recs_core.conformance import expect
from recs_core.conformance.context import Arrays, BackendContext, copied, number
from recs_core.conformance.registry import check
from recs_core.conformance.workers import on_workers
from recs_core.conformance.worlds import OPTIMIZERS, WIDE, World
from recs_core.contract.batch import Batch
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import Backend, DType

STEPS = 10
WORLD = WIDE.with_(
    batch_by="query", candidate_bias=True, learn_temperature=True, scoring="cosine", logq=True, queries=7
)
"""Every kind of feature, several targets per query with weights of their own, and an odd number of queries."""
PLAIN = World(queries=7)
NEGATIVES = {
    "in-batch": PLAIN.with_(logq=True, remove_accidental_hits=True),
    "uniform": PLAIN.with_(negatives="uniform", num_negatives=5, candidate_bias=True),
    "corpus": PLAIN.with_(negatives="corpus", candidate_bias=True, reduction="sum"),
    "mixed": PLAIN.with_(negatives="mixed", num_negatives=5, logq=True),
    "mask_positives": PLAIN.with_(batch_by="query", mask_positives=True),
    "score_mask": dataclasses.replace(PLAIN, masks=True),
    "hard_negatives": PLAIN.with_(hard_negatives=3),
}
"""Worlds by the capability that they are about."""


@dataclass(frozen=True)
class Steps:
    """What came of some steps: losses, and weights and state after them."""

    losses: list[float]
    weights: Arrays
    state: Arrays


def steps(
    backend: Backend,
    world: World,
    optimizer: Optimizer,
    batches: list[Batch],
    before: Steps | None = None,
    dtype: DType = "float64",
) -> Steps:
    """The steps of a backend, in one process or as one of several workers; `before`: where they go on from."""
    context = BackendContext(backend)
    model = context.model(world, dtype, None if before is None else before.weights)
    trainer = context.trainer(model, optimizer, None if before is None else before.state)
    losses = [number(trainer.step(batch, optimizer.learning_rate)) for batch in batches]
    return Steps(losses, copied(model.weights()), copied(trainer.state()))


def agree(context: BackendContext, world: World, optimizer: Optimizer, number_of_steps: int = STEPS) -> None:
    """Fail unless every worker has the losses, weights and state of one process."""
    check_workers(context.info)
    batches, dtype = world.batches(number_of_steps), context.finest
    expected = steps(context.backend, world, optimizer, batches, dtype=dtype)
    job = partial(steps, world=world, optimizer=optimizer, batches=batches, dtype=dtype)
    found = on_workers(context.backend, context.workers, job)
    for rank, got in enumerate(found):
        with expect.about(f"worker {rank} of {context.workers}"):
            expect.close("the losses", got.losses, expected.losses, expect.LOSS_WORKERS[dtype])
            expect.all_close("the weights", got.weights, expected.weights, expect.WEIGHT_WORKERS[dtype])
            expect.all_close("the state", got.state, expected.state, expect.WEIGHT_WORKERS[dtype])


@check(
    "distributed/step",
    tier="optional",
    needs=("distributed", "lazy_adam", "state"),
    rests_on=("weights/round-trip", "weights/copies", "calls/arrays-of-the-caller", "calls/two-at-once"),
    formula="L = Σ over workers of Σ w·ℓ of their targets, w ÷ Σ w of the global batch; each gradient is their SUM",
)
def step(context: BackendContext) -> None:
    """Every worker has the losses of one process, and after ten steps its weights and state: targets are scored against
    the columns of all workers, and what several have read of a row is added up before it moves, once (P6).

    Look for columns of other workers without a gradient, for a mean where a sum is due, for negatives of the own worker
    alone, and for a row that each worker moves by its own part.
    """
    agree(context, WORLD, OPTIMIZERS["lazy-adam"])


@check(
    "distributed/clip-and-decay",
    tier="optional",
    needs=("distributed", "adagrad", "weight_decay", "clip_norm", "state"),
    rests_on=("distributed/step",),
    formula="one norm over the gradients of all weights, wherever they lie",
)
def clip_and_decay(context: BackendContext) -> None:
    """Gradients are clipped by the norm of all of them together (P6).

    Look for a norm of each worker's own part, and for weights that every worker has, counted once for each.
    """
    optimizer = dataclasses.replace(OPTIMIZERS["adagrad"], clip_norm=0.05, weight_decay=0.01)
    agree(context, WORLD, optimizer)


@check(
    "distributed/negatives",
    tier="optional",
    needs=("distributed", "adagrad", "state"),
    rests_on=("distributed/step",),
)
def negatives(context: BackendContext) -> None:
    """So it is with every kind of negatives and masks that the manifest does not decline (P6).

    Look at what of the task's arguments counts columns: it is of the global batch, and what counts queries is the
    worker's own.
    """
    check_workers(context.info)
    for capability, world in NEGATIVES.items():
        if context.has(capability):
            with expect.about(capability):
                agree(context, world, OPTIMIZERS["adagrad"], 3)


@check(
    "distributed/optimizers",
    tier="optional",
    needs=("distributed", "state"),
    rests_on=("distributed/step",),
)
def optimizers(context: BackendContext) -> None:
    """So it is with every optimizer, those that move all rows of a table at every step among them (P6).

    Look at rows that no worker has read, and at those that the batch names and nobody reads.
    """
    check_workers(context.info)
    for name, optimizer in OPTIMIZERS.items():
        if context.has(name.replace("-", "_")):
            with expect.about(name):
                agree(context, WORLD, optimizer, 3)


@check(
    "distributed/state",
    tier="optional",
    needs=("distributed", "lazy_adam", "state"),
    rests_on=("distributed/step",),
)
def state(context: BackendContext) -> None:
    """Weights and state taken out of so many workers go on in one more, and then in one process, as if nothing had
    happened (P6); the same workers twice are equal bit for bit.

    Look at where a row lies among so many workers, at slots that stay behind, and for sums in an order that the network
    decides.
    """
    check_workers(context.info)
    optimizer, batches, dtype = OPTIMIZERS["lazy-adam"], WORLD.batches(6), context.finest
    expected = steps(context.backend, WORLD, optimizer, batches, dtype=dtype)
    now: Steps | None = None
    losses: list[float] = []
    for size, some in ((context.workers, batches[:2]), (context.workers + 1, batches[2:4])):
        first, again = (_on_workers(context.backend, size, some, now, dtype) for _ in range(2))
        expect.same("the losses, twice", again.losses, first.losses)
        for name, weight in first.weights.items():
            expect.same(f"{name}, twice", again.weights[name], weight)
        now, losses = first, losses + first.losses
    rest = steps(context.backend, WORLD, optimizer, batches[4:], now, dtype)
    expect.close("the losses", losses + rest.losses, expected.losses, expect.LOSS_WORKERS[dtype])
    expect.all_close("the weights", rest.weights, expected.weights, expect.WEIGHT_WORKERS[dtype])
    expect.all_close("the state", rest.state, expected.state, expect.WEIGHT_WORKERS[dtype])


def _on_workers(backend: Backend, size: int, batches: list[Batch], before: Steps | None, dtype: DType) -> Steps:
    optimizer = OPTIMIZERS["lazy-adam"]
    job = partial(steps, world=WORLD, optimizer=optimizer, batches=batches, before=before, dtype=dtype)
    return on_workers(backend, size, job)[0]
