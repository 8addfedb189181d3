"""Threads: the BLAS's setting is the process's, and is put back whatever happens."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recs_core.contract.errors import DataError
from recs_core.index import ExactIndex, tiles


def test_the_blas_gets_its_threads_back():
    before = tiles.num_threads()
    inside = []
    tiles.run(lambda _: inside.append((tiles._current_threads(), tiles.num_threads())), range(3), 2)
    assert inside == [(1, before)] * 3
    assert tiles._current_threads() == before


def test_the_blas_gets_its_threads_back_after_an_error():
    before = tiles.num_threads()

    def work(job):
        raise DataError(f"job {job}")

    for threads in (1, 2):
        with pytest.raises(DataError, match="job 0"):
            tiles.run(work, range(5), threads)
    assert tiles._current_threads() == before


def test_searches_at_once_do_not_disturb_one_another():
    random = np.random.default_rng(0)
    index, queries = ExactIndex(), random.standard_normal((20, 8), np.float32)
    index.build(random.standard_normal((3000, 8), np.float32))
    before, expected = tiles.num_threads(), index.search(queries, 10)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: index.search(queries, 10), range(20)):
            np.testing.assert_array_equal(found.ids, expected.ids)
    assert tiles._current_threads() == before


def test_rounding_bounds_a_blas_product():
    random = np.random.default_rng(0)
    for dim in (1, 7, 64, 700):
        x, y = (random.standard_normal((300, dim)).astype(np.float32) for _ in range(2))
        error = np.abs(x @ y.T - x.astype(np.float64) @ y.astype(np.float64).T)
        scale = tiles.norms(x, "query")[:, None] * tiles.norms(y, "candidate")
        assert (error <= tiles.rounding(dim, np.float32) * scale).all()


def test_blocks_and_tiles_cover_everything_once():
    for number in (0, 1, 1019, 1020, 1021, 5000):
        assert [i for part in tiles.tiles(number) for i in range(part.start, part.stop)] == list(range(number))
        blocks = tiles.query_blocks(number, 2)
        assert [i for part in blocks for i in range(part.start, part.stop)] == list(range(number))
        assert number < 2 or len(blocks) >= 2


def test_a_norm_that_float64_cannot_hold_is_told_from_numbers_that_are_none():
    with pytest.raises(DataError, match="candidate vector 1 has a norm .*; scale the vectors down"):
        tiles.norms(np.array([[1.0], [1e200]]), "candidate")
    with pytest.raises(DataError, match="candidate vector 1 holds NaN or infinity; leave it out"):
        tiles.norms(np.array([[1.0], [-np.inf]]), "candidate")
