"""How much of the best an approximate index finds, on vectors such as two towers make."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.index import BASE
from recs_core.conformance.context import IndexContext
from recs_core.conformance.registry import check
from recs_core.contract.manifest import RECALL_K
from recs_core.reference.topk import top_k

APPROXIMATE = (lambda info: not info.is_exact, "the index is exact by its manifest: nothing may be missing")
RECALL = f"recall@{RECALL_K}"
CANDIDATES, DIM, CLUSTERS, QUERIES = 20_000, 32, 100, 200
SPREAD = 0.8
"""Of a cluster, as a share of the spread of the clusters' middles."""
LENGTHS = 0.5
"""Deviation of the logarithm of a length: the longest of 20,000 is some 80 times as long as the shortest."""

SCORE = 1e-5
"""Apart at most, relative to the score or to 1: what float32 leaves of a sum of 32 products."""

Vectors = NDArray[np.float32]


@cache
def worlds() -> dict[str, tuple[Vectors, Vectors]]:
    """Name → candidates (20,000, 32) and queries (200, 32), in 100 clusters of directions."""
    random = np.random.default_rng(20)
    middles = random.normal(size=(CLUSTERS, DIM))

    def drawn(number: int) -> NDArray[np.float64]:
        vectors = middles[random.integers(CLUSTERS, size=number)] + SPREAD * random.normal(size=(number, DIM))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    candidates, queries = drawn(CANDIDATES), drawn(QUERIES).astype(np.float32)
    longer = candidates * random.lognormal(sigma=LENGTHS, size=(CANDIDATES, 1))
    return {
        "vectors of length 1": (candidates.astype(np.float32), queries),
        "vectors of all lengths": (longer.astype(np.float32), queries),
    }


@check(
    "index/recall",
    subject="index",
    rests_on=(*BASE, "index/types", "index/k-beyond-corpus"),
    applies_to=APPROXIMATE,
    formula="recall@10 = (1 / Q) Σ |found ∩ best 10| / 10 ≥ recall_floor",
)
def recall(context: IndexContext) -> dict[str, float]:
    """An approximate index finds as much of the best 10 as its manifest declares, each once and with its score.

    Among 20,000 vectors in clusters: of length 1, as of cosine, and of all lengths, as of dot scores and of a bias.
    Look at what is left out too early, and, where recall is low for all lengths alone, for an index that goes by the
    angle: long vectors score high in directions that are not their own. Or declare a lower `recall_floor`. What comes
    twice was found in two places, and is to be made one before it is sorted.
    """
    floor, measured = context.info.recall_floor or 0.0, {}
    for name, (vectors, queries) in worlds().items():
        found = context.built(vectors).search(queries, RECALL_K)
        best = top_k(queries, vectors, RECALL_K).ids
        shares = [len(np.intersect1d(*lists)) / RECALL_K for lists in zip(found.ids, best, strict=True)]
        measured[name] = round(float(np.mean(shares)), 4)
        query, column = np.nonzero(found.ids >= 0)
        place, times = np.unique(np.column_stack([query, found.ids[query, column]]), axis=0, return_counts=True)
        expect.same(f"queries and positions that come twice on {name}", place[times > 1][:4], place[:0])
        truth = np.einsum("pd,pd->p", queries[query], vectors[found.ids[query, column]], dtype=np.float64)
        expect.close(f"the scores on {name}", found.scores[query, column], truth, SCORE)
    got = ", ".join(f"{share:g} on {name}" for name, share in measured.items())
    expect.true(min(measured.values()) >= floor, RECALL, f"at least {floor:g}, the manifest's recall_floor", got)
    return {f"{RECALL} on {name}": share for name, share in measured.items()} | {"recall_floor": floor}
