"""Test interactions in the codes of a schema: whose rankings are judged, by what, and what leaves them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.asked import check_interactions
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.data.catalog import candidates_of
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.index.filters import contains

log = logging.getLogger("recs_core")


Repeats: TypeAlias = Literal["miss", "drop"]
REPEATS: tuple[Repeats, ...] = ("miss", "drop")


def targets_of(
    schema: Schema,
    test: Interactions,
    exclude: Interactions | Sequence[Interactions] | None = None,
    repeats: Repeats = "miss",
) -> tuple[pa.Array, Ragged, Ragged | None]:
    """Queries of the test data, the distinct candidate codes of each (−1 for one outside the corpus), and the codes
    that leave its ranking: its candidates in `exclude`.

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
    queries, pairs = _pairs(test)
    code = schema.candidates.encode(test.candidate_ids.ids)
    outside = int((code[pairs[:, 1]] < 0).sum())
    if outside == len(pairs):
        known, first = schema.candidates.ids[0].as_py(), test.candidate_ids.ids[int(pairs[0, 1])].as_py()
        warnings.warn(
            f"none of the {outside} test interactions is on a candidate of the corpus (the first is {first!r}, the "
            f"corpus has {known!r}): every metric is 0",
            stacklevel=4,
        )
    elif outside:
        log.info("%d of %d test interactions are on candidates outside the corpus: misses", outside, len(pairs))
    offsets = np.zeros(len(queries) + 1, np.int32)
    np.cumsum(np.bincount(pairs[:, 0], minlength=len(queries)), out=offsets[1:])
    excluded = None if exclude is None else candidates_of(exclude, queries, schema)
    targets = Ragged(code[pairs[:, 1]], offsets)
    if repeats == "drop" and excluded is not None:
        targets = _without_repeats(targets, excluded)
    return queries, targets, excluded


def _check_repeats(repeats: Any, exclude: Any) -> None:
    if not isinstance(repeats, str) or repeats not in REPEATS:
        raise SpecError(f"repeats is 'miss' or 'drop', got {repeats!r}")
    if repeats == "drop" and exclude is None:
        raise SpecError(
            "repeats='drop' leaves out targets that exclude= rules out, and nothing is excluded; pass exclude="
        )


def _without_repeats(targets: Ragged, excluded: Ragged) -> Ragged:
    repeated = contains(excluded, targets.segments, targets.values)
    if repeated.all():
        raise DataError(
            f"repeats='drop' leaves nothing to measure: exclude= rules out all {len(repeated):,} test targets; say "
            "repeats='miss', or exclude nothing"
        )
    if repeated.any():
        log.info("%d of %d test targets repeat what is excluded: left out", repeated.sum(), len(repeated))
    return targets.without(repeated)


def _pairs(test: Interactions) -> tuple[pa.Array, NDArray[np.int32]]:
    """The queries that have rows, and the distinct pairs of a query's place among them and a test candidate's code."""
    present = np.flatnonzero(test.query_counts() > 0).astype(np.int32)
    place = np.full(len(test.query_ids), -1, np.int32)
    place[present] = np.arange(len(present), dtype=np.int32)
    pairs = np.unique(np.stack([place[test.query_codes], test.candidate_codes], 1), axis=0)
    return test.query_ids.decode(present), pairs
