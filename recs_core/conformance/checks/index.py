"""Indexes: the best k by inner product, ties by position, and nothing that was excluded.

Vectors are small whole numbers, so that float32 scores are exact and every tie is a true one.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.context import IndexContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import ragged
from recs_core.contract.protocols import TopK
from recs_core.reference.topk import top_k

BASE = ("index/top-k",)
EXACT = (lambda info: info.is_exact, "the index is approximate by its manifest")


def whole_numbers(rows: int, dim: int = 6, seed: int = 0, spread: int = 9) -> NDArray[np.float32]:
    """(rows, dim) whole numbers from − spread to spread."""
    random = np.random.default_rng(seed)
    return random.integers(-spread, spread + 1, (rows, dim)).astype(np.float32)


def distinct(rows: int) -> NDArray[np.float32]:
    """(rows, 2) vectors of which no two have the same inner product with [1, 0]."""
    random = np.random.default_rng(1)
    return np.column_stack([random.permutation(rows), np.ones(rows)]).astype(np.float32)


QUERIES = whole_numbers(20, seed=2)
ONE = np.array([[1, 0]], np.float32)


def agree(got: TopK, expected: TopK) -> None:
    """The same positions in the same order, with their scores; the first query that differs is shown."""
    for what, found, wanted in (
        ("positions", got.ids, expected.ids),
        ("scores", got.scores, expected.scores.astype(np.float32)),
    ):
        expect.same(f"the shape of the {what}", found.shape, wanted.shape)
        for row in np.flatnonzero((found != wanted).any(axis=1))[:1]:
            expect.same(f"the {what} for query {row}", found[row], wanted[row])


def judge(context: IndexContext, vectors: Any, queries: Any, k: int, **filters: Any) -> None:
    """A search against the oracle's."""
    agree(context.built(vectors).search(queries, k, **filters), top_k(queries, vectors, k, **filters))


@check("index/top-k", subject="index", formula="the k positions of the largest ⟨x, y⟩, best first")
def exact_top_k(context: IndexContext) -> None:
    """The best k positions of a query, best first, with their inner products; an approximate index finds most.

    A failure here blocks the others. Look at k (one too few, or one too many), at the order, and at the metric.
    """
    vectors = distinct(50)
    got = context.built(vectors).search(ONE, 7)
    expected = top_k(ONE, vectors, 7)
    if context.info.is_exact:
        agree(got, expected)
        return
    expect.same("the shape", got.ids.shape, (1, 7))
    found = got.ids[0][got.ids[0] >= 0]
    expect.same("the scores", got.scores[0][: len(found)], vectors[found, 0])
    share = len(np.intersect1d(found, expected.ids[0])) / 7
    expect.true(share >= 0.5, "the share of the true top 7", "at least 0.5", share)


@check("index/types", subject="index", rests_on=BASE)
def types(context: IndexContext) -> None:
    """Positions are int64 and scores float32, of shape (queries, k), also for no query at all.

    Look for int32 positions.
    """
    index = context.built(distinct(9))
    for queries in (ONE, ONE[:0]):
        got = index.search(queries, 3)
        expect.same("the dtype of ids", str(got.ids.dtype), "int64")
        expect.same("the dtype of scores", str(got.scores.dtype), "float32")
        expect.same("the shape of ids", got.ids.shape, (len(queries), 3))
        expect.same("the shape of scores", got.scores.shape, (len(queries), 3))


@check("index/ties", subject="index", rests_on=BASE, applies_to=EXACT, formula="by score ↓, then by position ↑")
def ties(context: IndexContext) -> None:
    """Equal scores come in the order of their positions, at the border of k too, and across blocks.

    Look at a partial sort, which leaves ties in any order, and at merging of blocks.
    """
    judge(context, np.ones((40, 2)), ONE, 7)
    judge(context, whole_numbers(300, spread=1), QUERIES, 25)
    judge(context, whole_numbers(9000, dim=2, spread=1), np.array([[1, 1], [1, -1], [0, 0]], np.float32), 130)
    judge(context, np.array([[0, 0], [-0.0, 0], [0, 0], [-0.0, -0.0]]), ONE, 4)


@check("index/k-beyond-corpus", subject="index", rests_on=BASE, formula="(Q, min(k, n))")
def k_beyond_corpus(context: IndexContext) -> None:
    """More asked for than there are: all of them, and no more columns; none where there is no candidate.

    Look for an error, for columns of padding, and for memory that is taken by k.
    """
    judge(context, distinct(4), ONE, 6)
    judge(context, distinct(4)[:0], ONE, 3)
    judge(context, distinct(1), ONE, 2**40)


@check("index/exclude", subject="index", needs=("exclude",), rests_on=BASE)
def exclude(context: IndexContext) -> None:
    """Excluded positions do not come back, and the list is filled up with the next best.

    Look for exclusions that are taken out of a top k that was too short.
    """
    vectors = distinct(30)
    best = np.argsort(-vectors[:, 0])
    queries = np.repeat(ONE, 3, axis=0)
    judge(context, vectors, queries, 5, exclude=ragged([best[:8], [], best[2:4]]))


@check("index/exclude-ties", subject="index", needs=("exclude",), rests_on=("index/exclude",), applies_to=EXACT)
def exclude_ties(context: IndexContext) -> None:
    """Exclusion is by position, not by score: a candidate that ties with an excluded one comes back.

    Look for a set of scores that are left out.
    """
    judge(context, np.ones((10, 2)), np.repeat(ONE, 2, axis=0), 4, exclude=ragged([[0, 2], [1]]))


@check("index/exclude-everything", subject="index", needs=("exclude",), rests_on=("index/exclude",))
def exclude_everything(context: IndexContext) -> None:
    """Where exclusions leave fewer than k, the rest is −1 and − inf; where they leave nothing, all of it is.

    Look for excluded positions that come back with a very low score.
    """
    queries = np.repeat(ONE, 2, axis=0)
    judge(context, distinct(6), queries, 4, exclude=ragged([range(6), [0, 1, 2, 3]]))


@check("index/exclude-below-extremes", subject="index", needs=("exclude",), rests_on=("index/exclude",))
def exclude_below_extremes(context: IndexContext) -> None:
    """Exclusions hold where every score left is as low as −1e38, or as high as 1e38.

    Look for a penalty in place of a mask: a score minus a large number is still a score.
    """
    low = np.array([[-1e37, 0], [5, 0], [-1e38, 0], [7, 0]], np.float32)
    judge(context, low, ONE, 3, exclude=ragged([[1, 3]]))
    judge(context, -low, ONE, 3, exclude=ragged([[0, 2]]))


@check(
    "index/exclude-unknown",
    subject="index",
    needs=("exclude",),
    rests_on=("index/exclude-ties", "index/exclude-below-extremes"),
)
def exclude_unknown(context: IndexContext) -> None:
    """A position of −1, an id that is not in the corpus, excludes nothing; one that is named twice counts once.

    Look for −1 that is taken for the last position, and for lists whose length is taken for how many are excluded.
    """
    vectors = distinct(12)
    best = np.argsort(-vectors[:, 0])
    queries = np.repeat(ONE, 3, axis=0)
    last = vectors.copy()
    last[-1, 0] = 99
    judge(context, last, queries, 4, exclude=ragged([[-1], [-1, 0, -1], [11, -1]]))
    judge(context, vectors, queries, 12, exclude=ragged([best[[0, 0, 0]], best[[3, 1, 3, 1]], []]))


@check("index/allow", subject="index", tier="optional", needs=("allow",), rests_on=BASE)
def allow(context: IndexContext) -> None:
    """Only allowed positions come back, whatever their order in the list; fewer than k are filled up.

    Look at positions within the list that are taken for positions in the corpus.
    """
    judge(context, distinct(30), ONE, 3, allow=np.array([29, 3, 0, 17, 8]))
    judge(context, distinct(30), ONE, 5, allow=np.array([4, 2]))
    judge(context, distinct(30), ONE, 2, allow=np.array([], np.int64))


@check(
    "index/allow-and-exclude", subject="index", tier="optional", needs=("allow", "exclude"), rests_on=("index/allow",)
)
def allow_and_exclude(context: IndexContext) -> None:
    """What is allowed and excluded does not come back.

    Look at which of the two is applied last.
    """
    for allowed in ([3, 17, 8], []):
        judge(context, distinct(30), ONE, 3, allow=np.array(allowed, np.int64), exclude=ragged([[17, 20]]))


@check("index/extreme-scores", subject="index", rests_on=("index/k-beyond-corpus",))
def extreme_scores(context: IndexContext) -> None:
    """Scores of ± 1e38 are ordered as any other.

    Look for a sentinel in the place of − inf.
    """
    judge(context, np.array([[-1e38, 0], [1e38, 0], [0, 0], [-1e37, 0]]), ONE, 4)


@check("index/rebuild", subject="index", rests_on=("index/k-beyond-corpus",))
def rebuild(context: IndexContext) -> None:
    """A second `build` replaces the first: smaller, larger, wider, of none, of an array that was changed meanwhile.

    Look for what is kept of a `build` before, and for what indexes share.
    """
    index, other = context.built(distinct(30)), context.built(-distinct(30))
    again = distinct(30)
    wider = np.hstack([distinct(9), distinct(9)])
    for vectors in (again, distinct(12), distinct(70), wider, distinct(4)[:0], again):
        if vectors is again:
            again[:] = again[::-1].copy()
        index.build(vectors)
        queries = np.eye(1, vectors.shape[1], dtype=np.float32)
        agree(index.search(queries, 99), top_k(queries, vectors, 99))
    agree(other.search(ONE, 9), top_k(ONE, -distinct(30), 9))


@check("index/inputs-stay", subject="index", needs=("exclude",), rests_on=("index/exclude",))
def inputs_stay(context: IndexContext) -> None:
    """A search changes neither its inputs, the order of lists included, nor the next search.

    Look for scores of excluded positions that are overwritten in the vectors, and for lists sorted where they lie.
    """
    vectors, queries = distinct(12), np.repeat(ONE, 5, axis=0)
    index = context.built(vectors)
    before = index.search(queries, 4)
    best = np.argsort(-vectors[:, 0])
    excluded = ragged([best[:2], best[[3, 0, 2]], [], best[5::-1], best[:1]])
    values, offsets = excluded.values.copy(), excluded.offsets.copy()
    index.search(queries, 4, exclude=excluded)
    agree(index.search(queries, 4), before)
    expect.same("the vectors", vectors, distinct(12))
    expect.same("the queries", queries, np.repeat(ONE, 5, axis=0))
    expect.same("the exclusions", excluded.values, values)
    expect.same("the offsets of the exclusions", excluded.offsets, offsets)
    if context.info.capabilities.get("allow") is True:
        allowed = best[[3, 1, 8, 1, 0]]
        index.search(queries, 4, allow=allowed)
        agree(index.search(queries, 4), before)
        expect.same("the allow-list", allowed, best[[3, 1, 8, 1, 0]])


@check(
    "index/memory-map",
    subject="index",
    tier="optional",
    needs=("memory_map",),
    rests_on=("index/rebuild",),
    refusable=False,
)
def memory_map(context: IndexContext) -> None:
    """Vectors in a read-only memory map are searched where they lie: a search sees what changes in the file.

    Look for a copy, which a corpus larger than memory has no room for.
    """
    before = distinct(30)
    after = before[::-1]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        before.tofile(path)
        index = context.make()
        index.build(np.memmap(path, np.float32, "r", shape=before.shape))
        agree(index.search(ONE, 7), top_k(ONE, before, 7))
        file = np.memmap(path, np.float32, "r+", shape=before.shape)
        file[:] = after
        agree(index.search(ONE, 7), top_k(ONE, after, 7))
