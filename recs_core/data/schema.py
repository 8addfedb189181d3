"""What a model learned about its data's columns: vocabularies, what each feature learned, the size of every table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.errors import BadRows, DataError
from recs_core.contract.features import Feature, Known, State
from recs_core.contract.plain import one_chunk
from recs_core.contract.towers import TowerSpec
from recs_core.contract.vocabulary import Vocabulary, refuse_too_many
from recs_core.data.interactions import Interactions


@dataclass(frozen=True)
class Schema:
    """Learned from training data alone.

    `queries`: the known query ids; their order is the query code. `candidates`: the corpus; its order is the candidate
    code. `vocabularies`: table name → ids of its rows after those that stand for no id. `learnt`: `query/age` → what
    the feature learned, as JSON. `table_rows`: table name → number of rows. `context`: names of the query features
    that are read of each interaction, and not of its query. `time_name`: the name of its time, where the query tower
    reads that, as one of them or in an encoder with `time="request"`.
    """

    query_name: str
    candidate_name: str
    queries: Vocabulary
    candidates: Vocabulary
    vocabularies: Mapping[str, Vocabulary]
    learnt: Mapping[str, State]
    table_rows: Mapping[str, int]
    context: tuple[str, ...] = ()
    time_name: str | None = None

    def __post_init__(self) -> None:
        for name, rows in self.table_rows.items():
            refuse_too_many(rows, f"rows of {name!r}")

    @classmethod
    def learn(cls, query: TowerSpec, candidate: TowerSpec, train: Interactions) -> Schema:
        """Read vocabularies and statistics off the training data.

        A candidate belongs to the corpus if it has a training row, or if the tower knows it by more than its id. The
        same holds for a query. Raises `DataError` for a feature whose column is missing or of an unusable type.
        """
        context = _context(query, train)
        sides = sides_of(query, candidate, train)
        ids: dict[str, list[pa.Array]] = {}
        own_rows: dict[str, int] = {}
        learnt: dict[str, State] = {}
        for side, data in sides.items():
            for feature in data.tower.features:
                of_row = side == "query" and feature.name in context
                values = (
                    sides["candidate"].trained
                    if feature.reads_past
                    else of_rows(feature, train)
                    if of_row
                    else data.values(feature, train)
                )
                if feature.reads_past and feature.name != train.candidate_name:
                    raise DataError(f"{feature.where}: name it after the candidate id column, {train.candidate_name!r}")
                with naming(feature, side, None if of_row else data.ids(feature)):
                    state = feature.learn(values)
                if state:
                    learnt[f"{side}/{feature.name}"] = state
                if feature.table_name is None:
                    continue
                if feature.has_vocabulary:
                    ids.setdefault(feature.table_name, []).append(feature.ids(values))
                own_rows[feature.table_name] = max(own_rows.get(feature.table_name, 0), feature.rows(state))
        vocabularies = {
            name: Vocabulary.from_values(pa.concat_arrays(_one_type(name, arrays)), name.removeprefix("table/"))
            for name, arrays in ids.items()
        }
        rows = {name: own + len(vocabularies.get(name, ())) for name, own in own_rows.items()}
        known = sides["query"].known, sides["candidate"].known
        names = train.query_name, train.candidate_name
        reads_time = train.timestamp_name in context or query.reads_time == "request"
        time_name = train.timestamp_name if reads_time else None
        return cls(*names, *known, vocabularies, learnt, rows, context, time_name)

    @cached_property
    def of_request(self) -> tuple[str, ...]:
        """Names of all columns that the query tower reads of each interaction: `context`, and the time."""
        return tuple(dict.fromkeys([*self.context, *([] if self.time_name is None else [self.time_name])]))

    @property
    def blank_request(self) -> Literal["blank"] | None:
        """The `context` of a request of which nothing is known, not even its time; None where the tower reads none."""
        return "blank" if self.of_request else None

    def known(self, side: str, feature: Feature) -> Known:
        """What a feature encodes by."""
        state, name = self.learnt.get(f"{side}/{feature.name}", {}), feature.table_name
        if name is None or name not in self.vocabularies:
            return Known(state)
        return Known(state, self.vocabularies[name], self.first_row(name))

    def states(self, side: str) -> dict[str, State]:
        """Feature name → what the features of a side learned."""
        return {
            name.removeprefix(f"{side}/"): state for name, state in self.learnt.items() if name.startswith(f"{side}/")
        }

    def id_name(self, side: str) -> str:
        """The id column of a side."""
        return self.query_name if side == "query" else self.candidate_name

    def first_row(self, table: str) -> int:
        """The first row of `table` that stands for an id; those before it stand for ids that training never saw."""
        return self.table_rows[table] - len(self.vocabularies[table])

    def candidate_rows(self, table: str) -> NDArray[np.int32]:
        """(corpus,): the row of `table` for each candidate's id, −1 where it has none. Looked up once."""
        if table not in self._candidate_rows:
            rows = self.vocabularies[table].encode(self.candidates.ids)
            self._candidate_rows[table] = np.where(rows < 0, np.int32(-1), rows + np.int32(self.first_row(table)))
        return self._candidate_rows[table]

    @cached_property
    def _candidate_rows(self) -> dict[str, NDArray[np.int32]]:
        return {}


def column(table: pa.Table, side: str, feature: Feature) -> pa.Array:
    """The feature's column of a side table, in one chunk; `DataError` names the columns there are."""
    if feature.name not in table.column_names:
        have = ", ".join(table.column_names)
        raise DataError(f"{feature.where}: the {side} table has no such column; it has {have}")
    return one_chunk(table.column(feature.name))


def _context(query: TowerSpec, train: Interactions) -> tuple[str, ...]:
    """Names of the query features that are read of each row. Raises `DataError` for one that its query or its candidate
    tells too."""
    of_rows = {*train.extra.column_names, train.timestamp_name}
    found = tuple(feature for feature in query.features if feature.name in of_rows and not feature.reads_past)
    for feature in found:
        refuse_told_twice(feature.where, feature.name, train)
        if feature.name in train.candidates.column_names:
            raise DataError(
                f"{feature.where}: the side table of candidates has this column too, so that each row would tell the "
                "query of the candidate that it is to find; rename the one of the rows if it tells of the request"
            )
    return tuple(feature.name for feature in found)


def refuse_told_twice(where: str, name: str, train: Interactions) -> None:
    """Raise `DataError` for a column of the rows that the side table of queries has too; `where` asks for it."""
    if name in train.queries.column_names:
        raise DataError(
            f"{where}: both the interactions and the side table of queries have column {name!r}, and which is meant is "
            "not told; leave it out of one of them"
        )


def of_rows(feature: Feature, train: Interactions) -> pa.Array:
    """The column that a feature reads of each row; the time in seconds."""
    if feature.name == train.timestamp_name:
        return pa.array(train.timestamps)
    return one_chunk(train.extra[feature.name])


def _refuse_missing(side: str, feature: Feature, train: Interactions) -> None:
    """Raise `DataError` for a column that is not there, and for one of the rows that cannot be a feature: there is one
    vector per candidate, and the target is what a query is to find."""
    if side == "query":
        if feature.name in train.queries.column_names:
            return
        if feature.name == train.candidate_name:
            raise DataError(
                f"{feature.where}: the column is the candidate, which is what the query tower is to find; "
                f"History({feature.name!r}) reads the past ones"
            )
        rows = [*([] if train.timestamp_name is None else [train.timestamp_name]), *train.extra.column_names]
        raise DataError(
            f"{feature.where}: neither the side table of queries has such a column nor the interactions; they have "
            f"{', '.join(train.queries.column_names)}, and {', '.join(rows) or 'none'}"
        )
    of_rows = [*train.extra.column_names, train.query_name, train.timestamp_name]
    if feature.name in train.candidates.column_names or feature.name not in of_rows:
        return
    raise DataError(
        f"{feature.where}: the column stands in the rows of the interactions, but features of the candidate tower are "
        f"read from the side table of candidates, one row per {train.candidate_name}: pass it to from_table as "
        f"candidates={{{train.candidate_name!r}: …, {feature.name!r}: …}}"
    )


def sides_of(query: TowerSpec, candidate: TowerSpec, train: Interactions) -> dict[Side, TrainingSide]:
    """Both sides of the training data."""
    return {
        "query": TrainingSide.of("query", query, train),
        "candidate": TrainingSide.of("candidate", candidate, train),
    }


@dataclass(frozen=True)
class TrainingSide:
    """One side of the training data: its side table, the ids that are known, and those that have a training row."""

    side: Side
    tower: TowerSpec
    id_name: str
    table: pa.Table
    known: Vocabulary
    trained: pa.Array

    @classmethod
    def of(cls, side: Side, tower: TowerSpec, train: Interactions) -> TrainingSide:
        if side == "query":
            ids, counts, name, table = train.query_ids, train.query_counts(), train.query_name, train.queries
        else:
            ids, counts, name, table = (
                train.candidate_ids,
                train.candidate_counts(),
                train.candidate_name,
                train.candidates,
            )
        trained = ids.ids if (counts > 0).all() else ids.ids.filter(pa.array(counts > 0))
        more_than_id = any(feature.name != name for feature in tower.features)
        return cls(side, tower, name, table, ids if more_than_id else Vocabulary(trained, name), trained)

    def values(self, feature: Feature, train: Interactions) -> pa.Array:
        """What a feature learns from: the ids that have a row, or the column of every known id."""
        if feature.name == self.id_name:
            return self.trained
        _refuse_missing(self.side, feature, train)
        return column(self.table, self.side, feature)

    def ids(self, feature: Feature) -> pa.Array:
        """The id of each of those values."""
        return self.trained if feature.name == self.id_name else self.table[self.id_name].combine_chunks()


@contextlib.contextmanager
def naming(feature: Feature, side: str, ids: pa.Array | None) -> Iterator[None]:
    """Rows that the feature refuses within the block are named by their ids; rows of context, None, by their number."""
    try:
        yield
    except BadRows as error:
        bad = np.flatnonzero(error.mask)
        rows = "rows of context" if ids is None else f"{side} rows"
        first = f"row {bad[0]} (counting from 0)" if ids is None else repr(ids[int(bad[0])].as_py())
        raise DataError(
            f"{feature.where}: {len(bad)} of {len(error.mask)} {rows} {error.what}, the first is {first}; {error.cure}"
        ) from None


def _one_type(name: str, arrays: list[pa.Array]) -> list[pa.Array]:
    if len({array.type for array in arrays}) > 1:
        raise DataError(
            f"{name} is shared by columns of different types: {', '.join(sorted({str(a.type) for a in arrays}))}"
        )
    return arrays


def check_names(schema: Schema, data: Interactions) -> None:
    """Raise `DataError` where the data names its id columns otherwise."""
    for side, due, got in (
        ("query", schema.query_name, data.query_name),
        ("candidate", schema.candidate_name, data.candidate_name),
    ):
        if due != got:
            raise DataError(f"the {side} column is {got!r}, this model was trained on {due!r}; rename the column")
