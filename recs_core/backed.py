"""A recommender whose towers run on a backend: the backend's own model, and how it is built from weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core import config
from recs_core.adopted import Adopted
from recs_core.contract import weights as canonical
from recs_core.contract.batch import Side
from recs_core.contract.errors import NotFitted
from recs_core.contract.plans import TowerPlan, check_encoders
from recs_core.contract.protocols import Backend, DType, Index, Model, Tower
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import SIDES, TowerSpec, check_pair
from recs_core.contract.weights import Weights
from recs_core.data.encoded import EncodedDataset
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.recommender import Recommender


class BackedRecommender(Recommender):
    """What `TwoTower` is beside its training. `adopted`: the sides whose tower is a user's own native module."""

    def __init__(
        self,
        query: TowerSpec,
        candidate: TowerSpec,
        retrieval: RetrievalSpec,
        index: Index | str | None,
        *,
        backend: str | Backend | None,
        dtype: DType,
        adopted: Mapping[Side, Adopted],
    ) -> None:
        super().__init__(query, candidate, retrieval, index)
        self.dtype: DType = dtype
        self._backend, self._adopted = backend, dict(adopted)
        self._model: Model | None = None

    @cached_property
    def backend(self) -> Backend:
        """The backend of this model, loaded when first needed."""
        if self._backend is not None and not isinstance(self._backend, str):
            return self._backend
        return config.backend(self._backend)

    @property
    def backend_name(self) -> str:
        """The backend's name, with its engine where it has one: "torch", "keras[jax]"."""
        engine = getattr(self.backend, "engine", None)
        return f"{self.backend.info.name}[{engine}]" if engine else self.backend.info.name

    @property
    def model(self) -> Model:
        """The backend's own model. Raises `NotFitted` before `fit`, `build` or `load`."""
        if self._model is None:
            raise NotFitted("this model has no weights yet; call fit(train), build(train) or recs.load(path) first")
        return self._model

    @property
    def query_tower(self) -> Tower:
        """The query tower; its `native` is the framework's own object (nn.Module, tf.keras.Model, keras.Model)."""
        return self.model.query

    @property
    def candidate_tower(self) -> Tower:
        """The candidate tower."""
        return self.model.candidate

    @property
    def task(self) -> Any:
        """The retrieval task with its weights."""
        return self.model.task

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Every weight by canonical name, as copies."""
        return self.model.weights()

    @property
    def version(self) -> Hashable:
        """Equal as long as no weight has moved, also by a loop of the framework's own."""
        return self.model.version

    def mine_negatives(self, train: Interactions, *, k: int = 5, skip: int = 0) -> Interactions:
        """`train`, each row with `negatives` that this model finds hard to tell from what the query takes: the
        candidates at places `skip` + 1 … `skip` + k of its list, by exact search, which the query took in no row. Those
        of which `train` has no id, neither in a row nor in its side table, are left out and counted in the log.

        Train a model on the result as on any data. `skip`: leave out the very best, which the query may like. Raises
        `NotFitted` before `fit`, `SpecError` for a k or skip that cannot be meant, and as `evaluate` for the data.
        """
        from recs_core.mining import mined

        return mined(self, train, k, skip)

    def _initial(self, schema: Schema, seed: int) -> Model:
        """A model of initial weights for what the schema knows."""
        query, candidate = (None if side in self._adopted else self._plan(side) for side in SIDES)
        rows, corpus = schema.table_rows, len(schema.candidates)
        return self._built(canonical.initial(query, candidate, self.retrieval, rows, corpus, seed=seed), schema)

    def _built(self, start: Weights, schema: Schema) -> Model:
        """A model of the declared weights; adopted modules keep their own."""
        query, candidate = (self._tower(side, schema) for side in SIDES)
        check_encoders(self.backend.info, query, candidate)
        return self.backend.model(query, candidate, self.retrieval, start, dtype=self.dtype)

    def _tower(self, side: Side, schema: Schema) -> TowerPlan | Tower:
        plan = self._plan(side)
        return self._adopted[side].tower(self.backend, plan, schema) if side in self._adopted else plan

    def _reads(self, train: Interactions) -> tuple[TowerSpec, TowerSpec]:
        """What the towers read of training data: as declared, and where one is a user's own, what its module takes."""
        names = {"query": train.query_name, "candidate": train.candidate_name}
        query, candidate = (
            self._adopted[side].reads(names[side]) if side in self._adopted else getattr(self, side) for side in SIDES
        )
        return query, candidate

    def _encoded(self, train: Interactions) -> EncodedDataset:
        """The training data in the model's codes."""
        before = self._catalog
        query, candidate = (self.query, self.candidate) if before is not None else self._reads(train)
        schema = before.schema if before is not None else Schema.learn(query, candidate, train)
        data = EncodedDataset.encode(query, candidate, schema, train, before=before, adopted=frozenset(self._adopted))
        if not self._adopted:
            check_pair(data.query_tower, data.candidate_tower)
        return data

    def _plan(self, side: Side) -> TowerPlan:
        return TowerPlan.of(side, getattr(self, side))
