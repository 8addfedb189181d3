"""The order of an epoch as a keyed bijection: any part of it is computed alone, and none of it is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.randomness import generator

ROUNDS = 8
HALF = 3
"""Bits of each half at least: on smaller ones eight rounds favour some permutations by a tenth."""

BLOCK = 1 << 16
"""Rows of a block of `Pools`: of a column of 4 bytes a quarter of a megabyte, read at once."""

Words = NDArray[np.uint64]


class Shuffle:
    """A permutation of 0 … n − 1 drawn from (seed, purpose, epoch, step): call it with places, (k,), for what is there.

    A Feistel network of 8 rounds on the bits of n − 1, rounded up to an even number, walks on from what it takes beyond
    n until it is below (cycle walking: Black & Rogaway 2002, *Ciphers with Arbitrary Finite Domains*, method 2).
    """

    def __init__(self, n: int, seed: int, purpose: str, epoch: int = 0, step: int = 0) -> None:
        self.n = n
        self._half = np.uint64(max(HALF, ((n - 1).bit_length() + 1) // 2))
        self._low = np.uint64((1 << int(self._half)) - 1)
        self._keys = generator(seed, purpose, epoch, step).integers(0, 1 << 64, ROUNDS, dtype=np.uint64)

    def __call__(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """What stands at these places of 0 … n − 1."""
        out = self._network(places.astype(np.uint64))
        beyond = np.flatnonzero(out >= self.n)
        while len(beyond):
            out[beyond] = self._network(out[beyond])
            beyond = beyond[out[beyond] >= self.n]
        return out.astype(np.int64)

    def _network(self, words: Words) -> Words:
        left, right = words >> self._half, words & self._low
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._low)
        return left << self._half | right


class Pools:
    """A permutation of 0 … n − 1 that stays close by: places i·pool … (i + 1)·pool − 1 hold the rows of a few blocks.

    Blocks of `BLOCK` rows stand in an order drawn from (seed, epoch), and each run of `pool` rows of them is shuffled.
    So whoever reads a pool reads whole blocks of a file, and what is read stays cached until the pool is done.
    """

    def __init__(self, n: int, pool: int, seed: int, epoch: int) -> None:
        self.n, self.pool, self._key = n, pool, (seed, epoch)
        blocks = -(-n // BLOCK)
        self._block = Shuffle(blocks, seed, "blocks", epoch)(np.arange(blocks))
        lengths = np.minimum(BLOCK, n - self._block * BLOCK)
        self._start = np.cumsum(lengths) - lengths

    def __call__(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """What stands at these places of 0 … n − 1."""
        seed, epoch = self._key
        at = places.astype(np.int64)
        pools = at // self.pool
        for pool in np.unique(pools).tolist():
            inside, first = pools == pool, pool * self.pool
            size = min(self.pool, self.n - first)
            at[inside] = first + Shuffle(size, seed, "pool", epoch, pool)(at[inside] - first)
        block = np.searchsorted(self._start, at, side="right") - 1
        return self._block[block] * BLOCK + at - self._start[block]


def _mixed(words: Words) -> Words:
    """Every bit of the result depends on every bit of the word (Steele et al. 2014, SplitMix64's finaliser)."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)
