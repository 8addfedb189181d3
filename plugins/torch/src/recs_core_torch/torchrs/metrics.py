"""Top-k hit rate over a corpus, by item id."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, NotFitted, SpecError
from recs_core.evaluation.ranking import ranks


class FactorizedTopK:
    """Share of rows whose true item is among the k highest-scored of the corpus, over all batches since `reset`.

    Ties are pessimistic: an item that ties with k others is not found, so a model that scores all alike gets 0.
    `candidates`: ids that make up the corpus, by default every candidate that `update` is given.
    """

    def __init__(self, k: int = 100, candidates: ArrayLike | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise SpecError(f"FactorizedTopK needs k ≥ 1, got {k!r}")
        self.k = k
        self.candidates = None if candidates is None else _array(candidates)
        self.reset()

    @property
    def name(self) -> str:
        """The name under which results are reported."""
        return f"factorized_top_{self.k}"

    def reset(self) -> None:
        """Forget every batch."""
        self.hits, self.rows = 0, 0

    @torch.no_grad()
    def update(
        self, query: Tensor, candidate: Tensor, true_items: ArrayLike, candidate_items: ArrayLike | None = None
    ) -> float:
        """Count a batch: queries (B, d) with true item ids (B,) against candidates (N, d). Returns the batch's share.

        `candidate_items` (N,): the id of each candidate, by default its row number. A true item outside the corpus is
        never found.
        """
        ids = np.arange(len(candidate)) if candidate_items is None else _array(candidate_items)
        if ids.shape != (len(candidate),):
            raise DataError(f"candidate_items must be {len(candidate)} ids, one per candidate; got shape {ids.shape}")
        corpus = np.arange(len(ids)) if self.candidates is None else np.flatnonzero(np.isin(ids, self.candidates))
        true = _array(true_items)
        positions = pc.fill_null(pc.index_in(pa.array(true), value_set=pa.array(ids[corpus])), -1).to_numpy()
        targets = Ragged(positions, np.arange(len(true) + 1, dtype=np.int32))
        found = ranks(query.cpu().numpy(), candidate.cpu().numpy()[corpus], targets)
        hits = int(((found.above >= 0) & (found.above + found.tied < self.k)).sum())
        self.hits += hits
        self.rows += len(true)
        return hits / max(1, len(true))

    __call__ = update

    def compute(self) -> float:
        """The share over all rows so far. Raises `NotFitted` before the first."""
        if not self.rows:
            raise NotFitted(f"{self.name} has counted no row yet; call update, or RetrievalModel.evaluate")
        return self.hits / self.rows


def _array(ids: ArrayLike) -> NDArray[np.int64]:
    array = ids.cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"item ids must be whole numbers, got {array.dtype}; see RecommendationDataset.item_vocabulary")
    return array.astype(np.int64)
