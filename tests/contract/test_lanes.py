"""Histories in lanes: every code has a place, which sees its own history up to itself and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from recs_core.contract.batch import Ragged, Sequences
from recs_core.contract.lanes import Lanes


def test_a_case_by_hand() -> None:
    """The longest first, each where it leaves the least room: 3 and 1 share a lane, 2 is alone."""
    codes = Ragged.of([[7, 8], [], [1, 2, 3], [9]])
    keep = {"input": np.array([[True], [False], [True], [True], [True], [False]])}
    lanes = Lanes.of(Sequences(codes, np.array([-1, 1, 4, 5, 3], np.int32), keep), 4)
    np.testing.assert_array_equal(lanes.codes, [[1, 2, 3, 9], [7, 8, 0, 0]])
    np.testing.assert_array_equal(lanes.start, [[0, 0, 0, 3], [0, 0, 2, 3]])
    np.testing.assert_array_equal(lanes.at, [-1, 5, 2, 3, 1])
    np.testing.assert_array_equal(lanes.keep["input"][:, :, 0], [[True] * 3 + [False], [True, False, False, False]])


@pytest.mark.parametrize("length", [None, 20, 33])
@pytest.mark.parametrize("histories", [0, 1, 50])
def test_each_place_sees_its_history_alone(histories: int, length: int | None) -> None:
    random = np.random.default_rng(histories)
    lengths = random.integers(0, 21, histories)
    codes = Ragged.from_lengths(random.integers(1, 99, lengths.sum()).astype(np.int32), lengths)
    lanes = Lanes.of(Sequences.every(codes), length)
    assert lanes.codes.shape[1] == (max(1, lengths.max(initial=0)) if length is None else length)
    assert len(np.unique(lanes.at)) == len(codes.values)
    row, place = np.divmod(lanes.at, lanes.codes.shape[1])
    number = np.arange(len(codes.values)) - codes.offsets[:-1][codes.segments]
    np.testing.assert_array_equal(place - lanes.start[row, place], number)
    for i, (lane, at) in enumerate(zip(row, place, strict=True)):
        own = codes.values[i - number[i] : i + 1]
        np.testing.assert_array_equal(lanes.codes[lane, lanes.start[lane, at] : at + 1], own)
    empty = np.ones(lanes.codes.shape, bool)
    empty[row, place] = False
    assert (lanes.start[empty] == np.nonzero(empty)[1]).all()


def test_buckets_of_times_lie_where_their_codes_do() -> None:
    codes = Ragged.of([[7, 8], [1, 2, 3]])
    times = np.array([0.0, 60, 0, 3_600, 86_400])
    lanes = Lanes.of(Sequences.every(codes, times, times + 1), 4)
    assert lanes.buckets is not None
    np.testing.assert_array_equal(np.tril(lanes.buckets[0, :3, :3]), [[0, 0, 0], [27, 0, 0], [37, 37, 0]])
    np.testing.assert_array_equal(np.tril(lanes.buckets[1, :2, :2]), [[0, 0], [13, 0]])


def test_lanes_are_nearly_full() -> None:
    lengths = np.minimum(200, np.exp(np.random.default_rng(0).normal(4.6, 0.9, 128)).astype(int) + 1)
    codes = Ragged.from_lengths(np.ones(lengths.sum(), np.int32), lengths)
    assert Lanes.of(Sequences.every(codes)).codes.size < 1.1 * lengths.sum()
