"""Calls of an index: whose its answers are, calls at once, how memory lies, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.index import ONE, agree, distinct, whole_numbers
from recs_core.conformance.context import IndexContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import ragged
from recs_core.contract.errors import DataError, NotFitted
from recs_core.contract.protocols import TopK
from recs_core.reference.topk import top_k

THREADS = 10


@check("index/answers", subject="index", rests_on=("index/inputs-stay",))
def answers(context: IndexContext) -> None:
    """An answer is the caller's: it can be written to, no later search changes it, and it changes no later one.

    Look for answers that lie in one buffer, are kept for the next time, or are views of a framework's memory.
    """
    index = context.built(distinct(12))
    first = index.search(ONE, 4)
    kept = TopK(first.ids.copy(), first.scores.copy())
    index.search(-ONE, 4)
    expect.same("the positions after another search", first.ids, kept.ids)
    expect.same("the scores after another search", first.scores, kept.scores)
    for what, array in (("positions", first.ids), ("scores", first.scores)):
        expect.true(array.flags.writeable, f"the {what}", "an array that can be written to", "one that cannot")
        array[:] = 0
    agree(index.search(ONE, 4), kept)


@check("index/threads", subject="index", rests_on=("index/answers", "index/exclude-sizes"))
def threads(context: IndexContext) -> None:
    """Ten threads, each with 1,024 queries of its own, find what one after another does.

    Look for what a search leaves in the index for itself.
    """
    index = context.built(whole_numbers(60))
    asked = [whole_numbers(1024, seed=seed) for seed in range(THREADS)]
    hidden = ragged([[row % 60] for row in range(1024)])
    filters: list[dict[str, Any]] = [{"exclude": hidden} if number % 2 else {} for number in range(THREADS)]
    alone = [index.search(queries, 5, **given) for queries, given in zip(asked, filters, strict=True)]
    barrier = Barrier(THREADS)

    def search(queries: NDArray[np.float32], given: dict[str, Any]) -> TopK:
        barrier.wait(60)
        return index.search(queries, 5, **given)

    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(search, asked, filters))
    for found, expected in zip(together, alone, strict=True):
        agree(found, expected)


LAYOUTS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "Fortran's order": np.asfortranarray,
    "every second row and column of a larger array": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "rows from the last to the first": lambda a: a[::-1].copy()[::-1],
}


@check("index/layout", subject="index", rests_on=("index/top-k",))
def layout(context: IndexContext) -> None:
    """How vectors and queries lie in memory does not count, nor that they cannot be written to.

    Look at memory that is handed on without its strides.
    """
    vectors, queries = whole_numbers(40), whole_numbers(8, seed=2)
    expected = context.built(vectors).search(queries, 5)
    for laid in LAYOUTS.values():
        stored, asked = laid(vectors), laid(queries)
        stored.flags.writeable = asked.flags.writeable = False
        index = context.make()
        index.build(stored)
        agree(index.search(asked, 5), expected)


NOT_FINITE = (np.nan, np.inf, -np.inf)


@check("index/refusals", subject="index", needs=("exclude",), rests_on=("index/rebuild", "index/exclude-unknown"))
def refusals(context: IndexContext) -> None:
    """What has no answer raises `DataError`: k below 1, NaN, other dims, positions outside, scores beyond float32.

    An allow-list is judged where the manifest has them. A search before any `build` raises `NotFitted`; after a refusal
    the next search finds what one before it did. Look at what is checked, and that it is checked of the last row too.
    """
    expect.raises("a search before build", NotFitted, lambda: context.make().search(ONE, 1))
    many = 2**15 + 3 * 128  # the last is the last of a block
    index = context.built(distinct(many))
    before = top_k(ONE, distinct(many), 3) if context.info.is_exact else index.search(ONE, 3)

    def refused(what: str, queries: Any = ONE, k: Any = 3, **filters: Any) -> None:
        expect.raises(what, DataError, lambda: index.search(queries, k, **filters))

    for k in (0, -1, True, 2.5):
        refused(f"k = {k!r}", k=k)
    for number in NOT_FINITE:
        refused(f"a query with {number}", np.array([[1, 0], [number, 0]], np.float32))
    refused("queries of 3 numbers for vectors of 2", np.ones((1, 3), np.float32))
    refused("a query that is no row", ONE[0])
    for position in (-2, many):
        refused(f"the exclusion of position {position} of {many}", exclude=ragged([[0, position]]))
    for rows in ([], [[0], [1]]):
        refused(f"{len(rows)} lists of exclusions for one query", exclude=ragged(rows))
    if context.info.capabilities.get("allow") is True:
        for given in ([0, -1], [0, many], [0.0, 1.0], [[0, 1], [2, 3]]):
            refused(f"allow = {given}", allow=np.array(given))
    agree(index.search(ONE, 3), before)
    last = distinct(many)
    for number in NOT_FINITE:
        last[-1, 0] = number
        expect.raises(f"vectors with {number}", DataError, lambda: context.make().build(last))
    expect.raises("vectors that are one row", DataError, lambda: context.make().build(last[0]))
    last[-1, 0] = 3e38
    index.build(last)
    refused("a score of 3e39", 10 * ONE)
