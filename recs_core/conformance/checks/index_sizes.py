"""Sizes of an index: what breaks only at the edge of a block, or beyond the width of an integer.

Vectors are small whole numbers, as in `index.py`. Few worlds, large in all ways.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.index import EXACT, ONE, agree, distinct, judge, whole_numbers
from recs_core.conformance.context import IndexContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import ragged
from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK
from recs_core.reference.topk import top_k

CANDIDATES = 70_000
QUERIES = 2**16 + 300
"""More than 16 bits count, of both."""
SIDES = np.array(
    [[1, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    np.float32,
)
"""Queries of `large`: the best last, the best first, the best at the ends of blocks, in any order, and ties."""


@cache
def large() -> NDArray[np.float32]:
    """(70,000, 4) vectors, not to be written to: a number per query of `SIDES`."""
    position = np.arange(CANDIDATES)
    ends = np.log2((position + 1) & -(position + 1))  # of blocks of 2^this
    anywhere = np.random.default_rng(6).permutation(CANDIDATES)
    vectors = np.column_stack([position, ends * 2**17 + position, anywhere, position % 3]).astype(np.float32)
    vectors.flags.writeable = False
    return vectors


def apart(rows: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(rows, 4) vectors and (number, 4) queries, no two of whose scores are equal for one query."""
    vectors, queries = whole_numbers(rows, dim=4, seed=3), whole_numbers(number, dim=4, seed=4)
    vectors[:, 3], queries[:, 3] = np.arange(rows) / 2**12, 1
    return vectors, queries


def ranked(scores: NDArray[Any], k: int, exclude: Ragged | None = None) -> TopK:
    """As the oracle has it, for many queries at once: scores (Q, n) are overwritten where a position is excluded."""
    if exclude is not None:
        scores[exclude.segments, exclude.values] = -np.inf
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, ids, 1)
    return TopK(np.where(np.isneginf(best), -1, ids), best)


def cut(found: TopK, k: int) -> TopK:
    """The first k columns."""
    return TopK(found.ids[:, :k], found.scores[:, :k])


@check("index/large-corpus", subject="index", rests_on=("index/ties",), applies_to=EXACT)
def large_corpus(context: IndexContext) -> None:
    """A corpus of 70,000 is searched whole, for any k: the best at its end, at the ends of blocks, or anywhere.

    Look at block borders of the vectors, at positions in 16 bits, and at lists that are sorted in part.
    """
    index = context.built(large())
    expected = top_k(SIDES[:-1], large(), 2**15 + 300)
    for k in (1, 33, 129, 257, 1030, 20_000, 2**15 + 300):
        agree(index.search(SIDES[:-1], k), cut(expected, k))
    for row in range(len(SIDES) - 1):
        here = slice(row, row + 1)
        agree(index.search(SIDES[here], 33), cut(TopK(expected.ids[here], expected.scores[here]), 33))


@check("index/many-queries", subject="index", rests_on=("index/ties",), applies_to=EXACT)
def many_queries(context: IndexContext) -> None:
    """Each of many queries gets its own list: 4,300 at once with long lists, and 700 over a corpus larger than a block.

    Look at block borders of the queries, and at what is counted in 16 bits.
    """
    for rows, number, k in ((2100, 700, 5), (140, 4300, 129)):
        vectors, queries = apart(rows, number)
        agree(context.built(vectors).search(queries, k), ranked(queries @ vectors.T, k))


@check("index/dims", subject="index", rests_on=("index/ties",), applies_to=EXACT)
def dims(context: IndexContext) -> None:
    """All numbers of a vector count: of 300, and of one.

    Look at vectors that are cut, or filled up, to the width of a block.
    """
    vectors = whole_numbers(40, 300)
    judge(context, vectors, vectors[:5], 9)
    judge(context, distinct(40)[:, :1], ONE[:, :1], 9)


@check(
    "index/exclude-sizes",
    subject="index",
    needs=("exclude",),
    rests_on=("index/exclude-unknown", "index/exclude-everything", "index/large-corpus", "index/many-queries"),
)
def exclude_sizes(context: IndexContext) -> None:
    """Each of 65,836 queries has its own exclusions, and a list of 1,100 of them in no order holds to its last place.

    An approximate index may miss what is good, but leaks nothing. Look at block borders of queries and vectors, at rows
    counted in 16 bits, and at lists that are cut.
    """
    every_other = [np.argsort(-scores, kind="stable")[:2200][::-2] for scores in SIDES @ large().T]
    _judge_excluded(context, large(), SIDES, 33, ragged(every_other))
    for rows, number in ((2100, 700), (10, QUERIES)):
        vectors, queries = apart(rows, number)
        best = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :8]
        some = np.random.default_rng(5).random(best.shape) < 0.5
        _judge_excluded(context, vectors, queries, 5, Ragged.from_lengths(best[some].astype(np.int32), some.sum(1)))


def _judge_excluded(
    context: IndexContext, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int, exclude: Ragged
) -> None:
    got = context.built(vectors).search(queries, k, exclude=exclude)
    if context.info.is_exact:
        agree(got, ranked(queries @ vectors.T, k, exclude))
    leaked = (got.ids[exclude.segments] == exclude.values[:, None]).any(axis=1)
    expect.same("excluded positions that come back", exclude.values[leaked], np.empty(0, np.int32))


@check(
    "index/allow-sizes",
    subject="index",
    tier="optional",
    needs=("allow", "exclude"),
    rests_on=("index/allow-and-exclude", "index/exclude-sizes"),
    applies_to=EXACT,
)
def allow_sizes(context: IndexContext) -> None:
    """Allow-lists of any length, in any order, of int32 or int64, with repeats, for several queries; ties by position.

    Look at block borders, positions in 16 bits, and lists that are kept from search to search.
    """
    index, random = context.built(large()), np.random.default_rng(7)
    for dtype in (np.int32, np.int64, np.int64):
        some = random.permutation(CANDIDATES)[:300]
        allow: NDArray[np.integer] = np.concatenate([some, some[:40]]).astype(dtype)
        agree(index.search(SIDES, 150, allow=allow), top_k(SIDES, large(), 150, allow=allow))
        exclude = ragged(np.split(random.permutation(some)[:200], len(SIDES)))
        agree(
            index.search(SIDES, 150, allow=allow, exclude=exclude),
            top_k(SIDES, large(), 150, allow=allow, exclude=exclude),
        )
    gone = random.permutation(CANDIDATES)[:66_000]
    for number, queries in (
        (69_000, SIDES[:2]),
        (36_000, np.tile(SIDES[:2], (32, 1))),
    ):  # half are worth a copy to many
        allow, exclude = random.permutation(CANDIDATES)[:number], ragged([gone[::2], gone, *[[]] * (len(queries) - 2)])
        agree(
            index.search(queries, 40, allow=allow, exclude=exclude),
            top_k(queries, large(), 40, allow=allow, exclude=exclude),
        )
