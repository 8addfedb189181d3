"""Histories in lanes: an array (lanes, length) that holds several of them in a lane where they fit.

    lane 0   c₀ c₁ c₂ c₃ c₄ c₅ c₆ c₇      a history as long as a lane
    lane 1   c₀ c₁ c₂ c₃ c₄ │ c₀ c₁ ·      two, and an empty place

For backends whose arrays have no ragged axis. Little is padded, whatever the lengths are; what a place may look at is
told by `start` alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Sequences
from recs_core.contract.encoders import time_buckets


@dataclass(frozen=True)
class Lanes:
    """`Sequences`, laid out for an encoder. Places are counted through all lanes.

    `start`: where in its lane the history of a place begins: place i looks at start … i, and is number i − start of its
    history. An empty place begins at itself. `keep`: as of `Sequences`, place by place; False where empty. `buckets`:
    the row of the time bias for place j, seen from i of the same history; None where no time is read.
    """

    codes: NDArray[np.int32]  # (lanes, length), 0 where empty
    start: NDArray[np.int32]  # (lanes, length)
    at: NDArray[np.int32]  # (n,) the place that each row reads; −1 reads zeros
    keep: Mapping[str, NDArray[np.bool_]]  # (lanes, length, width) each
    buckets: NDArray[np.uint8] | None = None  # (lanes, length, length)

    @classmethod
    def of(cls, sequences: Sequences, length: int | None = None) -> Lanes:
        """The sequences in lanes of `length`, which is no shorter than the longest history; None: as long as that."""
        lengths = sequences.codes.lengths
        length = max(1, int(lengths.max(initial=0))) if length is None else length
        first, number = _filled(lengths, length)
        size = number * length
        where = np.repeat(first - sequences.codes.offsets[:-1], lengths) + np.arange(len(sequences.values))
        codes = np.zeros(size, np.int32)
        codes[where] = sequences.values
        start = np.tile(np.arange(length, dtype=np.int32), number)
        start[where] = np.repeat(first % length, lengths)
        at = sequences.at.astype(np.int32)
        at[at >= 0] = where[at[at >= 0]]
        keep = {name: _spread(mask, where, size).reshape(number, length, -1) for name, mask in sequences.keep.items()}
        buckets = None
        if sequences.times is not None and sequences.asked is not None:
            timed = (_spread(of, where, size).reshape(number, length) for of in (sequences.asked, sequences.times))
            buckets = time_buckets(*timed)
        return cls(codes.reshape(number, length), start.reshape(number, length), at, keep, buckets)

    @property
    def arrays(self) -> dict[str, Any]:
        """Those that are there, by name; `keep` is a mapping of them."""
        return {name: value for name, value in vars(self).items() if value is not None}


def _filled(lengths: NDArray[np.integer], length: int) -> tuple[NDArray[np.int64], int]:
    """The first place of each history, and the number of lanes: the longest first, each where it leaves least room."""
    first = np.zeros(len(lengths), np.int64)
    room: list[tuple[int, int]] = []  # (places left, lane), ascending
    lanes = 0
    for history in np.argsort(-lengths, kind="stable"):
        needed = int(lengths[history])
        if needed == 0:
            break
        i = bisect_left(room, (needed, -1))
        if i == len(room):
            left, lane = length, lanes
            lanes += 1
        else:
            left, lane = room.pop(i)
        first[history] = lane * length + length - left
        insort(room, (left - needed, lane))
    return first, lanes


def _spread(values: NDArray[Any], where: NDArray[np.int64], size: int) -> NDArray[Any]:
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    out[where] = values
    return out
