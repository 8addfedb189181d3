"""Backends to be compared in tests: the oracle as a plugin, and ways in which it can be wrong. Imports no framework."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np

from recs_core.contract.manifest import BACKEND_CAPABILITIES
from recs_core.plugin import BackendInfo, hookimpl
from recs_core.reference.backend import Model, OracleBackend, Tower, Trainer

NAMES = ("right", "rounding", "wrong", "dying", "nan", "hanging", "broken", "random")


@hookimpl
def recs_backends():
    return [
        BackendInfo(
            name=name,
            factory=f"zoo:make_{name}",
            summary=f"the {name} one",
            requires=("numpy",),
            capabilities=dict.fromkeys(BACKEND_CAPABILITIES, True),
        )
        for name in NAMES
    ]


class ZooTower(Tower):
    def embed(self, features):
        return super().embed(features).astype(self.native.shown)


class ZooModel(Model):
    """Shows its weights and vectors in the dtype asked for; inside it is the oracle, in float64."""

    def __init__(self, query, candidate, retrieval, weights, dtype):
        super().__init__(query, candidate, retrieval, weights, "float64")
        self.shown = dtype
        self.query, self.candidate = ZooTower("query", query, self), ZooTower("candidate", candidate, self)

    def weights(self):
        return {name: value.astype(self.shown) for name, value in super().weights().items()}


class Animal(OracleBackend):
    """The oracle under another name, with another trainer."""

    def model(self, query, candidate, retrieval, weights, *, dtype="float32"):
        return ZooModel(query, candidate, retrieval, weights, dtype)

    def __init__(self, name, trainer):
        super().__init__()
        self.info = next(info for info in recs_backends() if info.name == name)
        self._trainer = trainer

    def trainer(self, model, plan):
        return self._trainer(model, plan)


class Rounding(Trainer):
    """Keeps weights in float32, as a framework would."""

    def step(self, batch, learning_rate):
        loss = super().step(batch, learning_rate)
        self.model.held = {name: value.astype(np.float32).astype(float) for name, value in self.model.held.items()}
        return float(np.float32(loss))


class Wrong(Trainer):
    """One percent too eager, from the third step on."""

    def __init__(self, model, plan):
        super().__init__(model, plan)
        self.done = 0

    def step(self, batch, learning_rate):
        self.done += 1
        return super().step(batch, learning_rate * (1.01 if self.done >= 3 else 1))


class Dying(Trainer):
    def step(self, batch, learning_rate):
        os.kill(os.getpid(), signal.SIGKILL)


class NaN(Trainer):
    def step(self, batch, learning_rate):
        return float("nan")


class Hanging(Trainer):
    def step(self, batch, learning_rate):
        threading.Event().wait()


class Random(Trainer):
    """Nothing that a seed decides."""

    def step(self, batch, learning_rate):
        loss = super().step(batch, learning_rate)
        noise = np.random.default_rng()
        self.model.held = {n: v + 1e-9 * noise.standard_normal(v.shape) for n, v in self.model.held.items()}
        return loss


def _maker(name, trainer):
    return lambda engine=None: Animal(name, trainer)


make_right = _maker("right", Trainer)
make_rounding = _maker("rounding", Rounding)
make_wrong = _maker("wrong", Wrong)
make_dying = _maker("dying", Dying)
make_nan = _maker("nan", NaN)
make_hanging = _maker("hanging", Hanging)
make_random = _maker("random", Random)


def make_broken(engine=None):
    raise OSError("libzoo.so: cannot open shared object file")
