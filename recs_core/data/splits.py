"""Train and test parts of interactions, and what one tells of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.randomness import generator
from recs_core.contract.validation import is_whole
from recs_core.data.pairs import held, numbered
from recs_core.tables.times import seconds

if TYPE_CHECKING:
    from recs_core.contract.vocabulary import Vocabulary
    from recs_core.data.interactions import Interactions

By: TypeAlias = Literal["time", "last", "random"]


@dataclass(frozen=True)
class Leakage:
    """What a test part knows of its training part, and what it cannot know. Counts; time is None without timestamps.

    `dropped_rows`: test rows removed by `known_only`. `unseen_queries`, `unseen_candidates`: distinct ids of the test
    with no training row. `unseen_rows`: test rows with either. `repeated_rows`: test rows whose pair is a training row.
    `test_targets`: distinct pairs of the test; `repeated_targets`: those that are training rows too.
    `early_rows`: test rows before the latest training row; `early_rows_of_query`: before the latest of the same query.
    """

    train_rows: int
    test_rows: int
    dropped_rows: int
    unseen_queries: int
    unseen_candidates: int
    unseen_rows: int
    repeated_rows: int
    test_targets: int
    repeated_targets: int
    early_rows: int | None
    early_rows_of_query: int | None

    @property
    def unseen_share(self) -> float:
        """Share of test rows with an unseen query or candidate."""
        return self.unseen_rows / max(self.test_rows, 1)

    @property
    def repeated_share(self) -> float:
        """Share of test rows whose pair is a training row."""
        return self.repeated_rows / max(self.test_rows, 1)

    @property
    def repeated_target_share(self) -> float:
        """Share of test targets that are training rows too: with `exclude=train` they can never be found."""
        return self.repeated_targets / max(self.test_targets, 1)

    @property
    def early_share(self) -> float | None:
        """Share of test rows before the latest training row."""
        return None if self.early_rows is None else self.early_rows / max(self.test_rows, 1)

    def to_json(self) -> dict[str, Any]:
        """Counts and shares as plain JSON data."""
        shares = ("unseen_share", "repeated_share", "repeated_target_share", "early_share")
        return asdict(self) | {name: getattr(self, name) for name in shares}

    def __str__(self) -> str:
        dropped = f" ({self.dropped_rows:,} with unseen ids dropped)" if self.dropped_rows else ""
        unseen = f"{self.unseen_queries:,} queries, {self.unseen_candidates:,} candidates"
        parts = [
            f"{self.train_rows:,} train, {self.test_rows:,} test rows{dropped}",
            f"of the test rows {self.unseen_share:.1%} have unseen ids ({unseen})",
            f"{self.repeated_share:.1%} repeat a training pair",
        ]
        if self.early_share is not None:
            parts.append(f"{self.early_share:.1%} are earlier than the latest training row")
        return "; ".join(parts)


@dataclass(frozen=True)
class Split:
    """Two parts of one data set; unpacks to `train, test`. `str()` is one line on their leakage."""

    train: Interactions
    test: Interactions
    leakage: Leakage

    def __iter__(self) -> Iterator[Interactions]:
        return iter((self.train, self.test))

    def __str__(self) -> str:
        return str(self.leakage)


def split(
    data: Interactions,
    *,
    by: By,
    at: str | date | float | None = None,
    test: float | None = None,
    n: int = 1,
    seed: int = 42,
    known_only: bool = False,
) -> Split:
    """See `Interactions.split`."""
    if by not in ("time", "last", "random"):
        raise DataError(f"split: by is 'time', 'last' or 'random', got {by!r}")
    n, test, seed = _plain(n), _plain(test), _plain(seed)
    if not is_whole(seed, 0):
        raise DataError(f"split: seed must be a whole number ≥ 0, got {seed!r}")
    if not isinstance(known_only, bool):
        raise DataError(f"split: known_only is True or False, got {known_only!r}")
    if at is not None and by != "time":
        raise DataError(f"split: at is for by='time', not by={by!r}")
    if test is not None and by == "last":
        raise DataError("split: by='last' takes n, the number of rows per query, not test")
    if by == "time":
        is_test = _late(data, at, test)
    elif by == "last":
        is_test = _last(data, n)
    else:
        is_test = _drawn(len(data), test, seed)
    if is_test.all() or not is_test.any():
        part = "training" if is_test.all() else "test"
        raise DataError(f"split: by={by!r} leaves no {part} row of {len(data):,} (at={at!r}, test={test!r}, n={n!r})")
    train, held_out = data.take(~is_test), data.take(is_test)
    dropped = 0
    if known_only:
        new_query = _unseen(held_out.query_codes, train.query_counts())
        known = ~(new_query | _unseen(held_out.candidate_codes, train.candidate_counts()))
        if not known.any():
            raise DataError("split: known_only=True leaves no test row: each has a query or candidate new to training")
        dropped = int(np.sum(~known))
        held_out = held_out.take(known)
    return Split(train, held_out, leakage(train, held_out, dropped))


def leakage(train: Interactions, test: Interactions, dropped_rows: int = 0) -> Leakage:
    """Compare two parts by id; their vocabularies may differ. Raises `DataError` if only one has integer ids."""
    query = _translate(test.query_codes, test.query_ids, train.query_ids)
    candidate = _translate(test.candidate_codes, test.candidate_ids, train.candidate_ids)
    new_query = _unseen(query, train.query_counts())
    new_candidate = _unseen(candidate, train.candidate_counts())
    seen = ~(new_query | new_candidate)
    own = numbered(test.query_codes, test.candidate_codes, len(test.candidate_ids))
    _, target, rows_of_target = np.unique(own, return_index=True, return_counts=True)
    repeated = seen[target] & _trained(train, query[target], candidate[target])
    early = early_of_query = None
    if train.timestamps is not None and test.timestamps is not None:
        early = int(np.sum(test.timestamps < train.timestamps.max(initial=-np.inf)))
        latest = np.full(len(train.query_ids) + 1, -np.inf)  # the last entry is code -1: a query unknown to training
        np.maximum.at(latest, train.query_codes, train.timestamps)
        early_of_query = int(np.sum(test.timestamps < latest[query]))
    return Leakage(
        train_rows=len(train),
        test_rows=len(test),
        dropped_rows=dropped_rows,
        unseen_queries=len(np.unique(test.query_codes[new_query])),
        unseen_candidates=len(np.unique(test.candidate_codes[new_candidate])),
        unseen_rows=int(np.sum(~seen)),
        repeated_rows=int(rows_of_target[repeated].sum()),
        test_targets=len(target),
        repeated_targets=int(repeated.sum()),
        early_rows=early,
        early_rows_of_query=early_of_query,
    )


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _late(data: Interactions, at: str | date | float | None, test: float | None) -> NDArray[np.bool_]:
    times = _times(data, "time")
    if (at is None) == (test is None):
        raise DataError(f"split: by='time' takes one of at and test, got at={at!r}, test={test!r}")
    if at is not None:
        moment = np.array([at]) if isinstance(at, np.datetime64) else [at]
        return times >= seconds(moment, "split: at", cure="at counts seconds, so divide by {per_second}")[0]
    # Rows of one moment stay together, in the test, so that no test row is as old as a training row.
    place = len(times) - _share(len(times), test)
    boundary = np.partition(times, place)[place]
    return times >= boundary


def _last(data: Interactions, n: int) -> NDArray[np.bool_]:
    times = _times(data, "last")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise DataError(f"split: n must be a whole number ≥ 1, got {n!r}")
    order = np.lexsort((times, data.query_codes))  # stable: rows of one time keep their order
    counts = data.query_counts()
    first = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.arange(len(data)) - first  # of each row among its query's, oldest 0
    size = np.repeat(counts, counts)
    is_test = np.zeros(len(data), bool)
    is_test[order] = (place >= size - n) & (size > n)
    return is_test


def _drawn(rows: int, test: float | None, seed: int) -> NDArray[np.bool_]:
    is_test = np.zeros(rows, bool)
    is_test[generator(seed, "split").permutation(rows)[: _share(rows, test)]] = True
    return is_test


def _share(rows: int, test: float | None) -> int:
    if isinstance(test, bool) or not isinstance(test, (int, float)) or not 0 < test < 1:
        raise DataError(f"split: test must be a share between 0 and 1, such as 0.1, got {test!r}")
    return max(1, round(rows * test))


def _times(data: Interactions, by: str) -> NDArray[np.float64]:
    if data.timestamps is None:
        raise DataError(f"split: by={by!r} needs timestamps: pass timestamp=… to from_table, or use by='random'")
    return data.timestamps


def _translate(codes: NDArray[np.int32], old: Vocabulary, new: Vocabulary) -> NDArray[np.int32]:
    """Codes of the same ids in another vocabulary, -1 where it lacks them."""
    return codes if old is new else new.encode(old.ids)[codes]


def _unseen(codes: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (codes < 0) | (counts[codes] == 0)


def _trained(train: Interactions, query: NDArray[np.int32], candidate: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(n,): whether each pair of known codes is a training row."""
    rows = numbered(train.query_codes, train.candidate_codes, len(train.candidate_ids))
    rows.sort()
    return held(numbered(query, candidate, len(train.candidate_ids)), rows)
