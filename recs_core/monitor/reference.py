"""What the bundle's own training queries are answered: what a service's answers are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recs_core.monitor.drift import counts_of, edges_of
from recs_core.recommender import Recommender

QUERIES = 1_000
"""Training queries asked, spread evenly over the vocabulary."""


@dataclass(frozen=True)
class Expected:
    """One number of every answer of the reference: where its bins are cut, the share in each, the mean, and of how many
    answers."""

    edges: NDArray[np.float64]
    shares: NDArray[np.float64]
    mean: float
    size: int

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Expected:
        """Of these values, one at least."""
        edges = edges_of(values)
        return cls(edges, counts_of(values, edges) / len(values), float(values.mean()), len(values))


class Reference:
    """Answers to training queries, asked as a request asks: with its k, and with or without what training saw."""

    def __init__(self, model: Recommender) -> None:
        self._model = model
        self._held: dict[tuple[int, bool], tuple[Expected, Expected] | None] = {}
        known = len(model.schema.queries)
        self._queries = np.unique(np.linspace(0, known - 1, min(known, QUERIES)).round().astype(np.int64))

    def expected(self, k: int, exclude_seen: bool) -> tuple[Expected, Expected] | None:
        """Top scores, and the mean training rows of the recommended; None where nothing is left to recommend."""
        asked = min(k, len(self._model.schema.candidates)), exclude_seen
        if asked not in self._held:
            self._held[asked] = self._ask(*asked)
        return self._held[asked]

    def _ask(self, k: int, exclude_seen: bool) -> tuple[Expected, Expected] | None:
        schema = self._model.schema
        found = self._model.recommend_codes(
            schema.queries.decode(self._queries),
            k,
            exclude="seen" if exclude_seen else None,
            context=schema.blank_request,
        )
        some = found.ids[:, 0] >= 0
        if not some.any():
            return None
        popularity = popularity_of(found.ids[some], self._model.catalog.counts)
        return Expected.of(found.scores[some, 0]), Expected.of(popularity)


def popularity_of(lists: NDArray[np.integer], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) mean training rows of the candidates of each list (n, k) of codes, −1 where it is short."""
    there = lists >= 0
    return np.where(there, counts[np.maximum(lists, 0)], 0).sum(1) / there.sum(1)
