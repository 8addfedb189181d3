"""An index around an engine that only finds positions: filters, scores, ties, short lists and changes are settled here.

An engine may leave out what is good, find what is excluded or was deleted, and score as it likes: none of that comes
back. It is asked for more than k, so that enough is left; where it is not, or where an engine is no quicker, every
candidate that may come back is scored.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import TopK
from recs_core.index import tiles
from recs_core.index.exact import search_exactly
from recs_core.index.plan import Candidates, SearchPlan, built, plan_search
from recs_core.plugin.specs import joined

Found = tuple[NDArray[np.integer], NDArray[np.floating] | None]
"""Positions (Q, m), −1 for none, in any order; and (Q,) what no candidate that is not among them scores above, or None
where that is not known."""

SMALL = 1024
"""Candidates that are always scored, one and all: so few that no engine is quicker."""

MARGIN = 1.5
"""How many more are asked for than a filter leaves over on average."""


class RescoredIndex(ABC):
    """Implements `Index`, `StorableIndex` and `UpdatableIndex` for a subclass that is a dataclass of its options.

    A subclass has `info`, `_make`, `_find`, `_parts` and `_take`; `_renew` where it changes without being made anew.
    `pace`: how many candidates are scored exactly in the time in which the engine finds one.
    """

    info: ClassVar[IndexInfo]
    pace: ClassVar[float] = 50

    _candidates: Candidates | None = None

    # What a subclass provides

    @abstractmethod
    def _make(self, vectors: NDArray[np.float32]) -> None:
        """Make the engine of (n, d) vectors, n > 0, all of them finite."""

    @abstractmethod
    def _find(self, plan: SearchPlan, number: int) -> Found:
        """What is likely to be the best `number` of each query, or more; filters are not its affair."""

    @abstractmethod
    def _parts(self) -> dict[str, NDArray[Any]]:
        """As `StorableIndex.parts`."""

    @abstractmethod
    def _take(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        """As `StorableIndex.restore`, n > 0; `DataError` for parts that do not fit."""

    def _renew(self, vectors: NDArray[np.float32], changed: NDArray[np.int64]) -> None:
        """Make up for rows that changed or are new; by default all is made anew."""
        self._make(vectors)

    # The protocol

    def build(self, vectors: NDArray[np.float32]) -> None:
        """Index (n, d) float32 vectors; position = row. Raises `DataError` for another shape, dtype or NaN."""
        candidates = Candidates.of(vectors)
        if len(vectors):
            self._make(vectors)
        self._candidates = candidates

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        exclude: Ragged | None = None,
        allow: NDArray[np.integer] | None = None,
    ) -> TopK:
        """As `Index.search`; scores are those of float64, rounded once, and what was found is in their order."""
        plan = plan_search(self._candidates, queries, k, exclude, allow)
        number = self._number(plan)
        if number is None:
            return search_exactly(plan)
        return settled(plan, *self._find(plan, number))

    @property
    def spec(self) -> str:
        """As `StorableIndex.spec`: the options that are not as by default."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}  # type: ignore[arg-type]
        return joined(self.info.name, given)

    def parts(self) -> dict[str, NDArray[Any]]:
        """As `StorableIndex.parts`."""
        candidates = built(self._candidates)
        if candidates.left is not None:
            raise DataError(
                f"index {self.info.name!r} has deleted positions; build it anew without them, then store it"
            )
        return self._parts() if len(candidates.vectors) else {}

    def restore(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        """As `StorableIndex.restore`."""
        candidates = Candidates.of(vectors)
        if len(vectors):
            self._take(vectors, parts)
        self._candidates = candidates

    def upsert(self, vectors: NDArray[np.float32], positions: NDArray[np.integer]) -> None:
        """As `UpdatableIndex.upsert`."""
        before = built(self._candidates)
        candidates = before.upserted(vectors, positions)
        if not len(before.vectors):
            return self.build(vectors)
        self._renew(vectors, np.unique(positions))
        self._candidates = candidates

    def delete(self, positions: NDArray[np.integer]) -> None:
        """As `UpdatableIndex.delete`."""
        self._candidates = built(self._candidates).without(positions)

    def _number(self, plan: SearchPlan) -> int | None:
        """How many to ask the engine for, so that k are left; None where scoring all that may come back is quicker."""
        corpus = len(plan.candidates.vectors)
        left = corpus if plan.allowed is None else len(plan.allowed)
        if corpus <= SMALL or not left:
            return None
        needed = plan.k + (0 if plan.exclude is None else int(plan.exclude.lengths.max(initial=0)))
        if left < corpus:
            needed = math.ceil(needed * corpus / left * MARGIN)
        return needed if needed * self.pace < left else None


def settled(plan: SearchPlan, found: NDArray[np.integer], above: NDArray[np.floating] | None = None) -> TopK:
    """The answer to a plan from what an engine found, as `Found`; queries that it leaves short are searched exactly.

    With `above`, so are those whose k-th score does not exceed it: then nothing is missed.
    """
    found = np.sort(found.astype(np.int64, copy=False), axis=1)
    good = plan.admits(found)
    good[:, 1:] &= found[:, 1:] != found[:, :-1]
    query, place = np.nonzero(good)
    scores = np.full(found.shape, -np.inf, np.float32)
    scores[query, place] = tiles.exact_scores(plan.queries, plan.candidates.vectors, query, found[query, place])
    order = np.argsort(-scores, axis=1, kind="stable")[
        :, : plan.k
    ]  # positions ascend, so of equal scores the lower is first
    ids, best = np.full((len(found), plan.k), -1, np.int64), np.full((len(found), plan.k), -np.inf, np.float32)
    best[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    ids[:, : order.shape[1]] = np.take_along_axis(found, order, 1)
    ids[np.isneginf(best)] = -1
    short = (ids < 0).any(axis=1)
    if above is not None:
        short |= best[:, -1:].min(axis=1, initial=np.inf) <= above
    rows = np.flatnonzero(short)
    if len(rows):
        exact = search_exactly(plan.take(rows))
        ids[rows], best[rows] = exact.ids, exact.scores
    return TopK(ids, best)


def array(parts: Mapping[str, NDArray[Any]], name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A part of an index. Raises `DataError` for one that is missing, or of another dtype or shape."""
    found = parts.get(name)
    if found is None or found.dtype != dtype or found.shape != shape:
        got = "is missing" if found is None else f"is {found.dtype} {list(found.shape)}"
        raise DataError(f"part {name!r} of the index {got}, {np.dtype(dtype)} {list(shape)} is due")
    return found
