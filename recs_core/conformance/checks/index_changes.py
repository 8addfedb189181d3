"""An index that is stored and restored, one that changes without being built again, and ids around any of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from recs_core.conformance import expect
from recs_core.conformance.checks.index import EXACT, ONE, agree, distinct
from recs_core.conformance.checks.index_calls import NOT_FINITE
from recs_core.conformance.checks.index_sizes import CANDIDATES, SIDES, apart, large
from recs_core.conformance.context import IndexContext
from recs_core.conformance.registry import check
from recs_core.conformance.shop import CUSTOMERS, FIRST_ITEM, ITEMS
from recs_core.conformance.worlds import ragged
from recs_core.contract.errors import DataError, NotFitted
from recs_core.contract.protocols import Index, StorableIndex, TopK, UpdatableIndex, lacking
from recs_core.index import CandidateIndex
from recs_core.plugin.specs import split
from recs_core.reference.topk import top_k
from recs_core.storage import tensors

Parts = Mapping[str, NDArray[Any]]
LARGE = 3000
"""Candidates: more than an approximate index scores one and all."""
SUBNORMAL = 2.0**-137
"""What makes numbers of `apart` subnormal in float32, and loses nothing of them."""


@cache
def _large() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3,000, 16) vectors, not to be written to, and (40, 16) queries of length 1."""
    random = np.random.default_rng(21)
    vectors, queries = random.normal(size=(LARGE, 16)).astype(np.float32), random.normal(size=(40, 16))
    vectors.flags.writeable = False
    return vectors, (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


def _through_a_file(parts: Parts) -> Parts:
    """Parts as a bundle hands them back: read-only, in its own dtypes."""
    path = Path("the stored index")
    tensors.check_dtypes(path, parts)
    return tensors.read(b"".join(bytes(piece) for piece in tensors.pieces(parts)), path)


def _storable(index: Index) -> StorableIndex:
    expect.true(not lacking(index, StorableIndex), "the index", "a StorableIndex", type(index).__name__)
    return cast(StorableIndex, index)


def _updatable(index: Index) -> UpdatableIndex:
    expect.true(not lacking(index, UpdatableIndex), "the index", "an UpdatableIndex", type(index).__name__)
    return cast(UpdatableIndex, index)


@check(
    "index/stored",
    subject="index",
    tier="optional",
    needs=("storable",),
    rests_on=("index/rebuild", "index/exclude-sizes", "index/layout"),
    refusable=False,
)
def stored(context: IndexContext) -> None:
    """What `build` made goes out as arrays, through a file, and into an empty index: the answers are the same.

    So it is for no candidate, few and more than 16 bits count, for other parts after these and for these again, and it
    changes neither the one index nor the arrays. Look for places in the engine's own order that are taken for
    positions, and for what is kept beside the parts. Parts of other vectors are refused; look for positions in them
    that are followed unread.
    """
    index, other, again = (_storable(context.make()) for _ in range(3))
    expect.raises("parts before build", NotFitted, index.parts)
    vectors, queries = _large()
    for corpus, asked in ((distinct(2**15 + 9), ONE), (distinct(30), ONE), (distinct(4)[:0], ONE), (vectors, queries)):
        index.build(corpus)
        other.build(-corpus)
        expect.same("the name in the spec", split(index.spec, "the check")[0], index.info.name)
        before, opposite = index.search(asked, 10), other.search(asked, 10)
        made = index.parts()
        parts, others = _through_a_file(made), _through_a_file(other.parts())
        for name in made:
            expect.same(f"part {name!r} after those of another index", made[name], parts[name])
        for _ in range(2):
            again.restore(corpus, parts)
            agree(again.search(asked, 10), before)
            _judge_filtered(again, corpus, asked, before)
            again.restore(-corpus, others)
            agree(again.search(asked, 10), opposite)
        agree(index.search(asked, 10), before)
    if parts:
        expect.raises("restore of fewer vectors", DataError, lambda: again.restore(vectors[:-1], parts))
        for name in parts:
            rest = {other: array for other, array in parts.items() if other != name}
            expect.raises(f"restore without {name!r}", DataError, partial(again.restore, vectors, rest))


def _judge_filtered(index: Index, vectors: NDArray[np.float32], queries: NDArray[np.float32], before: TopK) -> None:
    """What comes first may be excluded, and then what came second is first."""
    if len(vectors):
        hidden = ragged(list(before.ids[:, :1]))
        got = index.search(queries, 5, exclude=hidden)
        expect.same("excluded positions that come back", got.ids[got.ids == before.ids[:, :1]], before.ids[:0, 0])


@check(
    "index/upsert",
    subject="index",
    tier="optional",
    needs=("updatable",),
    rests_on=("index/rebuild", "index/exclude"),
    refusable=False,
)
def upsert(context: IndexContext) -> None:
    """Rows are replaced where they stand and added at the end, without another `build`.

    A row that was replaced is found by its new vector and by no other, however large or small its numbers are; so it
    is a second time, after another build. Look for the old vector that still answers, for new rows that get another
    position, for what was known of the old vectors, as the longest, and for what indexes share. What is refused changes
    nothing.
    """
    index, other = _updatable(context.make()), _updatable(context.make())
    expect.raises("upsert before build", NotFitted, lambda: index.upsert(distinct(3), np.arange(3)))
    smallest = SUBNORMAL if context.info.capabilities.get("float64_scores") is True else 2.0**-60
    for size, more, scale in ((30, 4, 1), (9, 0, 2.0**20), (9, 0, smallest)):
        after, queries = _wide(apart(size + more, 20), scale)
        before = -after[:size]
        index.build(before)
        now = np.concatenate([before, after[len(before) :]])
        changed = np.array([len(now) - 1, 3, 0, *range(len(before), len(now) - 1)])
        now[changed] = after[changed]
        _judge_refusals(index, now, changed, size)
        agree(index.search(queries, 99), top_k(queries, before, 99))
        for _ in range(2):
            index.upsert(now, changed)
            other.build(-before)
            other.upsert(-now, changed)
            agree(index.search(queries, 99), top_k(queries, now, 99))
            agree(other.search(queries, 99), top_k(queries, -now, 99))
            index.build(before)
    index.build(distinct(9))
    index.upsert(np.float32(3e37) * distinct(9), np.arange(9))
    expect.raises("a search for a score of 2.4e39", DataError, lambda: index.search(10 * ONE, 3))
    vectors, queries = _large()
    index.build(vectors)
    longer = np.concatenate([vectors, 40 * queries])
    longer[:40] = 50 * queries
    index.upsert(longer, np.concatenate([np.arange(40), np.arange(LARGE, LARGE + 40)]))
    due = np.stack([np.arange(40), np.arange(LARGE, LARGE + 40)], axis=1)
    expect.same("the two long vectors that were put there", index.search(queries, 2).ids, due)


def _wide(
    world: tuple[NDArray[np.float32], NDArray[np.float32]], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors times `scale`, and queries, behind as many zeros as make their numbers the last of 257."""
    vectors, queries = (np.pad(part, ((0, 0), (257 - part.shape[1], 0))) for part in world)
    return vectors * np.float32(scale), queries


def _judge_refusals(index: UpdatableIndex, now: NDArray[np.float32], changed: NDArray[np.int64], before: int) -> None:
    """What `upsert` refuses of `now`, which it would take with the positions `changed`, after `before` rows."""
    for wrong in ([len(now)], [0, -1], [0] if len(now) > before else [len(now) + 3]):
        expect.raises(f"upsert at {wrong}", DataError, partial(index.upsert, now, np.array(wrong)))
    for number in NOT_FINITE:
        bad = now.copy()
        bad[changed[-1], -1] = number
        expect.raises(f"upsert of a row with {number}", DataError, partial(index.upsert, bad, changed))
    expect.raises("upsert of vectors of another width", DataError, partial(index.upsert, now[:, 1:], changed))
    expect.raises("upsert of fewer vectors", DataError, partial(index.upsert, now[: before - 1], np.array([0])))


@check(
    "index/delete",
    subject="index",
    tier="optional",
    needs=("updatable",),
    rests_on=("index/upsert", "index/exclude-everything"),
    refusable=False,
)
def delete(context: IndexContext) -> None:
    """What was deleted never comes back, all else keeps its position, and the list is filled up.

    Also with exclusions, with an allow-list that names it, and where nothing is left; an upsert brings it back, and so
    does `build`. Look for positions that move up, for deletes that a filter of the search or the next delete replaces,
    and for what indexes share.
    """
    index, other = _updatable(context.make()), _updatable(context.make())
    expect.raises("delete before build", NotFitted, lambda: index.delete(np.array([0])))
    vectors, queries = _wide(apart(60, 20), 2.0**20)
    index.build(vectors)
    gone = np.array([7, 0, 59, 30, 31, 7])
    pairs = gone[:2], gone[2:4], gone[4:]
    for pair in (*pairs, gone[:0]):
        index.delete(pair)
    other.build(-vectors)
    for positions in (np.array([8, 12]), np.array([1, 2]), np.array([3, 2])):
        other.delete(positions)
    left = np.setdiff1d(np.arange(60), gone)
    if context.info.capabilities.get("storable") is True:
        expect.raises("parts after a delete", DataError, lambda: _storable(index).parts())
    agree(other.search(queries, 60), top_k(queries, -vectors, 60, allow=np.setdiff1d(np.arange(60), [1, 2, 3, 8, 12])))
    hidden = ragged([[row, 7, 8] for row in range(len(queries))])
    agree(index.search(queries, 60), top_k(queries, vectors, 60, allow=left))
    agree(index.search(queries, 5, exclude=hidden), top_k(queries, vectors, 5, allow=left, exclude=hidden))
    if context.info.capabilities.get("allow") is True:
        allowed = np.array([59, 8, 0, 12])
        agree(index.search(queries, 5, allow=allowed), top_k(queries, vectors, 5, allow=np.array([8, 12])))
    expect.raises("delete outside the corpus", DataError, lambda: index.delete(np.array([60])))
    index.upsert(vectors, gone[:1])
    left = np.union1d(left, gone[:1])
    agree(index.search(queries, 60), top_k(queries, vectors, 60, allow=left))
    index.delete(np.arange(60))
    agree(index.search(queries, 3), top_k(queries, vectors, 3, allow=left[:0]))
    index.build(vectors)
    agree(index.search(queries, 60), top_k(queries, vectors, 60))
    index.delete(pairs[0])
    agree(index.search(queries, 60), top_k(queries, vectors, 60, allow=np.setdiff1d(np.arange(60), pairs[0])))
    if context.info.is_exact:
        index.build(large())
        gone = np.arange(1, CANDIDATES, 3)
        index.delete(gone)
        left = np.setdiff1d(np.arange(CANDIDATES), gone)
        agree(index.search(SIDES, 140), top_k(SIDES, large(), 140, allow=left))
    vectors, queries = _large()
    index.build(vectors)
    best = np.unique(index.search(queries, 30).ids)
    index.delete(best)
    got = index.search(queries, 10).ids
    expect.same("deleted positions that come back", got[np.isin(got, best)], best[:0])
    expect.true(bool((got >= 0).all()), "the list", "filled up", got)


@check(
    "index/ids",
    subject="index",
    needs=("exclude",),
    rests_on=("manifest/index", "index/exclude-unknown", "index/types", "index/rebuild", "index/upsert"),
    applies_to=EXACT,
)
def ids(context: IndexContext) -> None:
    """Behind a `CandidateIndex`, ids come back as they are: unicode strings, and int64 that no float64 tells apart.

    Exclusions, vectors that are replaced and candidates that are deleted are by id. The core makes positions of ids:
    look at a second `build` of as many vectors, and at positions.
    """
    for names in (CUSTOMERS, ITEMS):
        vectors = distinct(len(names))
        order = np.argsort(-vectors[:, 0])
        corpus = CandidateIndex(names, vectors, context.make())
        nothing = None if isinstance(names[0], str) else -1
        hidden = [names[order[0]], names[order[0]], "nobody" if nothing is None else FIRST_ITEM - 1]
        rest: list[Any] = [names[i] for i in order[1:]]
        expected = [*rest, nothing]
        expect.same("the ids", corpus.search(ONE, len(names) + 1, exclude=[hidden]).ids[0].tolist(), expected)
        corpus.upsert([names[order[-1]]], np.array([[1e6, 0]], np.float32))
        expected = [names[i] for i in (order[-1], *order[:-1])]
        expect.same("the ids after an upsert", corpus.search(ONE, len(names)).ids[0].tolist(), expected)
        corpus.delete([names[order[-1]]])
        expect.same("the ids after a delete", corpus.search(ONE, len(names) - 1).ids[0].tolist(), expected[1:])
