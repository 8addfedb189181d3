"""faiss's structures take in new rows and give none up: which of theirs is which of ours."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.index import RescoredIndex
from recs_core_faiss import codes

STALE = 0.25
"""Share of rows of faiss's that are no longer anyone's, above which all is made anew."""


class ChangingIndex(RescoredIndex):
    """`_engine`: faiss's index. `_positions` (rows,): the position of each row of it, −1 where that has moved on.
    `_exponent`: faiss's rows are ours divided by two to this."""

    _engine: Any
    _positions: NDArray[np.int64]
    _exponent: int

    @property
    def _coded(self) -> Any:
        """What of faiss's index holds the codes."""
        return self._engine

    @abstractmethod
    def _empty(self, dim: int, number: int) -> Any:
        """An index of faiss's for so many vectors of so many numbers, not trained, and without rows."""

    def _make(self, vectors: NDArray[np.float32]) -> None:
        self._exponent = codes.exponent(vectors)
        engine, rows = self._empty(vectors.shape[1], len(vectors)), self._rows(vectors)
        engine.train(rows)
        engine.add(rows)
        self._engine, self._positions = engine, np.arange(len(vectors))

    def _renew(self, vectors: NDArray[np.float32], changed: NDArray[np.int64]) -> None:
        rows = self._rows(vectors[changed])
        stale = np.isin(self._positions, changed) | (self._positions < 0)
        if stale.sum() > STALE * len(stale) or not codes.within(self._coded, rows):
            return self._make(vectors)
        self._engine.add(rows)
        self._positions = np.concatenate([np.where(stale, -1, self._positions), changed])

    def _rows(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors as faiss holds them; the very same where nothing is to be divided."""
        return np.ascontiguousarray(np.ldexp(vectors, -self._exponent) if self._exponent else vectors)

    def _positions_of(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Positions of rows of faiss's, −1 for none."""
        return np.where(rows < 0, -1, self._positions[rows])
