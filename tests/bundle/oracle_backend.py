"""A whole backend on the float64 oracle, for tests that need one and no framework. Slow; for tiny models."""

from __future__ import annotations

import numpy as np

from recs_core import weights as canonical
from recs_core.plugin.manifest import BackendInfo
from recs_core.reference import optimizers, towers, training


class OracleTower:
    def __init__(self, spec, side, model):
        self.spec, self.side, self.native, self.output_dim = spec, side, model, spec.output_dim

    def embed(self, features):
        out = towers.embed(self.spec, self.side, features, self.native.held)
        return out.astype(self.native.dtype)

    __call__ = embed


class OracleModel:
    def __init__(self, query, candidate, retrieval, weights, dtype):
        self.spec = training.Model(query, candidate, retrieval)
        self.dtype = np.dtype(dtype)
        self.shapes = {name: np.shape(weight) for name, weight in weights.items()}
        self.query, self.candidate = OracleTower(query, "query", self), OracleTower(candidate, "candidate", self)
        self.task = None
        self.load_weights(weights)

    def weights(self):
        return {name: weight.copy() for name, weight in self.held.items()}

    def load_weights(self, weights):
        canonical.check(weights, self.shapes)
        self.held = {name: np.array(weight, self.dtype) for name, weight in weights.items()}


class OracleTrainer:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.load_state(optimizers.initial_state(optimizer, model.held))

    def step(self, batch, learning_rate):
        model = self.model
        after = training.step(model.spec, self.optimizer, model.held, self.held, batch, learning_rate=learning_rate)
        model.load_weights(after.weights)
        self.load_state(after.state)
        return after.loss

    def state(self):
        return {name: value.copy() for name, value in self.held.items()}

    def load_state(self, state):
        dtype = self.model.dtype
        self.held = {n: np.array(v, np.int64 if n == "step" else dtype) for n, v in state.items()}


class OracleBackend:
    info = BackendInfo("oracle", "tests.bundle.oracle_backend:OracleBackend", "the oracle, trained in float64 steps")

    def model(self, query, candidate, retrieval, weights, *, dtype="float32"):
        return OracleModel(query, candidate, retrieval, weights, dtype)

    def trainer(self, model, optimizer):
        return OracleTrainer(model, optimizer)
