"""Histories in order, as encoders read them: of all lengths, and, where times count, from moments to aeons apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recs_core.contract.batch import Past, Ragged, Sequences
from recs_core.contract.encoders import Time


def sequences(rows: int, bound: int, longest: int, random: np.random.Generator) -> Sequences:
    """Histories of codes below `bound`, an empty one and a longest one among them, and `rows` rows that read them."""
    lengths = np.concatenate([[2, 0, longest], random.integers(1, longest + 1, max(1, rows // 3))])
    values = np.concatenate([random.integers(0, bound, n) for n in lengths])
    codes = Ragged.from_lengths(values.astype(np.int32), lengths)
    at = random.integers(-1, len(codes.values), rows).astype(np.int32)
    at[: min(3, rows)] = (len(codes.values) - 1, -1, longest + 1)[: min(3, rows)]
    return Sequences(codes, at)


UNDER_AN_EDGE = 171_999_131
"""Seconds: 3 less than exp(63 · TIME_STEP), where bucket 63 begins; float32, in steps of 16 here, rounds past it."""


def timed(held: Sequences, reads: Time, random: np.random.Generator) -> Sequences:
    """The histories, each code from a moment to months after the one before it. Of some, the first is aeons before the
    rest. Of the others, the third is before the second; for "history" the first is `UNDER_AN_EDGE` before it. A hundred
    steps are trained for "request", and Adam would enlarge what a gradient of 0, which that pair has, is rounded to."""
    starts = held.codes.offsets[:-1][held.codes.lengths > 0]
    times = 1.6e9 + np.cumsum(np.exp(random.uniform(-2, 17, len(held.values))))
    times[starts[::2]] -= np.exp(39)
    if reads == "history":
        times[starts[1::2]] = times[np.minimum(starts[1::2] + 1, len(times) - 1)] - UNDER_AN_EDGE
    third = starts[1::2] + 2
    third = third[third < len(times)]
    times[third] = times[third - 1] - 5
    asked = Past(held.codes, times, 3e9 + random.uniform(0, 1e9, len(held.codes.lengths))).asked
    return replace(held, times=times, asked=asked if reads == "request" else times)
