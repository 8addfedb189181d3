"""Who took what, and when: the one data class of the public face."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.columns import as_numbers
from recs_core.contract.errors import DataError
from recs_core.contract.messages import some
from recs_core.contract.plain import list_array
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data import impressions, pairs, splits
from recs_core.tables import readers, sides
from recs_core.tables.csv_files import Dialect
from recs_core.tables.digests import column_digest
from recs_core.tables.memory import give_back, taken
from recs_core.tables.times import Unit, day, seconds

LIGHTEST, HEAVIEST = 1e-30, 1e30
"""Of weights that are not 0: sums of them are float32 numbers still."""


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """n rows (query, candidate, time), the vocabularies of both ids, and a side table of features for each.

    Made by `from_table`; never changed, `filter`, `take` and `split` make new ones. Row i of the side tables `queries`
    and `candidates` belongs to id i of `query_ids` and `candidate_ids`, which come first; a feature is null where the
    side table that was given has no such id. `timestamps` are seconds since 1970-01-01 UTC, None if there are none.
    `weights` multiply the loss of a row, None if all are alike. `negatives`: what a row was shown and did not take,
    None if nothing is told of it. `extra` holds the other columns of the rows. `in_order`: the rows are known to be
    sorted by query, then time, as those of a store are.
    """

    query_name: str
    candidate_name: str
    timestamp_name: str | None
    query_codes: NDArray[np.int32]  # (n,)
    candidate_codes: NDArray[np.int32]  # (n,)
    timestamps: NDArray[np.float64] | None  # (n,)
    query_ids: Vocabulary
    candidate_ids: Vocabulary
    queries: pa.Table
    candidates: pa.Table
    extra: pa.Table = field(default_factory=lambda: pa.table({}))
    weight_name: str | None = None
    weights: NDArray[np.float64] | None = None  # (n,), finite and ≥ 0
    negatives_name: str | None = None
    negatives: Ragged | None = None  # (n rows) candidate codes
    in_order: bool = False

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        query: str,
        candidate: str,
        timestamp: str | None = None,
        weight: str | None = None,
        negatives: str | None = None,
        queries: Any = None,
        candidates: Any = None,
        unit: Unit | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        null_values: Sequence[str] | None = None,
        lists: Mapping[str, str] | None = None,
    ) -> Interactions:
        """Interactions from a table: pyarrow, pandas, polars, a dict of columns, or the path of a CSV or Parquet file,
        of a folder of Parquet files or of those that a pattern such as `events/*.parquet` names.

        `query`, `candidate`: its id columns, strings or integers. `timestamp`: numbers, dates, timestamps or ISO
        strings, of the years 1900 to 2199. `weight`: numbers, 0 or from 1e-30 to 1e30, not all 0, that multiply the
        loss of their row in training, and nothing else: popularity, the logQ correction and metrics count rows.
        `negatives`: a list column of candidate ids that the row was shown and did not take, negatives of that row
        alone; ids of no candidate are left out, which the log says. `queries`, `candidates`: side tables of any of the
        same kinds, with an id column of the same name, or a list of the interactions' own columns, which those of
        `queries` then leave. Rows of one id must be equal, and count once; what tells of a row (`query` or `candidate`,
        and the last three) is left out where it differs between rows of one id. Ids without an interaction are welcome.
        A vocabulary holds the ids of the interactions in order of first appearance, then those of its side table only.

        `unit`: what a timestamp of numbers counts since 1970-01-01 UTC: "s" (the default), "ms", "us" or "ns".
        `encoding`, `delimiter`, `null_values`, `lists` say how the CSV files among the tables are written, where they
        do not say so themselves. `encoding`: UTF-8 by default, or what the byte order mark says. `delimiter`: by
        default the one of `,` `;` tab `|` `||` `::` whose header has the id columns. `null_values`: words that stand
        for a missing value beside the empty field, by default NA, NULL, nan, \\N, None and their like; () for none,
        where these are real. `lists`: column → what lies between the values in each of its fields, such as
        {"tags": "|"}; the values are strings, trimmed, and an empty field is an empty list. A missing id is an error, a
        missing feature is null.

        Raises `DataError` naming table, column and row, and for an option that no table given can use.
        """
        roles = {
            "query": query,
            "candidate": candidate,
            "timestamp": timestamp,
            "weight": weight,
            "negatives": negatives,
        }
        names = [name for name in roles.values() if name is not None]
        for role, name in roles.items():
            if not isinstance(name, str) and (name is not None or role in ("query", "candidate")):
                raise DataError(f"{role} is the name of a column, got {name!r}")
        if len(set(names)) < len(names):
            raise DataError(f"{', '.join(roles)} must be different columns, got {names}")
        dialect = Dialect(encoding, delimiter, null_values, lists)
        if dialect and not any(readers.is_csv(given) for given in (table, queries, candidates)):
            raise DataError("encoding, delimiter, null_values and lists are for CSV files, and no table given is one")
        _refuse_lists_of_ids(dialect, [name for name in names if name != negatives])
        if unit is not None and timestamp is None:
            raise DataError(f"unit={unit!r} is for the timestamp column: name it with timestamp=…")
        source = readers.read(table, "interactions", ids=(query, candidate), dialect=dialect)
        for name in (timestamp, weight, negatives):
            if name is not None and name not in source.table.column_names:
                raise DataError(f"{source.where}: no column {name!r}; it has {some(source.table.column_names, 20)}")
        times = None if timestamp is None else _times(source, timestamp, unit)
        query_table = _side_table(source, query, queries, "queries", dialect)
        candidate_table = _side_table(source, candidate, candidates, "candidates", dialect)
        _refuse_lists_of_no_column(dialect, [source, query_table, candidate_table])
        query_ids, query_codes, query_side = side_of(source, query, query_table, "queries", names)
        candidate_ids, candidate_codes, candidate_side = side_of(
            source, candidate, candidate_table, "candidates", names
        )
        made = cls(
            query_name=query,
            candidate_name=candidate,
            timestamp_name=timestamp,
            query_codes=query_codes,
            candidate_codes=candidate_codes,
            timestamps=times,
            query_ids=query_ids,
            candidate_ids=candidate_ids,
            queries=query_side,
            candidates=candidate_side,
            extra=source.table.drop_columns(sorted({*names, *_moved(queries)})),
            weight_name=weight,
            weights=None if weight is None else _weights(source, weight),
            negatives_name=negatives,
            negatives=None
            if negatives is None
            else impressions.of_column(source, negatives, candidate_ids, candidate_codes),
        )
        del source, query_table, candidate_table
        give_back()
        return made

    def __len__(self) -> int:
        return len(self.query_codes)

    def __repr__(self) -> str:
        between = ""
        if self.timestamps is not None and len(self):
            between = f", {day(self.timestamps.min())} to {day(self.timestamps.max())}"
        return (
            f"Interactions({len(self):,} rows: {len(self.query_ids):,} {self.query_name} × "
            f"{len(self.candidate_ids):,} {self.candidate_name}{between})"
        )

    def to_table(self) -> pa.Table:
        """The rows with their ids, the timestamp in seconds (float64), the weight, the list of candidates shown and not
        taken, and the other columns."""
        columns = {
            self.query_name: self.query_ids.decode(self.query_codes),
            self.candidate_name: self.candidate_ids.decode(self.candidate_codes),
        }
        if self.timestamp_name is not None:
            columns[self.timestamp_name] = pa.array(self.timestamps)
        if self.weight_name is not None:
            columns[self.weight_name] = pa.array(self.weights)
        if self.negatives is not None:
            shown = self.candidate_ids.decode(self.negatives.values)
            columns[str(self.negatives_name)] = list_array(self.negatives.offsets, shown)
        return pa.table(columns | {name: self.extra[name] for name in self.extra.column_names})

    def take(self, rows: ArrayLike) -> Interactions:
        """The rows asked for (numbers or a mask), in that order, with the same vocabularies and side tables.

        Of a store's rows they lie in temporary files (below `TMPDIR`), mapped as those are.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1:
            raise DataError(f"take: expected a list of row numbers or a mask, got an array of shape {rows.shape}")
        if rows.dtype == bool and len(rows) == len(self):
            return self._kept(rows)
        try:
            chosen = np.arange(len(self))[rows if rows.size else []]
        except IndexError as error:
            raise DataError(f"take: cannot take these of {len(self):,} rows ({error})") from None
        return self._kept(chosen)

    def _kept(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> Interactions:
        """`take` of a mask (n,) or of numbers from 0, which are not looked at again."""
        extra, shown, mask = self.extra, self.negatives, rows.dtype == bool
        if extra.num_columns:
            extra = extra.filter(pa.array(rows)) if mask else extra.take(pa.array(rows))
        if shown is not None:
            shown = shown.take(np.flatnonzero(rows) if mask else rows.astype(np.int64, copy=False))
        return replace(
            self,
            query_codes=taken(self.query_codes, rows),
            candidate_codes=taken(self.candidate_codes, rows),
            timestamps=None if self.timestamps is None else taken(self.timestamps, rows),
            extra=extra,
            weights=None if self.weights is None else taken(self.weights, rows),
            negatives=shown,
            in_order=self.in_order and mask,
        )

    def query_counts(self) -> NDArray[np.int64]:
        """(len(query_ids),): rows of each query."""
        return np.bincount(self.query_codes, minlength=len(self.query_ids)).astype(np.int64)

    def candidate_counts(self) -> NDArray[np.int64]:
        """(len(candidate_ids),): rows of each candidate."""
        return np.bincount(self.candidate_codes, minlength=len(self.candidate_ids)).astype(np.int64)

    def filter(self, *, min_per_query: int = 0, min_per_candidate: int = 0) -> Interactions:
        """The k-core: rows of rare queries and candidates go, again and again, until every one left has enough rows.

        Ids with too few rows leave the vocabularies and side tables too (also those of a side table only, unless
        their minimum is 0), so codes change. Rows are counted, not distinct pairs. Raises `DataError` if none is left.
        """
        for name, least in (("min_per_query", min_per_query), ("min_per_candidate", min_per_candidate)):
            if not isinstance(least, (int, np.integer)) or isinstance(least, bool) or least < 0:
                raise DataError(f"filter: {name} must be a whole number ≥ 0, got {least!r}")
        rows, queries, candidates = pairs.k_core(self, min_per_query, min_per_candidate)
        if not rows.any():
            raise DataError(
                f"filter: no row of {len(self):,} is left with "
                f"min_per_query={min_per_query}, min_per_candidate={min_per_candidate}"
            )
        return self._kept(rows)._restrict(queries, candidates)

    def split(
        self,
        *,
        by: splits.By,
        at: str | date | float | None = None,
        test: float | None = None,
        n: int = 1,
        seed: int = 42,
        known_only: bool = False,
    ) -> splits.Split:
        """Cut the rows in two: `train, test = data.split(…)`; both keep these vocabularies and side tables.

        `by="time"`: rows at or after `at` (a date string, datetime or seconds; UTC) are the test, or the latest share
        `test`. `by="last"`: the last `n` rows of each query that has more than n, by time, ties by row order.
        `by="random"`: a share `test` of the rows, drawn with `seed`. `known_only` drops test rows whose query or
        candidate has no training row. The result's `leakage` says what the test knows of the training rows.
        Raises `DataError` for options that do not fit together, and if either part is empty.
        """
        return splits.split(self, by=by, at=at, test=test, n=n, seed=seed, known_only=known_only)

    def digest(self) -> str:
        """SHA-256 of all contents, in hex: equal for equal data, wherever it was read from."""
        sha = hashlib.sha256()
        sha.update(json.dumps([self.query_name, self.candidate_name, self.timestamp_name]).encode())
        for codes in (self.query_codes, self.candidate_codes):
            sha.update(column_digest(pa.array(codes)))
        if self.timestamps is not None:
            sha.update(column_digest(pa.array(self.timestamps)))
        if self.weights is not None:
            sha.update(json.dumps(["weight", self.weight_name]).encode() + column_digest(pa.array(self.weights)))
        if self.negatives is not None:
            sha.update(json.dumps(["negatives", self.negatives_name]).encode())
            for part in (self.negatives.values, self.negatives.offsets):
                sha.update(column_digest(pa.array(part)))
        for table in (self.queries, self.candidates, self.extra):
            for name in table.column_names:
                sha.update(json.dumps(name).encode() + column_digest(table[name]))
        return sha.hexdigest()

    def _restrict(self, keep_queries: NDArray[np.bool_], keep_candidates: NDArray[np.bool_]) -> Interactions:
        """The same rows over smaller vocabularies, which must hold every id that has a row."""
        candidate_code = _renumber(keep_candidates)
        shown = self.negatives and Ragged(candidate_code[self.negatives.values], self.negatives.offsets)
        return replace(
            self,
            negatives=shown and shown.without(shown.values < 0),
            query_codes=_renumber(keep_queries)[self.query_codes],
            candidate_codes=candidate_code[self.candidate_codes],
            query_ids=Vocabulary(self.query_ids.ids.filter(pa.array(keep_queries)), self.query_name),
            candidate_ids=Vocabulary(self.candidate_ids.ids.filter(pa.array(keep_candidates)), self.candidate_name),
            queries=_filtered(self.queries, keep_queries),
            candidates=_filtered(self.candidates, keep_candidates),
        )


def _times(source: readers.Source, name: str, unit: Unit | None) -> NDArray[np.float64]:
    cure = "pass unit='{unit}' (on the shell --unit {unit})"
    times = seconds(source.table[name], source.column(name), unit, cure)
    give_back()
    return times


def _weights(source: readers.Source, name: str) -> NDArray[np.float64]:
    where = source.column(name)
    weights = as_numbers(source.table[name], where)
    bad = ~((weights == 0) | ((weights >= LIGHTEST) & (weights <= HEAVIEST)))
    if bad.any():
        row = int(np.argmax(bad))
        got = source.table[name][row].as_py()
        raise DataError(
            f"{where}: a weight is 0, or a number from {LIGHTEST:g} to {HEAVIEST:g}, got {got} in row {row} (counting "
            "from 0): fill it, or drop the row"
        )
    if len(weights) and not weights.any():
        raise DataError(f"{where}: all {len(weights):,} weights are 0, so nothing would be learnt; leave weight out")
    return weights


def _refuse_lists_of_ids(dialect: Dialect, names: Sequence[str]) -> None:
    for name in dialect.lists or {}:
        if name in names:
            raise DataError(f"lists: {name!r} holds one id or time in each row, and no lists")


def _refuse_lists_of_no_column(dialect: Dialect, tables: Sequence[readers.Source | None]) -> None:
    present = sorted({name for each in tables if each is not None and each.text for name in each.table.column_names})
    for name in dialect.lists or {}:
        if name not in present:
            raise DataError(f"lists: no CSV file given has a column {name!r}; there is {some(present, 20)}")


def _moved(queries: Any) -> set[str]:
    """The rows' own columns that tell of their query."""
    return set(queries) if isinstance(queries, (list, tuple)) else set()


def _side_table(source: readers.Source, name: str, side: Any, role: str, dialect: Dialect) -> readers.Source | None:
    """A side table as read, off a table of its own or off the interactions' rows."""
    if side is None:
        return None
    if isinstance(side, (list, tuple)):
        return sides.of_rows(source, name, side, role)
    return readers.read(side, role, ids=(name,), dialect=dialect)


def side_of(
    source: readers.Source, name: str, features: readers.Source | None, role: str, of_rows: Sequence[str]
) -> tuple[Vocabulary, NDArray[np.int32], pa.Table]:
    """Of one id column: its vocabulary, the code of each row, and the side table in the vocabulary's order."""
    ids, codes = readers.coded_column(source, name)
    give_back()
    if features is None:
        (ids,) = readers.settle_ids(name, (source, ids))
        vocabulary, codes = _merged(ids, codes, name)
        return vocabulary, codes, pa.table({name: vocabulary.ids})
    ids, repeated = readers.settle_ids(name, (source, ids), (features, readers.id_column(features, name)))
    side_ids, table = sides.one_row_per_id(features, repeated, name, role, of_rows)
    vocabulary, codes = _merged(ids, codes, name)
    vocabulary = vocabulary.grown(side_ids)
    return vocabulary, codes, _align(table, name, vocabulary.encode(side_ids), vocabulary)


def _merged(ids: pa.Array, codes: NDArray[np.int32], name: str) -> tuple[Vocabulary, NDArray[np.int32]]:
    """The vocabulary of ids, some of which may be equal now that they are settled, such as 12 and 12.0, and their
    codes."""
    vocabulary, places = Vocabulary.with_codes(ids, name)
    return vocabulary, codes if len(vocabulary) == len(ids) else places[codes]


def _align(table: pa.Table, name: str, codes: NDArray[np.int32], vocabulary: Vocabulary) -> pa.Table:
    """Row i for id i of the vocabulary, nulls where no row of `table` has that code; the id column first."""
    position = np.full(len(vocabulary), -1, np.int64)
    position[codes] = np.arange(len(codes))
    features = table.drop_columns([name])
    if features.num_columns:
        features = sides.taken(features, position)
    return pa.table({name: vocabulary.ids} | {column: features[column] for column in features.column_names})


def _filtered(table: pa.Table, keep: NDArray[np.bool_]) -> pa.Table:
    """The rows to keep; the table itself where that is all, as it may hold gigabytes of vectors."""
    return table if keep.all() else table.filter(pa.array(keep))


def _renumber(keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
