"""A recommender that needs NumPy alone."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import BundleError
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import Tower
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import Weights, is_native
from recs_core.copies import own_index
from recs_core.data.catalog import Catalog
from recs_core.fitted import Fitted
from recs_core.recommender import Recommender
from recs_core.runtime.towers import NoTower, NumpyTower


class NumpyRecommender(Recommender):
    """Answers from weights by name, usually a bundle's memory map; `recs.load(path, runtime="numpy")` makes one.

    `vectors` (corpus, d): the corpus' retrieval vectors, where they need not be made from the candidate tower.
    """

    def __init__(
        self,
        query: TowerSpec,
        candidate: TowerSpec,
        retrieval: RetrievalSpec,
        catalog: Catalog,
        weights: Weights,
        vectors: NDArray[np.floating] | None = None,
    ) -> None:
        super().__init__(query, candidate, retrieval)
        self._catalog = catalog
        self._weights = dict(weights)
        self._query = NumpyTower(TowerPlan.of("query", query), weights)
        native = any(is_native(name) for name in weights if name.startswith("candidate/"))
        self._candidate: Tower = (
            NoTower("candidate") if native else NumpyTower(TowerPlan.of("candidate", candidate), weights)
        )
        self.vectors = vectors

    @classmethod
    def of(cls, fitted: Fitted, *, vectors: NDArray[np.floating] | None = None) -> NumpyRecommender:
        """A recommender of this value; `vectors` as in the class."""
        declared = fitted.declared
        towers = declared.query, declared.candidate
        return cls(*towers, declared.retrieval, fitted.catalog, fitted.weights, vectors)

    def save(self, path: Any, **options: Any) -> NoReturn:
        """Raises `BundleError`: what serves is read-only."""
        raise BundleError(
            f"{path}: a model loaded with runtime='numpy' is read-only; copy its bundle, or load it with a backend"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle`, `joblib` and `copy`: the arrays, not the files that they are mapped from."""
        parts = (self.query, self.candidate, self.retrieval, self._catalog, self._weights, self.vectors)
        return NumpyRecommender, parts, {"index": own_index(self.index)}

    @property
    def query_tower(self) -> Tower:
        """The query tower."""
        return self._query

    @property
    def candidate_tower(self) -> Tower:
        """The candidate tower."""
        return self._candidate

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Every weight by canonical name: read-only views of the bundle's memory map."""
        return dict(self._weights)

    def _embedded_corpus(self) -> NDArray[np.floating]:
        return super()._embedded_corpus() if self.vectors is None else self.vectors
