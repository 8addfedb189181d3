"""`int8`: a first pass over codes of one byte each, then exact scores of the best that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.manifest import IndexInfo
from recs_core.index import tiles
from recs_core.index.plan import SearchPlan
from recs_core.index.plugin import INT8
from recs_core.index.rescored import Found, RescoredIndex, array
from recs_core.plugin.specs import whole

LARGEST = 127
"""Of a code; −128 is not used."""

ROWS = 2048
"""Codes turned into float32 at a time: 512 KB of 64 numbers each, which stay in cache for the product."""

SCORES = 1 << 24
"""Scores of the first pass held at a time: 64 MB."""


@dataclass
class Int8Index(RescoredIndex):
    """A vector is kept as whole numbers from − 127 to 127, and what they are to be multiplied by.

    `rescore`: how many times k candidates of the first pass are scored exactly.
    """

    rescore: int = 10

    info: ClassVar[IndexInfo] = INT8
    pace: ClassVar[float] = 2

    def __post_init__(self) -> None:
        whole(self.spec, "rescore", self.rescore, 1)

    def _make(self, vectors: NDArray[np.float32]) -> None:
        self._codes: NDArray[np.int8] = np.empty(vectors.shape, np.int8)
        self._scales: NDArray[np.float32] = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), ROWS):
            block = slice(start, start + ROWS)
            self._codes[block], self._scales[block] = _coded(vectors[block])

    def _renew(self, vectors: NDArray[np.float32], changed: NDArray[np.int64]) -> None:
        more = len(vectors) - len(self._codes)
        self._codes, self._scales = np.pad(self._codes, ((0, more), (0, 0))), np.pad(self._scales, (0, more))
        self._codes[changed], self._scales[changed] = _coded(vectors[changed])

    def _parts(self) -> dict[str, NDArray[Any]]:
        return {"codes": self._codes, "scales": self._scales}

    def _take(self, vectors: NDArray[np.float32], parts: Mapping[str, NDArray[Any]]) -> None:
        codes, scales = (
            array(parts, "codes", np.int8, vectors.shape),
            array(parts, "scales", np.float32, vectors.shape[:1]),
        )
        if not np.isfinite(scales).all():
            raise DataError("part 'scales' of the index holds NaN or infinity")
        self._codes, self._scales = codes, scales

    def _find(self, plan: SearchPlan, number: int) -> Found:
        size, number = len(self._codes), min(number * self.rescore, len(self._codes))
        found = np.empty((len(plan.queries), number), np.int64)
        rows = max(1, SCORES // size)
        for start in range(0, len(found), rows):
            block = slice(start, start + rows)
            found[block] = _best(self._scores(plan.queries[block]), number)
        return found, None

    def _scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Q, n), of the codes."""
        scores = np.empty((len(queries), len(self._codes)), np.float32)
        threads = tiles.num_threads()

        def score(part: slice) -> None:
            room = np.empty((ROWS, self._codes.shape[1]), np.float32)
            for start in range(part.start, part.stop, ROWS):
                here = slice(start, min(start + ROWS, part.stop))
                block = room[: here.stop - here.start]
                block[...] = self._codes[here]
                out = scores[:, here]
                np.matmul(queries, block.T, out=out)
                out *= self._scales[here]

        size = -(-len(self._codes) // threads)
        tiles.run(
            score, [slice(at, min(at + size, len(self._codes))) for at in range(0, len(self._codes), size)], threads
        )
        return scores


def _coded(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (n, d) and what they are to be multiplied by, (n,)."""
    exact = vectors.astype(np.float64)
    scales = np.abs(exact).max(axis=1, initial=0.0) / LARGEST
    np.divide(exact, scales[:, None], where=scales[:, None] > 0, out=exact)
    return np.rint(exact).astype(np.int8), scales.astype(np.float32)


def _best(scores: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """(Q, number) places of the highest of each row, in any order.

    Blocks of a row are compared by their highest: the `number`-th of these is a score that as many reach, and few more.
    """
    found = np.empty((len(scores), number), np.int64)
    width = max(1, scores.shape[1] // (8 * number))
    whole_blocks = scores.shape[1] // width * width
    for row, out in zip(scores, found, strict=True):
        highest = row[:whole_blocks].reshape(-1, width).max(axis=1)
        limit = np.partition(highest, len(highest) - number)[-number]
        places = np.flatnonzero(row >= limit)
        if len(places) > number:
            places = places[np.argpartition(row[places], len(places) - number)[-number:]]
        out[:] = places
    return found
