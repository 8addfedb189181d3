"""The backend, behind the contract of `recs_core.contract.protocols`, where every member is described."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import DataError, SpecError, UnsupportedFeature
from recs_core.contract.optimizers import Optimizer, RowWiseAdagrad
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import plan_task
from recs_core.contract.towers import TowerSpec
from recs_core_numpy import optimizers, task, towers
from recs_core_numpy.plugin import INFO, LACKS


class NumpyTower:
    """A tower over the model's weights; `native` is the tower itself."""

    def __init__(self, spec: TowerSpec, side: str, weights: dict[str, Any], dtype: str) -> None:
        self.spec, self.side, self.weights, self.dtype = spec, side, weights, dtype
        self.output_dim, self.native = spec.output_dim, self

    def embed(self, features: Features) -> Any:
        """(n, output_dim), without dropout."""
        features = Features(features.size, features.codes, features.dense)
        return towers.forward(self.spec, self.side, features, self.weights, self.dtype)[-1]

    def __call__(self, features: Features | Batch) -> Any:
        """The same; arrays carry no gradient, so a native loop is refused."""
        raise UnsupportedFeature(f"backend 'numpy' has no native loop: {LACKS['native_loop'].reason}")


class NumpyTask:
    """The task with its own weights."""

    def __init__(self, spec: RetrievalSpec, weights: dict[str, Any], dtype: str) -> None:
        self.spec, self.weights, self.dtype = spec, weights, dtype

    def __call__(self, query: Any, candidate: Any, **inputs: Any) -> float:
        """The loss."""
        plan = plan_task(self.spec, len(query), len(candidate), **inputs)
        bias = None
        if self.spec.candidate_bias:
            if inputs.get("candidate_ids") is None:
                raise SpecError("candidate_bias=True needs candidate_ids, the code of each candidate column")
            bias = self.weights["task/bias"][inputs["candidate_ids"]]
        query, candidate = np.asarray(query, self.dtype), np.asarray(candidate, self.dtype)
        return float(task.loss_and_gradients(self.spec, plan, query, candidate, bias, self.temperature)[0])

    @property
    def temperature(self) -> Any:
        """τ, fixed or learned."""
        if self.spec.learn_temperature and "task/log_temperature" in self.weights:
            return np.exp(self.weights["task/log_temperature"])
        return np.asarray(self.spec.temperature, self.dtype)


class NumpyModel:
    """Weights by canonical name, and what looks at them."""

    def __init__(self, query: TowerSpec, candidate: TowerSpec, retrieval: RetrievalSpec, weights: Any, dtype: str):
        self.own = {name: np.array(value, dtype) for name, value in weights.items()}
        self.query = NumpyTower(query, "query", self.own, dtype)
        self.candidate = NumpyTower(candidate, "candidate", self.own, dtype)
        self.task = NumpyTask(retrieval, self.own, dtype)
        self.version = 0  # moves with every step and load

    def weights(self) -> dict[str, Any]:
        return {name: value.copy() for name, value in self.own.items()}

    def load_weights(self, weights: Any) -> None:
        canonical.check(weights, {name: value.shape for name, value in self.own.items()})
        for name, value in weights.items():
            self.own[name][...] = value
        self.version += 1


class NumpyTrainer:
    """One optimizer on one model."""

    def __init__(self, model: NumpyModel, optimizer: Optimizer) -> None:
        dense, row_wise = getattr(optimizer, "dense", False), isinstance(optimizer, RowWiseAdagrad)
        if dense or row_wise:
            lack = LACKS["dense_adam" if dense else "row_wise_adagrad"]
            raise UnsupportedFeature(f"backend 'numpy' has no {optimizer}: {lack.reason}")
        self.model, self.optimizer, self.steps = model, optimizer, 0
        self.slots = {name: optimizers.initial_slots(optimizer, w) for name, w in model.own.items()}

    def step(self, batch: Batch, learning_rate: float) -> float:
        """Gather rows, differentiate, clip, update, scatter."""
        own = self.model.own
        gathered = {name: w[batch.rows[name]] if name in batch.rows else w for name, w in own.items()}
        loss, gradients = self._gradients(batch, gathered)
        clip = self.optimizer.clip_norm
        if clip is not None:
            norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
            gradients = {name: g * (clip / max(norm, clip)) for name, g in gradients.items()}
        self.steps += 1
        self.model.version += 1
        for name, g in gradients.items():
            rows, slots = batch.rows.get(name, ...), self.slots[name]
            optimizers.update(self.optimizer, name, own[name], slots, rows, g, learning_rate, self.steps)
        return float(loss)

    def _gradients(self, batch: Batch, weights: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        model = self.model
        sides = ((model.query, batch.query), (model.candidate, batch.candidate))
        query, candidate = (towers.forward(t.spec, t.side, f, weights, t.dtype) for t, f in sides)
        plan = plan_task(model.task.spec, batch.query.size, batch.candidate.size, **batch.task)
        bias = None if batch.bias_codes is None else weights["task/bias"][batch.bias_codes]
        loss, *slopes, grad_b, grad_log_tau = task.loss_and_gradients(
            model.task.spec, plan, query[-1], candidate[-1], bias, model.task.temperature
        )
        into = {name: np.zeros_like(w) for name, w in weights.items()}
        for (tower, features), outputs, slope in zip(sides, (query, candidate), slopes, strict=True):
            towers.backward(tower.spec, tower.side, features, weights, outputs, slope, into)
        if batch.bias_codes is not None:
            np.add.at(into["task/bias"], batch.bias_codes, grad_b)
        if "task/log_temperature" in into:
            into["task/log_temperature"] += grad_log_tau
        return loss, into

    def state(self) -> dict[str, Any]:
        slots = {f"{name}/{slot}": v.copy() for name, slots in self.slots.items() for slot, v in slots.items()}
        return {**slots, "step": np.asarray(self.steps, np.int64)}

    def load_state(self, state: Any) -> None:
        now = self.state()
        for name in sorted(set(state) ^ set(now)):
            raise DataError(f"state {name!r} is {'missing' if name in now else 'unknown to this optimizer'}")
        for name, value in now.items():
            if np.shape(state[name]) != value.shape:
                raise DataError(f"state {name!r} has shape {np.shape(state[name])}, this optimizer's is {value.shape}")
        for name, slots in self.slots.items():
            for slot in slots:
                slots[slot][...] = state[f"{name}/{slot}"]
        self.steps = int(state["step"])


class NumpyBackend:
    """What the manifest's factory names."""

    info = INFO

    def __init__(self, engine: str | None = None) -> None:
        assert engine is None  # the manifest lists no engines

    def model(
        self, query: Any, candidate: Any, retrieval: RetrievalSpec, weights: Any, *, dtype: str = "float32"
    ) -> Any:
        return NumpyModel(query, candidate, retrieval, weights, dtype)

    def task(self, spec: RetrievalSpec, *, weights: Any = None, dtype: str = "float32") -> NumpyTask:
        if spec.candidate_bias and weights is None:
            raise SpecError("a task with candidate_bias=True needs weights with task/bias")
        return NumpyTask(spec, {name: np.asarray(w, dtype) for name, w in (weights or {}).items()}, dtype)

    def adopt(self, module: Any, features: Any, *, output_dim: int | None = None) -> Any:
        """Refused, as the manifest says."""
        raise UnsupportedFeature(f"backend 'numpy' adopts no module: {LACKS['adopt'].reason}")

    def trainer(self, model: NumpyModel, optimizer: Optimizer) -> NumpyTrainer:
        return NumpyTrainer(model, optimizer)
