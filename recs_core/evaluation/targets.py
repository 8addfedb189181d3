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
class Questions:
    """What test data asks: one question per query, or, of a model that reads context, per query and context.

    `queries` (Q,): ids. `rows` (Q,): a row of the test data that asks each. `targets` (Q rows): distinct candidate
    codes, −1 for one outside the corpus. `excluded` (Q rows): codes that leave the ranking, None: none. `question`
    (n,): the question that each row of the test data asks.
    """

    queries: pa.Array
    rows: NDArray[np.integer]
    targets: Ragged
    excluded: Ragged | None
    question: NDArray[np.integer]


def questions_of(
    schema: Schema,
    test: Interactions,
    exclude: Interactions | Sequence[Interactions] | None = None,
    repeats: Repeats = "miss",
) -> Questions:
    """The questions of test data, and what leaves their rankings: the query's candidates in `exclude`.

    `repeats="drop"` leaves targets out that `exclude` takes out of the ranking; a query may have none left. Raises
    `DataError` for what is no interactions, or none, and where no target is left; `SpecError` for other `repeats`, and
    for "drop" without `exclude`.
    """
    _check_repeats(repeats, exclude)
    if not isinstance(test, Interactions):
        raise DataError(f"test: expected Interactions, got {type(test).__name__}; make them with from_table")
    if not len(test):
        raise DataError("the test data holds no interactions")
    if exclude is not None:
        check_interactions(exclude, "exclude")
    rows, question = _numbered(test, schema)
    queries = test.query_ids.decode(test.query_codes[rows])
    pairs = np.unique(question.astype(np.int64) * len(test.candidate_ids) + test.candidate_codes)
    of, codes = np.divmod(pairs, len(test.candidate_ids))
    code = schema.candidates.encode(test.candidate_ids.ids)[codes]
    outside = int((code < 0).sum())
    if outside == len(pairs):
        known, first = schema.candidates.ids[0].as_py(), test.candidate_ids.ids[int(codes[0])].as_py()
        warnings.warn(
            f"none of the {outside} test interactions is on a candidate of the corpus (the first is {first!r}, the "
            f"corpus has {known!r}): every metric is 0",
            stacklevel=4,
        )
    elif outside:
        log.info("%d of %d test interactions are on candidates outside the corpus: misses", outside, len(pairs))
    excluded = None if exclude is None else candidates_of(exclude, queries, schema)
    targets = Ragged.from_lengths(code, np.bincount(of, minlength=len(queries)))
    if repeats == "drop" and excluded is not None:
        targets = _without_repeats(targets, excluded)
    return Questions(queries, rows, targets, excluded, question)


def _check_repeats(repeats: Any, exclude: Any) -> None:
    if not isinstance(repeats, str) or repeats not in REPEATS:
        raise SpecError(f"repeats is 'miss' or 'drop', got {repeats!r}")
    if repeats == "drop" and exclude is None:
        raise SpecError(
            "repeats='drop' leaves out targets that exclude= rules out, and nothing is excluded; pass exclude="
        )


def _without_repeats(targets: Ragged, excluded: Ragged) -> Ragged:
    repeated = excluded.holds(targets.segments, targets.values)
    if repeated.all():
        raise DataError(
            f"repeats='drop' leaves nothing to measure: exclude= rules out all {len(repeated):,} test targets; say "
            "repeats='miss', or exclude nothing"
        )
    if repeated.any():
        log.info("%d of %d test targets repeat what is excluded: left out", repeated.sum(), len(repeated))
    return targets.without(repeated)


def _numbered(test: Interactions, schema: Schema) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first row of each question, by query and then context, and the question of each row (n,)."""
    if not schema.context:
        return np.unique(test.query_codes, return_index=True, return_inverse=True)[1:]
    keys: list[NDArray[np.integer]] = [test.query_codes]
    keys += [comparable(column) for column in columns_of(test, schema).columns]
    _, rows, question = np.unique(np.stack(keys, 1), axis=0, return_index=True, return_inverse=True)
    return rows, question.ravel()
