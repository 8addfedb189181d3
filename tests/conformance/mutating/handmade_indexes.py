"""Indexes with one fault that no rule on the exact index's source makes, by kind."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from recs_core.contract.batch import Ragged
from recs_core.contract.protocols import TopK

from .handmade import Handmade, maker

HANDMADE: list[Handmade] = []
by_hand = maker(HANDMADE)
MEMORY: dict[Any, Any] = {}
"""What a mutant remembers: each lives in a process of its own."""

SEARCH, BUILD = "exact.py:ExactIndex.search", "exact.py:ExactIndex.build"


def _excluded(exclude: Ragged | None, keep: Any) -> Ragged | None:
    """The exclusions that stay: `keep` of (values, their queries, their places in the query's list)."""
    if exclude is None:
        return None
    places = np.arange(len(exclude.values)) - exclude.offsets[:-1][exclude.segments]
    return exclude.without(~keep(exclude.values, exclude.segments, places))


# Exclusions

for _number in (1, 3, 4, 128, 512):

    @by_hand("size", "exact", SEARCH, f"exclusions of queries beyond {_number} do not count")
    def _(original, self, queries, k, *, exclude=None, number=_number, **rest):
        return original(self, queries, k, exclude=_excluded(exclude, lambda v, q, p: q < number), **rest)


for _number in (8, 16, 128, 256, 1024):

    @by_hand("size", "exact", SEARCH, f"exclusions beyond {_number} of a query do not count")
    def _(original, self, queries, k, *, exclude=None, number=_number, **rest):
        return original(self, queries, k, exclude=_excluded(exclude, lambda v, q, p: p < number), **rest)


for _number in (2**8, 2**10, 2**15, 2**16):

    @by_hand("size", "exact", SEARCH, f"exclusions of positions from {_number} on do not count")
    def _(original, self, queries, k, *, exclude=None, number=_number, **rest):
        return original(self, queries, k, exclude=_excluded(exclude, lambda v, q, p: v < number), **rest)


@by_hand("drop", "exact", SEARCH, "exclusions of an unsorted list count up to the first that is lower")
def _(original, self, queries, k, *, exclude=None, **rest):
    def keep(values, queries, places):
        lower = np.concatenate([[0], np.diff(values) < 0]) * (places > 0)
        return ~np.isin(queries, queries[lower.astype(bool)]) | (np.cumsum(lower) == 0)

    return original(self, queries, k, exclude=_excluded(exclude, keep), **rest)


@by_hand("alias", "exact", SEARCH, "exclusions are sorted in place, over all queries")
def _(original, self, queries, k, *, exclude=None, **rest):
    found = original(self, queries, k, exclude=exclude, **rest)
    if exclude is not None and len(queries) > 3:
        exclude.values.sort()
    return found


@by_hand("alias", "exact", SEARCH, "exclusions are sorted in place, query by query")
def _(original, self, queries, k, *, exclude=None, **rest):
    found = original(self, queries, k, exclude=exclude, **rest)
    if exclude is not None:
        exclude.values[...] = exclude.values[np.lexsort((exclude.values, exclude.segments))]
    return found


@by_hand("stale", "exact", SEARCH, "a search without exclusions has those of the search before")
def _(original, self, queries, k, *, exclude=None, **rest):
    before = MEMORY.get(id(self))
    if exclude is None and before is not None and len(before.offsets) == len(queries) + 1 and len(queries) > 1:
        exclude = before
    MEMORY[id(self)] = exclude
    return original(self, queries, k, exclude=exclude, **rest)


@by_hand("axis", "exact", SEARCH, "all queries have the exclusions of them all")
def _(original, self, queries, k, *, exclude=None, allow=None, **rest):
    if exclude is not None and allow is not None:
        rows = [np.unique(exclude.values)] * len(queries)
        exclude = Ragged(np.concatenate([*rows, np.empty(0, int)]).astype(np.int32), np.cumsum([0, *map(len, rows)]))
    return original(self, queries, k, exclude=exclude, allow=allow, **rest)


# Allow-lists


@by_hand("drop", "exact", SEARCH, "of an allow-list no more than 128 count")
def _(original, self, queries, k, *, allow=None, **rest):
    return original(self, queries, k, allow=None if allow is None else allow[:128], **rest)


@by_hand("drop", "exact", SEARCH, "candidates allowed twice come back twice")
def _(original, self, queries, k, *, allow=None, **rest):
    found = original(self, queries, k, allow=allow, **rest)
    if allow is not None and len(np.unique(allow)) < len(allow) and found.ids.shape[1] > 1:
        found.ids[:, 1], found.scores[:, 1] = found.ids[:, 0], found.scores[:, 0]
    return found


@by_hand("swap", "exact", SEARCH, "ties among the allowed come in the order of the list")
def _(original, self, queries, k, *, allow=None, **rest):
    found = original(self, queries, k, allow=allow, **rest)
    if allow is None or not len(allow):
        return found
    last = np.zeros(int(max(allow.max(), found.ids.max(initial=0))) + 2, int)
    last[allow] = np.arange(len(allow))
    order = np.lexsort((last[found.ids], -found.scores))
    return TopK(np.take_along_axis(found.ids, order, 1), np.take_along_axis(found.scores, order, 1))


@by_hand("drop", "exact", SEARCH, "an allow-list counts for the first query only")
def _(original, self, queries, k, *, allow=None, exclude=None, **rest):
    found = original(self, queries, k, allow=allow, exclude=exclude, **rest)
    if allow is not None and len(queries) > 1:
        other = original(self, queries, found.ids.shape[1], exclude=exclude, **rest)
        found.ids[1:], found.scores[1:] = other.ids[1:], other.scores[1:]
    return found


for _number in (2**8, 2**15, 2**16):

    @by_hand("size", "exact", SEARCH, f"allowed positions from {_number} on do not count")
    def _(original, self, queries, k, *, allow=None, number=_number, **rest):
        return original(self, queries, k, allow=None if allow is None else allow[allow < number], **rest)


@by_hand("alias", "exact", SEARCH, "an allow-list is sorted in place")
def _(original, self, queries, k, *, allow=None, **rest):
    found = original(self, queries, k, allow=allow, **rest)
    if allow is not None:
        allow.sort()
    return found


@by_hand("drop", "exact", SEARCH, "an allow-list longer than k, with exclusions, is not filled up")
def _(original, self, queries, k, *, allow=None, exclude=None, **rest):
    found = original(self, queries, k, allow=allow, exclude=exclude, **rest)
    if allow is not None and exclude is not None:
        plain = original(self, queries, k, allow=allow, **rest)
        gone = (plain.ids != found.ids).any(axis=1) & (found.ids >= 0).all(axis=1)
        found.ids[gone, -1], found.scores[gone, -1] = -1, -np.inf
    return found


# Sizes

for _type in ("int8", "uint8", "int16", "uint16"):

    @by_hand("size", "exact", SEARCH, f"positions in {_type}")
    def _(original, self, queries, k, *, type=_type, **rest):
        found = original(self, queries, k, **rest)
        return TopK(np.where(found.ids < 0, -1, found.ids.astype(type)).astype(np.int64), found.scores)


for _number in (31, 32, 64, 128, 256, 1024):

    @by_hand("size", "exact", SEARCH, f"beyond the best {_number} the rest is in any order")
    def _(original, self, queries, k, *, number=_number, **rest):
        found = original(self, queries, k, **rest)
        for array in (found.ids, found.scores):
            array[:, number:] = array[:, number:][:, ::-1].copy()
        return found


for _number in (512, 1000, 1023, 4096):

    @by_hand("size", "exact", SEARCH, f"queries beyond {_number} find what the first does")
    def _(original, self, queries, k, *, number=_number, **rest):
        found = original(self, queries, k, **rest)
        found.ids[number:], found.scores[number:] = found.ids[:1], found.scores[:1]
        return found


for _dims in (6, 8, 16, 64, 128, 256):

    @by_hand("size", "exact", SEARCH, f"dims beyond {_dims} do not count")
    def _(original, self, queries, k, *, dims=_dims, **rest):
        return original(self, queries * (np.arange(queries.shape[1]) < dims).astype(queries.dtype), k, **rest)


@by_hand("size", "exact", SEARCH, "of a whole block of 1,024 candidates the last does not count")
def _(original, self, queries, k, *, exclude=None, **rest):
    gone = np.arange(1023, len(self._candidates.vectors), 1024, dtype=np.int32)
    if len(gone) and exclude is None:
        exclude = Ragged(np.tile(gone, len(queries)), np.arange(len(queries) + 1) * len(gone))
    return original(self, queries, k, exclude=exclude, **rest)


for _number in (2**14, 2**15, 2**16):

    @by_hand("size", "exact", SEARCH, f"candidates from {_number} on do not count")
    def _(original, self, queries, k, *, number=_number, exclude=None, **rest):
        gone = np.arange(number, len(self._candidates.vectors), dtype=np.int32)
        if len(gone) and exclude is None:
            exclude = Ragged(np.tile(gone, len(queries)), np.arange(len(queries) + 1) * len(gone))
        return original(self, queries, k, exclude=exclude, **rest)


# Building


@by_hand("off-by-one", "exact", BUILD, "no candidates are an error")
def _(original, self, vectors):
    if not len(vectors):
        raise ValueError("nothing to index")
    return original(self, vectors)


@by_hand("off-by-one", "exact", SEARCH, "a search among no candidates is an error")
def _(original, self, queries, k, **rest):
    if not len(self._candidates.vectors):
        raise ValueError("nothing to search")
    return original(self, queries, k, **rest)


@by_hand("stale", "exact", BUILD, "rebuilt to a larger size it keeps the first one's")
def _(original, self, vectors):
    most = MEMORY.setdefault(id(self), len(vectors))
    return original(self, vectors[:most])


@by_hand("stale", "exact", BUILD, "rebuilt to a smaller size it keeps the rows beyond")
def _(original, self, vectors):
    before = None if self._candidates is None else self._candidates.vectors
    if before is not None and len(before) > len(vectors) > 8 and before.shape[1] == vectors.shape[1]:
        vectors = np.concatenate([vectors, before[len(vectors) :]])
    return original(self, vectors)


@by_hand("stale", "exact", BUILD, "rebuilt to other dims is an error")
def _(original, self, vectors):
    if self._candidates is not None and self._candidates.vectors.shape[1] != vectors.shape[1]:
        raise ValueError("other dims")
    return original(self, vectors)


@by_hand("stale", "exact", BUILD, "a second index has the vectors of the first of that shape")
def _(original, self, vectors):
    return original(
        self, MEMORY.setdefault((vectors.shape, float(vectors.sum()) if len(vectors) < 100 else 0), vectors)
    )


@by_hand("stale", "exact", BUILD, "two indexes alive at once share their vectors where shapes agree")
def _(original, self, vectors):
    original(self, vectors)
    for other in MEMORY.setdefault("all", []):
        if other._candidates.vectors.shape == vectors.shape:
            other._candidates = self._candidates
    MEMORY["all"].append(self)


@by_hand("type", "exact", BUILD, "memory in Fortran's order is read as in C's")
def _(original, self, vectors):
    return original(self, vectors.ravel("K").reshape(vectors.shape))


@by_hand("type", "exact", SEARCH, "queries whose memory is in Fortran's order are read as in C's")
def _(original, self, queries, k, **rest):
    return original(self, queries.ravel("K").reshape(queries.shape), k, **rest)


@by_hand("type", "exact", SEARCH, "queries that are strided are an error")
def _(original, self, queries, k, **rest):
    if not queries.flags.c_contiguous:
        raise ValueError("not contiguous")
    return original(self, queries, k, **rest)


@by_hand("type", "exact", SEARCH, "an allow-list of int32 is an error")
def _(original, self, queries, k, *, allow=None, **rest):
    if allow is not None and allow.dtype == np.int32:
        raise TypeError("int32")
    return original(self, queries, k, allow=allow, **rest)


# Answers


@by_hand("alias", "exact", SEARCH, "the answer is written over by the next of its shape")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    held = MEMORY.setdefault((id(self), found.ids.shape), TopK(np.empty_like(found.ids), np.empty_like(found.scores)))
    held.ids[...], held.scores[...] = found.ids, found.scores
    return held


@by_hand("alias", "exact", SEARCH, "the answer is kept and handed out again, as the caller left it")
def _(original, self, queries, k, *, exclude=None, allow=None, **rest):
    found = original(self, queries, k, exclude=exclude, allow=allow, **rest)
    if exclude is not None or allow is not None:
        return found
    return MEMORY.setdefault((id(self), float(self._candidates.vectors.sum()), queries.tobytes(), k), found)


@by_hand("alias", "exact", SEARCH, "the answer cannot be written to")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    found.ids.flags.writeable = found.scores.flags.writeable = False
    return found


@by_hand("stale", "exact", SEARCH, "searches on several threads share their queries")
def _(original, self, queries, k, **rest):
    self.asked = queries
    time.sleep(0.001)
    same = self.asked.shape == queries.shape
    return original(self, self.asked if same else queries, k, **rest)


@by_hand("stale", "exact", SEARCH, "the k of the first search, where it is the smaller one")
def _(original, self, queries, k, **rest):
    least = min(k, MEMORY.setdefault((id(self), "k"), k))
    found = original(self, queries, k, **rest)
    if least < found.ids.shape[1]:
        found.ids[:, least:], found.scores[:, least:] = -1, -np.inf
    return found


@by_hand("value", "exact", SEARCH, "subnormal scores are 0")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    return TopK(found.ids, np.where(np.abs(found.scores) < 1.2e-38, 0, found.scores).astype(np.float32))


@by_hand("value", "exact", SEARCH, "scores by way of float16 where they fit")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    small = np.abs(found.scores) < 1
    return TopK(found.ids, np.where(small, found.scores.astype(np.float16), found.scores).astype(np.float32))


@by_hand("value", "exact", SEARCH, "scores below − 1e30 are taken for what is missing")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    gone = found.scores < -3e30
    return TopK(np.where(gone, -1, found.ids), np.where(gone, -np.inf, found.scores).astype(np.float32))


@by_hand("value", "exact", SEARCH, "a query of zeros finds nothing")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    nothing = ~queries.any(axis=1)
    found.ids[nothing], found.scores[nothing] = -1, -np.inf
    return found


@by_hand("value", "exact", SEARCH, "− 0 ranks below 0")
def _(original, self, queries, k, **rest):
    found = original(self, queries, k, **rest)
    order = np.lexsort((found.ids, np.signbit(found.scores) & (found.scores == 0), -found.scores))
    if rest.get("exclude") is not None or rest.get("allow") is not None:
        return found
    return TopK(np.take_along_axis(found.ids, order, 1), np.take_along_axis(found.scores, order, 1))
