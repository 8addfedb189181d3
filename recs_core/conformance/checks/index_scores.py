"""Scores that are no whole numbers: what rounding in float32 may do to a list, and what it may not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.index import EXACT, ONE, distinct, judge
from recs_core.conformance.context import IndexContext
from recs_core.conformance.registry import check

SMALLEST = float(np.finfo(np.float32).tiny)
"""Of the normal float32: what is smaller may be taken for 0."""


@check(
    "index/rounding",
    subject="index",
    rests_on=("index/ties", "index/extreme-scores"),
    applies_to=EXACT,
    formula="|score − ⟨x, y⟩| ≤ (d + 4) · 2⁻²⁴ · Σ|xᵢyᵢ|",
)
def rounding(context: IndexContext) -> None:
    """Scores of any vectors are right within float32's rounding, and so is what the list holds, in their order.

    Look for scores by way of a narrower type, and for limits that fit vectors of length 1 only.
    """
    random = np.random.default_rng(11)
    queries = random.normal(size=(30, 48)).astype(np.float32)
    unequal = random.normal(size=(2100, 48)) * 10 ** random.uniform(-3, 3, (2100, 1))
    alike = 1 + 1e-7 * random.normal(size=(2100, 48))
    for vectors in (unequal, unequal * 1e15, unequal * 1e-20, alike):
        _judge_rounded(context, vectors.astype(np.float32), queries, 20)


def _judge_rounded(context: IndexContext, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> None:
    got = context.built(vectors).search(queries, k)
    x, y = queries.astype(np.float64), vectors.astype(np.float64)
    truth = x @ y.T
    allowed = (x.shape[1] + 4) * 2.0**-24 * (np.abs(x) @ np.abs(y).T) + x.shape[1] * SMALLEST
    for row, (ids, scores) in enumerate(zip(got.ids, got.scores, strict=True)):
        query = f"query {row}"
        expect.true(ids.min() >= 0 and len(np.unique(ids)) == k, f"the positions for {query}", f"{k} of them", ids)
        expect.same(f"the order of the scores for {query}", scores, -np.sort(-scores))
        apart = np.abs(scores - truth[row, ids])
        expect.true(
            bool((apart <= allowed[row, ids]).all()),
            f"the scores for {query}",
            truth[row, ids].astype(np.float32),
            scores,
        )
        least = (truth[row, ids] + allowed[row, ids]).min()
        left = np.delete(truth[row] - allowed[row], ids).max()
        expect.true(left <= least, f"the best left out for {query}", f"at most {least:.9g}", f"{left:.9g}")


@check(
    "index/float64-scores",
    subject="index",
    tier="optional",
    needs=("float64_scores",),
    rests_on=("index/rounding", "index/k-beyond-corpus"),
    refusable=False,
)
def float64_scores(context: IndexContext) -> None:
    """Scores are those of float64, rounded once: near-ties in order, equal vectors tie, and nothing subnormal is lost.

    Look for candidates chosen by scores in float32 with too little room for rounding, and for a product that rounds by
    where in the matrix a pair stands.
    """
    random = np.random.default_rng(12)
    large, small = random.uniform(500, 7000, 9000).astype(np.float32), np.arange(9000) / 2**16
    cancelling = np.column_stack([large, small, -large])  # in float32 a sum is off by as much as 16 places in the list
    queries = np.array([[1, 1, 1], [1, -1, 1], [-2, -2, -2]], np.float32)
    for scale in (1, 2.0**40, 2.0**-60):
        for k in (5, 1000):
            judge(context, cancelling * scale, queries, k)
    equal = np.tile(random.normal(size=(1, 33)).astype(np.float32), (3000, 1))
    scores = context.built(equal).search(equal[:3], 70).scores
    expect.same("the scores of equal vectors", scores, np.full((3, 70), scores[0, 0]))
    judge(context, distinct(50) * 2.0**-75, ONE * np.float32(2.0**-74), 20)
    _judge_underflow(context)


def _judge_underflow(context: IndexContext) -> None:
    """Forty products, each too small for float32, add up to more than one that is not."""
    unit = 2.0**-149
    vectors = np.zeros((2000, 41), np.float32)
    vectors[:4, 0] = np.arange(12, 16) * unit * 2**60
    vectors[1500, 1:] = 0.4 * unit * 2**60
    queries = np.full((1, 41), 2.0**-60, np.float32)
    judge(context, vectors, queries, 3)
