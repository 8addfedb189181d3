"""A correct backend and index in NumPy, composed from the oracle: what the biters break, one line at a time."""

import dataclasses

import numpy as np

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch
from recs_core.contract.errors import ConfigError, DataError, SpecError, UnsupportedFeature
from recs_core.contract.manifest import BACKEND_CAPABILITIES, INDEX_CAPABILITIES, BackendInfo, IndexInfo, No
from recs_core.contract.plans import TowerPlan, as_columns
from recs_core.contract.protocols import TopK
from recs_core.contract.task import plan_task
from recs_core.index import tiles
from recs_core.index.filters import check_allow, check_positions
from recs_core.index.plan import built, check_k
from recs_core.reference import optimizers, task, topk, towers, training

INFO = BackendInfo(
    name="numpy",
    factory="numpy_backend:NumpyBackend",
    summary="the oracle as a backend",
    requires=("numpy",),
    capabilities=dict.fromkeys(BACKEND_CAPABILITIES, True) | {"sparse_rows": No("a step is one of whole tables")},
    static_shapes=True,
)


class NumpyTower:
    def __init__(self, spec, side, weights, dtype):
        self.spec, self.side, self.weights, self.dtype = spec, side, weights, dtype
        self.plan, self.output_dim = TowerPlan.of(side, spec), spec.output_dim
        self.native = self._native

    def embed(self, features):
        whole = features.unmasked
        return towers.embed(self.spec, self.side, whole, self.weights).astype(self.dtype)

    def __call__(self, features):
        if not isinstance(features, Batch):
            return towers.embed(self.spec, self.side, features, self.weights)
        local = features.query if self.side == "query" else features.candidate
        return towers.embed(
            self.spec, self.side, training.on_whole_tables(self.spec, local, features, self.weights), self.weights
        )

    def _native(self, codes):
        (feature,) = self.spec.features
        return self.embed(towers.Features(len(codes), {feature.name: codes}))


class AdoptedTower:
    """The only module that NumPy has is the native half of a tower here."""

    plan = None

    def __init__(self, module, features, output_dim):
        self.native, self.output_dim, self.spec = module, output_dim, module.__self__.spec
        tables = {feature.table_name for feature in self.spec.features}
        side = module.__self__.side
        self.own = {n: w for n, w in module.__self__.weights.items() if n in tables or n.startswith(f"{side}/")}
        self.features = [column.name for column in as_columns(features)]

    def embed(self, features):
        return self.native(*(features.codes[name] for name in self.features))


class NumpyTask:
    def __init__(self, spec, weights=None):
        self.spec, self.weights = spec, weights or {}

    def __call__(self, query, candidate, **inputs):
        plan_task(self.spec, len(query), len(candidate), **inputs)
        if self.spec.candidate_bias and "candidate_ids" not in inputs:
            raise SpecError("candidate_bias=True needs candidate_ids, the code of each column")
        bias = self.weights["task/bias"][inputs["candidate_ids"]] if self.spec.candidate_bias else None
        log_temperature = float(self.weights["task/log_temperature"]) if self.spec.learn_temperature else None
        result = task.loss_and_gradients(self.spec, query, candidate, bias, log_temperature, **inputs)
        return result.loss


class NumpyModel:
    def __init__(self, query, candidate, retrieval, weights, dtype, adopted):
        self.spec = training.Model(query, candidate, retrieval)
        self.dtype = dtype
        self._weights = {name: np.array(value, dtype) for name, value in weights.items()}
        for tower in adopted:
            self._weights |= tower.own
        self.query = NumpyTower(query, "query", self._weights, dtype)
        self.candidate = NumpyTower(candidate, "candidate", self._weights, dtype)
        self.task = NumpyTask(retrieval, self._weights)
        self.version = 0

    def weights(self):
        return {name: value.copy() for name, value in self._weights.items()}

    def load_weights(self, weights):
        canonical.check(weights, {name: value.shape for name, value in self._weights.items()})
        for name, value in weights.items():
            self._weights[name][...] = value
        self.version += 1


def bfloat16(array):
    """Rounded to the upper half of a float32, ties upward."""
    bits = np.asarray(array, np.float32).view(np.uint32) + np.uint32(1 << 15)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(array.dtype)


class NumpyTrainer:
    def __init__(self, model, optimizer, precision=None):
        self.model, self.optimizer, self.precision = model, optimizer, precision
        self._state = self._rounded(optimizers.initial_state(optimizer, model.weights()))

    def step(self, batch, learning_rate):
        whole = {name: np.arange(len(w)) for name, w in self.model._weights.items() if name.startswith("table/")}
        batch = dataclasses.replace(
            batch, rows={**whole, **batch.rows}
        )  # an adopted module's codes are of whole tables
        weights = self.model.weights()
        seen = weights if self.precision is None else {n: bfloat16(w) if w.ndim == 2 else w for n, w in weights.items()}
        result = training.step(self.model.spec, self.optimizer, seen, self._state, batch, learning_rate=learning_rate)
        result = dataclasses.replace(result, weights={n: weights[n] + (w - seen[n]) for n, w in result.weights.items()})
        for name, value in result.weights.items():
            self.model._weights[name][...] = value
        self.model.version += 1
        self._state = self._rounded(result.state)
        return result.loss

    def state(self):
        return {name: value.copy() for name, value in self._state.items()}

    def load_state(self, state):
        for name in sorted(set(state) ^ set(self._state)):
            raise DataError(f"state {name!r} is missing or unknown")
        for name, value in state.items():
            if np.shape(value) != self._state[name].shape:
                raise DataError(
                    f"state {name!r} has shape {np.shape(value)}, the optimizer's is {self._state[name].shape}"
                )
        self._state = self._rounded(state)

    def _rounded(self, state):
        return {n: np.array(v, np.int64 if n == "step" else self.model.dtype) for n, v in state.items()}


class NumpyBackend:
    workers = None

    def __init__(self, info=INFO):
        self.info = info

    def _needs(self, capability, wanted):
        declared = self.info.capabilities.get(capability, True)
        if wanted and isinstance(declared, No):
            raise UnsupportedFeature(f"numpy has no {capability}: {declared.reason}")

    def model(self, query, candidate, retrieval, weights, *, dtype="float32"):
        self._needs("hard_negatives", retrieval.hard_negatives is not None)
        self._needs("text", any(type(f).__name__ == "Text" for f in (*query.spec.features, *candidate.spec.features)))
        adopted = [tower for tower in (query, candidate) if isinstance(tower, AdoptedTower)]
        return NumpyModel(query.spec, candidate.spec, retrieval, weights, dtype, adopted)

    def task(self, spec, *, weights=None, dtype="float32"):
        self._needs("hard_negatives", spec.hard_negatives is not None)
        return NumpyTask(spec, {name: np.array(value) for name, value in (weights or {}).items()})

    def adopt(self, module, features, *, output_dim=None):
        return AdoptedTower(module, features, output_dim)

    def trainer(self, model, plan):
        trainer = NumpyTrainer(model, plan.spec, plan.precision)
        trainer.workers = self.workers
        return trainer

    def devices(self):
        return {"cpu": "NumPy"}

    def on(self, device):
        if device not in self.devices():
            raise ConfigError(f"numpy has no device {device!r}; there is 'cpu'")
        return NumpyBackend(self.info)

    def over(self, workers):
        """On every worker all of every batch, so that they need not meet."""
        out = NumpyBackend(self.info)
        out.workers = workers
        return out


def refuse_vectors(vectors):
    tiles.check_vectors(vectors, vectors)
    tiles.norms(vectors, "candidate")


def refuse(vectors, queries, k, exclude, allow):
    built(vectors)
    tiles.check_vectors(queries, vectors)
    norms = [tiles.norms(array, "query or candidate").max(initial=0) for array in (queries, vectors)]
    tiles.check_range(*norms, np.dtype(np.float32))
    check_k(k, len(vectors))
    if exclude is not None:
        check_positions(exclude, len(queries), len(vectors), "exclude")
    if allow is not None:
        check_allow(allow, len(vectors))


def refuse_changes(before, vectors, positions):
    """What `UpdatableIndex.upsert` refuses."""
    built(before)
    refuse_vectors(vectors)
    tiles.check_vectors(vectors, before)
    check_allow(positions, len(vectors))
    new = np.arange(len(before), len(vectors))
    if not np.isin(new, positions).all() or len(vectors) < len(before):
        raise DataError("new rows are named, and none is gone")


class NumpyIndex:
    info = IndexInfo(
        name="numpy",
        factory="numpy_backend:NumpyIndex",
        summary="the oracle as an index",
        is_exact=True,
        capabilities=dict.fromkeys(INDEX_CAPABILITIES, True),
    )

    spec = "numpy"
    vectors = None

    def build(self, vectors):
        refuse_vectors(vectors)
        self.vectors = vectors
        self.deleted = np.zeros(len(vectors), bool)

    def search(self, queries, k, *, exclude=None, allow=None):
        refuse(self.vectors, queries, k, exclude, allow)
        if self.deleted.any():
            left = np.flatnonzero(~self.deleted)
            allow = left if allow is None else np.intersect1d(allow, left)
        found = topk.top_k(queries, self.vectors, k, exclude=exclude, allow=allow)
        return TopK(found.ids, found.scores.astype(np.float32))

    def parts(self):
        built(self.vectors)
        if self.deleted.any():
            raise DataError("some positions are deleted")
        return {"order": np.argsort(self.vectors.sum(1), kind="stable")}  # which nothing needs: an example of a part

    def restore(self, vectors, parts):
        if "order" not in parts or not np.array_equal(np.sort(parts["order"]), np.arange(len(vectors))):
            raise DataError("these parts are not of these vectors")
        self.build(vectors)

    def upsert(self, vectors, positions):
        refuse_changes(self.vectors, vectors, positions)
        deleted = np.concatenate([self.deleted, np.zeros(len(vectors) - len(self.deleted), bool)])
        deleted[positions] = False
        self.vectors, self.deleted = vectors, deleted

    def delete(self, positions):
        check_allow(positions, len(built(self.vectors)))
        self.deleted[positions] = True
