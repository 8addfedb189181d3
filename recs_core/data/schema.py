"""What a model learned about its data's columns: vocabularies, numeric statistics, the size of every table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.features import Bag, Categorical, Feature, History, Numeric, Text
from recs_core.contract.towers import TowerSpec
from recs_core.data.interactions import Interactions
from recs_core.tables.columns import as_lists, as_numbers, as_values
from recs_core.tables.vocabulary import Vocabulary

Side = Literal["query", "candidate"]


@dataclass(frozen=True)
class Schema:
    """Learned from training data alone.

    `queries`: the known query ids; their order is the query code. `candidates`: the corpus; its order is the candidate
    code. `vocabularies`: table name → ids of its rows after the OOV rows. `numeric`: `query/age` → (mean, standard
    deviation). `table_rows`: table name → number of rows, OOV rows included.
    """

    query_name: str
    candidate_name: str
    queries: Vocabulary
    candidates: Vocabulary
    vocabularies: Mapping[str, Vocabulary]
    numeric: Mapping[str, tuple[float, float]]
    table_rows: Mapping[str, int]

    @classmethod
    def learn(cls, query: TowerSpec, candidate: TowerSpec, train: Interactions) -> Schema:
        """Read vocabularies and statistics off the training data.

        A candidate belongs to the corpus if it has a training row, or if the tower knows it by more than its id. The
        same holds for a query. Raises `DataError` for a feature whose column is missing or of an unusable type.
        """
        queries = _known(train.query_ids, train.query_counts() > 0, _sees_more_than_id(query, train.query_name))
        candidates = _known(
            train.candidate_ids, train.candidate_counts() > 0, _sees_more_than_id(candidate, train.candidate_name)
        )
        trained = {
            "query": train.query_ids.decode(np.flatnonzero(train.query_counts() > 0).astype(np.int32)),
            "candidate": train.candidate_ids.decode(np.flatnonzero(train.candidate_counts() > 0).astype(np.int32)),
        }
        values: dict[str, list[pa.Array]] = {}
        rows: dict[str, int] = {}
        numeric: dict[str, tuple[float, float]] = {}
        for side, tower in (("query", query), ("candidate", candidate)):
            for feature in tower.features:
                _refuse_columns_of_rows(side, feature, train)
                if isinstance(feature, Numeric):
                    numeric[f"{side}/{feature.name}"] = _statistics(
                        side, feature, train, {"query": queries, "candidate": candidates}[side]
                    )
                elif isinstance(feature, Text):
                    table = train.queries if side == "query" else train.candidates
                    as_values(column(table, side, feature), f"Text({feature.name!r})", "text")
                    rows[feature.table_name] = feature.buckets
                else:
                    assert feature.table_name is not None
                    values.setdefault(feature.table_name, []).append(_ids_of(side, feature, train, trained))
        vocabularies = {
            name: Vocabulary.from_values(pa.concat_arrays(_one_type(name, arrays))) for name, arrays in values.items()
        }
        for name, feature in _table_features(query, candidate):
            if name in vocabularies:
                oov = getattr(feature, "num_oov", 1)
                rows[name] = max(rows.get(name, 0), oov + len(vocabularies[name]))
        return cls(train.query_name, train.candidate_name, queries, candidates, vocabularies, numeric, rows)

    def oov_rows(self, table: str) -> int:
        """How many rows of `table` are for ids that training never saw."""
        return self.table_rows[table] - len(self.vocabularies[table])

    def candidate_rows(self, table: str) -> NDArray[np.int32]:
        """(corpus,): the row of `table` for each candidate's id, −1 where it has none. Looked up once."""
        if table not in self._candidate_rows:
            rows = self.vocabularies[table].encode(self.candidates.ids)
            self._candidate_rows[table] = np.where(rows < 0, np.int32(-1), rows + np.int32(self.oov_rows(table)))
        return self._candidate_rows[table]

    @cached_property
    def _candidate_rows(self) -> dict[str, NDArray[np.int32]]:
        return {}


def column(table: pa.Table, side: str, feature: Feature) -> pa.Array:
    """The feature's column of a side table, in one chunk; `DataError` names the columns there are."""
    if feature.name not in table.column_names:
        have = ", ".join(table.column_names)
        raise DataError(
            f"{type(feature).__name__}({feature.name!r}): the {side} table has no such column; it has {have}"
        )
    return table.column(feature.name).combine_chunks()


def _refuse_columns_of_rows(side: str, feature: Feature, train: Interactions) -> None:
    """What a row tells, such as its device or its hour, is no feature of its query: there is one vector per query."""
    table = train.queries if side == "query" else train.candidates
    of_rows = [*train.extra.column_names, train.query_name, train.candidate_name, train.timestamp_name]
    if isinstance(feature, History) or feature.name in table.column_names or feature.name not in of_rows:
        return
    id_name, tables = (train.query_name, "queries") if side == "query" else (train.candidate_name, "candidates")
    raise DataError(
        f"{type(feature).__name__}({feature.name!r}): the column stands in the rows of the interactions, but features "
        f"of the {side} tower are read from the side table of {tables}, one row per {id_name}: pass it to from_table "
        f"as {tables}={{{id_name!r}: …, {feature.name!r}: …}}"
    )


def _table_features(*towers: TowerSpec) -> Iterator[tuple[str, Feature]]:
    for tower in towers:
        for feature in tower.features:
            if feature.table_name is not None:
                yield feature.table_name, feature


def _sees_more_than_id(tower: TowerSpec, id_name: str) -> bool:
    return any(feature.name != id_name for feature in tower.features)


def _known(ids: Vocabulary, trained: np.ndarray, everyone: bool) -> Vocabulary:
    return ids if everyone or trained.all() else Vocabulary(ids.ids.filter(pa.array(trained)))


def _ids_of(side: str, feature: Feature, train: Interactions, trained: Mapping[str, pa.Array]) -> pa.Array:
    """Values that get a row of their own in the feature's table."""
    if isinstance(feature, History):
        if feature.name != train.candidate_name:
            raise DataError(
                f"History({feature.name!r}): name it after the candidate id column, {train.candidate_name!r}"
            )
        return trained["candidate"]
    table, id_name = (train.queries, train.query_name) if side == "query" else (train.candidates, train.candidate_name)
    if isinstance(feature, Categorical) and feature.name == id_name:
        return trained[side]
    values = column(table, side, feature)
    where = f"{type(feature).__name__}({feature.name!r})"
    return (as_lists(values, where)[0] if isinstance(feature, Bag) else as_values(values, where)).drop_null()


def _one_type(name: str, arrays: list[pa.Array]) -> list[pa.Array]:
    if len({array.type for array in arrays}) > 1:
        raise DataError(
            f"{name} is shared by columns of different types: {', '.join(sorted({str(a.type) for a in arrays}))}"
        )
    return arrays


def _statistics(side: str, feature: Numeric, train: Interactions, known: Vocabulary) -> tuple[float, float]:
    table, ids = (train.queries, train.query_ids) if side == "query" else (train.candidates, train.candidate_ids)
    values = numbers(side, feature, table.take(pa.array(ids.encode(known.ids))), known)
    deviation = float(values.std())
    return float(values.mean()), deviation if deviation > 0 else 1.0


def numbers(side: str, feature: Numeric, table: pa.Table, ids: Vocabulary | pa.Array) -> np.ndarray:
    """The column as float64; `DataError` names the first id whose value is missing, NaN or infinite."""
    out = as_numbers(column(table, side, feature), f"Numeric({feature.name!r})")
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        names = ids.ids if isinstance(ids, Vocabulary) else ids
        raise DataError(
            f"Numeric({feature.name!r}): {len(bad)} of {len(out)} {side} rows have no finite value, the first is "
            f"{names[int(bad[0])].as_py()!r}; fill or drop them"
        )
    return out
