"""The order of an epoch: every unit once, from any place on, and no order likelier than another."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.data.shuffle import BLOCK, Pools, Shuffle

SEEDS = st.integers(0, 2**31)


def whole(n: int, seed: int = 0, purpose: str = "shuffle", epoch: int = 0) -> np.ndarray:
    return Shuffle(n, seed, purpose, epoch)(np.arange(n))


@settings(deadline=None)
@given(st.integers(1, 5000), SEEDS, st.integers(0, 9))
def test_every_number_comes_once(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(whole(n, seed, epoch=epoch)), np.arange(n))


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 4095, 4096, 4097, 1_000_003])
def test_every_number_comes_once_about_powers_of_two(n: int) -> None:
    assert np.array_equal(np.sort(whole(n)), np.arange(n))


@settings(deadline=None)
@given(st.integers(1, 2**40), SEEDS, st.data())
def test_a_part_is_what_the_whole_has_there(n: int, seed: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), np.int64)
    shuffle = Shuffle(n, seed, "shuffle")
    found = shuffle(places)
    assert found.tolist() == [int(shuffle(place[None])[0]) for place in places]
    assert len(set(found.tolist())) == len(set(places.tolist()))
    assert ((found >= 0) & (found < n)).all()


def test_orders_of_ten_billion_begin_anywhere() -> None:
    places = np.arange(9_000_000_000, 9_000_008_192)
    found = Shuffle(10**10, 7, "shuffle")(places)
    assert len(set(found.tolist())) == len(places) and found.max() > 2**33


def test_all_orders_of_four_are_as_likely() -> None:
    draws = 4800
    counts = Counter(tuple(whole(4, seed).tolist()) for seed in range(draws))
    assert len(counts) == 24
    chi = sum((count - draws / 24) ** 2 / (draws / 24) for count in counts.values())
    assert chi < 49.7  # χ² of 23 degrees of freedom is beyond it once in a thousand


def test_neighbours_and_places_tell_nothing_of_each_other() -> None:
    order = whole(200_000)
    for lag in (1, 2, 64, 4096):
        assert abs(np.corrcoef(order[lag:], order[:-lag])[0, 1]) < 5 / 200_000**0.5
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 5 / 200_000**0.5
    grid = np.histogram2d(order, np.arange(len(order)), bins=64)[0]
    due = len(order) / 64**2
    assert 0.9 < ((grid - due) ** 2 / due).sum() / 63**2 < 1.1


def test_seed_purpose_and_epoch_each_make_another_order() -> None:
    orders = [whole(100), whole(100, seed=1), whole(100, purpose="replay"), whole(100, epoch=1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert all((first == second).sum() < 10 for first in orders for second in orders if first is not second)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5 * BLOCK), st.integers(1, 5 * BLOCK), SEEDS)
def test_pools_have_every_number_once(n: int, pool: int, seed: int) -> None:
    assert np.array_equal(np.sort(Pools(n, max(pool, n // 50), seed, 1)(np.arange(n))), np.arange(n))


def test_a_pool_reads_whole_blocks_and_no_others() -> None:
    n, pool = 9 * BLOCK + 5, 2 * BLOCK
    order = Pools(n, pool, 3, 0)
    blocks = [np.unique(order(np.arange(first, min(first + pool, n))) // BLOCK) for first in range(0, n, pool)]
    assert all(len(each) <= 3 for each in blocks)  # the short block may shift where they begin
    assert sum(map(len, blocks)) <= 10 + len(blocks)
    other = Pools(n, pool, 4, 0)(np.arange(n)) // BLOCK
    assert not np.array_equal(order(np.arange(n)) // BLOCK, other)


def test_pools_begin_anywhere_and_differ_from_epoch_to_epoch() -> None:
    n = 3 * BLOCK + 77
    whole_order = Pools(n, 40_000, 5, 0)(np.arange(n))
    for at in (0, 39_990, 80_001, n - 9):
        assert Pools(n, 40_000, 5, 0)(np.arange(at, at + 9)).tolist() == whole_order[at : at + 9].tolist()
    assert not np.array_equal(whole_order, Pools(n, 40_000, 5, 1)(np.arange(n)))
    inside = whole_order[:40_000]
    assert abs(np.corrcoef(inside[1:], inside[:-1])[0, 1]) < 5 / 200  # shuffled within a pool
