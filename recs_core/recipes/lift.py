"""How much more queries share with one another than popularity explains: what temperatures follow."""

from __future__ import annotations

import numpy as np

from recs_core.contract.randomness import generator
from recs_core.data.interactions import Interactions

OTHERS = 20_000
ASKED = 2_000
CANDIDATES = 50
"""How many queries are compared, for how many of them, by how many candidates of each: at most, drawn at random.
Dropping rows at random leaves the lift as it is, so these bound only the time."""


def lift(data: Interactions) -> float:
    """How many times as often as by chance two queries that share a candidate share a second one.

    By chance: the same queries and candidates with as many rows each, dealt at random. About 1 where popularity alone
    decides, 4 to 5 on check-ins (people of a town), 11 in a shop of many small tastes. Repeated rows count once. The
    same data gives the same number; 1.0 where no query has two candidates that others took.
    """
    random = generator(0, "recipes/lift")
    query, candidate = _pairs(data, random)
    by_candidate = query[np.argsort(candidate, kind="stable")]
    taken = np.bincount(candidate, minlength=len(data.candidate_ids)).astype(np.int64)
    candidate_at = np.concatenate([[0], np.cumsum(taken)])
    size = np.bincount(query, minlength=len(data.query_ids)).astype(np.int64)
    query_at = np.concatenate([[0], np.cumsum(size)])
    shared = expected = 0
    for one in random.permutation(np.flatnonzero(size > 1))[:ASKED]:
        own = random.permutation(candidate[query_at[one] : query_at[one + 1]])[:CANDIDATES]
        takers = np.concatenate([by_candidate[candidate_at[c] : candidate_at[c + 1]] for c in own])
        common = np.bincount(takers, minlength=len(size)).astype(np.int64)
        common[one] = 0
        shared += int((common * (common - 1)).sum())
        others = taken[own] - 1
        expected += int(others.sum() ** 2 - (others**2).sum())
    chance = expected * float((size * (size - 1)).sum()) / max(1, len(query)) ** 2
    return shared / chance if chance else 1.0


def _pairs(data: Interactions, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (query, candidate) of the queries compared, ascending."""
    queries = np.flatnonzero(data.query_counts() > 0)
    compared = np.zeros(len(data.query_ids), bool)
    compared[random.permutation(queries)[:OTHERS]] = True
    rows = compared[data.query_codes]
    pairs = np.unique(data.query_codes[rows].astype(np.int64) * len(data.candidate_ids) + data.candidate_codes[rows])
    query, candidate = np.divmod(pairs, len(data.candidate_ids))
    return query, candidate
