"""Training: many steps. A hundred of each optimizer in float64 (P1), twice the same, and taken up where they stood."""

from __future__ import annotations

from functools import cache

from recs_core.conformance import expect
from recs_core.conformance.checks.training import WORLD, run
from recs_core.conformance.context import Arrays, BackendContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS
from recs_core.contract.optimizers import Optimizer
from recs_core.reference import training

STEPS = 100


@cache
def expected_trajectory(optimizer: Optimizer) -> tuple[list[float], Arrays, Arrays]:
    """The losses, weights and state of the oracle's hundred steps."""
    return training.trajectory(WORLD.model, optimizer, WORLD.weights(), WORLD.batches(STEPS))


def trajectory(context: BackendContext, optimizer: Optimizer) -> None:
    """The losses of a hundred steps in float64, and the weights after them."""
    losses, weights, state = expected_trajectory(optimizer)
    model, got_losses, trainer = run(context, optimizer, WORLD.batches(STEPS), dtype="float64")
    expect.close("the losses in float64", got_losses, losses, expect.LOSS["float64"])
    expect.all_close("the weights after 100 steps in float64", model.weights(), weights, expect.WEIGHT["float64"])
    expect.all_close("the state after 100 steps in float64", trainer.state(), state, expect.WEIGHT["float64"])


@check("training/deterministic", needs=("lazy_adam",), rests_on=("training/lazy-adam-one-step",))
def deterministic(context: BackendContext) -> None:
    """Two runs from the same weights over the same batches are equal bit for bit.

    Look for a generator of the framework's, for sums in an order that threads decide, for state kept between trainers.
    """
    first, again = (run(context, OPTIMIZERS["lazy-adam"], WORLD.batches(5)) for _ in range(2))
    expect.same("the losses", again[1], first[1])
    for name, weight in first[0].weights().items():
        expect.same(f"{name}", again[0].weights()[name], weight)


@check("training/resume", needs=("lazy_adam", "state"), rests_on=("training/deterministic",))
def resume(context: BackendContext) -> None:
    """Weights and state taken out after three steps and put into a new model go on as if nothing had happened.

    Bit for bit. Look for what a trainer keeps beside its state, at the counter `step`, and at slots that are made anew
    at the first step.
    """
    optimizer = OPTIMIZERS["lazy-adam"]
    whole, losses, _ = run(context, optimizer, WORLD.batches(6))
    half, first, trainer = run(context, optimizer, WORLD.batches(3))
    rest, second, _ = run(context, optimizer, WORLD.batches(6)[3:], weights=half.weights(), state=trainer.state())
    expect.same("the losses", first + second, losses)
    for name, weight in whole.weights().items():
        expect.same(f"{name}", rest.weights()[name], weight)


@check(
    "training/adagrad-100-steps",
    needs=("adagrad", "float64", "state"),
    rests_on=("training/adagrad-one-step",),
    formula="100 steps of training/adagrad-one-step in float64",
)
def adagrad_trajectory(context: BackendContext) -> None:
    """A hundred steps of Adagrad: every loss to 1e-9, every weight to 1e-7 (P1).

    One step was right: look at what is kept from step to step, and for float32 on the way.
    """
    trajectory(context, OPTIMIZERS["adagrad"])


@check(
    "training/row-wise-adagrad-100-steps",
    tier="optional",
    needs=("row_wise_adagrad", "float64", "state"),
    rests_on=("training/row-wise-adagrad-one-step",),
)
def row_wise_adagrad_trajectory(context: BackendContext) -> None:
    """A hundred steps of row-wise Adagrad (P1).

    One step was right: look at what is kept from step to step, and for float32 on the way.
    """
    trajectory(context, OPTIMIZERS["row-wise-adagrad"])


@check("training/sgd-100-steps", needs=("float64", "state"), rests_on=("training/sgd-one-step",))
def sgd_trajectory(context: BackendContext) -> None:
    """A hundred steps of SGD with momentum (P1).

    One step was right: look at what is kept from step to step, and for float32 on the way.
    """
    trajectory(context, OPTIMIZERS["sgd"])


@check(
    "training/lazy-adam-100-steps",
    needs=("lazy_adam", "float64", "state"),
    rests_on=("training/lazy-adam-one-step",),
)
def lazy_adam_trajectory(context: BackendContext) -> None:
    """A hundred steps of lazy Adam (P1).

    One step was right: look at the counter, which rises by one per step for all weights, and for float32 on the way.
    """
    trajectory(context, OPTIMIZERS["lazy-adam"])


@check(
    "training/dense-adam-100-steps",
    tier="optional",
    needs=("dense_adam", "float64", "state"),
    rests_on=("training/dense-adam-one-step",),
)
def dense_adam_trajectory(context: BackendContext) -> None:
    """A hundred steps of textbook Adam (P1).

    One step was right: look at the counter, which rises by one per step for all weights, and for float32 on the way.
    """
    trajectory(context, OPTIMIZERS["dense-adam"])


@check(
    "training/float32-100-steps",
    needs=("lazy_adam", "adagrad"),
    rests_on=("training/lazy-adam-100-steps", "training/adagrad-100-steps"),
)
def float32_trajectory(context: BackendContext) -> None:
    """A hundred float32 steps of the pinned optimizers on a smooth model stay within 1e-5 of the oracle's losses (P3).

    Look at a reduced precision that a device chooses by itself (TF32, bfloat16).
    """
    for name in ("adagrad", "lazy-adam"):
        losses = expected_trajectory(OPTIMIZERS[name])[0]
        _, got, _ = run(context, OPTIMIZERS[name], WORLD.batches(STEPS))
        expect.close(f"the losses of {name}", got, losses, 1e-5)
