"""Metrics from exact ranks, every k in one pass.

A query has m targets, at m places counted from 1 in its ranking of all candidates that are not excluded:

    recall@k      hits / m                       hits: how many targets have a place ≤ k
    hit_rate@k    1 if hits > 0, else 0
    precision@k   hits / k
    ndcg@k        Σ 1 / log₂(place + 1) over places ≤ k,  ÷  Σ_{i=1}^{min(m, k)} 1 / log₂(i + 1)
    mrr@k         1 / first place if that is ≤ k, else 0;  `mrr` looks at the whole ranking
    map@k         Σ over places ≤ k of (targets at or above it / place),  ÷  min(m, k)
    top_k_categorical_accuracy@k   (TFRS) share of targets with place ≤ k, each as if it were the query's only target

All but the last are means over queries that have a target; the last is a mean over targets. A target that no ranking
holds (`NEVER`) counts in m and has no place.

Ties: g tied candidates, r of them targets of the query, share g places in a row. "pessimistic": the targets take the
last r, so that a collapsed model, all scores equal, scores 0, while a perfect one whose targets tie with one another
scores 1. "optimistic": the first r. "expected": the mean over all orders of the tied, exactly, which is what chance
gives. For `top_k_categorical_accuracy` a query's other targets are candidates like any other, as in TFRS: a target tied
with them too can lose to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError, SpecError
from recs_core.evaluation.ranking import NEVER, Ranks

Ties: TypeAlias = Literal["pessimistic", "expected", "optimistic"]
TIES = ("pessimistic", "expected", "optimistic")

DEFAULT_K = (1, 5, 10, 20, 50, 100)

PER_TARGET = "top_k_categorical_accuracy"
"""The metric in which a query weighs as much as it has targets."""

Values: TypeAlias = NDArray[np.float64]


def metric_names(k: Sequence[int] = DEFAULT_K) -> list[str]:
    """Every name that `metrics` gives for those k."""
    families = ("recall", "hit_rate", "precision", "ndcg", "mrr", "map", PER_TARGET)
    return [f"{family}@{cut}" for family in families for cut in cuts(k)] + ["mrr"]


@dataclass(frozen=True)
class QueryMetrics:
    """Metrics of each query that has a target.

    `values`: name → (n,) float64. `num_targets` (n,): targets of each. `queries` (n,): rows of the queries that were
    ranked. `weights`: name → (n,), what each query weighs in that metric's mean, where it is not 1. `whole`: name → a
    metric that is no mean over queries, such as coverage.
    """

    values: Mapping[str, Values]
    num_targets: NDArray[np.int64]
    queries: NDArray[np.int64]
    weights: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    whole: Mapping[str, float] = field(default_factory=dict)

    def mean(self) -> dict[str, float]:
        """Each metric over the whole set, never a mean of means of parts. NaN where no query weighs anything."""
        return {name: self._mean(name) for name in self.values} | dict(self.whole)

    def _mean(self, name: str) -> float:
        weights = self.weights.get(name)
        if weights is not None and not weights.any():
            return float("nan")
        return float(np.average(self.values[name], weights=weights))


def metrics(ranks: Ranks, *, k: Sequence[int] = DEFAULT_K, ties: Ties = "pessimistic") -> dict[str, float]:
    """`{"recall@1": …, …, "mrr": …}` over the whole set; the definitions are this module's docstring.

    Raises `SpecError` for k ≤ 0 or unknown `ties`, `DataError` when no query has a target.
    """
    return query_metrics(ranks, k=k, ties=ties).mean()


def query_metrics(ranks: Ranks, *, k: Sequence[int] = DEFAULT_K, ties: Ties = "pessimistic") -> QueryMetrics:
    """The same, query by query, as intervals and comparisons need it."""
    each_k = cuts(k)
    check_ties(ties)
    asked = np.flatnonzero(ranks.lengths)
    if not len(asked):
        raise DataError("no query has a target: nothing to measure")
    groups = _Groups(ranks, asked, ties)
    by_name: dict[str, list[Values]] = {}
    for cut in each_k:
        for name, value in groups.at(cut).items():
            by_name.setdefault(name, []).append(value)
        by_name.setdefault(PER_TARGET, []).append(_accuracy(ranks, asked, cut, ties))
    values = {f"{name}@{cut}": v for name, column in by_name.items() for cut, v in zip(each_k, column, strict=True)}
    targets = ranks.lengths[asked]
    weights = {f"{PER_TARGET}@{cut}": targets for cut in each_k}
    return QueryMetrics({**values, "mrr": groups.reciprocal_rank(None)}, targets, asked, weights)


class _Groups:
    """Targets of one query that tie with one another, and how they may fall.

    A group's `targets` ones stand, every way equally likely, on some of `size` places that begin after `start` others;
    `before` targets of its query stand above it. Where the rule decides every place, size = targets.
    """

    def __init__(self, ranks: Ranks, asked: NDArray[np.int64], ties: Ties) -> None:
        found = np.flatnonzero(ranks.above != NEVER)
        place = np.empty(len(ranks.lengths), np.int64)
        place[asked] = np.arange(len(asked))
        query, above, tied = place[ranks.queries[found]], ranks.above[found], ranks.tied[found]
        order = np.lexsort((above, query))
        query, above, tied = query[order], above[order], tied[order]
        # Targets of one query with as many candidates above them are tied: a higher one would stand above the lower.
        first = np.flatnonzero(np.append(True, (query[1:] != query[:-1]) | (above[1:] != above[:-1]))[: len(query)])
        self.targets = np.diff(np.append(first, len(query)))
        self.query = query[first]
        self.start = above[first]
        self.size = tied[first] + 1
        if ties == "pessimistic":
            self.start = self.start + self.size - self.targets
        if ties != "expected":
            self.size = self.targets
        leads = np.append(True, self.query[1:] != self.query[:-1])[: len(self.query)]
        self.leading = np.flatnonzero(leads)  # the best group of each query that has one
        ahead = np.cumsum(self.targets) - self.targets
        self.before = ahead - np.maximum.accumulate(np.where(leads, ahead, 0))
        self.num_targets = ranks.lengths[asked]

    def at(self, k: int) -> dict[str, Values]:
        """Every metric of every query at one k."""
        inside = np.clip(k - self.start, 0, self.size)  # places of the group among the first k
        possible = np.minimum(self.num_targets, k)
        hits = self._sum(self.targets * inside / self.size)
        return {
            "recall": hits / self.num_targets,
            "hit_rate": self._hit_rate(inside),
            "precision": hits / k,
            "ndcg": self._sum(self._gain(k, inside)) / _cumulated(_discount(k))[possible],
            "mrr": self.reciprocal_rank(k),
            "map": self._sum(self._precisions(k, inside)) / possible,
        }

    def _sum(self, of_groups: Values) -> Values:
        return np.bincount(self.query, of_groups, minlength=len(self.num_targets)).astype(np.float64)

    def _gain(self, k: int, inside: NDArray[np.int64]) -> Values:
        gain = _cumulated(_discount(k))
        start = np.minimum(self.start, k)
        return (gain[start + inside] - gain[start]) * self.targets / self.size

    def _precisions(self, k: int, inside: NDArray[np.int64]) -> Values:
        """Σ over the group's targets among the first k of (targets at or above it / its place), in the mean.

        A target on the group's j-th place has before + 1 + (j − 1)·slope at or above it: each of the group's others is
        on one of the j − 1 places ahead with probability (j − 1) / (size − 1). Divided by start + j, that is
        slope + (before + 1 − slope·(start + 1)) / (start + j).
        """
        harmonic = _cumulated(1 / np.arange(1, k + 1))
        start = np.minimum(self.start, k)
        slope = (self.targets - 1) / np.maximum(self.size - 1, 1)
        level = self.before + 1 - slope * (start + 1)
        return (slope * inside + level * (harmonic[start + inside] - harmonic[start])) * self.targets / self.size

    def _hit_rate(self, inside: NDArray[np.int64]) -> Values:
        """1 − probability that none of the leading group's targets is on its places among the first k."""
        lead = self.leading
        out = np.zeros(len(self.num_targets))
        out[self.query[lead]] = 1 - _none_within(inside[lead], self.size[lead], self.targets[lead])
        return out

    def reciprocal_rank(self, k: int | None) -> Values:
        """(n,) mean of 1 / place of a query's first target, 0 beyond k."""
        lead = self.leading
        start, size, targets = self.start[lead], self.size[lead], self.targets[lead]
        value = np.where(size == targets, 1 / (start + 1), 0.0)
        if k is not None:
            value[start >= k] = 0.0
        open_ = np.flatnonzero(size > targets)
        cases, which = np.unique(np.stack([start, size, targets])[:, open_], axis=1, return_inverse=True)
        means = np.array([_first_place_inverse(int(a), int(g), int(r), k) for a, g, r in cases.T])
        value[open_] = means[which.reshape(-1)]
        out = np.zeros(len(self.num_targets))
        out[self.query[lead]] = value
        return out


def _first_place_inverse(start: int, size: int, targets: int, k: int | None) -> float:
    """Mean of 1 / (start + J), 0 beyond k, where J is the lowest of `targets` distinct places drawn from 1 … size."""
    last = size - targets + 1
    if k is not None:
        last = min(last, k - start)
    if last <= 0:
        return 0.0
    j = np.arange(last)
    here = np.cumprod(np.append(1.0, 1 - targets / (size - j)))[:-1] * targets / (size - j)  # none before j, one at j
    return float((here / (start + 1 + j)).sum())


def _none_within(places: NDArray[np.int64], size: NDArray[np.int64], targets: NDArray[np.int64]) -> Values:
    """Probability that `targets` distinct places drawn from `size` all miss the first `places`."""
    out = np.where(places > size - targets, 0.0, 1.0)
    rows = np.flatnonzero((places > 0) & (out > 0))
    drawn = 0
    while len(rows := rows[targets[rows] > drawn]):
        out[rows] *= 1 - places[rows] / (size[rows] - drawn)
        drawn += 1
    return out


def _accuracy(ranks: Ranks, asked: NDArray[np.int64], k: int, ties: Ties) -> Values:
    """Share of each query's targets among the first k, each alone against all other candidates."""
    if ties == "expected":
        hit = np.clip((k - ranks.above) / (ranks.tied + 1), 0, 1)
    else:
        hit = (ranks.above + (ranks.tied if ties == "pessimistic" else 0) < k).astype(np.float64)
    hit[ranks.above == NEVER] = 0
    return np.bincount(ranks.queries, hit, minlength=len(ranks.lengths))[asked] / ranks.lengths[asked]


def _discount(k: int) -> Values:
    return 1 / np.log2(np.arange(2, k + 2))


def _cumulated(terms: Values) -> Values:
    """Sums of the first 0, 1, … terms."""
    return np.append(0.0, np.cumsum(terms))


def cuts(k: Iterable[int] | int) -> list[int]:
    """One k or several, ascending. Raises `SpecError` unless all are whole numbers from 1 to 2³¹ − 1."""
    given = list(k) if isinstance(k, Iterable) else [k]
    whole = [isinstance(cut, (int, np.integer)) and not isinstance(cut, bool) for cut in given]
    if not given or not all(whole) or not 1 <= min(given) <= max(given) < 2**31:
        raise SpecError(f"k must be whole numbers from 1 to 2**31 - 1, got {k!r}")
    return sorted({int(cut) for cut in given})


def check_ties(ties: str) -> None:
    """Raise `SpecError` for a rule that there is not."""
    if ties not in TIES:
        raise SpecError(f"ties is one of {', '.join(TIES)}, got {ties!r}")
