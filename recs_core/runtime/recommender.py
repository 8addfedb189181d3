"""A recommender that needs NumPy alone."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.contract.errors import BundleError
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import Tower
from recs_core.contract.weights import is_native
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
        fitted: Fitted,
        vectors: NDArray[np.floating] | None = None,
    ) -> None:
        declared = fitted.declared
        super().__init__(declared.query, declared.candidate, declared.retrieval)
        self._be(fitted, vectors)

    def _be(self, fitted: Fitted, vectors: NDArray[np.floating] | None) -> None:
        declared, weights = fitted.declared, fitted.weights
        candidate: Tower = NoTower("candidate")
        if not any(is_native(name) for name in weights if name.startswith("candidate/")):
            candidate = NumpyTower(TowerPlan.of("candidate", declared.candidate), weights)
        self._query, self._candidate = NumpyTower(TowerPlan.of("query", declared.query), weights), candidate
        self._fitted, self._catalog, self.vectors = fitted, fitted.catalog, vectors

    def fitted(self) -> Fitted:
        """This model as a value, without the progress of its training."""
        return self._fitted

    def _become(self, fitted: Fitted) -> None:
        known = len(self.schema.candidates)
        self._with(fitted, np.arange(known, len(fitted.catalog.schema.candidates), dtype=np.int32))

    def _with_candidates(self, catalog: Catalog, touched: NDArray[np.int32]) -> None:
        from recs_core.growth.candidates import with_catalog

        self._with(with_catalog(self._fitted, catalog), touched)

    def _with(self, fitted: Fitted, touched: NDArray[np.int32]) -> None:
        """Be the model of this value, of whose candidates only those `touched` may have other vectors."""
        held = self._corpus.vectors if self.vectors is None and self._corpus is not None else self.vectors
        following = NumpyRecommender(fitted)
        if held is not None and len(touched):
            held = _replaced(held, len(fitted.catalog.schema.candidates), touched, following.vectors_of(touched))
        self._be(fitted, held)

    def vectors_of(self, codes: NDArray[np.int32]) -> NDArray[np.floating]:
        """(n, d) retrieval vectors of candidate codes, from the candidate tower."""
        raw = self._candidate.embed(self.catalog.candidate.take(codes))
        return scoring.candidate_vectors(raw, self.retrieval, self._fitted.weights, codes)

    def save(self, path: Any, **options: Any) -> NoReturn:
        """Raises `BundleError`: what serves is read-only."""
        raise BundleError(
            f"{path}: a model loaded with runtime='numpy' is read-only; copy its bundle, or load it with a backend"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle`, `joblib` and `copy`: the arrays, not the files that they are mapped from."""
        return NumpyRecommender, (self._fitted, self.vectors), {"index": own_index(self.index)}

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
        return dict(self._fitted.weights)

    def _embedded_corpus(self) -> NDArray[np.floating]:
        return super()._embedded_corpus() if self.vectors is None else self.vectors


def _replaced(
    held: NDArray[np.floating], size: int, codes: NDArray[np.int32], vectors: NDArray[np.floating]
) -> NDArray[np.floating]:
    """A copy of `held`, grown to `size` rows, with these vectors at `codes`."""
    out = np.empty((size, held.shape[1]), held.dtype)
    out[: len(held)] = held
    out[codes] = vectors
    return out
