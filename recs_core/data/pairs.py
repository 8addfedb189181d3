"""Pairs of a query and a candidate: which of them stay in a k-core, which are equal. As numbers they are sorted rather
than hashed, which takes a tenth of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from recs_core.data.interactions import Interactions

Pairs: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


def k_core(data: Interactions, min_per_query: int, min_per_candidate: int) -> tuple[Mask, Mask, Mask]:
    """The rows, queries and candidates that stay when those with too few rows go, again and again."""
    queries, candidates = data.query_codes, data.candidate_codes  # of the rows that are left
    of_query, of_candidate = data.query_counts(), data.candidate_counts()
    left = np.ones(len(data), bool)
    while True:
        enough_q, enough_c = of_query >= min_per_query, of_candidate >= min_per_candidate
        stay = enough_q[queries]
        stay &= enough_c[candidates]
        if stay.all():
            return left, enough_q, enough_c
        of_query -= np.bincount(queries[~stay], minlength=len(of_query))
        of_candidate -= np.bincount(candidates[~stay], minlength=len(of_candidate))
        left[left] = stay
        queries, candidates = queries[stay], candidates[stay]


def numbered(queries: NDArray[np.integer], candidates: NDArray[np.integer], corpus: int) -> Pairs:
    """(n,): a number for each pair of codes, of candidate codes below `corpus`."""
    found = queries.astype(np.int64)
    found *= corpus
    found += candidates
    return found


def distinct(found: Pairs) -> int:
    """How many different ones there are."""
    ordered = np.sort(found)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + min(1, len(ordered))


def held(asked: Pairs, ordered: Pairs) -> Mask:
    """(n,): whether each is among `ordered`, which are ascending. The nearer `asked` is to ascending, the sooner."""
    if not len(ordered):
        return np.zeros(len(asked), bool)
    places = np.searchsorted(ordered, asked)
    places[places == len(ordered)] = 0
    return ordered[places] == asked
