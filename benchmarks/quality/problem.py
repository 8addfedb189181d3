"""A split as plain arrays, for whatever is measured: who trains on what, who is asked, what should be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.data.interactions import Interactions
from recs_core.evaluation import NEVER, Ranks, query_metrics
from recs_core.evaluation.beyond import tail

Scores: TypeAlias = Callable[[NDArray[np.integer]], NDArray[np.floating]]
"""(n,) query codes → (n, C) scores."""

BLOCK = 512


@dataclass(frozen=True)
class Problem:
    """Training rows as a matrix, and the test's queries in the codes of its vocabularies.

    `matrix` (Q, C) CSR of 0 and 1. `asked` (n,): query codes of the test, in the order that `Recommender.rank` uses.
    `targets`, `hidden`: a row of candidate codes for each of them; hidden ones leave its ranking.
    """

    train: Interactions
    matrix: Any
    asked: NDArray[np.int32]
    targets: Ragged
    hidden: Ragged

    @classmethod
    def of(cls, train: Interactions, test: Interactions) -> Problem:
        """Test queries and candidates are known to the training rows' vocabularies, or count as misses (code −1)."""
        shape = (len(train.query_ids), len(train.candidate_ids))
        ones = np.ones(len(train), np.float32)
        matrix = sp.csr_matrix((ones, (train.query_codes, train.candidate_codes)), shape)
        matrix.data[:] = 1
        present = np.flatnonzero(test.query_counts() > 0)
        place = np.full(len(test.query_ids), -1)
        place[present] = np.arange(len(present))
        codes = train.candidate_ids.encode(test.candidate_ids.ids)
        pairs = np.unique(np.stack([place[test.query_codes], test.candidate_codes], 1), axis=0)
        targets = Ragged(codes[pairs[:, 1]], offsets_of(pairs[:, 0], len(present)))
        asked = train.query_ids.encode(test.query_ids.ids.take(pa.array(present)))
        seen = matrix[asked]
        hidden = Ragged(seen.indices.astype(np.int32), seen.indptr.astype(np.int32))
        return cls(train, matrix, asked, targets, hidden)

    def rank(self, scores: Scores) -> Ranks:
        """The rank of every target, a block of queries at a time."""
        above = np.full(len(self.targets.values), NEVER, np.int64)
        tied = np.zeros(len(self.targets.values), np.int64)
        for start in range(0, len(self.asked), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self.asked)))
            block = np.array(scores(self.asked[rows]), np.float32)
            hidden = self.hidden.take(rows)
            block[hidden.segments, hidden.values] = -np.inf
            for row, found in zip(rows, block, strict=True):
                at = slice(*self.targets.offsets[row : row + 2])
                wanted = self.targets.values[at]
                value = np.where(wanted < 0, -np.inf, found[wanted])[:, None]
                counted = np.isfinite(value[:, 0])
                above[at] = np.where(counted, (found > value).sum(1), NEVER)
                tied[at] = np.where(counted, (found == value).sum(1) - 1, 0)
        return Ranks(above, tied, self.targets.offsets, self.matrix.shape[1], self.targets.values)

    def tail(self) -> NDArray[np.bool_]:
        """(T,): targets in the tail, or outside the corpus."""
        return np.append(tail(self.train.candidate_counts()), True)[self.targets.values]


def tail_recall(found: Ranks, rare: NDArray[np.bool_], k: int) -> float:
    """Recall@k over the targets of the tail alone; the mean over queries that have one."""
    return query_metrics(found.only(rare), k=[k]).mean()[f"recall@{k}"]


def offsets_of(rows: NDArray[np.integer], size: int) -> NDArray[np.int32]:
    """(size + 1,): where the values of each row begin, when `rows` holds the row of each value, ascending."""
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))]).astype(np.int32)
