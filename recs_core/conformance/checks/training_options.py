"""Training: where a step runs, and what it computes towers in. A backend may decline either."""

from __future__ import annotations

from functools import cache

import numpy as np

from recs_core import config
from recs_core.conformance import expect
from recs_core.conformance.checks.journey import SHOP
from recs_core.conformance.checks.training import one_step
from recs_core.conformance.context import BackendContext, number
from recs_core.conformance.registry import check
from recs_core.conformance.shop import shop, untrained
from recs_core.conformance.worlds import OPTIMIZERS, World
from recs_core.contract.errors import ConfigError
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.plans import UpdatePlan
from recs_core.contract.protocols import Backend, DType
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import Precision
from recs_core.reference import training
from recs_core.reference.backend import OracleBackend
from recs_core.two_tower import TwoTower

EPOCHS = 20  # of two steps

MANY = World(
    query=TowerSpec((Categorical("user", dim=4),)),
    candidate=TowerSpec((Categorical("item", dim=4),)),
    queries=40,
    users=2**12,
    corpus=2**12,
)


@check("training/devices", tier="optional", needs=("device", "adagrad"), rests_on=("training/adagrad-one-step",))
def devices(context: BackendContext) -> None:
    """On each of `backend.devices()` a step is the oracle's; a device that is not there is refused, naming those there.

    `backend.on(name)` is a backend that runs there. Look at what is made without saying where.
    """
    config.check_device(context.info, "cpu")
    there = list(context.backend.devices())  # type: ignore[attr-defined]
    for name in there:
        with expect.about(f"on {name}"):
            one_step(BackendContext(config.backend(context.backend, device=name)), OPTIMIZERS["adagrad"])
    absent = "a device that is not there"
    expect.raises(absent, ConfigError, lambda: config.backend(context.backend, device="nowhere"), says=there[0])


@check("training/bf16", tier="optional", needs=("precision_bf16", "adagrad", *SHOP), rests_on=("journey/fit",))
def bf16(context: BackendContext) -> None:
    """With `precision="bf16"` the losses of forty steps are within 2 % of the oracle's, and weights as fine as float32.
    A step of rate 0 leaves every weight as it is, of thousands of rows and of numbers beyond a million too.

    Towers compute in bfloat16, which has 8 bits. Nothing that adds up may be kept in it: weights, slots, scores,
    losses, the state of a recurrent layer. Losses of float32 to the last bit say that nobody heard of it.
    """
    _at_rest(context)
    model, plain = fitted(context.backend, "float32", "bf16"), fitted(context.backend, "float32", None)
    losses = model.history.losses
    expect.close("the losses in bf16", losses, expected_losses(), expect.LOSS_BF16)
    expect.true(losses != plain.history.losses, "the losses", "others than in float32", "the same")
    weights = np.concatenate([np.ravel(value).astype(np.float32) for value in model.weights().values()])
    finer = float(np.mean(weights.view(np.uint32) & 0xFFFF != 0))
    expect.true(finer > 0.5, "weights that bfloat16 does not hold", "more than half", f"{finer:.0%}")


def _at_rest(context: BackendContext) -> None:
    """A step of rate 0, in bf16, of weights that are far apart and whose products are not."""
    far = {"table/user": 2.0**-19, "table/item": 2.0**20}
    weights = {name: np.asarray(w * far.get(name, 1), np.float32) for name, w in MANY.weights().items()}
    batch, optimizer = MANY.batch(), OPTIMIZERS["adagrad"]
    model = context.model(MANY, "float32", weights)
    trainer = context.backend.trainer(model, UpdatePlan(optimizer, precision="bf16"))
    loss, (expected, _) = number(trainer.step(batch, 0.0)), training.gradients(MANY.model, weights, batch)
    expect.close("the loss in bf16 of large weights", loss, expected, expect.LOSS_BF16)
    for name, weight in model.weights().items():
        expect.same(f"{name} after a step of rate 0 in bf16", weight, weights[name])


@cache
def expected_losses() -> list[float]:
    """The oracle's."""
    return fitted(OracleBackend(), "float64", None).history.losses


def fitted(backend: Backend, dtype: DType, precision: Precision | None) -> TwoTower:
    """The shop's model after `EPOCHS`."""
    model = untrained(backend, dtype)
    model.fit(shop().train, epochs=EPOCHS, precision=precision, progress=False)
    return model
