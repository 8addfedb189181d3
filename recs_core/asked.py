"""What was asked: ids, histories, features or test rows → the features that a tower reads.

`recommend`, `evaluate` and `encode_*` all come in here, so that the same question is read the same way everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Features, Past, Ragged
from recs_core.contract.errors import DataError, about
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.catalog import Catalog, candidates_of, past_of
from recs_core.data.context import Context, of_request, of_rows, time_of_request
from recs_core.data.encoding import blank, encode, past
from recs_core.data.given import past_given
from recs_core.data.ids import codes_or_unknown, codes_per_row, id_list
from recs_core.data.interactions import Interactions
from recs_core.tables.readers import read, refuse_unread

Unknown: TypeAlias = Literal["oov", "popular", "error"]
Exclude: TypeAlias = "Interactions | Sequence[Interactions] | Literal['seen'] | Sequence[Sequence[Any]] | None"

UNKNOWN: tuple[Unknown, ...] = ("oov", "popular", "error")


@dataclass(frozen=True)
class Asked:
    """n queries. `codes` (n,): −1 for one that training never saw. `ids`: as given, or None. `past`: what each query
    did, given or stored. `table`: side features, or None for those that the model knows. `context`:
    what the query tower reads of each request, None where that is nothing; `reads_queries`: whether it reads more,
    `reads_past`: and of that the past."""

    codes: NDArray[np.int32]
    past: Past
    ids: pa.Array | None = None
    table: pa.Table | None = None
    given_past: bool = False
    context: Features | None = None
    reads_queries: bool = True
    reads_past: bool = True

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def strangers(self) -> NDArray[np.intp]:
        """Rows of which nothing is known: never seen in training, and asked with no features and no candidate of the
        past that the tower can read."""
        if self.table is not None or not self.reads_queries:
            return np.zeros(0, np.intp)
        told = self.past.codes.lengths > 0
        return np.flatnonzero((self.codes < 0) & ~(told & self.reads_past))

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """(n,): whether training never saw the id of a row, or nothing is known of it."""
        out = np.zeros(len(self), bool) if self.ids is None else self.ids.is_valid().to_numpy(zero_copy_only=False)
        out = out & (self.codes < 0)
        out[self.strangers] = True
        return out

    def features(self, tower: TowerSpec, catalog: Catalog) -> Features:
        """What the query tower reads. A stranger's features say nothing: OOV rows, empty bags, mean numbers."""
        known = self._of_queries(tower, catalog)
        return known if self.context is None else known.beside(self.context)

    def _of_queries(self, tower: TowerSpec, catalog: Catalog) -> Features:
        if self.table is not None:
            with about("features"):
                return encode(tower, "query", catalog.schema, self.table, self.past)
        known = catalog.query.take(np.maximum(self.codes, 0))
        missing = np.flatnonzero(self.codes < 0)
        if len(missing):
            known = known.replaced(missing, blank(tower, len(missing)))
        return known.beside(Features(known.size, past(tower, catalog.schema, self.past)))

    def check_unknown(self, unknown: Unknown, *, stacklevel: int) -> None:
        """Say who is a stranger: a warning for "oov", a `DataError` for "error", nothing for "popular"."""
        if unknown not in UNKNOWN:
            raise DataError(f"unknown is {', '.join(map(repr, UNKNOWN))}; got {unknown!r}")
        missing = np.flatnonzero(self.unknown) if unknown == "error" else self.strangers
        if not len(missing) or unknown == "popular":
            return
        if self.ids is None:
            what = f"{len(missing)} of {len(self)} queries have no history that the model can read, nor features; the "
            what += f"first is row {missing[0]}"
        else:
            first = self.ids[int(missing[0])].as_py()
            what = f"{len(missing)} of {len(self)} queries were never seen in training, the first is {first!r}"
        if unknown == "error":
            by = "history" if self.ids is None else "queries"
            raise DataError(f"{what}; leave it out, or pass unknown='oov' or 'popular'", by)
        warnings.warn(
            f"{what}; answered from OOV rows (unknown='popular' answers by popularity, history= or features= by what "
            "is known)",
            stacklevel=stacklevel + 1,
        )

    @about("exclude")
    def excluded(self, exclude: Exclude, catalog: Catalog) -> Ragged | None:
        """Candidate codes that must not come back, per query."""
        if exclude is None:
            return None
        if isinstance(exclude, str):
            if exclude != "seen":
                raise DataError(f"exclude: interactions, 'seen', or one list of ids per query; got {exclude!r}")
            stored = catalog.seen.take_or_empty(self.codes)
            return stored.joined(self.past.codes) if self.given_past else stored
        if _are_interactions(exclude):
            if self.ids is None:
                raise DataError("exclude: interactions need query ids; pass one list of candidate ids per query")
            return candidates_of(exclude, self.ids, catalog.schema)  # type: ignore[arg-type]
        return codes_per_row(exclude, "exclude", catalog.schema.candidates, rows=len(self))


def asked(
    catalog: Catalog,
    tower: TowerSpec,
    queries: Any,
    history: Any,
    features: Any,
    context: Context = None,
    at: Any = None,
    history_at: Any = None,
) -> Asked:
    """Queries named by ids, by histories, by a table of features, or by several of these for the same rows.

    A table's own id column names the queries where `queries` does not. `history_at`: the times of `history`, see
    `recs_core.data.given`. `context` and `at`: as in `recs_core.data.context`. Raises `DataError` for arguments that do
    not fit together or cannot be read.
    """
    if queries is None and history is None and features is None:
        raise DataError("name the queries, by their ids, history= or features=")
    schema = catalog.schema
    with about("queries"):
        ids = None if queries is None else id_list(queries, "queries", schema.queries)
    told = past_given(history, history_at, tower, schema.candidates)
    table = None
    if features is not None:
        with about("features"):
            table, ids = side_table(features, tower, schema.query_name, ids, schema.queries, schema.context)
    given: dict[str, Any] = {"queries": ids, "history": told and told.codes.lengths, "features": table}
    sizes = {name: len(value) for name, value in given.items() if value is not None}
    rows = next(iter(sizes.values()))
    for name in (name for name, size in sizes.items() if size != rows):
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise DataError(f"rows do not match: {listed}", name)
    codes = codes_or_unknown(ids, schema.queries, rows)
    with about("at"):
        moment = time_of_request(context, at, schema, rows)
    with about("context"):
        requested = of_request(context, moment, tower, schema, rows)
    did = replace(catalog.past(codes) if told is None else told, at=moment)
    more = any(feature.name not in schema.context for feature in tower.features)
    return Asked(codes, did, ids, table, told is not None, requested, more, any(f.reads_past for f in tower.features))


def asked_in_test(
    catalog: Catalog,
    tower: TowerSpec,
    test: Interactions,
    queries: pa.Array,
    rows: NDArray[np.integer],
    history: Interactions | Sequence[Interactions] | None,
) -> Asked:
    """`queries` of test data, with the test's side features where it has all that the tower reads, and the context of
    the test's `rows`, one per query. `history`: what may be looked at as the past; None: the training rows."""
    codes = catalog.schema.queries.encode(queries)
    context = of_rows(test, tower, catalog.schema, rows)
    did = catalog.past(codes) if history is None else past_of(history, queries, catalog.schema)
    if catalog.schema.time_name is not None and test.timestamps is not None:
        did = replace(did, at=test.timestamps[rows])
    reads = {feature.name for feature in tower.features if not feature.reads_past} - set(catalog.schema.context)
    table = test.queries.take(pa.array(test.query_ids.encode(queries)))
    return Asked(codes, did, queries, table if reads <= set(table.column_names) else None, context=context)


def side_table(
    features: Any,
    tower: TowerSpec,
    id_name: str,
    ids: pa.Array | None,
    vocabulary: Vocabulary,
    elsewhere: Sequence[str] = (),
) -> tuple[pa.Table, pa.Array | None]:
    """A table of features with an id column, and its ids; None where neither the table nor `ids` name them.

    `elsewhere`: features that are not read of this table. A null id stands for one that is new. Raises `DataError`
    where the table's ids are not the `ids` given, and for a dict with a column that nobody reads.
    """
    read_of_it = [
        feature.name for feature in tower.features if not feature.reads_past and feature.name not in elsewhere
    ]
    refuse_unread(features, "features", [*dict.fromkeys([*read_of_it, id_name])])
    table = read(features, "features", ids=(), may_be_empty=True).table
    if id_name not in table.column_names:
        if ids is None and all(feature.name == id_name for feature in tower.features):
            return table, None  # all that the tower reads is missing, which `encode` says
        column = pa.nulls(len(table), vocabulary.ids.type) if ids is None or len(ids) != len(table) else ids
        return table.append_column(id_name, column), ids
    stated = table[id_name].combine_chunks()
    id_list(stated.drop_null(), f"features, column {id_name!r}", vocabulary)
    found = stated.cast(vocabulary.ids.type)
    if ids is not None and not ids.equals(found):
        raise DataError(f"features: column {id_name!r} holds other ids than the ones given beside it; give them once")
    return table, found


def check_interactions(data: Any, where: str) -> None:
    """Raise `DataError` unless this is `Interactions`, or a list of them."""
    if not _are_interactions(data):
        raise DataError(f"{where}: expected Interactions, or a list of them, got {type(data).__name__}")


def _are_interactions(data: Any) -> bool:
    if isinstance(data, Interactions):
        return True
    return isinstance(data, (list, tuple)) and bool(data) and all(isinstance(part, Interactions) for part in data)
