"""The order of an epoch as a keyed bijection: any part of it is computed alone, and none of it is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.randomness import generator

ROUNDS = 8
HALF = 3
"""Bits of each half at least: on smaller ones eight rounds favour some permutations by a tenth."""

Words = NDArray[np.uint64]


class Shuffle:
    """A permutation of 0 … n − 1 drawn from (seed, purpose, epoch): call it with places, (k,), for what stands there.

    A Feistel network of 8 rounds on the bits of n − 1, rounded up to an even number, walks on from what it takes beyond
    n until it is below (cycle walking: Black & Rogaway 2002, *Ciphers with Arbitrary Finite Domains*, method 2).
    """

    def __init__(self, n: int, seed: int, purpose: str, epoch: int = 0) -> None:
        self.n = n
        self._half = np.uint64(max(HALF, ((n - 1).bit_length() + 1) // 2))
        self._low = np.uint64((1 << int(self._half)) - 1)
        self._keys = generator(seed, purpose, epoch).integers(0, 1 << 64, ROUNDS, dtype=np.uint64)

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


def _mixed(words: Words) -> Words:
    """Every bit of the result depends on every bit of the word (Steele et al. 2014, SplitMix64's finaliser)."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)
