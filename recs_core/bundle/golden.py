"""Golden queries: a few known queries with their best candidates and scores, asked again by whoever loads.

They are asked of a fixed sample of the corpus, so that the check costs the same for ten candidates and ten million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.contract.batch import Features
from recs_core.contract.errors import BundleError
from recs_core.contract.protocols import Tower
from recs_core.contract.towers import TowerSpec
from recs_core.data.catalog import Catalog
from recs_core.data.encoding import blank, past
from recs_core.fitted import Fitted

QUERIES, CANDIDATES, BEST = 16, 256, 10

TOLERANCE = 1e-4
"""Of ‖query‖·‖candidate‖, between scores in any two backends' arithmetic; a wrong weight or order is far beyond it."""


_IDS = "ids/"


@dataclass(frozen=True)
class Golden:
    """`queries` (Q,): query codes; `candidates` (C,): the sample, ascending candidate codes; `ids` (Q, k): the best of
    the sample for each query, candidate codes, score descending, then code ascending; `scores` (Q, k)."""

    queries: NDArray[np.int32]
    candidates: NDArray[np.int32]
    ids: NDArray[np.int32]
    scores: NDArray[np.float64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As stored."""
        return {"queries": self.queries, "candidates": self.candidates, "ids": self.ids, "scores": self.scores}


@dataclass(frozen=True)
class Towers:
    """What answers: both towers, or the query tower and the `corpus`' stored vectors (corpus, d)."""

    query: Tower
    candidate: Tower
    corpus: NDArray[np.floating] | None = None

    def vectors(
        self, fitted: Fitted, queries: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Retrieval vectors of query and candidate codes."""
        declared, catalog = fitted.declared, fitted.catalog
        raw = self.query.embed(_query_features(catalog, declared.query, queries))
        query = scoring.query_vectors(raw, declared.retrieval)
        if self.corpus is None:
            raw = self.candidate.embed(catalog.candidate.take(candidates))
            candidate = scoring.candidate_vectors(raw, declared.retrieval, fitted.weights, candidates)
        else:
            candidate = self.corpus[candidates]
        return query.astype(np.float64), candidate.astype(np.float64)


def record(fitted: Fitted, towers: Towers) -> Golden:
    """Ask queries and candidates spread evenly over the catalog."""
    queries = _spread(len(fitted.catalog.schema.queries), QUERIES)
    candidates = _spread(len(fitted.catalog.schema.candidates), CANDIDATES)
    query, candidate = towers.vectors(fitted, queries, candidates)
    scores = query @ candidate.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
    return Golden(queries, candidates, candidates[order], np.take_along_axis(scores, order, 1))


def bound(ids: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """`ids/<name>` for each vocabulary: the SHA-256 of the file with its ids, given as hex digits.

    Codes and weights say nothing of ids: in another order, or of another model, they would give another's answers.
    """
    return {f"{_IDS}{name}": np.frombuffer(bytes.fromhex(sha256), "<u4") for name, sha256 in ids.items()}


def check_bound(arrays: Mapping[str, NDArray[Any]], ids: Mapping[str, str], path: Path) -> None:
    """Raise `BundleError` unless each vocabulary's ids are those that the golden queries were recorded with."""
    for name, due in bound(ids).items():
        if name not in arrays or not np.array_equal(arrays[name], due):
            what = name.removeprefix(_IDS)
            raise BundleError(f"{path}: the ids of {what!r} are not those that were saved, or in another order")


def of_arrays(arrays: Mapping[str, NDArray[Any]], catalog: Catalog, path: Path) -> Golden:
    """The golden queries as read. Raises `BundleError` for shapes, dtypes or codes that cannot be."""
    arrays = {name: array for name, array in arrays.items() if not name.startswith(_IDS)}
    if set(arrays) != {"queries", "candidates", "ids", "scores"}:
        raise BundleError(f"{path}: needs queries, candidates, ids and scores; it has {', '.join(sorted(arrays))}")
    known, corpus = len(catalog.schema.queries), len(catalog.schema.candidates)
    shape = (arrays["queries"].size, min(BEST, arrays["candidates"].size))
    for name, dtype, due, bound in (
        ("queries", np.int32, shape[:1], known),
        ("candidates", np.int32, (arrays["candidates"].size,), corpus),
        ("ids", np.int32, shape, corpus),
        ("scores", np.float64, shape, None),
    ):
        array = arrays[name]
        if array.dtype != dtype or array.shape != due:
            raise BundleError(
                f"{path}: {name!r} is {array.dtype} {list(array.shape)}, {np.dtype(dtype)} {list(due)} is due"
            )
        if bound is not None and array.size and not (array.min() >= 0 and array.max() < bound):
            raise BundleError(f"{path}: {name!r} holds codes outside 0 … {bound - 1}")
    golden = Golden(**arrays)
    if (np.diff(golden.candidates) <= 0).any() or (golden.candidates[_places(golden)] != golden.ids).any():
        raise BundleError(f"{path}: ids must be among candidates, and those ascending")
    return golden


def replay(golden: Golden, fitted: Fitted, towers: Towers, path: Path, by: str) -> None:
    """Ask again. Raises `BundleError` naming the first query whose answer is another; `by` names who answered."""
    query, candidate = towers.vectors(fitted, golden.queries, golden.candidates)
    scores = query @ candidate.T
    tolerance = TOLERANCE * np.outer(np.linalg.norm(query, axis=1), np.linalg.norm(candidate, axis=1)).max(
        1, initial=1e-30
    )
    again = np.take_along_axis(scores, _places(golden), 1)
    best = -np.sort(-scores, axis=1)[:, : golden.ids.shape[1]]
    for now in (again, best):  # the same candidates have the same scores, and no other scores higher
        close = np.abs(now - golden.scores) <= tolerance[:, None]
        if not close.all():  # also where it is NaN
            row, place = np.argwhere(~close)[0]
            name = fitted.catalog.schema.queries.ids[int(golden.queries[row])].as_py()
            raise BundleError(
                f"{path}: golden query {name!r} scores {now[row, place]:.6g} at place {place + 1} by {by}, "
                f"{golden.scores[row, place]:.6g} when it was saved"
            )


def _places(golden: Golden) -> NDArray[np.intp]:
    """(Q, k): where each of `ids` stands in `candidates`."""
    return np.searchsorted(golden.candidates[:-1], golden.ids)


def _spread(size: int, number: int) -> NDArray[np.int32]:
    return (
        np.unique(np.linspace(0, size - 1, min(size, number)).round().astype(np.int32))
        if size
        else np.zeros(0, np.int32)
    )


def _query_features(catalog: Catalog, tower: TowerSpec, queries: NDArray[np.int32]) -> Features:
    """Features of known queries, with the history of their training rows, and a request that says nothing."""
    features = catalog.query.take(queries)
    histories = Features(features.size, past(tower, catalog.schema, catalog.past(queries)))
    return blank(tower, features.size).beside(features).beside(histories)
