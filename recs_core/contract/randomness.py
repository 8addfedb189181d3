"""The one source of randomness: NumPy's Philox, keyed by (seed, purpose), counted by (epoch, step).

So every backend sees the same run, and a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """A generator for one purpose at one place of the run, independent of all others."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    # The counter's lowest word counts draws; epoch and step lie above it, so streams do not overlap.
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"), counter=[0, 0, step, epoch]))
