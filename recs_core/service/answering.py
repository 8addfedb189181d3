"""Requests → answers. Those of the same moment share one search; none is answered otherwise than it would be alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.asked import Asked, asked
from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK
from recs_core.data.ids import codes_per_row
from recs_core.index.answers import named, popular_instead
from recs_core.index.diverse import chosen, pool_size
from recs_core.service.schemas import Recommend
from recs_core.service.serving import Served

Reply = dict[str, Any] | Exception


@dataclass
class Spent:
    """Seconds that a batch took, by stage."""

    encode: float = 0.0
    search: float = 0.0


@dataclass
class _Rows:
    """The queries of one request, read: what is asked of the index. `found` fills in last."""

    asks: Recommend
    question: Asked
    vectors: NDArray[np.float32]
    excluded: Ragged
    unknown: str
    allowed: NDArray[np.integer] | None = None
    found: list[TopK] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.question)

    @property
    def filter(self) -> tuple[Any, ...]:
        """What two requests must have in common to be searched together."""
        allow = None if self.asks.allow is None else tuple(self.asks.allow)
        return self.asks.where, allow


def recommend(served: Served, requests: Sequence[Recommend], unknown: str, spent: Spent | None = None) -> list[Reply]:
    """An answer, or the error, of each request. Where they cannot be answered together, each is alone."""
    spent = spent or Spent()
    try:
        return _together(served, requests, unknown, spent)
    except Exception as error:
        if len(requests) == 1:
            return [error]
    return [reply for request in requests for reply in recommend(served, [request], unknown, spent)]


def _together(served: Served, requests: Sequence[Recommend], unknown: str, spent: Spent) -> list[Reply]:
    start = time.perf_counter()
    read = _read(served, requests, unknown)
    middle = time.perf_counter()
    groups: dict[tuple[Any, ...], list[_Rows]] = {}
    for rows in read:
        groups.setdefault(rows.filter, []).append(rows)
    for group in groups.values():
        allowed = served.allowed(group[0].asks.allow, group[0].asks.where)
        for rows in group:
            rows.allowed = allowed
        shared = [rows for rows in group if served.exact and not rows.asks.diversity and rows.asks.pool is None]
        _search(served, shared, allowed)
        for rows in group:
            if not rows.found:
                _search_alone(served, rows, allowed)
    spent.encode += middle - start
    spent.search += time.perf_counter() - middle
    return [_answers(served, rows) for rows in read]


# Reading


def _read(served: Served, requests: Sequence[Recommend], unknown: str) -> list[_Rows]:
    """Each request's queries as vectors. Those that bring ids alone are looked up in one go."""
    plain = [request for request in requests if _is_plain(request)]
    whole = _asked(served, plain[0] if len(plain) == 1 else Recommend.model_construct(queries=_ids(plain))) if plain else None
    vectors = None if whole is None else _vectors(served, whole)
    seen = None if whole is None else whole.history
    out, start = [], 0
    for request in requests:
        if not _is_plain(request):
            question = _asked(served, request)
            out.append(_rows(served, request, question, _vectors(served, question), unknown))
            continue
        assert whole is not None and vectors is not None and seen is not None and request.queries is not None
        part = np.arange(start, start + len(request.queries))
        start += len(part)
        here = slice(int(part[0]), int(part[-1]) + 1)
        ids = None if whole.ids is None else whole.ids[here.start : here.stop]
        question = Asked(whole.codes[here], seen.take(part), ids, reads_queries=whole.reads_queries)
        out.append(_rows(served, request, question, vectors[here], unknown))
    return out


def _is_plain(request: Recommend) -> bool:
    told = (request.history, request.features, request.context, request.at)
    return request.queries is not None and all(part is None for part in told)


def _ids(plain: Sequence[Recommend]) -> list[Any]:
    return [id_ for request in plain for id_ in request.queries or ()]


def _asked(served: Served, request: Recommend) -> Asked:
    model = served.model
    told = request.queries, request.history, request.features, request.context, request.at
    return asked(model.catalog, model.query, *told)


def _vectors(served: Served, question: Asked) -> NDArray[np.float32]:
    """(n, d) retrieval vectors; the bits of a row do not depend on the rows beside it."""
    model = served.model
    features = question.features(model.query, model.catalog)
    if served.in_bulk:
        return scoring.query_vectors(model.query_tower.embed(features), model.retrieval).astype(np.float32, copy=False)
    each = [
        scoring.query_vectors(model.query_tower.embed(features.take(np.array([row]))), model.retrieval)
        for row in range(features.size)
    ]
    return np.concatenate(each).astype(np.float32, copy=False)


def _rows(served: Served, asks: Recommend, question: Asked, vectors: NDArray[np.float32], unknown: str) -> _Rows:
    unknown = asks.unknown or unknown
    if unknown == "error":
        question.check_unknown("error", stacklevel=1)
    return _Rows(asks, question, vectors, _excluded(served, asks, question), unknown)


def _excluded(served: Served, asks: Recommend, question: Asked) -> Ragged:
    """What each query saw and what it lists, together."""
    nothing = Ragged(np.zeros(0, np.int32), np.zeros(len(question) + 1, np.int32))
    seen = question.excluded("seen", served.model.catalog) if asks.exclude_seen else None
    if asks.exclude is None:
        return seen or nothing
    listed = codes_per_row(asks.exclude, "exclude", served.model.schema.candidates, rows=len(question))
    return listed if seen is None else seen.joined(listed)


# Searching


def _search(served: Served, group: Sequence[_Rows], allowed: NDArray[np.integer] | None) -> None:
    """One search for all of them, for the largest k; an exact answer to a smaller k is where that begins."""
    if not group:
        return
    excluded = Ragged.from_lengths(
        np.concatenate([rows.excluded.values for rows in group]),
        np.concatenate([rows.excluded.lengths for rows in group]),
    )
    vectors = np.concatenate([rows.vectors for rows in group])
    found = served.search(vectors, max(rows.asks.k for rows in group), excluded, allowed)
    start = 0
    for rows in group:
        here = slice(start, start + len(rows))
        start += len(rows)
        rows.found = [TopK(found.ids[here, : rows.asks.k], found.scores[here, : rows.asks.k])]


def _search_alone(served: Served, rows: _Rows, allowed: NDArray[np.integer] | None) -> None:
    """Row by row: an approximate index, and a choice for variety, may look at what stands beside."""
    model, asks = served.model, rows.asks
    size = len(model.schema.candidates)
    pool = pool_size(min(asks.k, size), asks.diversity, asks.pool, size)
    for row in range(len(rows)):
        found = served.search(rows.vectors[row : row + 1], pool, rows.excluded.take(np.array([row])), allowed)
        if asks.diversity:
            vectors = scoring.embeddings(model.encode_candidate(), model.retrieval)
            found = chosen(found, vectors, min(asks.k, size), asks.diversity)
        rows.found.append(found)


# Answering


def _answers(served: Served, rows: _Rows) -> dict[str, Any]:
    found = TopK(np.concatenate([part.ids for part in rows.found]), np.concatenate([part.scores for part in rows.found]))
    strangers = rows.question.strangers
    popular = rows.unknown == "popular"
    if popular:
        found = popular_instead(found, strangers, served.model.catalog.counts, rows.excluded, rows.allowed)
    ids = rows.question.ids
    names: list[Any] = [None] * len(rows) if ids is None else ids.to_pylist()
    nothing_known = set(strangers.tolist())
    lists = candidates(served, found, rows.asks.attributes)
    answers = [
        {
            "query": name,
            "unknown_query": code < 0 and name is not None,
            "answered_by": "model" if row not in nothing_known else "popular" if popular else "oov",
            "requested_k": rows.asks.k,
            "returned": len(listed),
            "excluded": excluded,
            "candidates": listed,
        }
        for row, (name, code, listed, excluded) in enumerate(
            zip(names, rows.question.codes.tolist(), lists, _distinct(rows.excluded), strict=True)
        )
    ]
    return {"bundle": served.digest, "exact": served.exact, "answers": answers}


def _distinct(excluded: Ragged) -> list[int]:
    """How many candidates each row excludes, each counted once."""
    bounds = excluded.offsets.tolist()
    return [len(set(excluded.values[a:b].tolist())) for a, b in zip(bounds, bounds[1:], strict=False)]


def candidates(served: Served, found: TopK, attributes: bool) -> list[list[dict[str, Any]]]:
    """Positions as what JSON says of each candidate, a list per row; what is missing is left out."""
    ids = named(found, served.model.schema.candidates).ids.tolist()
    counts = (found.ids >= 0).sum(1).tolist()
    scores = found.scores.tolist()
    out = [
        [{"id": id_, "score": score} for id_, score in zip(row[:count], of[:count], strict=True)]
        for row, of, count in zip(ids, scores, counts, strict=True)
    ]
    if attributes:
        for listed, row, count in zip(out, found.ids, counts, strict=True):
            for entry, said in zip(listed, served.attributes(row[:count]), strict=True):
                entry["attributes"] = said
    return out
