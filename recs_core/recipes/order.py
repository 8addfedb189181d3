"""Whether the order of candidates says what comes next: two plain predictors on the training rows' own latest ones.

Of some queries the latest candidate, with all rows of its time, is hidden. One predictor looks at what came after the
query's latest three candidates elsewhere, the other at what queries alike took, whenever they took it. If the first
finds more of the hidden, order is worth a model that reads it. Rows of one time have no order: what came after a row is
what the query took at its next time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.data.interactions import Interactions

K = 10
QUERIES = 400
"""Queries that are asked: 2 % of hit rate is one standard error, and sets differ by 15 %."""

ROWS = 1_000_000
"""Rows that are looked at, about: of more a part of the queries, so that it takes seconds."""

LATEST = (1.0, 0.6, 0.3)
"""What the latest candidates count, the newest first."""

ALIKE = 200
"""Queries alike that are listened to."""


@dataclass(frozen=True)
class Order:
    """Hit rates at 10 of the next candidate: by what came after the latest ones, and by queries alike, whatever the
    order. `queries`: how many were asked. `matters`: whether the first is ahead by two standard errors and more."""

    by_order: float
    regardless: float
    queries: int
    matters: bool


def order(data: Interactions) -> Order:
    """Measured on this data, which has timestamps; the same for the same rows."""
    past, asked, hidden = _split(data)
    hits = [
        past.finds(query, target) for query, target in zip(asked, hidden, strict=True) if past.is_new(query, target)
    ]
    if len(hits) < 2:
        return Order(0.0, 0.0, len(hits), matters=False)
    found = np.array(hits, np.float64)
    ahead = found[:, 0] - found[:, 1]
    error = float(ahead.std(ddof=1)) / len(hits) ** 0.5
    by_order, regardless = found.mean(0).tolist()
    return Order(by_order, regardless, len(hits), matters=bool(ahead.mean() > 2 * error))


@dataclass(frozen=True)
class _Past:
    """What both predictors may look at: the rows that are not hidden.

    `taken`: of each query its candidates, oldest first. `followers`: of each candidate, those that came after it.
    `takers`: of each candidate, its queries. `popularity`: rows of each candidate, which decides where scores tie.
    """

    taken: Ragged
    followers: Ragged
    takers: Ragged
    popularity: NDArray[np.int64]

    def is_new(self, query: int, target: int) -> bool:
        """Whether the query has not taken the target before: what it has, no list would show it again."""
        return target not in _of(self.taken, query)

    def finds(self, query: int, target: int) -> tuple[bool, bool]:
        """Whether each predictor has the target among its first K."""
        history = _of(self.taken, query)
        return self._has(self._by_order(history), history, target), self._has(self._alike(history), history, target)

    def _has(self, scores: NDArray[np.float64], history: NDArray[np.int32], target: int) -> bool:
        scores += 1e-9 * self.popularity
        scores[history] = -1
        return bool((scores > scores[target]).sum() < K)

    def _by_order(self, history: NDArray[np.int32]) -> NDArray[np.float64]:
        """How often each candidate came after the latest ones, as shares."""
        scores = np.zeros(len(self.popularity))
        for weight, candidate in zip(LATEST, history[::-1], strict=False):
            came = _of(self.followers, candidate)
            scores += weight * np.bincount(came, minlength=len(scores)) / max(1, len(came))
        return scores

    def _alike(self, history: NDArray[np.int32]) -> NDArray[np.float64]:
        """What the queries that share most with this one took, each by the cosine of the two."""
        sizes = self.taken.lengths
        shared = np.bincount(np.concatenate([_of(self.takers, each) for each in history]), minlength=len(sizes))
        cosine = shared / np.sqrt(np.maximum(sizes, 1) * len(history))
        alike = np.argsort(-cosine, kind="stable")[:ALIKE]
        theirs = self.taken.take(alike)
        weights = cosine[alike][theirs.segments].astype(np.float64)
        return np.bincount(theirs.values, weights, minlength=len(self.popularity)).astype(np.float64)


def _split(data: Interactions) -> tuple[_Past, NDArray[np.int64], NDArray[np.int64]]:
    """The past, the queries that are asked, and the hidden candidate of each: the first row of its latest time."""
    random, corpus = np.random.default_rng(0), len(data.candidate_ids)
    query, candidate, times = _in_order(data, random)
    starts = np.ones(len(query), bool)
    starts[1:] = (query[1:] != query[:-1]) | (times[1:] != times[:-1])
    first = np.flatnonzero(starts)[np.cumsum(starts) - 1]  # of each row, the first one of its query and time
    before = np.maximum(first - 1, 0)
    follows = (first > 0) & (query[before] == query)
    latest = first[np.flatnonzero(np.append(query[1:] != query[:-1], len(query) > 0))]
    asked = random.permutation(latest[follows[latest]])[:QUERIES]
    hidden = np.isin(first, asked)
    follows &= ~hidden
    past = _Past(
        taken=_grouped(query[~hidden], candidate[~hidden], len(data.query_ids)),
        followers=_grouped(candidate[before[follows]], candidate[follows], corpus),
        takers=_grouped(candidate[~hidden], query[~hidden], corpus),
        popularity=np.bincount(candidate[~hidden], minlength=corpus),
    )
    return past, query[asked], candidate[asked]


def _in_order(
    data: Interactions, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Queries, candidates and times of the rows, or of those of some queries, by query and time."""
    assert data.timestamps is not None
    rows = np.lexsort((data.timestamps, data.query_codes))
    if len(data) > ROWS:
        taken = random.random(len(data.query_ids)) < ROWS / len(data)
        rows = rows[taken[data.query_codes[rows]]]
    codes = (data.query_codes[rows], data.candidate_codes[rows])
    return codes[0].astype(np.int64), codes[1].astype(np.int64), data.timestamps[rows]


def _grouped(by: NDArray[np.int64], values: NDArray[np.int64], size: int) -> Ragged:
    """A row of values for each of `size` groups."""
    return Ragged.from_lengths(values[np.argsort(by, kind="stable")].astype(np.int32), np.bincount(by, minlength=size))


def _of(groups: Ragged, row: int) -> NDArray[np.int32]:
    return groups.values[groups.offsets[row] : groups.offsets[row + 1]]
