"""Requests → rows of a search: whose they are, their vectors, what must not come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.asked import Asked, asked
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import about
from recs_core.data.ids import codes_per_row
from recs_core.service.schemas import Recommend
from recs_core.service.serving import Served


@dataclass(frozen=True)
class Rows:
    """The queries of several requests, end to end.

    `owner` (n,): the request of each. `unknown` (n,): as of `Asked`; `names`: ids as given, None without. `vectors`
    (n, d): retrieval vectors. `excluded`: candidate codes per row. `strangers` (n,): of whom nothing is known;
    `popular` (n,): those of them that popularity answers.
    """

    requests: Sequence[Recommend]
    owner: NDArray[np.intp]
    unknown: NDArray[np.bool_]
    names: list[Any]
    vectors: NDArray[np.float32]
    excluded: Ragged
    strangers: NDArray[np.bool_]
    popular: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def answered_by(self) -> list[str]:
        """What answers each row: "model", "oov" or "popular"."""
        if not self.strangers.any():
            return ["model"] * len(self)
        return np.where(self.popular, "popular", np.where(self.strangers, "oov", "model")).tolist()


@dataclass(frozen=True)
class _Part:
    """Rows of some requests that were read in one go."""

    numbers: list[int]
    question: Asked
    vectors: NDArray[np.float32]


def read(served: Served, requests: Sequence[Recommend], unknown: str) -> Rows:
    """All requests' queries; those that bring ids alone are looked up in one go. Raises `DataError` for any of them."""
    plain = [number for number, asks in enumerate(requests) if _is_plain(asks)]
    parts = [_part(served, requests, [number]) for number in range(len(requests)) if number not in set(plain)]
    if plain:
        parts.insert(0, _part(served, requests, plain))
    owner = np.concatenate([_owner(requests, part) for part in parts])
    excluded = [_excluded(served, requests, part) for part in parts]
    policies = [requests[number].unknown or unknown for number in range(len(requests))]
    for part in parts:
        if any(policies[number] == "error" for number in part.numbers):
            _refuse_strangers(requests, part, policies)
    strangers = np.concatenate([_mask(part.question) for part in parts])
    return Rows(
        requests,
        owner,
        np.concatenate([part.question.unknown for part in parts]),
        [name for part in parts for name in _names(part.question)],
        np.concatenate([part.vectors for part in parts]),
        _end_to_end(excluded),
        strangers,
        strangers & np.array([policies[number] == "popular" for number in owner], bool),
    )


def _is_plain(asks: Recommend) -> bool:
    told = (asks.history, asks.features, asks.context, asks.at, asks.history_at)
    return asks.queries is not None and all(part is None for part in told)


def _part(served: Served, requests: Sequence[Recommend], numbers: list[int]) -> _Part:
    model, asks = served.model, requests[numbers[0]]
    ids = asks.queries if len(numbers) == 1 else [id_ for number in numbers for id_ in requests[number].queries or ()]
    told = asks.history, asks.features, asks.context, asks.at, asks.history_at
    question = asked(model.catalog, model.query, ids, *told)
    return _Part(numbers, question, _vectors(served, question))


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


def _owner(requests: Sequence[Recommend], part: _Part) -> NDArray[np.intp]:
    if len(part.numbers) == 1:
        return np.full(len(part.question), part.numbers[0], np.intp)
    return np.repeat(part.numbers, [len(requests[number].queries or ()) for number in part.numbers]).astype(np.intp)


def _excluded(served: Served, requests: Sequence[Recommend], part: _Part) -> Ragged:
    """What each query saw, with the history given, and what its request lists."""
    owners, question = _owner(requests, part), part.question
    leaves_out = np.array([requests[number].exclude_seen for number in owners], bool)
    nothing = Ragged(np.zeros(0, np.int32), np.zeros(len(question) + 1, np.int32))
    excluded = question.past.codes  # where none is given it is what was seen
    if question.given_past:
        excluded = question.excluded("seen", served.model.catalog) or nothing
    if not leaves_out.any():
        excluded = nothing
    elif not leaves_out.all():
        excluded = excluded.without(~leaves_out[excluded.segments])
    if any(requests[number].exclude is not None for number in part.numbers):
        excluded = excluded.joined(_listed(served, requests, part))
    return excluded


@about("exclude")
def _listed(served: Served, requests: Sequence[Recommend], part: _Part) -> Ragged:
    """The lists of `exclude`; each request has as many as queries."""
    candidates, owners = served.model.schema.candidates, _owner(requests, part)
    lists = []
    for number in part.numbers:
        listed, rows = requests[number].exclude, int((owners == number).sum())
        lists.append(codes_per_row([[]] * rows if listed is None else listed, "exclude", candidates, rows=rows))
    return _end_to_end(lists)


def _refuse_strangers(requests: Sequence[Recommend], part: _Part, policies: list[str]) -> None:
    """Raise `DataError` for a query that training never saw, of a request that wants none."""
    if len(part.numbers) > 1 and (part.question.codes < 0).any():
        owners = _owner(requests, part)[part.question.codes < 0]
        if not any(policies[owner] == "error" for owner in owners):
            return
    part.question.check_unknown("error", stacklevel=1)


def _mask(question: Asked) -> NDArray[np.bool_]:
    mask = np.zeros(len(question), bool)
    mask[question.strangers] = True
    return mask


def _names(question: Asked) -> list[Any]:
    return [None] * len(question) if question.ids is None else question.ids.to_pylist()


def _end_to_end(rows: Sequence[Ragged]) -> Ragged:
    if len(rows) == 1:
        return rows[0]
    values = np.concatenate([row.values for row in rows])
    return Ragged.from_lengths(values, np.concatenate([row.lengths for row in rows]))
