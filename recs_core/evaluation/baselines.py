"""What needs no model: popularity, plain and recent. A score per candidate, the same for every query."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError, SpecError
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.evaluation.answers import Answers
from recs_core.evaluation.lists import exact_lists
from recs_core.evaluation.ranking import Ranks, ranks
from recs_core.evaluation.targets import Repeats, targets_of

DAY = 86_400.0


def popularity(codes: NDArray[np.integer], num_candidates: int) -> NDArray[np.float64]:
    """(C,) training interactions of each candidate, from the candidate code of each interaction."""
    return np.bincount(_known(codes, num_candidates), minlength=num_candidates).astype(np.float64)


def recent_popularity(
    codes: NDArray[np.integer],
    timestamps: ArrayLike,
    num_candidates: int,
    *,
    half_life_days: float,
    now: float | None = None,
) -> NDArray[np.float64]:
    """(C,) the same, an interaction weighing ½ ^ (age / half life). `timestamps` in seconds; `now`: default the last.

    Raises `SpecError` for a half life ≤ 0, `DataError` for timestamps that are not finite or do not match.
    """
    times = np.asarray(timestamps, np.float64)
    if not half_life_days > 0:
        raise SpecError(f"half_life_days must be > 0, got {half_life_days!r}")
    if times.shape != np.shape(codes) or not np.isfinite(times).all():
        raise DataError(f"recent popularity needs a finite timestamp for each of {len(codes)} interactions")
    age = (times.max(initial=0.0) if now is None else now) - times
    weight = 0.5 ** (age / (half_life_days * DAY))
    return np.bincount(_known(codes, num_candidates), weight, minlength=num_candidates).astype(np.float64)


def answer_popularity(
    schema: Schema,
    train: Interactions,
    test: Interactions,
    *,
    half_life_days: float | None = None,
    exclude: bool = True,
    repeats: Repeats = "miss",
    k: int | None = 20,
) -> Answers:
    """What popularity answers to the test: candidates of `schema` (`model.schema`), ordered by how often each was taken
    in `train`. What a model must beat, on the same test as `model.answer(test)`.

    `half_life_days`: a row weighs half as much for every so many days before the last. `exclude`: training candidates
    leave the ranking of their query. `repeats`, `k` as in `model.answer`. Raises as it does, and `DataError` for data
    without times where they are needed.
    """
    asked = targets_of(schema, test, train if exclude else None, repeats)
    codes = schema.candidates.encode(train.candidate_ids.ids)[train.candidate_codes]
    known, corpus = codes >= 0, len(schema.candidates)
    scores = counts = popularity(codes[known], corpus)
    if half_life_days is not None:
        if train.timestamps is None:
            raise DataError(
                "recent popularity needs a timestamp column; name it in Interactions.from_table(timestamp=…)"
            )
        scores = recent_popularity(codes[known], train.timestamps[known], corpus, half_life_days=half_life_days)
    found = score_ranks(scores, asked.codes, exclude=asked.excluded)
    lists = None if k is None else _lists(scores, len(asked.queries), k, asked.excluded)
    return Answers(asked, found, lists, counts.astype(np.int64))


def _lists(scores: NDArray[np.float64], size: int, k: int, exclude: Ragged | None) -> NDArray[np.int32]:
    """(size, k): the codes of the highest `scores`, less what each query excludes. By their order, which float32 holds
    exactly where the scores need not fit."""
    order = np.unique(scores, return_inverse=True)[1][:, None].astype(np.float32)
    return exact_lists(np.ones((size, 1), np.float32), order, k, exclude)


def score_ranks(scores: ArrayLike, targets: Ragged, *, exclude: Ragged | None = None) -> Ranks:
    """Ranks when (C,) `scores` are the same for every query: an inner product of one number, in float64."""
    column = np.asarray(scores, np.float64)[:, None]
    queries = np.ones((len(targets.offsets) - 1, 1))
    return ranks(queries, column, targets, exclude=exclude)


def _known(codes: NDArray[np.integer], num_candidates: int) -> NDArray[np.integer]:
    codes = np.asarray(codes)
    if len(codes) and not 0 <= codes.min() <= codes.max() < num_candidates:
        raise DataError(f"candidate codes go from {codes.min()} to {codes.max()}, the corpus has {num_candidates}")
    return codes
