"""Requests → answers. Those of the same moment share one search; none is answered otherwise than it would be alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK
from recs_core.index.answers import named, popular_instead
from recs_core.index.diverse import chosen, pool_size
from recs_core.service.reading import Rows, read
from recs_core.service.schemas import Recommend
from recs_core.service.serving import Served

Reply = dict[str, Any] | Exception


@dataclass
class Spent:
    """Seconds that a batch took, by stage."""

    encode: float = 0.0
    search: float = 0.0


def recommend(served: Served, requests: Sequence[Recommend], unknown: str, spent: Spent | None = None) -> list[Reply]:
    """An answer, or the error, of each request. Where they cannot be answered together, each is alone.

    `unknown`: how a query that training never saw is answered where its request does not say.
    """
    spent = spent or Spent()
    try:
        return _together(served, requests, unknown, spent)
    except Exception as error:
        if len(requests) == 1:
            return [error]
    return [reply for request in requests for reply in recommend(served, [request], unknown, spent)]


def _together(served: Served, requests: Sequence[Recommend], unknown: str, spent: Spent) -> list[Reply]:
    start = time.perf_counter()
    rows = read(served, requests, unknown)
    middle = time.perf_counter()
    found = _found(served, rows)
    spent.encode += middle - start
    spent.search += time.perf_counter() - middle
    return _answers(served, rows, found)


# Searching


def _found(served: Served, rows: Rows) -> TopK:
    """Positions for all rows, as many columns as the largest k."""
    size = len(served.model.schema.candidates)
    shape = len(rows), min(max(request.k for request in rows.requests), size)
    found = TopK(np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))
    for group in _groups(rows):
        asks = rows.requests[rows.owner[group[0]]]
        allowed = served.allowed(asks.allow, asks.where)
        for part in _searched_together(served, rows, group):
            each = _searched(served, rows, part, allowed)
            width = each.ids.shape[1]
            found.ids[part, :width], found.scores[part, :width] = each.ids, each.scores
    return found


def _groups(rows: Rows) -> list[NDArray[np.intp]]:
    """Rows of one filter, which may share a search."""
    owners: dict[tuple[Any, ...], list[int]] = {}
    for number, asks in enumerate(rows.requests):
        key = asks.where, None if asks.allow is None else tuple(asks.allow)
        owners.setdefault(key, []).append(number)
    if len(owners) == 1:
        return [np.arange(len(rows))]
    return [np.flatnonzero(np.isin(rows.owner, numbers)) for numbers in owners.values()]


def _searched_together(served: Served, rows: Rows, group: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The rows of each search. An approximate index, and a choice for variety, may look at what stands beside a row:
    these are searched alone."""
    asks = [rows.requests[owner] for owner in rows.owner[group]]
    alone = np.array(
        [not served.exact or request.diversity is not None or request.pool is not None for request in asks]
    )
    together = group[~alone]
    return [*([together] if len(together) else []), *(np.array([row]) for row in group[alone])]


def _searched(served: Served, rows: Rows, part: NDArray[np.intp], allowed: NDArray[np.integer] | None) -> TopK:
    """For the largest k: an exact answer to a smaller one is where that begins."""
    model, size = served.model, len(served.model.schema.candidates)
    asks = rows.requests[rows.owner[part[0]]]
    k = min(max(rows.requests[owner].k for owner in rows.owner[part]), size)
    pool = pool_size(k, asks.diversity, asks.pool, size)
    whole = len(part) == len(rows)
    vectors, excluded = (rows.vectors, rows.excluded) if whole else (rows.vectors[part], rows.excluded.take(part))
    found = served.search(vectors, pool, excluded, allowed)
    if rows.popular[part].any():
        found = popular_instead(
            found,
            np.flatnonzero(rows.popular[part]),
            model.catalog.counts,
            excluded,
            allowed,
            model.catalog.retired,
        )
    if not asks.diversity:
        return found
    return chosen(found, scoring.embeddings(model.encode_candidate(), model.retrieval), k, asks.diversity)


# Answering


def _answers(served: Served, rows: Rows, found: TopK) -> list[Reply]:
    lists = candidates(served, found, [rows.requests[owner].k for owner in rows.owner.tolist()])
    told = zip(rows.names, rows.unknown.tolist(), rows.answered_by, _distinct(rows.excluded), lists, strict=True)
    answers: list[list[dict[str, Any]]] = [[] for _ in rows.requests]
    for owner, (name, stranger, by, excluded, listed) in zip(rows.owner.tolist(), told, strict=True):
        answers[owner].append(
            {
                "query": name,
                "unknown_query": stranger,
                "answered_by": by,
                "requested_k": rows.requests[owner].k,
                "returned": len(listed),
                "excluded": excluded,
                "candidates": listed,
            }
        )
    for asks, each in zip(rows.requests, answers, strict=True):
        if asks.attributes:
            describe(served, [answer["candidates"] for answer in each])
    return [{"bundle": served.digest, "exact": served.exact, "answers": each} for each in answers]


def _distinct(excluded: Ragged) -> list[int]:
    """How many candidates each row excludes, each counted once; an id outside the corpus excludes nothing."""
    size = len(excluded.offsets) - 1
    if not len(excluded.values):
        return [0] * size
    stride = np.int64(excluded.values.max()) + 1
    pairs = np.sort((excluded.segments * stride + excluded.values)[excluded.values >= 0])
    first = np.diff(pairs, prepend=-1) > 0
    return np.bincount(pairs[first] // stride, minlength=size).tolist()


def candidates(served: Served, found: TopK, k: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Positions as what JSON says of each candidate: a list per row, at most its k, what is missing left out."""
    ids = named(found, served.model.schema.candidates).ids.tolist()
    counts = np.minimum((found.ids >= 0).sum(1), k).tolist()
    scores = found.scores.tolist()
    return [
        [{"id": id_, "score": score} for id_, score in zip(row[:count], of[:count], strict=True)]
        for row, of, count in zip(ids, scores, counts, strict=True)
    ]


def describe(served: Served, lists: Sequence[list[dict[str, Any]]]) -> None:
    """Add to each candidate what the side table says of it."""
    entries = [entry for listed in lists for entry in listed]
    codes = served.model.schema.candidates.encode([entry["id"] for entry in entries])
    for entry, said in zip(entries, served.attributes(codes), strict=True):
        entry["attributes"] = said
