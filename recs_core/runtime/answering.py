"""One question to a model about many queries, and its answers to any table of them: rows for rows.

Whoever cuts a large table into pieces, this library over a file or an engine over a cluster, has each piece answered
here, and alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recs_core.contract.errors import DataError
from recs_core.data.ids import id_list
from recs_core.index.diverse import pool_size
from recs_core.index.plan import check_k
from recs_core.recommender import Recommender
from recs_core.runtime.requests import Requests
from recs_core.where import Filters, Where, parse

PART_ROWS = 8_192
"""Queries answered together: enough for the search to be one of large matrices, little to lose or to hold."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about every query.

    `column`: that of the query ids, by default the one named as the model's, or the only one. `where`: a condition as
    in `recommend`, or as text (`recs_core.where.parse`); `diversity` and `pool` as in `recommend`. `unknown`: what a
    query that training never saw gets, "oov" without a warning. `context`, `at`: as in
    `recs_core.runtime.requests.Requests`.
    """

    k: int = 10
    exclude_seen: bool = False
    unknown: Literal["oov", "popular", "error"] = "oov"
    column: str | None = None
    where: Where | str | None = None
    diversity: float | None = None
    pool: int | None = None
    context: tuple[str, ...] = ()
    at: str | None = None


@dataclass(frozen=True)
class Answering:
    """A model's answers to tables of queries.

    `source`: where the tables are from, for messages. `column`: that of the query ids. `columns`: all that a table must
    have, that one first. `schema`: that of the answers.
    """

    model: Recommender
    question: Question
    source: str
    column: str
    requests: Requests
    options: Mapping[str, Any]

    @classmethod
    def of(cls, model: Recommender, question: Question, columns: Sequence[str], source: str = "queries") -> Answering:
        """To tables that have these `columns`. Raises `DataError` for what cannot be asked, and for a column that is
        needed and not there."""
        column = id_column(columns, model.schema.queries.name, question.column, source)
        requests = Requests.of(
            model.query, model.schema, question.context, question.at, file=source, columns=tuple(columns)
        )
        return cls(model, question, source, column, requests, _options(model, question))

    @property
    def columns(self) -> list[str]:
        """All that a table must have, the query ids first."""
        return [self.column, *(name for name in self.requests.columns if name != self.column)]

    @property
    def schema(self) -> pa.Schema:
        """The query id, a list of the best candidate ids under the model's name for candidates, and a list of their
        `score`."""
        known = self.model.schema
        fields = [
            (known.query_name, known.queries.ids.type),
            (known.candidate_name, pa.list_(known.candidates.ids.type)),
        ]
        return pa.schema([*fields, ("score", pa.list_(pa.float32()))])

    def __call__(self, table: pa.Table | pa.RecordBatch) -> pa.Table:
        """A row for each row, in order; where fewer than k candidates remain the lists are shorter.

        Raises `DataError` for ids that cannot be used, and for unknown ones where that was asked for.
        """
        ids = id_list(table[self.column], f"{self.source}, column {self.column!r}", self.model.schema.queries)
        found = self.model.recommend_codes(ids, self.question.k, **self.options, **self.requests.asks(table))
        there = found.ids >= 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32))
        names = self.model.schema.candidates.ids.take(pa.array(found.ids[there]))
        scores = pa.array(found.scores[there].astype(np.float32))
        lists = [pa.ListArray.from_arrays(offsets, values) for values in (names, scores)]
        return pa.table([ids, *lists], schema=self.schema)

    def warn_of_features(self, columns: Sequence[str]) -> None:
        """Warn of those of a source's columns that are features and stay unread: queries are answered by id, and by
        what the model reads of a request, and whoever gives a feature beside an id expects it to count."""
        of_request = {self.column, *self.model.schema.context}
        read = {feature.name for feature in self.model.query.features if not feature.reads_past} - of_request
        unread = [name for name in columns if name in read]
        if unread:
            warnings.warn(
                f"{self.source}: {', '.join(unread)} not read: queries are answered by id, with the features that the "
                "model knows of them; in Python, model.recommend(features=table) reads these",
                stacklevel=3,
            )


def id_column(names: Sequence[str], usual: str, column: str | None, source: object) -> str:
    """The column of query ids among `names`: the one asked for, else the one named as usual, else the only one.

    Raises `DataError` where it is not there, or there twice.
    """
    wanted = column or usual
    if column is None and wanted not in names and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise DataError(
            f"{source}: no column {wanted!r} with query ids; it has {', '.join(names)}; name theirs with column= "
            "(--column)"
        )
    if list(names).count(wanted) > 1:
        raise DataError(f"{source}: column {wanted!r} appears more than once; rename one of them")
    return wanted


def _options(model: Recommender, question: Question) -> dict[str, Any]:
    """How each table is asked. Raises `DataError` for what cannot be."""
    corpus = len(model.schema.candidates)
    pool_size(check_k(question.k, corpus), question.diversity, question.pool, corpus)
    where = question.where
    if isinstance(where, str):
        where = parse(where, model.catalog.attributes.schema)
    if where is not None:
        Filters(model.catalog.attributes).kept(where)
    return {
        "exclude": "seen" if question.exclude_seen else None,
        "where": where,
        "diversity": question.diversity,
        "pool": question.pool,
        "unknown": "quiet" if question.unknown == "oov" else question.unknown,
    }
