"""What is done with a batch: recommendations together, everything else one by one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from recs_core.contract.errors import about
from recs_core.data.ids import codes_of
from recs_core.service.answering import Reply, Spent, candidates, describe, recommend
from recs_core.service.schemas import Explain, History, Queries, Recommend, Similar
from recs_core.service.serving import Served


@dataclass(frozen=True)
class Worker:
    """Answers batches of requests by the bundle that serves when a batch begins."""

    unknown: str

    def __call__(self, served: Served, requests: Sequence[Any], spent: Spent) -> list[Reply]:
        """A reply to each request, in their order."""
        together = [request for request in requests if isinstance(request, Recommend)]
        replies = iter(recommend(served, together, self.unknown, spent) if together else ())
        return [
            next(replies) if isinstance(request, Recommend) else _alone(served, self._told(request))
            for request in requests
        ]

    def _told(self, request: Any) -> Any:
        """With what the service was told where the request does not say."""
        if not isinstance(request, Explain):
            return request
        return request.model_copy(update={"unknown": request.unknown or self.unknown})

    def warm(self, served: Served) -> None:
        """Answer a question of a known query once, as the first may take a second. Raises what answering it does."""
        context: Literal["blank"] | None = "blank" if served.model.schema.of_request else None
        first = served.model.schema.queries.ids[:1].to_pylist()
        for reply in recommend(served, [Recommend(queries=first, context=context, attributes=True)], "oov"):
            if isinstance(reply, Exception):
                raise reply


def _alone(served: Served, request: Any) -> Reply:
    try:
        return _BY_KIND[type(request)](served, request)
    except Exception as error:
        return error


def _similar(served: Served, asks: Similar) -> dict[str, Any]:
    k = min(asks.k, len(served.model.schema.candidates))
    found = served.similar(asks.candidates, k, served.allowed(asks.allow, asks.where))
    lists = candidates(served, found, [k] * len(asks.candidates))
    if asks.attributes:
        describe(served, lists)
    answers = [
        {"candidate": id_, "requested_k": asks.k, "returned": len(listed), "candidates": listed}
        for id_, listed in zip(asks.candidates, lists, strict=True)
    ]
    return {"bundle": served.digest, "exact": True, "answers": answers}


def _explain(served: Served, asks: Explain) -> dict[str, Any]:
    told = {name: getattr(asks, name) for name in ("history", "features", "context", "at", "unknown")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whose words, in the log, would have the id of whom nobody knows
        found = served.model.explain(asks.query, asks.candidate, **told)
    parts = [{"name": name, "value": value} for name, value in found.parts]
    said = {"unknown_query": found.unknown_query, "answered_by": found.answered_by, "score": found.score}
    return {"bundle": served.digest, **said, "parts": parts}


def _history(served: Served, asks: History) -> dict[str, Any]:
    catalog = served.model.catalog
    with about("query"):
        code = int(codes_of([asks.query], "query", catalog.schema.queries)[0])
    seen = catalog.seen.take_or_empty(np.array([code])).values[::-1]
    latest = seen[: asks.last]
    ids = catalog.schema.candidates.decode(latest).to_pylist()
    listed = [{"id": id_, "attributes": said} for id_, said in zip(ids, served.attributes(latest), strict=True)]
    said = {"query": asks.query, "unknown_query": code < 0, "of": len(seen), "candidates": listed}
    return {"bundle": served.digest, **said}


def _queries(served: Served, asks: Queries) -> dict[str, Any]:
    """As text, since integers have a beginning too."""
    ids = served.model.schema.queries.ids
    if asks.starts_with:
        ids = ids.filter(pc.starts_with(ids.cast("string"), asks.starts_with))
    return {"bundle": served.digest, "of": len(ids), "queries": ids[: asks.most].to_pylist()}


_BY_KIND: dict[type, Any] = {Similar: _similar, Explain: _explain, History: _history, Queries: _queries}
