"""What test rows are told apart by: how warm their query and candidate are, or a column.

Warmth counts the training rows of a query or a candidate:

    new    none: unknown to the model, or known by its features alone
    cold   1 to 9
    warm   10 to 99
    hot    100 or more
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.columns import in_words
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.messages import one_line, some
from recs_core.data.catalog import Catalog
from recs_core.data.interactions import Interactions
from recs_core.evaluation.targets import check_test

WARMTH = (
    ("new", 0, "no training row"),
    ("cold", 1, "1–9 training rows"),
    ("warm", 10, "10–99 training rows"),
    ("hot", 100, "100 training rows or more"),
)
"""Name, the least number of training rows, and that in words."""

QUERIES, CANDIDATES, ROWS = "queries' side table", "candidates' side table", "rows"
"""Where a column may stand."""

MOST = 50
"""A column of more different values is refused: that many slices say nothing."""


@dataclass(frozen=True)
class Labels:
    """A label for each test row.

    `names`: the labels, of any type, None for rows without a value. `rules`: what each means, "" where its name says
    it. `of_rows` (n,): the label of each test row. `of_corpus` (C,): the label of each candidate of the corpus, −1 for
    none of them; None where labels do not tell candidates apart.
    """

    names: Sequence[Any]
    rules: Sequence[str]
    of_rows: NDArray[np.int64]
    of_corpus: NDArray[np.int64] | None = None


def labels_of(by: str, test: Interactions, catalog: Catalog) -> list[Labels]:
    """The labels that `by` names: "warmth", of queries and then of candidates, or a column of the test's side tables or
    of its rows.

    Raises `SpecError` for what is no name; `DataError` for test data that is none, for a column that is nowhere or in
    several places, for one that holds lists, and for more than 50 different values.
    """
    if not isinstance(by, str):
        raise SpecError(f"by is 'warmth' or the name of a column, got {by!r}")
    check_test(test)
    tables = {QUERIES: test.queries, CANDIDATES: test.candidates, ROWS: test.extra}
    places = [place for place, table in tables.items() if by in table.column_names]
    if by == "warmth":
        if places:
            raise DataError(f"by='warmth' means training rows, and the test's {places[0]} has such a column: rename it")
        return [_warmth("query", test, catalog), _warmth("candidate", test, catalog)]
    if not places:
        there = [f"the test's {place}: {some(t.column_names, 20)}" for place, t in tables.items() if t.num_columns]
        raise DataError(f"by={by!r} is neither 'warmth' nor a column; there are {'; '.join(there)}")
    codes = {QUERIES: test.query_codes, CANDIDATES: test.candidate_codes, ROWS: np.arange(len(test))}
    found, *others = (_plain(tables[place][by], by).take(pa.array(codes[place])) for place in places)
    if not all(found.equals(other) for other in others):
        raise DataError(
            f"by={by!r} is a column of the test's {' and of its '.join(places)}, and they differ: rename one"
        )
    try:
        return [_of_column(by, found, _of_corpus(by, test, catalog) if places[0] == CANDIDATES else None)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        what = f"by={by!r}: values of {in_words(found.type)} cannot be told apart ({one_line(error)})"
        raise DataError(f"{what}; name another column") from None


def _warmth(side: Side, test: Interactions, catalog: Catalog) -> Labels:
    schema, starts = catalog.schema, [least for _, least, _ in WARMTH]
    if side == "query":
        known, ids, codes, corpus = catalog.seen.lengths, test.query_ids.ids, test.query_codes, None
        rows = np.append(known, 0)[schema.queries.encode(ids)]  # the last one stands for −1
    else:
        ids, codes, corpus = test.candidate_ids.ids, test.candidate_codes, _warm(catalog.counts, starts)
        rows = np.append(catalog.counts, 0)[schema.candidates.encode(ids)]
    names = [f"{name} {'queries' if side == 'query' else 'candidates'}" for name, _, _ in WARMTH]
    return Labels(names, [f"{name}: {rule}" for name, _, rule in WARMTH], _warm(rows, starts)[codes], corpus)


def _warm(rows: NDArray[np.integer], starts: list[int]) -> NDArray[np.int64]:
    return np.searchsorted(starts, rows, side="right") - 1


def _plain(column: pa.ChunkedArray, by: str) -> pa.Array:
    """In one chunk, without dictionary, null for NaN, and 0.0 for −0.0."""
    if pa.types.is_nested(column.type):
        raise DataError(
            f"by={by!r}: the column holds {in_words(column.type)}, and a row belongs to one slice; name a plain column"
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return pc.if_else(pc.is_nan(array), None, pc.add(array, 0.0)) if pa.types.is_floating(array.type) else array


def _of_corpus(by: str, test: Interactions, catalog: Catalog) -> pa.Array:
    """(C,): the column of the candidates' side table for the corpus, null for a candidate that it lacks."""
    place = test.candidate_ids.encode(catalog.schema.candidates.ids)
    return _plain(test.candidates[by], by).take(pa.array(place, mask=place < 0))


def _of_column(by: str, rows: pa.Array, corpus: pa.Array | None) -> Labels:
    """Of the value of each test row, (n,), and of each candidate of the corpus, (C,), where the column is theirs."""
    encoded = pc.dictionary_encode(rows, null_encoding="encode")
    values = encoded.dictionary.to_pylist()
    if len(values) > MOST:
        raise DataError(
            f"by={by!r}: the test data has {len(values):,} different values, more than {MOST}; bucket them first, into "
            "a column of a few ranges or groups"
        )
    order = sorted(range(len(values)), key=lambda i: (values[i] is None, values[i] if values[i] is not None else 0))
    label = np.append(np.argsort(order), -1)  # the last one stands for −1
    of_rows = label[encoded.indices.to_numpy(zero_copy_only=False)]
    of_corpus = None
    if corpus is not None:
        code = pc.fill_null(pc.index_in(corpus, encoded.dictionary), -1)
        of_corpus = label[code.to_numpy(zero_copy_only=False)]
    return Labels([values[i] for i in order], [""] * len(order), of_rows, of_corpus)
