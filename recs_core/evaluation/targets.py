"""Test interactions in the codes of a schema: whose rankings are judged, by what, and what leaves them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.asked import check_interactions
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.data.catalog import candidates_of
from recs_core.data.context import columns_of
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.tables.sides import comparable

log = logging.getLogger("recs_core")


Repeats: TypeAlias = Literal["miss", "drop"]
REPEATS: tuple[Repeats, ...] = ("miss", "drop")


@dataclass(frozen=True)
class Targets:
    """What test data asks: Q questions with T targets in all, in the codes of a schema.

    A question is a query; of a model that reads context, or the time of a request, a query in one context at one time.
    `queries` (Q,): ids. `codes`: the distinct candidate codes of each, −1 for one outside the corpus. `excluded`: the
    codes that leave each ranking, or None. `of_rows` (n,): which target each test row is, −1 for one left out. `rows`
    (Q,): a test row that asks each.
    """

    queries: pa.Array
    codes: Ragged
    excluded: Ragged | None
    of_rows: NDArray[np.int64]
    rows: NDArray[np.integer]


def targets_of(
    schema: Schema,
    test: Interactions,
    exclude: Interactions | Sequence[Interactions] | None = None,
    repeats: Repeats = "miss",
) -> Targets:
    """What the test data asks of a ranking from which a query's candidates in `exclude` have left.

    `repeats="drop"` leaves targets out that `exclude` takes out of the ranking; a query may have none left. Raises
    `DataError` for what is no interactions, or none, and where no target is left; `SpecError` for other `repeats`, and
    for "drop" without `exclude`.
    """
    _check_repeats(repeats, exclude)
    check_test(test)
    if exclude is not None:
        check_interactions(exclude, "exclude")
    rows, place, candidate, of_rows = _pairs(test, schema)
    queries = test.query_ids.decode(test.query_codes[rows])
    code = schema.candidates.encode(test.candidate_ids.ids)
    outside = int((code[candidate] < 0).sum())
    if outside == len(candidate):
        known, first = schema.candidates.ids[0].as_py(), test.candidate_ids.ids[int(candidate[0])].as_py()
        warnings.warn(
            f"none of the {outside} test interactions is on a candidate of the corpus (the first is {first!r}, the "
            f"corpus has {known!r}): every metric is 0",
            stacklevel=4,
        )
    elif outside:
        log.info("%d of %d test interactions are on candidates outside the corpus: misses", outside, len(candidate))
    codes = Ragged.from_lengths(code[candidate], np.bincount(place, minlength=len(queries)))
    excluded = None if exclude is None else candidates_of(exclude, queries, schema)
    if repeats == "drop" and excluded is not None:
        kept = ~_repeated(codes, excluded)
        renumbered = np.where(kept, np.cumsum(kept) - 1, -1)
        codes, of_rows = codes.without(~kept), renumbered[of_rows]
    return Targets(queries, codes, excluded, of_rows, rows)


def check_test(test: Any) -> None:
    """Raise `DataError` unless this is `Interactions` with a row."""
    if not isinstance(test, Interactions):
        raise DataError(f"test: expected Interactions, got {type(test).__name__}; make them with from_table")
    if not len(test):
        raise DataError("the test data holds no interactions")


def _check_repeats(repeats: Any, exclude: Any) -> None:
    if not isinstance(repeats, str) or repeats not in REPEATS:
        raise SpecError(f"repeats is 'miss' or 'drop', got {repeats!r}")
    if repeats == "drop" and exclude is None:
        raise SpecError(
            "repeats='drop' leaves out targets that exclude= rules out, and nothing is excluded; pass exclude="
        )


def _repeated(targets: Ragged, excluded: Ragged) -> NDArray[np.bool_]:
    """(T,): which targets `excluded` holds."""
    repeated = excluded.holds(targets.segments, targets.values)
    if repeated.all():
        raise DataError(
            f"repeats='drop' leaves nothing to measure: exclude= rules out all {len(repeated):,} test targets; say "
            "repeats='miss', or exclude nothing"
        )
    if repeated.any():
        log.info("%d of %d test targets repeat what is excluded: left out", repeated.sum(), len(repeated))
    return repeated


def _pairs(
    test: Interactions, schema: Schema
) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """A row that asks each question; the distinct pairs of a question's number and a test candidate's code, as two
    arrays; and which of these pairs each row is."""
    rows, question = _numbered(test, schema)
    width = len(test.candidate_ids)
    pairs, of_rows = np.unique(question.astype(np.int64) * width + test.candidate_codes, return_inverse=True)
    return rows, *np.divmod(pairs, width), of_rows


def _numbered(test: Interactions, schema: Schema) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The first row of each question, by query and then context, and the number of each row's question (n,)."""
    if not schema.of_request:
        return np.unique(test.query_codes, return_index=True, return_inverse=True)[1:]
    keys: list[NDArray[np.integer]] = [test.query_codes]
    keys += [comparable(column) for column in columns_of(test, schema).columns]
    _, rows, question = np.unique(np.stack(keys, 1), axis=0, return_index=True, return_inverse=True)
    return rows, question.ravel()
