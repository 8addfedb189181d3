"""Metrics of a ranking, for one query after the other, then averaged over all of them.

A query has scores of all candidates, a set of relevant ones (its m targets), and excluded ones, taken out first. The
relevant ones' places, counted from 1, decide everything:

    recall@k      hits / m                      hits: how many places are ≤ k
    hit_rate@k    1 if hits > 0, else 0
    precision@k   hits / k
    ndcg@k        Σ_{place ≤ k} 1 / log₂(place + 1)  ÷  Σ_{i=1}^{min(m, k)} 1 / log₂(i + 1)
    mrr@k         1 / first place if that is ≤ k, else 0      (k None: the whole list)
    map@k         Σ_{place ≤ k} (relevant at or above it / place)  ÷  min(m, k)
    top_k_categorical_accuracy@k   (TFRS) the share of targets with place ≤ k, each as if it were the query's only one

Ties. A group of g tied candidates, r of them relevant, takes g places in a row. "pessimistic": the relevant ones take
the last r of them. "expected": the mean of the metric over all orders of every tied group. So a collapsed model, all
scores equal, gets 0 (while k ≤ candidates − m) or what chance gives, and a perfect one 1 wherever 1 can be reached.

Repeats. A target that is excluded is in no list. "miss": it counts in m, at no place. "drop": it is no target.

The average is over queries with at least one target, over the whole set at once; the TFRS one is over targets.

Beyond accuracy, where `counts` says how many training rows each candidate has. A query's list of k: its k highest
candidates that are not excluded, of equal ones the earlier.

    coverage@k      the share of all candidates that is in any list
    popularity@k    the mean count, over all candidates of all lists
    tail_recall@k   recall@k with the targets of the tail alone, over the queries that have one

The tail: candidates with a lower count than the median of all counts above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from math import inf, nan
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ties = Literal["pessimistic", "expected"]
Repeats = Literal["miss", "drop"]
Places = Sequence[float]


def recall(places: Places, k: int) -> float:
    """Hits at k ÷ the number of targets."""
    return _hits(places, k) / len(places)


def hit_rate(places: Places, k: int) -> float:
    """1 where any target is among the first k."""
    return float(_hits(places, k) > 0)


def precision(places: Places, k: int) -> float:
    """Hits at k ÷ k."""
    return _hits(places, k) / k


def ndcg(places: Places, k: int) -> float:
    """Discounted gain at k ÷ that of the best order (Järvelin & Kekäläinen 2002, gains 0 and 1)."""
    gain = sum(1 / np.log2(place + 1) for place in places if place <= k)
    ideal = sum(1 / np.log2(i + 1) for i in range(1, min(len(places), k) + 1))
    return float(gain / ideal)


def mrr(places: Places, k: int | None = None) -> float:
    """1 ÷ the place of the first target, 0 beyond k."""
    first = min(places)
    return 1 / first if k is None or first <= k else 0.0


def mean_average_precision(places: Places, k: int) -> float:
    """The mean of the precision at each target's place, the targets beyond k counted as 0."""
    ordered = sorted(places)
    return sum(number / place for number, place in enumerate(ordered, start=1) if place <= k) / min(len(ordered), k)


METRICS: dict[str, Callable[[Places, int], float]] = {
    "recall": recall,
    "hit_rate": hit_rate,
    "precision": precision,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": mean_average_precision,
}
"""Every metric that is averaged over queries, by name."""


def evaluate(
    scores: ArrayLike,
    relevant: Sequence[Iterable[int]],
    k: Sequence[int],
    *,
    exclude: Sequence[Iterable[int]] | None = None,
    ties: Ties = "pessimistic",
    repeats: Repeats = "miss",
    counts: Sequence[float] | None = None,
) -> dict[str, float]:
    """`{"recall@5": …, …, "mrr": …}` over (Q, n) scores; `relevant[i]` and `exclude[i]` hold query i's columns. With
    `counts` (n,), the training rows of each, also the numbers beyond accuracy; NaN where they are of nothing."""
    per_query: list[dict[str, float]] = []
    per_target: list[dict[str, float]] = []
    of_tail: list[dict[str, float]] = []
    lists: list[list[int]] = []
    rare = set() if counts is None else tail(counts)
    for i, row in enumerate(np.asarray(scores, np.float64)):
        targets, gone = set(relevant[i]), set(exclude[i]) if exclude is not None else set()
        if repeats == "drop":
            targets -= gone
        if not targets:
            continue
        per_query.append(_averaged(_all_metrics(k), possible_places(row, targets, gone, ties)))
        for target in targets:
            accuracy = {f"top_k_categorical_accuracy@{n}": _at(recall, n) for n in k}
            per_target.append(_averaged(accuracy, possible_places(row, {target}, gone, ties)))
        lists.append(ranking(row, gone))
        if targets & rare:
            recalls = {f"tail_recall@{n}": _at(recall, n) for n in k}
            of_tail.append(_averaged(recalls, possible_places(row, targets & rare, gone, ties)))
    found = _mean(per_query) | _mean(per_target)
    if counts is not None:
        for n in k:
            recommended = [j for each in lists for j in each[:n]]
            found[f"coverage@{n}"] = len(set(recommended)) / len(counts)
            found[f"popularity@{n}"] = float(np.mean([counts[j] for j in recommended])) if recommended else nan
            found[f"tail_recall@{n}"] = float(np.mean([row[f"tail_recall@{n}"] for row in of_tail])) if of_tail else nan
    return found


def ranking(row: NDArray[np.floating], excluded: set[int]) -> list[int]:
    """All candidates that are not excluded, the highest score first, of equal ones the earlier."""
    return sorted((j for j in range(len(row)) if j not in excluded), key=lambda j: (-row[j], j))


def tail(counts: Sequence[float]) -> set[int]:
    """The candidates with a lower count than the median of those above 0."""
    some = [count for count in counts if count > 0]
    return {j for j, count in enumerate(counts) if some and count < np.median(some)}


def possible_places(row: NDArray[np.floating], relevant: set[int], excluded: set[int], ties: Ties) -> list[list[float]]:
    """The places of the relevant candidates, one list for every way the ties can fall (one way when pessimistic).

    One that is excluded has no place: it is infinitely far down, since no list would ever hold it.
    """
    left = [j for j in range(len(row)) if j not in excluded]
    groups: list[list[tuple[int, ...]]] = []  # for each tied group, the ways to place its relevant members
    above = 0
    for score in sorted({row[j] for j in left}, reverse=True):
        group = [j for j in left if row[j] == score]
        number = len(relevant.intersection(group))
        spots = range(above + 1, above + len(group) + 1)
        if number:
            worst = tuple(spots)[-number:]
            groups.append([worst] if ties == "pessimistic" else list(combinations(spots, number)))
        above += len(group)
    nowhere = [inf] * len(relevant & excluded)
    return [[place for part in way for place in part] + nowhere for way in product(*groups)]


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}


def _averaged(metrics: dict[str, Callable[[Places], float]], ways: list[list[float]]) -> dict[str, float]:
    """Each metric's mean over the ways the ties can fall, all equally likely."""
    return {name: float(np.mean([metric(places) for places in ways])) for name, metric in metrics.items()}


def _all_metrics(k: Sequence[int]) -> dict[str, Callable[[Places], float]]:
    at_k = {f"{name}@{n}": _at(metric, n) for name, metric in METRICS.items() for n in k}
    return {**at_k, "mrr": mrr}


def _at(metric: Callable[[Places, int], float], k: int) -> Callable[[Places], float]:
    return lambda places: metric(places, k)


def _hits(places: Places, k: int) -> int:
    return sum(place <= k for place in places)
